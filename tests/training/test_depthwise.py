import copy

import pytest
import torch
from torch import nn

from lwrefinenet.training.depthwise import FastDepthwiseGradients, fast_depthwise_gradients

DEPTHWISE = [
    {"kernel_size": 5, "padding": 2},
    {"kernel_size": 3, "stride": 2, "padding": 1},
    {"kernel_size": 5, "stride": (1, 2), "padding": (1, 0), "bias": False},
    {"kernel_size": (3, 5), "padding": (2, 4), "dilation": (1, 2)},
]


def outcome(conv, images, *, fast):
    """What comes out under bfloat16 autocast, and the gradients of its sum of squares."""
    images = images.detach().requires_grad_()
    conv.zero_grad()
    with torch.autocast("cpu", torch.bfloat16):
        if fast:
            with FastDepthwiseGradients():
                found = conv(images)
        else:
            found = conv(images)
    found.float().square().sum().backward()
    return found, [images.grad, *(parameter.grad for parameter in conv.parameters())]


@pytest.mark.parametrize("settings", DEPTHWISE, ids=str)
def test_values_are_the_same_and_gradients_near_those_of_float32(settings):
    torch.manual_seed(0)
    conv = nn.Conv2d(16, 16, groups=16, **settings).to(memory_format=torch.channels_last)
    images = torch.randn(2, 16, 11, 14).contiguous(memory_format=torch.channels_last)
    plain, theirs = outcome(conv, images, fast=False)
    fast, mine = outcome(conv, images, fast=True)
    assert fast.dtype == torch.bfloat16 and torch.equal(fast, plain)
    assert type(fast.grad_fn).__name__ == "_ConvolutionBackward"
    for found, expected in zip(mine, theirs, strict=True):
        assert found.dtype == torch.float32 and found.shape == expected.shape
        torch.testing.assert_close(found, expected, rtol=0.02, atol=0.02 * float(expected.abs().max()))


def test_gradients_lie_nearer_to_float32_than_those_of_bfloat16():
    torch.manual_seed(0)
    conv = nn.Conv2d(8, 8, 5, padding=2, groups=8).bfloat16().float()
    images = torch.randn(4, 8, 20, 20).bfloat16().float()
    exact = copy.deepcopy(conv)
    exact(images).square().sum().backward()
    distances = {}
    for fast in (False, True):
        outcome(conv, images, fast=fast)
        distances[fast] = float((conv.weight.grad - exact.weight.grad).norm())
    assert distances[True] <= distances[False]


@pytest.mark.parametrize(
    "conv",
    [
        nn.Conv2d(8, 8, 3, padding=1, groups=8),
        nn.Conv2d(8, 8, 5, padding=2),
        nn.Conv2d(8, 16, 5, padding=2, groups=4),
        nn.Conv2d(8, 8, 5, padding="same", groups=8),
    ],
    ids=str,
)
def test_other_convolutions_are_left_alone(conv):
    found, _ = outcome(conv, torch.randn(1, 8, 9, 9), fast=True)
    assert "MkldnnConvolution" in type(found.grad_fn).__name__ or "ConvolutionBackward0" in type(found.grad_fn).__name__


def test_without_autocast_or_gradients_nothing_is_changed():
    conv, images = nn.Conv2d(8, 8, 5, groups=8), torch.randn(1, 8, 9, 9)
    with FastDepthwiseGradients():
        assert type(conv(images).grad_fn).__name__ == "ConvolutionBackward0"
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            assert conv(images).grad_fn is None


def test_frozen_weights_have_no_gradient_and_the_pictures_have():
    conv = nn.Conv2d(8, 8, 5, groups=8).requires_grad_(False)
    _, (of_images, of_weight, of_bias) = outcome(conv, torch.randn(1, 8, 9, 9), fast=True)
    assert of_images is not None and of_weight is None and of_bias is None


def test_a_gpu_is_left_to_itself():
    assert isinstance(fast_depthwise_gradients(torch.device("cpu")), FastDepthwiseGradients)
    assert not isinstance(fast_depthwise_gradients(torch.device("cuda")), FastDepthwiseGradients)
