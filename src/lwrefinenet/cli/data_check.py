"""`lwrefinenet data check`: the data doctor."""

import json
from pathlib import Path
from typing import Annotated

import typer

from lwrefinenet.check_page.page import page
from lwrefinenet.console import say, watched
from lwrefinenet.console_census import census_report
from lwrefinenet.data.check import check_folder
from lwrefinenet.files import write_atomically


def check(
    data: Annotated[Path, typer.Argument(help="Data folder: your own, or a layout that `train` knows.")],
    split: Annotated[
        list[str] | None, typer.Option(help="Look at this split only; may be given several times.")
    ] = None,
    html: Annotated[Path | None, typer.Option(help="Also write a page with a contact sheet to this file.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
) -> None:
    """Read every mask and every picture's header: what is there, what is wrong, and what mends it. Exit code 1 with errors."""
    report = check_folder(
        data, split, progress=lambda indices: watched(indices, what="reading masks", total=len(list(indices)))
    )
    if html is not None:
        write_atomically(html, page(report).encode())
    if as_json:
        typer.echo(json.dumps(report.to_dict(), indent=2))
    else:
        census_report(report)
        if html is not None:
            say(f"Wrote {html}.")
    if report.errors:
        raise typer.Exit(1)
