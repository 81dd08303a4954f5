"""Labels of bilinearly resized logits without resizing most of them: compiled by numba, the extra `fast`.

Between four neighbouring values bilinear interpolation stays a weighted mean of them, with weights that are not negative. So
where the four corners of a cell have the same best class, every pixel in it has that class, and only cells on the border
between classes need to be interpolated.
"""

from collections.abc import Callable, Sequence
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Floats = NDArray[np.float32]
Places = NDArray[np.int64]
Labels = NDArray[np.uint8]


def label_cells(logits: Tensor, size: Sequence[int]) -> Tensor:
    """The best class of each pixel of bilinearly resized logits, corners not aligned.

    logits: (C, h, w) float32 on the CPU, at most 256 classes.  size: (height, width).  Returns (height, width) uint8, equal to
    `interpolate(logits, size).argmax(0)` up to the rounding of ties.  ImportError without numba.
    """
    cells = logits.permute(1, 2, 0).contiguous().numpy()
    rows, columns = (_pairs(length, wanted) for length, wanted in zip(cells.shape[:2], size, strict=True))
    labels = np.empty(tuple(size), np.uint8)
    _compiled()(cells, *rows, *columns, labels)
    return torch.from_numpy(labels)


def _pairs(length: int, new_length: int) -> tuple[Places, Places, Floats]:
    """For each new place the two old ones that it lies between, and how far it is on the way to the second, 0-1."""
    centre = (np.arange(new_length, dtype=np.float32) + np.float32(0.5)) * np.float32(length / new_length) - np.float32(
        0.5
    )
    first = np.floor(centre)
    way = (centre - first).astype(np.float32)
    places = first.astype(np.int64)
    return places.clip(0, length - 1), (places + 1).clip(0, length - 1), way


@cache
def _compiled() -> Callable[..., None]:
    """Compiled on first use and, where there is a folder for it, kept on the disk; other threads run on while it works."""
    from numba import njit

    compiled: Callable[..., None]
    try:
        compiled = njit(cache=True, nogil=True)(_label)
    except RuntimeError:  # neither the package's folder nor the user's cache can be written
        compiled = njit(nogil=True)(_label)
    return compiled


def _label(
    cells: Floats,
    tops: Places,
    bottoms: Places,
    down: Floats,
    lefts: Places,
    rights: Places,
    across: Floats,
    labels: Labels,
) -> None:  # pragma: no cover - compiled
    """Fill `labels` (H, W) from `cells` (h, w, C); in the part of Python that numba compiles."""
    height, width, classes = cells.shape
    best = np.empty((height, width), np.uint8)
    for row in range(height):
        for column in range(width):
            winner, highest = 0, cells[row, column, 0]
            for k in range(1, classes):
                if cells[row, column, k] > highest:
                    winner, highest = k, cells[row, column, k]
            best[row, column] = winner
    for y in range(labels.shape[0]):
        top, bottom, v = tops[y], bottoms[y], down[y]
        for x in range(labels.shape[1]):
            left, right, u = lefts[x], rights[x], across[x]
            agreed = best[top, left]
            if agreed == best[top, right] and agreed == best[bottom, left] and agreed == best[bottom, right]:
                labels[y, x] = agreed
                continue
            winner, highest = 0, -np.inf
            for k in range(classes):
                start = cells[top, left, k] * (1 - v) + cells[bottom, left, k] * v
                end = cells[top, right, k] * (1 - v) + cells[bottom, right, k] * v
                value = start * (1 - u) + end * u
                if value > highest:
                    winner, highest = k, value
            labels[y, x] = winner
