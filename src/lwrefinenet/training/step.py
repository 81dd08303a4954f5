"""One optimiser step on one batch, in as many parts as the memory of the device asks for."""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from lwrefinenet.data.hiding import without_hidden
from lwrefinenet.device import ran_out_of_memory, timed_convolutions
from lwrefinenet.errors import RunError
from lwrefinenet.training.depthwise import fast_depthwise_gradients
from lwrefinenet.training.optim import freeze_batch_norm
from lwrefinenet.training.processes import Processes
from lwrefinenet.training.task_losses import TaskLosses
from lwrefinenet.training.teacher import Teacher


@dataclass
class OptimizerStep:
    """Forward, backward and update, the same whatever the number of parts and processes.

    But for batch-norm statistics, and for OHEM, Dice, Lovasz and berHu, which see each part as a whole of its own.

    learner: as `Processes.distributed` gives it.  prepare: (N, 3, H, W) uint8 to what the network wants.
    device_batch: pictures at once; halved where they do not fit.  clip_grad_norm: 0 for none.  teacher: whose opinion counts too.
    frozen: whether batch norms keep their running statistics.
    """

    processes: Processes
    learner: nn.Module
    loss: TaskLosses
    optimizer: Optimizer
    prepare: Callable[[Tensor], Tensor]
    device_batch: int
    clip_grad_norm: float
    say: Callable[[str], None]
    teacher: Teacher | None = None
    frozen: bool = False

    def begin(self) -> None:
        """Put the learner into its learning mode, as steps expect it after the start and after each validation."""
        self.learner.train()
        if self.frozen:
            freeze_batch_norm(self.learner)

    def __call__(self, images: Tensor, targets: Mapping[str, Tensor], hidden: Tensor | None = None) -> float:
        """Learn from this process's share of a batch, (N, 3, H, W) uint8 and its targets.  Returns the loss of the whole batch.

        hidden: what of the images the learner does not see, and a teacher does, as `without_hidden` takes it.
        A loss that is no finite number is returned without an update.  RunError where not even one picture fits.
        """
        while True:
            try:
                with timed_convolutions(images.device):
                    value = self._gradients(images, targets, hidden)
            except RuntimeError as error:
                if not ran_out_of_memory(error):
                    raise
                self._refuse_or_halve(error)
            else:
                break
            release_memory()  # only here, where the error no longer holds the frames of the attempt and their tensors
        if math.isfinite(value):
            if self.clip_grad_norm:
                self.processes.accelerator.clip_grad_norm_(self.learner.parameters(), self.clip_grad_norm)
            self.optimizer.step()
        return value

    def _gradients(self, images: Tensor, targets: Mapping[str, Tensor], hidden: Tensor | None) -> float:
        """Each part counts, in each task, by its known pixels among those of the whole batch, on all devices."""
        self.optimizer.zero_grad(set_to_none=True)
        whole = self.processes.sum(self.loss.counts(targets)).clamp_min(1e-6)
        pictures = float(self.processes.sum(torch.tensor(float(len(images)), device=images.device)))
        total = torch.zeros((), device=images.device)
        parts = list(self._parts(images, targets, hidden))
        for number, part in enumerate(parts):
            some_images, some_targets, _ = part
            shares = self.loss.counts(some_targets) / whole, len(some_images) / pictures
            if number < len(parts) - 1:
                with self.processes.without_exchange(self.learner):
                    total += self._backward(*part, *shares)
            else:
                total += self._backward(*part, *shares)
        return float(self.processes.sum(total))

    def _parts(
        self, images: Tensor, targets: Mapping[str, Tensor], hidden: Tensor | None
    ) -> Iterator[tuple[Tensor, dict[str, Tensor], Tensor | None]]:
        for start in range(0, len(images), self.device_batch):
            part = slice(start, start + self.device_batch)
            some_targets = {task: values[part] for task, values in targets.items()}
            yield images[part], some_targets, None if hidden is None else hidden[part]

    def _backward(
        self,
        images: Tensor,
        targets: Mapping[str, Tensor],
        hidden: Tensor | None,
        share: Tensor,
        share_of_pictures: float,
    ) -> Tensor:
        """share: (tasks,) of what is known in the whole batch.  share_of_pictures: by which a teacher counts, labels or not."""
        with self.processes.accelerator.autocast(), fast_depthwise_gradients(images.device):
            seen = self.prepare(images)
            maps, log_variances = self.learner(seen if hidden is None else without_hidden(seen, hidden))
            taught = 0.0 if self.teacher is None else self.teacher.distance(maps["segmentation"][0], images)
        loss = (self.loss(maps, targets, log_variances) * share).sum() + taught * share_of_pictures
        self.processes.accelerator.backward(
            loss * self.processes.count
        )  # the exchange takes the mean over the processes
        return loss.detach()

    def _refuse_or_halve(self, error: RuntimeError) -> None:
        half = self.device_batch // 2
        if self.processes.count > 1:  # the others wait for this one's gradients
            raise RunError(
                f"process {self.processes.number} ran out of memory with {self.device_batch} pictures at once; go on with "
                f"--resume --set device_batch={max(1, half)} (the step stays the same)."
            ) from error
        if half == 0:
            raise RunError(
                "not even one picture at a time fits the memory; set crop_size smaller or take a smaller model."
            ) from error
        self.device_batch = half
        self.optimizer.zero_grad(set_to_none=True)
        self.say(
            f"Out of memory: from here on {half} pictures at once, with more parts per step; the batch stays the same."
        )


def release_memory() -> None:
    """Give what a failed attempt held back to the GPU."""
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def fitting_batch(share: int, attempt: Callable[[int], None]) -> int:
    """The largest of share, share/2, share/4, ... pictures at once for which `attempt` does not run out of memory.

    RunError where not even one fits.
    """
    size = share
    while True:
        try:
            attempt(size)
        except RuntimeError as error:
            if not ran_out_of_memory(error):
                raise
        else:
            return size
        release_memory()
        if size == 1:
            raise RunError(
                "not even one picture at a time fits the memory; set crop_size smaller or take a smaller model."
            )
        size //= 2
