"""`lwrefinenet export`: weights become a file for another runtime, proven equal."""

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from lwrefinenet.cli.options import DATA_HELP, labelled, needs_extra, size_of
from lwrefinenet.console import int8_report, parity_report, say, watched
from lwrefinenet.errors import UsageError
from lwrefinenet.export.export import Quantise, export_weights
from lwrefinenet.export.formats import SUFFIXES, Format
from lwrefinenet.files import write_atomically
from lwrefinenet.predict_files import expand_inputs
from lwrefinenet.provenance import provenance


class ExportFormat(StrEnum):
    """What can be written."""

    ONNX = "onnx"
    OPENVINO = "openvino"


class Precision(StrEnum):
    """What a graph computes with."""

    FP32 = "fp32"
    BF16 = "bf16"
    FP16 = "fp16"
    INT8 = "int8"


def export(
    weights: Annotated[str, typer.Argument(help="A name from `lwrefinenet models`, or a .safetensors file.")],
    format_: Annotated[ExportFormat, typer.Option("--format", help="For ONNX Runtime and others, or OpenVINO.")],
    precision: Annotated[
        Precision, typer.Option(help="Of the graph; int8 needs --data and --calibration.")
    ] = Precision.FP32,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The file, .onnx or .xml; by default named after the weights.")
    ] = None,
    static: Annotated[str | None, typer.Option(help="HEIGHTxWIDTH: a graph for pictures of this size only.")] = None,
    pictures: Annotated[
        list[str] | None,
        typer.Option(help="Prove it on these pictures: a file, folder or glob; may be given several times."),
    ] = None,
    calibration: Annotated[
        list[str] | None, typer.Option(help="int8: pictures like those of use: a file, folder or glob; several times.")
    ] = None,
    data: Annotated[str | None, typer.Option(help=f"int8: labelled pictures to guard the score. {DATA_HELP}.")] = None,
    split: Annotated[str, typer.Option(help="int8: the split of --data that is scored.")] = "val",
    max_drop: Annotated[float, typer.Option(help="int8: points of mean IoU that it may cost at most.", min=0)] = 0.5,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a file that exists.")] = False,
    report: Annotated[Path | None, typer.Option(help="Also write what was measured to this file, as JSON.")] = None,
) -> None:
    """Write weights as one graph from uint8 picture to uint8 mask, and prove that it gives the same mask as PyTorch."""
    form = Format.named(format_.value, precision.value)
    size = None if static is None else size_of(static, "--static")
    quantise = None
    if precision is Precision.INT8:
        quantise = _quantiser(form, calibration, data, split, max_drop / 100)
    elif calibration or data:
        raise UsageError("--calibration and --data are for --precision int8; leave them out.")
    exported = export_weights(
        weights,
        output or Path(f"{Path(weights).name.removesuffix('.safetensors')}.{precision.value}{SUFFIXES[form.name]}"),
        form,
        precision=precision.value,
        size=size,
        pictures=expand_inputs(pictures or []),
        overwrite=overwrite,
        quantise=quantise,
    )
    parity_report(exported)
    if report is not None:
        write_atomically(report, (json.dumps({**exported.to_dict(), **provenance()}, indent=2) + "\n").encode())


def _quantiser(form: Format, calibration: list[str] | None, data: str | None, split: str, max_drop: float) -> Quantise:
    if not calibration or data is None:
        raise UsageError(
            "int8 needs pictures to learn the range of values from, and labelled ones to guard the score: "
            "--calibration my_data/images/train --data my_data."
        )
    files = expand_inputs(calibration)
    scored = labelled(data, split)
    with needs_extra("export"):
        from lwrefinenet.export.int8 import Guard, quantise
    watch = lambda indices: watched(indices, what="scoring", total=len(scored))  # noqa: E731
    guard = Guard(files, scored, max_drop, watch)

    def run(graph: Any, about: Any, meta: Any) -> tuple[Any, Any]:
        quantised, report = quantise(graph, about, meta, form=form, guard=guard, say=say)
        int8_report(report)
        return quantised, report

    return run
