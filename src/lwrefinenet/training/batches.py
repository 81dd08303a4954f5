"""Batches of augmented crops that depend only on seed, epoch and position: the same after a resume, on any number of devices."""

import signal
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from lwrefinenet.data.dataset import LabelledPictures
from lwrefinenet.data.hiding import hidden_patches
from lwrefinenet.data.mixing import Crop, Mixing, laid_over
from lwrefinenet.data.transforms import TrainTransform
from lwrefinenet.errors import DataError, LwRefineNetError, RunError

Place = tuple[int, int]  # epoch, index of a picture


@dataclass(frozen=True)
class Batch:
    """images: (N, 3, H, W) uint8 RGB.  indices: of the pictures in the data set.

    targets: by task, as `TrainTransform.of` gives them, N of each.
    hidden: what of the images the learner does not see, as `without_hidden` takes it; None: it sees all.
    """

    images: Tensor
    targets: dict[str, Tensor]
    indices: list[int]
    hidden: Tensor | None = None


@dataclass(frozen=True)
class AugmentedSamples(Dataset[tuple[Tensor, dict[str, Tensor], Tensor, int]]):
    """Pictures augmented by random numbers that are seeded for each picture and epoch alone.

    tasks: what is learnt beside the masks; where a picture lacks a label, all of it is unknown.
    late: the transform from epoch `late_from` on, where there is another one.
    mixing: how often a part of another picture is laid over one.
    hiding: up to which share of a crop is hidden from the learner (`hidden_patches`).
    """

    pictures: LabelledPictures
    transform: TrainTransform
    seed: int
    late: TrainTransform | None = None
    late_from: int = 0
    tasks: tuple[str, ...] = ()
    mixing: Mixing = field(default_factory=Mixing)
    hiding: float = 0.0

    def __getitem__(self, place: Place) -> tuple[Tensor, dict[str, Tensor], Tensor, int]:
        epoch, index = place
        transform = self.transform if self.late is None or epoch < self.late_from else self.late
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(_mixed(self.seed, epoch, index))  # a GPU's is the network's
            crop = self._crop(index, transform)
            if (part := self.mixing.draw()) is not None:
                number, wanted = self.mixing.draw_other(len(self.pictures))
                other = self._crop(number, transform, wanted)
                crop = laid_over(crop, other, part(other[1]["segmentation"], transform.ignore_index, wanted))
            hidden = hidden_patches(transform.crop_size, self.hiding)
        return *crop, hidden, index

    def _crop(self, index: int, transform: TrainTransform, wanted: int | None = None) -> Crop:
        image, targets = transform.of(self.pictures.labelled(index, self.tasks), wanted)
        for task in self.tasks:
            if task not in targets:
                targets[task] = torch.zeros(image.shape[1:] if task == "depth" else image.shape)
        return image, {task: targets[task] for task in ("segmentation", *self.tasks)}


def steps_per_epoch(num_pictures: int, batch_size: int) -> int:
    """Whole batches in an epoch; the pictures left over have their turn in another epoch's order."""
    if num_pictures < batch_size:
        raise DataError(
            f"the training split has {num_pictures} pictures, fewer than one batch of {batch_size}; set batch_size lower."
        )
    return num_pictures // batch_size


def batches(
    samples: AugmentedSamples,
    epochs: range,
    *,
    batch_size: int,
    workers: int,
    first_step: int = 0,
    share: tuple[int, int] = (0, 1),
    pin_memory: bool = False,
) -> Generator[Batch, None, None]:
    """All batches of the epochs in one stream, each epoch in its own random order; the same workers load them all.

    batch_size: of all devices together.  first_step: where the first epoch begins.  share: (number, count) of this device:
    it gets the number-th of count equal parts of every batch.
    """
    loader = DataLoader(
        samples,
        batch_sampler=_places(samples, epochs, batch_size, first_step, share),
        num_workers=workers,
        worker_init_fn=_leave_signals_to_the_run,
        generator=torch.Generator(),  # its own, so that starting workers draws nothing from the training's generator
        pin_memory=pin_memory,
    )
    try:
        for images, targets, hidden, indices in loader:
            yield Batch(images, targets, indices.tolist(), hidden if samples.hiding else None)
    except (ConnectionError, EOFError, FileNotFoundError) as error:
        if not workers or "Original Traceback" in str(error):
            raise
        raise RuntimeError(f"DataLoader worker died while it handed over a batch ({type(error).__name__})") from error
    except LwRefineNetError as error:
        if "Original Traceback" not in str(error):
            raise
        # Of a loading process: torch puts that one's traceback before the sentence.
        raise type(error)(str(error).strip().rpartition(f"{type(error).__name__}: ")[2]) from None


@contextmanager
def dead_workers_named() -> Iterator[None]:
    """RunError for a loading process that died, which torch raises wherever the run is when it learns of it."""
    try:
        yield
    except RuntimeError as error:
        if not str(error).startswith("DataLoader worker"):
            raise
        raise RunError(
            f"a process that loads pictures died ({str(error).splitlines()[0].rstrip('. ')}), most often of too little memory, "
            "or of too little /dev/shm in a container; go on with --resume --set workers=0, or give it more."
        ) from error


def _places(
    samples: AugmentedSamples, epochs: range, batch_size: int, first_step: int, share: tuple[int, int]
) -> Iterator[list[Place]]:
    """What each batch holds, one epoch's order in memory at a time."""
    number, count = share
    part = batch_size // count
    for epoch in epochs:
        order = _order(len(samples.pictures), samples.seed, epoch)
        begun = first_step if epoch == epochs.start else 0
        for step in range(begun, steps_per_epoch(len(order), batch_size)):
            start = step * batch_size + number * part
            yield [(epoch, index) for index in order[start : start + part]]


def _order(length: int, seed: int, epoch: int) -> list[int]:
    order: list[int] = torch.randperm(length, generator=torch.Generator().manual_seed(_mixed(seed, epoch, -1))).tolist()
    return order


def _leave_signals_to_the_run(_worker: int) -> None:
    """Ctrl-C reaches every process of a terminal, and torchrun, Slurm and systemd send SIGTERM to a whole process group.

    A worker that died of it would take the run's last step with it. It ends by itself when the run no longer wants it.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def _mixed(seed: int, epoch: int, index: int) -> int:
    """One well-spread 63-bit seed from three numbers."""
    mixed = 0
    for part in (seed, epoch, index):
        mixed = ((mixed ^ (part & 0xFFFFFFFF)) * 0x9E3779B97F4A7C15 + 0xD1B54A32D192ED03) & (2**63 - 1)
        mixed ^= mixed >> 29
    return mixed
