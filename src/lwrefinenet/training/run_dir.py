"""What a training run leaves on the disk: its recipe, its metrics, the checkpoint to resume from, the best weights."""

import io
import json
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Self

import torch

from lwrefinenet.errors import RunError
from lwrefinenet.files import write_atomically
from lwrefinenet.training.recipe import Recipe


@dataclass(frozen=True)
class RunDir:
    """`recipe.toml`, `metrics.jsonl`, `last/checkpoint.pt` (to resume) and `best.safetensors` (to use)."""

    path: Path

    @classmethod
    def start(cls, path: Path, recipe: Recipe) -> Self:
        """Begin a run in a folder that holds none yet; RunError if it does."""
        run = cls(path)
        if run.recipe.exists():
            raise RunError(
                f"{path}: holds a run already. Go on with it by --resume, or give another folder by --output."
            )
        write_atomically(run.recipe, recipe.to_toml().encode())
        return run

    @classmethod
    def resume(cls, path: Path, recipe: Recipe) -> Self:
        """Open the run of a folder; RunError if there is none, or if it was made by another recipe."""
        run = cls(path)
        if not run.recipe.is_file():
            raise RunError(f"{path}: holds no run to resume (no recipe.toml). Start one without --resume.")
        before = Recipe.from_toml(run.recipe)
        changed = [
            f"{entry.name} was {getattr(before, entry.name)!r} and is {getattr(recipe, entry.name)!r}"
            for entry in fields(Recipe)
            if getattr(before, entry.name) != getattr(recipe, entry.name)
        ]
        if changed:
            raise RunError(f"{path}: its run was made by another recipe: {'; '.join(changed)}. Start a new run for it.")
        return run

    @property
    def recipe(self) -> Path:
        return self.path / "recipe.toml"

    @property
    def best(self) -> Path:
        return self.path / "best.safetensors"

    @property
    def checkpoint(self) -> Path:
        return self.path / "last" / "checkpoint.pt"

    def log(self, **values: Any) -> None:
        """Append one line to `metrics.jsonl`."""
        with (self.path / "metrics.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(values) + "\n")

    def save_checkpoint(self, state: dict[str, Any]) -> None:
        """Replace the checkpoint, whole or not at all."""
        buffer = io.BytesIO()
        torch.save(state, buffer)
        write_atomically(self.checkpoint, buffer.getvalue())

    def load_checkpoint(self) -> dict[str, Any] | None:
        """The last checkpoint, or None where the run ended before its first; RunError for a damaged one."""
        if not self.checkpoint.is_file():
            return None
        try:
            state: dict[str, Any] = torch.load(self.checkpoint, map_location="cpu", weights_only=True)
        except (RuntimeError, EOFError, OSError, ValueError) as error:
            raise RunError(
                f"{self.checkpoint}: the checkpoint cannot be read ({error}). Start the run again."
            ) from error
        return state
