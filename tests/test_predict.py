import os

import numpy as np
import PIL.Image
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from lwrefinenet import predict, weights
from lwrefinenet.errors import ImageError, LwRefineNetError, UsageError
from lwrefinenet.images import Picture, as_stored, read_mask, read_picture
from lwrefinenet.labels import LabelSet
from lwrefinenet.meta import WeightsMeta
from lwrefinenet.predict import Predictor, Segmentation, expand_inputs, labels_at, predict_files, resolve_device
from lwrefinenet.preprocess import Preprocess

COLOURS = LabelSet("colours", ("red", "green", "blue"), ((255, 0, 0), (0, 255, 0), (0, 0, 255)))


class StrongestColour(nn.Module):
    """A network that can be checked by eye: its three logits are the mean red, green and blue of a 4x4 cell."""

    def forward(self, images):
        return F.avg_pool2d(images, 4, ceil_mode=True)


@pytest.fixture
def colour_predictor():
    meta = WeightsMeta("colours", COLOURS, Preprocess(mean=(0, 0, 0), std=(1, 1, 1)))
    return Predictor(StrongestColour(), meta, "cpu")


@pytest.fixture
def colour_blocks():
    """(16, 24, 3) in blocks of 8x8: red, green, blue above blue, green, blue; unlike its turned and mirrored copies."""
    classes = np.array([[0, 1, 2], [2, 1, 2]]).repeat(8, axis=0).repeat(8, axis=1)
    return np.eye(3, dtype=np.uint8)[classes] * np.uint8(255)


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


# Labels from logits, in bands


@pytest.mark.parametrize("resize", ["bilinear", "bicubic"])
@pytest.mark.parametrize(
    ("small", "size"),
    [((12, 20), (47, 77)), ((9, 7), (33, 28)), ((1, 1), (1, 1)), ((1, 1), (3, 2)), ((1, 30), (2, 117))],
)
def test_labels_are_those_of_the_whole_picture_interpolated(resize, small, size):
    logits = torch.randn(2, 11, *small, generator=torch.Generator().manual_seed(0))
    whole = F.interpolate(logits, size=size, mode=resize, align_corners=False)
    best_two = whole.topk(2, dim=1).values
    decided = best_two[:, 0] - best_two[:, 1] > 1e-5  # closer than that, rounding decides
    labels = labels_at(logits, size, resize)
    assert labels.dtype == torch.uint8
    assert decided.float().mean() > 0.99
    assert (labels == whole.argmax(1))[decided].all()


@pytest.mark.parametrize("resize", ["bilinear", "bicubic"])
def test_the_height_of_the_bands_changes_no_label(resize):
    logits = torch.randn(2, 7, 50, 60, generator=torch.Generator().manual_seed(0))
    at_once = labels_at(logits, (199, 240), resize, band_values=10**9)
    for rows in (1, 3, 64):
        torch.testing.assert_close(
            labels_at(logits, (199, 240), resize, band_values=rows * 2 * 7 * 240), at_once, rtol=0, atol=0
        )


class LargestTensor(TorchDispatchMode):
    """The number of values of the largest tensor that any operation makes."""

    values = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor):
            self.values = max(self.values, result.numel())
        return result


def test_resized_logits_never_exist_as_a_whole():
    logits = torch.randn(1, 60, 75, 100)
    with LargestTensor() as largest:
        labels_at(logits, (300, 400))
    assert largest.values <= predict.CPU_BAND_VALUES < 60 * 300 * 400 / 5


def test_logits_are_resized_and_not_labels():
    """Between classes 0 and 2 lies a place where class 1 is best, though it is best in no cell."""
    logits = torch.tensor([[[[10.0, 0.0]], [[7.0, 7.0]], [[0.0, 10.0]]]])
    assert labels_at(logits, (1, 8)).unique().tolist() == [0, 1, 2]


# The Predictor


def test_the_mask_has_the_classes_of_the_picture(colour_predictor, colour_blocks):
    result = colour_predictor(colour_blocks)
    np.testing.assert_array_equal(result.mask, colour_blocks.argmax(axis=2))
    assert list(result.shares().items()) == [("blue", 3 / 6), ("green", 2 / 6), ("red", 1 / 6)]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_mask_lies_over_the_file_as_stored_and_the_overlay_is_upright(
    tmp_path, colour_predictor, colour_blocks, orientation
):
    exif = PIL.Image.Exif()
    exif[0x0112] = orientation
    PIL.Image.fromarray(colour_blocks).save(tmp_path / "turned.png", exif=exif)
    result = colour_predictor(tmp_path / "turned.png")
    np.testing.assert_array_equal(result.mask, colour_blocks.argmax(axis=2))
    upright = read_picture(tmp_path / "turned.png").pixels
    np.testing.assert_array_equal(result.overlay(), upright)  # the classes have the colours that they stand for


class SeesShape(StrongestColour):
    def forward(self, images):
        self.shape = tuple(images.shape)
        return super().forward(images)


def test_the_network_sees_a_turned_photo_upright(tmp_path, colour_blocks, colour_predictor):
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    PIL.Image.fromarray(colour_blocks).save(tmp_path / "turned.png", exif=exif)
    colour_predictor.model = SeesShape()
    colour_predictor(tmp_path / "turned.png")
    assert colour_predictor.model.shape == (1, 3, 24, 16)


def test_path_pillow_image_array_and_bare_pixels_give_one_mask(tmp_path, tiny_model, tiny_meta):
    pixels = np.random.default_rng(0).integers(0, 256, (33, 47, 3), dtype=np.uint8)
    PIL.Image.fromarray(pixels).save(tmp_path / "noise.png")
    predictor = Predictor(tiny_model, tiny_meta, "cpu")
    mask = predictor(pixels).mask
    assert len(np.unique(mask)) > 1
    for other in (str(tmp_path / "noise.png"), tmp_path / "noise.png", PIL.Image.fromarray(pixels)):
        np.testing.assert_array_equal(predictor(other).mask, mask)
    np.testing.assert_array_equal(predictor.predict_mask(pixels), mask)


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (33, 47)])
def test_the_mask_is_the_argmax_of_the_resized_logits_of_the_normalised_picture(tiny_model, tiny_meta, size):
    pixels = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    normalised = (pixels / 255 - np.array(tiny_meta.preprocess.mean)) / np.array(tiny_meta.preprocess.std)
    with torch.inference_mode():
        logits = tiny_model(torch.from_numpy(normalised).permute(2, 0, 1)[None].float())
    for resize in ("bilinear", "bicubic"):
        predictor = Predictor(tiny_model, tiny_meta, "cpu", resize=resize)
        expected = F.interpolate(logits, size=size, mode=resize).argmax(1)[0]
        np.testing.assert_array_equal(predictor(pixels).mask, expected.numpy())
    images = torch.from_numpy(pixels).permute(2, 0, 1)[None]
    torch.testing.assert_close(predictor.logits(images), logits, rtol=1e-4, atol=1e-5)


def test_bicubic_and_bilinear_differ(tiny_model, tiny_meta):
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    masks = [Predictor(tiny_model, tiny_meta, "cpu", resize=resize)(pixels).mask for resize in ("bilinear", "bicubic")]
    assert (masks[0] != masks[1]).any()


def test_a_training_model_is_put_into_evaluation_mode(tiny_model, tiny_meta):
    assert not Predictor(tiny_model.train(), tiny_meta, "cpu").model.training


def test_from_weights_predicts_as_the_model_that_was_saved(tmp_path, tiny_model, tiny_meta):
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    weights.save(tmp_path / "tiny.safetensors", tiny_model, tiny_meta)
    loaded = Predictor.from_weights(tmp_path / "tiny.safetensors", device="cpu", resize="bicubic")
    result = loaded(pixels)
    assert (result.labels, loaded.resize) == (tiny_meta.labels, "bicubic")
    expected = Predictor(tiny_model, tiny_meta, "cpu", resize="bicubic")(pixels).mask
    np.testing.assert_array_equal(result.mask, expected)


def test_timings_name_the_steps_and_add_up(colour_predictor, colour_blocks):
    timings = colour_predictor(colour_blocks).timings
    assert list(timings) == ["decode", "prepare", "network", "upsample+argmax"]
    assert all(seconds > 0 for seconds in timings.values())


def test_too_large_a_picture_is_refused(colour_predictor, colour_blocks):
    with pytest.raises(ImageError, match=r"24x16 pixels \(384\), the limit is 383"):
        colour_predictor(colour_blocks, max_pixels=383)


class OutOfMemory(nn.Module):
    def forward(self, images):
        raise torch.OutOfMemoryError("CUDA out of memory")


def test_a_picture_too_large_for_the_device_is_named(tmp_path, colour_predictor, colour_blocks):
    PIL.Image.fromarray(colour_blocks).save(tmp_path / "large.png")
    colour_predictor.model = OutOfMemory()
    with pytest.raises(ImageError, match=r"large\.png: 24x16 pixels do not fit into the memory of cpu"):
        colour_predictor(tmp_path / "large.png")


def test_an_unknown_resize_is_misuse(tiny_model, tiny_meta):
    with pytest.raises(UsageError, match="resize is 'nearest'; expected bilinear or bicubic"):
        Predictor(tiny_model, tiny_meta, "cpu", resize="nearest")


# Devices


@pytest.mark.parametrize("name", ["gpu", "cuda:", "cuda:-1", "cuda:x", "cpu:0", "CPU", "", "mps:1"])
def test_a_malformed_device_is_misuse(name):
    with pytest.raises(UsageError, match="is not known; expected auto, cpu, cuda, cuda:N or mps"):
        resolve_device(name)


def usable(monkeypatch, *, cuda, mps):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)


@pytest.mark.parametrize(("cuda", "mps", "chosen"), [(2, True, "cuda"), (0, True, "mps"), (0, False, "cpu")])
def test_auto_takes_cuda_then_mps_then_cpu(monkeypatch, cuda, mps, chosen):
    usable(monkeypatch, cuda=cuda, mps=mps)
    assert resolve_device("auto") == torch.device(chosen)


def test_a_device_that_is_not_there_is_misuse(monkeypatch):
    usable(monkeypatch, cuda=2, mps=False)
    assert resolve_device("cuda:1") == torch.device("cuda:1")
    for name, count in {"cuda:2": "2 usable cuda", "mps": "0 usable mps"}.items():
        with pytest.raises(UsageError, match=f"'{name}' is not there: this machine.* has {count} devices"):
            resolve_device(name)


# Saving one


def test_a_saved_mask_is_read_back_with_its_palette(tmp_path, colour_predictor, colour_blocks):
    result = colour_predictor(colour_blocks)
    result.save(tmp_path / "new" / "mask.png")
    np.testing.assert_array_equal(read_mask(tmp_path / "new" / "mask.png"), result.mask)
    np.testing.assert_array_equal(read_picture(tmp_path / "new" / "mask.png").pixels, colour_blocks)


def test_a_mask_is_never_saved_with_losses(tmp_path, colour_predictor, colour_blocks):
    with pytest.raises(UsageError, match=r"mask\.jpg: masks are written as \.png"):
        colour_predictor(colour_blocks).save(tmp_path / "mask.jpg")


def test_the_overlay_of_a_turned_picture_turns_the_mask(colour_blocks):
    mask = as_stored(colour_blocks.argmax(axis=2).astype(np.uint8), 8)
    result = Segmentation(mask, COLOURS, Picture(colour_blocks, orientation=8))
    np.testing.assert_array_equal(result.overlay(), colour_blocks)


# Inputs


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
    np.testing.assert_array_equal(read_mask(results[2].mask_path), colour_blocks.argmax(axis=2))
    assert list(results[0].timings) == ["decode", "prepare", "network", "upsample+argmax", "save"]


def test_overlays_can_be_left_out(tmp_path, folder, colour_predictor):
    (result,) = predict_files(colour_predictor, [folder / "a.png"], tmp_path / "out", overlay=False)
    assert (names(tmp_path / "out"), result.overlay_path) == (["a_mask.png"], None)


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
