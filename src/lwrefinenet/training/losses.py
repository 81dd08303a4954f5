"""What training minimises: cross-entropy on all pixels or the hardest, with soft Dice and Lovasz-softmax beside it.

Every loss here takes logits (N, C, H, W) at the targets' size and targets (N, H, W) int64 with class indices and the ignore
index, and gives a scalar that is 0 where every pixel is ignored.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import ArrayLike
from torch import Tensor

# Under this probability a pixel is surely not of a class; all such pixels together change no class's Lovasz loss by more.
SURE = 1e-3


@dataclass(frozen=True)
class SegmentationLoss:
    """The sum that a recipe asks for.

    class_weights: (C,) for the cross-entropy, or None.  hardest: (threshold, share) of `hardest_cross_entropy`, or None.
    dice_weight, lovasz_weight: of the added losses.  lovasz_stride: as `lovasz_softmax` takes it.
    auxiliary_weight: of the same sum on each auxiliary head's logits.
    """

    ignore_index: int
    class_weights: Tensor | None = None
    hardest: tuple[float, float] | None = None
    label_smoothing: float = 0.0
    dice_weight: float = 0.0
    lovasz_weight: float = 0.0
    lovasz_stride: int = 1
    auxiliary_weight: float = 0.0

    def __call__(self, logits: Sequence[Tensor], targets: Tensor) -> Tensor:
        """logits: the network's, then those of the auxiliary heads, each (N, C, h, w) of any size.  Returns a scalar."""
        main, *auxiliary = logits
        loss = self._of_one(main, targets)
        for coarser in auxiliary:
            loss = loss + self.auxiliary_weight * self._of_one(coarser, targets)
        return loss

    def pixel_weight(self, targets: Tensor) -> Tensor:
        """How much these targets count beside others of the same step: their valid pixels, each with its class's weight."""
        valid = targets != self.ignore_index  # by masks, not by picking out: a GPU need not be waited for
        if self.class_weights is None or self.hardest:
            return valid.sum().float()
        return (self.class_weights[targets.masked_fill(~valid, 0)] * valid).sum()

    def _of_one(self, logits: Tensor, targets: Tensor) -> Tensor:
        logits = F.interpolate(logits.float(), size=targets.shape[-2:], mode="bilinear", align_corners=False)
        loss = self._cross_entropy(logits, targets)
        if self.dice_weight:
            loss = loss + self.dice_weight * soft_dice(logits, targets, self.ignore_index)
        if self.lovasz_weight:
            jaccard = lovasz_softmax(logits, targets, self.ignore_index, stride=self.lovasz_stride)
            loss = loss + self.lovasz_weight * jaccard
        return loss

    def _cross_entropy(self, logits: Tensor, targets: Tensor) -> Tensor:
        if _many_classes(logits):  # a view of channels_last logits, and log-softmax is fast there
            logits_by_pixel, classes = logits.movedim(1, -1).flatten(0, -2), targets.flatten()
        else:
            logits_by_pixel, classes = logits, targets
        cross_entropy = partial(
            F.cross_entropy,
            weight=self.class_weights,
            ignore_index=self.ignore_index,
            label_smoothing=self.label_smoothing,
        )
        if self.hardest:
            pixels = cross_entropy(logits_by_pixel, classes, reduction="none").view_as(targets)
            threshold, share = self.hardest
            return hardest_mean(pixels, targets, logits, self.ignore_index, threshold=threshold, share=share)
        total = cross_entropy(logits_by_pixel, classes, reduction="sum")
        return total / self.pixel_weight(targets).clamp_min(1e-6)


def _many_classes(logits: Tensor) -> bool:
    """Whether the classes of a pixel fill a vector of the processor: log-softmax along fewer is slow."""
    lanes = 16 if torch.backends.cpu.get_cpu_capability() == "AVX512" else 8
    return logits.device.type != "cpu" or logits.shape[1] >= lanes


def hardest_mean(
    pixel_losses: Tensor, targets: Tensor, logits: Tensor, ignore_index: int, *, threshold: float, share: float
) -> Tensor:
    """Online hard example mining: the mean loss of the pixels whose class has a probability under `threshold`.

    pixel_losses: (N, H, W).  share: of the valid pixels, the least that is kept, the largest losses first.
    A. Shrivastava et al., CVPR 2016; in this form with Z. Wu et al. (arXiv:1605.06885).
    """
    valid = targets != ignore_index
    losses = pixel_losses[valid]
    if losses.numel() == 0:
        return pixel_losses.sum() * 0
    with torch.no_grad():
        known = targets.masked_fill(~valid, 0)[:, None]
        probabilities = logits.softmax(dim=1).gather(1, known)[:, 0][valid]
        least = max(1, int(share * losses.numel()))
        limit = torch.kthvalue(probabilities, least).values.clamp_min(threshold)
    return losses[probabilities <= limit].mean()


def soft_dice(logits: Tensor, targets: Tensor, ignore_index: int) -> Tensor:
    """1 - mean Dice coefficient of the classes in the targets, on probabilities (F. Milletari et al., 3DV 2016)."""
    valid = targets != ignore_index
    probabilities = logits.softmax(dim=1).movedim(1, -1)[valid]
    truth = F.one_hot(targets[valid], logits.shape[1]).to(probabilities.dtype)
    present = truth.sum(dim=0) > 0
    if not present.any():
        return logits.sum() * 0
    overlap = (probabilities * truth).sum(dim=0)[present]
    size = (probabilities + truth).sum(dim=0)[present]
    return 1 - (2 * overlap / size).mean()


def lovasz_softmax(logits: Tensor, targets: Tensor, ignore_index: int, *, stride: int = 1) -> Tensor:
    """The Lovasz extension of the Jaccard loss, the mean over the classes in the targets (M. Berman et al., CVPR 2018).

    stride: it is that of every so many-th row and column of pixels, which takes less time; 1: of all.
    """
    logits, targets = logits[..., ::stride, ::stride], targets[..., ::stride, ::stride]
    probabilities = logits.softmax(dim=1).movedim(1, 0).flatten(1)
    with torch.no_grad():
        slopes, constant = _lovasz_slopes(probabilities, targets.flatten(), ignore_index)
    return constant + (probabilities * slopes).sum()


def _lovasz_slopes(probabilities: Tensor, labels: Tensor, ignore_index: int) -> tuple[Tensor, Tensor]:
    """The extension is linear between changes of the pixels' order: its slope for each probability, (C, pixels), and what it adds.

    Pixels of other classes that a class has hardly in doubt need no sorting: nearly all of them.
    """
    slopes = torch.zeros_like(probabilities)
    constant = probabilities.new_zeros(())
    valid = labels != ignore_index
    present = torch.unique(labels[valid]).tolist()
    for index in present:
        is_class, of_class = labels == index, probabilities[index]
        some = (is_class | (valid & (of_class > SURE))).nonzero()[:, 0]
        truth = is_class[some].to(probabilities.dtype)
        order = (truth - of_class[some]).abs().argsort(descending=True)
        some, truth = some[order], truth[order]
        steps = _jaccard_steps(truth) / len(present)
        slopes[index, some] = torch.where(truth == 1, -steps, steps)  # errors are 1 - p in the class, p elsewhere
        constant += steps @ truth
    return slopes, constant


def _jaccard_steps(truth: Tensor) -> Tensor:
    """How much the Jaccard loss grows with each further pixel that is wrong; truth: 0 and 1, in the order of the errors."""
    total = truth.sum()
    intersection = total - truth.cumsum(0)
    union = total + (1 - truth).cumsum(0)
    loss = 1 - intersection / union
    return torch.cat([loss[:1], loss[1:] - loss[:-1]])


def median_frequency_weights(pixels: ArrayLike, pixels_where_present: ArrayLike, *, power: float) -> Tensor:
    """Median-frequency balancing, tempered: weight = (median frequency / frequency) ** power (D. Eigen, R. Fergus, ICCV 2015).

    pixels: (C,) of each class.  pixels_where_present: (C,) valid pixels of the pictures that hold the class.
    power: 0 gives ones, 1 the published rule.  An absent class gets weight 1.  Returns (C,) float32.
    """
    pixels, where_present = np.asarray(pixels, float), np.asarray(pixels_where_present, float)
    present = pixels > 0
    frequency = np.divide(pixels, where_present, out=np.ones_like(pixels), where=present)
    weights = np.where(present, (np.median(frequency[present]) / frequency) ** power, 1.0)
    return torch.from_numpy(weights).float()
