"""The data of a run: what each stage learns from and what validates, opened, checked and counted before the first step."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TypeVar

from torch import Tensor

from lwrefinenet.data.cache import kept_in_memory
from lwrefinenet.data.census import Census, census_of
from lwrefinenet.data.check import require_sound
from lwrefinenet.data.dataset import LabelledPictures, SegmentationDataset, concatenated, deriving_normals
from lwrefinenet.data.doctor.findings import Severity
from lwrefinenet.data.stages import open_stage
from lwrefinenet.errors import DataError
from lwrefinenet.labels import LabelSet
from lwrefinenet.training.batches import steps_per_epoch
from lwrefinenet.training.losses import median_frequency_weights
from lwrefinenet.training.progress import Listener
from lwrefinenet.training.recipe import Recipe
from lwrefinenet.training.stages import Stages, build_stages

T = TypeVar("T")


@dataclass(frozen=True)
class RunData:
    """stages: what is learnt, in which order.  validation: what chooses the best weights, or None."""

    stages: Stages
    validation: LabelledPictures | None

    @property
    def labels(self) -> LabelSet:
        """The classes of all stages; palette and name are those of the last."""
        return self.stages.stages[-1].pictures.labels

    @property
    def parts(self) -> list[SegmentationDataset]:
        """Every set that is learnt from, once."""
        return _distinct(part for stage in self.stages.stages for part in stage.pictures.parts)

    @property
    def identity(self) -> list[str]:
        """What must not change between a run and its resumption, besides the recipe."""
        sets = _distinct(stage.pictures for stage in self.stages.stages)
        return [
            "+".join(each.name for each in sets),
            "+".join(each.split for each in sets),
            "+".join(str(len(each)) for each in sets),
            *self.labels.class_names,
        ]


def open_data(recipe: Recipe, roots: Mapping[str, Path]) -> RunData:
    """roots: data folders by name, as `parse_data_arguments` gives them.

    Without stages of their own data, all folders are learnt from together; the last one validates, or what the recipe says.
    DataError or UsageError for what cannot be opened, or where stages and validation have not the same classes.
    """
    expressions = recipe.stage_data or ("+".join(roots),)
    opened = partial(_opened, recipe, roots)
    training = [opened(expression, recipe.train_split) for expression in expressions]
    last = re.split(r"[+:]", expressions[-1].rpartition("+")[2])[0]
    validation = opened(recipe.val_data or last, recipe.val_split) if recipe.val_split else None
    stages = build_stages(recipe, training, lambda pictures: steps_per_epoch(len(pictures), recipe.batch_size))
    data = RunData(stages, validation)
    if validation is not None and validation.labels.class_names != data.labels.class_names:
        raise DataError(
            f"{validation.name} {validation.split} is to validate and has {len(validation.labels)} classes, the training data "
            f"has {len(data.labels)}, or they differ in name or order; take a set with the same classes by val_data."
        )
    return data


def require_labels(data: RunData, tasks: Sequence[str], listener: Listener) -> None:
    """Whether what the tasks beside segmentation learn from is there, each file as large as its picture.

    Sets that lack the labels of a task do not teach it; DataError where no set has them, or for a file that does not fit.
    """
    for task in tasks:
        if not any(part.has(task) for part in data.parts):
            derived = ", or normals_from_depth = true where there is depth" if task == "normals" else ""
            raise DataError(
                f"{' and '.join(part.name for part in data.parts)}: the network gives {task}, and no picture has any to learn it "
                f"from; give a data set with {task} ({task}/ beside masks/{derived}), or leave {task} out of tasks."
            )
        for part in data.parts:
            if not part.has(task):
                listener.say(f"warning: {part.name} {part.split} has no {task} and does not teach it.")
            part.check_files(task)
        for part in data.validation.parts if data.validation else ():
            part.check_files(task)


def checked(data: RunData, listener: Listener) -> Census:
    """Let the data doctor read all of it; what it warns of is said.  Returns the census of what is learnt from.

    DataError where training would fail or learn nonsense, with what mends it.
    """
    report = require_sound(
        concatenated(data.parts),
        data.validation,
        progress=lambda indices: listener.watch(indices, what="checking the data"),
    )
    for finding in report.findings:
        if finding.severity is Severity.WARNING:
            listener.say(f"warning: {finding}")
    for census in report.censuses:
        if not census.pixels.any():
            raise DataError(
                f"{census.name} {census.split}: not one of its pixels has a class, so that nothing can be learnt or scored; "
                "label some pictures, or set val_split to another split or empty."
            )
    return report.censuses[0]


def cached(data: RunData, cache: str, tasks: Sequence[str], listener: Listener) -> RunData:
    """The data with the pictures of every stage kept in memory, where the recipe says so; DataError where they do not fit.

    tasks: beside segmentation.
    """
    if cache == "none":
        return data
    sets = _distinct(stage.pictures for stage in data.stages.stages)
    kept = [
        kept_in_memory(each, tasks, lambda indices: listener.watch(indices, what="keeping pictures in memory"))
        for each in sets
    ]
    for each in kept:
        listener.say(f"{len(each)} pictures and masks of {each.name} kept in memory: {each.bytes / 1e9:.2f} GB.")
    stages = (replace(stage, pictures=kept[sets.index(stage.pictures)]) for stage in data.stages.stages)
    return replace(data, stages=Stages(tuple(stages)))


def holders_of_classes(pictures: LabelledPictures) -> tuple[tuple[int, ...], ...]:
    """For each class the pictures that hold it, by their place in the set; read once, and from then on kept by content."""
    holders: list[list[int]] = [[] for _ in pictures.labels.class_names]
    for place, pair in enumerate(census_of(pictures).pairs):
        for index, _pixels in pair.classes:
            holders[index].append(place)
    return tuple(tuple(places) for places in holders)


def balanced_classes(census: Census, power: float) -> Tensor:
    """(num_classes,) float32 weights by median frequency; power as in the recipe's class_weight_power."""
    return median_frequency_weights(census.pixels, census.pixels_where_present, power=power)


def _opened(recipe: Recipe, roots: Mapping[str, Path], expression: str, split: str) -> LabelledPictures:
    pictures = open_stage(expression, roots, split, published_crop=recipe.published_crop)
    return deriving_normals(pictures) if recipe.normals_from_depth else pictures


def _distinct(items: Iterable[T]) -> list[T]:
    """Each item once, in order."""
    found: list[T] = []
    for item in items:
        if item not in found:
            found.append(item)
    return found
