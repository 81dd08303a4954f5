"""`lwrefinenet train`: a recipe and a data folder in, a run folder out."""

import re
from pathlib import Path
from typing import Annotated

import typer

from lwrefinenet.cli.options import DATA_HELP, DeviceOption, needs_extra
from lwrefinenet.console import TrainingConsole
from lwrefinenet.data.stages import parse_data_arguments
from lwrefinenet.device import resolve_device
from lwrefinenet.errors import UsageError
from lwrefinenet.training.recipe import Recipe, field_list

EPILOG = "Fields of a recipe, with their defaults:\n\n" + field_list()


def train(
    recipe: Annotated[Path, typer.Argument(help="Recipe file (TOML).")],
    data: Annotated[list[str], typer.Option(help=f"{DATA_HELP}; several are learnt from together, or in stages.")],
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Run folder; by default runs/RECIPE.")] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", help="Override a field of the recipe: key=value.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the run's last checkpoint.")] = False,
    time_limit: Annotated[str | None, typer.Option(help="Stop cleanly after this time (25m, 2h); resumable.")] = None,
    fit: Annotated[
        bool,
        typer.Option("--fit", help='With --time-limit and schedule "wsd": learn for as many epochs as end in time.'),
    ] = False,
    device: DeviceOption = "auto",
) -> None:
    """Train a network by a recipe on a data folder."""
    with needs_extra("train"):
        from lwrefinenet.training.train import train as train_by_recipe

    limit = None if time_limit is None else _seconds(time_limit)
    if fit and limit is None:
        raise UsageError("--fit: fits a run to a time limit; give one, for example --time-limit 25m.")
    chosen = Recipe.from_toml(recipe, set_)
    with TrainingConsole() as listener:
        train_by_recipe(
            chosen,
            parse_data_arguments(data),
            output or Path("runs") / recipe.stem,
            device=resolve_device(device),
            listener=listener,
            resume=resume,
            time_limit=limit,
            fit=fit,
        )


def _seconds(text: str) -> float:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smh])", text)
    if match is None:
        raise UsageError(f"--time-limit {text!r}: expected a number with s, m or h, for example 25m.")
    return float(match[1]) * {"s": 1, "m": 60, "h": 3600}[match[2]]
