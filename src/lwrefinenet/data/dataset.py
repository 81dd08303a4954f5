"""What every data set is here: pictures with masks of one split, labels, and the rule that reads a mask's values."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from lwrefinenet.errors import DataError
from lwrefinenet.images import READABLE_SUFFIXES, read_mask, read_picture, upright
from lwrefinenet.labels import LabelSet

Crop = tuple[slice, slice]  # rows, columns


@dataclass(frozen=True)
class Sample:
    """A picture and the mask that belongs to it."""

    image: Path
    mask: Path


@dataclass(frozen=True)
class SegmentationDataset:
    """One split of a labelled set.

    mask_values: what a value in the mask files means, where it is not simply the class index (void classes, merged ones).
    crop: the part of every picture that counts, if not the whole.  void_rule: in words, for the protocol of a score.
    """

    name: str
    split: str
    labels: LabelSet
    samples: tuple[Sample, ...]
    mask_values: Mapping[int, int] = field(default_factory=dict)
    crop: Crop | None = None
    void_rule: str = ""
    licence: str = "unknown"

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """The picture (H, W, 3) uint8 RGB, upright, and its mask (H, W) uint8: class indices and the ignore index.

        DataError, naming the file, for a mask of another size or with a value that is no class.
        """
        sample = self.samples[index]
        picture = read_picture(sample.image)
        mask = self.read_mask(sample.mask)
        if mask.shape != picture.pixels.shape[:2]:
            mask = upright(mask, picture.orientation)
        if mask.shape != picture.pixels.shape[:2]:
            raise DataError(
                f"{sample.mask}: the mask is {_size(mask)}, its picture {sample.image.name} is {_size(picture.pixels)}; "
                "a mask has one value per pixel of its picture."
            )
        pixels = picture.pixels
        return (pixels, mask) if self.crop is None else (pixels[self.crop], mask[self.crop])

    def read_mask(self, path: Path) -> np.ndarray:
        """A mask file's values as class indices (H, W) uint8; DataError for a value that is no class."""
        values = read_mask(path)
        table, known = self._value_table()
        if not known[values].all():
            unknown = sorted(set(np.unique(values).tolist()) - set(np.flatnonzero(known).tolist()))
            count = int((~known[values]).sum())
            raise DataError(
                f"{path}: mask holds value {', '.join(map(str, unknown[:5]))} ({count} pixels), but {self.labels.name} has "
                f"classes 0-{len(self.labels) - 1} and ignore index {self.labels.ignore_index}. Correct the mask or the "
                "class_names."
            )
        mask: np.ndarray = table[values]
        return mask

    def _value_table(self) -> tuple[np.ndarray, np.ndarray]:
        table = np.full(256, self.labels.ignore_index, dtype=np.uint8)
        known = np.zeros(256, dtype=bool)
        plain = self.mask_values or {index: index for index in range(len(self.labels))}
        for value, meaning in {**plain, self.labels.ignore_index: self.labels.ignore_index}.items():
            table[value], known[value] = meaning, True
        return table, known


def paired_by_stem(images: Path, masks: Path) -> tuple[Sample, ...]:
    """The pictures of one folder with the masks `STEM.png` of another, sorted; DataError for a folder or mask that is missing."""
    for folder in (images, masks):
        if not folder.is_dir():
            raise DataError(f"{folder}: no such folder; pictures are expected in {images} and masks in {masks}.")
    pictures = sorted(path for path in images.iterdir() if path.suffix.lower() in READABLE_SUFFIXES)
    samples = tuple(Sample(path, masks / f"{path.stem}.png") for path in pictures)
    if not samples:
        raise DataError(f"{images}: holds no picture ({', '.join(READABLE_SUFFIXES)}).")
    if lacking := [sample for sample in samples if not sample.mask.is_file()]:
        raise DataError(
            f"{lacking[0].image}: has no mask; expected {lacking[0].mask}. {len(lacking)} of {len(samples)} pictures lack one."
        )
    return samples


def _size(array: np.ndarray) -> str:
    return f"{array.shape[1]}x{array.shape[0]}"
