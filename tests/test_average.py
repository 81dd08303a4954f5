"""The mean of weights: of every parameter, of nothing that does not fit together, and honest about where it comes from."""

from copy import deepcopy
from dataclasses import replace

import pytest
import torch

from lwrefinenet import weights
from lwrefinenet.average import average_weights
from lwrefinenet.errors import UsageError
from lwrefinenet.labels import LabelSet, voc_palette
from lwrefinenet.meta import Score, Source
from lwrefinenet.models.zoo import create_model
from lwrefinenet.preprocess import Preprocess
from tests.tiny import TINY_META, build_tiny

DATA = Source("training data", "shapes train", "CC0", "shapes")


@pytest.fixture
def save(tmp_path):
    """Writes tiny weights whose parameters are those of `build_tiny` and so much more; gives their file."""

    def save(name, more=0.0, *, half=False, **changes):
        model = build_tiny()
        with torch.no_grad():
            for value in model.state_dict().values():
                value += int(more) if value.dtype == torch.int64 else more  # what counts batches is whole
        path = tmp_path / f"{name}.safetensors"
        weights.save(path, model, replace(TINY_META, **changes), half=half)
        return path

    return save


def test_every_parameter_is_the_mean(save, tmp_path):
    average_weights([save("a"), save("b", 1.0), save("c", 5.0)], tmp_path / "mean.safetensors")
    plain, mean = build_tiny().state_dict(), weights.load(tmp_path / "mean.safetensors")[0].state_dict()
    for key, value in plain.items():
        more = 2.0 if value.is_floating_point() else 0
        torch.testing.assert_close(mean[key], value + more, msg=key)


def test_the_mean_of_one_with_itself_is_that_one(save, tmp_path):
    source = save("a", half=True)
    average_weights([source, source], tmp_path / "mean.safetensors")
    old, new = (weights.load(path)[0].state_dict() for path in (source, tmp_path / "mean.safetensors"))
    assert all(torch.equal(old[key], new[key]) for key in old)


@pytest.mark.parametrize(("first", "second"), [(True, True), (True, False), (False, False)])
def test_float16_stays_where_each_has_it(save, tmp_path, first, second):
    average_weights([save("a", half=first), save("b", half=second)], tmp_path / "mean.safetensors")
    assert weights.is_half(tmp_path / "mean.safetensors") == (first and second)


def test_the_mean_says_what_it_is_made_of(save, tmp_path):
    a = save("a", licence="CC0", sources=(DATA,), scores=(Score("mean_iou", 0.5, "shapes val"),), recipe="epochs = 1")
    b = save("b", licence="research use", sources=(DATA,), recipe="epochs = 2", adjustment="found on shapes val")
    meta = average_weights([a, b], tmp_path / "mean.safetensors")
    assert meta == weights.read_meta(tmp_path / "mean.safetensors")
    assert meta.scores == () and meta.recipe == "" and meta.adjustment == "found on shapes val"
    assert meta.licence == "CC0; research use"
    again = average_weights([tmp_path / "mean.safetensors", a], tmp_path / "again.safetensors")
    assert again.licence == "CC0; research use" and again.adjustment == "found on shapes val"
    assert meta.sources == (
        Source("averaged weights", "rf_lw shapes", "CC0", str(a)),
        Source("averaged weights", "rf_lw shapes", "research use", str(b)),
        DATA,
    )


def test_a_recipe_that_all_have_stays(save, tmp_path):
    sources = [save(name, recipe="epochs = 1") for name in "ab"]
    assert average_weights(sources, tmp_path / "mean.safetensors").recipe == "epochs = 1"


@pytest.mark.parametrize(
    ("change", "difference"),
    [
        (
            {"labels": LabelSet("shapes", ("a", "b", "c"), voc_palette(3))},
            "the classes are nothing, square, disc and a, b, c",
        ),
        ({"labels": LabelSet("shapes", ("a", "b"), voc_palette(2))}, "they know 3 and 2 classes"),
        ({"preprocess": Preprocess(mean=(0.5, 0.5, 0.5))}, r"they want pictures as .* and Preprocess\(mean=\(0.5"),
        ({"network": "rf_lw_mobilenetv2", "arguments": {}}, "they are rf_lw and rf_lw_mobilenetv2"),
        ({"arguments": {**TINY_META.arguments, "decoder_channels": 16}}, "they are rf_lw with .*8.* and with .*16"),
    ],
)
def test_what_does_not_fit_together_is_named_and_nothing_is_written(save, tmp_path, change, difference):
    other = replace(TINY_META, **change)
    weights.save(tmp_path / "b.safetensors", create_model(other.network, len(other.labels), **other.arguments), other)
    with pytest.raises(
        UsageError, match=rf"a.safetensors and .*b.safetensors differ: {difference}.*; expected runs of"
    ):
        average_weights([save("a"), tmp_path / "b.safetensors"], tmp_path / "mean.safetensors")
    assert not (tmp_path / "mean.safetensors").exists()


def test_what_metadata_leaves_out_is_no_difference(save, tmp_path):
    said = save("b", arguments={**TINY_META.arguments, "decoder_links": 4, "input_scale": 1.0})
    average_weights([save("a"), said], tmp_path / "mean.safetensors")


def test_an_exported_file_is_sent_back_to_its_weights(save, tmp_path):
    with pytest.raises(UsageError, match=r"best.onnx: is an exported file; average .safetensors files, and export the"):
        average_weights([save("a"), "best.onnx"], tmp_path / "mean.safetensors")


def test_depths_of_pictures_seen_at_another_size_are_brought_to_that_of_the_first(tmp_path):
    arguments = {"backbone": "test_resnet", "decoder_channels": 8, "tasks": ("segmentation", "depth")}
    torch.manual_seed(0)
    first = create_model("mt_lw", 3, **arguments, input_scale=0.5).eval()
    other = deepcopy(first)
    other.see_at(1)
    for path, scale, model in (("a", 0.5, first), ("b", 1.0, other)):
        meta = replace(TINY_META, network="mt_lw", arguments={**arguments, "input_scale": scale})
        weights.save(tmp_path / f"{path}.safetensors", model, meta)
    meta = average_weights([tmp_path / "a.safetensors", tmp_path / "b.safetensors"], tmp_path / "mean.safetensors")
    assert meta.arguments["input_scale"] == 0.5
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(weights.load(tmp_path / "mean.safetensors")[0](images), first(images))


def test_one_file_has_no_mean(save, tmp_path):
    with pytest.raises(UsageError, match="a mean of 1 is none; give two"):
        average_weights([save("a")], tmp_path / "mean.safetensors")
