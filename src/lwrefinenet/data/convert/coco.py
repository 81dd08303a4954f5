"""COCO: one JSON per split with pictures, categories and annotations in polygons or run lengths.

Class 0 is `background`; the categories follow in the order of their ids. Crowds become the ignore index, beneath all instances.
Where instances overlap, the smaller is seen. Panoptic and keypoint files are another matter and refused or passed over.

Which way up: the format does not say. The stated width and height decide between the stored and the upright picture
(detectron2 and FiftyOne set pictures upright by EXIF, kwcoco leaves them as stored); where both have one size, see `frames`.
"""

from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from lwrefinenet.data.convert.frames import drawing_size, set_upright
from lwrefinenet.data.convert.polygons import Instance, painted, runs_of
from lwrefinenet.data.convert.records import BACKGROUND, check_chosen, class_labels, entry, read_json
from lwrefinenet.data.convert.splits import split_named
from lwrefinenet.data.convert.target import Drawn, Item, Source
from lwrefinenet.errors import DataError, UsageError
from lwrefinenet.images import OpenedImage
from lwrefinenet.labels import LabelSet

Annotation = dict[str, Any]
SIZED = "states the size"


def read_coco(source: Path, *, classes: Sequence[str] | None = None) -> Source:
    """A COCO folder (`annotations/*.json`, or JSON files beside the pictures), or one JSON file of it.

    classes: the categories to take, in the order of their indices; the others stay background, which is noticed.
    UsageError where there is no such file or class; DataError, naming the file, for what is not COCO.
    """
    files = [source] if source.is_file() else _annotation_files(source)
    contents = {path: read_json(path) for path in files}
    categories = _categories(contents)
    names = [name for _, name in sorted(categories.items())]
    if classes is not None:
        check_chosen(classes, names, source)
    kept = list(classes) if classes is not None else sorted(names, key=lambda name: name != BACKGROUND)
    labels = class_labels(source.stem, kept)
    notices: Counter[str] = Counter()
    items: list[Item] = []
    for path, content in contents.items():
        root = source if source.is_dir() else _root_of(path)
        items += _items(path, root, content, categories, labels, notices)
    return Source(labels, tuple(items), notices=notices)


def _annotation_files(root: Path) -> list[Path]:
    if not root.is_dir():
        raise UsageError(f"{root}: no such folder or file; expected a COCO folder or its JSON file.")
    for pattern in ("annotations/instances_*.json", "annotations/*.json", "*.json", "*/*.json"):
        if found := sorted(root.glob(pattern)):
            break
    else:
        raise UsageError(f"{root}: holds no JSON; expected {root / 'annotations' / '*.json'}, or give the file itself.")
    splits = [_split_of(path) for path in found]
    if len(found) > 1 and (None in splits or len(set(splits)) < len(splits)):
        raise UsageError(
            f"{root}: holds several JSON files, {', '.join(path.name for path in found[:5])}, and their names do not tell one "
            "file for train, one for val and one for test; give the one to convert."
        )
    return found


def _split_of(path: Path) -> str | None:
    return split_named(path.stem) or split_named(path.parent.name)


def _root_of(path: Path) -> Path:
    return path.parent.parent if path.parent.name == "annotations" else path.parent


def _categories(contents: dict[Path, dict[str, Any]]) -> dict[int, str]:
    categories: dict[int, str] = {}
    for path, content in contents.items():
        for category in entry(content, "categories", list, str(path)):
            number, name = entry(category, "id", int, str(path)), entry(category, "name", str, str(path))
            if categories.setdefault(number, name) != name:
                raise DataError(f"{path}: category {number} is {name!r}, elsewhere it is {categories[number]!r}.")
    return categories


def _items(
    path: Path,
    root: Path,
    content: dict[str, Any],
    categories: dict[int, str],
    labels: LabelSet,
    notices: Counter[str],
) -> list[Item]:
    annotations = _by_picture(path, content, categories, labels, notices)
    items = []
    for record in entry(content, "images", list, str(path)):
        number = entry(record, "id", int, f"{path}: a picture")
        name = PurePosixPath(entry(record, "file_name", str, f"{path}: picture {number}").replace("\\", "/"))
        own = annotations.pop(number, [])
        if not own:
            notices["picture without annotation: all background"] += 1
        draw = partial(_draw, record=record, annotations=own, categories=categories, labels=labels, path=path)
        items.append(Item("__".join(name.with_suffix("").parts), _split_of(path), _located(path, root, name), draw))
    if annotations:
        raise DataError(
            f"{path}: annotations speak of picture {next(iter(annotations))}, which 'images' does not have."
        )
    return items


def _by_picture(
    path: Path, content: dict[str, Any], categories: dict[int, str], labels: LabelSet, notices: Counter[str]
) -> dict[int, list[Annotation]]:
    by_picture: dict[int, list[Annotation]] = {}
    every = entry(content, "annotations", list, str(path))
    for annotation in every:
        where = f"{path}: annotation {annotation.get('id') if isinstance(annotation, dict) else annotation}"
        mine = by_picture.setdefault(entry(annotation, "image_id", int, where), [])
        category = entry(annotation, "category_id", int, where)
        if category not in categories:
            raise DataError(f"{where}: category {category} is not among 'categories'.")
        if categories[category] not in labels.class_names:
            notices[f"{categories[category]} left as background, as --classes does not name it"] += 1
        elif not annotation.get("segmentation"):
            notices["annotation without segmentation (a box is no mask): left out"] += 1
        else:
            mine.append(annotation)
    if every and not any(isinstance(annotation, dict) and annotation.get("segmentation") for annotation in every):
        raise DataError(f"{path}: no annotation has a segmentation; boxes are not masks, export the polygons as well.")
    return by_picture


def _located(path: Path, root: Path, name: PurePosixPath) -> Path:
    """The picture of a `file_name`, looked up in the folders where COCO sets keep them."""
    stem = path.stem.rpartition("_")[2]  # train2017
    split = _split_of(path)
    for folder in ("", "images", stem, f"images/{stem}", *([split, f"images/{split}"] if split else [])):
        for base in dict.fromkeys((path.parent, root)):
            if (candidate := base / folder / name).is_file():
                return candidate
    raise DataError(
        f"{path}: the picture {name} is not there; looked in {root}, its images/, {stem}/ and images/{stem}/."
    )


def _draw(
    picture: OpenedImage,
    record: dict[str, Any],
    annotations: Sequence[Annotation],
    categories: dict[int, str],
    labels: LabelSet,
    path: Path,
) -> Drawn:
    size = picture.upright_size
    if "height" in record and "width" in record:
        where = f"{path}: picture {record['id']}"
        stated = (entry(record, "height", int, where), entry(record, "width", int, where))
        size = drawing_size(stated, picture, str(path), SIZED)
    instances = []
    for annotation in annotations:
        crowd = bool(annotation.get("iscrowd", 0))
        value = labels.ignore_index if crowd else labels.class_names.index(categories[annotation["category_id"]])
        runs = runs_of(annotation["segmentation"], size, f"{path}: annotation {annotation.get('id')}")
        instances.append(Instance(value, runs, beneath=crowd))
    mask = painted(instances, size, labels.class_names.index(BACKGROUND))
    return Drawn(*set_upright(mask, picture, str(path), SIZED))
