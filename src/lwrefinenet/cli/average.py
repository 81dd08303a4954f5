"""`lwrefinenet average`: the mean of weights that were trained from the same beginning."""

from pathlib import Path
from typing import Annotated

import typer

from lwrefinenet.average import average_weights
from lwrefinenet.cli.options import check_new_weights
from lwrefinenet.console import say
from lwrefinenet.files import check_writable


def average(
    weights: Annotated[
        list[str], typer.Argument(help="Two or more: names from `lwrefinenet models`, or .safetensors files.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="The .safetensors file to write.")],
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a file that exists.")] = False,
) -> None:
    """Take the mean of weights that were trained from the same beginning; the network stays as fast as one of them."""
    check_new_weights(output, overwrite=overwrite)
    check_writable(output.parent)
    average_weights(weights, output)
    say(
        f"Wrote {output}, the mean of {len(weights)}. What it is worth: lwrefinenet evaluate {output} --data DATA --split SPLIT"
    )
