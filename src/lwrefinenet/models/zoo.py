"""One function per network, one table of them all, and `create_model` to call them by name."""

from collections.abc import Callable
from difflib import get_close_matches

from torch import nn

from lwrefinenet.errors import UsageError
from lwrefinenet.models.backbones import MobileNetV2Features, TimmFeatures
from lwrefinenet.models.refinenet import LightWeightRefineNet, RefineNetDecoder


def rf_lw_resnet50(num_classes: int = 21) -> LightWeightRefineNet:
    """RF-LW-ResNet-50 as published: 27.4 M parameters at 21 classes."""
    return _published_resnet("resnet50", num_classes)


def rf_lw_resnet101(num_classes: int = 21) -> LightWeightRefineNet:
    """RF-LW-ResNet-101 as published: 46.3 M parameters at 21 classes."""
    return _published_resnet("resnet101", num_classes)


def rf_lw_resnet152(num_classes: int = 21) -> LightWeightRefineNet:
    """RF-LW-ResNet-152 as published: 62.0 M parameters at 21 classes."""
    return _published_resnet("resnet152", num_classes)


def rf_lw_mobilenetv2(num_classes: int = 21) -> LightWeightRefineNet:
    """RF-LW-MobileNet-v2 as published: 3.3 M parameters at 21 classes."""
    backbone = MobileNetV2Features()
    decoder = RefineNetDecoder(backbone.channels, level_sizes=(2, 2, 1, 1))
    return LightWeightRefineNet(backbone, decoder, num_classes)


def rf_lw_efficientnet_lite0(num_classes: int = 21, *, decoder_channels: int = 256) -> LightWeightRefineNet:
    """EfficientNet-Lite0 under the light-weight decoder: 3.3 M parameters with a decoder 128 wide, 4.4 M with 256."""
    return rf_lw(num_classes, backbone="tf_efficientnet_lite0", decoder_channels=decoder_channels)


def rf_lw_efficientnet_lite1(num_classes: int = 21, *, decoder_channels: int = 256) -> LightWeightRefineNet:
    """EfficientNet-Lite1 under the light-weight decoder."""
    return rf_lw(num_classes, backbone="tf_efficientnet_lite1", decoder_channels=decoder_channels)


def rf_lw_efficientnet_lite2(num_classes: int = 21, *, decoder_channels: int = 256) -> LightWeightRefineNet:
    """EfficientNet-Lite2 under the light-weight decoder."""
    return rf_lw(num_classes, backbone="tf_efficientnet_lite2", decoder_channels=decoder_channels)


def rf_lw(num_classes: int = 21, *, backbone: str, decoder_channels: int = 256) -> LightWeightRefineNet:
    """The light-weight decoder on any timm backbone that has features at reductions 4, 8, 16 and 32.

    UsageError for a name that timm does not know (with the nearest ones) or a backbone without such features.
    """
    features = TimmFeatures(backbone)
    decoder = RefineNetDecoder(features.channels, channels=(decoder_channels,) * 4)
    return LightWeightRefineNet(features, decoder, num_classes)


def _published_resnet(backbone: str, num_classes: int) -> LightWeightRefineNet:
    features = TimmFeatures(backbone)
    decoder = RefineNetDecoder(
        features.channels,
        channels=(512, 256, 256, 256),
        activation=nn.ReLU,
        stacked_adaptation=True,
        dropout=0.5,
    )
    return LightWeightRefineNet(features, decoder, num_classes)


MODELS: dict[str, Callable[..., LightWeightRefineNet]] = {
    "rf_lw_resnet50": rf_lw_resnet50,
    "rf_lw_resnet101": rf_lw_resnet101,
    "rf_lw_resnet152": rf_lw_resnet152,
    "rf_lw_mobilenetv2": rf_lw_mobilenetv2,
    "rf_lw_efficientnet_lite0": rf_lw_efficientnet_lite0,
    "rf_lw_efficientnet_lite1": rf_lw_efficientnet_lite1,
    "rf_lw_efficientnet_lite2": rf_lw_efficientnet_lite2,
    "rf_lw": rf_lw,
}


def create_model(
    name: str, num_classes: int = 21, *, backbone: str | None = None, decoder_channels: int | None = None
) -> LightWeightRefineNet:
    """Build a network of the family by name, with random parameters.

    name: a key of MODELS.  num_classes: 1-255.  backbone: a timm name, for "rf_lw" only.  decoder_channels: for the
    networks whose decoder width is not fixed by a publication.
    Returns a module (N, 3, H, W) -> logits (N, num_classes, ceil(H/4), ceil(W/4)).  UsageError for what does not fit.
    """
    if name not in MODELS:
        near = get_close_matches(name, MODELS, n=3, cutoff=0.4)
        raise UsageError(f"no network is named {name!r}; nearest: {', '.join(near or MODELS)}.")
    given = {"backbone": backbone, "decoder_channels": decoder_channels}
    arguments = {key: value for key, value in given.items() if value is not None}
    accepted = MODELS[name].__kwdefaults__ or {}
    if name == "rf_lw" and backbone is None:
        raise UsageError("network 'rf_lw' needs a timm backbone, for example backbone='resnet18'.")
    for key in arguments:
        if key not in accepted and not (name == "rf_lw" and key == "backbone"):
            raise UsageError(f"network {name!r} has no argument {key!r}: its size is part of its name.")
    if not 1 <= num_classes <= 255:
        raise UsageError(f"num_classes is {num_classes}; a uint8 mask holds 1 to 255 classes.")
    if decoder_channels is not None and decoder_channels < 1:
        raise UsageError(f"decoder_channels is {decoder_channels}; a decoder is at least 1 wide.")
    return MODELS[name](num_classes, **arguments)
