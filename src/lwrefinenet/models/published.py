"""Reads the checkpoints of the published RefineNets (2018-2020: light-weight, multi-task, full) and of their training code.

The tables below pair the names of modules here with the names in those files; `backbone.net` of a ResNet is named alike.
"""

import re
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path

from torch import Tensor, nn

from lwrefinenet.errors import UsageError, WeightsError
from lwrefinenet.models.checkpoint import read_state_dict
from lwrefinenet.models.multitask import canonical_tasks
from lwrefinenet.models.refinenet import RefineNet
from lwrefinenet.models.state import load_strictly
from lwrefinenet.models.zoo import create_model

BACKBONE = "backbone.net."
JOINT_CLASSES = 46
JOINT = {"nyu": slice(0, 40), "kitti": slice(40, 46)}


def import_published(path: str | Path, network: str, *, tasks: Sequence[str] | None = None) -> RefineNet:
    """Read a published checkpoint into the network it was made for, in evaluation mode, on the CPU.

    path: a state dict written by torch, alone or inside a training checkpoint; nothing in it is run.
    network: a key of PUBLISHED; the number of classes, and a multi-task network's tasks, are read from the file.
    tasks: those that a multi-task network should have.  All of these networks expect `Preprocess()`.
    UsageError for an unknown network or a missing file; WeightsError for a file that is damaged or does not fit.
    """
    if network not in PUBLISHED:
        near = get_close_matches(network, PUBLISHED, n=3, cutoff=0.6)
        raise UsageError(
            f"no published checkpoints of {network!r} can be imported; take {' or '.join(near or PUBLISHED)}."
        )
    module_names = PUBLISHED[network]
    state = _with_plain_names(read_state_dict(Path(path)), Path(path))
    found = _tasks(state, network, tasks, Path(path))
    classifier = "head" if found is None else "heads.segmentation.2"
    model = create_model(network, _num_classes(state, module_names[classifier], Path(path)), tasks=found)
    load_strictly(
        model,
        state,
        origin=str(path),
        network=network,
        foreign_names={key: _published_name(key, module_names) for key in model.state_dict()},
    )
    return model.eval()


def of_one_dataset(model: RefineNet, dataset: str) -> RefineNet:
    """The network of the joint checkpoint (ExpNYUDKITTI_joint, 46 classes) with the classes of "nyu" or "kitti" alone, in place.

    Its classes are those of NYUv2 and then KITTI's, to be compared with one another only where they are of one data set.
    """
    classifier = model.heads_by_task()["segmentation"]
    assert isinstance(classifier, nn.Sequential)
    last, kept = classifier[-1], JOINT[dataset]
    assert isinstance(last, nn.Conv2d) and last.bias is not None
    last.weight, last.bias = nn.Parameter(last.weight[kept]), nn.Parameter(last.bias[kept])
    last.out_channels = model.num_classes = len(last.weight)
    return model


def _with_plain_names(state: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    """DenseTorch's names of MobileNet-v2 under its light-weight decoder, as those of the published network; others unchanged.

    WeightsError for its multi-task decoder, which aligns corners where the published one does not.
    """
    if not all(key.startswith(("0.", "1.")) for key in state):
        return dict(state)
    if any(key.startswith("1.heads.") for key in state):
        raise WeightsError(
            f"{path}: holds a multi-task network of DenseTorch, which resizes between its levels in another way than the "
            "published multi-task networks; give one of those."
        )
    return {_plain_name(key): value for key, value in state.items()}


def _plain_name(key: str) -> str:
    part, _, name = key.partition(".")
    found = re.fullmatch(r"(stem_convs|crp_blocks|adapt_convs)\.(\d+)\.(.*)", name)
    if part == "0" or found is None:
        return name
    published, first = {"stem_convs": ("conv", 8), "crp_blocks": ("crp", 4), "adapt_convs": ("conv_adapt", 4)}[found[1]]
    return f"{published}{first - int(found[2])}.{found[3]}"


def _tasks(
    state: Mapping[str, Tensor], network: str, expected: Sequence[str] | None, path: Path
) -> tuple[str, ...] | None:
    """The tasks of the heads in the file; None for a network of one. WeightsError where the file is of the other kind."""
    others = tuple(
        task
        for task, head in HEADS.items()
        if task != "segmentation" and (f"pre_{head}.weight" in state or f"{head}.weight" in state)
    )
    if network not in MULTITASK_NETWORKS:
        if others:
            raise WeightsError(
                f"{path}: holds a multi-task network (segmentation, {', '.join(others)}), but {network} gives segmentation alone. "
                f"Import it as {' or '.join(MULTITASK_NETWORKS)}."
            )
        return None
    if not others:
        raise WeightsError(
            f"{path}: holds no heads of depth or normals, but {network} has several tasks. Give the network that the file was "
            "made for, such as rf_lw_mobilenetv2."
        )
    found = ("segmentation", *others)
    if expected is not None and canonical_tasks(expected) != found:
        raise WeightsError(
            f"{path}: its tasks are {', '.join(found)}, not {', '.join(expected)}. Ask for those that it has."
        )
    return found


def _published_name(key: str, module_names: Mapping[str, str]) -> str:
    module, _, entry = key.rpartition(".")
    return f"{module_names[module]}.{entry}" if module in module_names else key.removeprefix(BACKBONE)


def _num_classes(state: Mapping[str, Tensor], head: str, path: Path) -> int:
    weight = state.get(f"{head}.weight")
    if weight is None:
        raise WeightsError(
            f"{path}: {head}.weight, the head, is missing among its {len(state)} entries "
            f"({', '.join(list(state)[:3])} ...). Give the network that the file was made for."
        )
    if weight.ndim != 4 or not 1 <= len(weight) <= 255:
        raise WeightsError(
            f"{path}: {head}.weight has shape {tuple(weight.shape)} instead of (classes, channels, 3, 3) "
            "with 1 to 255 classes. Give the network that the file was made for."
        )
    return len(weight)


def _chain(pooling: str, published: str) -> dict[str, str]:
    """The four convolutions of one chained residual pooling."""
    return {f"{pooling}.convs.{link}": f"{published}.0.{link + 1}_outvar_dimred" for link in range(4)}


def _full_level(level: int, *, published: int) -> dict[str, str]:
    """Two residual conv units before the fusion, the chain, and three units after it."""
    ours = f"decoder.levels.{level}"
    return {
        **_units(f"{ours}.adapt.0", f"adapt_stage{published}_b.0", numbers=range(1, 3)),
        **_chain(f"{ours}.pooling", f"mflow_conv_g{published}_pool"),
        **_units(f"{ours}.output", f"mflow_conv_g{published}_b.0", numbers=range(3)),
    }


def _units(ours: str, theirs: str, *, numbers: range) -> dict[str, str]:
    """Residual conv units, by their numbers in our sequence; the published ones count from 1."""
    names = {}
    for unit, number in enumerate(numbers, start=1):
        names[f"{ours}.{number}.conv1"] = f"{theirs}.{unit}_conv"
        names[f"{ours}.{number}.conv2"] = f"{theirs}.{unit}_conv_relu_varout_dimred"
    return names


def _mobilenetv2_blocks(repeats: tuple[int, ...]) -> dict[str, str]:
    names = {}
    for stage, count in enumerate(repeats):
        for block in range(count):
            ours, theirs = f"{BACKBONE}blocks.{stage}.{block}", f"layer{stage + 2}.{block}.output"
            for step, conv in enumerate(("conv_pw", "conv_dw", "conv_pwl")):
                names[f"{ours}.{conv}"] = f"{theirs}.{step}.0"
                names[f"{ours}.bn{step + 1}"] = f"{theirs}.{step}.1"
    return names


RESNET = {
    "decoder.levels.0.adapt.0.0": "p_ims1d2_outl1_dimred",
    **_chain("decoder.levels.0.pooling", "mflow_conv_g1_pool"),
    "decoder.handovers.0": "mflow_conv_g1_b3_joint_varout_dimred",
    "decoder.levels.1.adapt.0.0": "p_ims1d2_outl2_dimred",
    "decoder.levels.1.adapt.0.1": "adapt_stage2_b2_joint_varout_dimred",
    **_chain("decoder.levels.1.pooling", "mflow_conv_g2_pool"),
    "decoder.handovers.1": "mflow_conv_g2_b3_joint_varout_dimred",
    "decoder.levels.2.adapt.0.0": "p_ims1d2_outl3_dimred",
    "decoder.levels.2.adapt.0.1": "adapt_stage3_b2_joint_varout_dimred",
    **_chain("decoder.levels.2.pooling", "mflow_conv_g3_pool"),
    "decoder.handovers.2": "mflow_conv_g3_b3_joint_varout_dimred",
    "decoder.levels.3.adapt.0.0": "p_ims1d2_outl4_dimred",
    "decoder.levels.3.adapt.0.1": "adapt_stage4_b2_joint_varout_dimred",
    **_chain("decoder.levels.3.pooling", "mflow_conv_g4_pool"),
    "head": "clf_conv",
}

FULL_RESNET = {
    "decoder.levels.0.adapt.0.0": "p_ims1d2_outl1_dimred",
    **_full_level(0, published=1),
    "decoder.handovers.0": "mflow_conv_g1_b3_joint_varout_dimred",
    "decoder.levels.1.adapt.0.0": "p_ims1d2_outl2_dimred",
    **_full_level(1, published=2),
    "decoder.levels.1.adapt.0.3": "adapt_stage2_b2_joint_varout_dimred",
    "decoder.handovers.1": "mflow_conv_g2_b3_joint_varout_dimred",
    "decoder.levels.2.adapt.0.0": "p_ims1d2_outl3_dimred",
    **_full_level(2, published=3),
    "decoder.levels.2.adapt.0.3": "adapt_stage3_b2_joint_varout_dimred",
    "decoder.handovers.2": "mflow_conv_g3_b3_joint_varout_dimred",
    "decoder.levels.3.adapt.0.0": "p_ims1d2_outl4_dimred",
    **_full_level(3, published=4),
    "decoder.levels.3.adapt.0.3": "adapt_stage4_b2_joint_varout_dimred",
    "head": "clf_conv",
}

MOBILENETV2 = {
    f"{BACKBONE}conv_stem": "layer1.0",
    f"{BACKBONE}bn1": "layer1.1",
    **_mobilenetv2_blocks(repeats=(1, 2, 3, 4, 3, 3, 1)),
    "decoder.levels.0.adapt.0.0": "conv8",
    "decoder.levels.0.adapt.1.0": "conv7",
    **_chain("decoder.levels.0.pooling", "crp4"),
    "decoder.handovers.0": "conv_adapt4",
    "decoder.levels.1.adapt.0.0": "conv6",
    "decoder.levels.1.adapt.1.0": "conv5",
    **_chain("decoder.levels.1.pooling", "crp3"),
    "decoder.handovers.1": "conv_adapt3",
    "decoder.levels.2.adapt.0.0": "conv4",
    **_chain("decoder.levels.2.pooling", "crp2"),
    "decoder.handovers.2": "conv_adapt2",
    "decoder.levels.3.adapt.0.0": "conv3",
    **_chain("decoder.levels.3.pooling", "crp1"),
    "head": "segm",
}

HEADS = {"segmentation": "segm", "depth": "depth", "normals": "normal"}

MULTITASK = {
    **{ours: theirs for ours, theirs in MOBILENETV2.items() if ours != "head"},
    **{f"heads.{task}.0": f"pre_{head}" for task, head in HEADS.items()},
    **{f"heads.{task}.2": head for task, head in HEADS.items()},
}

PUBLISHED: dict[str, Mapping[str, str]] = {
    "rf_lw_resnet50": RESNET,
    "rf_lw_resnet101": RESNET,
    "rf_lw_resnet152": RESNET,
    "rf_lw_mobilenetv2": MOBILENETV2,
    "rf_resnet50": FULL_RESNET,
    "rf_resnet101": FULL_RESNET,
    "rf_resnet152": FULL_RESNET,
    "mt_lw_mobilenetv2": MULTITASK,
}
MULTITASK_NETWORKS = [network for network, names in PUBLISHED.items() if names is MULTITASK]
