"""A data set that is decoded once and kept in memory, for training that would wait for its pictures otherwise."""

import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lwrefinenet.data.dataset import Labelled, LabelledPictures, Sample, SegmentationDataset
from lwrefinenet.errors import DataError
from lwrefinenet.labels import LabelSet

FEW = 16  # pictures that tell how large the rest will be
SPARED = 0.1  # share of the free memory that is left to the rest of the training

CONTROL_GROUP = Path("/sys/fs/cgroup")


@dataclass(frozen=True, eq=False)
class CachedPictures:
    """Another data set's pictures with what is known of them, decoded: arrays that nobody writes to, so forked workers share them.

    records: as the data set gives them for `tasks`, in its order.
    """

    pictures: LabelledPictures
    records: tuple[Labelled, ...]
    tasks: tuple[str, ...] = ()

    @property
    def bytes(self) -> int:
        """Memory that the arrays take."""
        return sum(map(_bytes, self.records))

    @property
    def name(self) -> str:
        return self.pictures.name

    @property
    def split(self) -> str:
        return self.pictures.split

    @property
    def labels(self) -> LabelSet:
        return self.pictures.labels

    @property
    def void_rule(self) -> str:
        return self.pictures.void_rule

    @property
    def licence(self) -> str:
        return self.pictures.licence

    @property
    def parts(self) -> tuple[SegmentationDataset, ...]:
        return self.pictures.parts

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        record = self.records[index]
        return record.pixels, record.mask

    def labelled(self, index: int, tasks: Sequence[str]) -> Labelled:
        """What was kept; ValueError for other tasks than it was kept for."""
        if tuple(tasks) != self.tasks:
            raise ValueError(f"kept for the tasks {self.tasks}, asked for {tuple(tasks)}.")
        return self.records[index]

    def sample(self, index: int) -> Sample:
        """The files behind a picture."""
        return self.pictures.sample(index)


def kept_in_memory(
    pictures: LabelledPictures,
    tasks: Sequence[str] = (),
    watch: Callable[[Iterable[int]], Iterable[int]] = iter,
    *,
    free: int | None = None,
) -> CachedPictures:
    """Decode every picture and mask, on all cores.

    tasks: what else is kept of each picture, as `LabelledPictures.labelled` takes them.
    watch: passes the indices through, for a progress bar.  free: memory to live in, in bytes; None takes what the machine
    has, and no limit where it does not tell.
    DataError where they do not fit, from a few of them if that shows already, or for a picture that cannot be read.
    """
    free = free_memory() if free is None else free
    limit = None if free is None else int((1 - SPARED) * free)
    every = max(1, len(pictures) // FEW)
    few = [_bytes(pictures.labelled(index, tasks)) for index in range(0, len(pictures), every)]
    _refuse_beyond(limit, len(pictures) * sum(few) // max(1, len(few)), pictures)
    records: list[Labelled] = []
    taken = 0
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        decoding = pool.map(lambda index: _own_arrays(pictures.labelled(index, tasks)), range(len(pictures)))
        try:
            for _ in watch(range(len(pictures))):
                records.append(next(decoding))
                taken += _bytes(records[-1])
                _refuse_beyond(limit, taken, pictures)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return CachedPictures(pictures, tuple(records), tuple(tasks))


def free_memory() -> int | None:
    """Bytes that new arrays may take on this machine and in this container; None where the system does not tell."""
    bounds = [bound for bound in (_free_on_machine(), _free_in_container()) if bound is not None]
    return min(bounds, default=None)


def _free_on_machine() -> int | None:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:  # no Linux
        return None
    fields = dict(line.split(":", 1) for line in lines if ":" in line)
    return 1024 * int(fields["MemAvailable"].split()[0]) if "MemAvailable" in fields else None


def _free_in_container() -> int | None:
    """By the limit of control group 2, where there is one; files that the system keeps in memory give way to arrays."""
    try:
        used = int((CONTROL_GROUP / "memory.current").read_text())
        parts = dict(line.split() for line in (CONTROL_GROUP / "memory.stat").read_text().splitlines())
        files = int(parts.get("inactive_file", 0)) + int(parts.get("active_file", 0))
        return int((CONTROL_GROUP / "memory.max").read_text()) - max(0, used - files)
    except (OSError, ValueError):  # no such group, or "max": no limit
        return None


def _own_arrays(record: Labelled) -> Labelled:
    """Contiguous, so that a cropped picture does not hold on to what was cut off."""
    own: dict[str, Any] = {
        name: None if array is None else np.ascontiguousarray(array) for name, array in vars(record).items()
    }
    return Labelled(**own)


def _refuse_beyond(limit: int | None, needed: int, pictures: LabelledPictures) -> None:
    if limit is not None and needed > limit:
        raise DataError(
            f"{pictures.name} {pictures.split}: its {len(pictures)} pictures and masks take {needed / 1e9:.2g} GB or more "
            f'decoded, and {limit / 1e9:.2g} GB of memory are free for them; set cache = "none", or free some memory.'
        )


def _bytes(record: Labelled) -> int:
    return sum(array.nbytes for array in vars(record).values() if array is not None)
