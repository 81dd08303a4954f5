"""Rewriting a trained network for inference, without changing what it computes: fewer and faster operations, equal logits."""

import copy
from collections import Counter
from collections.abc import Iterator
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from lwrefinenet.models.same_padding import SamePaddedConv2d

M = TypeVar("M", bound=nn.Module)

PROBE = (1, 3, 64, 64)  # any picture shows which batch norm follows which convolution


class Fusible(nn.Module):
    """A part of a network that knows a form of itself that is faster in inference."""

    def for_inference(self) -> nn.Module:
        """The other form, with the very parameters of this one, whose batch norms and stacked convolutions are folded."""
        raise NotImplementedError


def fused(network: nn.Module) -> nn.Module:
    """A copy for inference that gives equal logits faster: `fold`, and the faster form of each part that knows one."""
    folded = fold(network)
    for parent, name, part in children(folded, Fusible):
        setattr(parent, name, part.for_inference())
    return folded


def fold(network: nn.Module) -> nn.Module:
    """A copy for inference: batch norms folded into the convolutions before them, stacked 1x1 convolutions merged.

    network: takes (N, 3, H, W).  The copy takes the same, and is in evaluation mode on the network's device.
    """
    folded = copy.deepcopy(network).eval().requires_grad_(False)
    _fold_batch_norms(folded)
    _merge_stacked_convolutions(folded)
    return folded


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
        convs = [conv for conv in stack if isinstance(conv, nn.Conv2d) and is_plain_1x1(conv)]
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


def is_plain_1x1(conv: nn.Conv2d) -> bool:
    """Whether it does nothing but multiply each cell with a matrix."""
    return conv.kernel_size == conv.stride == (1, 1) and conv.groups == 1 and conv.bias is None


def children(network: nn.Module, kind: type[M]) -> Iterator[tuple[nn.Module, str, M]]:
    """Every module of a kind, with its parent and its name there."""
    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, kind):
                yield parent, name, child
