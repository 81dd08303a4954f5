"""Running a network in PyTorch: channels_last, in float32 or a shorter type, compiled if asked for."""

import torch
from torch import Tensor, nn

from lwrefinenet.errors import UsageError
from lwrefinenet.preprocess import Preprocess
from lwrefinenet.runtimes.network import PRECISIONS
from lwrefinenet.tasks import stacked


class PyTorchNetwork:
    """A module on a device; the module itself is moved there, converted, and put into evaluation mode.

    model: (N, 3, H, W) normalised -> logits (N, C, h, w).  precision: "fp32", "bf16" or "fp16", for parameters and
    arithmetic.  compiled: through `torch.compile`, which takes its time on the first picture of each size and, on a GPU,
    replays each size as a CUDA graph.  UsageError for another precision.
    """

    def __init__(
        self,
        model: nn.Module,
        preprocess: Preprocess,
        device: torch.device,
        *,
        precision: str = "fp32",
        compiled: bool = False,
    ) -> None:
        if precision not in PRECISIONS:
            raise UsageError(f"precision {precision!r} is not one of PyTorch's: {', '.join(PRECISIONS)}.")
        self.device = device
        self.size: tuple[int, int] | None = None
        self.name = f"PyTorch {precision} on {device}" + (", compiled" if compiled else "")
        self.preprocess = preprocess
        self.dtype = PRECISIONS[precision]
        self.model = model.to(device, self.dtype).to(memory_format=torch.channels_last).eval()
        mode = "reduce-overhead" if device.type == "cuda" else None
        self._forward = torch.compile(self.model, mode=mode) if compiled else self.model

    def prepare(self, images: Tensor) -> Tensor:
        """images: (N, H, W, 3) uint8 RGB on the CPU.  Returns (N, 3, H, W) normalised, on the device."""
        if self.device.type == "cuda":
            images = images.pin_memory()
        images = images.to(self.device, non_blocking=True).permute(0, 3, 1, 2)
        return self.preprocess(images).to(self.dtype)

    def logits(self, prepared: Tensor) -> Tensor:
        return stacked(self._forward(prepared)).float()
