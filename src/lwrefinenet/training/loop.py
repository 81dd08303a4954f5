"""A training run, as a story: learn, validate, keep the best, and lose nothing on the way."""

import math
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice

import torch
from torch import Tensor

from lwrefinenet import weights
from lwrefinenet.files import write_atomically
from lwrefinenet.meta import WeightsMeta
from lwrefinenet.provenance import computer
from lwrefinenet.training.batches import Batch, batches
from lwrefinenet.training.checkpoints import Checkpoints
from lwrefinenet.training.finite import no_number, require_finite
from lwrefinenet.training.interruption import StopRequest
from lwrefinenet.training.optim import freeze_batch_norm
from lwrefinenet.training.pace import Pace
from lwrefinenet.training.processes import Processes
from lwrefinenet.training.progress import Listener, StepReport
from lwrefinenet.training.recipe import Recipe
from lwrefinenet.training.rng import random_state, restore_random_state
from lwrefinenet.training.run_data import RunData
from lwrefinenet.training.run_dir import RunDir
from lwrefinenet.training.stages import Stages, learning_rate_schedule
from lwrefinenet.training.start import samples_of
from lwrefinenet.training.state import TrainingState
from lwrefinenet.training.step import OptimizerStep
from lwrefinenet.training.trackers import Trackers, prediction_grid
from lwrefinenet.training.validation import score_as_shipped


@dataclass
class Training:
    """A run in motion; `go` is the story.

    frozen: whether batch norms keep their running statistics.  pace: shortens the run where it would not end in time, or None.
    """

    recipe: Recipe
    run: RunDir
    processes: Processes
    data: RunData
    state: TrainingState
    meta: WeightsMeta
    step: OptimizerStep
    frozen: bool
    checkpoints: Checkpoints
    listener: Listener
    stop: StopRequest
    pace: Pace | None = None
    trackers: Trackers = field(init=False)
    saved_at: float = field(default_factory=time.monotonic)

    def go(self) -> None:
        """From the epoch and step of the state to the end of the recipe, or to a reason to stop."""
        done = self.data.stages.steps_before(self.state.epoch) + self.state.step
        text = self.recipe.to_toml()
        self.trackers = Trackers.start(self.processes, text, first_step=done, say=self.listener.say)
        if self.processes.is_main:
            self.run.keep_recipe(self.recipe)
        if self.frozen:
            self.listener.say("Batch norms keep their running statistics.")
        self.listener.say(f"Learning from epoch {self.state.epoch + 1}, step {self.state.step + 1} on.")
        self.stop.learning = True
        while not self.state.finished:
            # Closed whatever happens: the processes that load pictures end with their stream.
            with closing(self._stream()) as stream:
                if self._stage(stream):
                    break
        self.trackers.end()

    def _stage(self, stream: Iterator[Batch]) -> bool:
        """From here to the end of the stage; whether someone wants to stop."""
        stage = self.data.stages.at_epoch(self.state.epoch)
        while not self.state.finished:
            begun = time.monotonic()
            self._learning_mode()
            for batch in self._awaited(islice(stream, stage.steps - self.state.step)):
                self._learn(batch)
                if self._pause():
                    return True
            learnt = time.monotonic()
            # Of an epoch that another process began, what the state has of it.
            learning = max(learnt - begun, self.state.epoch_seconds + self.state.epoch_waiting)
            self._end_epoch()
            fitted = self._fit_to_time(learning, ending=time.monotonic() - learnt)
            if fitted or self.data.stages.starts_at(self.state.epoch):
                break
        return False

    def restore(self) -> None:
        """Set everything as the last usable checkpoint has it; a run that had none yet starts from its beginning."""
        saved = self.processes.from_main(self.checkpoints.load(self.listener.say) if self.processes.is_main else None)
        if saved is None:
            if self.processes.is_main:
                self.run.forget_after(0)
            return
        self.state.load_dict(saved["state"])
        self.frozen = saved.get("frozen", self.frozen)
        if self.recipe.device_batch is None:  # found by trying, and perhaps halved since
            self.step.device_batch = min(self.step.device_batch, saved.get("device_batch", self.step.device_batch))
        randoms = saved["random"]
        if len(randoms) == self.processes.count:
            restore_random_state(randoms[self.processes.number])
        else:
            self.listener.say(
                f"The run had {len(randoms)} processes and has {self.processes.count} now: it goes on well, but not bit for bit."
            )
        before = saved.get("epochs", self.recipe.epochs)
        if self.processes.is_main:
            if before != self.recipe.epochs:
                self._part_from(before, keep="best" in saved)
            self.run.forget_after(self.state.epoch)
            if len(best := saved.get("best", ())):
                write_atomically(self.run.best, best.numpy().tobytes())
        if before != self.recipe.epochs:
            self._save_last_and_stable()  # so that no checkpoint of the other length is the last one

    def _part_from(self, epochs: int, *, keep: bool) -> None:
        """Say that the run had another length until now, and keep what came of that, if it went further than to here."""
        self.listener.say(f"The run had {epochs} epochs and has {self.recipe.epochs} now; both learn alike up to here.")
        for kept in self.run.set_aside(epochs) if keep else ():
            self.listener.say(f"Of the {epochs} epochs is kept: {kept}.")

    def _fit_to_time(self, learning: float, ending: float) -> bool:
        """Whether the run got another length here, so that its closing epochs end in time; both lengths learn alike up to here.

        learning, ending: seconds of the epoch that ended just now (see `Pace`).
        """
        pace, recipe, done = self.pace, self.recipe, self.state.epoch
        if pace is None or self.state.finished:
            return False
        pace.epoch_took(recipe, done, learning=learning, ending=ending)
        fitted = pace.fitted(recipe, done)
        fitted, needed, left = self.processes.from_main((fitted, pace.needed(fitted, done), pace.left))
        if fitted == recipe:
            return False
        if needed <= left:
            self.listener.say(f"{fitted.epochs} epochs fit the time limit: the closing {fitted.epochs - done} begin.")
        else:
            minutes = f"{needed / 60:.1f} min, and {max(left, 0) / 60:.1f} are left"
            self.listener.say(f"warning: the closing {fitted.epochs - done} epochs begin, and take about {minutes}.")
        self._go_on_as(fitted)
        return True

    def _go_on_as(self, recipe: Recipe) -> None:
        """From here on a run by this recipe of another length, as one that had it from its beginning."""
        self.recipe = recipe
        self.meta = replace(self.meta, recipe=recipe.to_toml())
        (stage,) = self.data.stages.stages
        self.data = replace(self.data, stages=Stages((replace(stage, epochs=recipe.epochs),)))
        so_far = self.state.schedule.state_dict()
        self.state.schedule = learning_rate_schedule(self.state.optimizer, recipe, self.data.stages)
        self.state.schedule.load_state_dict(so_far)
        for group, rate in zip(self.state.optimizer.param_groups, self.state.schedule.get_last_lr(), strict=True):
            group["lr"] = rate
        self.checkpoints = replace(self.checkpoints, epochs=recipe.epochs, open_epochs=recipe.open_epochs)
        if self.processes.is_main:
            self.run.keep_recipe(recipe)
        self._save_last_and_stable()

    def _stream(self) -> Generator[Batch, None, None]:
        """The batches from here to the end of the stage."""
        stage = self.data.stages.at_epoch(self.state.epoch)
        if self.recipe.reset_optimizer and self.state.epoch == stage.first_epoch and self.state.step == 0:
            self.state.optimizer.state.clear()
        return batches(
            samples_of(stage, self.recipe, self.meta),
            range(self.state.epoch, stage.first_epoch + stage.epochs),
            batch_size=self.recipe.batch_size,
            workers=self.recipe.workers,
            first_step=self.state.step,
            share=(self.processes.number, self.processes.count),
            pin_memory=self.processes.device.type == "cuda",
        )

    def _awaited(self, stream: Iterator[Batch]) -> Iterator[Batch]:
        """The batches, and the time that each kept the step waiting."""
        while True:
            begun = time.monotonic()
            batch = next(stream, None)
            self.state.epoch_waiting += time.monotonic() - begun
            if batch is None:
                return
            yield batch

    def _learning_mode(self) -> None:
        self.state.learner.train()
        if self.frozen:
            freeze_batch_norm(self.state.learner)

    def _learn(self, batch: Batch) -> None:
        """One optimiser step, and everything that moves with it."""
        begun = time.monotonic()
        images, targets = self._on_device(batch)
        value = self.step(images, targets)
        if not math.isfinite(value):
            raise no_number(value, self.state, self._names(batch))
        rates = self.state.schedule.get_last_lr()
        self.state.schedule.step()
        if self.state.average is not None:
            self.state.average.update_parameters(self.state.learner.network)
        seconds = time.monotonic() - begun
        self.state.step += 1
        self.state.epoch_loss += value
        self.state.epoch_seconds += seconds
        report = self._report(value, rates, seconds)
        self.listener.stepped(report)
        self.trackers.step(report)

    def _on_device(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        device = self.processes.device
        images = batch.images.to(device, memory_format=torch.channels_last, non_blocking=True)
        return images, {task: values.to(device, non_blocking=True) for task, values in batch.targets.items()}

    def _pause(self) -> bool:
        """Save when it is time or someone wants to stop; whether to stop. All processes decide alike."""
        reason = self.stop.reason
        due = time.monotonic() - self.saved_at > 60 * self.recipe.checkpoint_minutes and self.processes.is_main
        wishes = self.processes.sum(torch.tensor([float(reason is not None), float(due)], device=self.processes.device))
        stopping, saving = (wishes > 0).tolist()
        if stopping or saving:
            require_finite(self.state)
            self._save()
        if stopping:
            self._stopped(reason or "another process")
        return bool(stopping)

    def _stopped(self, reason: str) -> None:
        """Say how to go on; a run that was to be fitted to a time leaves what it has learnt, even where it could not end."""
        if self.pace is None:
            self.listener.say(f"Stopped by {reason}; go on with --resume.")
            return
        if self.data.validation is None and self.processes.is_main:
            weights.save(self.run.best, self.state.shipped_model, self.meta, half=True)
        place = f"epoch {self.state.epoch + 1} of {self.recipe.epochs}"
        self.listener.say(f"Stopped by {reason} in {place}; go on with --resume --set epochs={self.recipe.epochs}.")

    def _end_epoch(self) -> None:
        require_finite(self.state)
        state, recipe = self.state, self.recipe
        steps = self.data.stages.at_epoch(state.epoch).steps
        if self.processes.is_main:
            self.run.log(
                epoch=state.epoch + 1,
                loss=state.epoch_loss / steps,
                seconds=state.epoch_seconds,
                waiting=state.epoch_waiting,
                device=computer(self.processes.device),
            )
        state.next_epoch()
        state.finished = state.epoch == recipe.epochs
        if recipe.validates_after(state.epoch):
            self._validate()
        elif self.data.validation is None and state.finished and self.processes.is_main:
            weights.save(self.run.best, state.shipped_model, self.meta, half=True)
        self._save_last_and_stable()

    def _validate(self) -> None:
        """Score the weights, keep them if they are the best so far, and stop where they get no better."""
        assert self.data.validation is not None
        state, recipe = self.state, self.recipe
        trial = score_as_shipped(state.shipped_model, self.meta, self.data.validation, self.processes, self.listener)
        best = trial.evaluation.mean_iou > state.best_score
        if best:
            state.best_score, state.best_epoch = trial.evaluation.mean_iou, state.epoch
        patience = recipe.early_stopping * recipe.validate_every
        if patience and state.epoch - state.best_epoch >= patience and not state.finished:
            state.finished = True
            self.listener.say(f"Stopped early: no better score since epoch {state.best_epoch}.")
        if self.processes.is_main:
            if best:
                trial.keep(self.run.best)
            self.run.log(epoch=state.epoch, best=best, **trial.evaluation.to_dict())
            step = self.data.stages.steps_before(state.epoch)
            grid = partial(prediction_grid, trial.predictor, self.data.validation)
            self.trackers.validation(trial.evaluation, grid, step=step)
            self.listener.validated(state.epoch, trial.evaluation, best=best)

    def _save_last_and_stable(self) -> None:
        """The last checkpoint, before it the one that other lengths share if this is where they part."""
        if (self.state.epoch, self.state.step) == (self.recipe.open_epochs, 0):
            self._save(stable=True)
        self._save()

    def _save(self, *, stable: bool = False) -> None:
        """stable: for runs of other lengths as well, with the best weights so far."""
        randoms = self.processes.gather(random_state())
        if self.processes.is_main:
            portions = {"frozen": self.frozen, "device_batch": self.step.device_batch, "epochs": self.recipe.epochs}
            state = {"state": self.state.to_dict(), "random": randoms, **portions}
            if stable:
                best = bytearray(self.run.best.read_bytes() if self.run.best.is_file() else b"")
                state["best"] = torch.frombuffer(best, dtype=torch.uint8) if best else torch.empty(0, dtype=torch.uint8)
            epoch, step, finished = self.state.epoch, self.state.step, self.state.finished
            self.checkpoints.save(state, epoch=epoch, step=step, finished=finished, stable=stable)
        self.saved_at = time.monotonic()

    def _names(self, batch: Batch) -> list[str]:
        """The pictures of a batch, on all devices."""
        pictures = self.data.stages.at_epoch(self.state.epoch).pictures
        own = [pictures.sample(index).image.name for index in batch.indices]
        return [name for part in self.processes.gather(own) for name in part]

    def _report(self, loss: float, rates: Sequence[float | Tensor], seconds: float) -> StepReport:
        return StepReport(
            epoch=self.state.epoch + 1,
            epochs=self.recipe.epochs,
            done=self.data.stages.steps_before(self.state.epoch) + self.state.step,
            total=self.data.stages.total_steps,
            loss=loss,
            backbone_lr=float(rates[0]),
            decoder_lr=float(rates[-1]),
            seconds=seconds,
        )
