"""Depthwise convolutions whose gradients are computed in float32 under bfloat16 autocast on a CPU, where that is faster."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.overrides import TorchFunctionMode


def fast_depthwise_gradients(device: torch.device) -> AbstractContextManager[Any]:
    """For the forward of a training step; elsewhere than on a CPU nothing, for it looks at every call of torch."""
    return FastDepthwiseGradients() if device.type == "cpu" else nullcontext()


class FastDepthwiseGradients(TorchFunctionMode):
    """While it is entered, convolutions have the same values; the gradients of some of them are computed in float32.

    oneDNN's bfloat16 gradient of a depthwise 5x5, and of a depthwise convolution with a stride, takes several times as long as
    its float32 one, the conversions included (torch 2.14, AMX): more than half of a training step of an EfficientNet-Lite.
    A depthwise 3x3 of stride 1 is as fast in bfloat16 and is left alone.
    """

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is F.conv2d and not kwargs and torch.is_autocast_enabled("cpu") and _slow_in_bfloat16(*args):
            return _Convolution.apply(*args[:3], _pair(args[3]), _pair(args[4]), _pair(args[5]))
        return func(*args, **(kwargs or {}))


def _slow_in_bfloat16(
    images: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int | Sequence[int] = 1,
    padding: int | str | Sequence[int] = 0,
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
) -> bool:
    """The arguments are those of `F.conv2d`."""
    batch = images.ndim == 4 and images.device.type == "cpu"
    depthwise = batch and 1 < groups == images.shape[1] and not isinstance(padding, str)
    learnt = torch.is_grad_enabled() and (images.requires_grad or weight.requires_grad)
    return depthwise and learnt and (max(weight.shape[2:]) > 3 or max(_pair(stride)) > 1)


def _pair(value: int | Sequence[int]) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (value[0], value[-1])


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        images: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        stride: tuple[int, int],
        padding: tuple[int, int],
        dilation: tuple[int, int],
    ) -> Tensor:
        images = images.to(torch.get_autocast_dtype("cpu"))
        ctx.save_for_backward(images, weight)
        ctx.of_bias = None if bias is None else [len(weight)]
        ctx.geometry = stride, padding, dilation
        return F.conv2d(images, weight, bias, stride, padding, dilation, len(weight))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        images, weight = ctx.saved_tensors
        wanted = [*ctx.needs_input_grad[:2], ctx.of_bias is not None and ctx.needs_input_grad[2]]
        values = gradient.float(), images.float(), weight.float()
        of = torch.ops.aten.convolution_backward(
            *values, ctx.of_bias, *ctx.geometry, False, [0, 0], len(weight), wanted
        )
        return *of, None, None, None
