"""`lwrefinenet data`: what is done to data folders before training."""

import typer

from lwrefinenet.cli.data_check import check
from lwrefinenet.cli.data_convert import convert

data_app = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="Check data folders, and make them from what others wrote."
)
data_app.command()(check)
data_app.command()(convert)
