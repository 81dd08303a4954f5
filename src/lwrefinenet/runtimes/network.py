"""What can be predicted with: a network, whatever it runs on."""

from typing import Protocol

import torch
from torch import Tensor

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class Network(Protocol):
    """Gives logits for pictures, and with them what else a network of several tasks says (`tasks.Channels`).

    name: of the runtime, the precision and the device, for reports.  device: where the logits are.
    size: (height, width), if it takes pictures of this size only.
    """

    name: str
    device: torch.device
    size: tuple[int, int] | None

    def prepare(self, images: Tensor) -> Tensor:
        """images: (N, H, W, 3) uint8 RGB on the CPU.  Returns what `logits` takes, on the device."""

    def logits(self, prepared: Tensor) -> Tensor:
        """Returns float32 (N, C, h, w), valid until the next call; further tasks lie above the classes.

        h, w: a quarter of the size at which the network sees the pictures (`RefineNet.seen_size`), or of their own where they are
        cut.
        """
