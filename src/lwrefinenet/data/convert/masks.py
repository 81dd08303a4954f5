"""Mask files whose colours or palette indices stand for classes, beside their pictures in `images/` and `masks/`."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from lwrefinenet.data.convert.colours import ColourTable, count_colours, indices_of, kept_fields, read_colours
from lwrefinenet.data.convert.frames import set_upright
from lwrefinenet.data.convert.pairs import Pair, find_pairs, items_of, label_set, source_description
from lwrefinenet.data.convert.pixels import colours_and_alpha
from lwrefinenet.data.convert.target import Drawn, Source
from lwrefinenet.data.folder import DESCRIPTION
from lwrefinenet.errors import DataError, UsageError
from lwrefinenet.images import OpenedImage, opened_image, read_mask
from lwrefinenet.labels import Colour, LabelSet, voc_palette

ALPHA_DROPPED = (
    "mask with alpha: dropped, the colours under it count (--transparent-ignore would ignore transparent pixels)"
)
TRANSPARENT = "mask with transparent pixels: ignored, as asked"


def read_rgb(
    root: Path,
    *,
    classes: Sequence[str] | None = None,
    colours: Path | None = None,
    tolerance: int = 0,
    transparent_ignore: bool = False,
) -> Source:
    """Masks whose colours stand for classes: RGB, RGBA, palette (by its colours) or grey.

    The table is the file `colours`, else `root/dataset.toml` with class_names and palette. Every colour must be in it,
    exactly or, where `tolerance` allows, within that distance. Alpha is dropped, unless transparent pixels are to be
    ignored. A mask with an EXIF orientation of its own is set upright by it.
    """
    pairs = find_pairs(root)
    table = _table(root, colours, classes)
    if table is None:
        raise UsageError(
            f"{root}: nothing says which colour is which class; give the colours names in a file and add --colours FILE "
            "(--write-colours FILE writes one with the colours found)."
        )
    draw = partial(_by_colour, table=table, tolerance=tolerance, transparent_ignore=transparent_ignore)
    return Source(table.labels, items_of(pairs, draw), table.extra)


def found_colours(root: Path, watch: Callable[[list[Pair]], Iterable[Pair]] = iter) -> dict[Colour, int]:
    """The colours of all masks under `root/masks` with their numbers of pixels; `watch` sees each go by (a progress bar)."""
    counts: Counter[Colour] = Counter()
    for pair in watch(find_pairs(root)):
        with opened_image(pair.mask) as image:
            counts.update(count_colours(colours_and_alpha(image)[0]))
    return dict(counts)


def has_colour_table(root: Path) -> bool:
    """Whether `root/dataset.toml` says which colour is which class."""
    return "palette" in source_description(root)


def read_palette(
    root: Path, *, classes: Sequence[str] | None = None, colours: Path | None = None, tolerance: int = 0
) -> Source:
    """Index PNGs: by their palette colours where a table is given (`colours`, or a palette in dataset.toml), else by index.

    Names of the indices come from `classes` or dataset.toml; without them a UsageError lists the indices found.
    Index 255 (or dataset.toml's ignore_index) counts nowhere.
    """
    if colours is not None or has_colour_table(root):
        return read_rgb(root, classes=classes, colours=colours, tolerance=tolerance)
    pairs = find_pairs(root)
    given = source_description(root)
    ignore_index = given.get("ignore_index", 255)
    names = list(classes or given.get("class_names", ()))
    if not names:
        raise UsageError(_indices_without_names(root, pairs, ignore_index))
    labels = label_set(root, names, _palette_of(pairs[0].mask, len(names)), ignore_index)
    return Source(labels, items_of(pairs, partial(_by_index, labels=labels)), kept_fields(given))


def _by_colour(picture: OpenedImage, path: Path, table: ColourTable, tolerance: int, transparent_ignore: bool) -> Drawn:
    with opened_image(path) as image:
        colours, alpha = colours_and_alpha(image)
    indices = np.full(colours.shape[:2], table.labels.ignore_index, np.uint8)
    opaque = alpha > 0 if transparent_ignore else np.ones_like(alpha, dtype=bool)
    if opaque.any():
        indices[opaque] = indices_of(colours[opaque][None], table, str(path), tolerance)[0]
    noticed = () if (alpha == 255).all() else (TRANSPARENT if transparent_ignore else ALPHA_DROPPED,)
    mask, notices = set_upright(indices, picture, str(path), "the mask is")
    return Drawn(mask, (*noticed, *notices))


def _by_index(picture: OpenedImage, path: Path, labels: LabelSet) -> Drawn:
    values = read_mask(path)
    wrong = (values >= len(labels)) & (values != labels.ignore_index)
    if wrong.any():
        found = np.unique(values[wrong]).tolist()
        raise DataError(
            f"{path}: holds index {', '.join(map(str, found[:5]))} ({int(wrong.sum())} pixels), but {len(labels)} classes are "
            f"named, 0-{len(labels) - 1}, and {labels.ignore_index} counts nowhere. Name all classes with --classes."
        )
    return Drawn(*set_upright(values, picture, str(path), "the mask is"))


def _table(root: Path, colours: Path | None, classes: Sequence[str] | None) -> ColourTable | None:
    if colours is not None:
        return read_colours(colours, classes)
    return read_colours(root / DESCRIPTION, classes) if has_colour_table(root) else None


def _palette_of(path: Path, num_classes: int) -> tuple[Colour, ...]:
    """The colours of the first indices in a palette file; the VOC palette for a grey one or one with fewer colours."""
    with opened_image(path) as image:
        flat = image.image.getpalette() or []
    if len(flat) < 3 * num_classes:
        return voc_palette(num_classes)
    return tuple((flat[3 * index], flat[3 * index + 1], flat[3 * index + 2]) for index in range(num_classes))


def _indices_without_names(root: Path, pairs: Sequence[Pair], ignore_index: int) -> str:
    counts = np.sum([np.bincount(read_mask(pair.mask).ravel(), minlength=256) for pair in pairs], axis=0)
    found = np.flatnonzero(counts)
    shown = ", ".join(f"{index} ({100 * counts[index] / counts.sum():.1f} %)" for index in found)
    last = max((index for index in found.tolist() if index != ignore_index), default=0)
    names = ",".join(f"class_{index}" for index in range(last + 1))
    return (
        f"{root}: the masks hold the indices {shown}, and nothing names them; {ignore_index} would count nowhere. "
        f"Name them in order: --classes {names}"
    )
