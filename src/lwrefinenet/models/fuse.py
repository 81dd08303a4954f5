"""Rewriting a trained network for inference, without changing what it computes: fewer and faster operations, equal logits."""

import copy
from collections import Counter
from collections.abc import Iterator
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from lwrefinenet.models.same_padding import SamePaddedConv2d

M = TypeVar("M", bound=nn.Module)

PROBE = (1, 3, 64, 64)  # any picture shows which batch norm follows which convolution
BAND_VALUES = 2**19  # of a map that is pooled, at a time


def fused(network: nn.Module) -> nn.Module:
    """A copy for inference that gives equal logits faster: batch norms folded, 1x1 pairs merged, a faster exact max-pool."""
    return with_fast_pooling(fold(network))


def fold(network: nn.Module) -> nn.Module:
    """A copy for inference: batch norms folded into the convolutions before them, stacked 1x1 convolutions merged.

    network: takes (N, 3, H, W).  The copy takes the same, and is in evaluation mode on the network's device.
    """
    folded = copy.deepcopy(network).eval().requires_grad_(False)
    _fold_batch_norms(folded)
    _merge_stacked_convolutions(folded)
    return folded


def with_fast_pooling(network: nn.Module) -> nn.Module:
    """The same network, changed in place: its max-pools of stride 1 are taken by `ShiftedMaxPool`. Not for training."""
    for parent, name, pool in children(network, nn.MaxPool2d):
        size = pool.kernel_size
        if isinstance(size, int) and size % 2 and pool.stride == pool.dilation == 1 and pool.padding == size // 2:
            setattr(parent, name, ShiftedMaxPool(size))
    return network


class ShiftedMaxPool(nn.Module):
    """Max-pool of stride 1 that keeps the size, as maxima of shifted maps, first along rows, then along columns; exact.

    PyTorch's own kernel compares 25 values for each one of a 5x5 window, and one at a time where planes follow one another; a
    maximum of two, of two of those, and so on, needs 6 comparisons.  Rows are taken in bands that a processor's cache holds.
    For inference: its gradient would be slower.
    """

    def __init__(self, kernel_size: int) -> None:
        super().__init__()
        self.kernel_size = kernel_size

    def forward(self, x: Tensor) -> Tensor:
        """x: (N, C, H, W).  Returns the same shape."""
        margin, height = self.kernel_size // 2, x.shape[2]
        if x.device.type != "cpu":  # a GPU's kernel is quick, and many small steps are not
            return F.max_pool2d(x, self.kernel_size, stride=1, padding=margin)
        rows = max(1, BAND_VALUES // (x.shape[0] * x.shape[1] * x.shape[3]))
        pooled = torch.empty_like(x)
        for top in range(0, height, rows):
            bottom = min(top + rows, height)
            first, last = max(0, top - margin), min(bottom + margin, height)
            beyond = (margin, margin, margin - (top - first), margin - (last - bottom))
            padded = F.pad(x[:, :, first:last], beyond, value=float("-inf"))
            along_rows = _running_maximum(padded, 3, self.kernel_size)
            pooled[:, :, top:bottom] = _running_maximum(along_rows, 2, self.kernel_size)
        return pooled


def _running_maximum(x: Tensor, dim: int, window: int) -> Tensor:
    """The maxima of `window` neighbours along `dim`; window - 1 fewer than there were values."""
    covered, maxima = 1, x
    length = x.shape[dim] - window + 1
    while covered < window:
        step = min(covered, window - covered)
        kept = length + window - covered - step
        maxima = torch.maximum(maxima.narrow(dim, 0, kept), maxima.narrow(dim, step, kept))
        covered += step
    return maxima


def _fold_batch_norms(network: nn.Module) -> None:
    """Fold in place each batch norm whose input is the very output of a convolution."""
    parents = {child: (parent, name) for parent, name, child in children(network, nn.Module)}
    for conv, norm in _convolutions_with_norms(network):
        parent, name = parents[conv]
        setattr(parent, name, fuse_conv_bn_eval(conv, norm))
        parent, name = parents[norm]
        setattr(parent, name, getattr(norm, "act", nn.Identity()))  # timm's batch norms hold the activation after them


def _convolutions_with_norms(network: nn.Module) -> list[tuple[nn.Conv2d, nn.BatchNorm2d]]:
    """Which batch norm takes which convolution's output, found by running the network once: names and order do not tell."""
    makers: dict[int, nn.Conv2d] = {}
    alive: list[Tensor] = []  # an address tells a tensor from another only while both exist
    pairs: list[tuple[nn.Conv2d, nn.BatchNorm2d]] = []

    def remember(conv: nn.Module, _: object, output: Tensor) -> None:
        assert isinstance(conv, nn.Conv2d)
        makers[id(output)] = conv
        alive.append(output)

    def pair(norm: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        assert isinstance(norm, nn.BatchNorm2d)
        if (conv := makers.get(id(inputs[0]))) is not None:
            pairs.append((conv, norm))

    # Subclasses that make their weights anew at each call, for example standardised ones, are left as they are.
    convs = [m for m in network.modules() if type(m) in (nn.Conv2d, SamePaddedConv2d)]
    handles = [conv.register_forward_hook(remember) for conv in convs]
    handles += [m.register_forward_pre_hook(pair) for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
    parameter = next(network.parameters())
    with torch.no_grad():
        network(torch.zeros(PROBE, device=parameter.device, dtype=parameter.dtype))
    for handle in handles:
        handle.remove()
    times_used = Counter(conv for conv, _ in pairs)
    return [(conv, norm) for conv, norm in pairs if times_used[conv] == 1]


def _merge_stacked_convolutions(network: nn.Module) -> None:
    """Turn in place every sequence of nothing but 1x1 convolutions without bias into one convolution."""
    for parent, name, stack in children(network, nn.Sequential):
        convs = [conv for conv in stack if isinstance(conv, nn.Conv2d) and _is_plain_1x1(conv)]
        if len(convs) == len(stack) > 1:
            setattr(parent, name, _product(convs))


def _product(convs: list[nn.Conv2d]) -> nn.Conv2d:
    """One 1x1 convolution for several in a row; the product is taken in float64, so that only its rounding is added."""
    product = torch.eye(convs[0].in_channels, dtype=torch.float64, device=convs[0].weight.device)
    for conv in convs:
        product = conv.weight.double().flatten(1) @ product
    merged = nn.Conv2d(product.shape[1], product.shape[0], 1, bias=False)
    merged.weight = nn.Parameter(product[:, :, None, None].to(convs[0].weight), requires_grad=False)
    return merged.eval()


def _is_plain_1x1(conv: nn.Conv2d) -> bool:
    return conv.kernel_size == conv.stride == (1, 1) and conv.groups == 1 and conv.bias is None


def children(network: nn.Module, kind: type[M]) -> Iterator[tuple[nn.Module, str, M]]:
    """Every module of a kind, with its parent and its name there."""
    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, kind):
                yield parent, name, child
