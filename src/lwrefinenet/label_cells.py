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
    labels = np.empty(tuple(size), np.uint8)
    rows, columns = (_pairs(length, wanted) for length, wanted in zip(cells.shape[:2], size, strict=True))
    _compiled()(cells, *rows, *columns, labels)
    return torch.from_numpy(labels)


@cache
def has_numba() -> bool:
    """Whether numba is there and works: it refuses versions of NumPy that it does not know."""
    try:
        import numba  # noqa: F401
    except ImportError:
        return False
    return True


def _pairs(length: int, new_length: int) -> tuple[Places, Places, Floats, Places]:
    """For each new place the two old ones that it lies between, how far it is on the way to the second, 0-1, and where the new
    places begin that lie between the next two; last, their number.
    """
    centre = (np.arange(new_length, dtype=np.float32) + np.float32(0.5)) * np.float32(length / new_length) - np.float32(
        0.5
    )
    first = np.floor(centre)
    way = (centre - first).astype(np.float32)
    places = first.astype(np.int64)
    edges = np.concatenate([[0], np.flatnonzero(np.diff(places)) + 1, [new_length]])
    return places.clip(0, length - 1), (places + 1).clip(0, length - 1), way, edges


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
    row_edges: Places,
    lefts: Places,
    rights: Places,
    across: Floats,
    column_edges: Places,
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
    candidates = np.empty(classes, np.int64)
    starts, ends = np.empty(classes, np.float32), np.empty(classes, np.float32)
    for i in range(len(row_edges) - 1):
        y0, y1 = row_edges[i], row_edges[i + 1]
        top, bottom = tops[y0], bottoms[y0]
        for j in range(len(column_edges) - 1):
            x0, x1 = column_edges[j], column_edges[j + 1]
            left, right = lefts[x0], rights[x0]
            a, b, c, d = best[top, left], best[top, right], best[bottom, left], best[bottom, right]
            if a == b and a == c and a == d:
                for y in range(y0, y1):
                    for x in range(x0, x1):
                        labels[y, x] = a
                continue
            # Whatever another class beats in all four corners is beaten everywhere between them.
            count = 0
            p, q, r, s = cells[top, left], cells[top, right], cells[bottom, left], cells[bottom, right]
            for k in range(classes):
                beaten = p[a] > p[k] and q[a] > q[k] and r[a] > r[k] and s[a] > s[k]
                beaten = beaten or (p[b] > p[k] and q[b] > q[k] and r[b] > r[k] and s[b] > s[k])
                beaten = beaten or (p[c] > p[k] and q[c] > q[k] and r[c] > r[k] and s[c] > s[k])
                beaten = beaten or (p[d] > p[k] and q[d] > q[k] and r[d] > r[k] and s[d] > s[k])
                if not beaten:
                    candidates[count] = k
                    count += 1
            for y in range(y0, y1):
                v = down[y]
                for n in range(count):
                    k = candidates[n]
                    starts[n] = p[k] * (1 - v) + r[k] * v
                    ends[n] = q[k] * (1 - v) + s[k] * v
                for x in range(x0, x1):
                    u = across[x]
                    winner, highest = 0, -np.inf
                    for n in range(count):
                        value = starts[n] * (1 - u) + ends[n] * u
                        if value > highest:
                            winner, highest = candidates[n], value
                    labels[y, x] = winner
