"""What a run begins with: its data, its network, and everything that learns, built from the recipe."""

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from lwrefinenet.data.cache import kept_in_memory
from lwrefinenet.data.dataset import LabelledPictures
from lwrefinenet.data.stages import open_stage
from lwrefinenet.data.transforms import TrainTransform
from lwrefinenet.errors import RecipeError
from lwrefinenet.meta import Source, WeightsMeta
from lwrefinenet.models.pretrained import BackboneStart, load_backbone_weights
from lwrefinenet.models.zoo import create_model
from lwrefinenet.preprocess import Preprocess
from lwrefinenet.training.batches import AugmentedSamples, steps_per_epoch
from lwrefinenet.training.learner import Learner
from lwrefinenet.training.losses import SegmentationLoss, median_frequency_weights
from lwrefinenet.training.optim import build_optimizer, moving_average
from lwrefinenet.training.processes import Processes
from lwrefinenet.training.progress import Listener
from lwrefinenet.training.recipe import Recipe
from lwrefinenet.training.rng import seed_all
from lwrefinenet.training.stages import Stage, Stages, build_stages, learning_rate_schedule
from lwrefinenet.training.state import TrainingState
from lwrefinenet.training.step import fitting_batch

T = TypeVar("T")

FEWEST_FOR_STATISTICS = 8  # pictures at once on a device, below which batch norms are frozen


@dataclass(frozen=True)
class RunData:
    """stages: what is learnt, in which order.  validation: what chooses the best weights, or None."""

    stages: Stages
    validation: LabelledPictures | None

    @property
    def labels_source(self) -> LabelledPictures:
        """The set of the last stage, whose labels the weights carry."""
        return self.stages.stages[-1].pictures

    @property
    def identity(self) -> list[str]:
        """What must not change between a run and its resumption, besides the recipe."""
        sets = _distinct(stage.pictures for stage in self.stages.stages)
        return [
            "+".join(each.name for each in sets),
            "+".join(each.split for each in sets),
            "+".join(str(len(each)) for each in sets),
            *self.labels_source.labels.class_names,
        ]


def open_data(recipe: Recipe, roots: Mapping[str, Path]) -> RunData:
    """roots: data folders by name, as `parse_data_arguments` gives them.

    Without stages of their own data, all folders are learnt from together; the last one validates, or what the recipe says.
    DataError or UsageError for what cannot be opened.
    """
    expressions = recipe.stage_data or ("+".join(roots),)
    training = [open_stage(expression, roots, recipe.train_split) for expression in expressions]
    last = re.split(r"[+:]", expressions[-1].rpartition("+")[2])[0]
    validation = open_stage(recipe.val_data or last, roots, recipe.val_split) if recipe.val_split else None
    stages = build_stages(recipe, training, lambda pictures: steps_per_epoch(len(pictures), recipe.batch_size))
    return RunData(stages, validation)


def cached_data(recipe: Recipe, data: RunData, listener: Listener) -> RunData:
    """The data with the pictures of every stage kept in memory, where the recipe says so; DataError where they do not fit."""
    if recipe.cache == "none":
        return data
    kept: dict[int, LabelledPictures] = {}
    for pictures in _distinct(stage.pictures for stage in data.stages.stages):
        cached = kept_in_memory(pictures, lambda indices: listener.watch(indices, what="keeping pictures in memory"))
        listener.say(f"{len(cached)} pictures and masks of {cached.name} kept in memory: {cached.bytes / 1e9:.2f} GB.")
        kept[id(pictures)] = cached
    stages = tuple(replace(stage, pictures=kept[id(stage.pictures)]) for stage in data.stages.stages)
    return replace(data, stages=Stages(stages))


def build_state(recipe: Recipe, data: RunData, device: torch.device) -> tuple[TrainingState, WeightsMeta]:
    """The network with its backbone's weights, optimiser, schedule and average; and what its weights will say of themselves."""
    seed_all(recipe.seed)
    labels = data.labels_source.labels
    model = create_model(recipe.model, len(labels), backbone=recipe.backbone, decoder_channels=recipe.decoder_channels)
    start = load_backbone_weights(model, recipe.backbone_weights, input_range=recipe.input_range)
    learner = Learner(model, auxiliary=recipe.auxiliary_weight > 0)
    learner.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = build_optimizer(
        model,
        recipe.optimizer,
        backbone_lr=recipe.backbone_lr,
        decoder_lr=recipe.decoder_lr,
        weight_decay=recipe.weight_decay,
        momentum=recipe.momentum,
        decay_vectors=recipe.decay_vectors,
        auxiliary=learner.heads,
    )
    schedule = learning_rate_schedule(optimizer, recipe, data.stages)
    average = moving_average(model, recipe.ema_decay) if recipe.ema_decay else None
    return TrainingState(learner, average, optimizer, schedule), _meta(recipe, data, start)


def build_loss(recipe: Recipe, meta: WeightsMeta, class_weights: Tensor | None) -> SegmentationLoss:
    """class_weights: (num_classes,) on the device, or None."""
    return SegmentationLoss(
        ignore_index=meta.labels.ignore_index,
        class_weights=class_weights,
        hardest=(recipe.ohem_threshold, recipe.ohem_share) if recipe.loss == "ohem" else None,
        label_smoothing=recipe.label_smoothing,
        dice_weight=recipe.dice_weight,
        lovasz_weight=recipe.lovasz_weight,
        auxiliary_weight=recipe.auxiliary_weight,
    )


def samples_of(stage: Stage, recipe: Recipe, meta: WeightsMeta) -> AugmentedSamples:
    """The stage's pictures with the recipe's augmentation, that of the late epochs included."""
    first = augmentation(recipe, meta.preprocess, meta.labels.ignore_index)
    late = None
    if recipe.late_epochs:
        late = replace(
            first,
            crop_size=recipe.late_crop_size or recipe.crop_size,
            scale_range=recipe.late_scale_range or recipe.scale_range,
        )
    return AugmentedSamples(stage.pictures, first, recipe.seed, late, recipe.epochs - recipe.late_epochs)


def augmentation(recipe: Recipe, preprocess: Preprocess, ignore_index: int) -> TrainTransform:
    """The recipe's, as it is before the late epochs; beyond a picture lies what preprocessing turns into zeros."""
    red, green, blue = (255 * channel for channel in preprocess.mean)
    return TrainTransform(
        crop_size=recipe.crop_size,
        scale_range=recipe.scale_range,
        flip=recipe.flip,
        color_jitter=recipe.color_jitter,
        fill=(red, green, blue),
        ignore_index=ignore_index,
        scale_sampling=recipe.scale_sampling,
        short_side=recipe.short_side,
    )


def share_of_batch(recipe: Recipe, processes: int) -> int:
    """Pictures of a batch for each process; RecipeError where they do not divide evenly."""
    if recipe.batch_size % processes:
        raise RecipeError(
            f"recipe: batch_size is {recipe.batch_size}; expected a multiple of the {processes} processes that were launched."
        )
    return recipe.batch_size // processes


def freezes_batch_norm(recipe: Recipe, device_batch: int) -> bool:
    """Whether the running statistics stay as they came: as the recipe says, or by the number of pictures at once."""
    if recipe.freeze_batch_norm is not None:
        return recipe.freeze_batch_norm
    return device_batch < FEWEST_FOR_STATISTICS and recipe.backbone_weights != "none"


def balanced_classes(recipe: Recipe, data: RunData, listener: Listener) -> Tensor | None:
    """The class weights that the recipe asks for, counted over everything that is learnt from; None for all alike."""
    if not recipe.class_weight_power:
        return None
    labels = data.labels_source.labels
    pixels, where_present = np.zeros(len(labels)), np.zeros(len(labels))
    for part in _distinct(part for stage in data.stages.stages for part in stage.pictures.parts):
        for index in listener.watch(range(len(part)), what="counting classes"):
            counts = np.bincount(part.read_mask(part.sample(index).mask).ravel(), minlength=256)[: len(labels)]
            pixels += counts
            where_present += np.where(counts > 0, counts.sum(), 0)
    found = median_frequency_weights(pixels, where_present, power=recipe.class_weight_power)
    named = ", ".join(f"{name} {weight:.2f}" for name, weight in zip(labels.class_names, found.tolist(), strict=True))
    listener.say(f"Class weights: {named}.")
    return found


def fitting_device_batch(
    recipe: Recipe, share: int, learner: Learner, loss: SegmentationLoss, meta: WeightsMeta, processes: Processes
) -> int:
    """Pictures at once on a device: as the recipe says, or on a GPU the most that fit, the same on every device."""
    if recipe.device_batch is not None:
        return min(share, recipe.device_batch)
    if processes.device.type != "cuda":
        return share

    largest = max(recipe.crop_size, recipe.late_crop_size or recipe.crop_size, key=math.prod)
    buffers = {name: buffer.clone() for name, buffer in learner.named_buffers()}

    def attempt(size: int) -> None:
        images = torch.zeros(size, 3, *largest, dtype=torch.uint8, device=processes.device)
        images = images.contiguous(memory_format=torch.channels_last)
        with processes.accelerator.autocast():
            logits = learner(meta.preprocess(images))
        torch.autograd.backward(loss(logits, torch.zeros(size, *largest, dtype=torch.long, device=processes.device)))

    learner.train()
    try:
        with torch.random.fork_rng(devices=[processes.device]):
            fitting = fitting_batch(share, attempt)
    finally:
        learner.zero_grad(set_to_none=True)
        for name, buffer in learner.named_buffers():
            buffer.copy_(buffers[name])
    return min(processes.gather(fitting))


def _meta(recipe: Recipe, data: RunData, start: BackboneStart) -> WeightsMeta:
    parts = _distinct(part for stage in data.stages.stages for part in stage.pictures.parts)
    sources = tuple(Source("training data", f"{part.name} {part.split}", part.licence, part.name) for part in parts)
    arguments = {"backbone": recipe.backbone, "decoder_channels": recipe.decoder_channels}
    return WeightsMeta(
        network=recipe.model,
        arguments={key: value for key, value in arguments.items() if value is not None},
        labels=data.labels_source.labels,
        preprocess=start.preprocess,
        recipe=recipe.to_toml(),
        licence="; ".join(dict.fromkeys(part.licence for part in parts)),
        sources=sources if start.source is None else (start.source, *sources),
    )


def _distinct(items: Iterable[T]) -> list[T]:
    """Each object once, in order."""
    return list({id(item): item for item in items}.values())
