import copy
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from lwrefinenet import create_model, weights
from lwrefinenet.data.layouts import open_dataset
from lwrefinenet.errors import DataError, UsageError, WeightsError
from lwrefinenet.export import int8
from lwrefinenet.export.export import export_weights
from lwrefinenet.export.formats import Format
from lwrefinenet.predict import Predictor
from lwrefinenet.runtimes.exported import Export
from tests.shapes import write_shapes
from tests.tiny import TINY_META, build_tiny

pytestmark = pytest.mark.usefixtures("converted_once")


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    return write_shapes(tmp_path_factory.mktemp("shapes"), train=4, val=3)


@pytest.fixture(scope="module")
def learnt(tmp_path_factory, shapes):
    """The tiny network after some steps on the shapes: its score must be something that can be lost."""
    model = build_tiny().train()
    dataset = open_dataset(shapes, "train")
    optimizer = torch.optim.Adam(model.parameters(), 5e-3)
    for step in range(30):
        pixels, target = dataset[step % len(dataset)]
        images = TINY_META.preprocess(torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None])
        logits = torch.nn.functional.interpolate(model(images), size=target.shape, mode="bilinear")
        loss = torch.nn.functional.cross_entropy(logits, torch.from_numpy(target.copy()).long()[None])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    path = tmp_path_factory.mktemp("learnt") / "shapes.safetensors"
    weights.save(path, model.eval(), TINY_META)
    return path


def guard(shapes, max_drop=0.05):
    calibration = sorted((shapes / "images" / "train").iterdir())
    return int8.Guard(calibration, open_dataset(shapes, "val"), max_drop)


def export(learnt, output, shapes, max_drop=0.05, size=None):
    form = Format.named("openvino" if output.suffix == ".xml" else "onnx", "int8")
    reports, said = [], []

    def quantise(graph, about, meta):
        quantised, report = int8.quantise(graph, about, meta, form=form, guard=guard(shapes, max_drop), say=said.append)
        reports.append(report)
        return quantised, report

    seen = sorted((shapes / "images" / "val").iterdir())[:1]
    exported = export_weights(learnt, output, form, precision="int8", size=size, pictures=seen, quantise=quantise)
    return exported, reports[0], said


def all_in_int8(model, meta, shapes):
    """The network's OpenVINO graph, all its layers in int8."""
    form = Format.named("openvino", "fp32")
    graph = form.graph(model, meta, Export("shapes", "0" * 64, "fp32", None, "0"))
    return int8.quantised(graph, [pixels for pixels, _ in open_dataset(shapes, "train")], form)


@pytest.fixture(scope="module")
def in_int8(learnt, shapes):
    """A graph all in int8, for tests of what is done with such a graph."""
    return all_in_int8(*weights.load(learnt), shapes)


def test_openvino_gets_one_range_for_all_channels_before_depthwise_convolutions(shapes):
    """With one for each, as NNCF gives by itself, OpenVINO crashes on processors with AMX."""
    model = create_model("rf_lw_nano_mobilenetv2", num_classes=len(TINY_META.labels)).eval().requires_grad_(False)
    rounded = [op for op in all_in_int8(model, TINY_META, shapes).get_ops() if op.get_type_name() == "FakeQuantize"]
    clamped = [op for op in rounded if op.input_value(0).get_node().get_type_name() == "Clamp"]
    assert clamped
    assert all(op.input_value(end).get_node().data.size == 1 for op in clamped for end in range(1, 5))


@pytest.mark.parametrize("name", ["shapes.xml", "shapes.onnx"])
def test_int8_keeps_the_score_and_says_what_it_cost(tmp_path, learnt, shapes, name):
    exported, report, _ = export(learnt, tmp_path / name, shapes)
    assert report.before.mean_iou > 0.5
    assert abs(report.drop) < 0.05
    assert not report.mixed
    assert report.after.per_class_iou.keys() == report.before.per_class_iou.keys()
    assert exported.export.int8["before"] == report.before.mean_iou
    assert exported.to_dict()["int8"]["per_class_iou"]["after"] == report.after.per_class_iou
    assert exported.parity.equal_pixels > 0.9
    predictor = Predictor.from_weights(tmp_path / name)
    assert "int8" in predictor.network.name
    float32 = Predictor.from_weights(learnt)
    pixels, _ = open_dataset(shapes, "val")[0]
    difference = (
        (predictor.logits(torch.from_numpy(pixels)[None]) - float32.logits(torch.from_numpy(pixels)[None])).abs().max()
    )
    assert difference > 1e-3  # it really is another arithmetic


def test_a_graph_of_one_size_is_guarded_by_pictures_of_another(tmp_path, learnt, shapes):
    exported, report, _ = export(learnt, tmp_path / "shapes.xml", shapes, size=(56, 72))
    assert exported.export.size == (56, 72)
    assert report.before.mean_iou > 0.5
    assert abs(report.drop) < 0.05
    assert "3 pictures at 80x64" in str(report.before.protocol)  # scored at their own size
    assert "logits resized bilinear to 72x56, to which pictures are resized (bilinear) and from which masks" in str(
        report.before.protocol
    )


def test_masks_of_one_size_come_back_pixel_by_pixel():
    seen = []

    def predict(pixels):
        seen.append(pixels.shape)
        return (pixels[..., 0] > 100).astype(np.uint8)

    pixels = np.zeros((4, 6, 3), np.uint8)
    pixels[2:, :3] = 200
    mask = int8._at((2, 2), predict)(pixels)
    assert seen == [(2, 2, 3)]
    assert mask.tolist() == [[0] * 6] * 2 + [[1] * 3 + [0] * 3] * 2
    assert int8._at(None, predict) is predict


def spoilt(model, *arguments, **settings):
    """What a quantisation would be that loses everything: the same graph with all classes alike."""
    return all_alike(model)


def all_alike(graph):
    import openvino as ov

    other = copy.deepcopy(graph)
    logits = next(o for node in other.get_ops() for o in node.outputs() if "logits" in o.get_names())
    targets = list(logits.get_target_inputs())
    nothing = ov.opset13.multiply(logits, ov.opset13.constant(np.zeros((1, 1, 1, 1), np.float32)))
    for target in targets:
        target.replace_source_output(nothing.output(0))
    logits.get_tensor().set_names(set())
    nothing.output(0).get_tensor().set_names({"logits"})
    return other


def test_layers_that_hurt_go_back_to_float32(tmp_path, learnt, shapes, in_int8, monkeypatch):
    quantize = int8.nncf.quantize

    def without_one(graph, pictures, validation, *, validation_fn, max_drop, drop_type, **settings):
        """What accuracy control gives in the end: a layer that hurts is left out."""
        one = next(node for node in graph.get_ops() if node.get_type_name() == "Convolution")
        left_out = int8.nncf.IgnoredScope(names=[one.get_friendly_name()])
        score, _ = validation_fn(graph, range(1))
        assert score > 0.5
        return quantize(graph, pictures, ignored_scope=left_out, **settings)

    monkeypatch.setattr(int8.nncf, "quantize", lambda *_, **__: all_alike(in_int8))
    monkeypatch.setattr(int8.nncf, "quantize_with_accuracy_control", without_one)
    _, report, said = export(learnt, tmp_path / "shapes.xml", shapes, size=(56, 72))  # of no labelled picture
    assert report.mixed
    assert report.drop < 0.05
    assert any("putting back to float32 those that hurt most" in sentence for sentence in said)


def test_where_no_layer_went_back_the_report_does_not_say_so(tmp_path, learnt, shapes, in_int8, monkeypatch):
    """Accuracy control, which scores for itself, may find nothing to put back."""
    monkeypatch.setattr(int8.nncf, "quantize", lambda *_, **__: all_alike(in_int8))
    monkeypatch.setattr(int8.nncf, "quantize_with_accuracy_control", lambda *_, **__: copy.deepcopy(in_int8))
    _, report, _ = export(learnt, tmp_path / "shapes.xml", shapes)
    assert not report.mixed


def test_a_split_without_labels_guards_nothing_and_is_refused(tmp_path, tmp_path_factory, learnt, shapes):
    shapes = shutil.copytree(shapes, tmp_path_factory.mktemp("unlabelled") / "shapes")
    for path in (shapes / "masks" / "val").glob("*.png"):
        mask = np.full(np.asarray(Image.open(path)).shape, 255, np.uint8)
        Image.fromarray(mask).save(path)
    with pytest.raises(DataError, match="val: not one pixel of its masks has a class, so there is no score"):
        export(learnt, tmp_path / "shapes.xml", shapes)
    assert list(tmp_path.iterdir()) == []


def test_a_loss_above_the_limit_is_refused_and_leaves_no_file(tmp_path, learnt, shapes, monkeypatch):
    monkeypatch.setattr(int8.nncf, "quantize", spoilt)
    monkeypatch.setattr(int8.nncf, "quantize_with_accuracy_control", spoilt)
    with pytest.raises(WeightsError, match=r"int8 costs \d+\.\d+ points of mean IoU on .* val .* allowed are 5\.00"):
        export(learnt, tmp_path / "shapes.xml", shapes)
    assert list(tmp_path.iterdir()) == []


def test_the_command_asks_for_what_int8_needs(monkeypatch, tmp_path, learnt):
    from lwrefinenet.cli.export import _quantiser

    with pytest.raises(UsageError, match=r"int8 needs pictures .*: --calibration my_data/images/train --data my_data"):
        _quantiser(Format.named("openvino", "int8"), None, None, "val", 0.005)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="empty: this folder holds no pictures"):
        _quantiser(Format.named("openvino", "int8"), [str(tmp_path / "empty")], str(tmp_path), "val", 0.005)
