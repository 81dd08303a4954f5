"""Finding pictures and their mask files under `images/` and `masks/`, with or without split folders."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from lwrefinenet.data.convert.splits import split_named
from lwrefinenet.data.convert.target import Drawn, Item
from lwrefinenet.data.folder import DESCRIPTION
from lwrefinenet.errors import DataError, UsageError
from lwrefinenet.files import read_toml
from lwrefinenet.images import is_picture_name
from lwrefinenet.labels import Colour, LabelSet

ENDINGS = ("", "_mask", "_L")  # Carvana and our own predict, CamVid


@dataclass(frozen=True)
class Pair:
    """A picture, its mask file, and the split folder that holds them, if any."""

    split: str | None
    picture: Path
    mask: Path


def find_pairs(root: Path) -> list[Pair]:
    """Every picture under `root/images` with the mask of the same stem (also `STEM_mask`, `STEM_L`) under `root/masks`.

    Split folders are train, val (also valid, validation) and test. UsageError for a folder that is not there; DataError for
    a picture without mask, a mask without picture, two masks for one picture, or other folders than splits.  Test pictures
    without a folder of masks are left out: nothing of them is to be converted.
    """
    pictures, masks = root / "images", root / "masks"
    for folder in (root, pictures, masks):
        if not folder.is_dir():
            raise UsageError(
                f"{folder}: no such folder; expected {pictures} and {masks}, with or without train and val in them."
            )
    folders = sorted(path for path in pictures.iterdir() if path.is_dir() and not path.name.startswith("."))
    if not folders:
        return _paired(pictures, masks, None)
    if strange := [path for path in folders if split_named(path.name) is None]:
        raise DataError(f"{strange[0]}: is no split; the folders in {pictures} may be called train, val and test.")
    if loose := [path for path in pictures.iterdir() if _is_picture(path)]:
        raise DataError(
            f"{loose[0]}: lies beside the folders {', '.join(path.name for path in folders)}; move it into one."
        )
    labelled = [path for path in folders if split_named(path.name) != "test" or (masks / path.name).is_dir()]
    return [pair for folder in labelled for pair in _paired(folder, masks / folder.name, split_named(folder.name))]


def items_of(pairs: Sequence[Pair], draw: Callable[..., Drawn]) -> tuple[Item, ...]:
    """The pairs as items whose masks are drawn by `draw(picture, path=mask file)`."""
    return tuple(Item(pair.picture.stem, pair.split, pair.picture, partial(draw, path=pair.mask)) for pair in pairs)


def source_description(root: Path) -> dict[str, Any]:
    """The dataset.toml of a source, empty where there is none; DataError where it is none that we know."""
    path = root / DESCRIPTION
    found = read_toml(path, DataError) if path.is_file() else {}
    names = found.get("class_names", [])
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise DataError(
            f'{path}: class_names must be a list of names, class_names = ["background", ...]; got {names!r}.'
        )
    return found


def label_set(root: Path, names: Sequence[str], palette: tuple[Colour, ...], ignore_index: int) -> LabelSet:
    """A label set named after the folder; UsageError for names or colours that make none."""
    try:
        return LabelSet(root.resolve().name, tuple(names), palette, ignore_index)
    except (ValueError, TypeError) as error:
        raise UsageError(f"{root}: {error}") from error


def _paired(pictures: Path, masks: Path, split: str | None) -> list[Pair]:
    if not masks.is_dir():
        raise DataError(f"{masks}: no such folder; it should hold the masks of {pictures}.")
    by_stem: dict[str, list[Path]] = {}
    for path in sorted(filter(_is_picture, masks.iterdir())):
        by_stem.setdefault(path.stem, []).append(path)
    pairs = [
        Pair(split, picture, _mask_of(picture, by_stem, masks))
        for picture in sorted(filter(_is_picture, pictures.iterdir()))
    ]
    used = {pair.mask for pair in pairs}
    if unused := [path for paths in by_stem.values() for path in paths if path not in used]:
        raise DataError(
            f"{unused[0]}: is the mask of no picture in {pictures} ({len(unused)} such); bring the pictures or remove the masks."
        )
    return pairs


def _mask_of(picture: Path, by_stem: dict[str, list[Path]], masks: Path) -> Path:
    found = next((paths for ending in ENDINGS if (paths := by_stem.get(picture.stem + ending))), [])
    if not found:
        raise DataError(f"{picture}: has no mask; expected {masks / picture.stem}.png.")
    if len(found) > 1:
        raise DataError(f"{picture}: has several masks, {found[0].name} and {found[1].name}; remove one.")
    return found[0]


def _is_picture(path: Path) -> bool:
    return is_picture_name(path) and path.is_file()
