"""Multi-scale testing: a picture is seen at several sizes, each with its mirror image, and what was seen is averaged."""

import math
from collections.abc import Iterable, Sequence
from numbers import Real

import torch
import torch.nn.functional as F
from torch import Tensor

from lwrefinenet.errors import UsageError
from lwrefinenet.runtimes.network import Network
from lwrefinenet.runtimes.tiles import CELL
from lwrefinenet.tasks import Channels

USUAL_SCALES = (0.5, 0.75, 1.0, 1.25, 1.5, 1.75)  # as in the tables of the papers
SMALLEST, LARGEST = 0.1, 4.0


class MultiScaleNetwork:
    """Another network, shown a picture at several scales, and mirrored at each; the class probabilities are averaged.

    Where the other network sees its pictures in tiles, each scale is cut into tiles of the same size.
    channels: of the network's results.  Depth is averaged in metres of the picture itself, what is shown larger being nearer, and
    normals with their first component negated in mirror images.
    scales: of the picture's size, 0.1-4.  UsageError for others, and for a network that takes pictures of one size only.
    """

    def __init__(self, network: Network, channels: Channels, scales: Sequence[float] = USUAL_SCALES) -> None:
        scales = _checked(scales)
        if network.size is not None and set(scales) != {1.0}:
            height, width = network.size
            raise UsageError(
                f"this graph was exported for pictures of {width}x{height} only and cannot see them at other scales; export it "
                "again without --static, or give the scale 1 alone."
            )
        self.network = network
        self.channels = channels
        self.scales = scales
        self.size = network.size
        self.device = network.device
        self.views = f"scales {' '.join(f'{scale:g}' for scale in scales)}, with flip"
        self.name = f"{network.name}, {self.views}"

    def prepare(self, images: Tensor) -> Tensor:
        """images: (N, H, W, 3) uint8 RGB.  Returned as they are; each scale is prepared by itself."""
        return images

    def logits(self, prepared: Tensor) -> Tensor:
        """prepared: (N, H, W, 3) uint8 RGB.  Returns float32 (N, C, h, w), the mean probabilities' logarithm.

        The logits of every scale and mirror image are resized (bilinear) to those of the scale 1, or to a quarter of the picture
        where 1 is not among the scales, before their softmax.  By the logarithm they go on as logits do: one view alone gives the
        labels of that view.
        """
        cells = None if 1.0 in self.scales else [-(-length // CELL) for length in prepared.shape[1:3]]
        views = len(self.scales) * 2
        summed: dict[str, Tensor] = {}
        for scale in sorted(self.scales, key=lambda scale: scale != 1):
            scaled = resized(prepared, scale)
            for mirrored in (False, True):
                results = self.network.logits(self.network.prepare(scaled.flip(2) if mirrored else scaled))
                cells = cells or list(results.shape[2:])
                results = F.interpolate(results, cells, mode="bilinear", align_corners=False)
                for task, seen in self._by_task(results, scale, mirrored=mirrored).items():
                    # probabilities are added as logarithms: one too small for a float32 would become minus infinity
                    add = torch.logaddexp if task == "segmentation" else torch.add
                    summed[task] = seen if task not in summed else add(summed[task], seen)
        logits = summed.pop("segmentation") - math.log(views)
        dense = [values / views for values in summed.values()]
        return torch.cat([logits, *dense], dim=1).contiguous(memory_format=torch.channels_last)

    def _by_task(self, results: Tensor, scale: float, *, mirrored: bool) -> dict[str, Tensor]:
        """What the network said of one view, by task, as it would be of the picture itself."""
        by_task = self.channels.split(results.flip(3) if mirrored else results)
        seen = {"segmentation": by_task["segmentation"].log_softmax(1)}
        if "depth" in by_task:
            seen["depth"] = by_task["depth"].abs() * scale
        if "normals" in by_task:
            sign = torch.tensor([-1.0 if mirrored else 1.0, 1.0, 1.0], device=results.device)
            seen["normals"] = F.normalize(by_task["normals"], dim=1) * sign[:, None, None]
        return seen


def _checked(scales: object) -> tuple[float, ...]:
    given = tuple(scales) if isinstance(scales, Iterable) else ()
    if not given or not all(isinstance(scale, Real) and SMALLEST <= float(scale) <= LARGEST for scale in given):
        raise UsageError(
            f"scales are {scales!r}; expected one or more numbers from {SMALLEST} to {LARGEST:g}, in a list."
        )
    return tuple(map(float, given))


def resized(images: Tensor, scale: float) -> Tensor:
    """Pictures at `scale` times their size, as training scales them: bilinear, and smoothed where they shrink.

    images: (N, H, W, 3) uint8.  Returns (N, round(H * scale), round(W * scale), 3) uint8, no side less than 1.
    """
    height, width = (max(1, round(side * scale)) for side in images.shape[1:3])
    if (height, width) == images.shape[1:3]:
        return images
    planes = images.permute(0, 3, 1, 2)
    scaled = F.interpolate(planes, (height, width), mode="bilinear", align_corners=False, antialias=True)
    return scaled.permute(0, 2, 3, 1).contiguous()
