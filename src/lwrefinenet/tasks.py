"""What a network may tell of each pixel, and how the results of several tasks lie in one tensor."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

TASKS = ("segmentation", "depth", "normals")  # in the order in which they are listed everywhere
WIDTHS = {"depth": 1, "normals": 3}


@dataclass(frozen=True)
class Channels:
    """Which channels belong to which task, where a network's results lie one above the other: classes first.

    tasks: some of TASKS, in their order, "segmentation" first.
    """

    num_classes: int
    tasks: tuple[str, ...] = ("segmentation",)

    def split(self, results: Tensor) -> dict[str, Tensor]:
        """results: (N, all channels, h, w).  Returns (N, channels of the task, h, w) by task."""
        widths = [self.num_classes, *(WIDTHS[task] for task in self.tasks[1:])]
        return dict(zip(self.tasks, torch.split(results, widths, dim=1), strict=True))


def stacked(results: Tensor | Mapping[str, Tensor]) -> Tensor:
    """The results of a network one above the other, (N, all channels, h, w)."""
    return results if isinstance(results, Tensor) else torch.cat(list(results.values()), dim=1)


def depth_at(depth: Tensor, size: Sequence[int], resize: str = "bilinear") -> Tensor:
    """Metres at a picture's own size, as published: resized, then their absolute value.

    depth: (N, 1, h, w), raw.  size: (height, width).  Returns (N, height, width) float32.
    """
    return F.interpolate(depth.float(), size=tuple(size), mode=resize, align_corners=False)[:, 0].abs()


def normals_at(normals: Tensor, size: Sequence[int], resize: str = "bilinear") -> Tensor:
    """Unit vectors at a picture's own size: resized, then brought to length 1.

    normals: (N, 3, h, w), of any length.  size: (height, width).  Returns (N, height, width, 3) float32.
    """
    resized = F.interpolate(normals.float(), size=tuple(size), mode=resize, align_corners=False)
    return F.normalize(resized, dim=1).permute(0, 2, 3, 1)


AT_FULL_SIZE = {"depth": depth_at, "normals": normals_at}
