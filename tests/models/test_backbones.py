"""Backbones against timm's own networks, and the promise that every picture size gives sizes rounded up."""

import pytest
import timm
import torch
from timm.layers import DropPath
from torch import nn

from lwrefinenet.errors import UsageError
from lwrefinenet.models.backbones import MobileNetV2Features, TimmFeatures, set_drop_path
from lwrefinenet.preprocess import Preprocess


def with_random_statistics(net: torch.nn.Module) -> torch.nn.Module:
    generator = torch.Generator().manual_seed(0)
    for name, buffer in net.named_buffers():
        if name.endswith(("running_mean", "running_var")):
            buffer.copy_(torch.rand(buffer.shape, generator=generator) + 0.5)
    return net.eval()


def test_mobilenetv2_is_timms_where_its_extra_expansion_does_nothing():
    timms = with_random_statistics(timm.create_model("mobilenetv2_100", features_only=True))
    ours = MobileNetV2Features().eval()
    ours.net.load_state_dict({**ours.net.state_dict(), **_without_first_block(timms.state_dict())})
    first, timms_first = ours.net["blocks"][0][0], timms.blocks[0][0]
    first.conv_pw.weight.data = torch.eye(32).view(32, 32, 1, 1)
    first.bn1.weight.data.fill_((1 + 1e-5) ** 0.5)
    for part, timms_part in {"conv_dw": "conv_dw", "bn2": "bn1", "conv_pwl": "conv_pw", "bn3": "bn2"}.items():
        first.get_submodule(part).load_state_dict(timms_first.get_submodule(timms_part).state_dict())
    images = torch.randn(1, 3, 65, 97)
    with torch.no_grad():
        taps, _, expected = ours(images), *timms(images)[:1], timms(images)[1:]
    assert [tuple(tap.shape[1:]) for tap in taps] == [
        (24, 17, 25),
        (32, 9, 13),
        (64, 5, 7),
        (96, 5, 7),
        (160, 3, 4),
        (320, 3, 4),
    ]
    for ours_at, timms_at in zip((0, 1, 3, 5), range(4), strict=True):
        torch.testing.assert_close(taps[ours_at], expected[timms_at], rtol=1e-4, atol=1e-5)


def _without_first_block(state):
    return {key: value for key, value in state.items() if not key.startswith("blocks.0.0.")}


def test_published_mobilenetv2_has_1088_parameters_more_than_timms():
    timms = timm.create_model("mobilenetv2_100", features_only=True)
    count, timms_count = (sum(p.numel() for p in net.parameters()) for net in (MobileNetV2Features(), timms))
    assert count == timms_count + 1088


@pytest.mark.parametrize(
    ("name", "channels"),
    [
        ("resnet18", (64, 128, 256, 512)),
        ("mobilenetv3_small_050", (8, 16, 24, 288)),
        ("convnext_atto", (40, 80, 160, 320)),
        ("hrnet_w18_small", (128, 256, 512, 1024)),
        ("swin_tiny_patch4_window7_224", (96, 192, 384, 768)),
    ],
)
def test_generic_backbones_round_sizes_up(name, channels):
    backbone = TimmFeatures(name).eval()
    with torch.no_grad():
        shapes = [tuple(feature.shape) for feature in backbone(torch.randn(1, 3, 37, 70))]
    assert shapes == [(1, c, h, w) for c, h, w in zip(channels, (10, 5, 3, 2), (18, 9, 5, 3), strict=True)]


@pytest.mark.parametrize("name", ["test_resnet", "test_efficientnet", "test_convnext"])
def test_features_are_timms_own_where_its_sizes_agree(name):
    backbone = TimmFeatures(name).eval()
    timms = timm.create_model(name, features_only=True).eval()
    timms.load_state_dict(backbone.net.state_dict())
    height, width = (64, 96) if backbone.padded else (33, 47)
    images = torch.randn(1, 3, height, width)
    with torch.no_grad():
        for ours, theirs in zip(backbone(images), timms(images)[-4:], strict=True):
            assert torch.equal(ours, theirs)


def test_only_networks_that_round_down_are_padded():
    assert TimmFeatures("test_convnext").padded
    assert not TimmFeatures("test_resnet").padded
    assert not TimmFeatures("tf_efficientnet_lite0").padded


def test_channels_last_is_recognised_where_a_height_equals_the_width_of_the_network():
    backbone = TimmFeatures("test_mambaout").eval()
    with torch.no_grad():
        assert backbone(torch.randn(1, 3, 64, 96))[0].shape == (1, 16, 16, 24)


def test_building_leaves_the_training_mode_and_the_statistics():
    backbone = TimmFeatures("test_resnet")
    assert backbone.net.training
    assert all((buffer == 0).all() for name, buffer in backbone.named_buffers() if name.endswith("running_mean"))


def test_name_with_a_tag_is_the_same_network():
    tagged, plain = TimmFeatures("resnet18.a1_in1k"), TimmFeatures("resnet18")
    assert tagged.name == "resnet18.a1_in1k"
    assert list(tagged.state_dict()) == list(plain.state_dict())


def test_preprocessing_is_what_the_weights_expect():
    assert TimmFeatures("tf_efficientnet_lite0").preprocess == Preprocess(mean=(0.5,) * 3, std=(0.5,) * 3)
    assert TimmFeatures("resnet18").preprocess == Preprocess()


def test_backbone_without_a_pyramid_says_which_reductions_it_has():
    with pytest.raises(
        UsageError, match=r"'test_vit' gives features at reductions \[16, 16, 16\], none at \[4, 8, 32\]"
    ):
        TimmFeatures("test_vit")


def test_backbone_of_one_picture_size_is_refused():
    with pytest.raises(UsageError, match="'test_maxvit' does not take pictures of every size"):
        TimmFeatures("test_maxvit")


@pytest.mark.parametrize("name", ["resnt18", "resnet18.no_such_tag"])
def test_unknown_backbone_gives_the_nearest(name):
    with pytest.raises(UsageError, match=f"no network named '{name}'. Did you mean resnet18"):
        TimmFeatures(name)


@pytest.mark.parametrize(
    "build", [lambda: TimmFeatures("resnet18"), MobileNetV2Features], ids=["resnet18", "mobilenetv2"]
)
def test_stochastic_depth_passes_blocks_by_while_learning_alone(build):
    torch.manual_seed(0)
    backbone = build().eval()
    for norm in (module for module in backbone.modules() if isinstance(module, nn.BatchNorm2d)):
        nn.init.ones_(norm.weight)  # of some, the last in a block is zero at first
    images, names = torch.randn(2, 3, 64, 64), list(backbone.state_dict())
    expected = backbone(images)
    set_drop_path(backbone, 0.6)
    assert list(backbone.state_dict()) == names
    assert all(torch.equal(*pair) for pair in zip(backbone(images), expected, strict=True))
    rates = [module.drop_prob for module in backbone.modules() if isinstance(module, DropPath)]
    assert rates == sorted(rates) and rates[0] < 0.1 and rates[-1] == pytest.approx(0.6)
    backbone.train()
    for norm in (module for module in backbone.modules() if isinstance(module, nn.BatchNorm2d)):
        norm.eval()  # so that only the paths are random
    first, second = (backbone(images)[-1] for _ in range(2))
    assert not torch.equal(first, second)


def test_a_backbone_without_blocks_to_pass_by_is_said():
    with pytest.raises(UsageError, match="cannot be passed by; leave drop_path at 0"):
        set_drop_path(nn.Conv2d(3, 3, 1), 0.1)
