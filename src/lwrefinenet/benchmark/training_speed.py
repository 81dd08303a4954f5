"""How much faster our training step is than the published code's, measured side by side."""

from collections.abc import Callable, Iterable
from contextlib import ExitStack
from typing import Any

import torch

from lwrefinenet.benchmark.spread import spread
from lwrefinenet.benchmark.step_process import step_process
from lwrefinenet.benchmark.training_steps import WAYS, StepJob
from lwrefinenet.benchmark.worker import Answer, Worker
from lwrefinenet.training.processes import Processes


def training_speed(
    job: StepJob, *, rounds: int, watch: Callable[[Iterable[int]], Iterable[int]] = iter
) -> dict[str, Any]:
    """Time one step of each way in turns, each way in its own process, after steps that warm up and do not count.

    rounds: steps of each way.  watch: passes the round numbers through, for a progress bar.
    Returns, ready for JSON: what was measured, `seconds` of each way (median, quartiles, every round), `ratio` of the
    medians, the same of the work of all cores (`core_seconds`, `core_ratio`), which other work on the machine disturbs less,
    and `losses`: those of the warm-up steps, which both ways must agree on to be comparable.
    RunError where a process ends before its time.
    """
    arithmetic = Processes.start(job.precision, torch.device("cpu")).arithmetic
    answers: dict[str, list[Answer]] = {way: [] for way in WAYS}
    with ExitStack() as stack:
        processes: dict[str, Worker] = {}
        losses: dict[str, list[float]] = {}
        for way in WAYS:  # one after the other, so that they do not disturb each other's warm-up
            processes[way] = stack.enter_context(step_process(way, job))
            losses[way] = processes[way].ready()["losses"]
        for _ in watch(range(rounds)):
            for way, process in processes.items():
                answers[way].append(process.ask())
    timings = {way: spread([one["seconds"] for one in values]) for way, values in answers.items()}
    work = {way: spread([one["core_seconds"] for one in values]) for way, values in answers.items()}
    return {
        "model": job.model,
        "num_classes": job.num_classes,
        "crop_size": list(job.size),
        "batch_size": job.batch,
        "threads": job.threads,
        "ways": {
            "ours": f"{arithmetic}, channels_last, freed memory kept, frozen batch norm, SGD",
            "published": "float32, NCHW, frozen batch norm, SGD for encoder and decoder each",
        },
        "seconds": timings,
        "ratio": timings["published"]["median"] / timings["ours"]["median"],
        "core_seconds": work,
        "core_ratio": work["published"]["median"] / work["ours"]["median"],
        "losses": losses,
    }
