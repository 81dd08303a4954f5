"""The decoder of the full RefineNet, from which the light-weight one was made.

G. Lin, A. Milan, C. Shen, I. Reid, "RefineNet: Multi-Path Refinement Networks for High-Resolution Semantic Segmentation", CVPR 2017
(arXiv:1611.06612).  The cascade is that of `refinenet`; its convolutions are 3x3, and residual conv units stand before each fusion
and after each chain.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn

from lwrefinenet.models.refinenet import Cascade, ChainedResidualPooling, RefineNetLevel


class FullRefineNetDecoder(Cascade):
    """The cascade of the original paper.

    feature_channels: of the backbone's four features, fine to coarse.  channels: the width of each level, coarse to fine.
    dropout: drop rate on the features of the two coarsest levels, and on the result.
    """

    def __init__(
        self,
        feature_channels: Sequence[int],
        *,
        channels: Sequence[int] = (512, 256, 256, 256),
        dropout: float = 0.5,
    ) -> None:
        levels = [
            RefineNetLevel(
                [adaptation(feature, width, fuses=coarser > 0)],
                nn.ReLU(),
                ChainedResidualPooling(width, conv=conv3x3),
                nn.Sequential(*_units(width, 3), nn.Dropout(0.0 if coarser < len(channels) - 1 else dropout)),
                dropout=dropout if coarser < 2 else 0.0,
            )
            for coarser, (feature, width) in enumerate(zip(reversed(feature_channels), channels, strict=True))
        ]
        super().__init__(
            levels,
            [conv3x3(width, finer_width) for width, finer_width in pairwise(channels)],
            level_sizes=[1] * len(levels),
            out_channels=channels[-1],
            align_corners=True,
        )


class ResidualConvUnit(nn.Module):
    """Adds to its input what ReLU, convolution, ReLU, convolution make of it; shape kept."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, kernel_size=3, padding=1)
        self.conv2 = conv3x3(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        residual: Tensor = self.conv2(F.relu(self.conv1(F.relu(x))))
        return x + residual


def conv3x3(in_channels: int, out_channels: int) -> nn.Conv2d:
    """Of the chains, the fusions, and the second step of a residual conv unit; without a bias."""
    return nn.Conv2d(in_channels, out_channels, kernel_size=3, padding=1, bias=False)


def adaptation(in_channels: int, channels: int, *, fuses: bool) -> nn.Module:
    """To the level's width, two residual conv units, and a convolution before the sum, where there is one."""
    before_sum = [conv3x3(channels, channels)] if fuses else []
    return nn.Sequential(conv3x3(in_channels, channels), *_units(channels, 2), *before_sum)


def _units(channels: int, count: int) -> list[ResidualConvUnit]:
    return [ResidualConvUnit(channels) for _ in range(count)]
