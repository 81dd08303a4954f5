"""The parity gate: an exported file is run beside the network that it was made from, on real pictures."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import PIL.Image
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lwrefinenet.errors import WeightsError
from lwrefinenet.meta import WeightsMeta
from lwrefinenet.tasks import AT_FULL_SIZE, stacked

SIZES = ((480, 640), (353, 467), (240, 424))  # one odd, all of another shape
NEAR_DEPTH, NEAR_NORMALS = 0.01, np.cos(np.radians(1))  # as a share of the depth; the cosine of an angle
LEAST_EQUAL = {"fp32": 0.999, "bf16": 0.99, "fp16": 0.99, "int8": 0.0}  # int8 is guarded by its score instead

Run = Callable[
    [Tensor], tuple[dict[str, Tensor], Tensor]
]  # a picture (1, H, W, 3) -> its outputs by name, and its logits


@dataclass(frozen=True)
class Parity:
    """How an exported file compares with its network.

    equal_pixels: the share of all pixels, 0-1, with the same class.  logit_difference: the largest one, and
    relative_difference: the same in standard deviations of the logits.  sizes: "WxH" of each picture, with its share.
    least_equal: the share that the file must reach.  tasks: of further tasks, the share of pixels whose depth is within one
    percent, or whose normal within one degree, which must reach it as well.
    """

    equal_pixels: float
    logit_difference: float
    relative_difference: float
    sizes: dict[str, float]
    least_equal: float
    tasks: dict[str, float] = field(default_factory=dict)

    @property
    def holds(self) -> bool:
        return min(self.equal_pixels, *self.tasks.values(), 1.0) >= self.least_equal

    def to_dict(self) -> dict[str, Any]:
        """As it stands in the file and in JSON."""
        return asdict(self)

    def check(self, what: str) -> None:
        """Raise WeightsError where the file is not equal enough."""
        if not self.holds:
            others = "".join(f", the same {task} on {share:.3%}" for task, share in self.tasks.items())
            raise WeightsError(
                f"{what}: the exported graph gives the same class on {self.equal_pixels:.3%} of the pixels only{others}, expected "
                f"at least {self.least_equal:.1%} (largest difference of logits {self.logit_difference:.2g}). No file was kept."
            )


def measure(
    run: Run,
    model: nn.Module,
    meta: WeightsMeta,
    pictures: Iterable[np.ndarray],
    precision: str,
    sizes: Sequence[tuple[int, int]] = SIZES,
) -> Parity:
    """Compare an exported graph with the plain network in PyTorch, float32, on every picture at every size.

    run: the graph.  model: (N, 3, H, W) normalised -> its results, as loaded, nothing folded.  pictures: (H, W, 3) uint8 RGB.
    """
    same: dict[str, list[float]] = {}
    near: dict[str, list[float]] = {task: [] for task in meta.tasks[1:]}
    difference = relative = pixels = equal = 0.0
    for picture in pictures:
        for height, width in sizes:
            image = _resized(picture, height, width)
            outputs, logits = run(image)
            expected, expected_logits = _plainly(model, meta, image)
            agreed = (outputs["mask"] == expected["mask"]).float()
            for task, shares in near.items():
                shares.append(_share_near(task, outputs[task], expected[task]))
            same.setdefault(f"{width}x{height}", []).append(float(agreed.mean()))
            pixels, equal = pixels + agreed.numel(), equal + float(agreed.sum())
            largest = float((logits - expected_logits).abs().max().nan_to_num(math.inf))
            difference = max(difference, largest)
            relative = max(relative, largest / float(expected_logits.std()))
    sizes_agreed, tasks_agreed = (
        {name: float(np.mean(values)) for name, values in found.items()} for found in (same, near)
    )
    return Parity(equal / pixels, difference, relative, sizes_agreed, LEAST_EQUAL[precision], tasks_agreed)


def _share_near(task: str, found: Tensor, expected: Tensor) -> float:
    """found, expected: (1, H, W) metres, or (1, H, W, 3) unit vectors."""
    if found.shape != expected.shape:
        return 0.0
    near = (
        (found - expected).abs() <= NEAR_DEPTH * expected
        if task == "depth"
        else (found * expected).sum(-1) >= float(NEAR_NORMALS)
    )
    return float(near.float().mean())


@torch.inference_mode()
def _plainly(model: nn.Module, meta: WeightsMeta, image: Tensor) -> tuple[dict[str, Tensor], Tensor]:
    results = stacked(model(meta.preprocess(image.permute(0, 3, 1, 2).contiguous())))
    by_task, size = meta.channels.split(results), image.shape[1:3]
    resized = F.interpolate(by_task["segmentation"], size=size, mode="bilinear", align_corners=False)
    dense = {task: AT_FULL_SIZE[task](by_task[task], size) for task in meta.tasks[1:]}
    return {"mask": resized.argmax(1).to(torch.uint8), **dense}, results


def _resized(picture: np.ndarray, height: int, width: int) -> Tensor:
    """(H, W, 3) -> (1, height, width, 3), without regard to its proportions."""
    resized = PIL.Image.fromarray(picture).resize((width, height), PIL.Image.Resampling.BILINEAR)
    return torch.from_numpy(np.array(resized))[None]
