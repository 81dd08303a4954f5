"""`lwrefinenet import`: published checkpoints become weights that know what they are."""

from pathlib import Path
from typing import Annotated

import typer

from lwrefinenet import weights
from lwrefinenet.cli.options import check_new_weights
from lwrefinenet.console import say
from lwrefinenet.errors import UsageError
from lwrefinenet.labels import LABEL_SETS
from lwrefinenet.meta import Source, WeightsMeta
from lwrefinenet.models.multitask import MultiTaskRefineNet
from lwrefinenet.models.published import JOINT, JOINT_CLASSES, import_published, of_one_dataset
from lwrefinenet.preprocess import Preprocess


def import_(
    file: Annotated[Path, typer.Argument(help="Published checkpoint of 2018-2020 (.pth, .pth.tar, .ckpt).")],
    network: Annotated[str, typer.Option(help="The network that it was trained for, e.g. rf_lw_resnet50.")],
    dataset: Annotated[str, typer.Option(help=f"Its classes: {', '.join(LABEL_SETS)}.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The .safetensors file to write.")],
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a file that exists.")] = False,
) -> None:
    """Turn a published checkpoint into a self-describing weights file."""
    if dataset not in LABEL_SETS:
        raise UsageError(f"--dataset {dataset!r} is no label set; expected one of {', '.join(LABEL_SETS)}.")
    check_new_weights(output, overwrite=overwrite)
    labels = LABEL_SETS[dataset]
    model = import_published(file, network)
    if isinstance(model, MultiTaskRefineNet) and model.num_classes == JOINT_CLASSES and dataset in JOINT:
        model = of_one_dataset(model, dataset)
    if model.num_classes != len(labels):
        raise UsageError(
            f"{file}: gives {model.num_classes} classes, but {dataset} has {len(labels)}; choose its --dataset."
        )
    source = Source(
        "published checkpoint", file.name, "academic use only (its authors' terms)", "light-weight-refinenet"
    )
    arguments = {"tasks": list(model.tasks)} if isinstance(model, MultiTaskRefineNet) else {}
    meta = WeightsMeta(network, labels, Preprocess(), arguments, licence=source.licence, sources=(source,))
    weights.save(output, model, meta)
    say(
        f"Wrote {output}: {network}, {len(labels)} classes of {dataset}. Try it: lwrefinenet predict PICTURE --weights {output}"
    )
