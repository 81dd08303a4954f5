"""Depth and surface normals, between files and arrays; normals from depth where a data set has none."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lwrefinenet.errors import DataError
from lwrefinenet.images import as_stored, opened_image

DEPTH_SUFFIXES = (".png", ".tif", ".tiff")
FINE_WINDOW, COARSE_WINDOW = 11, 41  # pixels: a plane is laid through the points of so many rows and columns
COARSE = 0.01  # metres: steps of the depth above this show as terraces, which need the larger window
MISFIT = 0.03  # of the distance: where a plane misses its points by more on average, there is an edge and no plane


@dataclass(frozen=True)
class DepthScale:
    """What the whole numbers of a depth file mean: metres = (value + offset) * metres.

    unknown: the value of pixels whose depth is not known, or None where every value is a depth.
    """

    metres: float
    offset: float = 0.0
    unknown: int | None = 0

    @property
    def window(self) -> int:
        """What `normals_from_depth` needs for depth in such steps."""
        return COARSE_WINDOW if self.metres > COARSE else FINE_WINDOW


def read_depth(path: Path, scale: DepthScale | None) -> np.ndarray:
    """(H, W) float32 metres, 0 where unknown, as stored: never turned.

    Whole numbers (8 or 16 bits) mean what `scale` says; floating-point TIFFs hold metres, and nothing known at 0, below 0, or where
    there is no finite number.  ImageError for a file that cannot be read; DataError for one that holds no depth, or whole numbers
    without a scale.
    """
    values = _grey(path)
    if np.issubdtype(values.dtype, np.floating):
        metres = values.astype(np.float32)
        return np.where(np.isfinite(metres) & (metres > 0), metres, np.float32(0))
    if scale is None:
        raise DataError(
            f"{path}: holds whole numbers and their unit is not known; write depth_scale = METRES_PER_VALUE into dataset.toml "
            "(0.001 for millimetres)."
        )
    metres = ((values.astype(np.float32) + scale.offset) * scale.metres).astype(np.float32)
    return metres if scale.unknown is None else np.where(values == scale.unknown, np.float32(0), metres)


def read_normals(path: Path) -> np.ndarray:
    """(H, W, 3) float32 unit vectors, 0 where unknown (black pixels), as stored: never turned.

    From colours: red (right + 1) / 2, green (towards the camera + 1) / 2, blue (1 - down) / 2, each times 255.
    ImageError for a file that cannot be read; DataError for one that holds no colours.
    """
    with opened_image(path) as opened:
        image, stored, remaining = opened.image, opened.orientation, opened.remaining
        check_kind("normals", path, image.format or "", image.mode)
        colours = np.array(image.convert("RGB"))
    if remaining != stored:
        colours = as_stored(colours, stored)
    vectors = colours.astype(np.float32) * np.float32(2 / 255) - 1
    vectors[..., 2] *= -1
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    known = colours.any(axis=-1, keepdims=True) & (length > 0.5)
    return np.where(known, vectors / np.maximum(length, 1e-6), 0).astype(np.float32)


def normals_from_depth(
    depth: np.ndarray, focal_length: tuple[float, float], *, window: int = FINE_WINDOW
) -> np.ndarray:
    """Normals of the planes that fit the points around each pixel best.

    depth: (H, W) metres, 0 where unknown.  focal_length: (horizontal, vertical) of the camera, in pixels; its axis goes through the
    middle of the picture.  window: odd, rows and columns of the points that a plane is laid through.
    Returns (H, W, 3) float32 unit vectors (right, towards the camera, down), 0 where unknown: where the depth is, or that of half
    of the window, or where no plane fits.
    On a plane the inverse of the depth is linear in the picture's coordinates, so that it is a regression with 3 unknowns.
    """
    height, width = depth.shape
    known = depth > 0
    inverse = np.divide(1, depth, out=np.zeros(depth.shape), where=known)
    x = np.broadcast_to((np.arange(width) - (width - 1) / 2) / focal_length[0], depth.shape)
    y = np.broadcast_to(((np.arange(height) - (height - 1) / 2) / focal_length[1])[:, None], depth.shape)
    share, x1, y1, w1 = (_window_sums(values, window) for values in (known, x * known, y * known, inverse))
    count = np.maximum(share, 1)
    # About the means of the window, so that two unknowns are left.
    xx, xy, yy = (
        _window_sums(a * b * known, window) - s * t / count
        for a, b, s, t in ((x, x, x1, x1), (x, y, x1, y1), (y, y, y1, y1))
    )
    xw, yw = (_window_sums(a * inverse, window) - s * w1 / count for a, s in ((x, x1), (y, y1)))
    ww = _window_sums(inverse**2, window) - w1 * w1 / count
    determinant = np.maximum(xx * yy - xy * xy, 1e-18)
    right, down = (yy * xw - xy * yw) / determinant, (xx * yw - xy * xw) / determinant
    forward = (w1 - right * x1 - down * y1) / count
    misfit = np.sqrt(np.maximum(ww - right * xw - down * yw, 0) / count) * count / np.maximum(w1, 1e-9)
    # This gradient points away from the camera, a normal towards it.
    normals = np.stack([-right, forward, -down], axis=-1)
    length = np.linalg.norm(normals, axis=-1)
    fits = known & (share > window * window / 2) & (misfit < MISFIT) & (length > 0)
    return np.where(fits[..., None], normals / np.maximum(length, 1e-12)[..., None], 0).astype(np.float32)


def _window_sums(values: np.ndarray, window: int) -> np.ndarray:
    """(H, W) -> the sum of the window around each pixel; beyond the picture lies nothing, which counts as zeros."""
    margin = window // 2
    padded = np.pad(values.astype(np.float64), ((margin + 1, margin), (margin + 1, margin)))
    sums = padded.cumsum(0).cumsum(1)
    found: np.ndarray = (
        sums[window:, window:] - sums[:-window, window:] - sums[window:, :-window] + sums[:-window, :-window]
    )
    return found


def check_kind(task: str, path: Path, file_format: str, mode: str) -> None:
    """Raise DataError where a picture file of this format and mode, in Pillow's words, holds no depth, or no normals."""
    kept = file_format not in ("JPEG", "MPO")
    if task == "normals" and not (kept and mode in ("RGB", "RGBA")):
        raise DataError(
            f"{path}: is a {file_format} of mode {mode}; normals are expected as the colours of an RGB PNG."
        )
    if task == "depth" and not (kept and (mode in ("L", "I", "F") or mode.startswith("I;"))):
        raise DataError(
            f"{path}: is a {file_format} of mode {mode}; depth is expected as a grey PNG or TIFF of 16 bits, or a "
            "floating-point TIFF in metres."
        )


def _grey(path: Path) -> np.ndarray:
    """(H, W) integers or floats as they are stored."""
    with opened_image(path) as opened:
        image, stored, remaining = opened.image, opened.orientation, opened.remaining
        check_kind("depth", path, image.format or "", image.mode)
        values = np.array(image)
    return as_stored(values, stored) if remaining != stored else values
