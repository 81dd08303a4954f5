"""`lwrefinenet data convert`: labelled pictures in other layouts become a data folder."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from lwrefinenet.cli.options import needs_extra
from lwrefinenet.console import say, watched
from lwrefinenet.data.convert.binary import read_binary
from lwrefinenet.data.convert.colours import proposed_colours
from lwrefinenet.data.convert.labelme import read_labelme
from lwrefinenet.data.convert.masks import found_colours, has_colour_table, read_palette, read_rgb
from lwrefinenet.data.convert.splits import with_splits
from lwrefinenet.data.convert.target import Report, Source, check_free, write_dataset
from lwrefinenet.errors import UsageError
from lwrefinenet.files import write_atomically


class Format(StrEnum):
    """The layouts that are read."""

    RGB = "rgb"
    PALETTE = "palette"
    BINARY = "binary"
    COCO = "coco"
    LABELME = "labelme"
    YOLO = "yolo"


_OPTIONS = {  # which formats know an option that not all of them know
    "--colours": (Format.RGB, Format.PALETTE),
    "--write-colours": (Format.RGB,),
    "--tolerance": (Format.RGB, Format.PALETTE, Format.BINARY),
    "--transparent-ignore": (Format.RGB,),
}


def convert(
    source: Annotated[Path, typer.Argument(help="Folder of labelled pictures (or its COCO .json, YOLO .yaml).")],
    format_: Annotated[Format, typer.Option("--from", help="How the labels are written.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The data folder to make; it must not exist.")],
    classes: Annotated[
        str | None, typer.Option(help="Class names, NAME,NAME,..., in the order of their indices.")
    ] = None,
    colours: Annotated[
        Path | None, typer.Option(help="rgb, palette: TOML (road = [128, 64, 128]) or CSV name,r,g,b.")
    ] = None,
    write_colours: Annotated[
        Path | None, typer.Option(help="rgb: write the colours found to this TOML, to be named, and stop.")
    ] = None,
    tolerance: Annotated[
        int, typer.Option(min=0, max=441, help="Take the nearest known colour (binary: 0 or 255) within this distance.")
    ] = 0,
    transparent_ignore: Annotated[
        bool, typer.Option("--transparent-ignore", help="rgb: transparent pixels count nowhere.")
    ] = False,
    val_share: Annotated[
        float, typer.Option(help="Part of the pictures for val, where the source has no split.")
    ] = 0.1,
    link: Annotated[
        bool, typer.Option("--link/--copy", help="Hard-link the pictures instead of copying them.")
    ] = False,
) -> None:
    """Turn coloured, palette or 0/255 masks, or COCO, LabelMe or YOLO polygons, into a data folder to train on."""
    _check_meaning(
        format_,
        {
            "--colours": colours is not None,
            "--write-colours": write_colours is not None,
            "--tolerance": tolerance > 0,
            "--transparent-ignore": transparent_ignore,
        },
    )
    check_free(output)
    if format_ is Format.RGB and (write_colours or (colours is None and not has_colour_table(source))):
        _propose(source, write_colours)
        return
    names = None if classes is None else [name.strip() for name in classes.split(",")]
    read = _read(format_, source, names, colours, tolerance, transparent_ignore)
    items, notices = with_splits(read.items, val_share)
    read.notices.update(notices)
    split = Source(read.labels, items, read.extra, read.notices)
    report = write_dataset(
        split, output, link=link, watch=lambda done, total: watched(done, what="converting", total=total)
    )
    _show(report)


def _check_meaning(format_: Format, given: dict[str, bool]) -> None:
    for option, is_given in given.items():
        if is_given and format_ not in _OPTIONS[option]:
            raise UsageError(f"{option} means nothing with --from {format_.value}; leave it out.")


def _read(
    format_: Format,
    source: Path,
    classes: list[str] | None,
    colours: Path | None,
    tolerance: int,
    transparent_ignore: bool,
) -> Source:
    match format_:
        case Format.RGB:
            return read_rgb(
                source,
                classes=classes,
                colours=colours,
                tolerance=tolerance,
                transparent_ignore=transparent_ignore,
            )
        case Format.PALETTE:
            return read_palette(source, classes=classes, colours=colours, tolerance=tolerance)
        case Format.BINARY:
            return read_binary(source, classes=classes, tolerance=tolerance)
        case Format.LABELME:
            return read_labelme(source, classes=classes)
    with needs_extra("datasets"):
        from lwrefinenet.data.convert.coco import read_coco
        from lwrefinenet.data.convert.yolo import read_yolo
    return (read_coco if format_ is Format.COCO else read_yolo)(source, classes=classes)


def _propose(source: Path, file: Path | None) -> None:
    counts = found_colours(source, lambda pairs: watched(pairs, what="looking for colours", total=len(pairs)))
    proposal = proposed_colours(counts)
    if file is None:
        typer.echo(proposal)
        read_rgb(source)  # its complaint says what to do with the table
        return
    if file.exists():
        raise UsageError(f"{file}: exists already; give another name, or move it away.")
    write_atomically(file, proposal.encode())
    say(
        f"Wrote {file}: name the classes in it, then: lwrefinenet data convert {source} --from rgb --colours {file} --output ..."
    )


def _show(report: Report) -> None:
    pictures = ", ".join(f"{count} in {split}" for split, count in report.pictures.items())
    say(f"Wrote {report.destination}: {pictures}.")
    say("     share of all pixels")
    width = max(map(len, (*report.shares, "ignored")))
    for name, share in (*report.shares.items(), ("ignored", report.ignored)):
        say(f"     {name:{width}}  {share:7.2%}")
    for notice, count in report.notices.items():
        say(f"Notice: {notice} ({count})." if count > 1 else f"Notice: {notice}.")
    say(f"Next: lwrefinenet data check {report.destination}")
    say(f"      lwrefinenet train recipes/custom.toml --data {report.destination}")
