"""A network small enough to build for every test."""

import torch

from lwrefinenet.labels import LabelSet, voc_palette
from lwrefinenet.meta import WeightsMeta
from lwrefinenet.models.refinenet import LightWeightRefineNet
from lwrefinenet.models.zoo import create_model
from lwrefinenet.preprocess import Preprocess

TINY_META = WeightsMeta(
    network="rf_lw",
    labels=LabelSet("shapes", ("nothing", "square", "disc"), voc_palette(3)),
    preprocess=Preprocess(),
    arguments={"backbone": "test_resnet", "decoder_channels": 8},
)


def build_tiny() -> LightWeightRefineNet:
    """What TINY_META says, with the same random parameters every time, in evaluation mode."""
    torch.manual_seed(0)
    return create_model(TINY_META.network, 3, backbone="test_resnet", decoder_channels=8).eval()
