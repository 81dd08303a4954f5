"""Backbones: timm networks that give features at 1/4, 1/8, 1/16 and 1/32 of the picture. The only importer of timm."""

from difflib import get_close_matches
from typing import Any

import timm
from timm.models._efficientnet_blocks import InvertedResidual
from torch import Tensor, nn

from lwrefinenet.errors import UsageError, WeightsError
from lwrefinenet.preprocess import Preprocess

REDUCTIONS = (4, 8, 16, 32)


class TimmFeatures(nn.Module):
    """Any timm network that has `features_only` and gives features at reductions 4, 8, 16 and 32.

    channels: of the four features, fine to coarse.  preprocess: what the network's ImageNet weights expect.
    """

    def __init__(self, name: str) -> None:
        super().__init__()
        reductions = _feature_reductions(name)
        if missing := [r for r in REDUCTIONS if r not in reductions]:
            raise UsageError(
                f"backbone {name!r} gives features at reductions {reductions}, none at {missing}; "
                f"Light-Weight RefineNet needs {list(REDUCTIONS)}. Take a backbone with a pyramid, such as 'resnet18'."
            )
        # Where several features share a reduction, the last is the deepest.
        indices = [len(reductions) - 1 - reductions[::-1].index(r) for r in REDUCTIONS]
        self.name = name
        self.net = timm.create_model(name, pretrained=False, features_only=True, out_indices=indices)
        self.channels: tuple[int, ...] = tuple(self.net.feature_info.channels())
        self.preprocess = _preprocess_of(name)

    def forward(self, images: Tensor) -> list[Tensor]:
        """images: (N, 3, H, W).  Returns four features (N, channels[i], ceil(H/r), ceil(W/r)), fine to coarse."""
        features: list[Tensor] = self.net(images)
        return [
            feature if feature.shape[1] == width else feature.permute(0, 3, 1, 2)  # some transformers put channels last
            for feature, width in zip(features, self.channels, strict=True)
        ]


class MobileNetV2Features(nn.Module):
    """The published Light-Weight RefineNet's MobileNet-v2: six features, and a first block that keeps its expansion.

    timm's `mobilenetv2_100` has no expansion convolution in its first block (1,088 parameters fewer) and its
    `features_only` leaves out two of the six maps, so timm's own stages are run one by one here.
    M. Sandler et al., "MobileNetV2", CVPR 2018 (arXiv:1801.04381).
    """

    channels = (24, 32, 64, 96, 160, 320)  # at reductions 4, 8, 16, 16, 32, 32
    name = "mobilenetv2_100"

    def __init__(self) -> None:
        super().__init__()
        net = timm.create_model(self.name, pretrained=False)
        net.blocks[0][0] = InvertedResidual(32, 16, exp_ratio=1.0, noskip=True, act_layer=nn.ReLU6)
        self.net = nn.ModuleDict({"conv_stem": net.conv_stem, "bn1": net.bn1, "blocks": net.blocks})
        self.preprocess = Preprocess()

    def forward(self, images: Tensor) -> list[Tensor]:
        """images: (N, 3, H, W).  Returns six features, fine to coarse."""
        x = self.net["bn1"](self.net["conv_stem"](images))
        features: list[Tensor] = []
        for stage in self.net["blocks"]:
            x = stage(x)
            features.append(x)
        return features[1:]  # the first stage, at 1/2, is not used


def hub_state_dict(name: str) -> dict[str, Tensor]:
    """timm's pretrained weights of a network from its hub, keys as timm names them; WeightsError where it cannot be had."""
    try:
        return dict(timm.create_model(name, pretrained=True).state_dict())
    except Exception as error:  # a hub fails in many ways: no network, no such weights, a proxy; each means the same here
        raise WeightsError(
            f"backbone weights of {name!r} cannot be had from the model hub ({type(error).__name__}: {error}). "
            "Give a local file with `backbone_weights = \"FILE\"` in the recipe, or connect this machine to the hub once."
        ) from error


def _feature_reductions(name: str) -> list[int]:
    if name not in timm.list_models(name):
        near = get_close_matches(name, timm.list_models(), n=3)
        hint = f" Did you mean {', '.join(near)}?" if near else " See timm.list_models()."
        raise UsageError(f"timm has no network named {name!r}.{hint}")
    try:
        net: Any = timm.create_model(name, pretrained=False, features_only=True)
    except (RuntimeError, AttributeError, TypeError) as error:
        raise UsageError(f"timm network {name!r} has no features_only interface ({error}); take another backbone.") from error
    return list(net.feature_info.reduction())


def _preprocess_of(name: str) -> Preprocess:
    config = timm.get_pretrained_cfg(name)
    return Preprocess() if config is None else Preprocess(mean=tuple(config.mean), std=tuple(config.std))
