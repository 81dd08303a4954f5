"""Streaming counts of right and wrong pixels: one confusion matrix over a whole set, never a mean of pictures' scores."""

import numpy as np


class ConfusionMatrix:
    """Counts of pixels by true class (rows) and predicted class (columns); memory does not grow with the set."""

    def __init__(self, num_classes: int, ignore_index: int) -> None:
        self.num_classes = num_classes
        self.ignore_index = ignore_index
        self.counts = np.zeros((num_classes, num_classes), dtype=np.int64)

    def update(self, predicted: np.ndarray, target: np.ndarray) -> np.ndarray:
        """Count one picture, and give its counts alone, (num_classes, num_classes).

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
        return counted

    @property
    def per_class_iou(self) -> np.ndarray:
        """(num_classes,) intersection over union, 0-1; nan for a class in neither targets nor predictions."""
        return intersection_over_union(self.counts)

    @property
    def mean_iou(self) -> float:
        """Mean over the classes that occur, 0-1; nan where none does."""
        return float(mean_over_occurring(self.per_class_iou))

    @property
    def pixel_accuracy(self) -> float:
        """Share of counted pixels whose class is right, 0-1; nan where none is counted."""
        total = self.counts.sum()
        return float(np.diag(self.counts).sum() / total) if total else float("nan")


def intersection_over_union(counts: np.ndarray) -> np.ndarray:
    """(..., C, C) counts by true class (rows) and predicted class -> (..., C), 0-1; nan for a class that never occurs."""
    hits = np.diagonal(counts, axis1=-2, axis2=-1)
    union = counts.sum(axis=-2) + counts.sum(axis=-1) - hits
    iou: np.ndarray = np.divide(hits, union, out=np.full(hits.shape, np.nan), where=union > 0)
    return iou


def mean_over_occurring(iou: np.ndarray) -> np.ndarray:
    """(..., C) -> (...): the mean over the classes that occur; nan where none does."""
    occurs = ~np.isnan(iou)
    number = occurs.sum(axis=-1)
    total = np.where(occurs, iou, 0).sum(axis=-1)
    mean: np.ndarray = np.divide(total, number, out=np.full(number.shape, np.nan), where=number > 0)
    return mean
