"""The command line: parse, call, print. One module per command."""

import logging
import sys
from io import TextIOWrapper
from typing import Annotated, NoReturn

import typer

from lwrefinenet import __version__
from lwrefinenet.cli.adjust import adjust
from lwrefinenet.cli.average import average
from lwrefinenet.cli.benchmark import benchmark
from lwrefinenet.cli.data import data_app
from lwrefinenet.cli.evaluate import evaluate
from lwrefinenet.cli.export import export
from lwrefinenet.cli.models import models
from lwrefinenet.cli.options import complain
from lwrefinenet.cli.predict import predict
from lwrefinenet.cli.published import import_
from lwrefinenet.cli.train import EPILOG, train
from lwrefinenet.console import say
from lwrefinenet.errors import LwRefineNetError, UsageError

app = typer.Typer(add_completion=False, no_args_is_help=True, rich_markup_mode=None, pretty_exceptions_enable=False)
app.command()(predict)
app.command()(evaluate)
app.command(epilog=EPILOG)(train)
app.command()(adjust)
app.command()(average)
app.command()(export)
app.command("import")(import_)
app.command()(benchmark)
app.command()(models)
app.add_typer(data_app, name="data")


def _show_version(wanted: bool) -> None:
    if wanted:
        say(f"lwrefinenet {__version__}")
        raise typer.Exit


@app.callback()
def lwrefinenet(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    version: Annotated[
        bool, typer.Option("--version", help="Show the version and exit.", callback=_show_version, is_eager=True)
    ] = False,
) -> None:
    """Real-time dense prediction with the Light-Weight RefineNet family."""


def main() -> NoReturn:
    """Entry point: an error is one sentence and an exit code (2 misuse, 1 failure), unless --debug asks for more."""
    _show_log()
    if isinstance(sys.stdout, TextIOWrapper):  # names of files that the terminal's encoding does not have
        sys.stdout.reconfigure(errors="backslashreplace")
    debug = "--debug" in sys.argv  # wherever it stands; the option of `lwrefinenet` is there for --help
    try:
        app(args=[argument for argument in sys.argv[1:] if argument != "--debug"])
    except LwRefineNetError as error:
        if debug:
            raise
        complain(str(error))
        raise SystemExit(2 if isinstance(error, UsageError) else 1) from error
    except Exception as error:
        if debug:
            raise
        complain(_unforeseen(error))
        raise SystemExit(1) from error
    raise SystemExit(0)


def _unforeseen(error: Exception) -> str:
    if isinstance(error, PermissionError) and error.filename:
        return f"{error.filename}: {error.strerror}; check its permissions, and those of the folders that it is in."
    return f"unexpected {type(error).__name__}: {error}. This is a fault of lwrefinenet; `lwrefinenet --debug ...` shows where."


def _show_log() -> None:
    """What the package tells of while it works goes to the standard error."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(message)s"))
    logger = logging.getLogger("lwrefinenet")
    logger.handlers[:] = [handler]
    logger.setLevel(logging.INFO)
