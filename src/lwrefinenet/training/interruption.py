"""Reasons to stop early and cleanly: Ctrl-C, a termination signal, or a time limit."""

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class StopRequest:
    """Says whether, and why, the run should stop after the step in hand.

    learning: whether there are steps to wait for; a signal before that stops at once, as there is nothing to save.
    """

    def __init__(self, time_limit: float | None) -> None:
        self.deadline = None if time_limit is None else time.monotonic() + time_limit
        self.signal: signal.Signals | None = None
        self.learning = False

    @property
    def reason(self) -> str | None:
        """One phrase, or None while the run may go on."""
        if self.signal is not None:
            return f"signal {self.signal.name}"
        if self.deadline is not None and time.monotonic() >= self.deadline:
            return "the time limit"
        return None


@contextmanager
def stop_requests(time_limit: float | None = None) -> Iterator[StopRequest]:
    """Listen to SIGINT and SIGTERM inside the block; time_limit in seconds.

    A signal before the first step, and a second SIGINT, do not wait: KeyboardInterrupt. Only the main thread can listen; in
    another one, signals do what they always do.
    """
    request = StopRequest(time_limit)

    def listen(number: int, _frame: FrameType | None) -> None:
        if not request.learning or number == request.signal == signal.SIGINT:
            raise KeyboardInterrupt
        request.signal = signal.Signals(number)

    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    former = {number: signal.signal(number, listen) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield request
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
