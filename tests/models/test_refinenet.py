"""The contract of every network, and the decoder against the equations of the paper written out plainly."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from lwrefinenet.models.refinenet import ChainedResidualPooling, RefineNetDecoder
from lwrefinenet.models.zoo import create_model

CONTRACT = [
    ("rf_lw_resnet50", {}),
    ("rf_lw_mobilenetv2", {}),
    ("rf_lw_efficientnet_lite0", {"decoder_channels": 32}),
    ("rf_lw_nano_mobilenetv2", {}),
    ("rf_lw_nano_efficientnet_lite0", {}),
    ("rf_lw", {"backbone": "test_resnet", "decoder_channels": 16, "decoder_links": 1, "input_scale": 0.3}),
    ("rf_lw", {"backbone": "test_resnet", "decoder_channels": 16}),
    ("rf_lw", {"backbone": "test_convnext", "decoder_channels": 16}),  # a patch stem, which rounds sizes down
    ("rf_lw", {"backbone": "test_mambaout", "decoder_channels": 16}),  # channels last
]


@pytest.fixture(scope="module", params=CONTRACT, ids=lambda param: "-".join(map(str, (param[0], *param[1].values()))))
def network(request):
    name, arguments = request.param
    torch.manual_seed(0)
    return create_model(name, 5, **arguments).eval()


@pytest.mark.parametrize(("height", "width"), [(33, 47), (1, 1), (4, 66), (64, 96)])
def test_logits_cover_every_size_by_quarters_of_what_the_backbone_sees(network, height, width):
    with torch.no_grad():
        logits = network(torch.randn(1, 3, height, width))
    assert logits.shape == (1, 5, *(-(-seen_length(network, length) // 4) for length in (height, width)))
    assert logits.isfinite().all()


def seen_length(network, length: int) -> int:
    """By the words of the documentation."""
    scaled = length * float(network.input_scale)
    if "efficientnet" in network.backbone.name:
        return max(32, 32 * math.floor(scaled / 32 + 0.5))
    return math.ceil(round(scaled, 9))


def test_batch_of_two_is_two_batches_of_one(network):
    images = torch.randn(2, 3, 33, 47)
    with torch.no_grad():
        together, apart = network(images), torch.cat([network(image[None]) for image in images])
    torch.testing.assert_close(together, apart, rtol=1e-4, atol=1e-5 * apart.std().item())


def test_gradients_reach_every_parameter(network):
    for parameter in network.parameters():
        parameter.data += 0.01 * torch.randn_like(parameter)  # timm starts the last scale of a residual block at 0
    network.train()
    network(torch.randn(2, 3, 64, 96)).square().mean().backward()
    network.eval()
    untouched = [
        name for name, parameter in network.named_parameters() if parameter.grad is None or not parameter.grad.any()
    ]
    assert untouched == []


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("rf_lw", {"backbone": "test_resnet", "decoder_channels": 16}),
        ("rf_lw_mobilenetv2", {}),
        ("rf_lw_efficientnet_lite0", {"decoder_channels": 16}),
        ("rf_lw_efficientnet_lite1", {"decoder_channels": 16}),
        ("rf_lw_efficientnet_lite2", {"decoder_channels": 16}),
    ],
)
@pytest.mark.parametrize(
    # of 70x101: rounded up, or to the nearest multiple of 32
    ("scale", "seen", "seen_in_multiples"),
    [(0.75, (53, 76), (64, 64)), (1.5, (105, 152), (96, 160))],
)
def test_a_network_with_an_input_scale_sees_the_picture_resized(name, arguments, scale, seen, seen_in_multiples):
    torch.manual_seed(0)
    plain = create_model(name, 5, **arguments).eval()
    scaled = create_model(name, 5, **arguments, input_scale=scale).eval()
    scaled.load_state_dict(plain.state_dict())
    images = torch.randn(1, 3, 70, 101)
    with torch.no_grad():
        resized = F.interpolate(images, size=seen_in_multiples if "lite" in name else seen, mode="bilinear")
        torch.testing.assert_close(scaled(images), plain(resized))


@pytest.mark.parametrize(
    ("backbone", "multiple"),
    [("tf_efficientnet_lite0", 32), ("tf_mobilenetv3_small_minimal_100", 32), ("test_resnet", 1), ("test_convnext", 1)],
)
def test_a_backbone_that_pads_by_the_size_sees_whole_multiples_of_its_coarsest_cells(backbone, multiple):
    torch.manual_seed(0)
    network = create_model("rf_lw", 5, backbone=backbone, decoder_channels=8).eval()
    assert network.size_multiple == multiple
    images = torch.randn(1, 3, 80, 111)  # as near to 64 as to 96, and nearest to 96
    with torch.no_grad():
        resized = F.interpolate(images, size=(96, 96), mode="bilinear") if multiple > 1 else images
        torch.testing.assert_close(network(images), network.head(network.decoder(network.backbone(resized))))


@pytest.mark.parametrize(
    ("name", "multiple", "seen"),
    [
        ("rf_lw_mobilenetv2", 32, (96, 96)),
        ("rf_lw_mobilenetv2", 1, (80, 111)),
        ("rf_lw_efficientnet_lite0", 16, (80, 112)),
        ("rf_resnet50", 64, (64, 128)),
    ],
)
def test_every_network_sees_multiples_of_what_it_is_given(name, multiple, seen):
    network = create_model(name, 5, size_multiple=multiple).eval()
    images = torch.randn(1, 3, 80, 111)
    with torch.no_grad():
        features = network.features(images)
        expected = network.backbone(images if seen == (80, 111) else F.interpolate(images, size=seen, mode="bilinear"))
    for found, wanted in zip(features, expected, strict=True):
        torch.testing.assert_close(found, wanted)
    assert network.fuse().seen_size((80, 111)) == seen


def test_pictures_of_whole_multiples_are_seen_as_they_are(monkeypatch):
    network = create_model("rf_lw", 5, backbone="tf_efficientnet_lite0", decoder_channels=8).eval()
    seen = []
    monkeypatch.setattr(network.backbone, "forward", lambda images: seen.append(images))
    images = torch.randn(1, 3, 64, 96)
    network.features(images)
    assert seen[0] is images


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning", "ignore:.*is deprecated:FutureWarning")
def test_what_is_traced_with_a_picture_of_whole_multiples_resizes_others():
    torch.manual_seed(0)
    network = create_model("rf_lw", 5, backbone="tf_efficientnet_lite0", decoder_channels=8).eval()
    images = torch.randn(1, 3, 80, 111)
    with torch.no_grad():
        traced = torch.jit.trace(network, torch.randn(1, 3, 64, 96))
        torch.testing.assert_close(traced(images), network(images))


def test_the_length_of_the_chains_is_that_of_decoder_links():
    model = create_model("rf_lw", backbone="test_resnet", decoder_channels=8, decoder_links=2)
    assert [len(level.pooling.convs) for level in model.decoder.levels] == [2, 2, 2, 2]


def features_for(channels, sizes, *, scale=1.0):
    generator = torch.Generator().manual_seed(1)
    return [scale * torch.randn(2, c, h, w, generator=generator) for c, (h, w) in zip(channels, sizes, strict=True)]


def up(x: Tensor, like: Tensor) -> Tensor:
    return F.interpolate(x, size=like.shape[-2:], mode="bilinear", align_corners=True)


def chain(x: Tensor, w: dict[str, Tensor], level: int) -> Tensor:
    """t0 = x, t_i = W_i * maxpool5(t_(i-1)), result: the sum of all t."""
    t = [x]
    for i in range(4):
        t.append(F.conv2d(F.max_pool2d(t[-1], 5, 1, 2), w[f"levels.{level}.pooling.convs.{i}.weight"]))
    return t[0] + t[1] + t[2] + t[3] + t[4]


def test_resnet_decoder_is_the_published_equations():
    torch.manual_seed(0)
    decoder = RefineNetDecoder(
        (16, 32, 48, 64), channels=(24, 12, 12, 12), activation=torch.nn.ReLU, stacked_adaptation=True, dropout=0.5
    ).eval()
    w = decoder.state_dict()
    l1, l2, l3, l4 = features = features_for((16, 32, 48, 64), [(21, 30), (11, 15), (6, 8), (3, 4)], scale=20)
    x = chain(F.relu(F.conv2d(l4, w["levels.0.adapt.0.0.weight"])), w, 0)
    for level, feature in ((1, l3), (2, l2), (3, l1)):
        y = F.conv2d(F.conv2d(feature, w[f"levels.{level}.adapt.0.0.weight"]), w[f"levels.{level}.adapt.0.1.weight"])
        x = chain(F.relu(y + up(F.conv2d(x, w[f"handovers.{level - 1}.weight"]), feature)), w, level)
    with torch.no_grad():
        torch.testing.assert_close(decoder(features), x)


def test_mobilenet_decoder_is_the_published_equations():
    torch.manual_seed(0)
    decoder = RefineNetDecoder((6, 8, 10, 12, 14, 16), level_sizes=(2, 2, 1, 1), channels=(12,) * 4).eval()
    w = decoder.state_dict()
    sizes = [(21, 30), (11, 15), (6, 8), (6, 8), (3, 4), (3, 4)]
    l3, l4, l5, l6, l7, l8 = features = features_for((6, 8, 10, 12, 14, 16), sizes, scale=20)
    conv = {
        name: w[f"levels.{key}.0.weight"]
        for name, key in {
            8: "0.adapt.0",
            7: "0.adapt.1",
            6: "1.adapt.0",
            5: "1.adapt.1",
            4: "2.adapt.0",
            3: "3.adapt.0",
        }.items()
    }
    x = chain(F.relu6(F.conv2d(l8, conv[8]) + F.conv2d(l7, conv[7])), w, 0)
    x = up(F.conv2d(x, w["handovers.0.weight"]), l6)
    x = chain(F.relu6(F.conv2d(l5, conv[5]) + F.conv2d(l6, conv[6]) + x), w, 1)
    x = up(F.conv2d(x, w["handovers.1.weight"]), l4)
    x = chain(F.relu6(x + F.conv2d(l4, conv[4])), w, 2)
    x = up(F.conv2d(x, w["handovers.2.weight"]), l3)
    x = chain(F.relu6(F.conv2d(l3, conv[3]) + x), w, 3)
    with torch.no_grad():
        torch.testing.assert_close(decoder(features), x)


def test_chain_spreads_a_peak_two_pixels_per_link():
    pooling = ChainedResidualPooling(1)
    for conv in pooling.convs:
        torch.nn.init.constant_(conv.weight, 2.0)
    peak = torch.zeros(1, 1, 1, 19)
    peak[..., 9] = 1.0
    row = pooling(peak).flatten().tolist()
    assert row[9:] == [31, 30, 30, 28, 28, 24, 24, 16, 16, 0]  # 1 + 2 + 4 + 8 + 16, one summand fewer every two pixels


def test_border_of_the_pool_is_no_zero():
    pooling = ChainedResidualPooling(1)
    for conv in pooling.convs:
        torch.nn.init.constant_(conv.weight, 1.0)
    assert (pooling(torch.full((1, 1, 3, 3), -1.0)) == -5.0).all()


def test_dropout_touches_only_the_two_coarsest_features():
    decoder = RefineNetDecoder((4, 4, 4, 4), channels=(8,) * 4, dropout=0.5).train()
    features = features_for((4,) * 4, [(16, 16), (8, 8), (4, 4), (2, 2)])
    fine_only = [*features[:2], *(torch.zeros_like(feature) for feature in features[2:])]
    with torch.no_grad():
        assert not torch.equal(decoder(features), decoder(features))
        assert torch.equal(decoder(fine_only), decoder(fine_only))


def test_decoder_wants_as_many_features_as_its_levels_hold():
    with pytest.raises(ValueError, match="need 6 features, got 4"):
        RefineNetDecoder((4, 4, 4, 4), level_sizes=(2, 2, 1, 1))
