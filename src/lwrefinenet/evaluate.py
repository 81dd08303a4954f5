"""The scores of a network on a split, and the protocol that makes every one of them comparable."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Self

import numpy as np

from lwrefinenet.confidence import Resamples
from lwrefinenet.confusion import ConfusionMatrix
from lwrefinenet.data.dataset import Labelled, LabelledPictures
from lwrefinenet.data.unlabelled import UnlabelledPictures
from lwrefinenet.dense_metrics import DepthErrors, NormalErrors
from lwrefinenet.errors import DataError
from lwrefinenet.labels import LabelSet
from lwrefinenet.meta import Score
from lwrefinenet.predict import ONE_VIEW, Maps


@dataclass(frozen=True)
class Protocol:
    """What a score was measured on and how; two scores compare only where these agree."""

    dataset: str
    split: str
    pictures: int
    size: str
    classes: int
    void_rule: str
    resize_rule: str
    scales: str = ONE_VIEW

    def __str__(self) -> str:
        return (
            f"{self.dataset} {self.split}, {self.pictures} pictures at {self.size}, {self.classes} classes, "
            f"{self.void_rule}, logits resized {self.resize_rule}, {self.scales}, one confusion matrix over the set"
        )


@dataclass(frozen=True)
class Evaluation:
    """The scores of one network on one split.

    per_class_iou: class name -> IoU 0-1, None for a class that never occurs.
    depth, normals: as `dense_metrics` names them; None where the network does not give them, or the split does not hold them.
    mean_iou_interval: low and high end of its 95 % interval (`confidence`), None where it was not asked for.
    """

    protocol: Protocol
    mean_iou: float
    pixel_accuracy: float
    per_class_iou: dict[str, float | None]
    depth: dict[str, float] | None = None
    normals: dict[str, float] | None = None
    mean_iou_interval: tuple[float, float] | None = None

    @property
    def absent(self) -> list[str]:
        """Classes in neither targets nor predictions, which are left out of the mean."""
        return [name for name, iou in self.per_class_iou.items() if iou is None]

    def to_dict(self) -> dict[str, Any]:
        """As it stands in a JSON file, the protocol in full."""
        values = {**asdict(self), "absent_classes": self.absent}
        optional = ("depth", "normals", "mean_iou_interval")
        return {name: value for name, value in values.items() if name not in optional or value is not None}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Read back what `to_dict` gave; what else stands beside it in a file is left out."""
        own: dict[str, Any] = {field.name: values[field.name] for field in fields(cls) if field.name in values}
        own["protocol"] = Protocol(**values["protocol"])
        if interval := own.get("mean_iou_interval"):
            own["mean_iou_interval"] = (interval[0], interval[1])
        return cls(**own)

    @property
    def stated(self) -> tuple[Score, ...]:
        """What weights say of themselves: one number for each task, with its protocol."""
        found = {"mean_iou": self.mean_iou}
        if self.depth is not None:
            found["depth_rmse_metres"] = self.depth["rmse"]
        if self.normals is not None:
            found["normals_mean_degrees"] = self.normals["mean_degrees"]
        return tuple(Score(metric, value, str(self.protocol)) for metric, value in found.items())


def evaluate(
    predict: Callable[[np.ndarray], Maps],
    dataset: LabelledPictures,
    *,
    labels: LabelSet,
    tasks: Sequence[str] = ("segmentation",),
    resize: str = "bilinear",
    views: Callable[[], str] = lambda: ONE_VIEW,
    keep: Callable[[int, np.ndarray], None] = lambda index, mask: None,
    progress: Callable[[Iterable[int]], Iterable[int]] = iter,
    interval: bool = False,
    share: tuple[int, int] = (0, 1),
    gather: Callable[[Any], list[Any]] = lambda value: [value],
) -> Evaluation:
    """Score a network on every picture of a split, at the pictures' own size.

    predict: (H, W, 3) uint8 RGB -> what the network says of each pixel, for example `Predictor.predict_maps`.
    tasks: what it gives; depth and normals are scored on the pictures that hold them.
    labels: the classes that the network knows; DataError where they are not the data set's, or the masks hold no class at all.
    resize: how the network's logits are resized, and views: asked afterwards, at which scales and in which parts it saw them
    (`Predictor.views`); both for the protocol.  keep: is given the index and the predicted mask of each picture.
    progress: wraps the indices, to show how far it is.  interval: whether to work out the mean IoU's (`confidence`).
    share, gather: of several processes, this one's (number, count), and what gives each of them every one's counts.
    """
    check_same_classes(labels, dataset)
    tally = _Tally(len(labels), dataset.labels.ignore_index, interval=interval)
    for index in progress(range(share[0], len(dataset), share[1])):
        truth = dataset.labelled(index, tasks)
        maps = predict(truth.pixels)
        tally.add(index, maps, truth)
        keep(index, maps.mask)
    tally.take_in_all(gather)
    if not tally.matrix.counts.any():
        raise DataError(
            f"{dataset.name} {dataset.split}: not one pixel of its masks has a class, so there is no score; take another split."
        )
    return Evaluation(
        protocol=Protocol(
            dataset=dataset.name,
            split=dataset.split,
            pictures=len(dataset),
            size=_size_range(tally.sizes),
            classes=len(labels),
            void_rule=dataset.void_rule,
            resize_rule=resize,
            scales=views(),
        ),
        mean_iou=tally.matrix.mean_iou,
        pixel_accuracy=tally.matrix.pixel_accuracy,
        per_class_iou={
            name: None if np.isnan(iou) else float(iou)
            for name, iou in zip(labels.class_names, tally.matrix.per_class_iou, strict=True)
        },
        depth=tally.depth.scores,
        normals=tally.normals.scores,
        mean_iou_interval=tally.resamples.interval(len(dataset)) if tally.resamples else None,
    )


class _Tally:
    """What is counted over a split, picture by picture."""

    def __init__(self, num_classes: int, ignore_index: int, *, interval: bool) -> None:
        self.matrix = ConfusionMatrix(num_classes, ignore_index)
        self.depth, self.normals = DepthErrors(), NormalErrors()
        self.resamples = Resamples(num_classes) if interval else None
        self.sizes: set[tuple[int, ...]] = set()

    def add(self, index: int, maps: Maps, truth: Labelled) -> None:
        counted = self.matrix.update(maps.mask, truth.mask)
        if self.resamples is not None:
            self.resamples.update(index, counted)
        if maps.depth is not None and truth.depth is not None:
            self.depth.update(maps.depth, truth.depth)
        if maps.normals is not None and truth.normals is not None:
            self.normals.update(maps.normals, truth.normals)
        self.sizes.add(truth.mask.shape)

    def take_in_all(self, gather: Callable[[Any], list[Any]]) -> None:
        """Of several processes, each comes to hold what all have counted."""
        counts, sizes = zip(*gather((self._counts(), self.sizes)), strict=True)
        for own, *every in zip(self._counts(), *counts, strict=True):
            own[...] = np.sum(every, axis=0)
        self.sizes = set().union(*sizes)

    def _counts(self) -> list[np.ndarray]:
        resampled = [] if self.resamples is None else [self.resamples.counts]
        return [self.matrix.counts, self.depth.sums, self.normals.sums, *resampled]


def check_same_classes(labels: LabelSet, dataset: LabelledPictures | UnlabelledPictures) -> None:
    """Raise DataError where a network that knows `labels` has other classes than a data set, or in another order."""
    if labels.class_names != dataset.labels.class_names:
        raise DataError(
            f"the weights know {len(labels)} classes ({_first(labels)}), {dataset.name} has {len(dataset.labels)} "
            f"({_first(dataset.labels)}); a score needs the same classes in the same order."
        )


def _first(labels: LabelSet, shown: int = 4) -> str:
    return ", ".join(labels.class_names[:shown]) + (", ..." if len(labels) > shown else "")


def _size_range(sizes: set[tuple[int, ...]]) -> str:
    if len(sizes) == 1:
        ((height, width),) = sizes
        return f"{width}x{height}"
    return f"their own sizes ({len(sizes)} different)"
