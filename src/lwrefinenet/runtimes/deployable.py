"""The graph that is exported: a picture as it comes out of a file goes in, a class mask comes out."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lwrefinenet.models.fuse import fold
from lwrefinenet.preprocess import Preprocess

EXAMPLE_SIZE = (353, 467)  # odd numbers, so that no rounding of sizes is taken for a constant


class Deployable(nn.Module):
    """Normalisation, network, upsampling and argmax in one module.

    model: (N, 3, H, W) normalised -> logits at a quarter of the size; a folded copy of it is kept.
    precision: of the network's parameters and arithmetic; the picture's and the logits' resizing is float32.
    """

    def __init__(self, model: nn.Module, preprocess: Preprocess, precision: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.network = fold(model).to(precision)
        self.preprocess = preprocess
        self.precision = precision

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """image: (1, H, W, 3) uint8 RGB.  Returns the mask, (1, H, W) uint8, and the logits that it was made from."""
        planes = image.permute(0, 3, 1, 2).contiguous()
        logits = self.network(self.preprocess(planes).to(self.precision)).float()
        size = (image.shape[1], image.shape[2])
        resized = F.interpolate(logits, size=size, mode="bilinear", align_corners=False)
        return resized.argmax(1).to(torch.uint8), logits
