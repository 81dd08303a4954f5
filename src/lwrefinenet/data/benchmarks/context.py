"""PASCAL Context with 60 or 59 classes, from the original release or from its conversion to PNGs."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import PIL.Image

from lwrefinenet.data.benchmarks.pascal import LICENCE, pictures_folder
from lwrefinenet.data.dataset import Sample, SegmentationDataset
from lwrefinenet.data.decoders import ColouredMask, MatMask
from lwrefinenet.data.lists import check_split, first_folder, listed, read_lines, read_stems
from lwrefinenet.errors import DataError
from lwrefinenet.images import read_mask
from lwrefinenet.labels import CONTEXT, CONTEXT_59, voc_palette

SPLITS = ("train", "val", "trainval")
PNGS, MATS, NAMES = "SegmentationClassContext", "trainval", "labels.txt"
LISTS = (Path("ImageSets") / "SegmentationContext", Path("ImageSets") / "Main", Path())
VOID = CONTEXT.ignore_index
PUBLISHED_COLOURS = {**{c: i for i, c in enumerate(CONTEXT.palette)}, voc_palette(256)[VOID]: VOID}
ALPHABETICAL = (CONTEXT.class_names[0], *sorted(CONTEXT.class_names[1:]))  # the order in which the PNGs are numbered


def context(root: Path, split: str) -> SegmentationDataset:
    """PASCAL Context, background and 59 classes, in the order of the published checkpoints (`labels.CONTEXT`).

    Masks, each mapped by class name: `SegmentationClassContext/*.png`, numbered in the alphabetical order of other toolkits
    or RGB in the published colour map (told by the first one's mode), with `ImageSets/SegmentationContext/SPLIT.txt`; or the
    original release: `trainval/*.mat` (LabelMap) with `labels.txt` of 459 names, all others of which count as background.
    Lists of the release are VOC 2010's `ImageSets/Main/SPLIT.txt` (4998 / 5105).  Pictures: JPEGImages of VOC 2010.
    R. Mottaghi et al., "The role of context for object detection and semantic segmentation in the wild", CVPR 2014.
    """
    return _context(root, split, with_background=True)


def context59(root: Path, split: str) -> SegmentationDataset:
    """As `context`, with its background ignored and the other classes numbered from 0."""
    return _context(root, split, with_background=False)


def is_context(root: Path) -> bool:
    """Whether masks of PASCAL Context lie here or in a VOC 2010 folder."""
    return _masks(root) is not None


def _context(root: Path, split: str, *, with_background: bool) -> SegmentationDataset:
    check_split(split, SPLITS, root)
    masks, pictures = _masks(root), pictures_folder(root)
    if masks is None or pictures is None:
        raise DataError(
            f"{root}: expected {PNGS}, or {MATS} with {NAMES}, and JPEGImages, here or in VOC2010 or VOCdevkit/VOC2010."
        )
    names = _list(split, (masks.parent, pictures.parent))
    suffix = ".png" if masks.name == PNGS else ".mat"
    samples = listed((Sample(pictures / f"{x}.jpg", masks / f"{x}{suffix}") for x in read_stems(names)), names)
    decode, classes = _reading(samples[0].mask)
    return SegmentationDataset(
        name="context" if with_background else "context59",
        split=split,
        labels=CONTEXT if with_background else CONTEXT_59,
        samples=samples,
        decode=decode,
        mask_values=classes
        if with_background
        else {value: index - 1 if index else VOID for value, index in classes.items()},
        void_rule="value 255 ignored" if with_background else "background ignored",
        licence=LICENCE,
    )


def _reading(first: Path) -> tuple[Callable[[Path], np.ndarray], dict[int, int]]:
    """How the masks of a folder are read, judged by its first; and the class (of 60) of every value that this gives."""
    in_order = {index: index for index in range(len(CONTEXT))}
    if first.suffix == ".mat":
        return MatMask(("LabelMap",), _released_numbers(first.parent.parent / NAMES)), in_order
    if _is_coloured(first):
        return ColouredMask(PUBLISHED_COLOURS), in_order
    return read_mask, {value: CONTEXT.class_names.index(name) for value, name in enumerate(ALPHABETICAL)}


def _released_numbers(path: Path) -> dict[int, int]:
    """The class of every number of the release, by the names in `labels.txt` (`1: accordion`); 0 where it is none of ours."""
    numbers = {0: 0}
    for line in read_lines(path):
        number, _, name = line.partition(":")
        if not number.strip().isdigit():
            raise DataError(f"{path}: a line is {line!r}; expected NUMBER: NAME.")
        name = name.strip()
        numbers[int(number)] = CONTEXT.class_names.index(name) if name in CONTEXT.class_names else 0
    if lacking := set(range(len(CONTEXT))) - set(numbers.values()):
        raise DataError(f"{path}: lacks {CONTEXT.class_names[min(lacking)]!r}; expected the names of the 459 classes.")
    return numbers


def _is_coloured(path: Path) -> bool:
    try:
        with PIL.Image.open(path) as image:
            return image.mode in ("RGB", "RGBA")
    except OSError as error:
        raise DataError(f"{path}: cannot be read as a picture ({error}).") from error


def _masks(root: Path) -> Path | None:
    """The folder of PNGs, or else of the release's files."""
    places = (root, root / "VOC2010", root / "VOCdevkit" / "VOC2010")
    released = first_folder(places, holding=(MATS, NAMES))
    return first_folder(place / PNGS for place in places) or (released and released / MATS)


def _list(split: str, folders: tuple[Path, Path]) -> Path:
    paths = [folder / place / f"{split}.txt" for place in LISTS for folder in dict.fromkeys(folders)]
    found = next(filter(Path.is_file, paths), None)
    if found is None:
        raise DataError(
            f"{paths[0]}: no such list of the split's pictures; looked for {', '.join(map(str, paths[1:]))} too."
        )
    return found
