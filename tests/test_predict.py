import numpy as np
import PIL.Image
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from lwrefinenet import weights
from lwrefinenet.device import resolve_device
from lwrefinenet.errors import ImageError, UsageError
from lwrefinenet.export.formats import Format
from lwrefinenet.images import Picture, as_stored, read_mask, read_picture
from lwrefinenet.predict import Predictor, Segmentation
from lwrefinenet.predict_files import predict_files
from lwrefinenet.runtimes.exported import Export
from tests.colours import COLOURS, StrongestColour


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
    model = SeesShape()
    Predictor.from_model(model, colour_predictor.meta, "cpu")(tmp_path / "turned.png")
    assert model.shape == (1, 3, 24, 16)


def test_path_pillow_image_array_and_bare_pixels_give_one_mask(tmp_path, tiny_model, tiny_meta):
    pixels = np.random.default_rng(0).integers(0, 256, (33, 47, 3), dtype=np.uint8)
    PIL.Image.fromarray(pixels).save(tmp_path / "noise.png")
    predictor = Predictor.from_model(tiny_model, tiny_meta, "cpu")
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
        predictor = Predictor.from_model(tiny_model, tiny_meta, "cpu", resize=resize)
        expected = F.interpolate(logits, size=size, mode=resize).argmax(1)[0]
        np.testing.assert_array_equal(predictor(pixels).mask, expected.numpy())
    images = torch.from_numpy(pixels)[None]
    torch.testing.assert_close(predictor.logits(images), logits, rtol=1e-4, atol=1e-5)


def test_bicubic_and_bilinear_differ(tiny_model, tiny_meta):
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    masks = [
        Predictor.from_model(tiny_model, tiny_meta, "cpu", resize=resize)(pixels).mask
        for resize in ("bilinear", "bicubic")
    ]
    assert (masks[0] != masks[1]).any()


def test_a_training_model_is_put_into_evaluation_mode(tiny_model, tiny_meta):
    Predictor.from_model(tiny_model.train(), tiny_meta, "cpu")
    assert not tiny_model.training


def test_from_weights_predicts_as_the_model_that_was_saved(tmp_path, tiny_model, tiny_meta):
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    weights.save(tmp_path / "tiny.safetensors", tiny_model, tiny_meta)
    loaded = Predictor.from_weights(tmp_path / "tiny.safetensors", device="cpu", resize="bicubic")
    result = loaded(pixels)
    assert (result.labels, loaded.resize) == (tiny_meta.labels, "bicubic")
    expected = Predictor.from_model(tiny_model, tiny_meta, "cpu", resize="bicubic")(pixels).mask
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
    predictor = Predictor.from_model(OutOfMemory(), colour_predictor.meta, "cpu")
    with pytest.raises(ImageError, match=r"large\.png: 24x16 pixels do not fit into the memory of cpu"):
        predictor(tmp_path / "large.png")


class TooLittle(nn.Module):
    def forward(self, images):
        raise RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory")


def test_a_picture_too_large_for_a_cpu_does_not_stop_those_after_it(tmp_path, colour_predictor, colour_blocks):
    """What a CPU says is a RuntimeError; the same holds where the mask alone is asked for, as in an evaluation."""
    PIL.Image.fromarray(colour_blocks).save(tmp_path / "large.png")
    predictor = Predictor.from_model(TooLittle(), colour_predictor.meta, "cpu")
    (result,) = predict_files(predictor, [tmp_path / "large.png"], tmp_path / "out")
    assert "large.png: 24x16 pixels do not fit into the memory of cpu; give a smaller --tile" in str(result.error)
    with pytest.raises(ImageError, match="do not fit into the memory"):
        predictor.predict_mask(colour_blocks)


def test_an_unknown_resize_is_misuse(tiny_model, tiny_meta):
    with pytest.raises(UsageError, match="resize is 'nearest'; expected bilinear or bicubic"):
        Predictor.from_model(tiny_model, tiny_meta, "cpu", resize="nearest")


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


def test_what_runs_on_a_cpu_alone_does_so_beside_a_gpu(monkeypatch, tmp_path, tiny_model, tiny_meta):
    """As the README's `predict --weights my.onnx` does, without --device."""
    form, export = Format.named("openvino", "fp32"), Export("tiny", "0" * 64, "fp32", None, "0")
    form.write(form.graph(tiny_model, tiny_meta, export), tmp_path / "tiny.xml", tiny_meta, export)
    weights.save(tmp_path / "tiny.safetensors", tiny_model, tiny_meta)
    usable(monkeypatch, cuda=1, mps=False)
    assert Predictor.from_weights(tmp_path / "tiny.xml").network.device == torch.device("cpu")
    assert Predictor.from_weights(tmp_path / "tiny.safetensors", runtime="openvino").network.device == torch.device(
        "cpu"
    )
    with pytest.raises(UsageError, match=r"openvino runs on the CPU here, not on cuda; give --device cpu\.$"):
        Predictor.from_weights(tmp_path / "tiny.xml", device="cuda")
    with pytest.raises(UsageError, match=r"would run in openvino; give the weights that it was made of\.$"):
        Predictor.from_weights(tmp_path / "tiny.xml", compile=True)


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
