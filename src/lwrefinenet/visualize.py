"""Masks for the eye: painted over the picture, in their palette, with a legend, side by side."""

import numpy as np
import PIL.Image
from numpy.typing import NDArray
from PIL import ImageDraw, ImageFont

from lwrefinenet.images import colour_table
from lwrefinenet.labels import LabelSet

Pixels = NDArray[np.uint8]

PLASMA = (
    *((13, 8, 135), (76, 2, 161), (126, 3, 168), (170, 35, 149), (204, 71, 120)),
    *((230, 108, 92), (248, 149, 64), (253, 197, 39), (240, 249, 33)),
)
PAPER = (255, 255, 255)
INK = (24, 24, 24)


def overlay(image: Pixels, mask: Pixels, labels: LabelSet, opacity: float = 0.5) -> Pixels:
    """Paint the classes over the picture.

    image: (H, W, 3) RGB 0-255.  mask: (H, W) class indices; ignore pixels, and what is no class, stay unpainted.
    opacity: 0.0 leaves the picture, 1.0 hides it.  Returns a new (H, W, 3) picture.
    """
    _check_aligned(image, mask)
    weight = round(opacity * 256)
    paint = colour_table(labels.palette, labels.ignore_index).astype(np.uint16) * np.uint16(weight) + np.uint16(128)
    painted: Pixels = ((image * np.uint16(256 - weight) + np.take(paint, mask, axis=0)) >> 8).astype(np.uint8)
    unpainted = mask >= len(labels)
    painted[unpainted] = image[unpainted]
    return painted


def colourise(mask: Pixels, labels: LabelSet) -> Pixels:
    """(H, W) class indices -> (H, W, 3) palette colours; ignore pixels white."""
    coloured: Pixels = np.take(colour_table(labels.palette, labels.ignore_index), mask, axis=0)  # faster than by index
    return coloured


def depth_picture(depth: NDArray[np.float32], *, text_size: int = 16) -> Pixels:
    """Metres in colours, dark blue near and yellow far, over a scale bar that says which colour is how far.

    depth: (H, W) metres.  Returns (H + 3 text sizes, W, 3).
    """
    near, far = (float(limit) for limit in np.percentile(depth, (1, 99)))
    far = max(far, near + 0.01)
    return np.vstack([_plasma((depth - near) / (far - near)), _scale_bar(near, far, depth.shape[1], text_size)])


def normal_colours(normals: NDArray[np.float32]) -> Pixels:
    """Unit vectors (right, towards the camera, down) as colours: red to the right, green towards the camera, blue upwards.

    normals: (H, W, 3), 0 where unknown.  Returns (H, W, 3); black where unknown.  As the published code showed and stored them.
    """
    known = np.abs(normals).sum(axis=-1, keepdims=True) > 0
    colours = normals * np.array((127.5, 127.5, -127.5), np.float32) + np.float32(128)  # cut off, so that it is rounded
    shown: Pixels = np.where(known, colours.clip(0, 255).astype(np.uint8), np.uint8(0))
    return shown


def _plasma(values: NDArray[np.float32]) -> Pixels:
    """0-1 as colours, by straight lines between nine of matplotlib's "plasma" (N. Smith, S. van der Walt, CC0)."""
    places, steps = np.linspace(0, 1, len(PLASMA)), np.linspace(0, 1, 256)
    table = np.stack([np.interp(steps, places, [colour[c] for colour in PLASMA]) for c in range(3)], axis=-1)
    colours: Pixels = np.rint(table).astype(np.uint8)[(values * 255).clip(0, 255).astype(np.uint8)]
    return colours


def _scale_bar(near: float, far: float, width: int, text_size: int) -> Pixels:
    """(3 text sizes, width, 3): all colours in a row, with the metres of some of them under it."""
    bar = np.full((3 * text_size, width, 3), PAPER, np.uint8)
    bar[text_size // 2 : text_size * 3 // 2] = _plasma(np.linspace(0, 1, width, dtype=np.float32))[None]
    sheet = PIL.Image.fromarray(bar)
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=text_size)
    marks = max(2, min(6, width // (6 * text_size) + 1))
    for number in range(marks):
        share = number / (marks - 1)
        anchor = "l" if number == 0 else "r" if number == marks - 1 else "m"
        text = f"{near + share * (far - near):.1f} m"
        draw.text((share * (width - 1), 2.9 * text_size), text, fill=INK, font=font, anchor=f"{anchor}b")
    return np.array(sheet)


def class_shares(mask: Pixels, labels: LabelSet) -> dict[str, float]:
    """The share of all pixels (0-1) that each class in the mask covers, largest first; absent classes are left out."""
    counts = np.bincount(mask.ravel(), minlength=256)[: len(labels)]
    largest_first = np.argsort(-counts, kind="stable")
    return {labels.class_names[index]: float(counts[index] / mask.size) for index in largest_first if counts[index]}


def legend(mask: Pixels, labels: LabelSet, *, width: int, text_size: int = 16) -> Pixels:
    """The classes in the mask as colour, name and share, largest first, flowing into rows of `width` pixels.

    Returns (height, width, 3); the height follows from the number of rows.
    """
    font = ImageFont.load_default(size=text_size)
    colours = dict(zip(labels.class_names, labels.palette, strict=True))
    entries = [(colours[name], f"{name} {_percent(share)}") for name, share in class_shares(mask, labels).items()]
    row_height, swatch, gap = text_size * 2, text_size, text_size // 2
    column = max((swatch + 3 * gap + int(font.getlength(text)) for _, text in entries), default=width)
    columns = max(1, (width - gap) // column)
    rows = -(-len(entries) // columns)
    sheet = PIL.Image.new("RGB", (width, rows * row_height + gap), PAPER)
    draw = ImageDraw.Draw(sheet)
    for place, (colour, text) in enumerate(entries):
        left, middle = gap + place % columns * column, place // columns * row_height + gap // 2 + row_height // 2
        box = (left, middle - swatch // 2, left + swatch, middle - swatch // 2 + swatch)
        draw.rectangle(box, fill=colour, outline=INK)
        draw.text((left + swatch + gap, middle), text, fill=INK, font=font, anchor="lm")
    return np.array(sheet)


def contact_sheet(
    image: Pixels, mask: Pixels, labels: LabelSet, *, opacity: float = 0.5, text_size: int = 16
) -> Pixels:
    """Picture, mask and overlay side by side, with the legend under them; image and mask as in `overlay`."""
    gap = np.full((len(image), 4, 3), PAPER, np.uint8)
    row = np.hstack([image, gap, colourise(mask, labels), gap, overlay(image, mask, labels, opacity)])
    return np.vstack([row, legend(mask, labels, width=row.shape[1], text_size=text_size)])


def _check_aligned(image: Pixels, mask: Pixels) -> None:
    if image.shape != (*mask.shape, 3):
        raise ValueError(
            f"a mask of {mask.shape} cannot lie over a picture of {image.shape}; expected (H, W) and (H, W, 3). "
            "A turned photo's mask is aligned with the file as stored: see lwrefinenet.images.upright."
        )


def _percent(share: float) -> str:
    return f"{share:.1%}" if share >= 0.001 else "<0.1%"
