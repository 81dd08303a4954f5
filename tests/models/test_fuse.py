import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from lwrefinenet import weights
from lwrefinenet.models.fuse import fold
from lwrefinenet.models.fused_level import FusedChain, FusedLevel
from lwrefinenet.models.zoo import create_model


def lively(model):
    """Batch norms that do something: statistics and factors unlike those at the beginning."""
    generator = torch.Generator().manual_seed(0)
    for norm in model.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.running_mean.normal_(0, 0.1, generator=generator)
            norm.running_var.uniform_(0.5, 1.5, generator=generator)
            norm.weight.data.uniform_(0.5, 1.5, generator=generator)
            norm.bias.data.normal_(0, 0.1, generator=generator)
    return model.eval()


def count(model, kind):
    return sum(isinstance(module, kind) for module in model.modules())


NETWORKS = [
    ("rf_lw_resnet50", {}),
    ("rf_lw_mobilenetv2", {}),
    ("rf_lw_efficientnet_lite0", {"decoder_channels": 32}),
    ("rf_lw_nano_efficientnet_lite0", {}),
    ("rf_lw", {"backbone": "mobilenetv3_small_050", "decoder_channels": 16}),
    ("rf_lw", {"backbone": "test_resnet", "decoder_channels": 16}),
    ("rf_lw", {"backbone": "regnetx_002", "decoder_channels": 16}),
]


@pytest.mark.parametrize(("name", "arguments"), NETWORKS)
@torch.inference_mode()
def test_a_fused_network_gives_equal_logits(name, arguments):
    torch.manual_seed(0)
    model = lively(create_model(name, 5, **arguments)).double()  # where nothing is lost to rounding
    images = torch.randn(1, 3, 65, 99, dtype=torch.float64)
    expected = model(images)
    found = model.fuse()(images)
    assert (found - expected).abs().max() / expected.std() < 1e-11


@torch.inference_mode()
def test_fused_weights_of_the_package_give_equal_logits_on_a_picture_of_channels_last():
    model, _ = weights.load(weights.DEFAULT_WEIGHTS)
    images = torch.randn(1, 3, 97, 131).to(memory_format=torch.channels_last)
    expected = model(images)
    found = model.fuse().to(memory_format=torch.channels_last)(images)
    assert (found - expected).abs().max() / expected.std() < 1e-5


@pytest.mark.parametrize(("name", "arguments"), NETWORKS)
def test_no_batch_norm_stacked_pair_or_plain_level_is_left(name, arguments):
    model = create_model(name, 5, **arguments)
    fused = model.fuse()
    assert count(model, nn.BatchNorm2d) > 0
    assert count(fused, nn.BatchNorm2d) == 0
    assert all(isinstance(each, FusedLevel) for each in fused.decoder.levels)
    assert all(isinstance(each.level.pooling, FusedChain) for each in fused.decoder.levels)
    stacked = 3 if name == "rf_lw_resnet50" else 0
    assert count(fused, nn.Conv2d) == count(model, nn.Conv2d) - stacked


def test_the_network_itself_is_left_as_it_was():
    model = lively(create_model("rf_lw", 3, backbone="test_resnet", decoder_channels=8)).train()
    before = copy.deepcopy(model.state_dict())
    fused = model.fuse()
    assert model.training
    assert not fused.training
    assert before.keys() == model.state_dict().keys()
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert count(model, FusedLevel) == 0
    assert not any(level.activation.inplace for level in model.decoder.levels)


class Standardised(nn.Conv2d):
    """A convolution that makes its weights anew at each call, as weight standardisation does."""

    def forward(self, x):
        return F.conv2d(x, self.weight / self.weight.std(), self.bias)


class UsedTwice(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.first, self.second = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3), nn.BatchNorm2d(3)

    def forward(self, x):
        return self.second(self.conv(self.first(self.conv(x))))


@pytest.mark.parametrize("model", [nn.Sequential(Standardised(3, 4, 1), nn.BatchNorm2d(4)), UsedTwice()])
def test_a_batch_norm_that_cannot_be_folded_stays(model):
    model = lively(model)
    images = torch.randn(2, 3, 8, 8)
    folded = fold(model)
    assert count(folded, nn.BatchNorm2d) == count(model, nn.BatchNorm2d)
    torch.testing.assert_close(folded(images), model(images))
