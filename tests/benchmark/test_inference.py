import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from lwrefinenet import weights
from lwrefinenet.benchmark import backends
from lwrefinenet.benchmark.backends import BACKENDS, PUBLISHED, open_backend, usual_backends
from lwrefinenet.benchmark.inference import END_TO_END, MOST_AT_ONCE, _groups, _ways_of, inference_speed
from lwrefinenet.benchmark.inference_process import InferenceJob
from lwrefinenet.benchmark.pipelines import PARTS, our_pipeline, published_pipeline
from lwrefinenet.benchmark.subjects import Subject, facts_of, open_subject
from lwrefinenet.errors import UsageError
from lwrefinenet.export.formats import Format
from lwrefinenet.runtimes import openvino_runtime
from lwrefinenet.runtimes.exported import Export
from lwrefinenet.runtimes.pytorch_runtime import PyTorchNetwork
from tests.tiny import TINY_META, build_tiny

EXAMPLE = Path(__file__).parents[2] / "examples" / "street.jpg"
PALETTE = TINY_META.labels.palette


pytestmark = pytest.mark.usefixtures("converted_once")


def subject():
    return Subject("tiny", build_tiny(), TINY_META, trained=False)


def test_the_published_way_is_eager_float32_bicubic_argmax():
    passage = published_pipeline(build_tiny(), TINY_META.preprocess, PALETTE)(EXAMPLE.read_bytes())
    pixels = np.asarray(Image.open(EXAMPLE))
    normalised = (pixels / 255 - np.array(TINY_META.preprocess.mean)) / np.array(TINY_META.preprocess.std)
    with torch.inference_mode():
        logits = build_tiny()(torch.from_numpy(normalised.transpose(2, 0, 1)[None]).float())
    torch.testing.assert_close(passage.logits, logits)
    bicubic = torch.nn.functional.interpolate(logits, size=pixels.shape[:2], mode="bicubic").argmax(1)[0].numpy()
    assert (passage.mask == bicubic).mean() > 0.999
    assert list(passage.seconds) == list(PARTS)


def test_our_way_is_what_the_predictor_gives(monkeypatch):
    network = PyTorchNetwork(build_tiny(), TINY_META.preprocess, torch.device("cpu"))
    passage = our_pipeline(network, PALETTE)(EXAMPLE.read_bytes())
    from lwrefinenet.predict import Predictor

    np.testing.assert_array_equal(passage.mask, Predictor(network, TINY_META)(EXAMPLE).mask)
    assert list(passage.seconds) == list(PARTS)


@pytest.mark.parametrize("backend", ["pytorch", "openvino", "openvino-int8"])
def test_a_backend_runs_and_says_what_it_is(backend):
    picture = np.asarray(Image.open(EXAMPLE).resize((96, 64)))
    opened = open_backend(backend, subject(), picture)
    precision = "int8" if backend.endswith("int8") else "fp32"
    assert precision in opened.name
    in_float32 = 4e-6 * sum(parameter.numel() for parameter in build_tiny().parameters())
    assert (
        opened.megabytes < 0.7 * in_float32
        if precision == "int8"
        else opened.megabytes == pytest.approx(in_float32, rel=0.4)
    )
    assert opened.run(EXAMPLE.read_bytes()).mask.shape == (360, 640)


def test_the_comparison_says_where_the_time_goes_and_how_equal_the_ways_are(tmp_path):
    weights.save(tmp_path / "tiny.safetensors", build_tiny(), TINY_META)
    name = str(tmp_path / "tiny.safetensors")
    found = inference_speed([name], ["published", "pytorch"], size=(64, 96), threads=1, picture=EXAMPLE, rounds=3)
    assert json.loads(json.dumps(found)) == found
    measured = found["subjects"][name]
    assert measured["parameters"] == sum(parameter.numel() for parameter in build_tiny().parameters())
    ours, published = measured["ways"]["pytorch"], measured["ways"]["published"]
    assert list(ours["milliseconds"]) == list(PARTS)
    assert ours["ratio"] == published["end_to_end"]["p50"] / ours["end_to_end"]["p50"]
    assert published["ratio"] == 1
    assert len(ours["end_to_end"]["rounds"]) == 3
    at_least = sum(ours["milliseconds"][part]["p50"] for part in END_TO_END) / 2
    assert at_least < ours["end_to_end"]["p50"] <= ours["end_to_end"]["p95"]
    assert ours["equal_labels"] > 0.999
    assert ours["relative_difference"] < 1e-4
    assert ours["peak_megabytes"] > 50


def test_a_network_may_see_several_pictures_at_once():
    picture = np.asarray(Image.open(EXAMPLE).resize((96, 64)))
    passage = open_backend("pytorch", subject(), picture, batch=3).run(EXAMPLE.read_bytes())
    assert passage.logits.shape == (3, 3, 90, 160)
    assert passage.mask.shape == (360, 640)


def test_a_backend_for_a_device_that_is_not_there_is_misuse(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UsageError, match="device 'cuda' is not there"):
        open_backend("cuda-fp16", subject(), np.zeros((64, 96, 3), np.uint8))
    with pytest.raises(UsageError, match="device 'cuda' is not there"):
        open_backend("published-cuda", subject(), np.zeros((64, 96, 3), np.uint8))


def test_multiply_adds_of_a_convolution_are_counted_right():
    convolution = Subject("conv", torch.nn.Conv2d(3, 8, 3, padding=1), TINY_META, trained=False)
    assert convolution.macs(10, 20) == 8 * 3 * 9 * 10 * 20
    assert convolution.parameters == 8 * 3 * 9 + 8


def test_networks_of_torchvision_are_measured_through_the_same_doors():
    peer = open_subject("torchvision:lraspp_mobilenet_v3_large")
    picture = np.asarray(Image.open(EXAMPLE).resize((96, 64)))
    passage = open_backend("pytorch", peer, picture).run(EXAMPLE.read_bytes())
    assert passage.logits.shape == (1, 21, 360, 640)
    assert not peer.trained


def test_networks_of_smp_take_every_size():
    pytest.importorskip("segmentation_models_pytorch")
    peer = open_subject("smp:fpn-mobilenet_v2")
    with torch.inference_mode():
        assert peer.model(torch.zeros(1, 3, 50, 70)).shape == (1, 21, 50, 70)
    with pytest.raises(UsageError, match="expected ARCHITECTURE-ENCODER"):
        open_subject("smp:nonet-mobilenet_v2")


def test_what_is_measured_unasked_can_run_here(monkeypatch):
    assert set(usual_backends()) <= {*PUBLISHED, *BACKENDS}
    monkeypatch.setattr(openvino_runtime, "processor_has", lambda _: False)
    assert "openvino-bf16" not in usual_backends()


def jobs(subjects, backends):
    return [InferenceJob(subject, backend, (8, 8), 1, "", "") for subject in subjects for backend in backends]


def test_subjects_are_measured_together_as_long_as_they_fit():
    few, many = jobs("ab", "12345"), jobs("abcde", "12345")
    assert _groups(few) == [few]
    groups = _groups(many)
    assert [job for group in groups for job in group] == many
    assert [len(group) for group in groups] == [10, 10, 5]
    assert max(map(len, groups)) <= MOST_AT_ONCE


def test_the_ratio_of_a_batch_is_that_of_pictures_per_second():
    published, ours = jobs("a", ["published", "pytorch"])
    ways = {
        published: {"end_to_end": {"p50": 100.0}, "pictures_per_second": 10.0},
        ours: {"end_to_end": {"p50": 50.0}, "pictures_per_second": 80.0},
    }
    assert _ways_of("a", ways, 1)["pytorch"]["ratio"] == 2
    assert _ways_of("a", ways, 16)["pytorch"]["ratio"] == 8


def test_on_a_gpu_the_published_way_runs_there_too_and_others_are_compared_with_it(monkeypatch):
    monkeypatch.setitem(backends.PUBLISHED, "published-cuda", "cpu")
    picture = np.zeros((64, 96, 3), np.uint8)
    opened = open_backend("published-cuda", subject(), picture)
    assert opened.name == "PyTorch eager float32 on cpu, NCHW"
    expected = open_backend("published", subject(), picture).run(EXAMPLE.read_bytes()).mask
    np.testing.assert_array_equal(opened.run(EXAMPLE.read_bytes()).mask, expected)
    published, ours = jobs("a", ["published-cuda", "cuda"])
    ways = {
        published: {"end_to_end": {"p50": 100.0}, "pictures_per_second": 10.0},
        ours: {"end_to_end": {"p50": 25.0}, "pictures_per_second": 40.0},
    }
    assert {backend: way["ratio"] for backend, way in _ways_of("a", ways, 1).items()} == {
        "published-cuda": 1,
        "cuda": 4,
    }
    (on_cpu,) = jobs("a", ["published"])
    ways[on_cpu] = {"end_to_end": {"p50": 200.0}, "pictures_per_second": 5.0}
    assert _ways_of("a", ways, 1)["cuda"]["ratio"] == 8


def test_an_exported_file_is_measured_as_it_is(tmp_path):
    form, export = Format.named("openvino", "fp32"), Export("tiny", "0" * 64, "fp32", None, "0")
    form.write(form.graph(build_tiny(), TINY_META, export), tmp_path / "tiny.xml", TINY_META, export)
    exported = open_subject(str(tmp_path / "tiny.xml"))
    opened = open_backend("exported", exported, np.zeros((64, 96, 3), np.uint8))
    assert opened.name == "OpenVINO fp32 on cpu"
    assert opened.megabytes > 0.01
    assert opened.run(EXAMPLE.read_bytes()).mask.shape == (360, 640)
    assert facts_of(str(tmp_path / "tiny.xml"), (64, 96)) == {"trained": True}
