"""Everything that changes while a run learns, in one place, so that it can be saved and restored as a whole."""

from dataclasses import dataclass
from typing import Any

import torch
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torch.optim.swa_utils import AveragedModel

from lwrefinenet.models.refinenet import LightWeightRefineNet


@dataclass
class TrainingState:
    """average: the moving average of the model, None where the recipe has none.  step: within the epoch, the next to do.

    epoch_loss, epoch_seconds: sums over the steps of this epoch so far.
    """

    model: LightWeightRefineNet
    average: AveragedModel | None
    optimizer: Optimizer
    schedule: LRScheduler
    epoch: int = 0
    step: int = 0
    epoch_loss: float = 0.0
    epoch_seconds: float = 0.0
    best_score: float = -1.0
    best_epoch: int = 0

    @property
    def shipped_model(self) -> LightWeightRefineNet:
        """The network that is validated and saved: the average where there is one."""
        return self.model if self.average is None else self.average.module  # type: ignore[return-value]

    def next_epoch(self) -> None:
        """Turn to the first step of the next epoch."""
        self.epoch, self.step, self.epoch_loss, self.epoch_seconds = self.epoch + 1, 0, 0.0, 0.0

    def to_dict(self) -> dict[str, Any]:
        return {
            "model": self.model.state_dict(),
            "average": None if self.average is None else self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "position": [self.epoch, self.step],
            "best": [self.best_score, self.best_epoch],
            "epoch_sums": [self.epoch_loss, self.epoch_seconds],
            "torch_rng": torch.get_rng_state(),
            "cuda_rng": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        }

    def load_dict(self, values: dict[str, Any]) -> None:
        self.model.load_state_dict(values["model"])
        if self.average is not None:
            self.average.load_state_dict(values["average"])
        self.optimizer.load_state_dict(values["optimizer"])
        self.schedule.load_state_dict(values["schedule"])
        self.epoch, self.step = values["position"]
        self.best_score, self.best_epoch = values["best"]
        self.epoch_loss, self.epoch_seconds = values["epoch_sums"]
        torch.set_rng_state(values["torch_rng"])
        if len(values["cuda_rng"]) == torch.cuda.device_count():
            torch.cuda.set_rng_state_all(values["cuda_rng"])
