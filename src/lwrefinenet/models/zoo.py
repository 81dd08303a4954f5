"""One function per network, one table of them all, and `create_model` to call them by name."""

import inspect
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from typing import Any

from torch import nn

from lwrefinenet.errors import UsageError
from lwrefinenet.models.backbones import MobileNetV2Features, TimmFeatures
from lwrefinenet.models.full_refinenet import FullRefineNetDecoder
from lwrefinenet.models.multitask import MultiTaskRefineNet, beginning_small, canonical_tasks
from lwrefinenet.models.nasnet import NasNetMobileFeatures
from lwrefinenet.models.refinenet import INPUT_SCALES, LightWeightRefineNet, RefineNet, RefineNetDecoder, depthwise1x1


def rf_lw_resnet50(num_classes: int = 21) -> LightWeightRefineNet:
    """RF-LW-ResNet-50 as published: 27.4 M parameters at 21 classes."""
    return _published_resnet("resnet50", num_classes)


def rf_lw_resnet101(num_classes: int = 21) -> LightWeightRefineNet:
    """RF-LW-ResNet-101 as published: 46.3 M parameters at 21 classes."""
    return _published_resnet("resnet101", num_classes)


def rf_lw_resnet152(num_classes: int = 21) -> LightWeightRefineNet:
    """RF-LW-ResNet-152 as published: 62.0 M parameters at 21 classes."""
    return _published_resnet("resnet152", num_classes)


def rf_lw_mobilenetv2(num_classes: int = 21, *, input_scale: float = 1.0) -> LightWeightRefineNet:
    """RF-LW-MobileNet-v2 as published: 3.3 M parameters at 21 classes."""
    backbone = MobileNetV2Features()
    decoder = RefineNetDecoder(backbone.channels, level_sizes=(2, 2, 1, 1))
    return LightWeightRefineNet(backbone, decoder, num_classes, input_scale=input_scale)


def rf_lw_nasnet_mobile(num_classes: int = 21) -> LightWeightRefineNet:
    """RF-LW-NASNet-Mobile, of the paper but never published: NASNet-A mobile under the light-weight decoder.

    UsageError where pytorchcv, which has the backbone, is not installed.
    """
    backbone = NasNetMobileFeatures()
    return LightWeightRefineNet(backbone, RefineNetDecoder(backbone.channels), num_classes)


def rf_lw_efficientnet_lite0(
    num_classes: int = 21, *, decoder_channels: int = 256, input_scale: float = 1.0
) -> LightWeightRefineNet:
    """EfficientNet-Lite0 under the light-weight decoder: 3.3 M parameters with a decoder 128 wide, 4.4 M with 256."""
    return rf_lw(
        num_classes, backbone="tf_efficientnet_lite0", decoder_channels=decoder_channels, input_scale=input_scale
    )


def rf_lw_efficientnet_lite1(
    num_classes: int = 21, *, decoder_channels: int = 256, input_scale: float = 1.0
) -> LightWeightRefineNet:
    """EfficientNet-Lite1 under the light-weight decoder."""
    return rf_lw(
        num_classes, backbone="tf_efficientnet_lite1", decoder_channels=decoder_channels, input_scale=input_scale
    )


def rf_lw_efficientnet_lite2(
    num_classes: int = 21, *, decoder_channels: int = 256, input_scale: float = 1.0
) -> LightWeightRefineNet:
    """EfficientNet-Lite2 under the light-weight decoder."""
    return rf_lw(
        num_classes, backbone="tf_efficientnet_lite2", decoder_channels=decoder_channels, input_scale=input_scale
    )


def rf_lw_nano_mobilenetv2(
    num_classes: int = 21, *, decoder_channels: int = 48, decoder_links: int = 2, input_scale: float = 1.0
) -> LightWeightRefineNet:
    """MobileNet-v2 under a narrow decoder with short chains, for real time: 1.9 M parameters."""
    backbone = MobileNetV2Features()
    decoder = RefineNetDecoder(
        backbone.channels, level_sizes=(2, 2, 1, 1), channels=(decoder_channels,) * 4, links=(decoder_links,) * 4
    )
    return LightWeightRefineNet(backbone, decoder, num_classes, input_scale=input_scale)


def rf_lw_nano_efficientnet_lite0(
    num_classes: int = 21, *, decoder_channels: int = 64, decoder_links: int = 4, input_scale: float = 0.8
) -> LightWeightRefineNet:
    """EfficientNet-Lite0 on pictures at four fifths of their size, under a narrow decoder, for real time: 3.1 M parameters."""
    return rf_lw(
        num_classes,
        backbone="tf_efficientnet_lite0",
        decoder_channels=decoder_channels,
        decoder_links=decoder_links,
        input_scale=input_scale,
    )


def rf_lw(
    num_classes: int = 21,
    *,
    backbone: str,
    decoder_channels: int = 256,
    decoder_links: int = 4,
    input_scale: float = 1.0,
) -> LightWeightRefineNet:
    """The light-weight decoder on any timm backbone that has features at reductions 4, 8, 16 and 32.

    decoder_links: pools in each level's chain.  input_scale: what pictures are resized by before the backbone, 0.25 to 2.
    UsageError for a name that timm does not know (with the nearest ones) or a backbone without such features.
    """
    features = TimmFeatures(backbone)
    decoder = RefineNetDecoder(features.channels, channels=(decoder_channels,) * 4, links=(decoder_links,) * 4)
    return LightWeightRefineNet(features, decoder, num_classes, input_scale=input_scale)


def rf_resnet50(num_classes: int = 21) -> LightWeightRefineNet:
    """The full RefineNet on ResNet-50: 99.1 M parameters at 21 classes."""
    return _full_resnet("resnet50", num_classes)


def rf_resnet101(num_classes: int = 21) -> LightWeightRefineNet:
    """The full RefineNet on ResNet-101, as published: 118.1 M parameters at 21 classes."""
    return _full_resnet("resnet101", num_classes)


def rf_resnet152(num_classes: int = 21) -> LightWeightRefineNet:
    """The full RefineNet on ResNet-152: 133.7 M parameters at 21 classes."""
    return _full_resnet("resnet152", num_classes)


def mt_lw_mobilenetv2(num_classes: int = 40, *, tasks: Sequence[str] = ("segmentation", "depth")) -> MultiTaskRefineNet:
    """The multi-task network as published: 3.1 M parameters at 40 classes, with depth or with depth and normals."""
    backbone = MobileNetV2Features()
    decoder = RefineNetDecoder(
        backbone.channels, level_sizes=(2, 2, 1, 1), align_corners=False, finest_chain=depthwise1x1
    )
    return beginning_small(MultiTaskRefineNet(backbone, decoder, num_classes, tasks))


def mt_lw_efficientnet_lite0(
    num_classes: int = 40,
    *,
    tasks: Sequence[str] = ("segmentation", "depth"),
    decoder_channels: int = 256,
    input_scale: float = 1.0,
) -> MultiTaskRefineNet:
    """EfficientNet-Lite0 under the multi-task decoder and heads."""
    return mt_lw(
        num_classes,
        backbone="tf_efficientnet_lite0",
        tasks=tasks,
        decoder_channels=decoder_channels,
        input_scale=input_scale,
    )


def mt_lw_efficientnet_lite2(
    num_classes: int = 40,
    *,
    tasks: Sequence[str] = ("segmentation", "depth"),
    decoder_channels: int = 256,
    input_scale: float = 1.0,
) -> MultiTaskRefineNet:
    """EfficientNet-Lite2 under the multi-task decoder and heads."""
    return mt_lw(
        num_classes,
        backbone="tf_efficientnet_lite2",
        tasks=tasks,
        decoder_channels=decoder_channels,
        input_scale=input_scale,
    )


def mt_lw(
    num_classes: int = 40,
    *,
    backbone: str,
    tasks: Sequence[str] = ("segmentation", "depth"),
    decoder_channels: int = 256,
    decoder_links: int = 4,
    input_scale: float = 1.0,
) -> MultiTaskRefineNet:
    """The multi-task decoder and heads on any timm backbone that has features at reductions 4, 8, 16 and 32; as `rf_lw`."""
    features = TimmFeatures(backbone)
    decoder = RefineNetDecoder(
        features.channels,
        channels=(decoder_channels,) * 4,
        links=(decoder_links,) * 4,
        align_corners=False,
        finest_chain=depthwise1x1,
    )
    return MultiTaskRefineNet(features, decoder, num_classes, tasks, input_scale=input_scale)


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


def _full_resnet(backbone: str, num_classes: int) -> LightWeightRefineNet:
    features = TimmFeatures(backbone)
    return LightWeightRefineNet(features, FullRefineNetDecoder(features.channels), num_classes)


MODELS: dict[str, Callable[..., RefineNet]] = {
    "rf_lw_resnet50": rf_lw_resnet50,
    "rf_lw_resnet101": rf_lw_resnet101,
    "rf_lw_resnet152": rf_lw_resnet152,
    "rf_lw_mobilenetv2": rf_lw_mobilenetv2,
    "rf_lw_nasnet_mobile": rf_lw_nasnet_mobile,
    "rf_lw_efficientnet_lite0": rf_lw_efficientnet_lite0,
    "rf_lw_efficientnet_lite1": rf_lw_efficientnet_lite1,
    "rf_lw_efficientnet_lite2": rf_lw_efficientnet_lite2,
    "rf_lw_nano_mobilenetv2": rf_lw_nano_mobilenetv2,
    "rf_lw_nano_efficientnet_lite0": rf_lw_nano_efficientnet_lite0,
    "rf_lw": rf_lw,
    "rf_resnet50": rf_resnet50,
    "rf_resnet101": rf_resnet101,
    "rf_resnet152": rf_resnet152,
    "mt_lw_mobilenetv2": mt_lw_mobilenetv2,
    "mt_lw_efficientnet_lite0": mt_lw_efficientnet_lite0,
    "mt_lw_efficientnet_lite2": mt_lw_efficientnet_lite2,
    "mt_lw": mt_lw,
}

_RANGES = {"decoder_channels": (1, 4096), "decoder_links": (1, 16), "input_scale": INPUT_SCALES}


def needs_backbone(name: str) -> bool:
    """Whether this network of MODELS is one on any timm backbone, which must then be named."""
    return "backbone" in inspect.signature(MODELS[name]).parameters


def usual_input_scale(name: str) -> float:
    """The `input_scale` of a network of MODELS that is built without one."""
    parameter = inspect.signature(MODELS[name]).parameters.get("input_scale")
    return 1.0 if parameter is None else float(parameter.default)


def create_model(name: str, num_classes: int = 21, **arguments: Any) -> RefineNet:
    """Build a network of the family by name, with random parameters.

    name: a key of MODELS.  num_classes: 1-255.
    arguments, for the networks that leave them open; None is as good as left out:
    backbone, a timm name, for "rf_lw" and "mt_lw" only; decoder_channels, the decoder's width; decoder_links, the pools in each
    of its chains, 1-16; input_scale, 0.25-2, what pictures are resized by before the backbone; tasks, for multi-task networks
    ("mt_"), "segmentation" and with it any of "depth" and "normals".  For every network size_multiple, 1-256: of how many pixels
    the sides of what the backbone sees are whole multiples, 32 where it has TensorFlow's padding and 1 elsewhere if left out.
    Returns a module (N, 3, H, W) -> logits (N, num_classes, ceil(h/4), ceil(w/4)), where h x w is what the backbone sees: H x W
    itself, unless there is an input_scale or a size_multiple (`RefineNet.seen_size`); a multi-task network gives a dict of such
    maps by task.  UsageError for what does not fit.
    """
    if name not in MODELS:
        near = get_close_matches(name, MODELS, n=3, cutoff=0.4)
        raise UsageError(f"no network is named {name!r}; nearest: {', '.join(near or MODELS)}.")
    given = {key: value for key, value in arguments.items() if value is not None}
    multiple = given.pop("size_multiple", None)
    accepted = inspect.signature(MODELS[name]).parameters
    for key in given:
        if key not in accepted:
            raise UsageError(
                f"network {name!r} has no argument {key!r}; it takes {', '.join(accepted)}, size_multiple."
            )
    if needs_backbone(name) and "backbone" not in given:
        raise UsageError(f"network {name!r} needs a timm backbone, for example backbone='resnet18'.")
    if not 1 <= num_classes <= 255:
        raise UsageError(f"num_classes is {num_classes}; a uint8 mask holds 1 to 255 classes.")
    for key, (least, most) in _RANGES.items():
        if key in given and not least <= given[key] <= most:
            raise UsageError(f"{key} is {given[key]}; expected {least} to {most}.")
    if "tasks" in given:
        given["tasks"] = canonical_tasks(given["tasks"])
    model = MODELS[name](num_classes, **given)
    if multiple is not None:
        model.see_multiples_of(multiple)
    return model
