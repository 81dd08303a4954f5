"""Streaming metrics: one confusion matrix over a whole set, and every number with the protocol that makes it comparable."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from lwrefinenet.data.dataset import LabelledPictures
from lwrefinenet.data.unlabelled import UnlabelledPictures
from lwrefinenet.dense_metrics import DepthErrors, NormalErrors
from lwrefinenet.errors import DataError
from lwrefinenet.labels import LabelSet
from lwrefinenet.predict import Maps


class ConfusionMatrix:
    """Counts of pixels by true class (rows) and predicted class (columns); memory does not grow with the set."""

    def __init__(self, num_classes: int, ignore_index: int) -> None:
        self.num_classes = num_classes
        self.ignore_index = ignore_index
        self.counts = np.zeros((num_classes, num_classes), dtype=np.int64)

    def update(self, predicted: np.ndarray, target: np.ndarray) -> None:
        """Count one picture.

        predicted: (H, W) class indices.  target: (H, W) class indices and the ignore index, whose pixels count nowhere.
        ValueError where the sizes differ or an index is no class.
        """
        if predicted.shape != target.shape:
            raise ValueError(f"prediction is {predicted.shape}, target is {target.shape}; they must be of one size.")
        # One 16-bit key per pixel: no masking, no 64-bit copies.
        pairs = np.bincount((target.astype(np.uint16) << 8 | predicted).ravel(), minlength=1 << 16).reshape(256, 256)
        pairs[self.ignore_index] = 0
        if pairs.sum() != (counted := pairs[: self.num_classes, : self.num_classes]).sum():
            raise ValueError(f"an index beyond the {self.num_classes} classes stands in a prediction or target.")
        self.counts += counted

    @property
    def per_class_iou(self) -> np.ndarray:
        """(num_classes,) intersection over union, 0-1; nan for a class in neither targets nor predictions."""
        hits = np.diag(self.counts)
        union = self.counts.sum(axis=0) + self.counts.sum(axis=1) - hits
        iou: np.ndarray = np.divide(hits, union, out=np.full(self.num_classes, np.nan), where=union > 0)
        return iou

    @property
    def mean_iou(self) -> float:
        """Mean over the classes that occur, 0-1; nan where none does."""
        occurring = self.per_class_iou[~np.isnan(self.per_class_iou)]
        return float(occurring.mean()) if len(occurring) else float("nan")

    @property
    def pixel_accuracy(self) -> float:
        """Share of counted pixels whose class is right, 0-1; nan where none is counted."""
        total = self.counts.sum()
        return float(np.diag(self.counts).sum() / total) if total else float("nan")


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
    scales: str = "single scale, no flip"

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
    """

    protocol: Protocol
    mean_iou: float
    pixel_accuracy: float
    per_class_iou: dict[str, float | None]
    depth: dict[str, float] | None = None
    normals: dict[str, float] | None = None

    @property
    def absent(self) -> list[str]:
        """Classes in neither targets nor predictions, which are left out of the mean."""
        return [name for name, iou in self.per_class_iou.items() if iou is None]

    def to_dict(self) -> dict[str, Any]:
        """As it stands in a JSON file, the protocol in full."""
        values = {**asdict(self), "absent_classes": self.absent}
        return {name: value for name, value in values.items() if name not in ("depth", "normals") or value is not None}


def evaluate(
    predict: Callable[[np.ndarray], Maps],
    dataset: LabelledPictures,
    *,
    labels: LabelSet,
    tasks: Sequence[str] = ("segmentation",),
    resize: str = "bilinear",
    scales: str = "single scale, no flip",
    keep: Callable[[int, np.ndarray], None] = lambda index, mask: None,
    progress: Callable[[Iterable[int]], Iterable[int]] = iter,
    share: tuple[int, int] = (0, 1),
    gather: Callable[[Any], list[Any]] = lambda value: [value],
) -> Evaluation:
    """Score a network on every picture of a split, at the pictures' own size.

    predict: (H, W, 3) uint8 RGB -> what the network says of each pixel, for example `Predictor.predict_maps`.
    tasks: what it gives; depth and normals are scored on the pictures that hold them.
    labels: the classes that the network knows; DataError where they are not the data set's, or the masks hold no class at all.
    resize: how the network's logits are resized, and scales: at which scales and in which parts it sees a picture
    (`Predictor.views`); both for the protocol.  keep: is given the index and the predicted mask of each picture.
    progress: wraps the indices, to show how far it is.
    share, gather: of several processes, this one's (number, count), and what gives each of them every one's counts.
    """
    check_same_classes(labels, dataset)
    matrix, depth, normals = ConfusionMatrix(len(labels), dataset.labels.ignore_index), DepthErrors(), NormalErrors()
    sizes: set[tuple[int, ...]] = set()
    for index in progress(range(share[0], len(dataset), share[1])):
        truth = dataset.labelled(index, tasks)
        maps = predict(truth.pixels)
        matrix.update(maps.mask, truth.mask)
        if maps.depth is not None and truth.depth is not None:
            depth.update(maps.depth, truth.depth)
        if maps.normals is not None and truth.normals is not None:
            normals.update(maps.normals, truth.normals)
        keep(index, maps.mask)
        sizes.add(truth.mask.shape)
    parts = gather((matrix.counts, depth.sums, normals.sums, sizes))
    matrix.counts, depth.sums, normals.sums = (np.sum([part[i] for part in parts], axis=0) for i in range(3))
    sizes = set().union(*(part[3] for part in parts))
    if not matrix.counts.any():
        raise DataError(
            f"{dataset.name} {dataset.split}: not one pixel of its masks has a class, so there is no score; take another split."
        )
    return Evaluation(
        protocol=Protocol(
            dataset=dataset.name,
            split=dataset.split,
            pictures=len(dataset),
            size=_size_range(sizes),
            classes=len(labels),
            void_rule=dataset.void_rule,
            resize_rule=resize,
            scales=scales,
        ),
        mean_iou=matrix.mean_iou,
        pixel_accuracy=matrix.pixel_accuracy,
        per_class_iou={
            name: None if np.isnan(iou) else float(iou)
            for name, iou in zip(labels.class_names, matrix.per_class_iou, strict=True)
        },
        depth=depth.scores,
        normals=normals.scores,
    )


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
