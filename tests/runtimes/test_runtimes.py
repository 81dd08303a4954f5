import copy
import shutil
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import onnx
import pytest
import torch

from lwrefinenet.errors import ImageError, UsageError, WeightsError
from lwrefinenet.predict import Predictor
from lwrefinenet.runtimes import choose, onnx_runtime, openvino_runtime
from lwrefinenet.runtimes.deployable import Deployable
from lwrefinenet.runtimes.exported import Export
from lwrefinenet.runtimes.network import PRECISIONS
from lwrefinenet.runtimes.pytorch_runtime import PyTorchNetwork
from tests.conversions import ANY_SIZE, convert_once
from tests.pictures import noise_in_blocks as picture
from tests.tiny import TINY_META, build_tiny

pytestmark = pytest.mark.usefixtures("converted_once")

CPU = torch.device("cpu")
SIZES = [(33, 47), (64, 96), (97, 131)]


@pytest.fixture(scope="module")
def made_once(tmp_path_factory, converted_graphs):
    """The tiny model as one file of each format."""
    folder = tmp_path_factory.mktemp("exported")
    deployable = Deployable(build_tiny(), TINY_META.preprocess, TINY_META.channels)
    with pytest.MonkeyPatch.context() as patch:
        convert_once(patch, converted_graphs)
        openvino_runtime.write(openvino_runtime.to_graph(deployable), folder / "tiny.xml", TINY_META, ANY_SIZE)
        onnx_runtime.write(onnx_runtime.to_graph(deployable), folder / "tiny.onnx", TINY_META, ANY_SIZE)
    return folder


@pytest.fixture
def exported(made_once, tmp_path):
    """Copies of them, to be spoilt."""
    return shutil.copytree(made_once, tmp_path / "exported")


# One graph, the same masks


def test_pytorch_openvino_and_onnx_runtime_give_the_same_masks(exported, tiny_file, tiny_model, tiny_meta):
    expected = Predictor.from_model(copy.deepcopy(tiny_model), tiny_meta, "cpu")
    others = [
        Predictor.from_weights(tiny_file, runtime="pytorch"),
        Predictor.from_weights(tiny_file, runtime="openvino"),
        Predictor.from_weights(exported / "tiny.xml"),
        Predictor.from_weights(exported / "tiny.onnx"),
    ]
    names = ["PyTorch fp32 on cpu", "OpenVINO fp32 on cpu", "OpenVINO fp32 on cpu", "ONNX Runtime fp32 on cpu"]
    assert [other.network.name for other in others] == names
    for size in SIZES:
        pixels = picture(*size)
        mask = expected.predict_mask(pixels)
        for other in others:
            assert other.meta == tiny_meta
            assert (other.predict_mask(pixels) == mask).mean() >= 0.9999


def test_a_picture_on_which_openvino_fails_is_named(exported, monkeypatch):
    predictor = Predictor.from_weights(exported / "tiny.xml")

    def fail(*_, **__):
        raise RuntimeError("Exception from src/inference\nKernel after dilation is larger than the data")

    monkeypatch.setattr(predictor.network._request, "infer", fail)
    with pytest.raises(ImageError, match="OpenVINO fails on a picture of 9x5 pixels .Kernel after dilation is larger"):
        predictor.predict_mask(picture(5, 9))


def test_logits_stay_what_they_were_when_the_next_picture_comes(exported):
    predictor = Predictor.from_weights(exported / "tiny.xml")
    first = predictor.logits(torch.from_numpy(picture(64, 64))[None])
    before = first.clone()
    predictor.logits(torch.zeros(1, 64, 64, 3, dtype=torch.uint8))
    assert torch.equal(first, before)


def test_several_pictures_at_once_are_those_one_by_one(exported, tiny_file):
    batch = torch.stack([torch.from_numpy(picture(40, 56)), torch.zeros(40, 56, 3, dtype=torch.uint8)])
    for source in (tiny_file, exported / "tiny.xml", exported / "tiny.onnx"):
        predictor = Predictor.from_weights(source)
        single = torch.cat([predictor.logits(one[None]) for one in batch])
        torch.testing.assert_close(predictor.logits(batch), single, rtol=1e-4, atol=1e-5)


def test_what_a_file_says_about_itself_is_read_back(exported, tiny_meta):
    for runtime, name in ((openvino_runtime, "tiny.xml"), (onnx_runtime, "tiny.onnx")):
        _, meta, export = runtime.read(exported / name)
        assert (meta, export) == (tiny_meta, ANY_SIZE)


# Choosing


def test_weights_run_on_openvino_where_it_is_installed_and_in_pytorch_where_not(tiny_file, monkeypatch):
    assert Predictor.from_weights(tiny_file, device="cpu").network.name == "OpenVINO fp32 on cpu"
    monkeypatch.setattr(choose, "find_spec", lambda _: None)
    assert Predictor.from_weights(tiny_file, device="cpu").network.name == "PyTorch fp32 on cpu"


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ({"runtime": "tensorrt"}, "runtime 'tensorrt' is not known; expected auto, pytorch, openvino, onnxruntime"),
        ({"runtime": "onnxruntime"}, "ONNX Runtime runs exported files: lwrefinenet export WEIGHTS --format onnx"),
        ({"runtime": "openvino", "compile": True}, "--compile is PyTorch's, and this would run in openvino"),
        (
            {"runtime": "openvino", "precision": "fp8"},
            "precision 'fp8' is not one of OpenVINO's: fp32, bf16, fp16, int8",
        ),
        ({"runtime": "pytorch", "precision": "int8"}, "precision 'int8' is not one of PyTorch's: fp32, bf16, fp16"),
        (
            {"runtime": "openvino", "precision": "int8"},
            "was exported in fp32 and cannot run in int8; `lwrefinenet export` makes",
        ),
        ({"tile": 100}, "a tile of 100 pixels shows a network too little; give at least 128"),
    ],
)
def test_what_does_not_go_together_is_misuse(tiny_file, arguments, complaint):
    with pytest.raises(UsageError, match=complaint):
        Predictor.from_weights(tiny_file, **arguments)


@pytest.mark.parametrize(
    ("name", "arguments", "complaint"),
    [
        ("tiny.xml", {"runtime": "pytorch"}, "runs in the runtime that it was made for, openvino, not in pytorch"),
        ("tiny.onnx", {"precision": "bf16"}, "tiny.onnx: was exported in fp32; for bf16, export it again"),
        ("none.onnx", {}, "none.onnx: no such file. Exported files are made by `lwrefinenet export`"),
    ],
)
def test_an_exported_file_runs_as_it_was_made(exported, name, arguments, complaint):
    with pytest.raises(UsageError, match=complaint):
        Predictor.from_weights(exported / name, **arguments)


def test_bfloat16_is_refused_where_the_processor_has_none(exported, monkeypatch):
    monkeypatch.setattr(openvino_runtime, "processor_has", lambda precision: precision != "bf16")
    with pytest.raises(UsageError, match="this processor has no bfloat16"):
        Predictor.from_weights(exported / "tiny.xml", precision="bf16")


def test_another_device_than_the_cpu_is_refused_for_exported_files(exported):
    with pytest.raises(UsageError, match="openvino runs on the CPU here, not on meta"):
        choose.open_network(exported / "tiny.xml", torch.device("meta"))


# Files that are damaged or not ours


def test_half_an_openvino_file_is_named(exported):
    (exported / "tiny.bin").unlink()
    with pytest.raises(WeightsError, match=r"tiny\.xml: its other half, tiny\.bin, is not beside it"):
        Predictor.from_weights(exported / "tiny.xml")


@pytest.mark.parametrize("name", ["tiny.xml", "tiny.onnx"])
def test_a_damaged_file_is_named(exported, name):
    (exported / name).write_bytes(b"not a graph")
    with pytest.raises(WeightsError, match=rf"{name}: not a readable (OpenVINO|ONNX) file"):
        Predictor.from_weights(exported / name)


def test_a_graph_of_somebody_else_is_refused(exported):
    xml = (exported / "tiny.xml").read_text()
    (exported / "tiny.xml").write_text(xml.replace("<lwrefinenet>", "<other>").replace("</lwrefinenet>", "</other>"))
    graph = onnx.load(exported / "tiny.onnx")
    del graph.metadata_props[:]
    onnx.save(graph, exported / "tiny.onnx")
    for name in ("tiny.xml", "tiny.onnx"):
        with pytest.raises(WeightsError, match=f"{name}: holds no lwrefinenet metadata"):
            Predictor.from_weights(exported / name)


# Graphs of one size


def test_a_static_graph_takes_its_size_and_names_another(tmp_path, tiny_model, tiny_meta):
    deployable = Deployable(tiny_model, tiny_meta.preprocess, tiny_meta.channels)
    export = Export("tiny", "0" * 64, "fp32", (40, 56), "0")
    for runtime, name in ((openvino_runtime, "static.xml"), (onnx_runtime, "static.onnx")):
        runtime.write(runtime.to_graph(deployable, (40, 56)), tmp_path / name, tiny_meta, export)
        predictor = Predictor.from_weights(tmp_path / name)
        expected = Predictor.from_model(copy.deepcopy(tiny_model), tiny_meta, "cpu").predict_mask(picture(40, 56))
        assert (predictor.predict_mask(picture(40, 56)) == expected).mean() >= 0.9999
        with pytest.raises(WeightsError, match="exported for pictures of 56x40 only, and one has 56x48"):
            predictor.predict_mask(picture(48, 56))


def test_threads_that_share_a_predictor_get_the_masks_of_their_own_pictures(exported):
    predictor = Predictor.from_weights(exported / "tiny.xml")
    pictures = [np.roll(picture(64, 96), shift, axis=1) for shift in range(8)]
    expected = [predictor.predict_mask(pixels) for pixels in pictures]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(predictor.predict_mask, pictures * 20))
    assert all(np.array_equal(mask, expected[index % len(pictures)]) for index, mask in enumerate(found))


# PyTorch


@pytest.mark.parametrize(("precision", "dtype"), PRECISIONS.items())
def test_pytorch_computes_in_the_precision_that_was_asked_for(tiny_model, tiny_meta, precision, dtype):
    seen = []
    tiny_model.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].dtype))
    exact = PyTorchNetwork(copy.deepcopy(tiny_model), tiny_meta.preprocess, CPU)
    seen.clear()
    network = PyTorchNetwork(tiny_model, tiny_meta.preprocess, CPU, precision=precision)
    images = torch.from_numpy(picture(64, 96))[None]
    with torch.inference_mode():
        logits = network.logits(network.prepare(images))
        expected = exact.logits(exact.prepare(images))
    assert dtype in seen
    assert logits.dtype == torch.float32
    bound = {"fp32": 1e-6, "bf16": 0.1, "fp16": 0.02}[precision]
    assert (logits - expected).abs().max() / expected.std() < bound
