"""YOLO segmentation: `data.yaml`, pictures under `images/`, lines `class x1 y1 x2 y2 ...` (fractions) under `labels/`.

Class 0 is `background`; the names of data.yaml follow. Where polygons overlap, the smaller is seen, as in ultralytics' own
overlap masks; pixels belong to a polygon if their centre does, as in COCO, from which such labels are mostly made.

Which way up: fractions refer to the upright picture. ultralytics checks labels against the size after EXIF, and OpenCV, by which
it loads pictures, sets them upright (yolov5 issue 405; supervision pull request 2577 mends a reader that did not).
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from lwrefinenet.data.convert.polygons import Instance, painted, runs_of
from lwrefinenet.data.convert.records import BACKGROUND, check_chosen, class_labels
from lwrefinenet.data.convert.target import Drawn, Item, Source
from lwrefinenet.errors import DataError, UsageError
from lwrefinenet.images import OpenedImage, is_picture_name
from lwrefinenet.labels import LabelSet

LEEWAY = 0.01  # how far outside the picture a point may lie, as exporters round


def read_yolo(source: Path, *, classes: Sequence[str] | None = None) -> Source:
    """A folder with data.yaml (or the one .yaml file in it), or that file itself.

    classes: the names to take, in the order of their indices; the others stay background, which is noticed.
    A picture without a label file is all background, which is noticed. UsageError where there is no data.yaml or class;
    DataError, naming file and line, for boxes and for what is no polygon.
    """
    path = _description_file(source)
    description = _read_yaml(path)
    names = _names(path, description)
    kept = list(classes) if classes is not None else sorted(names.values(), key=lambda name: name != BACKGROUND)
    check_chosen(kept, list(names.values()), path)
    labels = class_labels(path.resolve().parent.name, kept)
    notices: Counter[str] = Counter()
    items: list[Item] = []
    for split in ("train", "val", "test"):
        for folder, picture in _pictures(path, description, split):
            label_file = _label_file(picture)
            if label_file.is_file():
                _note_lines(label_file, names, labels, notices)
            else:
                notices["picture without label file: all background"] += 1
            name = picture.relative_to(folder).with_suffix("") if folder in picture.parents else Path(picture.stem)
            draw = partial(_draw, path=label_file, names=names, labels=labels)
            items.append(Item("__".join(name.parts), split, picture, draw))
    if items and notices["picture without label file: all background"] == len(items):
        raise DataError(
            f"{path}: none of its {len(items)} pictures has a label file; expected {_label_file(items[0].picture)}."
        )
    return Source(labels, tuple(items), notices=+notices)


def read_lines(path: Path, names: dict[int, str]) -> Iterator[tuple[str, list[float]]]:
    """Class name and fractions x1 y1 x2 y2 ... of every line; DataError, naming file and line, for anything else."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read as text ({error}).") from error
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        try:
            kind, *fractions = (float(word) for word in line.split())
        except ValueError as error:
            raise DataError(f"{where}: {line[:60]!r} is not class x1 y1 x2 y2 ... in numbers.") from error
        if len(fractions) == 4:
            raise DataError(
                f"{where}: is a box (class and four numbers); boxes are not masks, export polygons instead."
            )
        if len(fractions) < 6 or len(fractions) % 2:
            raise DataError(f"{where}: has {len(fractions)} coordinates; a polygon has at least three pairs x y.")
        if kind not in names:
            raise DataError(f"{where}: class {kind:g} is not among the names of data.yaml (0-{max(names)}).")
        if not all(-LEEWAY <= fraction <= 1 + LEEWAY for fraction in fractions):
            raise DataError(f"{where}: holds a coordinate outside 0-1; YOLO writes fractions of width and height.")
        yield names[int(kind)], fractions


def _description_file(source: Path) -> Path:
    if source.is_file():
        return source
    if not source.is_dir():
        raise UsageError(f"{source}: no such folder or file; expected a folder with data.yaml.")
    found = [source / "data.yaml"] if (source / "data.yaml").is_file() else sorted(source.glob("*.y*ml"))
    if len(found) != 1:
        raise UsageError(
            f"{source}: holds {len(found)} .yaml files and no data.yaml; give the file that describes the set."
        )
    return found[0]


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError, OSError) as error:
        raise DataError(f"{path}: not valid YAML ({' '.join(str(error).split())}).") from error
    if not isinstance(content, dict):
        raise DataError(f"{path}: should hold names, train and val; got {str(content)[:60]!r}.")
    return content


def _names(path: Path, description: dict[str, Any]) -> dict[int, str]:
    names = description.get("names")
    if isinstance(names, list):
        names = dict(enumerate(names))
    if not isinstance(names, dict) or not names or not all(isinstance(number, int) for number in names):
        raise DataError(f"{path}: names should be a list of class names, or a table 0: name; got {str(names)[:60]!r}.")
    return {number: str(name) for number, name in sorted(names.items())}


def _pictures(path: Path, description: dict[str, Any], split: str) -> Iterator[tuple[Path, Path]]:
    """Folder and picture of a split: data.yaml gives a folder, a list file, or several of them."""
    given = description.get(split) or (description.get("valid") if split == "val" else None)
    for text in given if isinstance(given, list) else [given] if given else []:
        place = _resolved(path, description, str(text), split)
        if place.is_dir():
            pictures = sorted(p for p in place.rglob("*") if is_picture_name(p) and p.is_file())
            yield from ((place, picture) for picture in pictures)
            continue
        for line in filter(None, map(str.strip, place.read_text(encoding="utf-8", errors="replace").splitlines())):
            picture = place.parent / line
            if not picture.is_file():
                raise DataError(f"{place}: the picture {line} is not there; looked for {picture}.")
            yield picture.parent, picture


def _resolved(path: Path, description: dict[str, Any], text: str, split: str) -> Path:
    """Where a split lies: below `path:` of data.yaml or below its own folder, also where the exporter wrote one ../ too many."""
    base = path.parent / str(description.get("path") or "")
    plain = text.removeprefix("../")
    tried = list(dict.fromkeys((base / text, path.parent / text, base / plain, path.parent / plain)))
    for place in tried:
        if place.exists():
            return place
    raise DataError(f"{path}: {split}: {text!r} is not there; looked for {', '.join(map(str, tried))}.")


def _label_file(picture: Path) -> Path:
    """The last folder called images becomes labels, the suffix .txt."""
    parts = list(picture.parent.parts)
    if "images" in parts:
        parts[len(parts) - 1 - parts[::-1].index("images")] = "labels"
    return Path(*parts) / f"{picture.stem}.txt"


def _note_lines(path: Path, names: dict[int, str], labels: LabelSet, notices: Counter[str]) -> None:
    for name, _ in read_lines(path, names):
        if name not in labels.class_names:
            notices[f"{name} left as background, as --classes does not name it"] += 1


def _draw(picture: OpenedImage, path: Path, names: dict[int, str], labels: LabelSet) -> Drawn:
    height, width = picture.upright_size
    instances = []
    for name, fractions in read_lines(path, names) if path.is_file() else ():
        if name in labels.class_names:
            polygon = [fraction * (width, height)[place % 2] for place, fraction in enumerate(fractions)]
            runs = runs_of([polygon], (height, width), str(path))
            instances.append(Instance(labels.class_names.index(name), runs))
    return Drawn(painted(instances, (height, width), labels.class_names.index(BACKGROUND)))
