"""Adjusted weights: the same network with other biases, whole or not written at all."""

import tempfile
from dataclasses import replace

import numpy as np
import pytest
import torch

from lwrefinenet import adjust, predict, weights
from lwrefinenet.adjust import adjust_weights, with_offsets
from lwrefinenet.data.folder import folder_dataset
from lwrefinenet.errors import UsageError
from lwrefinenet.evaluate import evaluate
from lwrefinenet.logit_adjustment import Adjustment
from lwrefinenet.meta import Score
from lwrefinenet.models.zoo import create_model
from lwrefinenet.predict import Predictor
from tests.shapes import write_shapes
from tests.tiny import TINY_META, build_tiny

CPU = torch.device("cpu")


@pytest.fixture
def shapes(tmp_path):
    return folder_dataset(write_shapes(tmp_path / "shapes", val=8), "val")


@pytest.fixture
def blind(tmp_path, shapes):
    return write_blind(tmp_path / "blind.safetensors", shapes.labels)


def write_blind(path, labels, *, half=True):
    """A network of random parameters that says "disc" everywhere."""
    model = build_tiny()
    with torch.no_grad():
        model.head.weight *= 0.05
        model.head.bias[:] = torch.tensor([0.0, 0.0, 2.0])
    weights.save(path, model, replace(TINY_META, labels=labels), half=half)
    return path


def test_adjusted_weights_score_what_they_say(blind, shapes, tmp_path):
    before, target = blind.read_bytes(), tmp_path / "seeing.safetensors"
    done = []
    found = adjust_weights(blind, target, shapes, device=CPU, watch=lambda indices, what: done.append(what) or indices)
    assert found.helps and done == ["finding offsets", "scoring"]
    assert blind.read_bytes() == before
    meta = weights.read_meta(target)
    assert meta.adjustment == "found on shapes val"
    scored = evaluate(Predictor.from_weights(target, device="cpu").predict_maps, shapes, labels=shapes.labels)
    (score,) = meta.scores
    assert score.value == scored.mean_iou == pytest.approx(found.after, abs=1e-3)
    assert score.protocol == f"{scored.protocol}, on which the classes' offsets were found"


def test_the_network_is_the_same_but_for_its_last_biases(blind, shapes, tmp_path):
    target = tmp_path / "seeing.safetensors"
    found = adjust_weights(blind, target, shapes, device=CPU)
    old, new = (weights.load(path)[0].state_dict() for path in (blind, target))
    (changed,) = (key for key in old if not torch.equal(old[key], new[key]))
    assert changed == "head.bias"
    assert torch.allclose(new[changed] - old[changed], torch.from_numpy(found.offsets).float())


@pytest.mark.parametrize("half", [True, False])
def test_parameters_stay_as_exact_as_they_were_stored(shapes, tmp_path, half):
    source = write_blind(tmp_path / "plain.safetensors", shapes.labels, half=half)
    target = tmp_path / "seeing.safetensors"
    adjust_weights(source, target, shapes, device=CPU)
    assert weights.is_half(source) == weights.is_half(target) == half
    old, new = (weights.load(path)[0].state_dict() for path in (source, target))
    assert [key for key in old if not torch.equal(old[key], new[key])] == ["head.bias"]


def test_an_exported_file_is_sent_back_to_its_weights(shapes, tmp_path):
    with pytest.raises(
        UsageError, match=r"best.onnx: is an exported file; adjust the .safetensors file, and export it"
    ):
        adjust_weights("best.onnx", tmp_path / "new.safetensors", shapes, device=CPU)


def test_scores_of_other_tasks_stay(blind, shapes, tmp_path):
    model, meta = weights.load(blind)
    depth = Score("depth_rmse_metres", 0.7, "rooms test")
    weights.save(blind, model, replace(meta, scores=(Score("mean_iou", 0.1, "shapes val"), depth)))
    adjust_weights(blind, tmp_path / "new.safetensors", shapes, device=CPU)
    first, second = weights.read_meta(tmp_path / "new.safetensors").scores
    assert first.metric == "mean_iou" and first.value > 0.1 and second == depth


def test_weights_may_be_adjusted_in_place(blind, shapes):
    adjust_weights(blind, blind, shapes, device=CPU)
    assert weights.read_meta(blind).adjustment == "found on shapes val"


def test_nothing_is_written_where_offsets_do_not_help(blind, shapes, tmp_path, monkeypatch):
    useless = Adjustment(np.ones(3), before=0.5, after=0.6, unseen=0.5)
    monkeypatch.setattr(adjust, "find_adjustment", lambda *_, **__: useless)
    assert adjust_weights(blind, tmp_path / "new.safetensors", shapes, device=CPU) is useless
    assert not (tmp_path / "new.safetensors").exists()


def test_of_several_tasks_only_the_classes_move():
    torch.manual_seed(0)
    model = create_model("mt_lw", 3, backbone="test_resnet", decoder_channels=8, tasks=("segmentation", "depth")).eval()
    offsets = np.array([1.0, -2.0, 1.0])
    with torch.no_grad():
        images = torch.randn(1, 3, 64, 64)
        before, after = model(images), with_offsets(model, offsets)(images)
    shift = torch.from_numpy(offsets).float()[:, None, None]
    assert torch.allclose(after["segmentation"], before["segmentation"] + shift, atol=1e-5)
    assert torch.equal(after["depth"], before["depth"])


def test_adjusting_needs_no_room_for_other_files(blind, shapes, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "not there"))
    assert adjust_weights(blind, tmp_path / "seeing.safetensors", shapes, device=CPU).helps


def test_a_score_of_large_pictures_says_that_they_were_cut(blind, shapes, tmp_path, monkeypatch):
    monkeypatch.setattr(predict, "USUALLY_WHOLE", 32 * 32)
    monkeypatch.setattr(predict, "USUAL_TILE", 128)
    adjust_weights(blind, tmp_path / "seeing.safetensors", shapes, device=CPU)
    (score,) = weights.read_meta(tmp_path / "seeing.safetensors").scores
    assert ", single scale, no flip, large pictures in tiles of 128x128, one confusion matrix" in score.protocol
