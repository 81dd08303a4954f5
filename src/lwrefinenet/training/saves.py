"""What a run saves of itself to go on from, when, and how it takes that up again."""

import time
from dataclasses import dataclass, field, replace

import torch

from lwrefinenet.files import write_atomically
from lwrefinenet.training.checkpoints import Checkpoints
from lwrefinenet.training.processes import Processes
from lwrefinenet.training.progress import Listener
from lwrefinenet.training.recipe import Recipe
from lwrefinenet.training.rng import random_state, restore_random_state
from lwrefinenet.training.run_dir import RunDir
from lwrefinenet.training.state import TrainingState
from lwrefinenet.training.step import OptimizerStep


@dataclass
class Saves:
    """A run's way to its checkpoints and back; all processes call alike, the main one writes."""

    recipe: Recipe
    run: RunDir
    processes: Processes
    state: TrainingState
    step: OptimizerStep
    checkpoints: Checkpoints
    listener: Listener
    saved_at: float = field(default_factory=time.monotonic)

    @property
    def due(self) -> bool:
        """Whether the last checkpoint is as old as the recipe lets it become."""
        return time.monotonic() - self.saved_at > 60 * self.recipe.checkpoint_minutes

    def save(self) -> None:
        """The last checkpoint; before it, where runs of other lengths leave this one, the one that all of them share."""
        if (self.state.epoch, self.state.step) == (self.recipe.open_epochs, 0):
            self._write(stable=True)
        self._write()
        self.saved_at = time.monotonic()

    def go_on_as(self, recipe: Recipe) -> None:
        """From here on save for a run by this recipe, of another length, as one that had it from its beginning."""
        self.recipe = recipe
        self.checkpoints = replace(self.checkpoints, epochs=recipe.epochs, open_epochs=recipe.open_epochs)
        if self.processes.is_main:
            self.run.keep_recipe(recipe)
        self.save()

    def restore(self) -> None:
        """Set everything as the last usable checkpoint has it; a run that had none yet starts from its beginning."""
        saved = self.processes.from_main(self.checkpoints.load(self.listener.say) if self.processes.is_main else None)
        if saved is None:
            if self.processes.is_main:
                self.run.forget_after(0)
            return
        self.state.load_dict(saved["state"])
        self.step.frozen = saved.get("frozen", self.step.frozen)
        if self.recipe.device_batch is None:  # found by trying, and perhaps halved since
            self.step.device_batch = min(self.step.device_batch, saved.get("device_batch", self.step.device_batch))
        randoms = saved["random"]
        if len(randoms) == self.processes.count:
            restore_random_state(randoms[self.processes.number])
        else:
            self.listener.say(
                f"The run had {len(randoms)} processes and has {self.processes.count} now: it goes on well, but not bit for bit."
            )
        before = saved.get("epochs", self.recipe.epochs)
        if self.processes.is_main:
            if before != self.recipe.epochs:
                self._part_from(before, keep="best" in saved)
            self.run.forget_after(self.state.epoch)
            if len(best := saved.get("best", ())):
                write_atomically(self.run.best, best.numpy().tobytes())
        if before != self.recipe.epochs:
            self.save()  # so that no checkpoint of the other length is the last one

    def _part_from(self, epochs: int, *, keep: bool) -> None:
        """Say that the run had another length until now, and keep what came of that, if it went further than to here."""
        self.listener.say(f"The run had {epochs} epochs and has {self.recipe.epochs} now; both learn alike up to here.")
        for kept in self.run.set_aside(epochs) if keep else ():
            self.listener.say(f"Of the {epochs} epochs is kept: {kept}.")

    def _write(self, *, stable: bool = False) -> None:
        """stable: for runs of other lengths as well, with the best weights so far."""
        randoms = self.processes.gather(random_state())
        if not self.processes.is_main:
            return
        portions = {"frozen": self.step.frozen, "device_batch": self.step.device_batch, "epochs": self.recipe.epochs}
        state = {"state": self.state.to_dict(), "random": randoms, **portions}
        if stable:
            best = bytearray(self.run.best.read_bytes() if self.run.best.is_file() else b"")
            state["best"] = torch.frombuffer(best, dtype=torch.uint8) if best else torch.empty(0, dtype=torch.uint8)
        epoch, step, finished = self.state.epoch, self.state.step, self.state.finished
        self.checkpoints.save(state, epoch=epoch, step=step, finished=finished, stable=stable)
