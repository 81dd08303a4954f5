"""What a step minimises, task by task: the loss of each, how much its targets count, and how the tasks weigh against each other."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from lwrefinenet.training.losses import SegmentationLoss

BERHU_SHARE = 0.2  # of the largest error, where the loss turns from linear to quadratic

Maps = Mapping[str, Sequence[Tensor]]  # by task: what the network says, then auxiliary heads


@dataclass(frozen=True)
class TaskLosses:
    """Cross-entropy (or what the recipe asks for) on classes, berHu or squared errors on depth, the cosine's distance on
    normals.

    weights: of every task, in the order of the tasks.  depth_loss: a name of `DEPTH_LOSSES`.
    """

    segmentation: SegmentationLoss
    weights: Mapping[str, float]
    depth_loss: str = "berhu"

    def __call__(self, maps: Maps, targets: Mapping[str, Tensor], log_variances: Tensor) -> Tensor:
        """maps: (N, channels, h, w) each, of any size.  targets: as `TrainTransform.of` gives them, N of each.

        log_variances: (tasks,), learnt, by which tasks find their weights: loss / variance + log(variance) / 2 (A. Kendall, Y. Gal,
        R. Cipolla, CVPR 2018); zeros leave the losses as they are.  Returns (tasks,) losses, weighted.
        """
        losses = [weight * self._of(task, maps[task], targets[task]) for task, weight in self.weights.items()]
        return torch.stack(losses) * (-log_variances).exp() + log_variances / 2

    def counts(self, targets: Mapping[str, Tensor]) -> Tensor:
        """(tasks,): how much these targets count beside others of the same step: known pixels, classes by their weights."""
        return torch.stack([self._count(task, targets[task]) for task in self.weights])

    def _of(self, task: str, maps: Sequence[Tensor], target: Tensor) -> Tensor:
        if task == "segmentation":
            return self.segmentation(maps, target)
        found = F.interpolate(maps[0].float(), size=target.shape[-2:], mode="bilinear", align_corners=False)
        return DEPTH_LOSSES[self.depth_loss](found[:, 0], target) if task == "depth" else cosine_distance(found, target)

    def _count(self, task: str, target: Tensor) -> Tensor:
        if task == "segmentation":
            return self.segmentation.pixel_weight(target)
        return known(target if task == "depth" else target.abs().amax(dim=1)).sum().float()


def known(values: Tensor) -> Tensor:
    """Which pixels have a depth or a normal: those that are not 0."""
    return values > 0


def berhu(depth: Tensor, target: Tensor) -> Tensor:
    """The reversed Huber loss of errors in metres: |e| up to a fifth of the largest error c, then (e^2 + c^2) / 2c.

    depth, target: (N, H, W) metres; target 0 where unknown.  Returns the mean over the known pixels, 0 where there is none; c is a
    constant for the gradient.  I. Laina et al., "Deeper depth prediction with fully convolutional residual networks", 3DV 2016.
    The published training code counted unknown pixels in the mean and gave no number where every error was 0.
    """
    valid = known(target)
    errors = torch.where(valid, (depth - target).abs(), 0.0)
    limit = BERHU_SHARE * errors.detach().amax().clamp_min(1e-6)
    costs = torch.where(errors <= limit, errors, (errors**2 + limit**2) / (2 * limit))
    return _mean(costs, valid)


def squared_error(depth: Tensor, target: Tensor) -> Tensor:
    """The mean of squared errors, in square metres, over the known pixels, 0 where there is none: what the RMSE asks for.

    depth, target: (N, H, W) metres; target 0 where unknown.  Where a pixel may be near or far, the least of it is at the mean of
    what may be, where berHu's, mostly linear, is at the median, which is nearer.
    """
    valid = known(target)
    return _mean(torch.where(valid, (depth - target) ** 2, 0.0), valid)


DEPTH_LOSSES: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = {"berhu": berhu, "squared": squared_error}


def cosine_distance(normals: Tensor, target: Tensor) -> Tensor:
    """1 - cosine of the angle between normals of any length and the true ones.

    normals, target: (N, 3, H, W); target of length 1, or 0 where unknown.  Returns the mean over the known pixels, 0 where none is.
    """
    valid = known(target.abs().amax(dim=1))
    cosines = F.cosine_similarity(normals, target, dim=1, eps=1e-6)
    return _mean(torch.where(valid, 1 - cosines, 0.0), valid)


def _mean(costs: Tensor, valid: Tensor) -> Tensor:
    """Over the valid pixels; costs: 0 elsewhere."""
    return costs.sum() / valid.sum().clamp_min(1)
