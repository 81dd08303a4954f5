"""What a labelled split holds: pictures, sizes, and how many pixels of which class, from reading every mask and every header."""

import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lwrefinenet import provenance
from lwrefinenet.data.dataset import LabelledPictures, Sample, SegmentationDataset
from lwrefinenet.data.facts import Form, MaskFacts, PictureFacts, counted, mask_facts, picture_facts, sha256_of
from lwrefinenet.data.facts_cache import FactsCache
from lwrefinenet.errors import DataError, ImageError
from lwrefinenet.images import read_mask
from lwrefinenet.labels import LabelSet

CHUNK = 8  # pictures that a thread takes at a time
Progress = Callable[[Iterable[int]], Iterable[int]]


@dataclass(frozen=True)
class Pair:
    """A picture and its mask, as they were found.

    classes: (class index, pixels) of what the mask holds, rising.  ignored: pixels of no class.
    unknown: (stored value, pixels) of the values that mean nothing.
    """

    sample: Sample
    picture: PictureFacts
    mask: MaskFacts
    classes: tuple[tuple[int, int], ...]
    ignored: int
    unknown: tuple[tuple[int, int], ...]


@dataclass(frozen=True, eq=False)
class Census:
    """One labelled split, counted.

    pairs: what its files are, in the order of the data set.
    pixels: (num_classes,) pixels of each class.  pixels_where_present: (num_classes,) labelled pixels of the pictures in
    which a class occurs, what median-frequency class weights divide by.  picture_counts: (num_classes,) these pictures.
    ignored, unknown: pixels of the ignore index, and of values that are no class.
    """

    dataset: LabelledPictures
    pairs: tuple[Pair, ...]
    pixels: NDArray[np.int64]
    pixels_where_present: NDArray[np.int64]
    picture_counts: NDArray[np.int64]
    ignored: int
    unknown: int

    @property
    def name(self) -> str:
        return self.dataset.name

    @property
    def split(self) -> str:
        return self.dataset.split

    @property
    def labels(self) -> LabelSet:
        return self.dataset.labels

    @property
    def pictures(self) -> int:
        return len(self.pairs)

    @cached_property
    def sizes(self) -> Mapping[tuple[int, int], int]:
        """(height, width), upright -> pictures, the most frequent size first; unreadable pictures are left out."""
        sizes = Counter(pair.picture.upright_size for pair in self.pairs if not pair.picture.fault)
        return dict(sorted(sizes.items(), key=lambda item: (-item[1], item[0])))

    @property
    def shares(self) -> NDArray[np.float64]:
        """(num_classes,): each class's share of the labelled pixels, 0-1."""
        return np.divide(self.pixels, max(1, self.pixels.sum()), dtype=np.float64)

    @property
    def ignore_share(self) -> float:
        """Share of all pixels that count nowhere, 0-1."""
        return self.ignored / max(1, int(self.pixels.sum()) + self.ignored + self.unknown)

    @property
    def absent(self) -> tuple[str, ...]:
        """The classes without a pixel."""
        return tuple(name for name, pixels in zip(self.labels.class_names, self.pixels, strict=True) if not pixels)

    def to_dict(self) -> dict[str, Any]:
        """Everything but the files, for JSON; sizes as "WIDTHxHEIGHT"."""
        return {
            "name": self.name,
            "split": self.split,
            "pictures": self.pictures,
            "sizes": {f"{width}x{height}": count for (height, width), count in self.sizes.items()},
            "classes": {
                name: {
                    "pixels": int(pixels),
                    "share": float(share),
                    "pictures": int(count),
                    "pixels_where_present": int(base),
                }
                for name, pixels, share, count, base in zip(
                    self.labels.class_names,
                    self.pixels,
                    self.shares,
                    self.picture_counts,
                    self.pixels_where_present,
                    strict=True,
                )
            },
            "ignored_pixels": self.ignored,
            "unknown_pixels": self.unknown,
            "ignore_share": self.ignore_share,
            "absent": list(self.absent),
        }


def census_of(dataset: LabelledPictures, *, progress: Progress = iter) -> Census:
    """Read every mask and every picture's header, in threads: Pillow's decoders let other threads run.

    What is found is kept by content in the user's cache folder, so that the next census of the same files takes next to
    nothing. Files that cannot be read, or are no masks, are counted as pictures without pixels; `check_datasets` says why.
    progress: wraps the indices of the pictures, to show how far it is.
    """
    caches = {id(part): FactsCache(_cache_name(part)) for part in dataset.parts if part.samples}
    jobs = [(part, sample) for part in dataset.parts for sample in part.samples]
    with ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as pool:
        try:
            chunks = [
                pool.submit(_facts_of, jobs[start : start + CHUNK], caches) for start in range(0, len(jobs), CHUNK)
            ]
            facts = [chunks[index // CHUNK].result()[index % CHUNK] for index in progress(range(len(jobs)))]
        except BaseException:  # Ctrl-C too: what waits in the queue is not read any more
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    for cache in caches.values():
        cache.save()
    tables = {id(part): part.value_table() for part in dataset.parts}
    pairs = tuple(
        _pair(sample, found, tables[id(part)], len(part.labels))
        for (part, sample), found in zip(jobs, facts, strict=True)
    )
    return _summed(dataset, pairs)


def _facts_of(
    jobs: list[tuple[SegmentationDataset, Sample]], caches: dict[int, FactsCache]
) -> list[tuple[PictureFacts, MaskFacts]]:
    found = []
    for part, sample in jobs:
        cache = caches[id(part)]
        read = mask_facts if part.decode is read_mask else partial(_decoded_facts, part, sample)
        found.append((cache.of(PictureFacts, sample.image, picture_facts), cache.of(MaskFacts, sample.mask, read)))
    return found


def _decoded_facts(part: SegmentationDataset, sample: Sample, path: Path, content: bytes) -> MaskFacts:
    """Of a mask that only its data set can read; a UsageError, such as for a missing package, is no fact about the file."""
    try:
        values = _stored_values(part, sample)
    except (DataError, ImageError) as error:
        return MaskFacts(sha256_of(content), fault=str(error).removeprefix(f"{path}: "))
    size = (values.shape[0], values.shape[1])
    form = Form.INDEX if part.has("segmentation") else Form.NONE
    return MaskFacts(sha256_of(content), size, form, "", counted(values))


def _stored_values(part: SegmentationDataset, sample: Sample) -> np.ndarray:
    return part.decode(sample.mask)


def _cache_name(part: SegmentationDataset) -> str:
    """One file per split, folder and way of reading; a new version of the package may read in another way."""
    files = {os.path.abspath(path.parent) for sample in part.samples for path in (sample.image, sample.mask)}  # noqa: PTH100
    reading = getattr(part.decode, "__qualname__", type(part.decode).__qualname__)
    ignored = str(part.labels.ignore_index)  # what stands for masks that are not there
    return "\n".join((os.path.commonpath(files), part.name, part.split, reading, ignored, provenance.package_version()))


def _pair(
    sample: Sample, facts: tuple[PictureFacts, MaskFacts], table: tuple[np.ndarray, np.ndarray], num_classes: int
) -> Pair:
    picture, mask = facts
    meaning, known = table
    counts: Counter[int] = Counter()
    ignored, unknown = 0, []
    for value, pixels in mask.counts if not mask.fault else ():
        if not known[value]:
            unknown.append((value, pixels))
        elif meaning[value] < num_classes:
            counts[int(meaning[value])] += pixels
        else:
            ignored += pixels
    return Pair(sample, picture, mask, tuple(sorted(counts.items())), ignored, tuple(unknown))


def _summed(dataset: LabelledPictures, pairs: tuple[Pair, ...]) -> Census:
    pixels, where_present, pictures = (np.zeros(len(dataset.labels), np.int64) for _ in range(3))
    for pair in pairs:
        labelled = sum(count for _, count in pair.classes)
        for index, count in pair.classes:
            pixels[index] += count
            where_present[index] += labelled
            pictures[index] += 1
    ignored = sum(pair.ignored for pair in pairs)
    unknown = sum(count for pair in pairs for _, count in pair.unknown)
    return Census(dataset, pairs, pixels, where_present, pictures, ignored, unknown)
