"""Weights files: what is saved comes back whole, and every other file is refused with a reason."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from lwrefinenet import weights
from lwrefinenet.errors import UsageError, WeightsError
from lwrefinenet.labels import VOC
from lwrefinenet.models.zoo import create_model


@pytest.fixture
def weights_file(tmp_path, tiny_model, tiny_meta):
    weights.save(tmp_path / "tiny.safetensors", tiny_model, tiny_meta)
    return tmp_path / "tiny.safetensors"


@pytest.fixture
def shipped(weights_file, monkeypatch):
    """The tiny weights as if they came with the package, under the name "tiny"."""
    monkeypatch.setattr(weights, "SHIPPED_FOLDER", weights_file.parent)
    monkeypatch.setattr(weights, "SHIPPED", {"tiny": weights.ShippedWeights(weights.sha256_of(weights_file))})
    return weights_file


def logits_of(model):
    with torch.no_grad():
        return model(torch.randn(1, 3, 33, 47, generator=torch.Generator().manual_seed(0)))


def test_loaded_network_gives_the_saved_ones_logits(weights_file, tiny_model, tiny_meta):
    model, meta = weights.load(weights_file)
    assert torch.equal(logits_of(model), logits_of(tiny_model))
    assert meta == tiny_meta
    assert not model.training


def test_half_precision_is_half_the_size_and_nearly_the_same(tmp_path, weights_file, tiny_model, tiny_meta):
    weights.save(tmp_path / "half.safetensors", tiny_model, tiny_meta, half=True)
    expected, model = logits_of(tiny_model), weights.load(tmp_path / "half.safetensors")[0]
    assert 0.5 <= (tmp_path / "half.safetensors").stat().st_size / weights_file.stat().st_size < 0.6
    assert 0 < (logits_of(model) - expected).abs().max() < 0.01 * expected.std()
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}


def test_a_rounded_network_is_what_a_half_file_gives_back(tmp_path, tiny_model, tiny_meta):
    found = weights.rounded(tiny_model.train(), tiny_meta)
    weights.save(tmp_path / "half.safetensors", tiny_model, tiny_meta, half=True)
    expected = weights.load(tmp_path / "half.safetensors")[0].state_dict()
    assert all(torch.equal(value, expected[key]) for key, value in found.state_dict().items())
    assert tiny_model.training and not found.training


def test_training_network_is_saved_without_leaving_its_mode(tmp_path, tiny_model, tiny_meta):
    weights.save(tmp_path / "x.safetensors", tiny_model.train(), tiny_meta)
    assert tiny_model.training


def test_meta_is_read_without_building_the_network(weights_file, tiny_meta, monkeypatch):
    monkeypatch.setattr(weights, "create_model", None)
    assert weights.read_meta(weights_file) == tiny_meta


def test_foreign_safetensors_are_refused(tmp_path):
    save_file({"weight": torch.zeros(2)}, tmp_path / "foreign.safetensors", metadata={"format": "pt"})
    with pytest.raises(WeightsError, match=r"foreign.safetensors: holds tensors but no lwrefinenet metadata"):
        weights.load(tmp_path / "foreign.safetensors")


@pytest.mark.parametrize("kept", [0, 4, 1000, -1])
def test_truncated_file_is_refused(kept, weights_file):
    weights_file.write_bytes(weights_file.read_bytes()[:kept])
    with pytest.raises(
        WeightsError, match=r"tiny.safetensors: not a readable .safetensors file .* cut, .*; copy it again"
    ):
        weights.load(weights_file)


def test_file_that_may_not_be_read_is_said_to_need_permissions(weights_file, monkeypatch):
    def refuse(*_args, **_kwargs):
        raise PermissionError(13, "Permission denied")  # which no mode of a file does to root

    monkeypatch.setattr(weights, "safe_open", refuse)
    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(
        WeightsError,
        match=r"tiny.safetensors: cannot be read \(Permission denied\); check the name and the permissions\.$",
    ):
        weights.load(weights_file)


@pytest.mark.parametrize("as_zip", [True, False])
def test_checkpoint_of_torch_is_sent_to_import(as_zip, tmp_path):
    path = tmp_path / "checkpoint.safetensors"
    torch.save({"weight": torch.zeros(2)}, path, _use_new_zipfile_serialization=as_zip)
    with pytest.raises(
        WeightsError, match=r"checkpoint.safetensors: not a readable .* take it in by `lwrefinenet import`"
    ):
        weights.load(path)


def test_metadata_of_another_release_is_refused(tmp_path):
    save_file(
        {"weight": torch.zeros(2)}, tmp_path / "newer.safetensors", metadata={"lwrefinenet": '{"schema_version": 9}'}
    )
    with pytest.raises(
        WeightsError, match="newer.safetensors: its lwrefinenet metadata cannot be read.*schema version 9"
    ):
        weights.load(tmp_path / "newer.safetensors")


def test_parameters_of_another_network_are_refused(tmp_path, tiny_meta):
    wider = create_model("rf_lw", 3, backbone="test_resnet", decoder_channels=16)
    weights.save(tmp_path / "x.safetensors", wider, tiny_meta)
    with pytest.raises(WeightsError, match=r"x.safetensors does not fit rf_lw: \d+ misshapen \(decoder.levels.0"):
        weights.load(tmp_path / "x.safetensors")


def test_other_class_count_than_the_metadata_says_is_refused(tmp_path, tiny_model, tiny_meta):
    weights.save(tmp_path / "x.safetensors", tiny_model, replace(tiny_meta, labels=VOC))
    with pytest.raises(WeightsError, match=r"2 misshapen \(head.weight \(3, 8, 3, 3\) instead of \(21, 8, 3, 3\)"):
        weights.load(tmp_path / "x.safetensors")


@pytest.mark.parametrize("change", [{"network": "of_tomorrow"}, {"arguments": {"depth": 3}}, {"arguments": {}}])
def test_network_that_cannot_be_built_is_a_fault_of_the_file(change, tmp_path, tiny_model, tiny_meta):
    weights.save(tmp_path / "x.safetensors", tiny_model, replace(tiny_meta, **change))
    with pytest.raises(WeightsError, match="x.safetensors: its metadata asks for a network that cannot be built"):
        weights.load(tmp_path / "x.safetensors")


def test_weights_that_see_at_another_scale_than_their_metadata_says_are_not_written(tmp_path, tiny_model, tiny_meta):
    tiny_model.see_at(0.6)
    path = tmp_path / "x.safetensors"
    with pytest.raises(
        WeightsError,
        match=r"x\.safetensors: its metadata asks for a network with input_scale 1\.0, this one has 0\.6;",
    ):
        weights.save(path, tiny_model, tiny_meta)
    assert list(tmp_path.iterdir()) == []
    weights.save(path, tiny_model, replace(tiny_meta, arguments={**tiny_meta.arguments, "input_scale": 0.6}))
    assert weights.load(path)[0].input_scale == tiny_model.input_scale


def test_weights_that_see_other_multiples_than_their_metadata_says_are_not_written(tmp_path, tiny_model, tiny_meta):
    tiny_model.see_multiples_of(32)
    path = tmp_path / "x.safetensors"
    with pytest.raises(
        WeightsError, match=r"a network with size_multiple 1, this one has 32; .* need size_multiple = 32\."
    ):
        weights.save(path, tiny_model, tiny_meta)
    assert list(tmp_path.iterdir()) == []
    weights.save(path, tiny_model, replace(tiny_meta, arguments={**tiny_meta.arguments, "size_multiple": 32}))
    assert weights.load(path)[0].size_multiple == 32


def test_an_input_scale_of_none_in_the_metadata_is_as_good_as_left_out(tmp_path, tiny_model, tiny_meta):
    arguments = {**tiny_meta.arguments, "input_scale": None}
    weights.save(tmp_path / "x.safetensors", tiny_model, replace(tiny_meta, arguments=arguments))
    assert weights.load(tmp_path / "x.safetensors")[0].input_scale == 1
    tiny_model.see_at(0.5)
    with pytest.raises(WeightsError, match=r"asks for a network with input_scale 1\.0, this one has 0\.5;"):
        weights.save(tmp_path / "y.safetensors", tiny_model, replace(tiny_meta, arguments=arguments))


def test_shipped_weights_load_by_their_name(shipped, tiny_model):
    assert torch.equal(logits_of(weights.load("tiny")[0]), logits_of(tiny_model))


def test_tampered_shipped_weights_are_refused(shipped):
    content = bytearray(shipped.read_bytes())
    content[-1] ^= 1
    shipped.write_bytes(content)
    with pytest.raises(WeightsError, match="sha256 is .* the file is damaged"):
        weights.load("tiny")
    weights.load(shipped)  # as a file of one's own it is still well-formed


def test_lost_shipped_weights_say_so(shipped):
    shipped.unlink()
    with pytest.raises(WeightsError, match="install lwrefinenet again"):
        weights.load("tiny")


def test_unknown_name_gives_the_nearest(shipped):
    with pytest.raises(UsageError, match="no weights are named 'tinny'; nearest: tiny"):
        weights.load("tinny")


def test_missing_file_is_a_usage_error(tmp_path):
    with pytest.raises(UsageError, match="nowhere.safetensors: no such weights file"):
        weights.load(tmp_path / "nowhere.safetensors")


@pytest.mark.parametrize("name", weights.SHIPPED)
def test_weights_in_the_package_are_whole_and_free_to_use(name):
    model, meta = weights.load(name)
    assert name.split(".")[0] == meta.network
    assert meta.licence != "unknown"
    assert all(parameter.isfinite().all() for parameter in model.parameters())
