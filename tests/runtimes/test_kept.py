"""Graphs that are made of weights and kept in the user's cache folder, and what happens where that cannot be."""

import copy

import numpy as np
import pytest
from torch import nn

from lwrefinenet import weights
from lwrefinenet.errors import WeightsError
from lwrefinenet.predict import Predictor
from lwrefinenet.runtimes import kept, openvino_runtime
from tests.pictures import noise_in_blocks as picture

pytestmark = pytest.mark.usefixtures("converted_once")


def test_a_converted_graph_is_kept_and_taken_from_there(tiny_file, monkeypatch, tmp_path, caplog):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    caplog.set_level("INFO")
    first = Predictor.from_weights(tiny_file, runtime="openvino")
    assert "Converting tiny.safetensors for OpenVINO, in float32; kept in" in caplog.text
    files = sorted(path.suffix for path in (tmp_path / "cache" / "lwrefinenet" / "openvino").iterdir())
    assert files == [".bin", ".xml"]
    monkeypatch.setattr(openvino_runtime, "to_graph", lambda *_: pytest.fail("converted again"))
    second = Predictor.from_weights(tiny_file, runtime="openvino")
    assert second.meta == first.meta
    np.testing.assert_array_equal(second.predict_mask(picture(64, 64)), first.predict_mask(picture(64, 64)))


@pytest.mark.parametrize("half", [".xml", ".bin"])
def test_a_kept_graph_that_was_damaged_is_made_anew(tiny_file, monkeypatch, tmp_path, half):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    expected = Predictor.from_weights(tiny_file, runtime="openvino").predict_mask(picture(64, 64))
    (kept_file,) = (tmp_path / "cache" / "lwrefinenet" / "openvino").glob(f"*{half}")
    kept_file.unlink() if half == ".bin" else kept_file.write_bytes(b"cut short")
    np.testing.assert_array_equal(
        Predictor.from_weights(tiny_file, runtime="openvino").predict_mask(picture(64, 64)), expected
    )
    assert kept_file.stat().st_size > 1000


def test_other_weights_are_not_taken_for_those_that_were_kept(tmp_path, tiny_model, tiny_meta, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    masks = []
    for name, bias in (("one", 0.0), ("two", 100.0)):
        nn.init.constant_(tiny_model.head.bias, 0.0)
        tiny_model.head.bias.data[2] = bias
        weights.save(tmp_path / f"{name}.safetensors", tiny_model, tiny_meta)
        masks.append(
            Predictor.from_weights(tmp_path / f"{name}.safetensors", runtime="openvino").predict_mask(picture(40, 40))
        )
    assert (masks[1] == 2).all()
    assert not (masks[0] == 2).all()


def test_without_a_folder_to_write_graphs_are_not_kept_but_used(tiny_file, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert Predictor.from_weights(tiny_file, runtime="openvino").predict_mask(picture(40, 40)).shape == (40, 40)


def test_a_conversion_that_changes_the_logits_is_not_kept(tiny_file, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    convert = openvino_runtime.to_graph

    def wrong(deployable):
        other = copy.deepcopy(deployable)
        other.network.head.weight.data += 0.01
        return convert(other)

    monkeypatch.setattr(kept.openvino_runtime, "to_graph", wrong)
    with pytest.raises(WeightsError, match="OpenVINO's logits are not those of PyTorch"):
        Predictor.from_weights(tiny_file, runtime="openvino")
    assert not (tmp_path / "cache").exists()


def test_pytorch_is_taken_where_openvino_cannot_and_nobody_asked_for_it(tiny_file, monkeypatch, tmp_path, caplog):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def fail(*_):
        raise ValueError("no such operation")

    monkeypatch.setattr(openvino_runtime, "to_graph", fail)
    assert Predictor.from_weights(tiny_file, device="cpu").network.name == "PyTorch fp32 on cpu"
    assert "OpenVINO cannot take this network (ValueError). PyTorch is taken." in caplog.text
    with pytest.raises(WeightsError, match="OpenVINO cannot take this network"):
        Predictor.from_weights(tiny_file, runtime="openvino")


def test_a_full_disk_does_not_keep_a_graph_from_being_used(tiny_file, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def full(*_, **__):
        raise RuntimeError("basic_ios::clear: iostream error")

    monkeypatch.setattr(openvino_runtime.ov, "save_model", full)
    assert Predictor.from_weights(tiny_file, runtime="openvino").predict_mask(picture(40, 40)).shape == (40, 40)
    assert list((tmp_path / "cache" / "lwrefinenet" / "openvino").iterdir()) == []


def test_graphs_of_other_sources_are_neither_taken_nor_left_behind(tiny_file, monkeypatch, tmp_path):
    """A package that was mended makes its graphs anew, whatever its version says."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = tmp_path / "cache" / "lwrefinenet" / "openvino"
    Predictor.from_weights(tiny_file, runtime="openvino")
    former = {path.name for path in folder.iterdir()}
    monkeypatch.setattr(kept, "_maker", lambda: "0" * 12)
    Predictor.from_weights(tiny_file, runtime="openvino")
    found = {path.name for path in folder.iterdir()}
    assert len(found) == 2 and not found & former


def test_weights_that_change_while_they_are_converted_are_not_kept(tiny_file, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    hashes = iter(["a" * 64, "b" * 64])
    monkeypatch.setattr(kept.weights, "sha256_of", lambda _: next(hashes))
    Predictor.from_weights(tiny_file, runtime="openvino")
    assert not (tmp_path / "cache").exists()
