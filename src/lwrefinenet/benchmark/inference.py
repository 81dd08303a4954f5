"""How long a picture takes from the bytes of its file to its colour mask, on each network in each way, side by side."""

from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from lwrefinenet.benchmark.backends import PUBLISHED
from lwrefinenet.benchmark.inference_process import InferenceJob, inference_process
from lwrefinenet.benchmark.pipelines import PARTS
from lwrefinenet.benchmark.subjects import facts_of, is_exported
from lwrefinenet.benchmark.worker import Answer, Worker
from lwrefinenet.images import read_picture

MOST_AT_ONCE = 12  # processes; each holds some hundred megabytes
END_TO_END = PARTS[:-1]  # to the colour mask; writing it as PNG is stated apart


def inference_speed(
    subjects: Sequence[str],
    backends: Sequence[str],
    *,
    size: tuple[int, int],
    threads: int,
    picture: Path,
    rounds: int,
    batch: int = 1,
    watch: Callable[[Iterable[int]], Iterable[int]] = iter,
) -> dict[str, Any]:
    """Run one picture through every subject on every backend, in turns, each in its own process.

    size: (height, width).  rounds: pictures of each.  batch: how many of them the network sees at once.
    watch: passes the round numbers through, for a progress bar.
    Returns, ready for JSON, for each subject what `facts_of` says, and for each way of running it `milliseconds` of each part and
    `end_to_end` (p50, p95, every round), the network's `pictures_per_second`, the `ratio` of the published way's median to its own
    (of a batch, by `pictures_per_second`), how its logits and labels compare with the first way's, `megabytes` of its file and
    `peak_megabytes` of its process.
    UsageError for what is not known; RunError where a process ends before its time.
    """
    # First of all, so that what is not known is complained of before anything is measured.
    read_picture(picture)
    facts = {subject: facts_of(subject, size) for subject in subjects}
    with TemporaryDirectory() as folder:
        jobs = [
            InferenceJob(subject, backend, size, threads, str(picture), folder, batch)
            for subject in subjects
            for backend in (("exported",) if is_exported(subject) else backends)
        ]
        about: dict[InferenceJob, Answer] = {}
        answers: dict[InferenceJob, list[Answer]] = {job: [] for job in jobs}
        for group in _groups(jobs):
            _by_turns(group, rounds, watch, about, answers)
        ways = {job: _way(job, about[job], answers[job], jobs) for job in jobs}
    return {
        "size": list(size),
        "batch": batch,
        "threads": threads,
        "rounds": rounds,
        "picture": picture.name,
        "subjects": {subject: {**facts[subject], "ways": _ways_of(subject, ways, batch)} for subject in subjects},
    }


def _groups(jobs: Sequence[InferenceJob]) -> list[list[InferenceJob]]:
    """All together if they fit into memory; else subjects after one another, as many at a time as fit."""
    groups: list[list[InferenceJob]] = [[]]
    for subject in dict.fromkeys(job.subject for job in jobs):
        own = [job for job in jobs if job.subject == subject]
        if groups[-1] and len(groups[-1]) + len(own) > MOST_AT_ONCE:
            groups.append([])
        groups[-1] += own
    return groups


def _by_turns(
    jobs: Sequence[InferenceJob],
    rounds: int,
    watch: Callable[[Iterable[int]], Iterable[int]],
    about: dict[InferenceJob, Answer],
    answers: dict[InferenceJob, list[Answer]],
) -> None:
    """Fill `about` with what each process says of itself, and `answers` with each of its rounds."""
    with ExitStack() as stack:
        workers: dict[InferenceJob, Worker] = {}
        for job in jobs:  # one after the other, so that they do not disturb each other's warm-up
            workers[job] = stack.enter_context(inference_process(job))
            about[job] = workers[job].ready()
        for _ in watch(range(rounds)):
            for job, worker in workers.items():
                answers[job].append(worker.ask())


def _ways_of(subject: str, ways: dict[InferenceJob, dict[str, Any]], batch: int) -> dict[str, Any]:
    own = {job.backend: way for job, way in ways.items() if job.subject == subject}
    if published := next((own[backend] for backend in PUBLISHED if backend in own), None):
        for way in own.values():
            whole = published["end_to_end"]["p50"] / way["end_to_end"]["p50"]
            # Of a batch only the network's part is measured: the others have one picture.
            way["ratio"] = whole if batch == 1 else way["pictures_per_second"] / published["pictures_per_second"]
    return own


def _way(job: InferenceJob, about: Answer, answers: list[Answer], jobs: Sequence[InferenceJob]) -> dict[str, Any]:
    # Of a batch two parts have all pictures and the others one; times are those of a single picture.
    pictures = dict.fromkeys(("prepare", "network"), job.batch)
    parts = {part: [1000 * answer["seconds"][part] / pictures.get(part, 1) for answer in answers] for part in PARTS}
    whole = [sum(times) for times in zip(*(parts[part] for part in END_TO_END), strict=True)]
    first = next(other for other in jobs if other.subject == job.subject)
    return {
        "runtime": about["runtime"],
        "end_to_end": {**_percentiles(whole), "rounds": whole},
        "milliseconds": {part: _percentiles(values) for part, values in parts.items()},
        "pictures_per_second": 1000 / _percentiles(parts["network"])["p50"],
        "megabytes": about["megabytes"],
        "peak_megabytes": answers[-1]["peak_megabytes"],
        **_compared(job, first),
    }


def _compared(job: InferenceJob, first: InferenceJob) -> dict[str, float]:
    """Labels of both ways' logits, each resized bilinearly, and the largest difference of logits in their standard deviation."""
    with np.load(job.results()) as own, np.load(first.results()) as other:
        difference = np.abs(own["logits"] - other["logits"]).max() / other["logits"].std()
        return {
            "equal_labels": float((own["labels"] == other["labels"]).mean()),
            "relative_difference": float(difference),
        }


def _percentiles(values: Sequence[float]) -> dict[str, float]:
    return {"p50": float(np.percentile(values, 50)), "p95": float(np.percentile(values, 95))}
