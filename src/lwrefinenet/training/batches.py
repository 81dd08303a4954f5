"""Batches of augmented crops that depend only on seed, epoch and position: the same after a resume, with any workers."""

import signal
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from lwrefinenet.data.dataset import SegmentationDataset
from lwrefinenet.data.transforms import TrainTransform
from lwrefinenet.errors import DataError


@dataclass(frozen=True)
class Batch:
    """images: (N, 3, H, W) uint8 RGB.  targets: (N, H, W) int64.  indices: of the pictures in the data set."""

    images: Tensor
    targets: Tensor
    indices: list[int]


class AugmentedSamples(Dataset[tuple[Tensor, Tensor, int]]):
    """The pictures of one epoch, augmented by random numbers that are seeded for each picture alone."""

    def __init__(self, dataset: SegmentationDataset, transform: TrainTransform, *, seed: int, epoch: int) -> None:
        self.dataset, self.transform, self.seed, self.epoch = dataset, transform, seed, epoch

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor, int]:
        pixels, mask = self.dataset[index]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(_mixed(self.seed, self.epoch, index))
            image, target = self.transform(pixels, mask)
        return image, target, index


def steps_per_epoch(num_pictures: int, batch_size: int) -> int:
    """Whole batches in an epoch; the pictures left over have their turn in another epoch's order."""
    if num_pictures < batch_size:
        raise DataError(
            f"the training split has {num_pictures} pictures, fewer than one batch of {batch_size}; set batch_size lower."
        )
    return num_pictures // batch_size


def epoch_batches(samples: AugmentedSamples, *, batch_size: int, workers: int, first_step: int = 0) -> Iterator[Batch]:
    """The batches of the samples' epoch in its own random order, from `first_step` on."""
    generator = torch.Generator().manual_seed(_mixed(samples.seed, samples.epoch, -1))
    order = torch.randperm(len(samples), generator=generator).tolist()
    last = steps_per_epoch(len(samples), batch_size) * batch_size
    loader = DataLoader(
        samples,
        sampler=order[first_step * batch_size : last],
        batch_size=batch_size,
        num_workers=workers,
        worker_init_fn=_leave_signals_to_the_run,
        generator=torch.Generator(),  # its own, so that starting workers draws nothing from the training's generator
    )
    for images, targets, indices in loader:
        yield Batch(images, targets, indices.tolist())


def _leave_signals_to_the_run(_worker: int) -> None:
    """Ctrl-C reaches every process of a terminal; a worker that died of it would take the run's last step with it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _mixed(seed: int, epoch: int, index: int) -> int:
    """One well-spread 63-bit seed from three numbers."""
    mixed = 0
    for part in (seed, epoch, index):
        mixed = ((mixed ^ (part & 0xFFFFFFFF)) * 0x9E3779B97F4A7C15 + 0xD1B54A32D192ED03) & (2**63 - 1)
        mixed ^= mixed >> 29
    return mixed
