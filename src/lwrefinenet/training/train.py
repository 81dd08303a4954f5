"""From a recipe and data folders to a run: everything is opened, checked and built, and then the story begins."""

import time
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path

import torch
from torch import Tensor

from lwrefinenet.errors import UsageError
from lwrefinenet.logit_adjustment import require_enough
from lwrefinenet.training.allocator import keep_freed_memory
from lwrefinenet.training.batches import dead_workers_named
from lwrefinenet.training.checkpoints import Checkpoints
from lwrefinenet.training.interruption import StopRequest, stop_requests
from lwrefinenet.training.loop import Training
from lwrefinenet.training.pace import Pace, require_fittable
from lwrefinenet.training.processes import Processes
from lwrefinenet.training.progress import Listener, Silence
from lwrefinenet.training.recipe import Recipe
from lwrefinenet.training.run_data import RunData, balanced_classes, cached, checked, open_data, require_labels
from lwrefinenet.training.run_dir import RunDir, fingerprint
from lwrefinenet.training.saves import Saves
from lwrefinenet.training.start import (
    beside_masks,
    build_loss,
    build_state,
    build_teacher,
    fitting_device_batch,
    freezes_batch_norm,
    share_of_batch,
)
from lwrefinenet.training.step import OptimizerStep


def train(
    recipe: Recipe,
    data: Mapping[str, Path],
    output: Path,
    *,
    device: torch.device,
    listener: Listener,
    resume: bool = False,
    time_limit: float | None = None,
    fit: bool = False,
) -> RunDir:
    """Train by a recipe on data folders; the run folder holds `best.safetensors` at the end.

    data: the folders by name; a single one may have any name.  device: where to compute; of several processes each takes
    its own.  resume: go on from the run's last checkpoint, on a CPU to the same weights as without a stop; with "wsd" also to
    another number of epochs, from the last checkpoint that both lengths share.
    time_limit: seconds after which the run stops cleanly, to be resumed.
    fit: with "wsd", end within the time limit: the run gets as many epochs as fit, at most the recipe's, and the run folder's
    recipe has their number; resumed in its closing epochs it keeps that.  Where not even these fit, it is stopped like any other,
    and without a validation split it leaves the weights that it has.
    DataError, WeightsError, RecipeError or RunError, each with what to do, where it cannot start or go on.
    """
    begun = time.monotonic()
    processes = Processes.start(recipe.precision, device, trackers=recipe.trackers, folder=output / "tensorboard")
    run = RunDir(output)  # of the main process; the others may be on machines that do not see it
    listener = listener if processes.is_main else Silence()
    share = share_of_batch(recipe, processes.count)
    if fit:
        if time_limit is None:
            raise UsageError("fit: fits a run to a time limit; give one.")
        require_fittable([recipe])
        if resume:
            recipe = processes.from_main(run.as_fitted(recipe) if processes.is_main else recipe)
    if processes.is_main:
        run.check(recipe, resume=resume)
    opened = open_data(recipe, data)
    if recipe.adjust_logits and opened.validation is not None:
        require_enough(opened.validation)
    alone = run.in_use() if processes.is_main else nullcontext()
    left = None if time_limit is None else time_limit - (time.monotonic() - begun)
    with processes.loss_of_others_named(), dead_workers_named(), alone, stop_requests(left) as stop:
        if processes.is_main:
            run.check(recipe, resume=resume)  # again: another process may just have left
        training = _begin(recipe, run, processes, opened, share, listener, stop)
        if fit and stop.deadline is not None:
            training.pace = Pace(stop.deadline)
        if resume:
            training.saves.restore()
            if training.pace is not None and processes.is_main:
                training.pace.remember(run.epoch_seconds(processes.computers))
        training.go()
    if run.best.exists():
        listener.say(f"Best weights so far: {run.best}. Use them: lwrefinenet predict PICTURE --weights {run.best}")
    return run


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
    state, meta = build_state(recipe, data, device, listener.say)
    require_labels(data, beside_masks(meta.tasks), listener)
    data = cached(data, recipe.cache, beside_masks(meta.tasks), listener)
    loss = build_loss(recipe, meta, None if balanced is None else balanced.to(device))
    optimizer = processes.prepared(state.optimizer)
    state.scaler = processes.scaler
    learner = processes.distributed(state.learner)
    teacher = build_teacher(recipe, meta, device)
    device_batch = fitting_device_batch(recipe, share, state.learner, loss, teacher, meta, processes)
    if device_batch < share:
        listener.say(f"{device_batch} pictures at once on a device, {-(-share // device_batch)} times for each step.")
    step = OptimizerStep(
        processes,
        learner,
        loss,
        optimizer,
        meta.preprocess,
        device_batch,
        recipe.clip_grad_norm,
        listener.say,
        teacher,
        freezes_batch_norm(recipe, device_batch),
    )
    checkpoints = Checkpoints(run.path, fingerprint(recipe), data.identity, recipe.epochs, recipe.open_epochs)
    saves = Saves(recipe, run, processes, state, step, checkpoints, listener)
    return Training(recipe, run, processes, data, state, meta, step, saves, listener, stop)


def _checked_and_balanced(recipe: Recipe, data: RunData, listener: Listener) -> Tensor | None:
    """Nothing is learnt from data that was not read; the class weights follow from what was found."""
    census = checked(data, listener)
    if not recipe.class_weight_power:
        return None
    balanced = balanced_classes(census, recipe.class_weight_power)
    named = (f"{name} {weight:.2f}" for name, weight in zip(data.labels.class_names, balanced.tolist(), strict=True))
    listener.say(f"Class weights: {', '.join(named)}.")
    return balanced
