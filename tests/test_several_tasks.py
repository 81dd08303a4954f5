"""Networks of several tasks from weights to files: prediction, exports, their gate, and what is refused."""

import copy
import io
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from lwrefinenet import weights
from lwrefinenet.data.geometry import DepthScale, read_depth, read_normals
from lwrefinenet.errors import UsageError, WeightsError
from lwrefinenet.export.export import export_weights
from lwrefinenet.export.formats import Format
from lwrefinenet.labels import LabelSet, voc_palette
from lwrefinenet.meta import WeightsMeta
from lwrefinenet.models.zoo import create_model
from lwrefinenet.predict import Predictor
from lwrefinenet.predict_files import predict_files
from lwrefinenet.preprocess import Preprocess
from lwrefinenet.runtimes import onnx_runtime, openvino_runtime
from lwrefinenet.runtimes.tiles import TiledNetwork
from lwrefinenet.tasks import Channels, stacked
from lwrefinenet.weights import SHIPPED
from tests.tiny import TINY_META

TASKS = ("segmentation", "depth", "normals")
META = WeightsMeta(
    network="mt_lw",
    labels=LabelSet("shapes", ("nothing", "square", "disc"), voc_palette(3)),
    preprocess=Preprocess(),
    arguments={"backbone": "test_resnet", "decoder_channels": 8, "tasks": list(TASKS)},
)
PIXELS = np.random.default_rng(0).integers(0, 256, (70, 90, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return create_model("mt_lw", 3, backbone="test_resnet", decoder_channels=8, tasks=TASKS).eval()


@pytest.fixture(scope="module")
def file(tmp_path_factory, network):
    path = tmp_path_factory.mktemp("weights") / "several.safetensors"
    weights.save(path, network, META)
    return path


@pytest.fixture(scope="module")
def plain(network):
    """What the network says, resized as published, without anything of the package."""
    with torch.no_grad():
        results = network(Preprocess()(torch.from_numpy(PIXELS)[None].permute(0, 3, 1, 2)))
    return {task: F.interpolate(found, (70, 90), mode="bilinear")[0] for task, found in results.items()}


def test_a_prediction_is_what_the_network_says_of_every_task(file, plain):
    maps = Predictor.from_weights(file, device="cpu", runtime="pytorch").predict_maps(PIXELS)
    assert (maps.mask == plain["segmentation"].argmax(0).numpy()).mean() > 0.999
    np.testing.assert_allclose(maps.depth, plain["depth"][0].abs(), rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(maps.normals, axis=-1), 1, rtol=1e-4)
    cosines = (torch.from_numpy(maps.normals).permute(2, 0, 1) * F.normalize(plain["normals"], dim=0)).sum(0)
    assert cosines.min() > 0.9999


def test_one_task_alone_gives_no_depth_and_says_so(tiny_model):
    result = Predictor.from_model(tiny_model, TINY_META, "cpu")(PIXELS)
    assert result.depth is None and result.normals is None
    with pytest.raises(UsageError, match="the network gives no depth; take weights of several tasks") as refused:
        result.depth_picture()
    assert any(name in str(refused.value) for name in SHIPPED)


def test_files_of_all_tasks_line_up_with_the_picture_as_stored(tmp_path, file):
    turn_right = Image.Exif()
    turn_right[0x0112] = 6
    Image.fromarray(PIXELS).save(tmp_path / "photo.png", exif=turn_right)
    predictor = Predictor.from_weights(file, device="cpu", runtime="pytorch")
    (result,) = predict_files(predictor, [tmp_path / "photo.png"], tmp_path / "out", sheet=True)
    assert result.error is None
    kinds = {"mask", "overlay", "sheet", "depth", "depth colours", "normals"}
    assert set(result.outputs) == kinds
    depth = read_depth(tmp_path / "out" / "photo_depth.png", DepthScale(metres=0.001))
    assert depth.shape == (70, 90)
    np.testing.assert_allclose(depth, result.segmentation.depth.clip(0, 65.535), atol=0.0006)
    upright = predictor.predict_maps(np.rot90(PIXELS, -1).copy())
    np.testing.assert_allclose(np.rot90(upright.depth), result.segmentation.depth, atol=1e-5)
    normals = read_normals(tmp_path / "out" / "photo_normals.png")  # upright, for the eye
    assert (normals * upright.normals).sum(-1).min() > 0.999
    colours = np.array(Image.open(tmp_path / "out" / "photo_depth_colours.png"))
    assert colours.shape == (90 + 48, 70, 3)


def test_depth_is_written_in_millimetres(file):
    result = Predictor.from_weights(file, device="cpu", runtime="pytorch")(PIXELS)
    stored = np.array(Image.open(io.BytesIO(result.encoded_depth())))
    assert stored.dtype == np.uint16
    assert np.abs(stored - result.depth.clip(0, 65.535) * 1000).max() <= 0.5 + 1e-3


def test_tiles_blend_every_task(network):
    predictor = Predictor.from_model(network, META, "cpu")
    tiled = Predictor(TiledNetwork(predictor.network, 128), META)
    pixels = np.random.default_rng(1).integers(0, 256, (160, 200, 3), dtype=np.uint8)
    whole, parts = predictor.predict_maps(pixels), tiled.predict_maps(pixels)
    assert np.median(np.abs(whole.depth - parts.depth)) < 0.1 * whole.depth.std() + 1e-3
    assert parts.normals.shape == (160, 200, 3)


@pytest.mark.parametrize(("name", "suffix"), [("openvino", ".xml"), ("onnx", ".onnx")])
def test_an_exported_graph_gives_every_task_and_is_proven(tmp_path, file, plain, name, suffix):
    form = Format.named(name, "fp32")
    exported = export_weights(file, tmp_path / f"several{suffix}", form, size=(70, 90))
    assert set(exported.parity.tasks) == {"depth", "normals"}
    assert min(exported.parity.tasks.values()) > 0.999
    outputs = form.whole(form.read(tmp_path / f"several{suffix}"), exported.export)(torch.from_numpy(PIXELS)[None])
    assert {key: tuple(value.shape) for key, value in outputs.items()} == {
        "mask": (1, 70, 90),
        "depth": (1, 70, 90),
        "normals": (1, 70, 90, 3),
    }
    maps = Predictor.from_weights(tmp_path / f"several{suffix}").predict_maps(PIXELS)
    np.testing.assert_allclose(maps.depth, plain["depth"][0].abs(), rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(outputs["depth"][0], maps.depth, rtol=1e-3, atol=1e-4)
    assert (outputs["normals"][0].numpy() * maps.normals).sum(-1).min() > 0.999


@pytest.mark.parametrize(("name", "runtime"), [("openvino", openvino_runtime), ("onnx", onnx_runtime)])
@pytest.mark.parametrize("task", ["depth", "normals"])
def test_a_graph_whose_depth_or_normals_are_wrong_does_not_pass(tmp_path, file, monkeypatch, name, runtime, task):
    right = runtime.whole

    def wrong(graph, export):
        run = right(graph, export)
        return lambda image: {**(found := run(image)), task: found[task].roll(7, dims=1) * -1.1}

    monkeypatch.setattr(runtime, "whole", wrong)
    form = Format.named(name, "fp32")
    with pytest.raises(WeightsError, match=rf"100\.000% of the pixels only.* the same {task} on \d\d?\.\d+%"):
        export_weights(file, tmp_path / f"several{form.suffix}", form, size=(70, 90))
    assert list(tmp_path.iterdir()) == []


def test_results_lie_one_above_the_other_and_come_apart_again():
    results = {
        "segmentation": torch.rand(2, 5, 3, 3),
        "depth": torch.rand(2, 1, 3, 3),
        "normals": torch.rand(2, 3, 3, 3),
    }
    apart = Channels(5, TASKS).split(stacked(results))
    assert all(torch.equal(apart[task], results[task]) for task in TASKS)
    alone = torch.rand(2, 5, 3, 3)
    assert stacked(alone) is alone
    assert torch.equal(Channels(5).split(alone)["segmentation"], alone)


def test_weights_whose_metadata_speak_of_other_tasks_are_neither_written_nor_read(tmp_path, network):
    meta = replace(META, arguments={"backbone": "test_resnet", "decoder_channels": 8})
    with pytest.raises(
        WeightsError,
        match=r"x\.safetensors: its metadata speaks of segmentation, the network gives segmentation, depth",
    ):
        weights.save(tmp_path / "x.safetensors", network, meta)
    assert list(tmp_path.iterdir()) == []
    turned = replace(META, arguments={**META.arguments, "tasks": list(reversed(TASKS))})
    assert turned.channels == META.channels


def test_far_depth_ends_at_what_16_bits_hold(network):
    far = copy.deepcopy(network)
    torch.nn.init.constant_(far.heads["depth"][2].bias, 70.0)
    result = Predictor.from_model(far, META, "cpu")(PIXELS)
    assert result.depth.min() > 65.6
    assert np.array(Image.open(io.BytesIO(result.encoded_depth()))).min() == 65535
