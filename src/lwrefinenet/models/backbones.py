"""Backbones: timm networks that give features at 1/4, 1/8, 1/16 and 1/32 of the picture. The only importer of timm."""

from difflib import get_close_matches
from itertools import product
from typing import Any

import timm
import torch
import torch.nn.functional as F
from timm.layers.conv2d_same import Conv2dSame
from timm.layers.drop import DropPath
from timm.layers.std_conv import ScaledStdConv2dSame, StdConv2dSame
from timm.models._efficientnet_blocks import InvertedResidual
from torch import Tensor, nn

from lwrefinenet.errors import UsageError, WeightsError
from lwrefinenet.models.same_padding import SamePaddedConv2d
from lwrefinenet.preprocess import Preprocess

REDUCTIONS = (4, 8, 16, 32)
PADDED_BY_SIZE = (SamePaddedConv2d, Conv2dSame, StdConv2dSame, ScaledStdConv2dSame)
_HABITS: dict[
    str, tuple[bool, bool]
] = {}  # by a backbone's name: whether features come channels last, and pictures are padded


class TimmFeatures(nn.Module):
    """Any timm network whose `features_only` interface gives features at reductions 4, 8, 16 and 32.

    name: as timm knows it, with or without a tag of pretrained weights ("resnet18", "resnet18.a1_in1k").
    channels: of the four features, fine to coarse.  preprocess: what the network's ImageNet weights expect.
    size_multiple: what the sides of pictures should be whole multiples of.  TensorFlow's padding puts the cells of odd maps half a
    pixel elsewhere than those of even ones; a network that learnt on whole multiples of 32 knows even ones alone.
    """

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name
        self.net = _feature_network(name)
        reductions = list(self.net.feature_info.reduction())
        if missing := [r for r in REDUCTIONS if r not in reductions]:
            raise UsageError(
                f"backbone {name!r} gives features at reductions {reductions}, none at {missing}; "
                f"Light-Weight RefineNet needs {list(REDUCTIONS)}. Take a backbone with a pyramid, such as 'resnet18'."
            )
        # Where several features share a reduction, the last is the deepest.
        self.taps = [len(reductions) - 1 - reductions[::-1].index(r) for r in REDUCTIONS]
        self.channels: tuple[int, ...] = tuple(self.net.feature_info.channels()[tap] for tap in self.taps)
        self.preprocess = _preprocess_of(name)
        pads_by_size = any(isinstance(module, PADDED_BY_SIZE) for module in self.net.modules())
        self.size_multiple = REDUCTIONS[-1] if pads_by_size else 1
        self.padded = self.channels_last = False
        self._find_habits()

    def forward(self, images: Tensor) -> list[Tensor]:
        """images: (N, 3, H, W).  Returns four features (N, channels[i], ceil(H/r), ceil(W/r)), fine to coarse."""
        height, width = images.shape[-2:]
        if self.padded:
            images = filled_up(images)
        every_feature = self.net(images)
        features = [every_feature[tap] for tap in self.taps]
        if self.channels_last:
            features = [feature.permute(0, 3, 1, 2) for feature in features]
        return cut_to_size(features, height, width) if self.padded else features

    def _find_habits(self) -> None:
        """Settle whether pictures need padding (patch stems round sizes down) and whether features come channels last.

        timm says neither, so each combination is tried on small pictures of awkward sizes until one keeps forward's promise; what
        was found of a network holds for every other of its name.
        """
        if self.name in _HABITS:
            self.channels_last, self.padded = _HABITS[self.name]
            return
        self.eval()
        for self.channels_last, self.padded in product((False, True), repeat=2):
            if self._keeps_promise(33, 47) and self._keeps_promise(1, 1):
                self.train()
                _HABITS[self.name] = self.channels_last, self.padded
                return
        raise UsageError(
            f"backbone {self.name!r} does not take pictures of every size; take a convolutional one, such as 'resnet18'."
        )

    @torch.no_grad()
    def _keeps_promise(self, height: int, width: int) -> bool:
        try:
            features = self(torch.zeros(1, 3, height, width))
        except (RuntimeError, AssertionError, ValueError, IndexError):  # how networks of one fixed size refuse another
            return False
        promised = [(c, -(-height // r), -(-width // r)) for c, r in zip(self.channels, REDUCTIONS, strict=True)]
        return [tuple(feature.shape[1:]) for feature in features] == promised


class MobileNetV2Features(nn.Module):
    """The published Light-Weight RefineNet's MobileNet-v2: six features, and a first block that keeps its expansion.

    timm's `mobilenetv2_100` has no expansion convolution in its first block (1,088 parameters fewer) and its
    `features_only` leaves out two of the six maps, so timm's own stages are run one by one here.
    M. Sandler et al., "MobileNetV2", CVPR 2018 (arXiv:1801.04381).
    """

    channels = (24, 32, 64, 96, 160, 320)  # at reductions 4, 8, 16, 16, 32, 32
    name = "mobilenetv2_100"

    def __init__(self) -> None:
        super().__init__()
        net: Any = timm.create_model(self.name, pretrained=False)
        net.blocks[0][0] = InvertedResidual(32, 16, exp_ratio=1.0, noskip=True, act_layer=nn.ReLU6)
        self.net = nn.ModuleDict({"conv_stem": net.conv_stem, "bn1": net.bn1, "blocks": net.blocks})
        self.preprocess = Preprocess()

    def forward(self, images: Tensor) -> list[Tensor]:
        """images: (N, 3, H, W).  Returns six features, fine to coarse."""
        x = self.net["bn1"](self.net["conv_stem"](images))
        features: list[Tensor] = []
        for stage in self.net["blocks"].children():
            x = stage(x)
            features.append(x)
        return features[1:]  # the first stage, at 1/2, is not used


def set_drop_path(backbone: nn.Module, rate: float) -> None:
    """Stochastic depth: while it learns, a picture passes a block by with a chance that grows linearly to `rate` at the last.

    rate: 0-1.  What is left is scaled up, so that nothing changes in evaluation; parameters keep their names.  UsageError for a
    backbone whose blocks cannot be passed by.  G. Huang et al., "Deep networks with stochastic depth", ECCV 2016.
    """
    blocks = [module for module in backbone.modules() if hasattr(module, "drop_path")]
    if not blocks:
        raise UsageError("the blocks of this backbone cannot be passed by; leave drop_path at 0.")
    for number, block in enumerate(blocks, start=1):
        block.drop_path = DropPath(rate * number / len(blocks)).train(block.training)


def filled_up(images: Tensor) -> Tensor:
    """Zeros at the bottom and on the right, so that height and width are multiples of the coarsest reduction."""
    height, width = images.shape[-2:]
    return F.pad(images, (0, -width % REDUCTIONS[-1], 0, -height % REDUCTIONS[-1]))


def cut_to_size(features: list[Tensor], height: int, width: int) -> list[Tensor]:
    """The features of a picture that was filled up, one of each reduction, as for its own height and width, rounded up."""
    # By positive numbers alone: converters divide negative ones in another way.
    sizes = [((height + r - 1) // r, (width + r - 1) // r) for r in REDUCTIONS]
    return [f[..., :rows, :columns] for f, (rows, columns) in zip(features, sizes, strict=True)]


def full_state_dict(name: str) -> dict[str, Tensor]:
    """The entries of the whole timm network, classifier included, with random values: names and shapes to fit others to."""
    return dict(timm.create_model(name, pretrained=False).state_dict())


def hub_state_dict(name: str) -> dict[str, Tensor]:
    """timm's pretrained weights from its hub, keys as in `TimmFeatures(name).net`; WeightsError where they cannot be had."""
    try:
        return dict(timm.create_model(name, pretrained=True, features_only=True, **_any_size(name)).state_dict())
    # A hub fails in many ways (no network, no such weights, a proxy); each means the same here.
    except Exception as error:
        raise WeightsError(
            f"backbone weights of {name!r} cannot be had from the model hub ({type(error).__name__}: {error}). "
            'Give a local file with `backbone_weights = "FILE"` in the recipe, or connect this machine to the hub once.'
        ) from error


def _feature_network(name: str) -> Any:
    known = timm.list_models() + timm.list_pretrained()
    if name not in known:
        near = get_close_matches(name.partition(".")[0], known, n=3)
        hint = f" Did you mean {', '.join(near)}?" if near else " See timm.list_models()."
        raise UsageError(f"timm has no network named {name!r}.{hint}")
    try:
        return _exportable(timm.create_model(name, pretrained=False, features_only=True, **_any_size(name)))
    except (RuntimeError, AttributeError, TypeError) as error:
        raise UsageError(
            f"timm network {name!r} has no features_only interface ({error}); take another backbone."
        ) from error


def _exportable(net: Any) -> Any:
    """The same network, its convolutions with TensorFlow's padding in a form that tracers can follow."""
    for parent in list(net.modules()):
        for name, child in parent.named_children():
            if isinstance(child, Conv2dSame) and min(child.kernel_size) >= max(child.stride):
                setattr(parent, name, SamePaddedConv2d.like(child))
    return net


def _any_size(name: str) -> dict[str, Any]:
    # Swin transformers refuse pictures of any but their training size unless told otherwise; others do not know the option.
    return {"strict_img_size": False} if name.startswith("swin") else {}


def _preprocess_of(name: str) -> Preprocess:
    config: Any = timm.get_pretrained_cfg(name)
    return Preprocess() if config is None else Preprocess(mean=tuple(config.mean), std=tuple(config.std))
