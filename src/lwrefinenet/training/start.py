"""What a run begins with: its network, and everything that learns, built from the recipe."""

import math
from dataclasses import replace

import torch
from torch import Tensor

from lwrefinenet import weights
from lwrefinenet.data.transforms import TrainTransform
from lwrefinenet.errors import RecipeError
from lwrefinenet.meta import Source, WeightsMeta
from lwrefinenet.models.pretrained import BackboneStart, load_backbone_weights
from lwrefinenet.models.refinenet import LightWeightRefineNet
from lwrefinenet.models.zoo import create_model
from lwrefinenet.preprocess import Preprocess
from lwrefinenet.training.batches import AugmentedSamples
from lwrefinenet.training.learner import Learner
from lwrefinenet.training.losses import SegmentationLoss
from lwrefinenet.training.optim import build_optimizer, moving_average
from lwrefinenet.training.processes import Processes
from lwrefinenet.training.recipe import Recipe
from lwrefinenet.training.rng import seed_all
from lwrefinenet.training.run_data import RunData
from lwrefinenet.training.stages import Stage, learning_rate_schedule
from lwrefinenet.training.state import TrainingState
from lwrefinenet.training.step import fitting_batch
from lwrefinenet.training.teacher import Teacher

FEWEST_FOR_STATISTICS = 8  # pictures at once on a device, below which batch norms are frozen


def build_state(recipe: Recipe, data: RunData, device: torch.device) -> tuple[TrainingState, WeightsMeta]:
    """The network with its backbone's weights, optimiser, schedule and average; and what its weights will say of themselves."""
    seed_all(recipe.seed)
    labels = data.labels
    model = create_model(recipe.model, len(labels), **recipe.network_arguments())
    if not isinstance(model, LightWeightRefineNet):
        raise RecipeError(
            f"recipe: model {recipe.model!r} has several tasks; training takes networks of one, such as rf_lw."
        )
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


def build_teacher(recipe: Recipe, meta: WeightsMeta, device: torch.device) -> Teacher | None:
    """The recipe's teacher, where it has one; errors as `Teacher` and `weights.load`."""
    if recipe.teacher is None:
        return None
    return Teacher(
        recipe.teacher,
        meta.labels,
        weight=recipe.teacher_weight,
        temperature=recipe.teacher_temperature,
        device=device,
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


def fitting_device_batch(
    recipe: Recipe,
    share: int,
    learner: Learner,
    loss: SegmentationLoss,
    teacher: Teacher | None,
    meta: WeightsMeta,
    processes: Processes,
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
            taught = 0.0 if teacher is None else teacher.distance(logits[0], images)
        targets = torch.zeros(size, *largest, dtype=torch.long, device=processes.device)
        torch.autograd.backward(loss(logits, targets) + taught)

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
    parts = data.parts
    sources = [Source("training data", f"{part.name} {part.split}", part.licence, part.name) for part in parts]
    if recipe.teacher is not None:
        teacher = weights.read_meta(recipe.teacher)
        sources.append(Source("teacher", f"{teacher.network} {teacher.labels.name}", teacher.licence, recipe.teacher))
    return WeightsMeta(
        network=recipe.model,
        arguments=recipe.network_arguments(),
        labels=data.labels,
        preprocess=start.preprocess,
        recipe=recipe.to_toml(),
        licence="; ".join(dict.fromkeys(source.licence for source in sources)),
        sources=(*sources,) if start.source is None else (start.source, *sources),
    )
