"""Checkpoints that are whole or not there: the last one, the one before it, and the one from which a run can be made longer."""

import hashlib
import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from lwrefinenet.errors import RunError
from lwrefinenet.files import replace_folder

STATE, MANIFEST = "checkpoint.pt", "manifest.json"
STABLE_FORMER = ".stable_former"  # for the moment in which it is replaced


class RefusedCheckpointError(Exception):
    """Why a checkpoint cannot be used, in half a sentence."""


class OtherLengthError(RefusedCheckpointError):
    """It is from where a run of another length has left this one: nothing is wrong with it."""


@dataclass(frozen=True)
class Checkpoints:
    """`last/`, `previous/` and `stable/` in a run folder, each with the state and a manifest that proves it whole.

    recipe: the fingerprint of the recipe that the state belongs to.
    data: what tells the training split from another: name, split, number of pictures, classes.
    epochs: of the recipe.  open_epochs: how many of them a run of another length has as well (see `Recipe`).
    """

    folder: Path
    recipe: str
    data: list[str]
    epochs: int = 0
    open_epochs: int = 0

    @property
    def last(self) -> Path:
        return self.folder / "last"

    @property
    def previous(self) -> Path:
        return self.folder / "previous"

    @property
    def stable(self) -> Path:
        return self.folder / "stable"

    def save(
        self, state: dict[str, Any], *, epoch: int, step: int, finished: bool = False, stable: bool = False
    ) -> None:
        """Make `state` (tensors, numbers, texts, lists, dicts) the last checkpoint, or the one that runs of other lengths share.

        epoch, step, and whether the run is finished: for who reads the manifest.
        """
        buffer = io.BytesIO()
        torch.save(state, buffer)
        content = buffer.getvalue()
        manifest = {
            "epoch": epoch,
            "step": step,
            "finished": finished,
            "epochs": self.epochs,
            "open_epochs": self.open_epochs,
            "bytes": len(content),
            "sha256": hashlib.sha256(content).hexdigest(),
            "recipe": self.recipe,
            "data": self.data,
        }
        text = json.dumps(manifest, indent=2, ensure_ascii=False).encode()
        files = {STATE: content, MANIFEST: text}
        if stable:
            replace_folder(self.stable, files, former=self.folder / STABLE_FORMER)
        else:
            replace_folder(self.last, files, former=self.previous)

    def manifest(self, folder: Path | None = None) -> dict[str, Any]:
        """What a checkpoint (the last) says of itself: epoch, step, finished, epochs and more; empty if none can be read."""
        try:
            manifest: dict[str, Any] = json.loads(((folder or self.last) / MANIFEST).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return manifest

    def load(self, say: Callable[[str], None]) -> dict[str, Any] | None:
        """The newest whole checkpoint; one that is refused is named to `say`, and the one before it is taken.

        Of a run of another length, the newest that this one has as well.

        None where the run ended before its first.  RunError where there are checkpoints but none can be used, or where they
        were learnt from other data.
        """
        refusals = []
        candidates = [folder for folder in (self.last, self.previous, self.stable) if folder.exists()]
        while candidates:
            folder = candidates.pop(0)
            try:
                return self._read(folder)
            except OtherLengthError as error:
                refusals.append(f"{folder / STATE}: {error}")
                candidates.sort(key=lambda each: each != self.stable)  # it alone has the best weights of its moment
            except RefusedCheckpointError as error:
                refusals.append(f"{folder / STATE}: {error}")
                say(f"{refusals[-1]}; refused.")
        if refusals:
            raise RunError(f"no usable checkpoint: {'; '.join(refusals)}. Start the run again in another --output.")
        return None

    def _read(self, folder: Path) -> dict[str, Any]:
        try:
            manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
            content = (folder / STATE).read_bytes()
            wanted, length, recipe, data = (manifest[key] for key in ("sha256", "bytes", "recipe", "data"))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise RefusedCheckpointError(f"it is not whole ({type(error).__name__}: {error})") from error
        if len(content) != length:
            raise RefusedCheckpointError(f"it was cut short ({len(content)} of {length} bytes)")
        if hashlib.sha256(content).hexdigest() != wanted:
            raise RefusedCheckpointError("its bytes were changed (another sha256 than its manifest states)")
        epochs, open_epochs = manifest.get("epochs", self.epochs), manifest.get("open_epochs", 0)
        shared = min(open_epochs, self.open_epochs)
        if epochs != self.epochs and (manifest["epoch"], manifest["step"]) > (shared, 0):
            place = f"epoch {manifest['epoch']}, step {manifest['step']} of a run of {epochs} epochs"
            raise OtherLengthError(
                f"it is from {place}, and one of {self.epochs} learns otherwise after epoch {shared}"
            )
        if recipe != self.recipe:
            raise RefusedCheckpointError("it was made by another recipe")
        if data != self.data:
            raise RunError(
                f"{self.folder}: its run learnt from {_described(data)}, and this is {_described(self.data)}; resume it on its "
                "own data."
            )
        state: dict[str, Any] = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
        return state


def _described(data: list[str]) -> str:
    name, split, pictures, *classes = data
    return f"{name} {split} with {pictures} pictures and {len(classes)} classes ({', '.join(classes[:3])}, ...)"
