"""What training minimises."""

from collections.abc import Iterable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor


def segmentation_loss(logits: Tensor, targets: Tensor, *, class_weights: Tensor | None, ignore_index: int) -> Tensor:
    """Cross-entropy over the pixels that count, on logits resized bilinearly to the targets' size.

    logits: (N, C, h, w).  targets: (N, H, W) int64, class indices and the ignore index.  class_weights: (C,) or None.
    Returns a scalar; 0 where every pixel is ignored.
    """
    logits = F.interpolate(logits.float(), size=targets.shape[-2:], mode="bilinear", align_corners=False)
    total = F.cross_entropy(logits, targets, weight=class_weights, ignore_index=ignore_index, reduction="sum")
    counted = targets[targets != ignore_index]
    norm = counted.numel() if class_weights is None else class_weights[counted].sum()
    return total / torch.as_tensor(norm, dtype=total.dtype, device=total.device).clamp_min(1e-6)


def class_weights(masks: Iterable[np.ndarray], num_classes: int, *, power: float) -> Tensor:
    """Median-frequency balancing, tempered: weight = (median frequency / frequency) ** power (D. Eigen, R. Fergus, ICCV 2015).

    masks: (H, W) uint8 class indices; other values do not count.  power: 0 gives ones, 1 the published rule.
    A class's frequency is its share of pixels in the pictures where it occurs; an absent class gets weight 1.
    Returns (num_classes,) float32.
    """
    pixels = np.zeros(num_classes)
    pixels_where_present = np.zeros(num_classes)
    for mask in masks:
        counts = np.bincount(mask.ravel(), minlength=256)[:num_classes]
        pixels += counts
        pixels_where_present += np.where(counts > 0, counts.sum(), 0)
    present = pixels > 0
    frequency = np.divide(pixels, pixels_where_present, out=np.ones(num_classes), where=present)
    weights = np.where(present, (np.median(frequency[present]) / frequency) ** power, 1.0)
    return torch.from_numpy(weights).float()
