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
from lwrefinenet.adjust import adjust_weights
from lwrefinenet.meta import WeightsMeta
from lwrefinenet.training.batches import Batch, batches
from lwrefinenet.training.finite import no_number, require_finite
from lwrefinenet.training.interruption import StopRequest
from lwrefinenet.training.pace import Pace
from lwrefinenet.training.processes import Processes
from lwrefinenet.training.progress import Listener, StepReport
from lwrefinenet.training.recipe import Recipe
from lwrefinenet.training.run_data import RunData
from lwrefinenet.training.run_dir import RunDir
from lwrefinenet.training.saves import Saves
from lwrefinenet.training.stages import Stages, learning_rate_schedule
from lwrefinenet.training.start import samples_of
from lwrefinenet.training.state import TrainingState
from lwrefinenet.training.step import OptimizerStep
from lwrefinenet.training.trackers import Trackers, prediction_grid
from lwrefinenet.training.validation import score_as_shipped


@dataclass
class Training:
    """A run in motion; `go` is the story.

    pace: shortens the run where it would not end in time, or None.
    """

    recipe: Recipe
    run: RunDir
    processes: Processes
    data: RunData
    state: TrainingState
    meta: WeightsMeta
    step: OptimizerStep
    saves: Saves
    listener: Listener
    stop: StopRequest
    pace: Pace | None = None
    trackers: Trackers = field(init=False)

    def go(self) -> None:
        """From the epoch and step of the state to the end of the recipe, or to a reason to stop."""
        done = self.data.stages.steps_before(self.state.epoch) + self.state.step
        text = self.recipe.to_toml()
        self.trackers = Trackers.start(self.processes, text, first_step=done, say=self.listener.say)
        if self.processes.is_main:
            self.run.keep_recipe(self.recipe)
        if self.step.frozen:
            self.listener.say("Batch norms keep their running statistics.")
        self.listener.say(f"Learning from epoch {self.state.epoch + 1}, step {self.state.step + 1} on.")
        self.stop.learning = True
        self._fit_to_time()
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
            begun, first_step = time.monotonic(), self.state.step
            self.step.begin()
            for batch in self._awaited(islice(stream, stage.steps - self.state.step)):
                self._learn(batch)
                if self._pause():
                    return True
            learnt = time.monotonic()
            self._end_epoch()
            if self.pace is not None and first_step <= stage.steps / 2:  # else another process learnt most of it
                learning = (learnt - begun) * stage.steps / (stage.steps - first_step)
                self.pace.epoch_took(self.recipe, self.state.epoch, learning=learning, ending=time.monotonic() - learnt)
            if self._fit_to_time() or self.data.stages.starts_at(self.state.epoch):
                break
        return False

    def _fit_to_time(self) -> bool:
        """Whether the run got another length here, so that its closing epochs end in time; both lengths learn alike up to here."""
        pace, recipe, done = self.pace, self.recipe, self.state.epoch
        if pace is None or self.state.finished or self.state.step:
            return False
        fitted, needed, left = self.processes.from_main(pace.plan(recipe, done))
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
        self.saves.go_on_as(recipe)

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

    def _learn(self, batch: Batch) -> None:
        """One optimiser step, and everything that moves with it."""
        begun = time.monotonic()
        value = self.step(*self._on_device(batch))
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

    def _on_device(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor], Tensor | None]:
        device = self.processes.device
        images = batch.images.to(device, memory_format=torch.channels_last, non_blocking=True)
        targets = {task: values.to(device, non_blocking=True) for task, values in batch.targets.items()}
        return images, targets, None if batch.hidden is None else batch.hidden.to(device, non_blocking=True)

    def _pause(self) -> bool:
        """Save when it is time or someone wants to stop; whether to stop. All processes decide alike."""
        reason = self.stop.reason
        due = self.saves.due and self.processes.is_main
        wishes = self.processes.sum(torch.tensor([float(reason is not None), float(due)], device=self.processes.device))
        stopping, saving = (wishes > 0).tolist()
        if stopping or saving:
            require_finite(self.state)
            self.saves.save()
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
                device=self.processes.computers,
            )
        state.next_epoch()
        state.finished = state.epoch == recipe.epochs
        if recipe.validates_after(state.epoch):
            self._validate()
        elif self.data.validation is None and state.finished and self.processes.is_main:
            weights.save(self.run.best, state.shipped_model, self.meta, half=True)
        if state.finished and recipe.adjust_logits and self.processes.is_main:
            self._adjust()
        self.saves.save()

    def _adjust(self) -> None:
        """Give the best weights offsets for their classes, if they help."""
        assert self.data.validation is not None  # else the recipe would have been refused
        device, names = self.processes.device, self.meta.labels.class_names
        watch = lambda indices, what: self.listener.watch(indices, what=what)  # noqa: E731
        found = adjust_weights(self.run.best, self.run.best, self.data.validation, device=device, watch=watch)
        self.run.log(epoch=self.state.epoch, **found.to_dict(names))
        self.listener.say(found.described(names))

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
