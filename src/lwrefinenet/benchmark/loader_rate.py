"""How many augmented pictures a second one core gives to training, and where the time goes."""

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import islice
from typing import Any

import torch
from torch.utils.data import default_collate

from lwrefinenet.benchmark.spread import spread
from lwrefinenet.data.cache import kept_in_memory
from lwrefinenet.data.dataset import LabelledPictures, SegmentationDataset
from lwrefinenet.data.transforms import TrainTransform
from lwrefinenet.images import read_picture
from lwrefinenet.training.batches import AugmentedSamples, batches

BATCH = 8
PER_ROUND = 8  # batches
CACHES = ("none", "memory")


def loader_rate(
    dataset: SegmentationDataset,
    transform: TrainTransform,
    *,
    rounds: int,
    watch: Callable[[Iterable[int]], Iterable[int]] = iter,
) -> dict[str, Any]:
    """Load batches in this process with one thread, by turns with each `cache` of a recipe; the first round does not count.

    dataset: whose pictures to use, as many as a round needs.  transform: the augmentation to measure.
    Returns, ready for JSON: pictures per second of wall clock and per second that a core worked (other work on the machine
    lowers only the first), and the milliseconds of each part for one picture.
    """
    some = replace(dataset, samples=dataset.samples[: BATCH * PER_ROUND])
    kept = kept_in_memory(some)
    sources: dict[str, LabelledPictures] = {"none": some, "memory": kept}
    walls: dict[str, list[float]] = {cache: [] for cache in CACHES}
    cores: dict[str, list[float]] = {cache: [] for cache in CACHES}
    with _one_thread():
        for number in watch(range(rounds + 1)):
            for cache in CACHES:
                wall, core, count = _one_round(AugmentedSamples(sources[cache], transform, seed=0), number)
                if number:
                    walls[cache].append(count / wall)
                    cores[cache].append(count / core)
        parts = {cache: _parts(sources[cache], some, transform, cache) for cache in CACHES}
    pixels = some[0][0]
    return {
        "data": f"{dataset.name} {dataset.split}, {len(some)} pictures, the first of {pixels.shape[1]}x{pixels.shape[0]}",
        "crop_size": list(transform.crop_size),
        "scale_range": list(transform.scale_range),
        "flip": transform.flip,
        "color_jitter": transform.color_jitter,
        "batch_size": min(BATCH, len(some)),
        "workers": 0,
        "cached_bytes": kept.bytes,
        "pictures_per_second": {cache: spread(walls[cache]) for cache in CACHES},
        "pictures_per_core_second": {cache: spread(cores[cache]) for cache in CACHES},
        "milliseconds": parts,
    }


def _one_round(samples: AugmentedSamples, epoch: int) -> tuple[float, float, int]:
    """Seconds by the clock, seconds of work, and how many pictures came."""
    size = min(BATCH, len(samples.pictures))
    wall, core = time.perf_counter(), time.process_time()
    count = sum(len(batch.indices) for batch in batches(samples, range(epoch, epoch + 1), batch_size=size, workers=0))
    return time.perf_counter() - wall, time.process_time() - core, count


def _parts(
    pictures: LabelledPictures, dataset: SegmentationDataset, transform: TrainTransform, cache: str
) -> dict[str, float]:
    """Milliseconds of work for one picture, of each part alone, the mean over all pictures."""
    parts: dict[str, float] = dict.fromkeys(("picture", "mask", "augmentation", "collation"), 0.0)
    augmented = []
    for index in range(len(dataset)):
        if cache == "none":
            with _timed(parts, "picture"):
                read_picture(dataset.sample(index).image)
            with _timed(parts, "mask"):
                dataset.read_mask(dataset.sample(index).mask)
        pixels, mask = pictures[index]
        with _timed(parts, "augmentation"):
            image, target = transform(pixels, mask)
        augmented.append((image, target, index))
    waiting = iter(augmented)
    while batch := list(islice(waiting, BATCH)):
        with _timed(parts, "collation"):
            default_collate(batch)
    return {part: 1000 * seconds / len(dataset) for part, seconds in parts.items()}


@contextmanager
def _timed(parts: dict[str, float], part: str) -> Iterator[None]:
    begun = time.process_time()
    yield
    parts[part] += time.process_time() - begun


@contextmanager
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
