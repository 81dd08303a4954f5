"""Training, as a story: prepare, learn, validate, keep the best, and lose nothing on the way."""

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor

from lwrefinenet import weights
from lwrefinenet.errors import RunError
from lwrefinenet.evaluate import evaluate
from lwrefinenet.meta import Score, WeightsMeta
from lwrefinenet.predict import Predictor
from lwrefinenet.training.allocator import keep_freed_memory
from lwrefinenet.training.batches import Batch, batches, dead_workers_named
from lwrefinenet.training.checkpoints import Checkpoints
from lwrefinenet.training.interruption import StopRequest, stop_requests
from lwrefinenet.training.optim import freeze_batch_norm
from lwrefinenet.training.processes import Processes
from lwrefinenet.training.progress import Listener, Silence, StepReport
from lwrefinenet.training.recipe import Recipe
from lwrefinenet.training.rng import random_state, restore_random_state
from lwrefinenet.training.run_data import RunData, balanced_classes, cached, checked, open_data
from lwrefinenet.training.run_dir import RunDir, fingerprint
from lwrefinenet.training.start import (
    build_loss,
    build_state,
    fitting_device_batch,
    freezes_batch_norm,
    samples_of,
    share_of_batch,
)
from lwrefinenet.training.state import TrainingState
from lwrefinenet.training.step import OptimizerStep
from lwrefinenet.training.trackers import Trackers, prediction_grid


def train(
    recipe: Recipe,
    data: Mapping[str, Path],
    output: Path,
    *,
    device: torch.device,
    listener: Listener,
    resume: bool = False,
    time_limit: float | None = None,
) -> RunDir:
    """Train by a recipe on data folders; the run folder holds `best.safetensors` at the end.

    data: the folders by name; a single one may have any name.  device: where to compute; of several processes each takes
    its own.  resume: go on from the run's last checkpoint, to the same weights as without a stop.
    time_limit: seconds after which the run stops cleanly, to be resumed.
    DataError, WeightsError, RecipeError or RunError, each with what to do, where it cannot start or go on.
    """
    processes = Processes.start(recipe.precision, device, trackers=recipe.trackers, folder=output / "tensorboard")
    run = RunDir(output)  # of the main process; the others may be on machines that do not see it
    if processes.is_main:
        run = RunDir.resume(output, recipe) if resume else RunDir.vacant(output)
    listener = listener if processes.is_main else Silence()
    share = share_of_batch(recipe, processes.count)
    opened = open_data(recipe, data)
    alone = run.in_use() if processes.is_main else nullcontext()
    with processes.loss_of_others_named(), dead_workers_named(), alone, stop_requests(time_limit) as stop:
        training = _begin(recipe, run, processes, opened, share, listener, stop)
        if resume:
            training.restore()
        training.go()
    return run


@dataclass
class Training:
    """A run in motion; `go` is the story."""

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
        stream: Iterator[Batch] = iter(())
        fresh = True
        while not self.state.finished:
            stage = self.data.stages.at_epoch(self.state.epoch)
            if fresh or self.data.stages.starts_at(self.state.epoch):
                stream, fresh = self._stream(), False
            self._learning_mode()
            for batch in self._awaited(islice(stream, stage.steps - self.state.step)):
                self._learn(batch)
                if self._pause():
                    self.trackers.end()
                    return
            self._end_epoch()
        self.trackers.end()

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
        if self.processes.is_main:
            self.run.forget_after(self.state.epoch)

    def _stream(self) -> Iterator[Batch]:
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
            raise self._no_number(value, batch)
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

    def _on_device(self, batch: Batch) -> tuple[Tensor, Tensor]:
        device = self.processes.device
        images = batch.images.to(device, memory_format=torch.channels_last, non_blocking=True)
        return images, batch.targets.to(device, non_blocking=True)

    def _pause(self) -> bool:
        """Save when it is time or someone wants to stop; whether to stop. All processes decide alike."""
        reason = self.stop.reason
        due = time.monotonic() - self.saved_at > 60 * self.recipe.checkpoint_minutes and self.processes.is_main
        wishes = self.processes.sum(torch.tensor([float(reason is not None), float(due)], device=self.processes.device))
        stopping, saving = (wishes > 0).tolist()
        if stopping or saving:
            self._require_finite()
            self._save()
        if stopping:
            self.listener.say(f"Stopped by {reason or 'another process'}; go on with --resume.")
        return bool(stopping)

    def _end_epoch(self) -> None:
        self._require_finite()
        state, recipe = self.state, self.recipe
        steps = self.data.stages.at_epoch(state.epoch).steps
        if self.processes.is_main:
            self.run.log(
                epoch=state.epoch + 1,
                loss=state.epoch_loss / steps,
                seconds=state.epoch_seconds,
                waiting=state.epoch_waiting,
            )
        state.next_epoch()
        state.finished = state.epoch == recipe.epochs
        if self.data.validation is not None and (state.epoch % recipe.validate_every == 0 or state.finished):
            self._validate()
        elif self.data.validation is None and state.finished and self.processes.is_main:
            weights.save(self.run.best, state.shipped_model, self.meta, half=True)
        self._save()

    def _validate(self) -> None:
        """Score the weights as they would be shipped, from their file, and keep them if they are the best so far."""
        assert self.data.validation is not None
        state, validation = self.state, self.data.validation
        self.processes.take_buffers_of_main(state.shipped_model)
        with TemporaryDirectory() as folder:  # the run folder is the main process's alone
            trial = Path(folder) / "trial.safetensors"
            weights.save(trial, state.shipped_model, self.meta, half=True)
            model, _ = weights.load(trial)
        predictor = Predictor(model, self.meta, device=self.processes.device)
        evaluation = evaluate(
            predictor.predict_mask,
            validation,
            labels=self.meta.labels,
            progress=lambda indices: self.listener.watch(indices, what="validating"),
            share=(self.processes.number, self.processes.count),
            gather=self.processes.gather,
        )
        best = evaluation.mean_iou > state.best_score
        if best:
            state.best_score, state.best_epoch = evaluation.mean_iou, state.epoch
        patience = self.recipe.early_stopping * self.recipe.validate_every
        if patience and state.epoch - state.best_epoch >= patience and not state.finished:
            state.finished = True
            self.listener.say(f"Stopped early: no better score since epoch {state.best_epoch}.")
        if self.processes.is_main:
            if best:
                score = Score("mean_iou", evaluation.mean_iou, str(evaluation.protocol))
                weights.save(self.run.best, model, replace(self.meta, scores=(score,)), half=True)
            self.run.log(epoch=state.epoch, best=best, **evaluation.to_dict())
            self.trackers.validation(
                evaluation, prediction_grid(predictor, validation), step=self.data.stages.steps_before(state.epoch)
            )
            self.listener.validated(state.epoch, evaluation, best=best)

    def _save(self) -> None:
        randoms = self.processes.gather(random_state())
        if self.processes.is_main:
            portions = {"frozen": self.frozen, "device_batch": self.step.device_batch}
            state = {"state": self.state.to_dict(), "random": randoms, **portions}
            self.checkpoints.save(state, epoch=self.state.epoch, step=self.state.step)
        self.saved_at = time.monotonic()

    def _require_finite(self) -> None:
        """A finite loss may have gradients that are not; weights spoilt by them are neither saved nor shipped."""
        if not all(bool(parameter.isfinite().all()) for parameter in self.state.learner.parameters()):
            raise RunError(
                f"the weights are no finite numbers any more after epoch {self.state.epoch + 1}, step {self.state.step}. The "
                "last checkpoint is from before; lower the learning rates or set clip_grad_norm."
            )

    def _no_number(self, value: float, batch: Batch) -> RunError:
        pictures = self.data.stages.at_epoch(self.state.epoch).pictures
        own = [pictures.sample(index).image.name for index in batch.indices]
        names = ", ".join(name for part in self.processes.gather(own) for name in part)
        return RunError(
            f"the loss became {value} in epoch {self.state.epoch + 1}, step {self.state.step + 1}, on {names}. The last "
            "checkpoint is from before; lower the learning rates or look at these pictures."
        )

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


def _begin(
    recipe: Recipe,
    run: RunDir,
    processes: Processes,
    data: RunData,
    share: int,
    listener: Listener,
    stop: StopRequest,
) -> Training:
    """Build everything, and say what was decided."""
    device = processes.device
    if device.type == "cpu" and keep_freed_memory():
        listener.say("Memory freed by a step is kept for the next one (glibc mallopt).")
    pictures = "+".join(str(len(stage.pictures)) for stage in data.stages.stages)
    where = f"{device}" if processes.count == 1 else f"{processes.count} processes, each on its {device.type}"
    listener.say(f"Training {recipe.model} on {pictures} pictures, in {processes.arithmetic} on {where}.")
    balanced = processes.from_main(_checked_and_balanced(recipe, data, listener) if processes.is_main else None)
    data = cached(data, recipe.cache, listener)
    state, meta = build_state(recipe, data, device)
    loss = build_loss(recipe, meta, None if balanced is None else balanced.to(device))
    optimizer = processes.prepared(state.optimizer)
    state.scaler = processes.scaler
    learner = processes.distributed(state.learner)
    device_batch = fitting_device_batch(recipe, share, state.learner, loss, meta, processes)
    if device_batch < share:
        listener.say(f"{device_batch} pictures at once on a device, {-(-share // device_batch)} times for each step.")
    return Training(
        recipe=recipe,
        run=run,
        processes=processes,
        data=data,
        state=state,
        meta=meta,
        step=OptimizerStep(
            processes, learner, loss, optimizer, meta.preprocess, device_batch, recipe.clip_grad_norm, listener.say
        ),
        frozen=freezes_batch_norm(recipe, device_batch),
        checkpoints=Checkpoints(run.path, fingerprint(recipe), data.identity),
        listener=listener,
        stop=stop,
    )


def _checked_and_balanced(recipe: Recipe, data: RunData, listener: Listener) -> Tensor | None:
    """Nothing is learnt from data that was not read; the class weights follow from what was found."""
    census = checked(data, listener)
    if not recipe.class_weight_power:
        return None
    balanced = balanced_classes(census, recipe.class_weight_power)
    named = (f"{name} {weight:.2f}" for name, weight in zip(data.labels.class_names, balanced.tolist(), strict=True))
    listener.say(f"Class weights: {', '.join(named)}.")
    return balanced
