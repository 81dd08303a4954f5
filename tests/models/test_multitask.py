"""The multi-task networks: the published equations written out plainly, the contract at every size, tasks, fusing, and files."""

import json
from copy import deepcopy

import pytest
import torch
import torch.nn.functional as F

from lwrefinenet import weights
from lwrefinenet.errors import UsageError
from lwrefinenet.labels import LABEL_SETS
from lwrefinenet.meta import WeightsMeta
from lwrefinenet.models.zoo import create_model
from lwrefinenet.preprocess import Preprocess
from tests.models.test_fuse import lively
from tests.models.test_refinenet import seen_length

CHANNELS = {"segmentation": 5, "depth": 1, "normals": 3}
NETWORKS = [
    ("mt_lw_mobilenetv2", {"tasks": ["segmentation", "depth", "normals"]}),
    ("mt_lw_efficientnet_lite0", {"decoder_channels": 32}),
    ("mt_lw_efficientnet_lite2", {"decoder_channels": 32, "input_scale": 0.75}),
    ("mt_lw", {"backbone": "test_resnet", "decoder_channels": 16, "decoder_links": 2, "input_scale": 0.6}),
]


@pytest.fixture(scope="module", params=NETWORKS, ids=lambda param: param[0])
def network(request):
    name, arguments = request.param
    torch.manual_seed(0)
    return lively(create_model(name, 5, **arguments))


@pytest.mark.parametrize(("height", "width"), [(33, 47), (1, 1), (4, 66), (64, 96)])
@torch.no_grad()
def test_every_task_covers_every_size_by_quarters_of_what_the_backbone_sees(network, height, width):
    results = network(torch.randn(1, 3, height, width))
    assert tuple(results) == network.tasks
    for task, result in results.items():
        quarters = (-(-seen_length(network, length) // 4) for length in (height, width))
        assert result.shape == (1, CHANNELS[task], *quarters)
        assert result.isfinite().all()


def test_gradients_of_the_tasks_reach_every_parameter():
    torch.manual_seed(0)
    model = create_model(
        "mt_lw", 5, backbone="test_resnet", decoder_channels=16, tasks=("segmentation", "depth", "normals")
    )
    for parameter in model.parameters():
        parameter.data += 0.05 * torch.randn_like(parameter)
    sum(result.square().mean() for result in model(torch.randn(2, 3, 64, 96)).values()).backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()] == []


@torch.no_grad()
def test_decoder_and_heads_are_the_published_equations():
    torch.manual_seed(0)
    model = create_model("mt_lw_mobilenetv2", 5, tasks=["segmentation", "depth"]).eval()
    for parameter in model.parameters():
        parameter.copy_(torch.randn_like(parameter) * (20 / parameter[0].numel()) ** 0.5)  # nothing is small or zero
    w = {key: value for key, value in model.state_dict().items() if not key.startswith("backbone.")}
    sizes = [(24, 21, 30), (32, 11, 15), (64, 6, 8), (96, 6, 8), (160, 3, 4), (320, 3, 4)]
    features = l3, l4, l5, l6, l7, l8 = [torch.randn(1, *size) for size in sizes]
    model.backbone = torch.nn.Module()
    model.backbone.forward = lambda images: features

    def adapt(feature, key):
        return F.conv2d(feature, w[f"decoder.levels.{key}.0.weight"])

    def up(x, level, like):
        return F.interpolate(F.conv2d(x, w[f"decoder.handovers.{level}.weight"]), size=like.shape[-2:], mode="bilinear")

    def chain(x, level):
        t = [x]
        for i in range(4):
            weight = w[f"decoder.levels.{level}.pooling.convs.{i}.weight"]
            pooled = F.max_pool2d(t[-1], 5, 1, 2)
            t.append(pooled * weight.view(1, -1, 1, 1) if level == 3 else F.conv2d(pooled, weight))
        return t[0] + t[1] + t[2] + t[3] + t[4]

    x = chain(F.relu6(adapt(l8, "0.adapt.0") + adapt(l7, "0.adapt.1")), 0)
    x = chain(F.relu6(adapt(l6, "1.adapt.0") + adapt(l5, "1.adapt.1") + up(x, 0, l6)), 1)
    x = chain(F.relu6(adapt(l4, "2.adapt.0") + up(x, 1, l4)), 2)
    x = chain(F.relu6(adapt(l3, "3.adapt.0") + up(x, 2, l3)), 3)
    for task, found in model(torch.zeros(1, 3, 84, 120)).items():
        scaled = F.relu6(x * w[f"heads.{task}.0.weight"].view(1, -1, 1, 1))
        expected = F.conv2d(scaled, w[f"heads.{task}.2.weight"], w[f"heads.{task}.2.bias"], padding=1)
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4 * expected.std().item())


def test_decoder_and_heads_begin_small_and_the_backbone_as_it_is():
    torch.manual_seed(0)
    model = create_model("mt_lw_mobilenetv2")
    state = model.state_dict()
    for key in ("decoder.levels.0.adapt.0.0.weight", "decoder.handovers.2.weight", "heads.depth.2.weight"):
        assert state[key].std().item() == pytest.approx(0.01, rel=0.1)
    assert not state["heads.segmentation.2.bias"].any()
    assert state["backbone.net.conv_stem.weight"].std().item() > 0.05


@torch.inference_mode()
def test_a_fused_network_gives_equal_results(network):
    model = network.double()
    images = torch.randn(1, 3, 65, 99, dtype=torch.float64)
    fused = model.fuse()
    for task, expected in model(images).items():
        assert (fused(images)[task] - expected).abs().max() / expected.std() < 1e-11
    network.float()


@pytest.mark.parametrize("scale", [0.5, 1.5])
def test_what_is_seen_at_another_scale_is_as_far_away_as_before(scale):
    torch.manual_seed(0)
    tasks = ("segmentation", "depth", "normals")
    model = create_model("mt_lw", 5, backbone="test_resnet", decoder_channels=8, tasks=tasks).eval()
    plain, images = deepcopy(model), torch.randn(1, 3, 64, 64)
    model.see_at(scale)
    with torch.no_grad():
        found, seen = model(images), plain(F.interpolate(images, scale_factor=scale, mode="bilinear"))
    torch.testing.assert_close(found, {**seen, "depth": seen["depth"] * scale})
    model.see_at(1)
    with torch.no_grad():
        torch.testing.assert_close(model(images), plain(images))


@pytest.mark.parametrize("scale", [0.001, 3])
def test_a_scale_out_of_range_changes_nothing(scale):
    model = create_model("mt_lw_mobilenetv2", 5)
    with pytest.raises(UsageError, match=f"input_scale is {scale}; expected 0.25 to 2"):
        model.see_at(scale)
    assert model.input_scale == 1


def test_depth_is_that_of_the_picture_where_whole_multiples_show_it_larger():
    torch.manual_seed(0)
    backbone = "tf_mobilenetv3_small_minimal_100"
    model = create_model("mt_lw", 5, backbone=backbone, decoder_channels=8, tasks=("segmentation", "depth")).eval()
    seen = torch.randn(1, 3, 64, 96)
    images = F.interpolate(seen, size=(60, 80), mode="bilinear")  # seen at 64x96, 16/15 and 6/5 as large
    with torch.no_grad():
        found = model(images)
        shown = model(F.interpolate(images, size=(64, 96), mode="bilinear"))
    torch.testing.assert_close(found["depth"], shown["depth"] * (16 / 15 + 6 / 5) / 2)
    torch.testing.assert_close(found["segmentation"], shown["segmentation"])


@pytest.mark.parametrize("tasks", [["normals", "segmentation", "depth"], ("depth", "segmentation", "normals")])
def test_tasks_come_in_one_order(tasks):
    model = create_model("mt_lw", 3, backbone="test_resnet", decoder_channels=8, tasks=tasks)
    assert model.tasks == ("segmentation", "depth", "normals")
    assert model.num_classes == 3


@pytest.mark.parametrize("tasks", [["depth"], [], ["segmentation", "edges"], "depth", 3])
def test_tasks_that_do_not_fit_are_named(tasks):
    given = tasks if isinstance(tasks, list) else [tasks]
    with pytest.raises(UsageError) as caught:
        create_model("mt_lw_mobilenetv2", 3, tasks=tasks)
    assert str(caught.value) == f"tasks are {given}; expected 'segmentation', and with it any of depth, normals."


def test_networks_of_one_task_take_no_tasks():
    with pytest.raises(UsageError, match="'rf_lw_mobilenetv2' has no argument 'tasks'; it takes num_classes"):
        create_model("rf_lw_mobilenetv2", 3, tasks=["segmentation"])


def test_weights_of_a_multi_task_network_are_read_as_they_were_written(tmp_path):
    arguments = {"backbone": "test_resnet", "decoder_channels": 8, "tasks": ["segmentation", "normals"]}
    model = create_model("mt_lw", 40, **arguments).eval()
    meta = WeightsMeta("mt_lw", LABEL_SETS["nyu"], Preprocess(), arguments)
    weights.save(tmp_path / "mt.safetensors", model, meta)
    loaded, read = weights.load(tmp_path / "mt.safetensors")
    assert read.arguments == json.loads(json.dumps(arguments))
    images = torch.randn(1, 3, 33, 47)
    with torch.no_grad():
        for task, result in model(images).items():
            assert torch.equal(loaded(images)[task], result)
