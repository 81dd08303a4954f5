"""`lwrefinenet predict`: pictures in, masks and overlays out."""

import time
from pathlib import Path
from typing import Annotated

import typer

from lwrefinenet.cli.options import (
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
    WeightsOption,
    complain,
    tta_of,
)
from lwrefinenet.console import prediction_report, say, waiting, watched
from lwrefinenet.images import MAX_PIXELS
from lwrefinenet.predict import Predictor
from lwrefinenet.predict_files import expand_inputs, predict_files
from lwrefinenet.weights import DEFAULT_WEIGHTS


def predict(
    inputs: Annotated[list[str], typer.Argument(help="Pictures, folders or globs.", metavar="INPUT...")],
    weights: WeightsOption = DEFAULT_WEIGHTS,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for masks and overlays.")] = Path("output"),
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace outputs that exist.")] = False,
    overlay: Annotated[bool, typer.Option("--overlay/--no-overlay", help="Write the overlay beside the mask.")] = True,
    sheet: Annotated[
        bool, typer.Option("--sheet", help="Write picture, mask, overlay and legend side by side.")
    ] = False,
    device: DeviceOption = "auto",
    runtime: RuntimeOption = Runtime.AUTO,
    precision: PrecisionOption = None,
    compile_: CompileOption = False,
    tile: TileOption = None,
    tta: TtaOption = False,
    tta_scales: TtaScalesOption = None,
    resize: ResizeOption = Resize.BILINEAR,
    max_pixels: Annotated[int, typer.Option(help="Refuse larger pictures.", min=1)] = MAX_PIXELS,
) -> None:
    """Write the class mask and an overlay of each picture."""
    files = expand_inputs(inputs)
    with waiting(f"loading {weights}"):
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
    results = predict_files(
        predictor, files, output, overwrite=overwrite, overlay=overlay, sheet=sheet, max_pixels=max_pixels
    )
    if len(files) > 1:
        results = watched(results, what="predicting", total=len(files))
    started, failed = time.perf_counter(), 0
    for result in results:
        if result.error is not None:
            failed += 1
            complain(str(result.error))
        elif len(files) == 1:
            prediction_report(result, f"{weights}, {predictor.network.name}")
    if len(files) > 1:
        seconds = time.perf_counter() - started
        say(
            f"{len(files) - failed} of {len(files)} pictures done in {seconds:.1f} s by {predictor.network.name}; masks and "
            f"overlays are in {output}."
        )
    if failed:
        raise typer.Exit(1)
