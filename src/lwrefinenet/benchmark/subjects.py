"""What can be measured: weights, networks with random parameters, and the networks of other libraries."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from lwrefinenet import weights
from lwrefinenet.errors import UsageError
from lwrefinenet.labels import LabelSet, voc_palette
from lwrefinenet.meta import WeightsMeta
from lwrefinenet.models.zoo import MODELS, create_model
from lwrefinenet.preprocess import Preprocess
from lwrefinenet.runtimes.choose import EXPORTED, open_network
from lwrefinenet.runtimes.network import Network

NUM_CLASSES = 21


@dataclass(frozen=True)
class Subject:
    """A network and what it means; its parameters are random where nobody trained it.

    model: (N, 3, H, W) normalised -> logits of any size.  trained: whether the parameters mean something.
    exported: instead of a model, the network of a file of `lwrefinenet export`, which is `megabytes` large.
    """

    name: str
    model: nn.Module
    meta: WeightsMeta
    trained: bool
    exported: Network | None = None
    megabytes: float = 0.0

    @property
    def parameters(self) -> int:
        return sum(parameter.numel() for parameter in self.model.parameters())

    def score(self) -> dict[str, Any]:
        """`score` (mean IoU, 0-1) and `score_protocol` as the weights state them, on test if they do; empty for none."""
        stated = [score for score in self.meta.scores if score.metric == "mean_iou"]
        if not stated:
            return {}
        chosen = next((score for score in stated if score.protocol.partition(",")[0].endswith(" test")), stated[0])
        return {"score": chosen.value, "score_protocol": chosen.protocol.partition(",")[0]}

    def macs(self, height: int, width: int) -> int:
        """As `multiply_adds`."""
        return multiply_adds(self.model, height, width)


@torch.inference_mode()
def multiply_adds(model: nn.Module, height: int, width: int) -> int:
    """Multiplications with addition for one picture, of convolutions and products of matrices; at once on the device "meta"."""
    device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    with FlopCounterMode(display=False) as counter:
        model(torch.zeros(1, 3, height, width, device=device))
    return int(counter.get_total_flops()) // 2


def open_subject(name: str) -> Subject:
    """Weights (a name or file), an exported file, a network of ours by name, or `torchvision:NAME`, `smp:ARCHITECTURE-ENCODER`.

    UsageError for what is not known or not installed.
    """
    library, _, rest = name.partition(":")
    if rest and library in PEERS:
        return Subject(name, PEERS[library](rest).eval(), _random_meta(name), trained=False)
    if name in MODELS:
        torch.manual_seed(0)
        model = create_model(name, NUM_CLASSES).eval()
        return Subject(name, model, _random_meta(name, model.tasks), trained=False)
    if is_exported(name):
        network, meta = open_network(name, torch.device("cpu"))
        size = sum(half.stat().st_size for half in {Path(name), Path(name).with_suffix(".bin")} if half.is_file())
        return Subject(Path(name).name, nn.Identity(), meta, trained=True, exported=network, megabytes=size / 1e6)
    model, meta = weights.load(name)
    return Subject(Path(name).name, model, meta, trained=True)


def is_exported(name: str) -> bool:
    """Whether this is a file of `lwrefinenet export`, which runs in one way only."""
    return Path(name).suffix.lower() in EXPORTED


def facts_of(name: str, size: tuple[int, int]) -> dict[str, Any]:
    """`parameters` and `macs` for a picture of size (height, width), except of an exported file; whether it is `trained`; of
    weights the `sha256`, and the `score` if they state one.
    """
    subject = open_subject(name)
    sizes = {} if subject.exported else {"parameters": subject.parameters, "macs": subject.macs(*size)}
    file = {"sha256": weights.sha256_of(weights.locate(name))} if subject.trained and not subject.exported else {}
    return {**sizes, "trained": subject.trained, **file, **subject.score()}


class Padded(nn.Module):
    """A network that takes multiples of 32 only, shown pictures padded to one; its logits are cut back."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        height, width = images.shape[-2:]
        logits: Tensor = self.network(nn.functional.pad(images, (0, -width % 32, 0, -height % 32)))
        return logits[..., :height, :width]


class OutOnly(nn.Module):
    """A network of torchvision, which returns a dict."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.network(images)["out"]
        return logits


def _torchvision(name: str) -> nn.Module:
    from torchvision.models import get_model, list_models, segmentation

    if name not in (known := list_models(module=segmentation)):
        raise UsageError(f"torchvision has no segmentation network {name!r}; it has {', '.join(known)}.")
    torch.manual_seed(0)
    return OutOnly(get_model(name, weights=None, weights_backbone=None, num_classes=NUM_CLASSES))


def _smp(name: str) -> nn.Module:
    try:
        import segmentation_models_pytorch as smp
    except ModuleNotFoundError as error:
        raise UsageError(f"smp:{name} needs segmentation-models-pytorch: pip install 'lwrefinenet[bench]'.") from error
    architecture, _, encoder = name.partition("-")
    torch.manual_seed(0)
    try:
        network = smp.create_model(architecture, encoder, encoder_weights=None, classes=NUM_CLASSES)
    except KeyError as error:
        raise UsageError(
            f"smp:{name}: {error.args[0]}; expected ARCHITECTURE-ENCODER, as smp:FPN-mobilenet_v2."
        ) from error
    return Padded(network)


PEERS = {"torchvision": _torchvision, "smp": _smp}


def _random_meta(name: str, tasks: Sequence[str] = ("segmentation",)) -> WeightsMeta:
    classes = tuple(f"class {index}" for index in range(NUM_CLASSES))
    return WeightsMeta(
        name, LabelSet("random", classes, voc_palette(NUM_CLASSES)), Preprocess(), {"tasks": list(tasks)}
    )
