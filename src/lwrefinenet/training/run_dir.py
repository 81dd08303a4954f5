"""What a training run leaves on the disk: its recipe, its metrics, the checkpoint to resume from, the best weights."""

import io
import json
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Self

import torch

from lwrefinenet.errors import RunError
from lwrefinenet.files import cannot_write, write_atomically
from lwrefinenet.training.recipe import Recipe

FREE_TO_CHANGE = ("workers", "checkpoint_minutes")  # between a run and its resumption


@dataclass(frozen=True)
class RunDir:
    """`recipe.toml`, `metrics.jsonl`, `last/checkpoint.pt` (to resume) and `best.safetensors` (to use)."""

    path: Path

    @classmethod
    def vacant(cls, path: Path) -> Self:
        """A folder that holds no run yet; RunError if it does."""
        run = cls(path)
        if run.recipe.exists():
            raise RunError(
                f"{path}: holds a run already. Go on with it by --resume, or give another folder by --output."
            )
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
            if getattr(before, entry.name) != getattr(recipe, entry.name) and entry.name not in FREE_TO_CHANGE
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

    def keep_recipe(self, recipe: Recipe) -> None:
        """Write down what the run does; from here on the folder holds a run."""
        write_atomically(self.recipe, recipe.to_toml().encode())

    def log(self, **values: Any) -> None:
        """Append one line to `metrics.jsonl`."""
        path = self.path / "metrics.jsonl"
        try:
            with path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(values) + "\n")
        except OSError as error:
            raise cannot_write(path, error) from error

    def save_checkpoint(self, state: dict[str, Any], data: list[str]) -> None:
        """Replace the checkpoint, whole or not at all. data: what tells the training split from another."""
        buffer = io.BytesIO()
        torch.save({**state, "data": data}, buffer)
        write_atomically(self.checkpoint, buffer.getvalue())

    def load_checkpoint(self, data: list[str]) -> dict[str, Any] | None:
        """The last checkpoint, or None where the run ended before its first; RunError for a damaged one or other data."""
        if not self.checkpoint.is_file():
            return None
        try:
            state: dict[str, Any] = torch.load(self.checkpoint, map_location="cpu", weights_only=True)
            before = state["data"]
        except Exception as error:  # a damaged file fails in as many ways as there are bytes to damage
            raise RunError(
                f"{self.checkpoint}: the checkpoint cannot be read ({type(error).__name__}: {error}). Start the run again."
            ) from error
        if before != data:
            raise RunError(
                f"{self.path}: its run learnt from {_described(before)}, and this is {_described(data)}; resume it on its own data."
            )
        return state


def _described(data: list[str]) -> str:
    name, split, pictures, *classes = data
    return f"{name} {split} with {pictures} pictures and {len(classes)} classes ({', '.join(classes[:3])}, ...)"
