"""Light-Weight RefineNet, top to bottom as in the paper.

V. Nekrasov, C. Shen, I. Reid, "Light-Weight RefineNet for Real-Time Semantic Segmentation", BMVC 2018 (arXiv:1810.03272);
the original RefineNet: G. Lin, A. Milan, C. Shen, I. Reid, CVPR 2017 (arXiv:1611.06612).

Shapes: N pictures, C channels, H x W pixels.  Features come fine to coarse, at 1/4, 1/8, 1/16 and 1/32 of what the backbone
sees; the decoder walks them coarse to fine. No convolution of the light-weight decoder has a bias or a batch norm; the head has
a bias.
"""

from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from itertools import pairwise
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lwrefinenet.errors import UsageError
from lwrefinenet.models.fuse import Fusible, fused
from lwrefinenet.models.fused_level import FusedChain, FusedLevel

T = TypeVar("T")
Conv = Callable[[int, int], nn.Conv2d]  # makes a convolution from so many channels to so many
INPUT_SCALES = (0.25, 2.0)  # the least and the most
SIZE_MULTIPLES = (1, 256)
Level = Sequence[Tensor]  # the features of one level of the cascade: one map, or several of the same size


def conv1x1(in_channels: int, out_channels: int) -> nn.Conv2d:
    """The light-weight RefineNet's answer to the original's 3x3 convolutions."""
    return nn.Conv2d(in_channels, out_channels, kernel_size=1, bias=False)


def depthwise1x1(in_channels: int, out_channels: int) -> nn.Conv2d:
    """A factor for each channel; in and out are as many."""
    return nn.Conv2d(in_channels, out_channels, kernel_size=1, groups=in_channels, bias=False)


class RefineNet(nn.Module):
    """What the networks of the family share: a backbone that gives features, and a decoder that fuses them.

    backbone: maps (N, 3, H, W) to features, fine to coarse.  Where it has a `size_multiple`, the sides of what it sees are whole
    multiples of that (`see_multiples_of`).  decoder: maps the features to (N, channels, H/4, W/4).
    input_scale: 0.25-2, what pictures are resized by before the backbone sees them; results are a quarter of what it sees.
    """

    def __init__(self, backbone: nn.Module, decoder: "Cascade", num_classes: int, *, input_scale: float = 1.0) -> None:
        super().__init__()
        self.backbone = backbone
        self.decoder = decoder
        self.num_classes = num_classes
        self.input_scale = as_fraction(input_scale)
        self.size_multiple = self.usual_size_multiple

    def heads_by_task(self) -> dict[str, nn.Module]:
        """What turns the decoder's result into that of each task, in the order of `tasks`."""
        raise NotImplementedError

    @property
    def tasks(self) -> tuple[str, ...]:
        """What the network gives: "segmentation", and for some networks "depth" and "normals"."""
        return tuple(self.heads_by_task())

    def see_at(self, scale: float | Fraction) -> None:
        """Take another `input_scale`, with which the network still means the same: depths follow it.

        scale: 0.25-2, UsageError for others.  Metadata that the network is saved with must have it in its `arguments`.
        """
        least, most = INPUT_SCALES
        if not least <= scale <= most:
            raise UsageError(f"input_scale is {scale}; expected {least} to {most}.")
        self.input_scale = as_fraction(scale)

    @property
    def usual_size_multiple(self) -> int:
        """The `size_multiple` of the backbone, which the network has until it is given another."""
        return int(getattr(self.backbone, "size_multiple", 1))

    def see_multiples_of(self, multiple: int) -> None:
        """Show the backbone pictures whose sides are whole multiples of so many pixels; 1: as they come.

        What learnt on crops of whole multiples of 32 knows others less well: at every halving their cells lie elsewhere.
        multiple: 1-256, UsageError for others.  Metadata that the network is saved with must have it in its `arguments`.
        """
        least, most = SIZE_MULTIPLES
        if multiple not in range(least, most + 1):
            raise UsageError(f"size_multiple is {multiple}; expected {least} to {most}.")
        self.size_multiple = int(multiple)

    def seen_size(self, size: Sequence[int], scale: Fraction | None = None) -> tuple[int, ...]:
        """How large the backbone sees a picture of this size, (height, width); results are a quarter of that, rounded up.

        scale: in place of `input_scale`.
        """
        scale = self.input_scale if scale is None else scale
        if self.size_multiple == 1:
            return tuple(_share(length, scale) for length in size)
        return tuple(_nearest_multiple(length, scale, self.size_multiple) for length in size)

    def as_far_away(
        self, results: Mapping[str, Tensor], size: Sequence[int], scale: Fraction | None = None
    ) -> dict[str, Tensor]:
        """Results by task, for a picture of this size that the backbone sees at `seen_size`: what is shown larger looks nearer.

        Whole multiples bring a side of 468 pixels at 0.8 to 384, which is 1.03 times as much, and a small picture further, so
        that depths follow by the mean of both sides.  scale: in place of `input_scale`.
        """
        if "depth" not in results or self.size_multiple == 1:
            return dict(results)
        scale = self.input_scale if scale is None else scale
        seen_height, seen_width = self.seen_size(size, scale)
        enlargement = (seen_height / size[0] + seen_width / size[1]) / (2 * float(scale))
        return {**results, "depth": results["depth"] * enlargement}

    def features(self, images: Tensor, scale: Fraction | None = None) -> list[Tensor]:
        """The backbone's features, fine to coarse, of images (N, 3, H, W), normalised, which it sees at `seen_size`.

        scale: in place of `input_scale`.
        """
        scale = self.input_scale if scale is None else scale
        if scale != 1 or self.size_multiple != 1:
            size = self.seen_size(images.shape[-2:], scale)
            if _is_traced() or size != tuple(images.shape[-2:]):  # tracers must see it: other pictures differ
                images = upsample(images, size=size, align_corners=False)
        features: list[Tensor] = self.backbone(images)
        return features

    def fuse(self) -> nn.Module:
        """A copy for inference that gives equal results faster: batch norms folded, 1x1 pairs merged, a decoder in place."""
        return fused(self)


class LightWeightRefineNet(RefineNet):
    """A backbone that gives features, a decoder that fuses them, a head that classifies each cell.

    The arguments are those of `RefineNet`; the full RefineNet differs in its decoder alone.
    """

    def __init__(self, backbone: nn.Module, decoder: "Cascade", num_classes: int, *, input_scale: float = 1.0) -> None:
        super().__init__(backbone, decoder, num_classes, input_scale=input_scale)
        self.head = nn.Conv2d(decoder.out_channels, num_classes, kernel_size=3, padding=1)

    def heads_by_task(self) -> dict[str, nn.Module]:
        return {"segmentation": self.head}

    def forward(self, images: Tensor) -> Tensor:
        """images: (N, 3, H, W), normalised; any H and W.

        Returns logits (N, num_classes, ceil(h/4), ceil(w/4)), where h x w is `seen_size`: H x W of the published networks.
        """
        logits: Tensor = self.head(self.decoder(self.features(images)))
        return logits


class Cascade(nn.Module):
    """At each level adapt the backbone's features, add the coarser result, pool in a chain, hand on to the finer level.

    levels: coarse to fine.  handovers: what each level's map goes through on its way to the next finer one.
    level_sizes: how many neighbouring features make up each level, coarse to fine; maps in one level have the same size.
    """

    def __init__(
        self,
        levels: Sequence["RefineNetLevel"],
        handovers: Sequence[nn.Conv2d],
        *,
        level_sizes: Sequence[int],
        out_channels: int,
        align_corners: bool,
    ) -> None:
        super().__init__()
        self.levels = nn.ModuleList(levels)
        self.handovers = nn.ModuleList(handovers)
        self.level_sizes = tuple(level_sizes)
        self.out_channels = out_channels
        self.align_corners = align_corners

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """features: fine to coarse, as the backbone gives them.  Returns the finest level's map."""
        return self.cascade(features)[-1]

    def cascade(self, features: Sequence[Tensor]) -> list[Tensor]:
        """The map of every level, coarse to fine."""
        coarsest, *finer_levels = grouped(list(reversed(features)), self.level_sizes)
        maps: list[Tensor] = [self.levels[0](coarsest)]
        for refine, handover, level in zip(self.levels[1:], self.handovers, finer_levels, strict=True):
            coarser = upsample(handover(maps[-1]), size=level[0].shape[-2:], align_corners=self.align_corners)
            maps.append(refine(level, coarser))
        return maps


class RefineNetDecoder(Cascade):
    """The light-weight cascade: its convolutions are 1x1.

    feature_channels: of the backbone's features, fine to coarse.
    level_sizes: how many neighbouring features make up each level, coarse to fine.
    channels: the width of each level, coarse to fine.
    links: how many pools each level's chain has, coarse to fine.
    stacked_adaptation: finer levels adapt by two 1x1 convolutions instead of one, as published for the ResNets.
    dropout: drop rate on the features of the two coarsest levels.
    finest_chain: makes the convolutions of the finest level's chain.
    """

    def __init__(
        self,
        feature_channels: Sequence[int],
        *,
        level_sizes: Sequence[int] = (1, 1, 1, 1),
        channels: Sequence[int] = (256, 256, 256, 256),
        links: Sequence[int] = (4, 4, 4, 4),
        activation: Callable[[], nn.Module] = nn.ReLU6,
        stacked_adaptation: bool = False,
        dropout: float = 0.0,
        align_corners: bool = True,
        finest_chain: Conv = conv1x1,
    ) -> None:
        chains: list[Conv] = [*[conv1x1] * (len(channels) - 1), finest_chain]
        coarse_to_fine = grouped(list(reversed(feature_channels)), level_sizes)
        levels = [
            RefineNetLevel(
                [adaptation(wide, width, depth=2 if stacked_adaptation and coarser else 1) for wide in level_channels],
                activation(),
                ChainedResidualPooling(width, length, chain),
                dropout=dropout if coarser < 2 else 0.0,
            )
            for coarser, (level_channels, width, length, chain) in enumerate(
                zip(coarse_to_fine, channels, links, chains, strict=True)
            )
        ]
        super().__init__(
            levels,
            [conv1x1(width, finer_width) for width, finer_width in pairwise(channels)],
            level_sizes=level_sizes,
            out_channels=channels[-1],
            align_corners=align_corners,
        )


class RefineNetLevel(Fusible):
    """Multi-resolution fusion, then chained residual pooling.

    adapt: brings each map of this level to the level's width; their sum, with the coarser level's result where there is one,
    goes through the activation, the pooling, and what refines the output, if anything does.
    dropout: drop rate on the maps as they come.
    """

    def __init__(
        self,
        adapt: Sequence[nn.Module],
        activation: nn.Module,
        pooling: nn.Module,
        output: nn.Module | None = None,
        *,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.adapt = nn.ModuleList(adapt)
        self.activation = activation
        self.pooling = pooling
        self.output = output or nn.Identity()

    def forward(self, features: Level, coarser: Tensor | None = None) -> Tensor:
        fused = coarser
        for adapt, feature in zip(self.adapt, features, strict=True):
            adapted = adapt(self.dropout(feature))
            fused = adapted if fused is None else fused + adapted
        assert fused is not None  # a level has at least one map
        return self.refined(fused)

    def refined(self, fused: Tensor) -> Tensor:
        """What becomes of the sum."""
        refined: Tensor = self.output(self.pooling(self.activation(fused)))
        return refined

    def for_inference(self) -> FusedLevel:
        return FusedLevel(self)


class ChainedResidualPooling(Fusible):
    """Adds to its input what a chain of (5x5 max-pool, convolution) links makes of it; shape kept."""

    def __init__(self, channels: int, links: int = 4, conv: Conv = conv1x1) -> None:
        super().__init__()
        self.pool = nn.MaxPool2d(kernel_size=5, stride=1, padding=2)
        self.convs = nn.ModuleList(conv(channels, channels) for _ in range(links))

    def forward(self, x: Tensor) -> Tensor:
        link = x
        for conv in self.convs:
            link = conv(self.pool(link))
            x = x + link
        return x

    def for_inference(self) -> FusedChain:
        return FusedChain(self)


def adaptation(in_channels: int, channels: int, depth: int) -> nn.Module:
    """`depth` 1x1 convolutions with nothing between them; the first one brings the feature to the level's width."""
    return nn.Sequential(conv1x1(in_channels, channels), *(conv1x1(channels, channels) for _ in range(depth - 1)))


def upsample(x: Tensor, *, size: Sequence[int], align_corners: bool) -> Tensor:
    """Bilinear, to exactly `size` (height, width); keeps the data type, which autocast on a CPU would widen."""
    return F.interpolate(x, size=tuple(size), mode="bilinear", align_corners=align_corners).to(x.dtype)


def _is_traced() -> bool:
    """Whether an exporter or compiler follows what is done, to do it again with pictures of other sizes."""
    return bool(torch.jit.is_tracing() or torch.compiler.is_compiling())  # type: ignore[attr-defined, no-untyped-call]


def as_fraction(scale: float | Fraction) -> Fraction:
    """An `input_scale` as networks keep it: as sizes are whole numbers, and tracers follow these."""
    return Fraction(scale).limit_denominator(64)


# By whole positive numbers alone, and without choosing between them, so that tracers and converters follow these for every size.
def _share(length: int, share: Fraction) -> int:
    """A share of a length, rounded up."""
    return (length * share.numerator + share.denominator - 1) // share.denominator


def _nearest_multiple(length: int, share: Fraction, multiple: int) -> int:
    """The multiple that is nearest to a share of a length; once the multiple at least."""
    step = 2 * multiple * share.denominator
    times = (2 * length * share.numerator + multiple * share.denominator) // step
    at_least_once = times + (times + 2) // (times + 1) - 1
    return at_least_once * multiple


def grouped(items: Sequence[T], sizes: Sequence[int]) -> list[Sequence[T]]:
    """Cut a list into consecutive pieces of the given sizes."""
    if sum(sizes) != len(items):
        raise ValueError(f"levels of sizes {tuple(sizes)} need {sum(sizes)} features, got {len(items)}.")
    starts = [sum(sizes[:i]) for i in range(len(sizes))]
    return [items[start : start + size] for start, size in zip(starts, sizes, strict=True)]
