import json
import re

import pytest
import torch

from lwrefinenet import files
from lwrefinenet.errors import RunError
from lwrefinenet.training.checkpoints import Checkpoints

DATA = ["shapes", "train", "8", "nothing", "square", "disc"]


def checkpoints(folder, recipe="recipe a", data=DATA):
    return Checkpoints(folder, recipe, data)


def saved(folder, *values):
    """One checkpoint for each value, one after the other."""
    for step, value in enumerate(values):
        checkpoints(folder).save({"weights": torch.full((4,), float(value))}, epoch=0, step=step)
    return folder


def loaded(folder, **settings):
    """The value that is loaded, and what was said."""
    sentences = []
    state = checkpoints(folder, **settings).load(sentences.append)
    return None if state is None else state["weights"][0].item(), sentences


def test_the_newest_checkpoint_is_loaded_and_the_one_before_it_is_kept(tmp_path):
    saved(tmp_path, 1, 2, 3)
    assert loaded(tmp_path) == (3.0, [])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["last", "previous"]
    assert json.loads((tmp_path / "previous" / "manifest.json").read_text())["step"] == 1


def test_a_folder_without_checkpoints_has_nothing_to_load(tmp_path):
    assert loaded(tmp_path) == (None, [])


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:-7]), r"it was cut short \(\d+ of \d+ bytes\)"),
        (lambda path: path.write_bytes(path.read_bytes()[:-7] + bytes(7)), "its bytes were changed"),
        (lambda path: path.unlink(), r"it is not whole \(FileNotFoundError"),
        (lambda path: path.with_name("manifest.json").write_text("{"), r"it is not whole \(JSONDecodeError"),
    ],
)
def test_a_damaged_checkpoint_is_refused_by_name_and_the_one_before_it_is_used(tmp_path, spoil, reason):
    saved(tmp_path, 1, 2)
    spoil(tmp_path / "last" / "checkpoint.pt")
    value, sentences = loaded(tmp_path)
    assert value == 1.0
    assert len(sentences) == 1
    assert re.search(r"last/checkpoint\.pt: " + reason, sentences[0])


def test_a_checkpoint_of_another_recipe_is_refused_by_name_and_the_one_before_it_is_used(tmp_path):
    saved(tmp_path, 1)
    checkpoints(tmp_path, recipe="recipe b").save({"weights": torch.zeros(4)}, epoch=0, step=1)
    value, sentences = loaded(tmp_path)
    assert value == 1.0
    assert sentences == [f"{tmp_path}/last/checkpoint.pt: it was made by another recipe; refused."]


def test_without_any_usable_checkpoint_the_run_stops_and_names_them_all(tmp_path):
    saved(tmp_path, 1, 2)
    with pytest.raises(
        RunError, match=r"last/checkpoint\.pt: .*previous/checkpoint\.pt: it was made by another recipe"
    ):
        loaded(tmp_path, recipe="recipe b")


def test_checkpoints_of_other_data_stop_the_run(tmp_path):
    saved(tmp_path, 1)
    with pytest.raises(
        RunError, match="learnt from shapes train with 8 pictures .* this is shapes train with 5 pictures"
    ):
        loaded(tmp_path, data=["shapes", "train", "5", "nothing", "square", "disc"])


def test_a_write_that_fails_leaves_both_checkpoints_as_they_were(tmp_path, monkeypatch):
    saved(tmp_path, 1, 2)

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(Exception, match="No space left"):
        saved(tmp_path, 3)
    monkeypatch.undo()
    assert loaded(tmp_path) == (2.0, [])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["last", "previous"]


def test_a_process_killed_between_the_two_renames_loses_one_checkpoint_and_no_more(tmp_path):
    saved(tmp_path, 1, 2)
    (tmp_path / "last").rename(tmp_path / ".last.0123abcd")  # as it stands while `previous` is already the new one
    assert loaded(tmp_path) == (1.0, [])
