"""A run whose recipe asks for it ends with offsets for the classes in its best weights."""

import json

import numpy as np
import pytest

from lwrefinenet import adjust, weights
from lwrefinenet.data.folder import folder_dataset
from lwrefinenet.errors import DataError, RecipeError
from lwrefinenet.evaluate import evaluate
from lwrefinenet.logit_adjustment import Adjustment
from lwrefinenet.predict import Predictor
from tests.shapes import write_shapes
from tests.training.test_loop import Quiet, equal, recipe, run

WEIGHED = {"epochs": 1, "class_weight_power": 1.0, "adjust_logits": True}


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    return write_shapes(tmp_path_factory.mktemp("shapes"), train=8, val=8)


def offsets_logged(folder):
    return [line for line in map(json.loads, (folder / "metrics.jsonl").open()) if "offsets" in line]


def test_the_best_weights_get_offsets_and_say_so(shapes, tmp_path):
    listener = Quiet()
    plain = run(shapes, tmp_path / "plain", recipe(**{**WEIGHED, "adjust_logits": False}))
    found = run(shapes, tmp_path / "adjusted", recipe(**WEIGHED), listener)
    (line,) = offsets_logged(found.path)
    assert line["helps"] and line["mean_iou_before"] < line["mean_iou_unseen"]
    assert sorted(line["offsets"]) == ["disc", "nothing", "square"]
    assert any(said.startswith("Offsets for the classes raise the mean IoU") for said in listener.sentences)
    pictures = folder_dataset(shapes, "val")
    assert weights.read_meta(found.best).adjustment == f"found on {pictures.name} val"
    before, after = (
        evaluate(Predictor.from_weights(each.best, device="cpu").predict_maps, pictures, labels=pictures.labels)
        for each in (plain, found)
    )
    assert before.mean_iou < after.mean_iou == weights.read_meta(found.best).scores[0].value


def test_a_run_made_longer_is_one_that_was_as_long_from_the_start(shapes, tmp_path):
    """Offsets lie in the weights to use alone, not in what a longer run goes on from."""
    wsd = {**WEIGHED, "schedule": "wsd", "decay_epochs": 1}
    run(shapes, tmp_path / "longer", recipe(**{**wsd, "epochs": 2}))
    longer = run(shapes, tmp_path / "longer", recipe(**{**wsd, "epochs": 3}), resume=True)
    whole = run(shapes, tmp_path / "whole", recipe(**{**wsd, "epochs": 3}))
    assert equal(longer.best, whole.best)
    assert weights.read_meta(longer.best) == weights.read_meta(whole.best)
    assert offsets_logged(longer.path) == offsets_logged(whole.path)


def test_where_no_offsets_help_the_weights_stay(shapes, tmp_path, monkeypatch):
    useless = Adjustment(np.ones(3), before=0.5, after=0.6, unseen=0.5)
    monkeypatch.setattr(adjust, "find_adjustment", lambda *_, **__: useless)
    listener = Quiet()
    found = run(shapes, tmp_path, recipe(**WEIGHED), listener)
    assert not weights.read_meta(found.best).adjustment
    assert not offsets_logged(tmp_path)[0]["helps"]
    assert any(said.startswith("No offsets for the classes help") for said in listener.sentences)


def test_what_offsets_cannot_be_found_on_is_refused_before_the_first_step(shapes, tmp_path):
    with pytest.raises(RecipeError, match="adjust_logits is True; expected false where val_split is empty"):
        recipe(**WEIGHED, val_split="")
    few = write_shapes(tmp_path / "few", train=8, val=4)
    with pytest.raises(DataError, match="few val: has 4 pictures; offsets for the classes need 8 or more"):
        run(few, tmp_path / "run", recipe(**WEIGHED))
    assert not (tmp_path / "run").exists()
