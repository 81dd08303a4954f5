"""The parity gate: an exported file is run beside the network that it was made from, on real pictures."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import PIL.Image
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lwrefinenet.errors import WeightsError
from lwrefinenet.preprocess import Preprocess

SIZES = ((480, 640), (353, 467), (240, 424))  # one odd, all of another shape
LEAST_EQUAL = {"fp32": 0.999, "bf16": 0.99, "fp16": 0.99, "int8": 0.0}  # int8 is guarded by its score instead

Run = Callable[[Tensor], tuple[Tensor, Tensor]]  # a picture (1, H, W, 3) -> its mask and its logits


@dataclass(frozen=True)
class Parity:
    """How an exported file compares with its network.

    equal_pixels: the share of all pixels, 0-1, with the same class.  logit_difference: the largest one, and
    relative_difference: the same in standard deviations of the logits.  sizes: "WxH" of each picture, with its share.
    least_equal: the share that the file must reach.
    """

    equal_pixels: float
    logit_difference: float
    relative_difference: float
    sizes: dict[str, float]
    least_equal: float

    @property
    def holds(self) -> bool:
        return self.equal_pixels >= self.least_equal

    def to_dict(self) -> dict[str, Any]:
        """As it stands in the file and in JSON."""
        return asdict(self)

    def check(self, what: str) -> None:
        """Raise WeightsError where the file is not equal enough."""
        if not self.holds:
            raise WeightsError(
                f"{what}: the exported graph gives the same class on {self.equal_pixels:.3%} of the pixels only, expected at least "
                f"{self.least_equal:.1%} (largest difference of logits {self.logit_difference:.2g}). No file was kept."
            )


def measure(
    run: Run,
    model: nn.Module,
    preprocess: Preprocess,
    pictures: Iterable[np.ndarray],
    precision: str,
    sizes: Sequence[tuple[int, int]] = SIZES,
) -> Parity:
    """Compare an exported graph with the plain network in PyTorch, float32, on every picture at every size.

    run: the graph.  model: (N, 3, H, W) normalised -> logits, as loaded, nothing folded.  pictures: (H, W, 3) uint8 RGB.
    """
    same: dict[str, list[float]] = {}
    difference = relative = pixels = equal = 0.0
    for picture in pictures:
        for height, width in sizes:
            image = _resized(picture, height, width)
            mask, logits = run(image)
            expected_mask, expected_logits = _plainly(model, preprocess, image)
            agreed = (mask == expected_mask).float()
            same.setdefault(f"{width}x{height}", []).append(float(agreed.mean()))
            pixels, equal = pixels + agreed.numel(), equal + float(agreed.sum())
            largest = float((logits - expected_logits).abs().max().nan_to_num(math.inf))
            difference = max(difference, largest)
            relative = max(relative, largest / float(expected_logits.std()))
    shares = {size: float(np.mean(values)) for size, values in same.items()}
    return Parity(equal / pixels, difference, relative, shares, LEAST_EQUAL[precision])


@torch.inference_mode()
def _plainly(model: nn.Module, preprocess: Preprocess, image: Tensor) -> tuple[Tensor, Tensor]:
    logits: Tensor = model(preprocess(image.permute(0, 3, 1, 2).contiguous()))
    resized = F.interpolate(logits, size=image.shape[1:3], mode="bilinear", align_corners=False)
    return resized.argmax(1).to(torch.uint8), logits


def _resized(picture: np.ndarray, height: int, width: int) -> Tensor:
    """(H, W, 3) -> (1, height, width, 3), without regard to its proportions."""
    resized = PIL.Image.fromarray(picture).resize((width, height), PIL.Image.Resampling.BILINEAR)
    return torch.from_numpy(np.array(resized))[None]
