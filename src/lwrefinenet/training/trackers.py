"""The numbers and pictures of a run, for TensorBoard and other trackers by way of accelerate."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import PIL.Image
from numpy.typing import NDArray

from lwrefinenet.data.dataset import LabelledPictures
from lwrefinenet.errors import RunError
from lwrefinenet.evaluate import Evaluation
from lwrefinenet.predict import Predictor
from lwrefinenet.training.processes import Processes
from lwrefinenet.training.progress import StepReport
from lwrefinenet.training.recipe import TRACKERS
from lwrefinenet.visualize import overlay

PROJECT = "lwrefinenet"
STEPS_BETWEEN = 10
SHOWN_PICTURES = 4
SHOWN_WIDTH = 320


TAKE_TEXT = ("tensorboard", "wandb")
TAKE_PICTURES = ("tensorboard", "wandb")
NOT_IN_MLFLOW_NAMES = re.compile(r"[^/\w.\- ]")


@dataclass(frozen=True)
class Trackers:
    """Silent where the recipe names none; only the main process speaks.  say: told when one fails, which stops no run."""

    processes: Processes
    say: Callable[[str], None]

    @classmethod
    def start(cls, processes: Processes, recipe: str, *, first_step: int, say: Callable[[str], None]) -> Self:
        """recipe: its text, kept beside the numbers.  first_step: steps done; what a killed run wrote of later ones is void.

        RunError where one cannot start, such as for want of a login.
        """
        accelerator = processes.accelerator
        if accelerator.log_with:
            void_from = first_step + 1 if first_step else 0
            try:
                accelerator.init_trackers(PROJECT, init_kwargs={"tensorboard": {"purge_step": void_from}})
            except Exception as error:  # of whatever type its package has for it
                names = ", ".join(map(str, accelerator.log_with))
                raise RunError(
                    f"a tracker ({names}) did not start: {type(error).__name__}: {error}. Mend it, or leave it out: "
                    "--set 'trackers=[]'."
                ) from error
        trackers = cls(processes, say)
        if first_step == 0:
            trackers._log({"recipe": recipe.replace("\n", "  \n")}, step=0, only=TAKE_TEXT)
        return trackers

    def step(self, report: StepReport) -> None:
        """Loss, learning rates and seconds per step, every so many steps."""
        if report.done % STEPS_BETWEEN == 0:
            values = {
                "loss": report.loss,
                "learning_rate/backbone": report.backbone_lr,
                "learning_rate/decoder": report.decoder_lr,
                "seconds_per_step": report.seconds,
            }
            self._log(values, step=report.done)

    def validation(self, evaluation: Evaluation, predictions: Callable[[], NDArray[np.uint8]], *, step: int) -> None:
        """Every score of the evaluation, and a picture (H, W, 3) of predictions, made where someone shows it."""
        classes = {f"iou/{name}": iou for name, iou in evaluation.per_class_iou.items() if iou is not None}
        scores = {"mean_iou": evaluation.mean_iou, "pixel_accuracy": evaluation.pixel_accuracy}
        dense = {"depth": evaluation.depth or {}, "normals": evaluation.normals or {}}
        further = {f"{task}/{name}": value for task, found in dense.items() for name, value in found.items()}
        self._log({**scores, **classes, **further}, step=step)
        showing = self._of(TAKE_PICTURES)
        shown = np.array([predictions()]) if showing else None
        for tracker in showing:
            layout = {"dataformats": "NHWC"} if tracker.name == "tensorboard" else {}
            with self._outlived(tracker):
                tracker.log_images({"predictions": shown}, step=step, **layout)

    def end(self) -> None:
        """Write out what is held back."""
        for tracker in self._of(TRACKERS):
            with self._outlived(tracker):
                tracker.finish()

    def _log(self, values: Mapping[str, float | str], *, step: int, only: Sequence[str] = TRACKERS) -> None:
        for tracker in self._of(only):
            plain = tracker.name == "mlflow"  # which refuses a name with brackets or a plus sign
            named = {NOT_IN_MLFLOW_NAMES.sub("_", name) if plain else name: value for name, value in values.items()}
            with self._outlived(tracker):
                tracker.log(named, step=step)

    def _of(self, names: Sequence[str]) -> list[Any]:
        return [tracker for tracker in self.processes.accelerator.trackers if tracker.name in names]

    @contextmanager
    def _outlived(self, tracker: Any) -> Iterator[None]:
        """What a tracker raises, a full disk or a server out of reach, ends the tracker and not the run."""
        try:
            yield
        except Exception as error:
            self.processes.accelerator.trackers.remove(tracker)
            self.say(
                f"warning: tracker {tracker.name!r} failed ({type(error).__name__}: {error}); the run goes on without."
            )


def prediction_grid(predictor: Predictor, pictures: LabelledPictures) -> NDArray[np.uint8]:
    """A few pictures of the set, evenly chosen: each a row of picture, truth painted over it, prediction painted over it."""
    count = min(SHOWN_PICTURES, len(pictures))
    rows = []
    for index in np.linspace(0, len(pictures) - 1, count).round().astype(int).tolist():
        pixels, truth = pictures[index]
        predicted = predictor.predict_mask(pixels)
        shown = (pixels, *(overlay(pixels, mask, pictures.labels, 0.6) for mask in (truth, predicted)))
        rows.append(np.hstack([_small(each) for each in shown]))
    height = max(len(row) for row in rows)
    return np.vstack([np.pad(row, ((0, height - len(row)), (0, 0), (0, 0)), constant_values=255) for row in rows])


def _small(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    height = max(1, round(len(pixels) * SHOWN_WIDTH / pixels.shape[1]))
    return np.array(PIL.Image.fromarray(pixels).resize((SHOWN_WIDTH, height), PIL.Image.Resampling.BILINEAR))
