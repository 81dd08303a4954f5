"""The command line: parse, call, print."""

import re
from pathlib import Path
from typing import Annotated

import typer

from lwrefinenet.errors import LwRefineNetError, UsageError
from lwrefinenet.console import TrainingConsole, error_console, say

app = typer.Typer(add_completion=False, no_args_is_help=True, rich_markup_mode=None, pretty_exceptions_enable=False)


@app.callback()
def lwrefinenet() -> None:
    """Real-time dense prediction with the Light-Weight RefineNet family."""


@app.command()
def train(
    recipe: Annotated[Path, typer.Argument(help="Recipe file (TOML).")],
    data: Annotated[Path, typer.Option(help="Data folder.")],
    output: Annotated[Path | None, typer.Option(help="Run folder; by default runs/RECIPE.")] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", help="Override a field: key=value.")] = None,
    resume: Annotated[bool, typer.Option(help="Go on from the run's last checkpoint.")] = False,
    time_limit: Annotated[str | None, typer.Option(help="Stop cleanly after this time, e.g. 25m or 2h; resumable.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda[:n] or mps.")] = "auto",
) -> None:
    """Train a network by a recipe on a data folder."""
    from lwrefinenet.predict import resolve_device
    from lwrefinenet.training.loop import train as run_training
    from lwrefinenet.training.recipe import Recipe

    with TrainingConsole() as listener:
        run = run_training(
            Recipe.from_toml(recipe, set_),
            data,
            output or Path("runs") / recipe.stem,
            device=resolve_device(device),
            listener=listener,
            resume=resume,
            time_limit=None if time_limit is None else _seconds(time_limit),
        )
    if run.best.exists():
        say(f"Best weights: {run.best}")


def main() -> None:
    """Entry point: every error of ours is one sentence and an exit code; --debug shows the traceback."""
    try:
        app()
    except LwRefineNetError as error:
        error_console.print(str(error), markup=False)
        raise SystemExit(2 if isinstance(error, UsageError) else 1) from error


def _seconds(text: str) -> float:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smh])", text)
    if match is None:
        raise UsageError(f"--time-limit {text!r}: expected a number with s, m or h, for example 25m.")
    return float(match[1]) * {"s": 1, "m": 60, "h": 3600}[match[2]]


if __name__ == "__main__":
    main()
