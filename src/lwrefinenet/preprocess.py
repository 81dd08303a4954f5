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
        scale = torch.tensor([1 / (255 * s) for s in self.std], device=images.device).view(1, 3, 1, 1)
        shift = torch.tensor([-m / s for m, s in zip(self.mean, self.std, strict=True)], device=images.device).view(
            1, 3, 1, 1
        )
        return images.to(torch.float32) * scale + shift

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
