"""`lwrefinenet benchmark`: how fast things are on this machine, with what they are compared with."""

import json
import re
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from lwrefinenet.cli.options import DATA_HELP, needs_extra
from lwrefinenet.console import loader_rate_report, training_speed_report, watched
from lwrefinenet.data.layouts import open_dataset
from lwrefinenet.data.stages import parse_data_arguments
from lwrefinenet.errors import UsageError
from lwrefinenet.files import write_atomically
from lwrefinenet.provenance import provenance
from lwrefinenet.training.recipe import Recipe


def benchmark(
    model: Annotated[str, typer.Argument(help="Network to train, for --train.")] = "rf_lw_mobilenetv2",
    train: Annotated[
        bool, typer.Option("--train", help="A training step, side by side with the published code's way.")
    ] = False,
    loader: Annotated[bool, typer.Option("--loader", help="Pictures per second and core, for training.")] = False,
    size: Annotated[str, typer.Option(help="Of the training crops: HEIGHTxWIDTH.")] = "500x500",
    batch: Annotated[int, typer.Option(help="--train: pictures in a step.", min=1)] = 6,
    classes: Annotated[int, typer.Option(help="--train: classes of the network.", min=1, max=255)] = 21,
    precision: Annotated[str, typer.Option(help="--train: ours: auto, float32 or bfloat16.")] = "auto",
    data: Annotated[str | None, typer.Option(help=f"--loader: {DATA_HELP}.")] = None,
    recipe: Annotated[Path, typer.Option(help="--loader: whose augmentation.")] = Path("recipes/custom.toml"),
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="--loader: override a field of the recipe: key=value.")
    ] = None,
    rounds: Annotated[int, typer.Option(help="How often each thing is measured, by turns.", min=1)] = 5,
    output: Annotated[Path | None, typer.Option(help="Also write the result to this file, as JSON.")] = None,
) -> None:
    """Measure speed on this machine: of a training step (--train) or of loading pictures (--loader)."""
    if train == loader:
        raise UsageError("say what to measure, as yet one of --train (a training step) and --loader (its pictures).")
    height, width = _size(size)
    with needs_extra("train"):
        if train:
            result = _training(model, classes, (height, width), batch, precision, rounds)
        else:
            result = _loading(data, Recipe.from_toml(recipe, [*(set_ or []), f"crop_size=[{height}, {width}]"]), rounds)
    if output is not None:
        write_atomically(output, (json.dumps({**result, **provenance()}, indent=2) + "\n").encode())


def _training(
    model: str, classes: int, size: tuple[int, int], batch: int, precision: str, rounds: int
) -> dict[str, Any]:
    from lwrefinenet.benchmark.training_speed import training_speed
    from lwrefinenet.benchmark.training_steps import StepJob

    job = StepJob(model, classes, size, batch, precision, torch.get_num_threads())
    job.network()  # a name that is not known is complained of here, not by another process
    result = training_speed(job, rounds=rounds, watch=lambda it: watched(it, what="steps by turns", total=rounds))
    training_speed_report(result)
    return result


def _loading(data: str | None, recipe: Recipe, rounds: int) -> dict[str, Any]:
    from lwrefinenet.benchmark.loader_rate import loader_rate
    from lwrefinenet.preprocess import Preprocess
    from lwrefinenet.training.start import augmentation

    if data is None:
        raise UsageError("--loader needs pictures: --data DIR.")
    ((_, root),) = parse_data_arguments([data]).items()
    dataset = open_dataset(root, recipe.train_split)
    transform = augmentation(recipe, Preprocess(), dataset.labels.ignore_index)
    result = loader_rate(
        dataset,
        transform,
        rounds=rounds,
        watch=lambda indices: watched(indices, what="rounds", total=rounds + 1),
    )
    loader_rate_report(result)
    return {**result, "recipe": recipe.to_toml()}


def _size(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d+)x(\d+)", text)
    if match is None or min(int(match[1]), int(match[2])) < 32:
        raise UsageError(f"--size {text!r}: expected HEIGHTxWIDTH in pixels, at least 32x32, for example 500x500.")
    return int(match[1]), int(match[2])
