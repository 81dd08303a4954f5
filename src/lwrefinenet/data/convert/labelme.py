"""LabelMe: one JSON per picture, with shapes in pixels.

Shapes are drawn as LabelMe draws them: by Pillow, outlines included, later shapes over earlier ones, lines 10 pixels wide, points
5 pixels in radius. `__ignore__` is the ignore index and `_background_` the background, as in its own scripts.

Which way up: LabelMe sets pictures upright by EXIF before they are labelled (its pull request 305, in every release since 2019;
its issue 1529 is about an export that did not). The size stated in the JSON tells files of older releases, see `frames`.
"""

import base64
import binascii
import io
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import PIL.Image
from numpy.typing import NDArray
from PIL import ImageDraw

from lwrefinenet.data.convert.frames import drawing_size, set_upright
from lwrefinenet.data.convert.records import BACKGROUND, class_labels, entry, read_json
from lwrefinenet.data.convert.splits import ALIASES
from lwrefinenet.data.convert.target import Drawn, Item, Source
from lwrefinenet.errors import DataError, UsageError
from lwrefinenet.images import OpenedImage, is_picture_name
from lwrefinenet.labels import LabelSet

IGNORED, UNLABELLED = "__ignore__", "_background_"
LINE_WIDTH, POINT_RADIUS = 10, 5
FAR = 10  # picture sizes; points beyond are no labelling but damage
PLACES = ("images", "labels", "annotations", "json")  # folders that are no part of a picture's name
SIZED = "states the size"

Point = tuple[float, float]


def read_labelme(root: Path, *, classes: Sequence[str] | None = None) -> Source:
    """Every JSON below `root`; folders called train and val keep their pictures apart.

    classes: all names, in the order of their indices; by default the labels found, sorted, after background.
    UsageError where there is no JSON, or a label that `classes` does not name; DataError, naming the file, for what
    is not LabelMe's or lacks its picture.
    """
    files = sorted(path for path in root.rglob("*.json") if not path.name.startswith("."))
    if not files:
        raise UsageError(f"{root}: holds no JSON; expected one per picture, as LabelMe writes them.")
    records = {path: _without_picture(read_json(path)) for path in files}
    found = {_label(shape, path): path for path, record in records.items() for shape in _shapes(record, path)}
    names = sorted(set(found) - {IGNORED, UNLABELLED, BACKGROUND})
    if classes is not None and (unnamed := [name for name in names if name not in classes]):
        raise UsageError(
            f"{found[unnamed[0]]}: has the label {unnamed[0]!r}, which --classes does not name; add it there, or give its shapes "
            f"the label {IGNORED} (counts nowhere) or {UNLABELLED}."
        )
    labels = class_labels(root.resolve().name, list(classes) if classes is not None else names)
    items = tuple(_item(path, root, record, labels) for path, record in records.items())
    notices = Counter({"picture without JSON: left out": _pictures_left(root, items)})
    return Source(labels, items, notices=+notices)


def shape_mask(shape: dict[str, Any], size: tuple[int, int], where: str) -> NDArray[np.bool_]:
    """The pixels of one LabelMe shape on a picture of `size` (H, W); DataError, beginning with `where`, for a shape unknown."""
    canvas = PIL.Image.new("1", (size[1], size[0]))
    draw = ImageDraw.Draw(canvas)
    points = _points(shape, where)
    if points and np.abs(points).max() > FAR * max(size):
        raise DataError(f"{where}: has a point far outside the picture, which is {size[1]}x{size[0]}.")
    kind = shape.get("shape_type") or "polygon"
    needed = {
        "polygon": 3,
        "oriented_rectangle": 3,
        "rectangle": 2,
        "circle": 2,
        "line": 2,
        "linestrip": 2,
        "point": 1,
        "mask": 2,
    }
    if len(points) < needed.get(kind, 0):
        raise DataError(f"{where}: a {kind} has at least {needed[kind]} points; got {len(points)}.")
    if kind in ("polygon", "oriented_rectangle"):
        draw.polygon(points, outline=1, fill=1)
    elif kind == "rectangle":
        draw.rectangle(_corners(points), outline=1, fill=1)
    elif kind == "circle":
        draw.ellipse(_around(points[0], float(np.hypot(*np.subtract(points[0], points[1])))), outline=1, fill=1)
    elif kind in ("line", "linestrip"):
        draw.line(points, fill=1, width=LINE_WIDTH)
    elif kind == "point":
        draw.ellipse(_around(points[0], POINT_RADIUS), outline=1, fill=1)
    elif kind == "mask":
        left, top, *_ = _corners(points)
        canvas.paste(_stored_mask(shape, where), (round(left), round(top)))
    else:
        raise DataError(f"{where}: shape type {kind!r} is not known; expected {', '.join(needed)}.")
    return np.array(canvas)


def _without_picture(record: dict[str, Any]) -> dict[str, Any]:
    """The record with only the first bytes of its picture, which tell the kind; all of them would fill the memory."""
    data = record.get("imageData")
    return {**record, "imageData": data[:64] if isinstance(data, str) else None}


def _shapes(record: dict[str, Any], path: Path) -> list[Any]:
    return entry(record, "shapes", list, str(path))


def _label(shape: Any, path: Path) -> str:
    return entry(shape, "label", str, f"{path}: a shape")


def _item(path: Path, root: Path, record: dict[str, Any], labels: LabelSet) -> Item:
    folders = path.relative_to(root).parent.parts
    splits = [ALIASES[folder.lower()] for folder in folders if folder.lower() in ALIASES]
    name = [folder for folder in folders if folder.lower() not in ALIASES and folder.lower() not in PLACES]
    stem = "__".join((*name, path.stem))
    split = splits[0] if splits else None
    draw = partial(_draw, record={**record, "imageData": None}, labels=labels, path=path)
    stated = PurePosixPath(entry(record, "imagePath", str, str(path)).replace("\\", "/"))
    for candidate in (path.parent / stated, path.parent / stated.name):
        if candidate.is_file():
            return Item(stem, split, candidate, draw)
    if record["imageData"] is None:
        raise DataError(f"{path}: its picture {stated} is not there, and the JSON does not hold it (imageData).")
    suffix = _suffix_of(record["imageData"]) or stated.suffix
    return Item(stem, split, path.with_name(f"{path.name}: imageData{suffix}"), draw, partial(_image_data, path))


def _suffix_of(start: str) -> str:
    if start.startswith("iVBOR"):  # the signature of a PNG, in base64
        return ".png"
    return ".jpg" if start.startswith("/9j/") else ""


def _image_data(path: Path) -> bytes:
    return _decoded(entry(read_json(path), "imageData", str, str(path)), f"{path}: imageData")


def _decoded(text: Any, where: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError, TypeError) as error:
        raise DataError(f"{where} is not base64 ({error}).") from error


def _draw(picture: OpenedImage, record: dict[str, Any], labels: LabelSet, path: Path) -> Drawn:
    size = picture.upright_size
    if isinstance(record.get("imageHeight"), int) and isinstance(record.get("imageWidth"), int):
        size = drawing_size((record["imageHeight"], record["imageWidth"]), picture, str(path), SIZED)
    values = {name: index for index, name in enumerate(labels.class_names)}
    values |= {IGNORED: labels.ignore_index, UNLABELLED: values[BACKGROUND]}
    mask = np.full(size, values[BACKGROUND], np.uint8)
    for number, shape in enumerate(_shapes(record, path), start=1):
        mask[shape_mask(shape, size, f"{path}: shape {number}")] = values[_label(shape, path)]
    return Drawn(*set_upright(mask, picture, str(path), SIZED))


def _points(shape: dict[str, Any], where: str) -> list[Point]:
    points = entry(shape, "points", list, where)
    try:
        array = np.array(points, dtype=float)
    except (ValueError, TypeError):
        array = np.empty(0)
    if array.ndim != 2 or array.shape[1] != 2 or not np.isfinite(array).all():
        raise DataError(f"{where}: points are [[x, y], [x, y], ...]; got {str(points)[:80]}.")
    return [(x, y) for x, y in array.tolist()]


def _corners(points: Sequence[Point]) -> tuple[float, float, float, float]:
    (x, y), (other_x, other_y) = points[0], points[1]
    return min(x, other_x), min(y, other_y), max(x, other_x), max(y, other_y)


def _around(centre: Point, radius: float) -> tuple[float, float, float, float]:
    return centre[0] - radius, centre[1] - radius, centre[0] + radius, centre[1] + radius


def _stored_mask(shape: dict[str, Any], where: str) -> PIL.Image.Image:
    content = _decoded(shape.get("mask"), f"{where}: mask")
    try:
        return PIL.Image.fromarray(
            np.array(PIL.Image.open(io.BytesIO(content))) != 0
        )  # stored as 0 and 1, or 0 and 255
    except Exception as error:  # decoders fail in many ways; all mean the same here
        raise DataError(f"{where}: its mask is no picture ({error}).") from error


def _pictures_left(root: Path, items: Iterable[Item]) -> int:
    used = {item.picture.resolve() for item in items if item.content is None}
    there = (path for path in root.rglob("*") if is_picture_name(path) and path.is_file())
    return sum(path.resolve() not in used for path in there)
