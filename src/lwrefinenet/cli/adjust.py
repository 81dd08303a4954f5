"""`lwrefinenet adjust`: offsets for the classes of trained weights, found on a split that they did not learn from."""

from pathlib import Path
from typing import Annotated

import typer

from lwrefinenet.adjust import adjust_weights
from lwrefinenet.cli.options import DATA_HELP, DeviceOption, check_new_weights, labelled
from lwrefinenet.console import say, watched
from lwrefinenet.device import resolve_device
from lwrefinenet.files import check_writable


def adjust(
    weights: Annotated[str, typer.Argument(help="A name from `lwrefinenet models`, or a .safetensors file.")],
    data: Annotated[str, typer.Option(help=f"{DATA_HELP}.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The .safetensors file to write.")],
    split: Annotated[str, typer.Option(help="A split that the weights did not learn from and are not tested on.")] = (
        "val"
    ),
    device: DeviceOption = "auto",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a file that exists.")] = False,
) -> None:
    """Shift the logits of each class so that the mean IoU is largest (logit adjustment); the network stays as fast."""
    check_new_weights(output, overwrite=overwrite)
    check_writable(output.parent)
    pictures = labelled(data, split)
    found = adjust_weights(
        weights,
        output,
        pictures,
        device=resolve_device(device),
        watch=lambda indices, what: watched(indices, what=what, total=len(pictures)),
    )
    say(found.described(pictures.labels.class_names))
    if not found.helps:
        say(f"{output} was not written: the weights are best as they are.")
        raise typer.Exit(1)
    say(
        f"Wrote {output}. What it is worth, other pictures tell: lwrefinenet evaluate {output} --data DATA --split SPLIT"
    )
