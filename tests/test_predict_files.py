import os

import numpy as np
import PIL.Image
import pytest
from torch import nn

from lwrefinenet.errors import ImageError, LwRefineNetError, UsageError
from lwrefinenet.images import read_mask, read_picture
from lwrefinenet.predict_files import expand_inputs, predict_files


@pytest.fixture
def folder(tmp_path, colour_blocks):
    """Three pictures, the second damaged, and a text."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in ("c.png", "a.png", "b.jpg"):
        PIL.Image.fromarray(colour_blocks).save(folder / name)
    (folder / "b.jpg").write_bytes((folder / "b.jpg").read_bytes()[:300])
    (folder / "notes.txt").write_text("no picture")
    return folder


def test_a_folder_gives_its_pictures_in_order_and_no_text(folder):
    (folder / "deeper").mkdir()
    (folder / "deeper" / "d.png").touch()
    assert [path.name for path in expand_inputs([folder])] == ["a.png", "b.jpg", "c.png"]


def test_globs_files_and_folders_mix_and_each_file_comes_once(folder):
    found = expand_inputs([folder / "c.png", str(folder / "*.png"), folder])
    assert [path.name for path in found] == ["c.png", "a.png", "b.jpg"]
    assert [path.name for path in expand_inputs([str(folder.parent / "**" / "*.jpg")])] == ["b.jpg"]


def test_links_to_one_file_are_inputs_of_their_own_and_hidden_files_none(tmp_path):
    (tmp_path / "a.png").touch()
    (tmp_path / ".hidden.png").touch()
    (tmp_path / "b.png").symlink_to(tmp_path / "a.png")
    for argument in (tmp_path, tmp_path / "*.png", tmp_path / ".." / tmp_path.name):
        assert [path.name for path in expand_inputs([argument, tmp_path])] == ["a.png", "b.png"]


def test_a_file_whose_name_looks_like_a_glob_is_a_file(tmp_path):
    (tmp_path / "photo[1].png").touch()
    assert expand_inputs([tmp_path / "photo[1].png"]) == [tmp_path / "photo[1].png"]


def test_inputs_that_give_nothing_are_misuse(tmp_path):
    (tmp_path / "empty").mkdir()
    cases = {"no.png": "no such file or folder", "*.png": "no file matches", "empty": "holds no pictures"}
    for name, reason in cases.items():
        with pytest.raises(UsageError, match=reason) as caught:
            expand_inputs([tmp_path / name])
        assert str(tmp_path / name) in str(caught.value)


# Whole folders


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_damaged_file_is_reported_and_does_not_stop_the_rest(tmp_path, folder, colour_predictor, colour_blocks):
    results = list(predict_files(colour_predictor, expand_inputs([folder]), tmp_path / "out"))
    assert [result.error is None for result in results] == [True, False, True]
    assert "b.jpg" in str(results[1].error)
    assert names(tmp_path / "out") == ["a_mask.png", "a_overlay.jpg", "c_mask.png", "c_overlay.jpg"]
    np.testing.assert_array_equal(read_mask(results[2].outputs["mask"]), colour_blocks.argmax(axis=2))
    assert list(results[0].timings) == ["decode", "prepare", "network", "upsample+argmax", "save"]


def test_overlays_can_be_left_out(tmp_path, folder, colour_predictor):
    (result,) = predict_files(colour_predictor, [folder / "a.png"], tmp_path / "out", overlay=False)
    assert (names(tmp_path / "out"), list(result.outputs)) == (["a_mask.png"], ["mask"])


@pytest.mark.parametrize("present", ["a_mask.png", "a_overlay.jpg"])
def test_what_exists_is_overwritten_only_when_asked(tmp_path, folder, colour_predictor, present):
    out = tmp_path / "out"
    out.mkdir()
    (out / present).write_text("dear to somebody")
    refused, done = predict_files(colour_predictor, [folder / "a.png", folder / "c.png"], out)
    assert f"{out / present} exists; give --overwrite" in str(refused.error)
    assert done.error is None
    assert (out / present).read_text() == "dear to somebody"
    assert names(out) == sorted([present, "c_mask.png", "c_overlay.jpg"])
    (replaced,) = predict_files(colour_predictor, [folder / "a.png"], out, overwrite=True)
    assert replaced.error is None
    assert read_mask(out / "a_mask.png").shape == (16, 24)


class MustNotRun(nn.Module):
    def forward(self, images):
        raise AssertionError("the network ran")


def test_existing_outputs_are_found_before_the_network_runs(tmp_path, folder, colour_predictor):
    list(predict_files(colour_predictor, [folder / "a.png"], tmp_path))
    colour_predictor.model = MustNotRun()
    (result,) = predict_files(colour_predictor, [folder / "a.png"], tmp_path)
    assert isinstance(result.error, ImageError)


def test_two_inputs_of_one_stem_are_refused_before_any_work(tmp_path, folder, colour_predictor):
    with pytest.raises(UsageError, match=r"a\.png and .*a\.jpg would both be written as .*a_mask\.png"):
        predict_files(colour_predictor, [folder / "a.png", folder / "a.jpg"], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_input_is_never_written_over(folder, colour_predictor):
    (folder / "a_mask.png").write_bytes((folder / "c.png").read_bytes())
    with pytest.raises(UsageError, match=r"a_mask\.png is an input and would be written over"):
        predict_files(colour_predictor, [folder / "a.png", folder / "a_mask.png"], folder, overwrite=True)


def test_a_folder_that_cannot_be_made_is_refused_before_any_work(tmp_path, folder, colour_predictor):
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(LwRefineNetError, match=r"taken/out: nothing can be written here \(Not a directory\).*--output"):
        predict_files(colour_predictor, [folder / "a.png"], tmp_path / "taken" / "out")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_folder_is_refused_before_any_work(tmp_path, folder, colour_predictor):
    (tmp_path / "out").mkdir(mode=0o555)
    with pytest.raises(LwRefineNetError, match=r"out: nothing can be written here \(Permission denied\)"):
        predict_files(colour_predictor, [folder / "a.png"], tmp_path / "out")


def test_a_full_disk_is_one_error_per_file_and_leaves_nothing_half_written(
    tmp_path, folder, colour_predictor, monkeypatch
):
    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    results = list(predict_files(colour_predictor, [folder / "a.png", folder / "c.png"], tmp_path / "out"))
    for result in results:
        assert "_mask.png: cannot be written (No space left on device)" in str(result.error)
    assert names(tmp_path / "out") == []


def test_a_sheet_is_written_beside_when_asked_for(tmp_path, folder, colour_predictor, colour_blocks):
    (result,) = predict_files(colour_predictor, [folder / "a.png"], tmp_path / "out", sheet=True)
    sheet = read_picture(result.outputs["sheet"]).pixels
    assert names(tmp_path / "out") == ["a_mask.png", "a_overlay.jpg", "a_sheet.png"]
    np.testing.assert_array_equal(sheet[:16, :24], colour_blocks)
    np.testing.assert_array_equal(sheet[:16, 28:52], colour_blocks)
