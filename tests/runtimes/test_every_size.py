"""Exported graphs of networks whose operations depend on the size of the picture take pictures of every size."""

from dataclasses import replace

import pytest
import torch

from lwrefinenet.models.zoo import create_model
from lwrefinenet.runtimes import onnx_runtime, openvino_runtime
from lwrefinenet.runtimes.deployable import Deployable
from tests.conversions import ANY_SIZE
from tests.pictures import noise_in_blocks as picture

SIZES = [(1, 1), (5, 9), (97, 131)]  # few: runtimes compile some operations for each anew
ROUNDS_UP = {"backbone": "test_resnet"}  # in pools of 2x2
PATCHES = {"backbone": "test_convnext"}  # pads pictures and cuts features
LARGER = {"backbone": "test_resnet", "input_scale": 1.4}
PADS = {"backbone": "tf_mobilenetv3_small_minimal_100"}  # by the size, so that pictures come in whole multiples
PADS_AND_RESIZES = {**PADS, "input_scale": 0.75}
MULTIPLES = {"backbone": "test_resnet", "size_multiple": 32}


@pytest.mark.parametrize("runtime", [openvino_runtime, onnx_runtime])
@pytest.mark.parametrize("arguments", [ROUNDS_UP, PATCHES, LARGER, PADS, PADS_AND_RESIZES, MULTIPLES])
def test_a_graph_takes_every_size_though_what_it_does_depends_on_it(arguments, tiny_meta, runtime):
    torch.manual_seed(0)
    model = create_model("rf_lw", 3, decoder_channels=8, decoder_links=1, **arguments).eval()
    deployable = Deployable(model, tiny_meta.preprocess, tiny_meta.channels)
    graph = runtime.to_graph(deployable)
    network = runtime.network_of(graph, ANY_SIZE)
    for size in SIZES:
        images = torch.from_numpy(picture(*size))[None]
        with torch.inference_mode():
            mask, logits = deployable(images)
            plain = model(tiny_meta.preprocess(images.permute(0, 3, 1, 2)))
        found = network.logits(network.prepare(images))
        assert found.shape == logits.shape == plain.shape
        torch.testing.assert_close(logits, plain, rtol=1e-3, atol=1e-5)
        torch.testing.assert_close(found, logits, rtol=1e-3, atol=1e-4 * float(logits.std().nan_to_num(1)) + 1e-5)
        whole = runtime.whole(graph, ANY_SIZE)(images)["mask"]
        assert whole.dtype == torch.uint8
        assert (whole == mask).float().mean() >= 0.9999


@pytest.mark.parametrize("runtime", [openvino_runtime, onnx_runtime])
def test_a_graph_that_was_made_with_a_picture_of_whole_multiples_takes_others(tiny_meta, runtime, monkeypatch):
    monkeypatch.setattr(runtime, "EXAMPLE_SIZE", (64, 96))
    model = create_model("rf_lw", 3, **PADS, decoder_channels=8, decoder_links=1).eval()
    network = runtime.network_of(
        runtime.to_graph(Deployable(model, tiny_meta.preprocess, tiny_meta.channels)), ANY_SIZE
    )
    images = torch.from_numpy(picture(97, 131))[None]
    with torch.inference_mode():
        logits = model(tiny_meta.preprocess(images.permute(0, 3, 1, 2)))
    torch.testing.assert_close(network.logits(network.prepare(images)), logits, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("runtime", [openvino_runtime, onnx_runtime])
def test_depth_follows_the_size_at_which_a_graph_sees_pictures(tiny_meta, runtime):
    torch.manual_seed(0)
    tasks = ("segmentation", "depth")
    meta = replace(tiny_meta, arguments={"tasks": tasks})
    model = create_model("mt_lw", 3, **PADS_AND_RESIZES, decoder_channels=8, decoder_links=1, tasks=tasks).eval()
    network = runtime.network_of(runtime.to_graph(Deployable(model, meta.preprocess, meta.channels)), ANY_SIZE)
    for size in SIZES:
        images = torch.from_numpy(picture(*size))[None]
        with torch.inference_mode():
            depth = model(meta.preprocess(images.permute(0, 3, 1, 2)))["depth"]
        found = meta.channels.split(network.logits(network.prepare(images)))["depth"]
        torch.testing.assert_close(found, depth, rtol=1e-3, atol=1e-5)
