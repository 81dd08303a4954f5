"""Logit adjustment: an offset for each class, found on labelled pictures, for the largest mean IoU; it costs no time afterwards.

The class with the largest logit is the likeliest one, which is not what makes a mean IoU large: a class may be worth more
doubtful pixels, or fewer, and weights of the classes in the training loss (`class_weight_power`) shift all of them. Offsets
on the logits move the borders between classes, and lie in the biases of the last convolution.
A. K. Menon et al., "Long-tail learning via logit adjustment" (ICLR 2021), for the balanced error; here the mean IoU itself
is maximised, one class after the other.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields
from typing import Any, Self

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from lwrefinenet.confusion import intersection_over_union
from lwrefinenet.data.dataset import LabelledPictures
from lwrefinenet.errors import DataError
from lwrefinenet.evaluate import check_same_classes
from lwrefinenet.labels import LabelSet

PIXELS_PER_PICTURE = 20_000
LARGEST_SAMPLE = 2**24  # logits of all drawn pixels together
PARTS = 4
FEWEST_PICTURES = 2 * PARTS
CANDIDATES = np.linspace(-3, 3, 121)
SWEEPS = 10
LEAST_GAIN = 1e-4  # of a sweep
WORTH_WHILE = 1e-3  # on pictures that the offsets were not found on


@dataclass(frozen=True, eq=False)
class Pixels:
    """Labelled pixels drawn from pictures.

    logits: (P, C) float32, resized to the pictures' own size.  classes, pictures: (P,) int64, each one's class and the index of
    its picture.  weights: (P,) float64, how many labelled pixels of its picture each one stands for.
    """

    logits: Tensor
    classes: Tensor
    pictures: Tensor
    weights: Tensor

    def among(self, chosen: Tensor) -> Self:
        """Those of some pictures.  chosen: (P,) bool."""
        return type(self)(self.logits[chosen], self.classes[chosen], self.pictures[chosen], self.weights[chosen])

    def counts(self, offsets: NDArray[np.float64]) -> NDArray[np.float64]:
        """(C, C): how many are of each class (rows), and get each class (columns) with these offsets."""
        classes = self.logits.shape[1]
        predicted = (self.logits + torch.from_numpy(offsets).float()).argmax(1)
        return _counted(self.classes * classes + predicted, self.weights, classes**2).reshape(classes, classes)


@dataclass(frozen=True, eq=False)
class Adjustment:
    """Offsets, and what they do to the mean IoU (0-1) over the classes that the pictures' masks hold.

    offsets: (C,), their mean is 0 over those classes, and the others have 0.  before, after: the score without and with them.
    unseen: what pictures score with offsets that were found on the others, in `PARTS` parts of neighbouring pictures.
    """

    offsets: NDArray[np.float64]
    before: float
    after: float
    unseen: float

    @property
    def helps(self) -> bool:
        """Whether such offsets raise the score of pictures that they were not found on."""
        return self.unseen > self.before + WORTH_WHILE

    def to_dict(self, class_names: Sequence[str]) -> dict[str, Any]:
        """As it stands in a JSON file."""
        scores = {f"mean_iou_{name}": getattr(self, name) for name in ("before", "after", "unseen")}
        return {**scores, "helps": self.helps, "offsets": dict(zip(class_names, self.offsets.tolist(), strict=True))}

    def described(self, class_names: Sequence[str]) -> str:
        """What was found, in one line."""
        shifts = ", ".join(f"{name} {shift:+.2f}" for name, shift in zip(class_names, self.offsets, strict=True))
        before, after, unseen = (f"{100 * score:.1f} %" for score in (self.before, self.after, self.unseen))
        others = f"pictures that they were not found on score {unseen}"
        if not self.helps:
            return f"No offsets for the classes help: mean IoU {before} as it is, and with offsets {others}."
        return f"Offsets for the classes raise the mean IoU from {before} to {after}; {others}. They are: {shifts}."


def find_adjustment(
    logits: Callable[[Tensor], Tensor],
    pictures: LabelledPictures,
    *,
    labels: LabelSet,
    progress: Callable[[Iterable[int]], Iterable[int]] = iter,
) -> Adjustment:
    """Find the offsets with which a network scores best on labelled pictures, and whether they would help on others.

    logits: as `Predictor.logits`.  pictures: a split that was not learnt from; what was learnt by heart tells nothing.
    labels: the classes that the network knows.  progress: wraps the indices, to show how far it is.
    DataError where the classes are not the data set's, for fewer than `FEWEST_PICTURES` pictures, or for masks without a class.
    """
    check_same_classes(labels, pictures)
    require_enough(pictures)
    return adjustment_of(draw_pixels(logits, pictures, progress), len(pictures))


def require_enough(pictures: LabelledPictures) -> None:
    """Raise DataError where there are too few pictures to tell whether offsets would help on others."""
    if len(pictures) < FEWEST_PICTURES:
        raise DataError(
            f"{pictures.name} {pictures.split}: has {len(pictures)} pictures; offsets for the classes need "
            f"{FEWEST_PICTURES} or more."
        )


def adjustment_of(pixels: Pixels, pictures: int) -> Adjustment:
    """The offsets for the pixels of so many pictures, with what they are worth."""
    offsets = best_offsets(pixels)
    parts = pixels.pictures * PARTS // pictures
    unseen = np.zeros((len(offsets), len(offsets)))
    for part in range(PARTS):
        unseen += pixels.among(parts == part).counts(best_offsets(pixels.among(parts != part)))
    present = _present(pixels)
    counts = pixels.counts(np.zeros_like(offsets)), pixels.counts(offsets), unseen
    return Adjustment(offsets, *(float(_mean_iou(each, present)) for each in counts))


def draw_pixels(
    logits: Callable[[Tensor], Tensor],
    pictures: LabelledPictures,
    progress: Callable[[Iterable[int]], Iterable[int]] = iter,
) -> Pixels:
    """Labelled pixels of every picture, the same each time; as many of each as there is room for, `PIXELS_PER_PICTURE` at most."""
    labels = pictures.labels
    share = min(PIXELS_PER_PICTURE, max(1, LARGEST_SAMPLE // (len(labels) * len(pictures))))
    generator = np.random.default_rng(0)
    drawn = []
    for index in progress(range(len(pictures))):
        image, mask = pictures[index]
        known = np.flatnonzero(mask != labels.ignore_index)
        places = np.sort(generator.choice(known, min(share, len(known)), replace=False))
        found = logits(torch.from_numpy(image)[None])[0].float().cpu()
        values = _at(found, places // mask.shape[1], places % mask.shape[1], mask.shape)
        classes = torch.from_numpy(mask.ravel()[places].astype(np.int64))
        weight = torch.full(classes.shape, len(known) / max(1, len(places)), dtype=torch.float64)
        drawn.append(Pixels(values, classes, torch.full_like(classes, index), weight))
    pixels = Pixels(*(torch.cat([getattr(each, field.name) for each in drawn]) for field in fields(Pixels)))
    if not len(pixels.classes):
        raise DataError(
            f"{pictures.name} {pictures.split}: not one pixel of its masks has a class; take another split."
        )
    return pixels


def best_offsets(pixels: Pixels) -> NDArray[np.float64]:
    """(C,) offsets that give the largest mean IoU over the classes that occur, one after the other until none gains any more.

    Classes that do not occur among the pixels keep their logits: nothing is known of how often they are right.
    """
    present = _present(pixels)
    offsets = np.zeros(len(present))
    best = float(_mean_iou(pixels.counts(offsets), present))
    shifted = pixels.logits.clone()
    for _ in range(SWEEPS):
        begun = best
        for number in np.flatnonzero(present):
            scores = _mean_iou(_counts_of_candidates(pixels, shifted, int(number)), present)
            if scores.max() > best + LEAST_GAIN / len(offsets):
                best, offsets[number] = float(scores.max()), CANDIDATES[scores.argmax()]
                shifted[:, number] = pixels.logits[:, number] + offsets[number]
        if best < begun + LEAST_GAIN:
            break
    return np.where(present, offsets - offsets[present].mean(), 0.0)


def _counts_of_candidates(pixels: Pixels, shifted: Tensor, number: int) -> NDArray[np.float64]:
    """(len(CANDIDATES), C, C): the counts with each candidate as one class's offset, the others' as they are in `shifted` (P, C).

    A pixel has another class until the offset is larger than the rival's lead: one count of pixels by that lead, true class
    and rival tells the confusion matrix of every candidate.
    """
    classes = shifted.shape[1]
    strongest, rival = shifted.index_fill(1, torch.tensor([number]), -torch.inf).max(dim=1)
    lead = strongest - pixels.logits[:, number]
    turn = torch.searchsorted(torch.from_numpy(CANDIDATES).float(), lead, right=True)  # the first candidate that wins
    keys = (turn * classes + pixels.classes) * classes + rival
    counted = _counted(keys, pixels.weights, (len(CANDIDATES) + 1) * classes**2)
    turned = counted.reshape(-1, classes, classes).cumsum(axis=0)
    counts: NDArray[np.float64] = turned[-1] - turned[:-1]
    counts[:, :, number] = turned[:-1].sum(axis=2)
    return counts


def _counted(keys: Tensor, weights: Tensor, number: int) -> NDArray[np.float64]:
    counted: NDArray[np.float64] = torch.bincount(keys, weights=weights, minlength=number).numpy()
    return counted


def _present(pixels: Pixels) -> NDArray[np.bool_]:
    """(C,) whether any of the pixels is of a class."""
    occurs: NDArray[np.bool_] = torch.bincount(pixels.classes, minlength=pixels.logits.shape[1]).numpy() > 0
    return occurs


def _mean_iou(counts: NDArray[np.float64], present: NDArray[np.bool_]) -> NDArray[np.float64]:
    """(..., C, C) -> (...): the mean over some classes, however often the others are predicted."""
    mean: NDArray[np.float64] = intersection_over_union(counts)[..., present].mean(axis=-1)
    return mean


def _at(logits: Tensor, rows: NDArray[np.int64], columns: NDArray[np.int64], size: tuple[int, ...]) -> Tensor:
    """The logits (C, h, w) resized bilinearly to a size, corners not aligned, at some places alone: (P, C)."""
    height, width = size
    places = np.stack([(2 * columns + 1) / width - 1, (2 * rows + 1) / height - 1], axis=1)
    grid = torch.from_numpy(places).float()[None, None]
    found = F.grid_sample(logits[None], grid, mode="bilinear", padding_mode="border", align_corners=False)
    return found[0, :, 0].T.contiguous()
