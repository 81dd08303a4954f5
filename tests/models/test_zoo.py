"""Networks by name: golden sizes of the published ones, and what create_model refuses."""

import pytest
import torch

from lwrefinenet.benchmark.subjects import multiply_adds
from lwrefinenet.errors import UsageError
from lwrefinenet.models.zoo import MODELS, create_model


@pytest.mark.parametrize(
    ("name", "num_classes", "expected"),
    [
        ("rf_lw_resnet50", 21, 27_357_525),
        ("rf_lw_resnet50", 7, 27_325_255),
        ("rf_lw_resnet50", 40, 27_401_320),
        ("rf_lw_resnet50", 60, 27_447_420),
        ("rf_lw_resnet101", 21, 46_349_653),
        ("rf_lw_resnet101", 40, 46_393_448),
        ("rf_lw_resnet152", 21, 61_993_301),
        ("rf_lw_resnet152", 40, 62_037_096),
        ("rf_lw_mobilenetv2", 21, 3_284_565),
        ("rf_lw_mobilenetv2", 40, 3_328_360),
        ("rf_resnet101", 21, 118_052_437),
        # The decoder is the same 75,552,277 on each ResNet; encoders as under the light-weight one.
        ("rf_resnet50", 21, 75_552_277 + 23_508_032),
        ("rf_resnet152", 21, 75_552_277 + 58_143_808),
    ],
)
def test_published_parameter_counts(name, num_classes, expected):
    with torch.device("meta"):
        model = create_model(name, num_classes)
    assert sum(parameter.numel() for parameter in model.parameters()) == expected


@pytest.mark.parametrize(
    ("name", "backbone", "everything"),
    [
        ("rf_lw_resnet50", 159, 187),
        ("rf_lw_resnet101", 312, 340),
        ("rf_lw_resnet152", 465, 493),
        ("rf_lw_mobilenetv2", 156, 183),
        ("rf_resnet101", 312, 400),
    ],
)
def test_published_tensor_counts(name, backbone, everything):
    with torch.device("meta"):
        model = create_model(name)
    assert len(list(model.backbone.parameters())) == backbone
    assert len(list(model.parameters())) == everything


def test_the_full_refinenet_has_as_many_entries_as_published():
    with torch.device("meta"):
        assert len(create_model("rf_resnet101").state_dict()) == 712


@pytest.mark.parametrize(
    ("num_classes", "tasks", "parameters", "tensors", "entries"),
    [
        (40, ("segmentation", "depth"), 3_070_057, 187, 343),
        (6, ("segmentation", "depth"), 2_991_687, 187, 343),
        (46, ("segmentation", "depth"), 3_083_887, 187, 343),
        (40, ("segmentation", "depth", "normals"), 3_077_228, 190, 346),
    ],
)
def test_published_multi_task_counts(num_classes, tasks, parameters, tensors, entries):
    with torch.device("meta"):
        model = create_model("mt_lw_mobilenetv2", num_classes, tasks=tasks)
    assert sum(parameter.numel() for parameter in model.parameters()) == parameters
    assert sum(parameter.numel() for parameter in model.backbone.parameters()) == 1_812_800
    assert len(list(model.parameters())) == tensors
    assert len(model.state_dict()) == entries


@pytest.mark.parametrize(
    ("name", "num_classes", "at_625x468", "at_512x512"),
    [
        ("rf_lw_resnet50", 7, 36.021, 31.449),
        ("rf_lw_resnet50", 21, 36.614, 31.977),
        ("rf_lw_resnet50", 40, 37.418, 32.695),
        ("rf_lw_resnet50", 60, 38.264, 33.450),
        ("rf_lw_resnet101", 40, 60.146, 52.089),
        ("rf_lw_resnet152", 40, 82.719, 71.484),
        ("rf_lw_mobilenetv2", 21, 9.716, 8.584),
        ("rf_lw_mobilenetv2", 40, 10.521, 9.301),
        ("rf_resnet101", 21, 298.307, 262.899),
        ("mt_lw_mobilenetv2", 40, 5.776, 5.069),
        ("mt_lw_mobilenetv2", 6, 4.337, 3.786),
        ("mt_lw_mobilenetv2", 46, 6.030, 5.296),
    ],
)
def test_published_multiply_adds(name, num_classes, at_625x468, at_512x512):
    with torch.device("meta"):
        model = create_model(name, num_classes).eval()
    assert multiply_adds(model, 468, 625) / 1e9 == pytest.approx(at_625x468, abs=0.0005)
    assert multiply_adds(model, 512, 512) / 1e9 == pytest.approx(at_512x512, abs=0.0005)


def test_published_multiply_adds_of_three_tasks():
    with torch.device("meta"):
        model = create_model("mt_lw_mobilenetv2", 40, tasks=["segmentation", "depth", "normals"]).eval()
    sizes = [(468, 625), (512, 512), (480, 640)]
    assert [round(multiply_adds(model, *size) / 1e9, 3) for size in sizes] == [5.907, 5.186, 6.078]


def test_lite0_stays_in_the_size_class_of_mobilenetv2_with_a_narrow_decoder():
    with torch.device("meta"):
        narrow, wide = (create_model("rf_lw_efficientnet_lite0", decoder_channels=c) for c in (128, 256))
    assert sum(p.numel() for p in narrow.parameters()) / 1e6 == pytest.approx(3.3, abs=0.15)
    assert sum(p.numel() for p in wide.parameters()) / 1e6 == pytest.approx(4.4, abs=0.05)


def test_unknown_name_gives_the_nearest():
    with pytest.raises(UsageError, match=r"'rf_lw_resnet51'; nearest: rf_lw_resnet50"):
        create_model("rf_lw_resnet51")


def test_name_near_nothing_gives_them_all():
    with pytest.raises(UsageError, match=", ".join(MODELS)):
        create_model("?")


@pytest.mark.parametrize("num_classes", [0, 256])
def test_class_count_must_fit_a_mask(num_classes):
    with pytest.raises(UsageError, match=f"num_classes is {num_classes}"):
        create_model("rf_lw_mobilenetv2", num_classes)


@pytest.mark.parametrize(
    ("argument", "complaint"),
    [
        ({"decoder_channels": 0}, "decoder_channels is 0; expected 1 to 4096"),
        ({"decoder_links": 0}, "decoder_links is 0; expected 1 to 16"),
        ({"input_scale": 0.1}, "input_scale is 0.1; expected 0.25 to 2.0"),
        ({"input_scale": float("nan")}, "input_scale is nan; expected 0.25 to 2.0"),
        ({"size_multiple": 0}, "size_multiple is 0; expected 1 to 256"),
        ({"size_multiple": 31.5}, "size_multiple is 31.5; expected 1 to 256"),
    ],
)
def test_sizes_out_of_range_are_named(argument, complaint):
    with pytest.raises(UsageError, match=complaint):
        create_model("rf_lw", backbone="test_resnet", **argument)


def test_what_is_none_is_as_good_as_left_out():
    assert create_model("rf_lw_mobilenetv2", 3, backbone=None, decoder_channels=None).num_classes == 3


def test_nano_networks_are_smaller_than_the_published_one():
    with torch.device("meta"):
        published, *nano = (
            sum(p.numel() for p in create_model(name, 11).parameters())
            for name in ("rf_lw_mobilenetv2", "rf_lw_nano_mobilenetv2", "rf_lw_nano_efficientnet_lite0")
        )
    assert max(nano) < published


def test_published_network_has_no_decoder_width():
    with pytest.raises(UsageError, match="'rf_lw_resnet50' has no argument 'decoder_channels'"):
        create_model("rf_lw_resnet50", decoder_channels=128)


def test_only_networks_on_any_backbone_take_one():
    with pytest.raises(UsageError, match="'rf_lw_efficientnet_lite0' has no argument 'backbone'"):
        create_model("rf_lw_efficientnet_lite0", backbone="resnet18")
    for name in ("rf_lw", "mt_lw"):
        with pytest.raises(UsageError, match=f"'{name}' needs a timm backbone"):
            create_model(name)
