"""From a picture to its mask: the Predictor and its result."""

import re
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
import PIL.Image
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from lwrefinenet import visualize, weights
from lwrefinenet.errors import ImageError, UsageError
from lwrefinenet.files import write_atomically
from lwrefinenet.images import MAX_PIXELS, Picture, as_stored, encode_mask, read_picture, upright
from lwrefinenet.labels import LabelSet
from lwrefinenet.meta import WeightsMeta
from lwrefinenet.upsample import RESIZES, labels_at


@dataclass(frozen=True, eq=False)
class Segmentation:
    """What a network sees in a picture.

    mask: (H, W) class indices, aligned with the picture as it lies in its file.
    picture: what was predicted, upright.  timings: seconds by step: decode, prepare, network, upsample+argmax.
    """

    mask: NDArray[np.uint8]
    labels: LabelSet
    picture: Picture
    timings: dict[str, float] = field(default_factory=dict)

    def shares(self) -> dict[str, float]:
        """The share of all pixels (0-1) of each class found, largest first."""
        return visualize.class_shares(self.mask, self.labels)

    def overlay(self, opacity: float = 0.5) -> NDArray[np.uint8]:
        """The classes painted over the picture, (H, W, 3) RGB, upright for the eye."""
        mask = upright(self.mask, self.picture.orientation)
        return visualize.overlay(self.picture.pixels, mask, self.labels, opacity)

    def sheet(self) -> NDArray[np.uint8]:
        """Picture, mask and overlay side by side over a legend, (H', W', 3) RGB, upright for the eye."""
        mask = upright(self.mask, self.picture.orientation)
        return visualize.contact_sheet(self.picture.pixels, mask, self.labels)

    def encoded(self) -> bytes:
        """The mask as an indexed PNG with the palette."""
        return encode_mask(self.mask, self.labels.palette, ignore_index=self.labels.ignore_index)

    def save(self, path: str | Path) -> None:
        """Write the mask as an indexed PNG with the palette, whole or not at all; UsageError for other suffixes."""
        if Path(path).suffix.lower() != ".png":
            raise UsageError(f"{path}: masks are written as .png, because other formats change or lose class indices.")
        write_atomically(Path(path), self.encoded())


class Predictor:
    """A network, the meaning of its weights, and the device on which it runs.

    The model is moved to the device and put into evaluation mode.
    device: auto (cuda, then mps, then cpu), cpu, cuda, cuda:N or mps.  resize: how logits are brought to the picture's
    size, "bilinear" or "bicubic" (as published); UsageError for anything else.
    """

    def __init__(
        self, model: nn.Module, meta: WeightsMeta, device: str | torch.device = "auto", *, resize: str = "bilinear"
    ) -> None:
        if resize not in RESIZES:
            raise UsageError(f"resize is {resize!r}; expected {' or '.join(RESIZES)}.")
        self.device = resolve_device(device)
        self.model = model.to(self.device).to(memory_format=torch.channels_last).eval()
        self.meta = meta
        self.resize = resize

    @classmethod
    def from_weights(
        cls, name_or_path: str | Path, *, device: str | torch.device = "auto", resize: str = "bilinear"
    ) -> Self:
        """A Predictor with named weights (see `lwrefinenet models`) or those of a file; errors as `weights.load`."""
        model, meta = weights.load(name_or_path)
        return cls(model, meta, device, resize=resize)

    def __call__(
        self, source: str | Path | PIL.Image.Image | NDArray[Any], *, max_pixels: int = MAX_PIXELS
    ) -> Segmentation:
        """Segment one picture: a file, a Pillow image, or an (H, W, 3) uint8 RGB array; errors as `read_picture`."""
        clock = _Clock(self.device)
        picture = read_picture(source, max_pixels=max_pixels)
        clock.lap("decode")
        try:
            mask = self._mask(picture.pixels, clock)
        except torch.OutOfMemoryError as error:
            height, width = picture.pixels.shape[:2]
            name = source if isinstance(source, str | Path) else "the given picture"
            raise ImageError(
                f"{name}: {width}x{height} pixels do not fit into the memory of {self.device}; "
                "give --device cpu, or cut the picture into tiles."
            ) from error
        return Segmentation(as_stored(mask, picture.orientation), self.meta.labels, picture, clock.laps)

    def predict_mask(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """pixels: (H, W, 3) uint8 RGB, upright.  Returns (H, W) uint8 class indices."""
        return self._mask(pixels, _Clock(self.device))

    @torch.inference_mode()
    def logits(self, images: Tensor) -> Tensor:
        """images: (N, 3, H, W) uint8 RGB.  Returns float32 (N, C, ceil(H/4), ceil(W/4)) on the Predictor's device."""
        return self._logits(self._prepared(images))

    @torch.inference_mode()
    def _mask(self, pixels: NDArray[np.uint8], clock: "_Clock") -> NDArray[np.uint8]:
        images = self._prepared(torch.from_numpy(pixels).permute(2, 0, 1)[None])
        clock.lap("prepare")
        logits = self._logits(images)
        clock.lap("network")
        mask: NDArray[np.uint8] = labels_at(logits, pixels.shape[:2], self.resize)[0].cpu().numpy()
        clock.lap("upsample+argmax")
        return mask

    def _prepared(self, images: Tensor) -> Tensor:
        return self.meta.preprocess(images.to(self.device, memory_format=torch.channels_last))

    def _logits(self, prepared: Tensor) -> Tensor:
        logits: Tensor = self.model(prepared)
        return logits.float()


def resolve_device(name: str | torch.device) -> torch.device:
    """The device for auto, cpu, cuda, cuda:N or mps; UsageError for another word or a device that is not there."""
    name = str(name)
    if name == "auto":
        usable = [kind for kind in ("cuda", "mps") if _count(kind)]
        return torch.device(usable[0] if usable else "cpu")
    if not (match := re.fullmatch(r"cpu|mps|cuda(?::(\d+))?", name)):
        raise UsageError(f"device {name!r} is not known; expected auto, cpu, cuda, cuda:N or mps.")
    kind, index = name.partition(":")[0], int(match[1] or 0)
    if kind != "cpu" and index >= (count := _count(kind)):
        raise UsageError(
            f"device {name!r} is not there: this machine, with torch {torch.__version__}, has {count} usable {kind} "
            "devices. Give auto or cpu, or install the driver and the torch build for it."
        )
    return torch.device(name)


def _count(kind: str) -> int:
    """How many devices of a kind can be used."""
    if kind == "cuda":
        return torch.cuda.device_count() if torch.cuda.is_available() else 0
    return int(torch.backends.mps.is_available())


class _Clock:
    """Seconds by step; waits for the device, which works on while Python goes ahead."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.laps: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, step: str) -> None:
        if self.device.type != "cpu":
            torch.accelerator.synchronize(self.device)
        now = time.perf_counter()
        self.laps[step], self._last = now - self._last, now
