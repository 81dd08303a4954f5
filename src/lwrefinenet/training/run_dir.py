"""What a training run leaves on the disk: its recipe, its metrics, the checkpoints to resume from, the best weights."""

import hashlib
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from lwrefinenet.errors import RunError
from lwrefinenet.files import cannot_write, missing_folders, remove_empty, write_atomically
from lwrefinenet.training.checkpoints import STABLE_FORMER, Checkpoints
from lwrefinenet.training.recipe import Recipe

# Between a run and its resumption: they decide how fast and in what portions, not what is learnt.
FREE_TO_CHANGE = ("workers", "cache", "device_batch", "checkpoint_minutes", "trackers")

# As they are where a recipe does not name them, they change nothing: runs from before they came can go on.
CAME_LATER = (
    *("decay_epochs", "crops_at_input_scale", "blur", "drop_path", "balanced_crops", "adjust_logits"),
    *("class_mix", "cut_mix", "rotation", "depth_loss", "size_multiple", "teacher_channel_weight", "published_crop"),
    *("hidden_patches", "balanced_mix", "teacher_flip", "lovasz_stride"),
)


@dataclass(frozen=True)
class RunDir:
    """`recipe.toml`, `metrics.jsonl`, `best.safetensors` (to use), `tensorboard/`; `last/`, `previous/`, `stable/` (to resume)."""

    path: Path

    def check(self, recipe: Recipe, *, resume: bool) -> None:
        """Whether a run by this recipe may start here, or go on.

        RunError for a folder that holds a run already, or, to resume, holds none or one by another recipe.
        """
        if not resume:
            if self.recipe.exists():
                raise RunError(
                    f"{self.path}: holds a run already. Go on with it by --resume, or give another folder by --output."
                )
            return
        if not self.recipe.is_file():
            raise RunError(f"{self.path}: holds no run to resume (no recipe.toml). Start one without --resume.")
        before = Recipe.from_toml(self.recipe)
        changed = [
            f"{name} was {getattr(before, name)!r} and is {getattr(recipe, name)!r}"
            for name in _decisive_fields(lengthened=bool(before.open_epochs and recipe.open_epochs))
            if getattr(before, name) != getattr(recipe, name)
        ]
        if changed:
            raise RunError(
                f"{self.path}: its run was made by another recipe: {'; '.join(changed)}. Start a new run for it."
            )

    def as_fitted(self, recipe: Recipe) -> Recipe:
        """The recipe with the number of epochs to which the run here was fitted, if it was stopped in the closing ones of these."""
        if not self.recipe.is_file():
            return recipe
        fitted = Recipe.from_toml(self.recipe)
        checkpoints = Checkpoints(self.path, "", [])
        manifest = checkpoints.manifest() or checkpoints.manifest(checkpoints.previous)
        closing = fitted.epochs < recipe.epochs and manifest.get("epochs") == fitted.epochs
        unfinished = not manifest.get("finished") and manifest.get("epoch", 0) >= fitted.open_epochs
        return replace(recipe, epochs=fitted.epochs) if closing and unfinished else recipe

    @property
    def recipe(self) -> Path:
        return self.path / "recipe.toml"

    @property
    def best(self) -> Path:
        return self.path / "best.safetensors"

    @property
    def metrics(self) -> Path:
        return self.path / "metrics.jsonl"

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Keep other processes out; RunError where one is in. The system lets go of the lock even of a killed process.

        A run that did not begin leaves nothing of the folders that were made for it.
        """
        made = missing_folders(self.path)
        lock = FileLock(self.path / ".lock", timeout=0)
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            lock.acquire()
        except Timeout as error:
            raise RunError(
                f"{self.path}: another process is training in this folder. Wait for it or stop it, or give another --output."
            ) from error
        except OSError as error:
            raise cannot_write(self.path, error) from error
        try:
            self._clear_remains()
            yield
        finally:
            if made and not self.recipe.exists():
                with suppress(OSError):
                    (self.path / ".lock").unlink()
                remove_empty(made)
            lock.release()

    def keep_recipe(self, recipe: Recipe) -> None:
        """Write down what the run does; from here on the folder holds a run."""
        write_atomically(self.recipe, recipe.to_toml().encode())

    def log(self, **values: Any) -> None:
        """Append one line to `metrics.jsonl`."""
        try:
            with self.metrics.open("a", encoding="utf-8") as file:
                file.write(json.dumps(values) + "\n")
        except OSError as error:
            raise cannot_write(self.metrics, error) from error

    def epoch_seconds(self, device: str) -> list[float]:
        """What its epochs took on such a device, steps and waiting, in their order; none where there is no log."""
        if not self.metrics.is_file():
            return []
        lines = map(json.loads, self.metrics.read_text(encoding="utf-8").splitlines())
        return [
            line["seconds"] + line["waiting"] for line in lines if line.get("device") == device and "waiting" in line
        ]

    def forget_after(self, epoch: int) -> None:
        """Drop the metrics of later epochs, which a resumed run will write again, and a line that was cut short."""
        if not self.metrics.is_file():
            return
        kept = [line for line in self.metrics.read_text(encoding="utf-8").splitlines() if _epoch_of(line) <= epoch]
        write_atomically(self.metrics, "".join(line + "\n" for line in kept).encode())

    def set_aside(self, epochs: int) -> list[Path]:
        """Keep the best weights and the metrics of a run of so many epochs, which gets another length, under names of their own.

        What was kept before stays as it is.
        """
        kept = []
        for path in (self.best, self.metrics):
            target = path.with_stem(f"{path.stem}_of_{epochs}_epochs")
            if path.is_file() and not target.exists():
                write_atomically(target, path.read_bytes())
                kept.append(target)
        return kept

    def _clear_remains(self) -> None:
        """What a killed process was writing; what it was about to replace stands again."""
        former, stable = self.path / STABLE_FORMER, self.path / "stable"
        if former.is_dir() and not stable.exists():
            former.rename(stable)
        for name in (
            ".last.*",
            ".stable.*",
            STABLE_FORMER,
            ".best.safetensors.*",
            ".recipe.toml.*",
            ".metrics.jsonl.*",
        ):
            for remains in self.path.glob(name):
                shutil.rmtree(remains) if remains.is_dir() else remains.unlink()


def fingerprint(recipe: Recipe) -> str:
    """Tells recipes apart that would learn something else; those that differ in length alone are told apart by their epochs."""
    names = _decisive_fields(lengthened=bool(recipe.open_epochs))
    unchanged = {entry.name for entry in fields(Recipe) if getattr(recipe, entry.name) == entry.default}
    decisive = {name: getattr(recipe, name) for name in names if name not in unchanged.intersection(CAME_LATER)}
    return hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()


def _decisive_fields(*, lengthened: bool) -> list[str]:
    """lengthened: whether a run may go on with other `epochs`."""
    free = (*FREE_TO_CHANGE, "epochs") if lengthened else FREE_TO_CHANGE
    return [entry.name for entry in fields(Recipe) if entry.name not in free]


def _epoch_of(line: str) -> float:
    try:
        return int(json.loads(line)["epoch"])
    except (ValueError, KeyError, TypeError):
        return float("inf")
