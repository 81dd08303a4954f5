"""NASNet-A mobile: its features are pytorchcv's own, at every size; where its weights come from; what is said without pytorchcv."""

import sys

import pytest
import torch
from pytorchcv.models.nasnet import nasnet_4a1056
from safetensors.torch import save_file

from lwrefinenet import console
from lwrefinenet.errors import UsageError, WeightsError
from lwrefinenet.models.nasnet import NasNetMobileFeatures
from lwrefinenet.models.pretrained import load_backbone_weights
from lwrefinenet.models.refinenet import LightWeightRefineNet, RefineNetDecoder
from lwrefinenet.models.zoo import create_model
from lwrefinenet.preprocess import Preprocess
from lwrefinenet.runtimes import onnx_runtime, openvino_runtime
from lwrefinenet.runtimes.deployable import Deployable
from lwrefinenet.runtimes.exported import Export
from lwrefinenet.tasks import Channels
from tests.models.test_fuse import lively

REDUCTIONS = (4, 8, 16, 32)


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    backbone = NasNetMobileFeatures()
    return lively(LightWeightRefineNet(backbone, RefineNetDecoder(backbone.channels, channels=(8,) * 4), 5))


def test_it_has_the_parameters_of_pytorchcvs_network_without_its_classifier():
    with torch.device("meta"):
        model = create_model("rf_lw_nasnet_mobile", 21)
    classifier = 1056 * 1000 + 1000
    assert sum(p.numel() for p in model.backbone.parameters()) == 5_289_978 - classifier
    decoder = 256 * (44 + 264 + 528 + 1056) + 4 * 4 * 256**2 + 3 * 256**2  # to the width, the chains, the handovers
    assert sum(p.numel() for p in model.decoder.parameters()) == decoder
    assert sum(p.numel() for p in model.parameters()) == 6_010_919


@torch.no_grad()
def test_features_are_pytorchcvs_own(network):
    theirs = nasnet_4a1056().eval()
    theirs.features.load_state_dict(network.backbone.net.state_dict())
    seen = []
    for stage in (theirs.features.stage1, theirs.features.stage2):
        stage.register_forward_hook(lambda _, __, results: seen.append(results[0].relu()))
    theirs.features.activ.register_forward_hook(lambda _, __, result: seen.append(result))
    images = torch.randn(1, 3, 224, 224)
    theirs(images)
    for found, expected in zip(network.backbone(images)[1:], seen, strict=True):
        assert torch.equal(found, expected)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (33, 47), (4, 66), (97, 131)])
@torch.no_grad()
def test_features_and_logits_cover_every_size_rounded_up(network, height, width):
    images = torch.randn(1, 3, height, width)
    sizes = [tuple(feature.shape[1:]) for feature in network.backbone(images)]
    expected = [(-(-height // r), -(-width // r)) for r in REDUCTIONS]
    assert sizes == [(c, *size) for c, size in zip((44, 264, 528, 1056), expected, strict=True)]
    assert network(images).shape == (1, 5, *expected[0])


@torch.no_grad()
def test_a_fused_network_gives_equal_logits(network):
    images = torch.randn(1, 3, 65, 99, dtype=torch.float64)
    expected = network.double()(images)
    found = network.fuse()(images)
    network.float()
    assert (found - expected).abs().max() / expected.std() < 1e-11


def test_gradients_reach_every_parameter(network):
    network.train()
    network(torch.randn(2, 3, 64, 96)).square().mean().backward()
    network.eval()
    assert [name for name, p in network.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_weights_of_pytorchcv_are_read_and_their_classifier_left_out(tmp_path):
    torch.manual_seed(1)
    state = nasnet_4a1056().state_dict()
    save_file(dict(state), tmp_path / "nasnet.safetensors")
    model = create_model("rf_lw_nasnet_mobile", 2)
    start = load_backbone_weights(model, str(tmp_path / "nasnet.safetensors"))
    assert start.preprocess == Preprocess()
    assert start.source.origin == "nasnet.safetensors"
    for key, value in model.backbone.net.state_dict().items():
        assert torch.equal(value, state[f"features.{key}"])


def test_a_file_of_another_network_is_refused(tmp_path):
    save_file({"features.init_block.conv.weight": torch.zeros(32, 3, 3, 3)}, tmp_path / "other.safetensors")
    with pytest.raises(WeightsError, match=r"does not fit nasnet_4a1056: \d+ missing \(init_block.bn.weight,"):
        load_backbone_weights(create_model("rf_lw_nasnet_mobile", 2), str(tmp_path / "other.safetensors"))


def test_no_weights_are_found_by_themselves_and_none_is_a_random_start():
    model = create_model("rf_lw_nasnet_mobile", 2)
    with pytest.raises(
        WeightsError, match=r"nasnet_4a1056 come in no package and not from timm's hub\. Give pytorchcv's"
    ):
        load_backbone_weights(model)
    assert load_backbone_weights(model, "none").source is None


def test_without_pytorchcv_it_is_named_and_other_networks_are_still_listed(monkeypatch):
    monkeypatch.setitem(sys.modules, "pytorchcv.models.nasnet", None)
    with pytest.raises(UsageError) as caught:
        create_model("rf_lw_nasnet_mobile")
    assert str(caught.value) == "backbone NASNet-A mobile needs pytorchcv: pip install 'lwrefinenet[nasnet]'."
    monkeypatch.setattr(console, "MODELS", ["rf_lw_nasnet_mobile", "rf_lw_mobilenetv2"])
    cells = dict(zip(*(column.cells for column in console.networks_table().columns), strict=True))
    assert cells["rf_lw_nasnet_mobile"] == str(caught.value)
    assert cells["rf_lw_mobilenetv2"] == "3,284,565"


@pytest.mark.slow
@pytest.mark.parametrize("runtime", [openvino_runtime, onnx_runtime])
def test_its_graph_takes_every_size(network, runtime):
    deployable = Deployable(network, Preprocess(), Channels(network.num_classes))
    exported = runtime.network_of(runtime.to_graph(deployable), Export("nasnet", "0" * 64, "fp32", None, "0"))
    for height, width in [(1, 1), (33, 47), (97, 131), (353, 467), (360, 480)]:
        images = torch.randint(256, (1, height, width, 3), dtype=torch.uint8)
        with torch.inference_mode():
            _, expected = deployable(images)
        found = exported.logits(exported.prepare(images))
        assert (found - expected).abs().max() / expected.std() < 1e-3
