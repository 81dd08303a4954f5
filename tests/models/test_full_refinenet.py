"""The full RefineNet's decoder against the equations of the paper written out plainly."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from lwrefinenet.models.backbones import TimmFeatures
from lwrefinenet.models.full_refinenet import FullRefineNetDecoder, ResidualConvUnit
from lwrefinenet.models.refinenet import LightWeightRefineNet
from tests.models.test_fuse import lively
from tests.models.test_refinenet import features_for, up

Weights = dict[str, Tensor]


def conv(x: Tensor, w: Weights, name: str) -> Tensor:
    return F.conv2d(x, w[f"{name}.weight"], w.get(f"{name}.bias"), padding=1)


def units(x: Tensor, w: Weights, *names: str) -> Tensor:
    for name in names:
        x = x + conv(F.relu(conv(F.relu(x), w, f"{name}.conv1")), w, f"{name}.conv2")
    return x


def chain(x: Tensor, w: Weights, level: int) -> Tensor:
    """t0 = x, t_i = W_i * maxpool5(t_(i-1)), result: the sum of all t."""
    t = [x]
    for i in range(4):
        t.append(conv(F.max_pool2d(t[-1], 5, 1, 2), w, f"levels.{level}.pooling.convs.{i}"))
    return t[0] + t[1] + t[2] + t[3] + t[4]


def refined(x: Tensor, w: Weights, level: int) -> Tensor:
    return units(chain(F.relu(x), w, level), w, *(f"levels.{level}.output.{i}" for i in range(3)))


@torch.no_grad()
def test_full_decoder_is_the_published_equations():
    torch.manual_seed(0)
    decoder = FullRefineNetDecoder((16, 32, 48, 64), channels=(24, 12, 12, 12)).eval()
    w = decoder.state_dict()
    l1, l2, l3, l4 = features = features_for((16, 32, 48, 64), [(21, 30), (11, 15), (6, 8), (3, 4)], scale=20)
    x = conv(l4, w, "levels.0.adapt.0.0")
    x = refined(units(x, w, "levels.0.adapt.0.1", "levels.0.adapt.0.2"), w, 0)
    for level, feature in ((1, l3), (2, l2), (3, l1)):
        adapt = f"levels.{level}.adapt.0"
        y = conv(units(conv(feature, w, f"{adapt}.0"), w, f"{adapt}.1", f"{adapt}.2"), w, f"{adapt}.3")
        x = refined(y + up(conv(x, w, f"handovers.{level - 1}"), feature), w, level)
    torch.testing.assert_close(decoder(features), x)


def test_a_residual_conv_unit_adds_to_what_came_not_to_its_relu():
    unit = ResidualConvUnit(1)
    for conv in (unit.conv1, unit.conv2):
        torch.nn.init.zeros_(conv.weight)
    assert (unit(torch.full((1, 1, 2, 2), -3.0)) == -3).all()


def test_dropout_touches_the_two_coarsest_features_and_the_result():
    decoder = FullRefineNetDecoder((4, 4, 4, 4), channels=(8,) * 4).train()
    rates = {name: module.p for name, module in decoder.named_modules() if isinstance(module, torch.nn.Dropout)}
    touched = {name for name, rate in rates.items() if rate}
    assert touched == {"levels.0.dropout", "levels.1.dropout", "levels.3.output.3"}
    assert {rates[name] for name in touched} == {0.5}


@pytest.fixture(scope="module")
def small():
    torch.manual_seed(0)
    backbone = TimmFeatures("test_resnet")
    return lively(LightWeightRefineNet(backbone, FullRefineNetDecoder(backbone.channels, channels=(16, 8, 8, 8)), 5))


@pytest.mark.parametrize(("height", "width"), [(33, 47), (1, 1), (4, 66)])
@torch.no_grad()
def test_logits_cover_every_size_by_quarters_rounded_up(small, height, width):
    logits = small(torch.randn(1, 3, height, width))
    assert logits.shape == (1, 5, -(-height // 4), -(-width // 4))
    assert logits.isfinite().all()


@torch.inference_mode()
def test_a_fused_full_network_gives_equal_logits(small):
    images = torch.randn(1, 3, 65, 99, dtype=torch.float64)
    expected = small.double()(images)
    found = small.fuse()(images)
    small.float()
    assert (found - expected).abs().max() / expected.std() < 1e-11
