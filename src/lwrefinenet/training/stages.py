"""The stages of a run, what each learns from, and the learning rate at every step of them."""

import math
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from lwrefinenet.data.dataset import LabelledPictures
from lwrefinenet.training.recipe import Recipe


@dataclass(frozen=True)
class Stage:
    """Epochs on one data set. first_epoch: of the run, from 0.  steps: per epoch.  lr_scale: of both learning rates."""

    pictures: LabelledPictures
    first_epoch: int
    epochs: int
    steps: int
    lr_scale: float = 1.0


@dataclass(frozen=True)
class Stages:
    """The stages in their order."""

    stages: tuple[Stage, ...]

    def at_epoch(self, epoch: int) -> Stage:
        """The stage that an epoch (from 0) belongs to; the last one for the end of the run."""
        return self.stages[min(bisect_right(self.starts, epoch), len(self.stages)) - 1]

    def starts_at(self, epoch: int) -> bool:
        """Whether a stage other than the first begins with this epoch."""
        return epoch > 0 and epoch in self.starts

    @property
    def starts(self) -> list[int]:
        return [stage.first_epoch for stage in self.stages]

    @property
    def total_steps(self) -> int:
        return sum(stage.epochs * stage.steps for stage in self.stages)

    def steps_before(self, epoch: int) -> int:
        """Optimiser steps in all epochs before this one."""
        return sum(stage.steps * min(max(epoch - stage.first_epoch, 0), stage.epochs) for stage in self.stages)


def build_stages(
    recipe: Recipe, pictures: Sequence[LabelledPictures], steps: Callable[[LabelledPictures], int]
) -> Stages:
    """pictures: one set for each stage, or one for all.  steps: the optimiser steps of an epoch on a set."""
    epochs = recipe.stage_epochs or (recipe.epochs,)
    scales = recipe.stage_lr_scales or (1.0,) * len(epochs)
    sets = pictures if len(pictures) == len(epochs) else list(pictures) * len(epochs)
    starts = [0, *accumulate(epochs)]
    return Stages(
        tuple(
            Stage(each, first, length, steps(each), scale)
            for each, first, length, scale in zip(sets, starts, epochs, scales, strict=False)
        )
    )


def learning_rate_schedule(optimizer: Optimizer, recipe: Recipe, stages: Stages) -> LambdaLR:
    """The recipe's schedule, anew in every stage, with a linear warm-up at the start of the run; one call per step."""
    ends = list(accumulate(stage.epochs * stage.steps for stage in stages.stages))

    def factor(step: int) -> float:
        number = min(bisect_right(ends, step), len(ends) - 1)
        stage = stages.stages[number]
        done = step - (ends[number] - stage.epochs * stage.steps)
        warmup = min(1.0, (step + 1) / (recipe.warmup_steps + 1))
        epoch = stage.first_epoch + done // stage.steps
        left = stage.epochs - done / stage.steps
        return warmup * stage.lr_scale * _decay(recipe, done / (stage.epochs * stage.steps), epoch, left)

    return LambdaLR(optimizer, factor)


def _decay(recipe: Recipe, progress: float, epoch: int, left: float) -> float:
    """progress: 0-1 through the stage.  epoch: of the run, from 0.  left: epochs to the end of the stage."""
    match recipe.schedule:
        case "poly":
            remaining: float = max(0.0, 1 - progress) ** recipe.poly_power
            return remaining
        case "cosine":
            return (1 + math.cos(math.pi * min(1.0, progress))) / 2
        case "wsd":  # warm-up, stable, decay: Hägele et al., NeurIPS 2024
            return min(1.0, max(0.0, left) / recipe.decay_epochs)
        case "multistep":
            passed: float = recipe.gamma ** sum(epoch >= milestone for milestone in recipe.milestones)
            return passed
        case _:
            return 1.0
