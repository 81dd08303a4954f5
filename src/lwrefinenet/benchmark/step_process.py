"""A process that takes training steps in one way: `python -m lwrefinenet.benchmark.step_process WAY JOB`."""

import json
import sys
import time
from dataclasses import asdict

import torch

from lwrefinenet.benchmark.training_steps import WAYS, StepJob
from lwrefinenet.benchmark.worker import Answer, Worker, serve

WARM_UP = 1  # steps that do not count: the first one fetches memory and chooses kernels


def step_process(way: str, job: StepJob) -> Worker:
    """The process; ready, it says the `losses` of its warm-up, and then `seconds` and `core_seconds` (all cores') of each step."""
    arguments = [way, json.dumps(asdict(job))]
    return Worker(__name__, arguments, what=f"the training step {way!r}", threads=job.threads)


def main(way: str, job: StepJob) -> None:
    """Warm up, then a step whenever asked."""
    torch.set_num_threads(job.threads)
    step = WAYS[way](job)

    def once() -> Answer:
        begun, worked = time.perf_counter(), time.process_time()
        step()
        return {"seconds": time.perf_counter() - begun, "core_seconds": time.process_time() - worked}

    serve({"losses": [step() for _ in range(WARM_UP)]}, once)


if __name__ == "__main__":
    given = json.loads(sys.argv[2])
    main(sys.argv[1], StepJob(**{**given, "size": tuple(given["size"])}))
