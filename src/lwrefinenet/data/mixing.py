"""A part of one crop laid over another, with all that is known of its pixels: more scenes than were photographed."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

Crop = tuple[Tensor, dict[str, Tensor]]
Part = Callable[[Tensor, int, int | None], Tensor]


@dataclass(frozen=True)
class Mixing:
    """How often a crop gets a part of another one; random numbers come from torch's generator.

    class_mix: chance that the part is half of the other crop's classes (V. Olsson et al., "ClassMix", WACV 2021).
    cut_mix: chance that it is a rectangle of it (S. Yun et al., "CutMix", ICCV 2019).  Together at most 1.
    holders: the pictures that hold each class, by class; where there are any, the other crop is drawn for one of the classes, each
    alike likely, so that those of few pictures are laid over as often as others.
    """

    class_mix: float = 0.0
    cut_mix: float = 0.0
    holders: tuple[Sequence[int], ...] = ()

    def draw(self) -> Part | None:
        """What finds the part in another crop's (H, W) classes, given their ignore index and the class that the crop was drawn for,
        if any; None: this crop stays as it is.
        """
        drawn = torch.rand(()).item()
        if drawn < self.class_mix:
            return half_of_the_classes
        return rectangle if drawn < self.class_mix + self.cut_mix else None

    def draw_other(self, pictures: int) -> tuple[int, int | None]:
        """Of which of so many pictures the other crop is, and for which class it was drawn, None: for none."""
        held = [index for index, holders in enumerate(self.holders) if len(holders)]
        if not held:
            return _below(pictures), None
        wanted = held[_below(len(held))]
        return self.holders[wanted][_below(len(self.holders[wanted]))], wanted


def _below(number: int) -> int:
    return int(torch.randint(number, ()).item())


def half_of_the_classes(mask: Tensor, ignore_index: int, wanted: int | None = None) -> Tensor:
    """(H, W) bool: the pixels of every second class that the mask holds, drawn at random, of an odd number the larger half.

    wanted: a class that is surely among them, where the mask holds it.
    """
    classes = torch.unique(mask)
    classes = classes[classes != ignore_index]
    order = torch.randperm(len(classes))
    if wanted is not None:
        order = order[torch.argsort((classes[order] != wanted).long(), stable=True)]
    return torch.isin(mask, classes[order[: (len(classes) + 1) // 2]])


def rectangle(mask: Tensor, _ignore_index: int, _wanted: int | None = None) -> Tensor:
    """(H, W) bool: a rectangle of the mask's proportions, its area drawn uniformly from none to all, anywhere inside."""
    side = torch.rand(()).sqrt().item()
    height, width = (round(side * length) for length in mask.shape)
    top, left = (_below(whole - part + 1) for whole, part in zip(mask.shape, (height, width), strict=True))
    inside = torch.zeros_like(mask, dtype=torch.bool)
    inside[top : top + height, left : left + width] = True
    return inside


def laid_over(under: Crop, over: Crop, inside: Tensor) -> Crop:
    """One crop with the pixels of another one where `inside` (H, W) holds.

    A crop: (3, H, W) uint8, and what is known of its pixels by task, (H, W) or (C, H, W), the same tasks in both.
    """
    image = torch.where(inside, over[0], under[0])
    return image, {task: torch.where(inside, over[1][task], values) for task, values in under[1].items()}
