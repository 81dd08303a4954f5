"""What a run tells those who watch it."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from lwrefinenet.evaluate import Evaluation


@dataclass(frozen=True)
class StepReport:
    """Where a run is after a step. done and total count the steps of the whole run; seconds is what this step took."""

    epoch: int
    epochs: int
    done: int
    total: int
    loss: float
    backbone_lr: float
    decoder_lr: float
    seconds: float


class Listener(Protocol):
    """Who wants to know how a run goes; the command line draws its progress bar from it."""

    def say(self, sentence: str) -> None: ...
    def stepped(self, report: StepReport) -> None: ...
    def validated(self, epoch: int, evaluation: Evaluation, *, best: bool) -> None: ...
    def watch(self, indices: Iterable[int], *, what: str) -> Iterable[int]: ...


class Silence:
    """A listener that tells nobody: for every process of a run but the first."""

    def say(self, sentence: str) -> None: ...
    def stepped(self, report: StepReport) -> None: ...
    def validated(self, epoch: int, evaluation: Evaluation, *, best: bool) -> None: ...
    def watch(self, indices: Iterable[int], *, what: str) -> Iterable[int]:
        return indices
