"""From a picture to its mask: the Predictor, its result, and whole folders of pictures."""

import glob
import os
import re
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
import PIL.Image
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from lwrefinenet import visualize, weights
from lwrefinenet.errors import ImageError, LwRefineNetError, UsageError
from lwrefinenet.files import write_atomically
from lwrefinenet.images import MAX_PIXELS, Picture, as_stored, encode_mask, encode_picture, read_picture, upright
from lwrefinenet.labels import LabelSet
from lwrefinenet.meta import WeightsMeta

RESIZES = ("bilinear", "bicubic")
CPU_BAND_VALUES = 2**20
GPU_BAND_VALUES = 2**26
INPUT_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".webp", ".bmp", ".gif")


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

    def save(self, path: str | Path) -> None:
        """Write the mask as an indexed PNG with the palette, whole or not at all; UsageError for other suffixes."""
        if Path(path).suffix.lower() != ".png":
            raise UsageError(f"{path}: masks are written as .png, because other formats change or lose class indices.")
        write_atomically(Path(path), encode_mask(self.mask, self.labels.palette, ignore_index=self.labels.ignore_index))


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


def labels_at(
    logits: Tensor, size: Sequence[int], resize: str = "bilinear", *, band_values: int | None = None
) -> Tensor:
    """Resize logits to `size` and take the best class of each pixel, in bands of rows so that memory stays bounded.

    logits: (N, C, h, w) float.  size: (height, width).  resize: "bilinear" or "bicubic", corners not aligned.
    band_values: about how many resized logits exist at a time, 4 bytes each; it changes no label. By default what the
    cache of a processor holds, or enough to keep a GPU busy.
    Returns (N, height, width) uint8.  Equal to `interpolate(logits, size).argmax(1)` up to the rounding of ties.
    """
    height, width = size
    band_values = band_values or (CPU_BAND_VALUES if logits.device.type == "cpu" else GPU_BAND_VALUES)
    rows = max(1, band_values // (logits.shape[1] * width * len(logits)))
    taps, tap_weights = _taps(logits.shape[2], height, resize, logits.device)
    labels = []
    for start in range(0, height, rows):
        band = slice(start, start + rows)
        picked = [logits[:, :, tap[band]] * weight[band, None] for tap, weight in zip(taps, tap_weights, strict=True)]
        lines = sum(picked[1:], picked[0]).contiguous(memory_format=torch.channels_last)
        # The height stays, so that this interpolates along the rows only; argmax is many times faster on channels_last.
        resized = F.interpolate(lines, size=(lines.shape[2], width), mode=resize, align_corners=False)
        labels.append(resized.argmax(1).to(torch.uint8))
    return torch.cat(labels, dim=1)


def _taps(length: int, new_length: int, resize: str, device: torch.device) -> tuple[Tensor, Tensor]:
    """Which old rows make a new row, and their weights: two tensors (2 or 4, new_length), as torch's `interpolate`."""
    centre = (torch.arange(new_length, device=device) + 0.5) * (length / new_length) - 0.5
    offsets = torch.arange(0, 2, device=device) if resize == "bilinear" else torch.arange(-1, 3, device=device)
    first = centre.floor()
    distance = (centre - first - offsets[:, None]).abs()
    taps = (first.long() + offsets[:, None]).clamp(0, length - 1)
    return taps, (1 - distance if resize == "bilinear" else _cubic(distance))


def _cubic(distance: Tensor, a: float = -0.75) -> Tensor:
    """The cubic convolution kernel at 0 <= distance <= 2."""
    near = ((a + 2) * distance - (a + 3)) * distance**2 + 1
    far = ((distance - 5) * distance + 8) * distance * a - 4 * a
    return torch.where(distance <= 1, near, far)


@dataclass(frozen=True, eq=False)
class FileResult:
    """What became of one input: a segmentation and where it was written, or the error.

    timings: those of the segmentation, and save.
    """

    source: Path
    mask_path: Path
    overlay_path: Path | None
    segmentation: Segmentation | None = None
    error: LwRefineNetError | None = None
    timings: dict[str, float] = field(default_factory=dict)


def expand_inputs(arguments: Sequence[str | Path]) -> list[Path]:
    """Files as they are, the pictures of folders (not of folders in them), the files that globs match.

    In the order of the arguments, sorted within a folder or glob, each file once.  UsageError for an argument that is
    nothing of this kind.
    """
    files: dict[str, Path] = {}
    for argument in arguments:
        for file in _expanded(str(argument)):
            files.setdefault(os.path.abspath(file), file)  # noqa: PTH100 - links to one file stay two inputs
    return list(files.values())


def predict_files(
    predictor: Predictor,
    files: Sequence[Path],
    output: Path,
    *,
    overwrite: bool = False,
    overlay: bool = True,
    max_pixels: int = MAX_PIXELS,
) -> Iterator[FileResult]:
    """Write STEM_mask.png, and STEM_overlay.jpg unless told not to, of each file into the folder `output`.

    Yields one FileResult per file as it is done; a file that fails, or whose outputs exist, does not stop the rest.
    Before any work starts: UsageError where two outputs, or an output and an input, would be the same file;
    LwRefineNetError where the folder cannot be written.
    """
    plan = [
        FileResult(file, output / f"{file.stem}_mask.png", output / f"{file.stem}_overlay.jpg" if overlay else None)
        for file in files
    ]
    _check_collisions(plan)
    _check_writable(output)
    return (_predict_file(predictor, planned, overwrite=overwrite, max_pixels=max_pixels) for planned in plan)


def _predict_file(predictor: Predictor, planned: FileResult, *, overwrite: bool, max_pixels: int) -> FileResult:
    source, mask_path, overlay_path = planned.source, planned.mask_path, planned.overlay_path
    try:
        for path in (mask_path, overlay_path):
            if path is not None and path.exists() and not overwrite:
                raise ImageError(f"{source}: {path} exists; give --overwrite to replace it, or another --output.")
        segmentation = predictor(source, max_pixels=max_pixels)
        clock = _Clock(torch.device("cpu"))
        segmentation.save(mask_path)
        if overlay_path is not None:
            write_atomically(overlay_path, encode_picture(segmentation.overlay(), overlay_path.suffix))
        clock.lap("save")
    except LwRefineNetError as error:
        return FileResult(source, mask_path, overlay_path, error=error)
    return FileResult(source, mask_path, overlay_path, segmentation, timings=segmentation.timings | clock.laps)


def _expanded(argument: str) -> list[Path]:
    path = Path(argument)
    if path.is_dir():
        visible = (p for p in path.iterdir() if p.is_file() and not p.name.startswith("."))
        pictures = sorted(p for p in visible if p.suffix.lower() in INPUT_SUFFIXES)
        if not pictures:
            raise UsageError(f"{path}: this folder holds no pictures ({', '.join(INPUT_SUFFIXES)}).")
        return pictures
    if path.exists():
        return [path]
    if not any(wildcard in argument for wildcard in "*?["):
        raise UsageError(f"{path}: there is no such file or folder; check the name.")
    found = (Path(match) for match in glob.glob(argument, recursive=True))  # noqa: PTH207 - as a shell: no hidden files
    matches = sorted(path for path in found if path.is_file())
    if not matches:
        raise UsageError(f"{argument}: no file matches this pattern.")
    return matches


def _check_collisions(plan: Sequence[FileResult]) -> None:
    writers: dict[Path, Path] = {}
    inputs = {planned.source.resolve() for planned in plan}
    for planned in plan:
        for path in filter(None, (planned.mask_path, planned.overlay_path)):
            if path in writers:
                raise UsageError(
                    f"{writers[path]} and {planned.source} would both be written as {path}; "
                    "predict them in two calls, each with its own --output."
                )
            if path.resolve() in inputs:
                raise UsageError(f"{path} is an input and would be written over; give another --output.")
            writers[path] = planned.source


def _check_writable(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise LwRefineNetError(
            f"{folder}: nothing can be written here ({error.strerror or error}); give another folder through --output."
        ) from error


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
