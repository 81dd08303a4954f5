"""A data set of one's own: pictures, masks with the same stems, and `dataset.toml`."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from lwrefinenet.data.dataset import Sample, SegmentationDataset, paired_by_stem
from lwrefinenet.data.decoders import NothingLabelled
from lwrefinenet.data.geometry import DEPTH_SUFFIXES, DepthScale
from lwrefinenet.data.lists import listed, read_lines, read_pairs
from lwrefinenet.errors import DataError
from lwrefinenet.files import read_toml
from lwrefinenet.images import READABLE_SUFFIXES, is_picture_name
from lwrefinenet.labels import LabelSet, voc_palette

DESCRIPTION = "dataset.toml"
FIELDS = ("class_names", "palette", "ignore_index", "merge", "licence", "depth_scale", "focal_length")


def folder_dataset(root: Path, split: str) -> SegmentationDataset:
    """Read a folder of pictures and index masks: `images/SPLIT/` and `masks/SPLIT/`, or lists.

    A list `SPLIT.txt` beside `images/` and `masks/` serves where those have no folder for the split.  Its lines are stems
    (`0001`), pictures in `images/` (`street/0001.jpg`, its mask in `masks/street/0001.png`), or pairs relative to the root
    with a tab between picture and mask.
    `dataset.toml` holds `class_names = [...]` and may hold `palette` ([r, g, b] per class), `ignore_index` (255),
    `merge` (a table: class name -> the class that it becomes part of) and `licence`.
    Depth may lie in `depth/` and normals in `normals/`, as the masks do in `masks/`: grey PNGs or TIFFs of 8 or 16 bits with
    `depth_scale` (metres for each value; 0 is unknown) in `dataset.toml`, or floating-point TIFFs in metres; normals as colours
    (`read_normals`).  A split of depth without `masks/` teaches nothing of classes.  `focal_length`, a number or [horizontal,
    vertical] in pixels, lets normals be derived from depth.
    DataError, naming the file, for what does not fit.
    """
    dataset = described(root, split)
    if (root / "depth" / split).is_dir() and not (root / "masks" / split).is_dir():
        unlabelled = NothingLabelled(dataset.labels.ignore_index)
        return replace(dataset, samples=_with_depth_alone(root, split), decode=unlabelled, void_rule="no masks")
    return replace(dataset, samples=tuple(_with_geometry(sample, root) for sample in _samples(root, split)))


def described(root: Path, split: str) -> SegmentationDataset:
    """What `dataset.toml` says of a folder, with no pictures yet; DataError for a description that is missing or faulty."""
    path = root / DESCRIPTION
    description = _read(path)
    names: list[str] = description["class_names"]
    merge: dict[str, str] = description.get("merge", {})
    for name in (*merge, *merge.values()):
        if name not in names:
            raise DataError(f"{path}: merge speaks of {name!r}, which is not in class_names.")
    if chained := [name for name in merge.values() if name in merge]:
        raise DataError(f"{path}: merge sends a class to {chained[0]!r}, which is itself merged; name the final class.")
    kept = [name for name in names if name not in merge]
    try:
        labels = LabelSet(
            name=root.resolve().name,
            class_names=tuple(kept),
            palette=_palette(description, names, kept),
            ignore_index=description.get("ignore_index", 255),
        )
    except (ValueError, TypeError) as error:
        raise DataError(f"{path}: {error}") from error
    return SegmentationDataset(
        name=labels.name,
        split=split,
        labels=labels,
        samples=(),
        mask_values={value: kept.index(merge.get(name, name)) for value, name in enumerate(names)},
        void_rule=f"value {labels.ignore_index} ignored",
        licence=description.get("licence", "unknown"),
        depth_scale=_depth_scale(path, description.get("depth_scale")),
        focal_length=_focal_length(path, description.get("focal_length")),
    )


def _samples(root: Path, split: str) -> tuple[Sample, ...]:
    images, masks, names = root / "images", root / "masks", root / f"{split}.txt"
    if (images / split).is_dir() or not names.is_file():
        return paired_by_stem(images / split, masks / split, or_list=names)
    lines = read_lines(names)
    if "\t" in lines[0]:
        return read_pairs(names, root)
    by_stem = {path.stem: path.name for path in sorted(filter(is_picture_name, images.glob("*")))}
    samples = []
    for line in lines:
        is_name = line.lower().endswith(READABLE_SUFFIXES)
        picture = Path(line.removeprefix("images/") if is_name else by_stem.get(line, line))
        samples.append(Sample(images / picture, masks / f"{picture.with_suffix('')}.png"))
    return listed(samples, names)


def _with_depth_alone(root: Path, split: str) -> tuple[Sample, ...]:
    """Pictures of a split that has depth and no masks; for the size of the masks stand the files of depth."""
    folder = root / "depth" / split
    files = {path.stem: path for path in folder.iterdir() if path.suffix.lower() in DEPTH_SUFFIXES}
    pictures = sorted(filter(is_picture_name, (root / "images" / split).glob("*")))
    if lacking := [path for path in pictures if path.stem not in files]:
        raise DataError(
            f"{lacking[0]}: has neither mask nor depth; expected {folder / lacking[0].stem}.png. {len(lacking)} of {len(pictures)} "
            "pictures lack both."
        )
    if not pictures:
        raise DataError(f"{root / 'images' / split}: holds no picture ({', '.join(READABLE_SUFFIXES)}).")
    normals = {path: root / "normals" / split / f"{path.stem}.png" for path in pictures}
    return tuple(
        Sample(path, files[path.stem], files[path.stem], normals[path] if normals[path].is_file() else None)
        for path in pictures
    )


def _with_geometry(sample: Sample, root: Path) -> Sample:
    """With the files of depth and normals that lie in their folders as the mask does in its own."""
    place = (
        sample.mask.relative_to(root / "masks").with_suffix("") if sample.mask.is_relative_to(root / "masks") else None
    )
    if place is None:
        return sample
    depth = next((path for s in DEPTH_SUFFIXES if (path := root / "depth" / f"{place}{s}").is_file()), None)
    normals = root / "normals" / f"{place}.png"
    return replace(
        sample, depth=sample.depth or depth, normals=sample.normals or (normals if normals.is_file() else None)
    )


def _depth_scale(path: Path, metres: Any) -> DepthScale | None:
    if metres is None:
        return None
    if not _is_positive(metres):
        raise DataError(
            f"{path}: depth_scale is {metres!r}; expected the metres for each value, 0.001 for millimetres."
        )
    return DepthScale(metres=float(metres))


def _focal_length(path: Path, pixels: Any) -> tuple[float, float] | None:
    if pixels is None:
        return None
    both = pixels if isinstance(pixels, list) else [pixels, pixels]
    if len(both) != 2 or not all(map(_is_positive, both)):
        raise DataError(f"{path}: focal_length is {pixels!r}; expected a number of pixels, or [horizontal, vertical].")
    return float(both[0]), float(both[1])


def _is_positive(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < float("inf")


def _read(path: Path) -> dict[str, Any]:
    try:
        description = read_toml(path, DataError)
    except FileNotFoundError as error:
        raise DataError(f'{path}: no such file; write it with one line, class_names = ["background", ...].') from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error}); check its permissions.") from error
    if unknown := [key for key in description if key not in FIELDS]:
        raise DataError(f"{path}: unknown field {unknown[0]!r}; it may hold {', '.join(FIELDS)}.")
    names = description.get("class_names")
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        raise DataError(
            f'{path}: class_names must be a list of names, class_names = ["background", ...]; got {names!r}.'
        )
    if len(set(names)) != len(names):
        raise DataError(f"{path}: class_names holds a name twice.")
    if not isinstance(description.get("merge", {}), dict):
        raise DataError(
            f'{path}: merge must be a table, old class = "new class" under [merge]; got {description["merge"]!r}.'
        )
    return description


def _palette(description: dict[str, Any], names: list[str], kept: list[str]) -> tuple[tuple[int, int, int], ...]:
    colours = description.get("palette")
    if colours is None:
        return voc_palette(len(kept))
    if not isinstance(colours, list) or not all(isinstance(colour, list) and len(colour) == 3 for colour in colours):
        raise ValueError("palette must be a list of [red, green, blue], one per class name.")
    if len(colours) != len(names):
        raise ValueError(f"palette has {len(colours)} colours for {len(names)} class_names.")
    return tuple((int(r), int(g), int(b)) for name, (r, g, b) in zip(names, colours, strict=True) if name in kept)
