"""The data folder that every format is turned into: built beside its place, renamed to it when it is whole."""

import json
import os
import secrets
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lwrefinenet.data.folder import DESCRIPTION
from lwrefinenet.errors import DataError, LwRefineNetError, UsageError
from lwrefinenet.files import cannot_write
from lwrefinenet.images import READABLE_SUFFIXES, OpenedImage, encode_mask, opened_image
from lwrefinenet.labels import LabelSet

Watch = Callable[[Iterable["Written"], int], Iterable["Written"]]


@dataclass(frozen=True)
class Drawn:
    """A mask (H, W) of class indices and the ignore index, upright, and sentences about what was left out or assumed."""

    mask: NDArray[np.uint8]
    notices: tuple[str, ...] = ()


@dataclass(frozen=True)
class Item:
    """A picture to take over and the function that draws its mask; called in several threads.

    stem: its name in the new folder.  split: None where the source has none.  content: the picture's bytes, where it
    has no file of its own; `picture` then is its name, suffix included, for messages.
    """

    stem: str
    split: str | None
    picture: Path
    draw: Callable[[OpenedImage], Drawn]
    content: Callable[[], bytes] | None = None


@dataclass(frozen=True)
class Source:
    """Labelled pictures in a foreign layout, understood but not yet read.

    extra: further fields of dataset.toml, already in TOML.  notices: what is left out or assumed, with how often.
    """

    labels: LabelSet
    items: tuple[Item, ...]
    extra: str = ""
    notices: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True)
class Written:
    """One picture done: its split, the pixels of every mask value (256,), and notices."""

    split: str
    counts: NDArray[np.int64]
    notices: tuple[str, ...]


@dataclass(frozen=True)
class Report:
    """What became of a conversion.

    pictures: how many per split.  shares: part of all pixels per class (0-1).  ignored: that of the ignore index.
    notices: sentences about what was left out or assumed, with how many pictures or shapes each concerns.
    """

    destination: Path
    pictures: dict[str, int]
    shares: dict[str, float]
    ignored: float
    notices: dict[str, int]


def write_dataset(source: Source, destination: Path, *, link: bool = False, watch: Watch | None = None) -> Report:
    """Write pictures, index masks and dataset.toml, in parallel; `destination` appears only when all of it is there.

    link: hard-link the pictures instead of copying them.  watch: is handed the pictures as they are done, and how many
    there will be, and yields them on (a progress bar). Masks are stored upright, as `SegmentationDataset` reads them.
    UsageError where `destination` exists; otherwise the first error of a file, named, with nothing left behind.
    """
    check_free(destination)
    _check_stems(source.items)
    watched = watch or (lambda done, _: done)
    with _built_beside(destination) as folder, ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        for split in {item.split for item in source.items}:
            for kind in ("images", "masks"):
                (folder / kind / str(split)).mkdir(parents=True)
        tasks = [pool.submit(_written, item, source.labels, folder, link) for item in source.items]
        try:
            done = list(watched((task.result() for task in tasks), len(tasks)))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
        (folder / DESCRIPTION).write_text(description(source.labels) + source.extra, encoding="utf-8")
    return _report(source, destination, done)


def check_free(destination: Path) -> None:
    """UsageError where something is in the way of a new folder."""
    if destination.exists() or destination.is_symlink():
        raise UsageError(
            f"{destination}: exists already; give a folder that does not exist yet, or move this one away."
        )


def description(labels: LabelSet) -> str:
    """What dataset.toml says about the classes."""
    names = ", ".join(json.dumps(name, ensure_ascii=False) for name in labels.class_names)
    colours = ", ".join(str(list(colour)) for colour in labels.palette)
    return f"class_names = [{names}]\npalette = [{colours}]\nignore_index = {labels.ignore_index}\n"


def _check_stems(items: Sequence[Item]) -> None:
    if not items:
        raise DataError("no labelled picture was found, so there is nothing to convert.")
    taken: dict[tuple[str | None, str], Path] = {}
    for item in items:
        if item.picture.suffix.lower() not in READABLE_SUFFIXES:
            raise DataError(
                f"{item.picture}: is none of the kinds of pictures that are read here ({', '.join(READABLE_SUFFIXES)})."
            )
        other = taken.setdefault((item.split, item.stem.casefold()), item.picture)
        if other is not item.picture:
            raise DataError(
                f"{item.picture} and {other} would both be called {item.stem!r} in {item.split}; rename or remove one."
            )


@contextmanager
def _built_beside(destination: Path) -> Iterator[Path]:
    """A temporary folder that becomes `destination` if all goes well and vanishes if not."""
    temporary = destination.with_name(f".{destination.name[:100]}.{secrets.token_hex(4)}")
    try:
        temporary.mkdir(parents=True)
        yield temporary
        check_free(destination)
        temporary.rename(destination)
    except BaseException as error:
        shutil.rmtree(temporary, ignore_errors=True)
        if not isinstance(error, OSError):
            raise
        raise cannot_write(Path(error.filename or destination), error) from error


def _written(item: Item, labels: LabelSet, folder: Path, link: bool) -> Written:
    content = None if item.content is None else item.content()
    with opened_image(item.picture if content is None else content, str(item.picture)) as picture:
        drawn = item.draw(picture)
    split = str(item.split)
    copy = folder / "images" / split / f"{item.stem}{item.picture.suffix}"
    if content is not None:
        copy.write_bytes(content)
    elif link:
        _link(item.picture, copy)
    else:
        shutil.copyfile(item.picture, copy)
    mask = encode_mask(drawn.mask, labels.palette, ignore_index=labels.ignore_index)
    (folder / "masks" / split / f"{item.stem}.png").write_bytes(mask)
    return Written(split, np.bincount(drawn.mask.ravel(), minlength=256), drawn.notices)


def _link(picture: Path, copy: Path) -> None:
    try:
        os.link(picture.resolve(), copy)
    except OSError as error:
        raise LwRefineNetError(
            f"{picture}: cannot be hard-linked to the new folder ({error.strerror}); links need one file system. "
            "Use --copy."
        ) from error


def _report(source: Source, destination: Path, done: Sequence[Written]) -> Report:
    counts = np.sum([written.counts for written in done], axis=0)
    pictures = Counter(written.split for written in done)
    notices = source.notices + Counter(notice for written in done for notice in written.notices)
    labels = source.labels
    return Report(
        destination,
        pictures={split: pictures[split] for split in ("train", "val", "test") if split in pictures},
        shares={name: float(counts[index] / counts.sum()) for index, name in enumerate(labels.class_names)},
        ignored=float(counts[labels.ignore_index] / counts.sum()),
        notices=dict(notices),
    )
