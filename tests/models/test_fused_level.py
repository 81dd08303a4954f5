"""The decoder's level for inference: equal to the level itself, whatever comes in, and in fewer maps."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from lwrefinenet.models import fused_level
from lwrefinenet.models.fused_level import FusedChain, FusedLevel, max_pool
from lwrefinenet.models.refinenet import (
    ChainedResidualPooling,
    RefineNetLevel,
    adaptation,
    conv1x1,
    depthwise1x1,
)


def make_level(*widths, links=4, activation=None, conv=conv1x1):
    torch.manual_seed(0)
    chain = ChainedResidualPooling(6, links, conv)
    level = RefineNetLevel([adaptation(width, 6, 1) for width in widths], activation or nn.ReLU6(), chain, dropout=0.5)
    return level.double().eval().requires_grad_(False)  # dropout is of training


def fused(level):
    fused = FusedLevel(copy.deepcopy(level))
    fused.level.pooling = FusedChain(fused.level.pooling)
    return fused


def maps_for(*widths, size=(7, 9), count=2):
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(count, width, *size, dtype=torch.float64, generator=generator) for width in widths]


def pooled(maps, window=5):
    out = torch.empty_like(maps)
    max_pool(maps, window, out=out)
    return out


@pytest.mark.parametrize("links", [1, 2, 4])
@pytest.mark.parametrize("widths", [(3,), (3, 5)])
@pytest.mark.parametrize("activation", [nn.ReLU6, nn.ReLU, nn.GELU, nn.Identity])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_it_gives_what_the_level_gives_with_and_without_a_coarser_map(links, widths, activation, layout):
    level = make_level(*widths, links=links, activation=activation())
    *features, coarser = (maps.contiguous(memory_format=layout) for maps in maps_for(*widths, 6))
    kept = [feature.clone() for feature in features]
    torch.testing.assert_close(fused(level)(features), level(features))
    expected = level(features, coarser)
    torch.testing.assert_close(fused(level)(features, coarser), expected)
    assert all(torch.equal(feature, before) for feature, before in zip(features, kept, strict=True))


def conv3x3(in_channels, out_channels):
    return nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False)


@pytest.mark.parametrize("conv", [depthwise1x1, conv3x3])
def test_convolutions_that_are_no_matrix_product_run_as_they_are(conv):
    level = make_level(3, conv=conv)
    level.adapt.append(nn.Sequential(conv3x3(5, 6), nn.ReLU()).double().requires_grad_(False))
    *features, coarser = maps_for(3, 5, 6)
    expected = level(features, coarser)
    torch.testing.assert_close(fused(level)(features, coarser), expected)


def test_the_result_lies_where_the_coarser_map_was():
    (feature, coarser) = (maps.contiguous(memory_format=torch.channels_last) for maps in maps_for(3, 6))
    assert fused(make_level(3))([feature], coarser).data_ptr() == coarser.data_ptr()


def test_gradients_reach_the_picture_where_they_are_wanted():
    level = make_level(3)
    feature, coarser = (maps.requires_grad_() for maps in maps_for(3, 6))
    (expected,) = torch.autograd.grad(level([feature], coarser).sum(), feature)
    (found,) = torch.autograd.grad(fused(level)([feature], coarser).sum(), feature)
    torch.testing.assert_close(found, expected)


def test_autocast_changes_types_and_is_not_stood_in_the_way_of():
    level, maps = make_level(3).float(), [maps.float() for maps in maps_for(3, 6)]
    with torch.autocast("cpu", torch.bfloat16):
        expected = level(maps[:1], maps[1].bfloat16())
        found = fused(level)(maps[:1], maps[1].bfloat16())
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("window", [1, 3, 5, 7, 9])
@pytest.mark.parametrize("size", [(1, 1), (1, 7), (2, 9), (4, 4), (5, 3), (13, 8)])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_the_pool_is_exact_on_maps_of_every_size(window, size, layout):
    maps = torch.randn(2, 3, *size).contiguous(memory_format=layout)
    assert torch.equal(pooled(maps, window), F.max_pool2d(maps, window, stride=1, padding=window // 2))


@pytest.mark.parametrize("values", [1, 48, 100, 250, 10**6])
def test_the_height_of_the_bands_changes_nothing(monkeypatch, values):
    monkeypatch.setattr(fused_level, "BAND_VALUES", values)
    maps = torch.randn(2, 3, 23, 8).to(memory_format=torch.channels_last)
    assert torch.equal(pooled(maps), F.max_pool2d(maps, 5, stride=1, padding=2))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_what_is_no_number_or_without_end_passes_the_pool_as_pytorchs_own(value):
    maps = torch.randn(1, 2, 12, 11)
    maps[0, 0, 0, 4] = maps[0, 1, 7, 10] = maps[0, 1, 3, 3] = value
    maps[0, 0, 6:] = float("-inf")  # windows of nothing else
    torch.testing.assert_close(pooled(maps), F.max_pool2d(maps, 5, stride=1, padding=2), rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_every_floating_type_is_pooled(dtype):
    maps = torch.randn(1, 3, 9, 9).to(dtype)
    assert torch.equal(pooled(maps), F.max_pool2d(maps.float(), 5, stride=1, padding=2).to(dtype))
