"""The decoder's parts for inference on a CPU: the same sums in fewer passes over memory, into maps that are used again.

Fresh maps cost as much as the arithmetic on them: the system hands out large ones page by page, filled with zeros.  So 1x1
convolutions are matrix products here, added to a sum in place.  Elsewhere than on a CPU, and where gradients, a compiler or mixed
data types want whole operations, the parts themselves run.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from lwrefinenet.models.fuse import is_plain_1x1

if TYPE_CHECKING:
    from lwrefinenet.models.refinenet import ChainedResidualPooling, RefineNetLevel

BAND_VALUES = 2**20  # of a map that is pooled, at a time: what a processor's cache holds


class FusedLevel(nn.Module):
    """A `RefineNetLevel` in evaluation mode, which is kept, with its multi-resolution fusion in place."""

    def __init__(self, level: "RefineNetLevel") -> None:
        super().__init__()
        self.level = level
        if isinstance(level.activation, nn.ReLU | nn.ReLU6):
            level.activation.inplace = True

    def forward(self, features: Sequence[Tensor], coarser: Tensor | None = None) -> Tensor:
        """As the level itself, but `coarser` is used up: its memory becomes that of the result."""
        if not _may_run_in_place([*features, *([] if coarser is None else [coarser])], self.level.adapt):
            plain: Tensor = self.level(features, coarser)
            return plain
        parts = list(zip(self.level.adapt, features, strict=True))
        if coarser is None:
            (adapt, feature), *parts = parts
            coarser = adapt(feature)
        total = coarser.contiguous(memory_format=torch.channels_last)
        for adapt, feature in parts:
            _add(total, adapt, feature)
        return self.level.refined(total)


class FusedChain(nn.Module):
    """A `ChainedResidualPooling`, which is kept, in its input's memory and that of two more maps."""

    def __init__(self, chain: "ChainedResidualPooling") -> None:
        super().__init__()
        self.chain = chain
        window = chain.pool.kernel_size
        assert isinstance(window, int)
        self.window = window

    def forward(self, x: Tensor) -> Tensor:
        """As the chain itself, but `x` is used up: its memory becomes that of the result."""
        if not _may_run_in_place([x], self.chain):
            plain: Tensor = self.chain(x)
            return plain
        total = x.contiguous(memory_format=torch.channels_last)
        pooled, link, following = torch.empty_like(total), total, torch.empty_like(total)
        *links, last = self.chain.convs
        for conv in links:
            max_pool(link, self.window, out=pooled)
            link = _convolved(conv, pooled, out=following)
            total += link
        max_pool(link, self.window, out=pooled)
        _add(total, last, pooled)
        return total


def max_pool(x: Tensor, window: int, *, out: Tensor) -> None:
    """Max-pool of stride 1 that keeps the size: maxima along columns, then along rows; exact, fastest as channels_last.

    PyTorch's own kernel also finds where each maximum stands, and compares all 25 values of a 5x5 window; this one 10.
    x: (N, C, H, W), of a floating type.  window: odd.  out: where the maxima are written; of the same shape, in other memory.
    """
    height, width = x.shape[2:]
    rows = max(1, BAND_VALUES // (x.shape[0] * x.shape[1] * width))
    band = torch.empty_like(x[:, :, :rows])
    for top in range(0, height, rows):
        places = range(top, min(top + rows, height))
        along_columns = band[:, :, : len(places)]
        _window_maxima(x, 2, window, places, out=along_columns)
        _window_maxima(along_columns, 3, window, range(width), out=out[:, :, top : places.stop])


def _window_maxima(x: Tensor, dim: int, window: int, places: range, *, out: Tensor) -> None:
    """The maxima along `dim` of the windows around `places`; what of a window lies beyond the map counts nowhere."""
    margin, length = window // 2, x.shape[dim]
    first, last = (
        max(places.start, margin),
        min(places.stop, length - margin),
    )  # of windows that lie wholly within the map
    if first < last:
        reached = x.narrow(dim, first - margin, last - first + 2 * margin)
        torch.amax(reached.unfold(dim, window, 1), -1, out=out.narrow(dim, first - places.start, last - first))
    for place in (*range(places.start, min(first, places.stop)), *range(max(last, first), places.stop)):
        start, stop = max(0, place - margin), min(place + margin + 1, length)
        inside = x.narrow(dim, start, stop - start)
        torch.amax(inside, dim, keepdim=True, out=out.narrow(dim, place - places.start, 1))


def _may_run_in_place(maps: Sequence[Tensor], module: nn.Module) -> bool:
    return not torch.compiler.is_compiling() and all(
        tensor.device.type == "cpu" and tensor.dtype == maps[0].dtype and not tensor.requires_grad
        for tensor in (*maps, *module.parameters())
    )


def _add(total: Tensor, module: nn.Module, x: Tensor) -> None:
    """Add to `total`, channels_last, what the module makes of `x`."""
    conv = _only_1x1(module)
    if conv is None:
        total += module(x)
    else:
        _cells(total).addmm_(_cells(x), conv.weight.flatten(1).t())


def _convolved(module: nn.Module, x: Tensor, *, out: Tensor) -> Tensor:
    """What the module makes of `x`; in `out`, channels_last, where that can be."""
    conv = _only_1x1(module)
    if conv is None:
        fresh: Tensor = module(x)
        return fresh
    torch.mm(_cells(x), conv.weight.flatten(1).t(), out=_cells(out))
    return out


def _only_1x1(module: nn.Module) -> nn.Conv2d | None:
    """The one plain 1x1 convolution that the module consists of."""
    parts = [part for part in module.modules() if not isinstance(part, nn.Sequential)]
    only = parts[0] if len(parts) == 1 else None
    return only if isinstance(only, nn.Conv2d) and is_plain_1x1(only) else None


def _cells(maps: Tensor) -> Tensor:
    """(N, C, H, W) as (N * H * W, C): the same memory, if that is channels_last."""
    return maps.permute(0, 2, 3, 1).flatten(0, 2)
