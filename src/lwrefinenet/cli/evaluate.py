"""`lwrefinenet evaluate`: scores with their protocol."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

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
    complain,
    labelled,
    pictures_of,
    tta_of,
)
from lwrefinenet.console import evaluation_report, say, watched
from lwrefinenet.data.dataset import SegmentationDataset
from lwrefinenet.data.layouts import READERS
from lwrefinenet.data.unlabelled import UnlabelledPictures
from lwrefinenet.dump import Dump
from lwrefinenet.evaluate import Evaluation, check_same_classes
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
    normals_from_depth: Annotated[
        bool,
        typer.Option("--normals-from-depth", help="Score normals by what follows from the depth where a set has none."),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Also write the JSON to this file.")] = None,
    dump: Annotated[
        Path | None,
        typer.Option(
            help="Also write the predicted mask of every picture to this folder, as the data set's server wants it."
        ),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace dumped masks that exist.")] = False,
) -> None:
    """Score weights on a labelled split: mean IoU, IoU per class, pixel accuracy, with their protocol."""
    pictures = _opened(data, split, published_crop, dump)
    if normals_from_depth and isinstance(pictures, SegmentationDataset):
        pictures = replace(pictures, normals_from_depth=True)
    kept = None if dump is None else Dump(dump, pictures, overwrite=overwrite)
    # Before a training that goes on may write others in their place.
    identity = {"name": weights, "sha256": weights_files.sha256_of(weights_files.locate(weights))}
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
    found, evaluation = _predicted(predictor, pictures, kept, resize.value)
    if kept is not None:
        found["dump"] = str(kept.folder)
    if predictor.meta.adjustment:
        identity["offsets"] = predictor.meta.adjustment
    text = json.dumps({**found, "weights": identity, "runtime": predictor.network.name, **provenance()}, indent=2)
    if output is not None:  # before the report, so that a pipe that closes early does not lose it
        write_atomically(output, (text + "\n").encode())
    if as_json:
        typer.echo(text)
    else:
        if evaluation is not None:
            evaluation_report(evaluation)
            if predictor.meta.has_offsets_from(pictures.name, pictures.split):
                say("The offsets of its classes were found on these very pictures: others may well score lower.")
        if kept is not None:
            say(f"{len(kept)} masks of {pictures.name} {pictures.split} are in {kept.folder}.")


def _opened(
    data: str, split: str | None, published_crop: bool, dump: Path | None
) -> SegmentationDataset | UnlabelledPictures:
    """With --dump also a split whose masks are not public; it is said that it will not be scored."""
    if dump is None:
        return labelled(data, split, published_crop=published_crop)
    pictures = pictures_of(data, split, published_crop=published_crop)
    if isinstance(pictures, UnlabelledPictures):
        complain(f"{pictures.name} {pictures.split} is predicted and not scored: {pictures.why}.")
    return pictures


def _predicted(
    predictor: Predictor, pictures: SegmentationDataset | UnlabelledPictures, kept: Dump | None, resize: str
) -> tuple[dict[str, Any], Evaluation | None]:
    """What there is to tell of a split once it is predicted, and its scores, if it has masks."""
    labels, total = predictor.meta.labels, len(pictures)
    if isinstance(pictures, SegmentationDataset):
        evaluation = run_evaluation(
            predictor.predict_maps,
            pictures,
            labels=labels,
            tasks=predictor.meta.tasks,
            resize=resize,
            views=lambda: predictor.views,
            interval=True,
            keep=kept.write if kept else lambda index, mask: None,
            progress=lambda indices: watched(indices, what="evaluating", total=total),
        )
        return evaluation.to_dict(), evaluation
    assert kept is not None  # else it would not have been opened
    check_same_classes(labels, pictures)
    for index in watched(range(total), what="predicting", total=total):
        kept.write(index, predictor.predict_mask(pictures.picture(index)))
    return {"dataset": pictures.name, "split": pictures.split, "pictures": total, "not_scored": pictures.why}, None
