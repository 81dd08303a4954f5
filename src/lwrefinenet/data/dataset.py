"""What every data set is here: pictures with masks of one split, labels, and the rule that reads a mask's values."""

from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path
from typing import Protocol

import numpy as np

from lwrefinenet.data.dump_format import DumpFormat
from lwrefinenet.errors import DataError
from lwrefinenet.images import READABLE_SUFFIXES, read_mask, read_picture, upright
from lwrefinenet.labels import LabelSet

Crop = tuple[slice, slice]  # rows, columns


@dataclass(frozen=True)
class Sample:
    """A picture and the mask that belongs to it.

    mask: its file, or the place of a mask that lies in no file of its own: `annotations.json/PICTURE_ID`, for the data
    set's `decode` to understand.
    """

    image: Path
    mask: Path


class LabelledPictures(Protocol):
    """What training and evaluation ask of a data set: one split of one set, or several sets as one.

    parts: the single sets that it is made of.
    """

    @property
    def name(self) -> str: ...
    @property
    def split(self) -> str: ...
    @property
    def labels(self) -> LabelSet: ...
    @property
    def void_rule(self) -> str: ...
    @property
    def licence(self) -> str: ...
    @property
    def parts(self) -> "tuple[SegmentationDataset, ...]": ...
    def __len__(self) -> int: ...
    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]: ...
    def sample(self, index: int) -> Sample: ...


@dataclass(frozen=True)
class SegmentationDataset:
    """One split of a labelled set.

    mask_values: what a stored value means, where it is not simply the class index (void classes, merged ones); values that
    are not in it are errors.
    decode: from a sample's mask to its stored values, (H, W) uint8; a module-level function or an object that can be
    pickled, so that workers can have it.
    crop: the part of every picture that counts, if not the whole.  void_rule: in words, for the protocol of a score.
    dump_format: how predictions are written for those who score them.
    """

    name: str
    split: str
    labels: LabelSet
    samples: tuple[Sample, ...]
    mask_values: Mapping[int, int] = field(default_factory=dict)
    decode: Callable[[Path], np.ndarray] = field(default=read_mask)
    crop: Crop | None = None
    void_rule: str = ""
    licence: str = "unknown"
    dump_format: DumpFormat = field(default_factory=DumpFormat)

    @property
    def parts(self) -> "tuple[SegmentationDataset, ...]":
        return (self,)

    @property
    def images(self) -> tuple[Path, ...]:
        """The picture files, in order."""
        return tuple(sample.image for sample in self.samples)

    @property
    def files(self) -> tuple[Path, ...]:
        """Pictures and masks: what must not be written over."""
        return self.images + tuple(sample.mask for sample in self.samples)

    def __len__(self) -> int:
        return len(self.samples)

    def sample(self, index: int) -> Sample:
        """The files behind a picture."""
        return self.samples[index]

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
        """A mask's values as class indices (H, W) uint8; DataError for a value that is no class."""
        values = self.decode(path)
        table, known = self.value_table()
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

    def value_table(self) -> tuple[np.ndarray, np.ndarray]:
        """(256,) uint8: the class index of every stored value; (256,) bool: whether the value means anything."""
        table = np.full(256, self.labels.ignore_index, dtype=np.uint8)
        known = np.zeros(256, dtype=bool)
        plain = self.mask_values or {index: index for index in range(len(self.labels))}
        for value, meaning in {**plain, self.labels.ignore_index: self.labels.ignore_index}.items():
            table[value], known[value] = meaning, True
        return table, known


@dataclass(frozen=True)
class ConcatenatedDataset:
    """Several sets with the same classes, one after the other, as one; DataError where their classes differ."""

    parts: tuple[SegmentationDataset, ...]

    def __post_init__(self) -> None:
        first, *others = self.parts
        for other in others:
            if other.labels.class_names != first.labels.class_names:
                raise DataError(
                    f"{first.name} has {len(first.labels)} classes and {other.name} has {len(other.labels)}, or they differ in "
                    "name or order; only sets with the same classes can be learnt from together."
                )
            if other.labels.ignore_index != first.labels.ignore_index:
                raise DataError(
                    f"{first.name} ignores {first.labels.ignore_index} and {other.name} {other.labels.ignore_index}; "
                    "sets that are learnt from together need the same ignore_index."
                )

    @property
    def name(self) -> str:
        return "+".join(part.name for part in self.parts)

    @property
    def split(self) -> str:
        return "+".join(dict.fromkeys(part.split for part in self.parts))

    @property
    def labels(self) -> LabelSet:
        return self.parts[0].labels

    @property
    def void_rule(self) -> str:
        return "; ".join(dict.fromkeys(part.void_rule for part in self.parts))

    @property
    def licence(self) -> str:
        return "; ".join(dict.fromkeys(part.licence for part in self.parts))

    def __len__(self) -> int:
        return sum(map(len, self.parts))

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        part, place = self._place(index)
        return part[place]

    def sample(self, index: int) -> Sample:
        """The files behind a picture."""
        part, place = self._place(index)
        return part.sample(place)

    def _place(self, index: int) -> tuple[SegmentationDataset, int]:
        if not 0 <= index < len(self):
            raise IndexError(index)
        ends = list(accumulate(map(len, self.parts)))
        number = bisect_right(ends, index)
        return self.parts[number], index - (ends[number - 1] if number else 0)


def concatenated(parts: Sequence[SegmentationDataset]) -> LabelledPictures:
    """One set as it is, several as one."""
    return parts[0] if len(parts) == 1 else ConcatenatedDataset(tuple(parts))


def paired_by_stem(images: Path, masks: Path, *, or_list: Path | None = None) -> tuple[Sample, ...]:
    """The pictures of one folder with the masks `STEM.png` of another, sorted; DataError for a folder or mask that is missing.

    or_list: the list that would have served as well, for the message.
    """
    for folder in (images, masks):
        if not folder.is_dir():
            instead = f", or a list of them in {or_list}" if or_list else ""
            raise DataError(
                f"{folder}: no such folder; pictures are expected in {images} and masks in {masks}{instead}."
            )
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
