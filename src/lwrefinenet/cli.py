"""The command line: parse, call, print."""

import json
import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from lwrefinenet import __version__, weights
from lwrefinenet.console import (
    TrainingConsole,
    console,
    error_console,
    evaluation_report,
    networks_table,
    prediction_report,
    say,
    waiting,
    watched,
    weights_table,
)
from lwrefinenet.data.layouts import open_dataset
from lwrefinenet.errors import LwRefineNetError, UsageError
from lwrefinenet.evaluate import evaluate as run_evaluation
from lwrefinenet.files import write_atomically
from lwrefinenet.images import MAX_PIXELS
from lwrefinenet.labels import LABEL_SETS
from lwrefinenet.meta import Source, WeightsMeta
from lwrefinenet.models.published import import_published
from lwrefinenet.predict import Predictor, resolve_device
from lwrefinenet.predict_files import expand_inputs, predict_files
from lwrefinenet.preprocess import Preprocess
from lwrefinenet.provenance import provenance
from lwrefinenet.training.recipe import Recipe, field_list
from lwrefinenet.weights import DEFAULT_WEIGHTS

app = typer.Typer(add_completion=False, no_args_is_help=True, rich_markup_mode=None, pretty_exceptions_enable=False)


class Resize(StrEnum):
    """How logits are brought to the picture's size."""

    BILINEAR = "bilinear"
    BICUBIC = "bicubic"


WeightsOption = Annotated[str, typer.Option(help="A name from `lwrefinenet models`, or a .safetensors file.")]
DeviceOption = Annotated[str, typer.Option(help="auto, cpu, cuda[:n] or mps.")]
ResizeOption = Annotated[Resize, typer.Option(help="How logits are resized; bicubic is the published behaviour.")]


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


@app.command()
def predict(
    inputs: Annotated[list[str], typer.Argument(help="Pictures, folders or globs.", metavar="INPUT...")],
    weights: WeightsOption = DEFAULT_WEIGHTS,
    output: Annotated[Path, typer.Option(help="Folder for masks and overlays.")] = Path("output"),
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace outputs that exist.")] = False,
    overlay: Annotated[bool, typer.Option("--overlay/--no-overlay", help="Write the overlay beside the mask.")] = True,
    sheet: Annotated[
        bool, typer.Option("--sheet", help="Write picture, mask, overlay and legend side by side.")
    ] = False,
    device: DeviceOption = "auto",
    resize: ResizeOption = Resize.BILINEAR,
    max_pixels: Annotated[int, typer.Option(help="Refuse larger pictures.", min=1)] = MAX_PIXELS,
) -> None:
    """Write the class mask and an overlay of each picture."""
    files = expand_inputs(inputs)
    with waiting(f"loading {weights}"):
        predictor = Predictor.from_weights(weights, device=device, resize=resize.value)
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
            prediction_report(result, weights)
    if len(files) > 1:
        seconds = time.perf_counter() - started
        say(
            f"{len(files) - failed} of {len(files)} pictures done in {seconds:.1f} s; masks and overlays are in {output}."
        )
    if failed:
        raise typer.Exit(1)


@app.command()
def evaluate(
    weights: Annotated[str, typer.Argument(help="A name from `lwrefinenet models`, or a .safetensors file.")],
    data: Annotated[Path, typer.Option(help="Data folder: CamVid, NYU Depth v2, or your own with dataset.toml.")],
    split: Annotated[str | None, typer.Option(help="By default test; val for a folder of your own.")] = None,
    published_crop: Annotated[
        bool, typer.Option("--published-crop", help="NYU Depth v2: score the 625x468 part, as published.")
    ] = False,
    device: DeviceOption = "auto",
    resize: ResizeOption = Resize.BILINEAR,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
    output: Annotated[Path | None, typer.Option(help="Also write the JSON to this file.")] = None,
) -> None:
    """Score weights on a labelled split: mean IoU, IoU per class, pixel accuracy, with their protocol."""
    dataset = open_dataset(data, split, published_crop=published_crop)
    predictor = Predictor.from_weights(weights, device=device, resize=resize.value)
    evaluation = run_evaluation(
        predictor.predict_mask,
        dataset,
        labels=predictor.meta.labels,
        resize=resize.value,
        progress=lambda indices: watched(indices, what="evaluating", total=len(dataset)),
    )
    text = json.dumps({**evaluation.to_dict(), "weights": _identity(weights), **provenance()}, indent=2)
    if as_json:
        typer.echo(text)
    else:
        evaluation_report(evaluation)
    if output is not None:
        write_atomically(output, (text + "\n").encode())


@app.command(epilog="Fields of a recipe, with their defaults:\n\n" + field_list())
def train(
    recipe: Annotated[Path, typer.Argument(help="Recipe file (TOML).")],
    data: Annotated[Path, typer.Option(help="Data folder: CamVid, NYU Depth v2, or your own with dataset.toml.")],
    output: Annotated[Path | None, typer.Option(help="Run folder; by default runs/RECIPE.")] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", help="Override a field of the recipe: key=value.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the run's last checkpoint.")] = False,
    time_limit: Annotated[str | None, typer.Option(help="Stop cleanly after this time (25m, 2h); resumable.")] = None,
    device: DeviceOption = "auto",
) -> None:
    """Train a network by a recipe on a data folder."""
    with _extra("train"):
        from lwrefinenet.training.loop import train as train_by_recipe

    chosen = Recipe.from_toml(recipe, set_)
    limit = None if time_limit is None else _seconds(time_limit)
    with TrainingConsole() as listener:
        run = train_by_recipe(
            chosen,
            data,
            output or Path("runs") / recipe.stem,
            device=resolve_device(device),
            listener=listener,
            resume=resume,
            time_limit=limit,
        )
    if run.best.exists():
        say(f"Best weights so far: {run.best}. Use them: lwrefinenet predict PICTURE --weights {run.best}")


@app.command("import")
def import_(
    file: Annotated[Path, typer.Argument(help="Published checkpoint of 2018-2020 (.pth, .pth.tar, .ckpt).")],
    network: Annotated[str, typer.Option(help="The network that it was trained for, e.g. rf_lw_resnet50.")],
    dataset: Annotated[str, typer.Option(help=f"Its classes: {', '.join(LABEL_SETS)}.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The .safetensors file to write.")],
) -> None:
    """Turn a published checkpoint into a self-describing weights file."""
    if dataset not in LABEL_SETS:
        raise UsageError(f"--dataset {dataset!r} is no label set; expected one of {', '.join(LABEL_SETS)}.")
    labels = LABEL_SETS[dataset]
    model = import_published(file, network)
    if model.num_classes != len(labels):
        raise UsageError(
            f"{file}: gives {model.num_classes} classes, but {dataset} has {len(labels)}; choose its --dataset."
        )
    source = Source(
        "published checkpoint", file.name, "academic use only (its authors' terms)", "light-weight-refinenet"
    )
    meta = WeightsMeta(network, labels, Preprocess(), licence=source.licence, sources=(source,))
    weights.save(output, model, meta)
    say(
        f"Wrote {output}: {network}, {len(labels)} classes of {dataset}. Try it: lwrefinenet predict PICTURE --weights {output}"
    )


@app.command()
def models() -> None:
    """List the networks of the family and the weights that come with the package."""
    console.print(networks_table())
    console.print(weights_table())


def main() -> NoReturn:
    """Entry point: an error is one sentence and an exit code (2 misuse, 1 failure), unless --debug asks for more."""
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
        complain(
            f"unexpected {type(error).__name__}: {error}. This is a fault of lwrefinenet; `lwrefinenet --debug ...` shows where."
        )
        raise SystemExit(1) from error
    raise SystemExit(0)


def complain(sentence: str) -> None:
    """One line on the standard error."""
    error_console.print(f"lwrefinenet: {sentence}", markup=False)


@contextmanager
def _extra(name: str) -> Iterator[None]:
    """Imports inside need an optional part of the package, which someone who does without it has not installed."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise UsageError(f"this command needs {error.name}: pip install 'lwrefinenet[{name}]'.") from error


def _identity(name_or_path: str) -> dict[str, str]:
    return {"name": name_or_path, "sha256": weights.sha256_of(weights.locate(name_or_path))}


def _seconds(text: str) -> float:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smh])", text)
    if match is None:
        raise UsageError(f"--time-limit {text!r}: expected a number with s, m or h, for example 25m.")
    return float(match[1]) * {"s": 1, "m": 60, "h": 3600}[match[2]]


if __name__ == "__main__":
    main()
