"""The one definition of preprocessing: training, evaluation, prediction and export hold the same object."""

from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Preprocess:
    """Normalisation of RGB pictures: `(image / 255 - mean) / std` per channel; no resizing, no padding."""

    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD

    def __call__(self, images: Tensor) -> Tensor:
        """Normalise a batch of pictures.

        images: (N, 3, H, W) RGB, uint8 0-255.  Returns float32 of the same shape and memory format.
        """
        scale = torch.tensor([1 / (255 * s) for s in self.std], device=images.device)
        shift = torch.tensor([-m / s for m, s in zip(self.mean, self.std, strict=True)], device=images.device)
        if images.is_contiguous() or not images.is_contiguous(memory_format=torch.channels_last):
            return images.to(torch.float32) * scale.view(1, 3, 1, 1) + shift.view(1, 3, 1, 1)
        # Where colours alternate, whole rows of them are taken at once: the same numbers, several times as fast.
        count, _, height, width = images.shape
        rows = images.permute(0, 2, 3, 1).reshape(count, height, width * 3).to(torch.float32)
        normalised = rows.mul_(scale.repeat(width)).add_(shift.repeat(width))
        return normalised.view(count, height, width, 3).permute(0, 3, 1, 2)

    def to_dict(self) -> dict[str, list[float]]:
        """As it stands in a weights file."""
        return {"mean": list(self.mean), "std": list(self.std)}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """The inverse of `to_dict`; KeyError or ValueError where a mean or std is missing or not three numbers."""
        mean, std = ([float(v) for v in values[key]] for key in ("mean", "std"))
        if len(mean) != 3 or len(std) != 3:
            raise ValueError(f"mean and std need three numbers each, got {mean} and {std}")
        return cls(mean=(mean[0], mean[1], mean[2]), std=(std[0], std[1], std[2]))
