"""The graph that is exported: a picture as it comes out of a file goes in, a class mask comes out."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lwrefinenet.models.fuse import children, fold
from lwrefinenet.preprocess import Preprocess
from lwrefinenet.tasks import AT_FULL_SIZE, TASKS, Channels, stacked

OUTPUTS = ("mask", *TASKS[1:])
EXAMPLE_SIZE = (353, 467)  # odd numbers, so that no rounding of sizes is taken for a constant


class Deployable(nn.Module):
    """Normalisation, network, upsampling and argmax in one module.

    model: (N, 3, H, W) normalised -> logits (N, C, h, w), or such results by task; a folded copy of it is kept.
    channels: what of the results belongs to which task.
    precision: of the network's parameters and arithmetic; the resizing of logits is float32.
    """

    def __init__(
        self, model: nn.Module, preprocess: Preprocess, channels: Channels, precision: torch.dtype = torch.float32
    ) -> None:
        super().__init__()
        self.network = _with_pools_for_every_size(fold(model)).to(precision)
        self.preprocess = preprocess
        self.channels = channels
        self.precision = precision

    @property
    def outputs(self) -> tuple[str, ...]:
        """What the graph gives, by name: the mask, and further tasks."""
        return OUTPUTS[0], *self.channels.tasks[1:]

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """image: (1, H, W, 3) uint8 RGB.

        Returns the mask, (1, H, W) uint8, further tasks in their order (depth, (1, H, W) float32 metres; normals, (1, H, W, 3)
        float32 unit vectors), and last the results that all was made from, (1, all channels, h, w) float32.
        """
        planes = image.permute(0, 3, 1, 2).contiguous()
        results = stacked(self.network(self.preprocess(planes).to(self.precision))).float()
        size = (image.shape[1], image.shape[2])
        by_task = self.channels.split(results)
        resized = F.interpolate(by_task["segmentation"], size=size, mode="bilinear", align_corners=False)
        dense = [AT_FULL_SIZE[task](by_task[task], size) for task in self.channels.tasks[1:]]
        return resized.argmax(1).to(torch.uint8), *dense, results


class HalvingAveragePool(nn.Module):
    """Means of 2x2 cells, at an odd edge of those that are there: `AvgPool2d(2, ceil_mode=True, count_include_pad=False)`.

    OpenVINO makes nothing of a map of one row or column when it rounds up by itself, and then reads where no values are.
    """

    def forward(self, x: Tensor) -> Tensor:
        """x: (N, C, H, W).  Returns (N, C, ceil(H / 2), ceil(W / 2))."""
        return F.avg_pool2d(F.pad(x, (0, 1, 0, 1), mode="replicate"), 2)


def _with_pools_for_every_size(network: nn.Module) -> nn.Module:
    """The same network, changed in place: pools that halve and round up do it by `HalvingAveragePool`."""
    for parent, name, pool in children(network, nn.AvgPool2d):
        halves = {pool.kernel_size, pool.stride} <= {2, (2, 2)} and pool.padding in (0, (0, 0))
        if halves and pool.ceil_mode and not pool.count_include_pad:
            setattr(parent, name, HalvingAveragePool())
    return network
