"""A process of its own for each way of training, so that what one does to its allocator is no gain of the other.

`python -m lwrefinenet.benchmark.step_process WAY JOB` warms up, and for every line that it reads takes one step and prints
its seconds as JSON.
"""

import json
import os
import subprocess
import sys
import time
from dataclasses import asdict
from types import TracebackType
from typing import Any, Self

import torch

from lwrefinenet.benchmark.training_steps import WAYS, StepJob
from lwrefinenet.errors import RunError

WARM_UP = 1  # steps that do not count: the first one fetches memory and chooses kernels


class StepProcess:
    """A way of training that waits in another process and takes a step when it is asked to."""

    def __init__(self, way: str, job: StepJob) -> None:
        self.way = way
        self._process = subprocess.Popen(
            [sys.executable, "-m", "lwrefinenet.benchmark.step_process", way, json.dumps(asdict(job))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": str(job.threads)},
        )

    def ready(self) -> dict[str, Any]:
        """Wait for the warm-up; the `losses` of its steps.

        RunError where it ended instead.
        """
        return self._answer()

    def step(self) -> tuple[float, float]:
        """Seconds of one more step: by the clock, and of work on all cores together."""
        assert self._process.stdin is not None
        self._process.stdin.write("step\n")
        self._process.stdin.flush()
        answer = self._answer()
        return float(answer["seconds"]), float(answer["core_seconds"])

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RunError(
                f"the process that trains in the way {self.way!r} ended with {self._process.wait()}, of too little memory "
                "perhaps; try a smaller --batch or --size. What it said stands above."
            )
        answer: dict[str, Any] = json.loads(line)
        return answer

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.communicate()


def serve(way: str, job: StepJob) -> None:
    """What the process does: warm up, then a step for every line of the standard input."""
    torch.set_num_threads(job.threads)
    step = WAYS[way](job)
    print(json.dumps({"losses": [step() for _ in range(WARM_UP)]}), flush=True)
    for _ in sys.stdin:
        begun, worked = time.perf_counter(), time.process_time()
        step()
        taken = {"seconds": time.perf_counter() - begun, "core_seconds": time.process_time() - worked}
        print(json.dumps(taken), flush=True)


if __name__ == "__main__":
    given = json.loads(sys.argv[2])
    serve(sys.argv[1], StepJob(**{**given, "size": tuple(given["size"])}))
