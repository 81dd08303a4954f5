"""Training, as a story: prepare, learn, validate, keep the best, and lose nothing on the way. The only importer of accelerate."""

import math
import time
from dataclasses import replace
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch import Tensor

from lwrefinenet import weights
from lwrefinenet.data.dataset import SegmentationDataset
from lwrefinenet.data.layouts import open_dataset
from lwrefinenet.data.transforms import TrainTransform
from lwrefinenet.errors import RunError
from lwrefinenet.evaluate import evaluate
from lwrefinenet.meta import Score, Source, WeightsMeta
from lwrefinenet.models.pretrained import BackboneStart, load_backbone_weights
from lwrefinenet.models.zoo import create_model
from lwrefinenet.predict import Predictor
from lwrefinenet.training.allocator import keep_freed_memory
from lwrefinenet.training.batches import AugmentedSamples, Batch, epoch_batches, steps_per_epoch
from lwrefinenet.training.interruption import stop_requests
from lwrefinenet.training.losses import class_weights, segmentation_loss
from lwrefinenet.training.optim import build_optimizer, freeze_batch_norm, moving_average, poly_schedule
from lwrefinenet.training.progress import Listener, StepReport
from lwrefinenet.training.recipe import Recipe
from lwrefinenet.training.run_dir import RunDir
from lwrefinenet.training.state import TrainingState


def train(
    recipe: Recipe,
    data: Path,
    output: Path,
    *,
    device: torch.device,
    listener: Listener,
    resume: bool = False,
    time_limit: float | None = None,
) -> RunDir:
    """Train by a recipe on a data folder; the run folder holds `best.safetensors` at the end.

    device: where to compute.  resume: go on from the run's last checkpoint, to the same weights as without a stop.
    time_limit: seconds after which the run stops cleanly, to be resumed.
    DataError, WeightsError, RecipeError or RunError, each with what to do, where it cannot start or go on.
    """
    training = open_dataset(data, recipe.train_split)
    validation = open_dataset(data, recipe.val_split) if recipe.val_split else None
    steps = steps_per_epoch(len(training), recipe.batch_size)
    run = RunDir.resume(output, recipe) if resume else RunDir.vacant(output)
    accelerator = _accelerator(recipe.precision, device)
    if device.type == "cpu" and keep_freed_memory():
        listener.say("Memory freed by a step is kept for the next one (glibc mallopt).")
    arithmetic = "bfloat16" if accelerator.mixed_precision == "bf16" else "float32"
    listener.say(f"Training {recipe.model} on {len(training)} pictures, in {arithmetic} on {device}.")
    state, meta = _prepare(recipe, training, steps, device)
    if resume and (saved := run.load_checkpoint(_identity(training))):
        state.load_dict(saved)
        listener.say(f"Resumed at epoch {state.epoch + 1}, step {state.step + 1}.")
    weights_of_classes = _balanced(recipe, training, listener, device)
    optimizer = accelerator.prepare(state.optimizer)
    run.keep_recipe(recipe)

    with stop_requests(time_limit) as stop:
        last_checkpoint = time.monotonic()
        while state.epoch < recipe.epochs:
            _training_mode(state, recipe)
            samples = AugmentedSamples(
                training, _transform(recipe, state.epoch, meta), seed=recipe.seed, epoch=state.epoch
            )
            for batch in epoch_batches(
                samples, batch_size=recipe.batch_size, workers=recipe.workers, first_step=state.step
            ):
                begun = time.monotonic()
                images, targets = _on_device(batch, device)
                with accelerator.autocast():
                    logits = state.model(meta.preprocess(images))
                loss = segmentation_loss(
                    logits, targets, class_weights=weights_of_classes, ignore_index=meta.labels.ignore_index
                )
                value = _finite(loss, batch, training, state)
                optimizer.zero_grad(set_to_none=True)
                accelerator.backward(loss)
                if recipe.clip_grad_norm:
                    accelerator.clip_grad_norm_(state.model.parameters(), recipe.clip_grad_norm)
                optimizer.step()
                state.schedule.step()
                if state.average is not None:
                    state.average.update_parameters(state.model)
                seconds = time.monotonic() - begun
                state.step, state.epoch_loss = state.step + 1, state.epoch_loss + value
                state.epoch_seconds += seconds
                listener.stepped(_report(recipe, state, steps, value, seconds))
                if stop.reason or time.monotonic() - last_checkpoint > 60 * recipe.checkpoint_minutes:
                    run.save_checkpoint(state.to_dict(), _identity(training))
                    last_checkpoint = time.monotonic()
                if stop.reason:
                    listener.say(f"Stopped by {stop.reason}; go on with --resume.")
                    return run

            run.log(epoch=state.epoch + 1, loss=state.epoch_loss / steps, seconds=state.epoch_seconds)
            state.next_epoch()
            if validation is not None and (state.epoch % recipe.validate_every == 0 or state.epoch == recipe.epochs):
                _validate(state, meta, validation, run, device, listener)
            elif validation is None and state.epoch == recipe.epochs:
                weights.save(run.best, state.shipped_model, meta, half=True)
            run.save_checkpoint(state.to_dict(), _identity(training))
            last_checkpoint = time.monotonic()
    return run


def _prepare(
    recipe: Recipe, training: SegmentationDataset, steps: int, device: torch.device
) -> tuple[TrainingState, WeightsMeta]:
    torch.manual_seed(recipe.seed)
    labels = training.labels
    model = create_model(recipe.model, len(labels), backbone=recipe.backbone, decoder_channels=recipe.decoder_channels)
    start = load_backbone_weights(model, recipe.backbone_weights, input_range=recipe.input_range)
    model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = build_optimizer(
        model,
        recipe.optimizer,
        backbone_lr=recipe.backbone_lr,
        decoder_lr=recipe.decoder_lr,
        weight_decay=recipe.weight_decay,
        momentum=recipe.momentum,
    )
    schedule = poly_schedule(
        optimizer, steps * recipe.epochs, warmup_steps=recipe.warmup_steps, power=recipe.poly_power
    )
    average = moving_average(model, recipe.ema_decay) if recipe.ema_decay else None
    return TrainingState(model, average, optimizer, schedule), _meta(recipe, training, start)


def _meta(recipe: Recipe, training: SegmentationDataset, start: BackboneStart) -> WeightsMeta:
    data = Source(
        role="training data", name=f"{training.name} {training.split}", licence=training.licence, origin=training.name
    )
    arguments = {"backbone": recipe.backbone, "decoder_channels": recipe.decoder_channels}
    return WeightsMeta(
        network=recipe.model,
        arguments={key: value for key, value in arguments.items() if value is not None},
        labels=training.labels,
        preprocess=start.preprocess,
        recipe=recipe.to_toml(),
        licence=training.licence,
        sources=(data,) if start.source is None else (start.source, data),
    )


def _identity(training: SegmentationDataset) -> list[str]:
    """What must not change between a run and its resumption, besides the recipe."""
    return [training.name, training.split, str(len(training)), *training.labels.class_names]


def _balanced(recipe: Recipe, training: SegmentationDataset, listener: Listener, device: torch.device) -> Tensor | None:
    if not recipe.class_weight_power:
        return None
    indices = listener.watch(range(len(training)), what="counting classes")
    masks = (training.read_mask(training.samples[index].mask) for index in indices)
    found = class_weights(masks, len(training.labels), power=recipe.class_weight_power)
    named = ", ".join(
        f"{name} {weight:.2f}" for name, weight in zip(training.labels.class_names, found.tolist(), strict=True)
    )
    listener.say(f"Class weights: {named}.")
    return found.to(device)


def _accelerator(precision: str, device: torch.device) -> Accelerator:
    """Mixed precision and gradient scaling; the model and the batches are placed by us."""
    # Another run of this process may have had another precision.
    AcceleratorState._reset_state(reset_partial_state=True)
    accelerator = Accelerator(
        mixed_precision=_precision(precision, device), cpu=device.type == "cpu", device_placement=False
    )
    if accelerator.num_processes > 1:
        raise RunError(f"{accelerator.num_processes} processes were launched; training runs in one process as yet.")
    return accelerator


def _precision(precision: str, device: torch.device) -> str:
    if precision == "auto":
        precision = "bfloat16" if computes_bfloat16_fast(device) else "float32"
    return "bf16" if precision == "bfloat16" else "no"


def computes_bfloat16_fast(device: torch.device) -> bool:
    """Whether the device has instructions for bfloat16; without them it is emulated, many times slower than float32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    on_cpu: bool = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return device.type == "cpu" and on_cpu


def _training_mode(state: TrainingState, recipe: Recipe) -> None:
    state.model.train()
    if recipe.freeze_batch_norm:
        freeze_batch_norm(state.model)


def _transform(recipe: Recipe, epoch: int, meta: WeightsMeta) -> TrainTransform:
    late = epoch >= recipe.epochs - recipe.late_epochs
    mean = meta.preprocess.mean
    return TrainTransform(
        crop_size=recipe.late_crop_size if late and recipe.late_crop_size else recipe.crop_size,
        scale_range=recipe.late_scale_range if late and recipe.late_scale_range else recipe.scale_range,
        flip=recipe.flip,
        color_jitter=recipe.color_jitter,
        fill=(255 * mean[0], 255 * mean[1], 255 * mean[2]),
        ignore_index=meta.labels.ignore_index,
    )


def _on_device(batch: Batch, device: torch.device) -> tuple[Tensor, Tensor]:
    images = batch.images.to(device, memory_format=torch.channels_last, non_blocking=True)
    return images, batch.targets.to(device, non_blocking=True)


def _finite(loss: Tensor, batch: Batch, training: SegmentationDataset, state: TrainingState) -> float:
    value = float(loss.detach())
    if not math.isfinite(value):
        names = ", ".join(training.samples[index].image.name for index in batch.indices)
        raise RunError(
            f"the loss became {value} in epoch {state.epoch + 1}, step {state.step + 1}, on {names}. The last checkpoint is "
            "from before; lower the learning rates or look at these pictures."
        )
    return value


def _report(recipe: Recipe, state: TrainingState, steps: int, loss: float, seconds: float) -> StepReport:
    rates = state.schedule.get_last_lr()
    return StepReport(
        epoch=state.epoch + 1,
        epochs=recipe.epochs,
        done=state.epoch * steps + state.step,
        total=recipe.epochs * steps,
        loss=loss,
        backbone_lr=float(rates[0]),
        decoder_lr=float(rates[-1]),
        seconds=seconds,
    )


def _validate(
    state: TrainingState,
    meta: WeightsMeta,
    validation: SegmentationDataset,
    run: RunDir,
    device: torch.device,
    listener: Listener,
) -> None:
    """Score the weights as they would be shipped, from their file, and keep them if they are the best so far."""
    candidate = run.path / "last" / "candidate.safetensors"
    weights.save(candidate, state.shipped_model, meta, half=True)
    model, _ = weights.load(candidate)
    evaluation = evaluate(
        Predictor(model, meta, device=device).predict_mask,
        validation,
        labels=meta.labels,
        progress=lambda indices: listener.watch(indices, what="validating"),
    )
    best = evaluation.mean_iou > state.best_score
    if best:
        state.best_score, state.best_epoch = evaluation.mean_iou, state.epoch
        score = Score("mean_iou", evaluation.mean_iou, str(evaluation.protocol))
        weights.save(run.best, model, replace(meta, scores=(score,)), half=True)
    candidate.unlink()
    run.log(epoch=state.epoch, best=best, **evaluation.to_dict())
    listener.validated(state.epoch, evaluation, best=best)
