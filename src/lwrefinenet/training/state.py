"""Everything that changes while a run learns, in one place, so that it can be saved and restored as a whole."""

from dataclasses import dataclass
from typing import Any

from torch.amp import GradScaler
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torch.optim.swa_utils import AveragedModel

from lwrefinenet.models.refinenet import RefineNet
from lwrefinenet.training.learner import Learner


@dataclass
class TrainingState:
    """average: the moving average of the network, None where the recipe has none.  scaler: of float16's loss, or None.

    epoch, step: the next to do; step within the epoch.  epoch_loss, epoch_seconds, epoch_waiting: sums over the steps of this
    epoch so far: of the losses, of the time in the step, and of the time in which the step waited for its pictures.
    best_score, best_epoch: of the validations so far.  finished: nothing is left to do.
    """

    learner: Learner
    average: AveragedModel | None
    optimizer: Optimizer
    schedule: LRScheduler
    scaler: GradScaler | None = None
    epoch: int = 0
    step: int = 0
    epoch_loss: float = 0.0
    epoch_seconds: float = 0.0
    epoch_waiting: float = 0.0
    best_score: float = -1.0
    best_epoch: int = 0
    finished: bool = False

    @property
    def shipped_model(self) -> RefineNet:
        """The network that is validated and saved: the average where there is one."""
        return self.learner.network if self.average is None else self.average.module  # type: ignore[return-value]

    def next_epoch(self) -> None:
        """Turn to the first step of the next epoch."""
        self.epoch, self.step = self.epoch + 1, 0
        self.epoch_loss = self.epoch_seconds = self.epoch_waiting = 0.0

    def to_dict(self) -> dict[str, Any]:
        return {
            "learner": self.learner.state_dict(),
            "average": None if self.average is None else self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "scaler": None if self.scaler is None else self.scaler.state_dict(),
            "position": [self.epoch, self.step],
            "best": [self.best_score, self.best_epoch],
            "epoch_sums": [self.epoch_loss, self.epoch_seconds],
            "epoch_waiting": self.epoch_waiting,
            "finished": self.finished,
        }

    def load_dict(self, values: dict[str, Any]) -> None:
        self.learner.load_state_dict(values["learner"])
        if self.average is not None:
            self.average.load_state_dict(values["average"])
        self.optimizer.load_state_dict(values["optimizer"])
        self.schedule.load_state_dict(values["schedule"])
        if self.scaler is not None:
            self.scaler.load_state_dict(values["scaler"])
        self.epoch, self.step = values["position"]
        self.best_score, self.best_epoch = values["best"]
        self.epoch_loss, self.epoch_seconds = values["epoch_sums"]
        self.epoch_waiting = values.get("epoch_waiting", 0.0)
        self.finished = values["finished"]
