"""What a run begins with: its network, and everything that learns, built from the recipe."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from lwrefinenet import weights
from lwrefinenet.data.mixing import Mixing
from lwrefinenet.data.transforms import TrainTransform
from lwrefinenet.device import timed_convolutions
from lwrefinenet.errors import RecipeError
from lwrefinenet.meta import Source, WeightsMeta, joined
from lwrefinenet.models.backbones import set_drop_path
from lwrefinenet.models.pretrained import BackboneStart, load_backbone_weights
from lwrefinenet.models.refinenet import RefineNet
from lwrefinenet.models.zoo import create_model
from lwrefinenet.preprocess import Preprocess
from lwrefinenet.training.batches import AugmentedSamples
from lwrefinenet.training.initial import begin_with
from lwrefinenet.training.learner import Learner
from lwrefinenet.training.losses import SegmentationLoss
from lwrefinenet.training.optim import build_optimizer, moving_average
from lwrefinenet.training.processes import Processes
from lwrefinenet.training.recipe import Recipe
from lwrefinenet.training.rng import seed_all
from lwrefinenet.training.run_data import RunData, holders_of_classes
from lwrefinenet.training.stages import Stage, learning_rate_schedule
from lwrefinenet.training.state import TrainingState
from lwrefinenet.training.step import fitting_batch
from lwrefinenet.training.task_losses import TaskLosses
from lwrefinenet.training.teacher import Teacher

FEWEST_FOR_STATISTICS = 8  # pictures at once on a device, below which batch norms are frozen


def build_state(
    recipe: Recipe, data: RunData, device: torch.device, say: Callable[[str], None]
) -> tuple[TrainingState, WeightsMeta]:
    """The network with its backbone's weights, optimiser, schedule and average; and what its weights will say of themselves."""
    seed_all(recipe.seed)
    labels = data.labels
    model = create_model(recipe.model, len(labels), **recipe.network_arguments())
    start = _start(model, recipe, say)
    if recipe.drop_path:
        set_drop_path(model.backbone, recipe.drop_path)
    learner = Learner(
        model,
        auxiliary=recipe.auxiliary_weight > 0,
        uncertainty=recipe.uncertainty_weights,
        resized=recipe.crops_at_input_scale,
    )
    learner.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = build_optimizer(
        model,
        recipe.optimizer,
        backbone_lr=recipe.backbone_lr,
        decoder_lr=recipe.decoder_lr,
        weight_decay=recipe.weight_decay,
        momentum=recipe.momentum,
        decay_vectors=recipe.decay_vectors,
        besides=learner.beside_the_network(),
    )
    schedule = learning_rate_schedule(optimizer, recipe, data.stages)
    average = moving_average(model, recipe.ema_decay) if recipe.ema_decay else None
    return TrainingState(learner, average, optimizer, schedule), _meta(recipe, data, start, model.tasks)


def _start(model: RefineNet, recipe: Recipe, say: Callable[[str], None]) -> BackboneStart:
    if recipe.initial_weights is None:
        return load_backbone_weights(model, recipe.backbone_weights, input_range=recipe.input_range)
    start, anew = begin_with(model, recipe.initial_weights)
    say(f"Beginning with {recipe.initial_weights}" + (f"; anew: {', '.join(anew)}." if anew else "."))
    return start


def build_loss(recipe: Recipe, meta: WeightsMeta, class_weights: Tensor | None) -> TaskLosses:
    """class_weights: (num_classes,) on the device, or None."""
    segmentation = SegmentationLoss(
        ignore_index=meta.labels.ignore_index,
        class_weights=class_weights,
        hardest=(recipe.ohem_threshold, recipe.ohem_share) if recipe.loss == "ohem" else None,
        label_smoothing=recipe.label_smoothing,
        dice_weight=recipe.dice_weight,
        lovasz_weight=recipe.lovasz_weight,
        lovasz_stride=recipe.lovasz_stride,
        auxiliary_weight=recipe.auxiliary_weight,
    )
    weights = {"segmentation": 1.0, "depth": recipe.depth_weight, "normals": recipe.normals_weight}
    return TaskLosses(segmentation, {task: weights[task] for task in meta.tasks}, recipe.depth_loss)


def build_teacher(recipe: Recipe, meta: WeightsMeta, device: torch.device) -> Teacher | None:
    """The recipe's teacher, where it has one or several; errors as `Teacher` and `weights.load`."""
    if not recipe.teachers:
        return None
    return Teacher(
        recipe.teachers,
        meta.labels,
        weight=recipe.teacher_weight,
        channel_weight=recipe.teacher_channel_weight,
        temperature=recipe.teacher_temperature,
        flip=recipe.teacher_flip,
        device=device,
        resized=recipe.crops_at_input_scale,
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
    late_from = recipe.epochs - recipe.late_epochs
    holders = holders_of_classes(stage.pictures) if recipe.balanced_mix else ()
    mixing = Mixing(recipe.class_mix, recipe.cut_mix, holders)
    tasks = beside_masks(meta.tasks)
    return AugmentedSamples(stage.pictures, first, recipe.seed, late, late_from, tasks, mixing, recipe.hidden_patches)


def beside_masks(tasks: Sequence[str]) -> tuple[str, ...]:
    """The tasks that learn from more than masks."""
    return tuple(task for task in tasks if task != "segmentation")


def augmentation(recipe: Recipe, preprocess: Preprocess, ignore_index: int) -> TrainTransform:
    """The recipe's, as it is before the late epochs; beyond a picture lies what preprocessing turns into zeros."""
    red, green, blue = (255 * channel for channel in preprocess.mean)
    return TrainTransform(
        crop_size=recipe.crop_size,
        scale_range=recipe.scale_range,
        flip=recipe.flip,
        color_jitter=recipe.color_jitter,
        blur=recipe.blur,
        balanced=recipe.balanced_crops,
        rotation=recipe.rotation,
        fill=(red, green, blue),
        ignore_index=ignore_index,
        scale_sampling=recipe.scale_sampling,
        short_side=recipe.short_side,
        usual_scale=(recipe.input_scale or 1.0) if recipe.crops_at_input_scale else 1.0,
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
    trained = recipe.initial_weights is not None or recipe.backbone_weights != "none"
    return device_batch < FEWEST_FOR_STATISTICS and trained


def fitting_device_batch(
    recipe: Recipe,
    share: int,
    learner: Learner,
    loss: TaskLosses,
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
            maps, log_variances = learner(meta.preprocess(images))
            taught = 0.0 if teacher is None else teacher.distance(maps["segmentation"][0], images)
        torch.autograd.backward(loss(maps, _some_targets(maps, largest), log_variances).sum() + taught)

    learner.train()
    try:
        with torch.random.fork_rng(devices=[processes.device]), timed_convolutions(processes.device):
            fitting = fitting_batch(share, attempt)
    finally:
        learner.zero_grad(set_to_none=True)
        for name, buffer in learner.named_buffers():
            buffer.copy_(buffers[name])
    return min(processes.gather(fitting))


def _some_targets(maps: Mapping[str, Sequence[Tensor]], size: tuple[int, int]) -> dict[str, Tensor]:
    """Targets of the first class, 1 metre and a normal to the right, for what a network says."""
    targets = {}
    for task, (found, *_) in maps.items():
        shape = (len(found), *size) if task != "normals" else (len(found), 3, *size)
        targets[task] = torch.ones(shape, device=found.device) if task != "segmentation" else torch.zeros(shape).long()
    return {task: values.to(maps[task][0].device) for task, values in targets.items()}


def _meta(recipe: Recipe, data: RunData, start: BackboneStart, tasks: Sequence[str]) -> WeightsMeta:
    begun = [] if start.source is None else [start.source]
    data_sets = [Source("training data", f"{part.name} {part.split}", part.licence, part.name) for part in data.parts]
    teachers = [weights.read_meta(name).as_source("teacher", name) for name in recipe.teachers]
    sources = [*begun, *data_sets, *teachers]
    # A backbone's own licence stands among the sources alone: what binds is the data that the whole has learnt from.
    licences = [source.licence for source in sources if source.role != "backbone weights"]
    return WeightsMeta(
        network=recipe.model,
        arguments={**recipe.network_arguments(), **({"tasks": list(tasks)} if beside_masks(tasks) else {})},
        labels=data.labels,
        preprocess=start.preprocess,
        recipe=recipe.to_toml(),
        licence=joined(licences),
        sources=tuple(sources),
    )
