"""TensorFlow's SAME padding, for the backbones whose weights expect it, in a form that exports with any height and width."""

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn


class SamePaddedConv2d(nn.Conv2d):
    """A convolution that pads with zeros so that its output is ceil(H / stride) x ceil(W / stride), the odd one at the end.

    The usual rule, max((ceil(H / s) - 1) * s + k - H, 0), is written here for k >= s, where it is k - s + (-H mod s): without
    the ceiling and the maximum, tracers follow it for every size.
    """

    @classmethod
    def like(cls, conv: nn.Conv2d) -> "SamePaddedConv2d":
        """The same convolution, holding the very parameters of `conv`, whose own padding is left out of account."""
        kernel, stride = conv.kernel_size, conv.stride
        arguments: dict[str, Any] = {"dilation": conv.dilation, "groups": conv.groups, "bias": conv.bias is not None}
        # On no device: the parameters come from `conv`.
        same = cls(conv.in_channels, conv.out_channels, kernel, stride, device="meta", **arguments)  # type: ignore[arg-type]
        same.weight, same.bias = conv.weight, conv.bias
        return same

    def forward(self, x: Tensor) -> Tensor:
        """x: (N, C, H, W).  Returns (N, C', ceil(H / stride), ceil(W / stride))."""
        top, bottom = self._margins(x.shape[2], 0)
        left, right = self._margins(x.shape[3], 1)
        padded = F.pad(x, (left, right, top, bottom))
        return F.conv2d(padded, self.weight, self.bias, self.stride, 0, self.dilation, self.groups)

    def _margins(self, length: int, axis: int) -> tuple[int, int]:
        reach, stride = self.dilation[axis] * (self.kernel_size[axis] - 1) + 1, self.stride[axis]
        margin = reach - stride + -length % stride
        return margin // 2, margin - margin // 2
