"""Augmentation of pictures with their masks, on torchvision's v2 transforms; random numbers come from torch's generator."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as tf

from lwrefinenet.data.dataset import Labelled

BLUR_SIGMA = 0.3, 1.5  # pixels of the crop
MIRRORED = torch.tensor([-1.0, 1.0, 1.0])[:, None, None]


@dataclass(frozen=True)
class TrainTransform:
    """Random scale, rotation, crop and flip, colour jitter: from a picture and its mask to tensors of `crop_size`.

    crop_size: (height, width).  scale_range: of the picture's size, drawn log-uniformly or uniformly.
    short_side: least shorter side of the scaled picture, in pixels; 0 for no such limit.  flip: chance of a mirror image.
    color_jitter: strength of brightness, contrast and saturation (0 off; hue takes a tenth of it).
    blur: chance of a Gaussian blur, its sigma drawn uniformly from `BLUR_SIGMA`.
    fill: RGB 0-255 where the crop reaches beyond the picture; the mask holds `ignore_index` there.
    balanced: chance that the crop is laid around a pixel of one class of the picture, each class alike likely, large or small.
    usual_scale: at which a whole picture will be seen, and has the depth that is known of it.
    rotation: largest angle in degrees, either way, by which a crop is turned, drawn uniformly; one that is laid around a pixel
    of a class stays upright.
    """

    crop_size: tuple[int, int]
    scale_range: tuple[float, float]
    flip: float
    color_jitter: float
    fill: tuple[float, float, float]
    ignore_index: int
    scale_sampling: str = "log-uniform"
    short_side: int = 0
    usual_scale: float = 1.0
    blur: float = 0.0
    balanced: float = 0.0
    rotation: float = 0.0

    def __call__(self, pixels: np.ndarray, mask: np.ndarray) -> tuple[Tensor, Tensor]:
        """pixels: (H, W, 3) uint8; mask: (H, W) uint8.  Returns uint8 (3, h, w) and int64 (h, w)."""
        image, targets = self.of(Labelled(pixels, mask))
        return image, targets["segmentation"]

    def of(self, labelled: Labelled, wanted: int | None = None) -> tuple[Tensor, dict[str, Tensor]]:
        """The picture, uint8 (3, h, w), and what is known of its pixels, by task.

        wanted: a class of which the crop is to hold a pixel, where the picture has one.
        segmentation: int64 (h, w).  depth: float32 (h, w) metres, divided by the scale over the usual one: what is shown larger
        is nearer.  normals: float32 (3, h, w), their first component negated in a mirror image, and turned with the crop.  Both
        are 0 where unknown.
        """
        # No tv_tensors: torchvision before 0.29 resizes a Mask by NEAREST whatever it is told, half a pixel beside the picture.
        maps = {"segmentation": torch.from_numpy(labelled.mask)[None]}
        if labelled.depth is not None:
            maps["depth"] = torch.from_numpy(labelled.depth)[None]
        if labelled.normals is not None:
            maps["normals"] = torch.from_numpy(labelled.normals).permute(2, 0, 1)
        image = torch.from_numpy(labelled.pixels).permute(2, 0, 1)
        around = _pixel_of(labelled.mask, self._drawn_class(labelled.mask) if wanted is None else wanted)
        image, maps = self._scale_and_crop(image, maps, around)
        if torch.rand(()).item() < self.flip:
            image, maps = tf.horizontal_flip(image), {task: tf.horizontal_flip(values) for task, values in maps.items()}
            if "normals" in maps:
                maps["normals"] = maps["normals"] * MIRRORED
        if self.blur and torch.rand(()).item() < self.blur:
            low, high = BLUR_SIGMA
            image = tf.gaussian_blur(image, [7, 7], [low + (high - low) * torch.rand(()).item()])
        if self.color_jitter:
            image = jitter_colors(image, self.color_jitter)
        maps["segmentation"] = maps["segmentation"][0].long()
        if "depth" in maps:
            maps["depth"] = maps["depth"][0]
        return image, maps

    def _drawn_class(self, mask: np.ndarray) -> int | None:
        """A class of which the crop is to hold a pixel, or None for a crop from anywhere."""
        if not self.balanced or torch.rand(()).item() >= self.balanced:
            return None
        classes = np.flatnonzero(np.bincount(mask.ravel(), minlength=256))
        if len(classes := classes[classes != self.ignore_index]) == 0:
            return None
        return int(classes[int(torch.randint(len(classes), ()).item())])

    def _scale_and_crop(
        self, image: Tensor, maps: dict[str, Tensor], around: tuple[int, int] | None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Cut the window that becomes the crop, then resize it: the same as resizing first, for less work.

        around: (row, column) of a pixel in the window, or None.
        """
        scale = max(self._scale(), self.short_side / min(image.shape[-2:]))
        angle = self._angle() if around is None else 0.0
        size = list(_holding(self.crop_size, angle))
        height, width = (max(1, round(side / scale)) for side in size)
        row, column = around or (None, None)
        top, pad_top, pad_bottom = _window(image.shape[-2], height, row)
        left, pad_left, pad_right = _window(image.shape[-1], width, column)
        padding = [pad_left, pad_top, pad_right, pad_bottom]

        def cut(x: Tensor, fill: list[float] | float) -> Tensor:
            x = tf.crop(x, top, left, min(height, x.shape[-2]), min(width, x.shape[-1]))
            return tf.pad(x, padding, fill=fill) if any(padding) else x

        image = tf.resize(cut(image, list(self.fill)), size, antialias=True)
        for task, values in maps.items():
            values = cut(values, self._unknown(task))
            maps[task] = tf.resize(values, size, interpolation=v2.InterpolationMode.NEAREST_EXACT)
        if "depth" in maps:
            maps["depth"] = maps["depth"] / (scale / self.usual_scale)
        return self._turned(image, maps, angle) if angle else (image, maps)

    def _turned(self, image: Tensor, maps: dict[str, Tensor], angle: float) -> tuple[Tensor, dict[str, Tensor]]:
        """The middle of a crop that was made larger (`_holding`), after a turn by so many degrees, anticlockwise.

        To turn a picture is to roll the camera about its axis: nothing gets nearer or farther.
        """
        size = list(self.crop_size)
        image = tf.center_crop(tf.rotate(image, angle, v2.InterpolationMode.BILINEAR, fill=list(self.fill)), size)
        for task, values in maps.items():
            maps[task] = tf.center_crop(tf.rotate(values, angle, fill=self._unknown(task)), size)
        if "normals" in maps:
            right, towards, down = maps["normals"]
            cosine, sine = math.cos(math.radians(angle)), math.sin(math.radians(angle))
            maps["normals"] = torch.stack([cosine * right + sine * down, towards, cosine * down - sine * right])
        return image, maps

    def _unknown(self, task: str) -> int:
        return self.ignore_index if task == "segmentation" else 0

    def _angle(self) -> float:
        return (2 * torch.rand(()).item() - 1) * self.rotation if self.rotation else 0.0

    def _scale(self) -> float:
        drawn = torch.rand(()).item()
        if self.scale_sampling == "uniform":
            low, high = self.scale_range
            return low + (high - low) * drawn
        low, high = (math.log(limit) for limit in self.scale_range)
        return math.exp(low + (high - low) * drawn)


def jitter_colors(image: Tensor, strength: float) -> Tensor:
    """Change brightness, contrast and saturation by random factors in 1 +- strength, and the hue by up to strength / 10 turns.

    image: (3, H, W) RGB uint8.  Returns the same.  The four are linear in RGB and, with the hue turned in the YIQ colour
    space, commute: one 3x3 matrix does them all, where torchvision's transform, by way of HSV, takes several times as long.
    """
    draws = (2 * torch.rand(4) - 1) * strength
    brightness, contrast, saturation = (draws[:3] + 1).clamp_min(0).tolist()
    angle = 2 * math.pi * draws[3].item() / 10
    cosine, sine = saturation * math.cos(angle), saturation * math.sin(angle)
    to_yiq = torch.tensor(_RGB_TO_YIQ)
    matrix = torch.linalg.inv(to_yiq) @ torch.tensor([[1, 0, 0], [0, cosine, -sine], [0, sine, cosine]]) @ to_yiq
    colours = image.flatten(1).float()
    grey = to_yiq[0] @ colours.mean(dim=1)
    changed = torch.addmm(brightness * (1 - contrast) * grey + 0.5, brightness * contrast * matrix, colours)
    return changed.clamp_(0, 255).to(torch.uint8).view(image.shape)  # + 0.5 and cut off: rounded


_RGB_TO_YIQ = ((0.299, 0.587, 0.114), (0.595716, -0.274453, -0.321263), (0.211456, -0.522591, 0.311135))


def _pixel_of(mask: np.ndarray, wanted: int | None) -> tuple[int, int] | None:
    """(row, column) of a pixel of that class, each alike likely; None for no class, or one that the mask lacks."""
    pixels = np.flatnonzero(mask == wanted) if wanted is not None else ()
    if len(pixels) == 0:
        return None
    row, column = divmod(int(pixels[int(torch.randint(len(pixels), ()).item())]), mask.shape[1])
    return row, column


def _holding(size: tuple[int, int], angle: float) -> tuple[int, int]:
    """(height, width) of the smallest upright rectangle that holds one of this size, turned by so many degrees."""
    height, width = size
    cosine, sine = abs(math.cos(math.radians(angle))), abs(math.sin(math.radians(angle)))
    return math.ceil(height * cosine + width * sine), math.ceil(width * cosine + height * sine)


def _window(length: int, window: int, holds: int | None) -> tuple[int, int, int]:
    """Where a window starts on a side, and the padding before and after where the side is shorter than the window.

    holds: a place on the side that the window must hold, or None.
    """
    missing = max(0, window - length)
    before = int(torch.randint(missing + 1, ()).item())
    first, last = 0, length + missing - window
    if holds is not None:
        first, last = max(first, holds + before - window + 1), min(last, holds + before)
    start = int(torch.randint(first, last + 1, ()).item())
    return start, before, missing - before
