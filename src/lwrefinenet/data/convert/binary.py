"""Masks of two values, 0 and one other, beside their pictures in `images/` and `masks/`."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

from lwrefinenet.data.convert.colours import colour_of
from lwrefinenet.data.convert.frames import set_upright
from lwrefinenet.data.convert.pairs import find_pairs, items_of, label_set, source_description
from lwrefinenet.data.convert.pixels import colours_and_alpha, plain_values
from lwrefinenet.data.convert.target import Drawn, Source
from lwrefinenet.errors import DataError, UsageError
from lwrefinenet.images import OpenedImage, opened_image
from lwrefinenet.labels import voc_palette


def read_binary(root: Path, *, classes: Sequence[str] | None = None, tolerance: int = 0) -> Source:
    """Masks of two values: 0 (black) becomes class 0, the one other value of the whole set class 1.

    Grey of 1 to 16 bits, palette and RGB files; alpha is dropped. classes: the two names, by default background and
    foreground. tolerance: for compressed 8-bit masks, how far a grey may be from 0 or 255. DataError for more values.
    """
    names = list(classes or source_description(root).get("class_names", ("background", "foreground")))
    if len(names) != 2:
        raise UsageError(f"a binary mask has two classes; got {len(names)} names: {', '.join(names)}.")
    draw = partial(_by_presence, seen={}, tolerance=tolerance)
    return Source(label_set(root, names, voc_palette(2), 255), items_of(find_pairs(root), draw))


def _by_presence(picture: OpenedImage, path: Path, seen: dict[int, Path], tolerance: int) -> Drawn:
    notices: tuple[str, ...] = ()
    with opened_image(path) as image:
        values, is_colour = plain_values(image)
        if image.image.has_transparency_data and (colours_and_alpha(image)[1] < 255).any():
            notices = ("mask with alpha: dropped, the values under it count",)
    if tolerance and not is_colour:
        values = np.where(values <= tolerance, 0, np.where((values >= 255 - tolerance) & (values <= 255), 255, values))
    found = np.unique(values)
    others = [value for value in found.tolist() if value != 0]
    shown = [str(list(colour_of(value)) if is_colour else value) for value in found.tolist()]
    if len(others) > 1:
        raise DataError(
            f"{path}: holds {len(found)} values, {', '.join(shown[:8])}{', ...' if len(shown) > 8 else ''}; a binary mask has "
            "two. Classes by index: --from palette; by colour: --from rgb; if it was compressed or blurred: --tolerance N."
        )
    for value in others:
        seen.setdefault(value, path)
        if len(seen) > 1:
            (one, first), (other, second) = list(seen.items())[:2]
            raise DataError(
                f"{second}: its value besides 0 is {other}, that of {first.name} is {one}; in a binary set one value means the "
                "class. Classes by index: --from palette."
            )
    mask, turned = set_upright((values != 0).astype(np.uint8), picture, str(path), "the mask is")
    return Drawn(mask, (*notices, *turned))
