"""What every data set is here: pictures with masks of one split, labels, and the rule that reads a mask's values."""

from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate
from pathlib import Path
from typing import Protocol

import numpy as np

from lwrefinenet.data.decoders import NothingLabelled
from lwrefinenet.data.dump_format import DumpFormat
from lwrefinenet.data.geometry import FINE_WINDOW, DepthScale, check_kind, normals_from_depth, read_depth, read_normals
from lwrefinenet.errors import DataError
from lwrefinenet.images import READABLE_SUFFIXES, is_picture_name, read_header, read_mask, read_picture, upright
from lwrefinenet.labels import LabelSet

Crop = tuple[slice, slice]  # rows, columns


@dataclass(frozen=True)
class Sample:
    """A picture and the mask that belongs to it.

    mask: its file, or the place of a mask that lies in no file of its own: `annotations.json/PICTURE_ID`, for the data
    set's `decode` to understand.  depth, normals: their files, where the data set has them.
    """

    image: Path
    mask: Path
    depth: Path | None = None
    normals: Path | None = None


@dataclass(frozen=True, eq=False)
class Labelled:
    """A picture and what is known of its pixels, upright.

    pixels: (H, W, 3) uint8 RGB.  mask: (H, W) uint8 class indices and the ignore index.  depth: (H, W) float32 metres, 0 where
    unknown.  normals: (H, W, 3) float32 unit vectors (right, towards the camera, down), 0 where unknown.  None: nothing is known.
    """

    pixels: np.ndarray
    mask: np.ndarray
    depth: np.ndarray | None = None
    normals: np.ndarray | None = None


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
    def labelled(self, index: int, tasks: Sequence[str]) -> Labelled: ...
    def sample(self, index: int) -> Sample: ...


@dataclass(frozen=True)
class SegmentationDataset:
    """One split of a labelled set.

    mask_values: what a stored value means, where it is not simply the class index (void classes, merged ones); values that
    are not in it are errors.
    decode: from a sample's mask to its stored values, (H, W) uint8; a module-level function or an object that can be
    pickled, so that workers can have it.
    crop: the part of every picture that counts, if not the whole.  void_rule: in words, for the protocol of a score.
    depth_scale: what the numbers in depth files mean, where they are whole numbers.
    focal_length: (horizontal, vertical) in pixels of the pictures, None: unknown.  normals_from_depth: whether normals are derived
    from the depth of pictures that have no others.
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
    depth_scale: DepthScale | None = None
    focal_length: tuple[float, float] | None = None
    normals_from_depth: bool = False
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
        """Pictures, masks, depth and normals: what must not be written over."""
        known = (path for sample in self.samples for path in (sample.mask, sample.depth, sample.normals))
        return self.images + tuple(path for path in known if path is not None)

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

    def labelled(self, index: int, tasks: Sequence[str]) -> Labelled:
        """The picture, its mask, and what else is known for these tasks ("depth", "normals").

        DataError, naming the file, for what cannot be read or does not fit the picture.
        """
        sample = self.samples[index]
        pixels, mask = self[index]
        derived = "normals" in tasks and sample.normals is None and self.normals_from_depth
        depth = normals = None
        if sample.depth is not None and ("depth" in tasks or derived):
            depth = self._aligned(read_depth(sample.depth, self.depth_scale), sample, sample.depth)
        if sample.normals is not None and "normals" in tasks:
            normals = self._aligned(read_normals(sample.normals), sample, sample.normals)
        elif depth is not None and derived:
            window = self.depth_scale.window if self.depth_scale else FINE_WINDOW
            normals = normals_from_depth(depth, self._known_focal_length(sample), window=window)
        return Labelled(pixels, mask, depth if "depth" in tasks else None, normals)

    def has(self, task: str) -> bool:
        """Whether any picture has what this task ("segmentation", "depth", "normals") learns from."""
        with_depth = any(sample.depth is not None for sample in self.samples)
        if task == "normals":
            return any(sample.normals is not None for sample in self.samples) or (
                self.normals_from_depth and with_depth
            )
        return with_depth if task == "depth" else not isinstance(self.decode, NothingLabelled)

    def check_files(self, task: str) -> None:
        """Raise DataError for a file of this task ("depth", "normals") that is missing, of another kind, or of another size than
        its picture, from their headers; one of them is read as learning will read it, its unit and the focal length included.
        """
        with_files = [sample for sample in self.samples if self._file(sample, task) is not None]
        for sample in with_files:
            path, derived = self._file(sample, task), task == "normals" and sample.normals is None
            assert path is not None
            if not path.is_file():
                raise DataError(f"{path}: no such file, but it is to be the {task} of {sample.image.name}.")
            header, expected = read_header(path), read_header(sample.image).size
            check_kind("depth" if derived else task, path, header.format, header.mode)
            if header.size not in (expected, expected[::-1]):
                raise _misfit(path, header.size, sample, expected)
        for sample in with_files[:1]:
            self.labelled(self.samples.index(sample), (task,))

    def _file(self, sample: Sample, task: str) -> Path | None:
        """What the task learns from: its own file, or for normals that are derived that of the depth."""
        if task == "depth":
            return sample.depth
        return sample.normals or (sample.depth if self.normals_from_depth else None)

    def _aligned(self, values: np.ndarray, sample: Sample, path: Path) -> np.ndarray:
        """What was read of `path`, turned and cut like the picture."""
        header = read_header(sample.image)
        if values.shape[:2] != header.upright_size:
            values = upright(values, header.orientation)
        if values.shape[:2] != header.upright_size:
            raise _misfit(path, values.shape, sample, header.upright_size)
        return values if self.crop is None else values[self.crop]

    def _known_focal_length(self, sample: Sample) -> tuple[float, float]:
        if self.focal_length is None:
            raise DataError(
                f"{sample.depth}: normals can be derived from depth only where the camera's focal length is known; write "
                "focal_length = PIXELS into dataset.toml, or give normals/."
            )
        return self.focal_length

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

    def labelled(self, index: int, tasks: Sequence[str]) -> Labelled:
        """As `SegmentationDataset.labelled`."""
        part, place = self._place(index)
        return part.labelled(place, tasks)

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


def deriving_normals(pictures: LabelledPictures) -> LabelledPictures:
    """The same set, with normals from the depth of pictures that have no others."""
    return concatenated([replace(part, normals_from_depth=True) for part in pictures.parts])


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
    pictures = sorted(filter(is_picture_name, images.iterdir()))
    samples = tuple(Sample(path, masks / f"{path.stem}.png") for path in pictures)
    if not samples:
        raise DataError(f"{images}: holds no picture ({', '.join(READABLE_SUFFIXES)}).")
    if lacking := [sample for sample in samples if not sample.mask.is_file()]:
        raise DataError(
            f"{lacking[0].image}: has no mask; expected {lacking[0].mask}. {len(lacking)} of {len(samples)} pictures lack one."
        )
    return samples


def _misfit(path: Path, found: Sequence[int], sample: Sample, expected: Sequence[int]) -> DataError:
    """found, expected: (height, width) of depth or normals, and of their picture."""
    return DataError(
        f"{path}: is {found[1]}x{found[0]}, its picture {sample.image.name} is {expected[1]}x{expected[0]}; expected one value "
        "for each pixel of the picture."
    )


def _size(array: np.ndarray) -> str:
    return f"{array.shape[1]}x{array.shape[0]}"
