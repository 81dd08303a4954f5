"""Trained weights as a beginning: brought to the size at which the new network sees pictures."""

from dataclasses import replace

import torch

from lwrefinenet import weights
from lwrefinenet.models.zoo import create_model
from lwrefinenet.training.initial import begin_with
from tests.tiny import TINY_META


def test_depth_begins_as_the_former_network_had_it_though_pictures_are_seen_at_another_size(tmp_path):
    torch.manual_seed(0)
    arguments = {"backbone": "test_resnet", "decoder_channels": 8, "tasks": ("segmentation", "depth")}
    former, model = (create_model("mt_lw", 3, **arguments, input_scale=scale).eval() for scale in (1.0, 0.5))
    weights.save(tmp_path / "a.safetensors", former, replace(TINY_META, network="mt_lw", arguments=arguments))
    _, anew = begin_with(model, str(tmp_path / "a.safetensors"))
    former.see_at(0.5)
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(model(images), former(images))
    assert anew == []
