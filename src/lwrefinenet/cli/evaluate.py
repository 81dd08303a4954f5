"""`lwrefinenet evaluate`: scores with their protocol."""

import json
from pathlib import Path
from typing import Annotated

import typer

from lwrefinenet import weights as weights_files
from lwrefinenet.cli.options import (
    DATA_HELP,
    WEIGHTS_HELP,
    CompileOption,
    DeviceOption,
    PrecisionOption,
    Resize,
    ResizeOption,
    Runtime,
    RuntimeOption,
    TileOption,
    TtaOption,
    TtaScalesOption,
    labelled,
    tta_of,
)
from lwrefinenet.console import evaluation_report, watched
from lwrefinenet.data.layouts import READERS
from lwrefinenet.evaluate import evaluate as run_evaluation
from lwrefinenet.files import write_atomically
from lwrefinenet.predict import Predictor
from lwrefinenet.provenance import provenance


def evaluate(
    weights: Annotated[str, typer.Argument(help=WEIGHTS_HELP)],
    data: Annotated[str, typer.Option(help=f"{DATA_HELP} (NAME: {', '.join(READERS)}).")],
    split: Annotated[
        str | None, typer.Option(help="By default the one that scores are stated on: test, or val.")
    ] = None,
    published_crop: Annotated[
        bool, typer.Option("--published-crop", help="NYU Depth v2: score the 625x468 part, as published.")
    ] = False,
    device: DeviceOption = "auto",
    runtime: RuntimeOption = Runtime.AUTO,
    precision: PrecisionOption = None,
    compile_: CompileOption = False,
    tile: TileOption = None,
    tta: TtaOption = False,
    tta_scales: TtaScalesOption = None,
    resize: ResizeOption = Resize.BILINEAR,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
    output: Annotated[Path | None, typer.Option(help="Also write the JSON to this file.")] = None,
) -> None:
    """Score weights on a labelled split: mean IoU, IoU per class, pixel accuracy, with their protocol."""
    dataset = labelled(data, split, published_crop=published_crop)
    predictor = Predictor.from_weights(
        weights,
        device=device,
        runtime=runtime.value,
        precision=precision,
        compile=compile_,
        tile=tile,
        tta=tta_of(tta, tta_scales),
        resize=resize.value,
    )
    evaluation = run_evaluation(
        predictor.predict_mask,
        dataset,
        labels=predictor.meta.labels,
        resize=resize.value,
        scales=predictor.views,
        progress=lambda indices: watched(indices, what="evaluating", total=len(dataset)),
    )
    text = json.dumps(
        {**evaluation.to_dict(), "weights": _identity(weights), "runtime": predictor.network.name, **provenance()},
        indent=2,
    )
    if as_json:
        typer.echo(text)
    else:
        evaluation_report(evaluation)
    if output is not None:
        write_atomically(output, (text + "\n").encode())


def _identity(name_or_path: str) -> dict[str, str]:
    return {"name": name_or_path, "sha256": weights_files.sha256_of(weights_files.locate(name_or_path))}
