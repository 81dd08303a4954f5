"""Pictures and masks as others lay them out, for the tests of conversion."""

from pathlib import Path

import numpy as np
from PIL import Image

from lwrefinenet.data.folder import folder_dataset

LEFT, RIGHT = (200, 30, 30), (30, 30, 200)


def picture_file(path: Path, size: tuple[int, int] = (6, 8), *, orientation: int = 1) -> Path:
    """A PNG of `size` (H, W) as stored, left half one colour and right half another, with an EXIF orientation."""
    pixels = np.empty((*size, 3), np.uint8)
    pixels[:, : size[1] // 2], pixels[:, size[1] // 2 :] = LEFT, RIGHT
    exif = Image.Exif()
    exif[0x0112] = orientation
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, exif=exif)
    return path


def mask_file(path: Path, values, mode: str | None = None, palette=None, **options) -> Path:
    """A mask file with these values."""
    path.parent.mkdir(parents=True, exist_ok=True)
    array = np.array(values, dtype=np.int32 if mode == "I;16" else np.uint8)
    image = Image.fromarray(array.astype(np.uint16) if mode == "I;16" else array)
    if palette is not None:
        image.putpalette([channel for colour in palette for channel in colour])
    image.save(path, **options)
    return path


def pairs_of(root: Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Every picture and mask of a converted folder, by "split/stem", as the training reads them."""
    found = {}
    for split in sorted(path.name for path in (root / "images").iterdir()):
        dataset = folder_dataset(root, split)
        for index in range(len(dataset)):
            found[f"{split}/{dataset.sample(index).image.stem}"] = dataset[index]
    return found


def left_half_painted(pair: tuple[np.ndarray, np.ndarray]) -> bool:
    """Whether the mask is 1 exactly where the picture shows the left colour."""
    pixels, mask = pair
    return bool(np.array_equal(mask == 1, (pixels == LEFT).all(axis=2)) and mask.any())
