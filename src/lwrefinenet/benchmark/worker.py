"""A process of its own for each thing that is measured, so that what one does to its memory and threads is no gain of the other."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

from lwrefinenet.errors import RunError

Answer = dict[str, Any]
ANSWER = "answer: "  # how the line begins that holds one


class Worker:
    """Another process, `python -m MODULE ARGUMENTS...`, which prepares itself, and does one thing each time it is asked to.

    what: what it does, for the sentence that says it failed.  threads: how many it may compute with.
    """

    def __init__(self, module: str, arguments: Sequence[str], *, what: str, threads: int) -> None:
        self.what = what
        self._process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": str(threads)},
        )

    def ready(self) -> Answer:
        """Wait until it is prepared, and get what it says then; RunError where it ended instead."""
        return self._answer()

    def ask(self) -> Answer:
        """Have it do its thing once more; RunError where it ended instead."""
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # it has ended, which is said below
            self._process.stdin.write("go\n")
            self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> Answer:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith(ANSWER):  # libraries draw their progress on the same stream
                answer: Answer = json.loads(line.removeprefix(ANSWER))
                return answer
        raise RunError(
            f"the process that measures {self.what} ended with {self._process.wait()}, of too little memory perhaps. "
            "What it said stands above."
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.communicate()


def serve(ready: Answer, once: Callable[[], Answer]) -> None:
    """What such a process does when it is prepared: say so, and answer each line of its standard input."""
    print(f"\n{ANSWER}{json.dumps(ready)}", flush=True)
    for _ in sys.stdin:
        print(f"\n{ANSWER}{json.dumps(once())}", flush=True)
