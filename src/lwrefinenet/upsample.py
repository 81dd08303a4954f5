"""From logits to labels at the picture's own size: logits are resized, never labels, and in bounded memory."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from lwrefinenet.label_cells import has_numba, label_cells

RESIZES = ("bilinear", "bicubic")
CPU_BAND_VALUES = 2**20
GPU_BAND_VALUES = 2**26


def labels_at(
    logits: Tensor, size: Sequence[int], resize: str = "bilinear", *, band_values: int | None = None
) -> Tensor:
    """Resize logits to `size` and take the best class of each pixel; resized logits never exist as a whole.

    logits: (N, C, h, w) float; on a CPU fastest as channels_last.  size: (height, width).  resize: "bilinear" or "bicubic",
    corners not aligned.  Returns (N, height, width) uint8.  Equal to `interpolate(logits, size).argmax(1)` up to the
    rounding of ties.
    Bilinear on a CPU where numba is installed, labels are found cell by cell (`label_cells`); else in bands of rows.
    band_values: take bands, in which about so many resized logits exist at a time, 4 bytes each; it changes no label. By
    default what the cache of a processor holds, or enough to keep a GPU busy.
    """
    if resize == "bilinear" and logits.device.type == "cpu" and band_values is None and has_numba():
        return torch.stack([label_cells(one.float(), size) for one in logits])
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
