"""Masks that are not index pictures: arrays in MATLAB files, and pictures that show classes as colours."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lwrefinenet.errors import DataError, UsageError
from lwrefinenet.images import read_header, read_picture
from lwrefinenet.labels import Colour


@dataclass(frozen=True)
class MatMask:
    """Reads a mask from a MATLAB file by scipy; UsageError at once where scipy is missing.

    place: where it lies: a variable, then fields of structs.
    meanings: what a stored value becomes, where values go beyond 255; the others are errors.  Without it they stay.
    """

    place: tuple[str, ...]
    meanings: Mapping[int, int] | None = None

    def __post_init__(self) -> None:
        _loadmat()

    def __call__(self, path: Path) -> np.ndarray:
        """(H, W) uint8; DataError for a file that is damaged or holds no such array."""
        try:
            value: Any = _loadmat()(path, appendmat=False, variable_names=[self.place[0]])[self.place[0]]
            for name in self.place[1:]:
                value = value[name][0, 0]
        except Exception as error:  # a damaged file makes scipy raise a dozen different errors
            raise DataError(
                f"{path}: no mask can be read from it ({error}); expected a MATLAB file that holds {'.'.join(self.place)}."
            ) from error
        values = np.asarray(value)
        if values.ndim != 2 or not np.issubdtype(values.dtype, np.integer):
            raise DataError(
                f"{path}: {'.'.join(self.place)} is {values.dtype} of shape {values.shape}; expected (H, W) integers."
            )
        if self.meanings is not None:
            return _translated(values, self.meanings, path)
        return _translated(values, {value: value for value in range(256)}, path)


@dataclass(frozen=True)
class ColouredMask:
    """Reads a mask that shows each value as a colour.  colours: RGB (0-255) -> the value that it stands for."""

    colours: Mapping[Colour, int]

    def __call__(self, path: Path) -> np.ndarray:
        """(H, W) uint8; DataError for a colour that stands for nothing."""
        packed = _packed(read_picture(path).pixels)
        known = _packed(np.array(list(self.colours), dtype=np.uint8))
        order = np.argsort(known)
        places = np.searchsorted(known[order], packed).clip(max=len(known) - 1)
        found = known[order][places] == packed
        if not found.all():
            strange = np.unique(packed[~found])[:5].tolist()
            names = ", ".join(str((code >> 16, code >> 8 & 255, code & 255)) for code in strange)
            raise DataError(
                f"{path}: holds the colour {names} ({int((~found).sum())} pixels), which is none of the "
                f"{len(self.colours)} colours of this data set."
            )
        values: np.ndarray = np.array(list(self.colours.values()), dtype=np.uint8)[order][places]
        return values


@dataclass(frozen=True)
class NothingLabelled:
    """Stands for masks that a data set does not have: every pixel holds the ignore index, as many as the file has."""

    ignore_index: int

    def __call__(self, path: Path) -> np.ndarray:
        """(H, W) uint8, as large as the picture file `path`."""
        return np.full(read_header(path).size, self.ignore_index, dtype=np.uint8)


def _translated(values: np.ndarray, meanings: Mapping[int, int], path: Path) -> np.ndarray:
    outside = max(meanings) + 1
    table = np.full(outside + 1, -1, dtype=np.int16)
    table[list(meanings)] = list(meanings.values())
    mask = table[np.where((values >= 0) & (values < outside), values, outside)]
    if (mask < 0).any():
        unknown = np.unique(values[mask < 0])[:5].tolist()
        raise DataError(
            f"{path}: mask holds value {', '.join(map(str, unknown))} ({int((mask < 0).sum())} pixels), "
            "which means nothing in this data set."
        )
    return mask.astype(np.uint8)


def _packed(pixels: np.ndarray) -> np.ndarray:
    """(..., 3) RGB as one number per pixel."""
    packed: np.ndarray = pixels.astype(np.int32) @ np.array([65536, 256, 1], dtype=np.int32)
    return packed


def _loadmat() -> Any:
    try:
        from scipy.io import loadmat
    except ModuleNotFoundError as error:
        raise UsageError("masks in MATLAB files need scipy: pip install 'lwrefinenet[datasets]'.") from error
    return loadmat
