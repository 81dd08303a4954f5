"""Patches of a crop that a learner does not see: what shows there it has to infer from what lies around.

L. Hoyer et al., "MIC: Masked image consistency for context-enhanced domain adaptation", CVPR 2023 (arXiv:2212.01322), where
each picture is learnt from a second time, whole; here only the draw of its share leaves a crop nearly whole.
"""

import math

import torch
from torch import Tensor

PATCH = 64  # pixels of the crop, each side


def hidden_patches(size: tuple[int, int], most: float) -> Tensor:
    """Which patches of a crop are hidden, (rows, columns) bool; those at its lower and right edge may be cut.

    size: (height, width) of the crop.  most: 0-1, up to which share of them; this crop's is drawn uniformly from 0 to that, and
    each patch by itself.  Random numbers come from torch's generator; for 0 none is drawn.
    """
    rows, columns = (math.ceil(side / PATCH) for side in size)
    if not most:
        return torch.zeros(rows, columns, dtype=torch.bool)
    share = most * torch.rand(()).item()
    return torch.rand(rows, columns) < share


def without_hidden(images: Tensor, hidden: Tensor) -> Tensor:
    """Normalised images (N, 3, H, W) with zeros, the mean colour, in the patches that `hidden` (N, rows, columns) tells."""
    height, width = images.shape[-2:]
    pixels = hidden.repeat_interleave(PATCH, dim=1).repeat_interleave(PATCH, dim=2)[:, None, :height, :width]
    return images.masked_fill(pixels, 0)
