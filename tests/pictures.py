"""Small files in the layouts of data sets, for tests of their readers."""

from pathlib import Path

import numpy as np
from PIL import Image

SIZE = (8, 8)


def write_picture(path: Path, size: tuple[int, int] = SIZE) -> Path:
    """A grey picture."""
    return write_array(path, np.full((*size, 3), 90, np.uint8))


def noise_in_blocks(height: int, width: int) -> np.ndarray:
    """(H, W, 3) uint8: blocks of 8x8 in random colours, the same ones every time."""
    noise = np.random.default_rng(0).integers(0, 256, (height // 8 + 1, width // 8 + 1, 3), dtype=np.uint8)
    return noise.repeat(8, axis=0).repeat(8, axis=1)[:height, :width].copy()


def write_mask(path: Path, *values: int) -> np.ndarray:
    """An 8x8 index PNG with these values in columns from the left; the last one fills the rest."""
    mask = columns(*values)
    write_array(path, mask)
    return mask


def columns(*values: int) -> np.ndarray:
    """(8, 8): these values in columns from the left; the last one fills the rest."""
    row = [*values, *[values[-1]] * (SIZE[1] - len(values))]
    return np.array([row] * SIZE[0], dtype=np.uint8)


def write_array(path: Path, array: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)
    return path


def write_list(path: Path, *lines: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines))
    return path
