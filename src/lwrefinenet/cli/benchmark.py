"""`lwrefinenet benchmark`: how fast things are on this machine, with what they are compared with."""

import json
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from lwrefinenet.cli.options import DATA_HELP, labelled, needs_extra, size_of
from lwrefinenet.console import inference_speed_report, loader_rate_report, say, training_speed_report, watched
from lwrefinenet.errors import UsageError
from lwrefinenet.files import write_atomically
from lwrefinenet.provenance import provenance
from lwrefinenet.training.recipe import Recipe
from lwrefinenet.weights import DEFAULT_WEIGHTS, SHIPPED_FOLDER

TRAINED = "rf_lw_mobilenetv2"
ROUNDS = {"inference": 20, "training": 5}


def benchmark(
    models: Annotated[
        list[str] | None,
        typer.Argument(help=f"Weights, or names of networks; {DEFAULT_WEIGHTS}, or {TRAINED} for --train."),
    ] = None,
    train: Annotated[
        bool, typer.Option("--train", help="A training step, side by side with the published code's way.")
    ] = False,
    loader: Annotated[bool, typer.Option("--loader", help="Pictures per second and core, for training.")] = False,
    size: Annotated[
        str | None,
        typer.Option(help="WIDTHxHEIGHT of the pictures, 625x468 unless given, or of the training crops, 500x500."),
    ] = None,
    backends: Annotated[
        str | None,
        typer.Option(help="Ways of running, BACKEND,BACKEND,...; by default what is installed and possible."),
    ] = None,
    against: Annotated[
        str | None,
        typer.Option(help="Other networks: torchvision:NAME or smp:ARCHITECTURE-ENCODER, separated by commas."),
    ] = None,
    picture: Annotated[Path, typer.Option(help="What is segmented, resized to --size.")] = SHIPPED_FOLDER
    / "street.jpg",
    plot: Annotated[
        Path | None, typer.Option(help="Also draw score against time on the fastest exact backend into this PNG.")
    ] = None,
    batch: Annotated[
        int | None, typer.Option(help="Pictures that the network sees at once; 1, or 6 in a step of --train.", min=1)
    ] = None,
    classes: Annotated[int, typer.Option(help="--train: classes of the network.", min=1, max=255)] = 21,
    precision: Annotated[str, typer.Option(help="--train: ours: auto, float32 or bfloat16.")] = "auto",
    data: Annotated[str | None, typer.Option(help=f"--loader: {DATA_HELP}.")] = None,
    recipe: Annotated[Path, typer.Option(help="--loader: whose augmentation.")] = Path("recipes/custom.toml"),
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="--loader: override a field of the recipe: key=value.")
    ] = None,
    rounds: Annotated[
        int | None, typer.Option(help="How often each thing is measured, by turns; 20, or 5 for training.", min=1)
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Also write the result to this file, as JSON.")
    ] = None,
) -> None:
    """Measure speed on this machine: of networks from JPEG to mask, of a training step (--train), or of loading (--loader)."""
    if train and loader:
        raise UsageError("--train and --loader are two measurements; give one of them.")
    width, height = size_of(size or ("500x500" if train or loader else "625x468"), "--size", "WIDTHxHEIGHT")
    if train:
        job = (_one(models), classes, (height, width), batch or 6, precision, rounds or ROUNDS["training"])
        with needs_extra("train"):
            result, report = _training(*job), training_speed_report
    elif loader:
        with needs_extra("train"):
            changed = Recipe.from_toml(recipe, [*(set_ or []), f"crop_size=[{height}, {width}]"])
            result, report = _loading(data, changed, rounds or ROUNDS["training"]), loader_rate_report
    else:
        names = [*(models or [DEFAULT_WEIGHTS]), *_listed(against)]
        with needs_extra("bench"):
            from lwrefinenet.benchmark.accuracy_plot import accuracy_plot

            asked = (names, _listed(backends), (height, width), picture, rounds or ROUNDS["inference"], batch or 1)
            result, report = _inference(*asked), inference_speed_report
    if output is not None:
        write_atomically(output, (json.dumps({**result, **provenance()}, indent=2) + "\n").encode())
    report(result)  # after the file, which a pipe that closes early does not lose
    if plot is not None and not (train or loader):
        write_atomically(plot, accuracy_plot(result))
        say(f"Wrote {plot}.")


def _inference(
    names: list[str],
    backends: list[str],
    size: tuple[int, int],
    picture: Path,
    rounds: int,
    batch: int,
) -> dict[str, Any]:
    from lwrefinenet.benchmark.backends import check_backend, usual_backends
    from lwrefinenet.benchmark.inference import inference_speed

    chosen = backends or usual_backends()
    for backend in chosen:
        check_backend(backend)
    return inference_speed(
        names,
        chosen,
        size=size,
        threads=torch.get_num_threads(),
        picture=picture,
        rounds=rounds,
        batch=batch,
        watch=lambda it: watched(it, what="pictures by turns", total=rounds),
    )


def _training(
    model: str, classes: int, size: tuple[int, int], batch: int, precision: str, rounds: int
) -> dict[str, Any]:
    from lwrefinenet.benchmark.training_speed import training_speed
    from lwrefinenet.benchmark.training_steps import StepJob

    job = StepJob(model, classes, size, batch, precision, torch.get_num_threads())
    job.network()  # a name that is not known is complained of here, not by another process
    return training_speed(job, rounds=rounds, watch=lambda it: watched(it, what="steps by turns", total=rounds))


def _loading(data: str | None, recipe: Recipe, rounds: int) -> dict[str, Any]:
    from lwrefinenet.benchmark.loader_rate import loader_rate
    from lwrefinenet.preprocess import Preprocess
    from lwrefinenet.training.start import augmentation

    if data is None:
        raise UsageError("--loader needs pictures: --data DIR.")
    dataset = labelled(data, recipe.train_split)
    transform = augmentation(recipe, Preprocess(), dataset.labels.ignore_index)
    result = loader_rate(
        dataset,
        transform,
        rounds=rounds,
        watch=lambda indices: watched(indices, what="rounds", total=rounds + 1),
    )
    return {**result, "recipe": recipe.to_toml()}


def _one(models: list[str] | None) -> str:
    if models and len(models) > 1:
        raise UsageError(f"--train measures one network, and {len(models)} were given: {', '.join(models)}.")
    return models[0] if models else TRAINED


def _listed(names: str | None) -> list[str]:
    return [name.strip() for name in names.split(",") if name.strip()] if names else []
