"""The numbers and pictures of a run, for TensorBoard and other trackers by way of accelerate."""

from dataclasses import dataclass

import numpy as np
import PIL.Image
from numpy.typing import NDArray

from lwrefinenet.data.dataset import LabelledPictures
from lwrefinenet.evaluate import Evaluation
from lwrefinenet.predict import Predictor
from lwrefinenet.training.processes import Processes
from lwrefinenet.training.progress import StepReport
from lwrefinenet.visualize import overlay

PROJECT = "lwrefinenet"
STEPS_BETWEEN = 10
SHOWN_PICTURES = 4
SHOWN_WIDTH = 320


@dataclass(frozen=True)
class Trackers:
    """Silent where the recipe names none; only the main process speaks."""

    processes: Processes

    @classmethod
    def start(cls, processes: Processes, recipe: str, *, first_step: int) -> "Trackers":
        """recipe: its text, kept beside the numbers.  first_step: what was written after it, by a run that was killed, is void."""
        accelerator = processes.accelerator
        if accelerator.log_with:
            accelerator.init_trackers(PROJECT, init_kwargs={"tensorboard": {"purge_step": first_step}})
            if first_step == 0:
                accelerator.log({"recipe": recipe.replace("\n", "  \n")}, step=0)
        return cls(processes)

    def step(self, report: StepReport) -> None:
        """Loss, learning rates and seconds per step, every so many steps."""
        if report.done % STEPS_BETWEEN == 0:
            values = {
                "loss": report.loss,
                "learning_rate/backbone": report.backbone_lr,
                "learning_rate/decoder": report.decoder_lr,
                "seconds_per_step": report.seconds,
            }
            self.processes.accelerator.log(values, step=report.done)

    def validation(self, evaluation: Evaluation, predictions: NDArray[np.uint8], *, step: int) -> None:
        """Mean IoU, IoU of every class, pixel accuracy, and a picture (H, W, 3) of predictions."""
        classes = {f"iou/{name}": iou for name, iou in evaluation.per_class_iou.items() if iou is not None}
        scores = {"mean_iou": evaluation.mean_iou, "pixel_accuracy": evaluation.pixel_accuracy}
        self.processes.accelerator.log({**scores, **classes}, step=step)
        for tracker in self.processes.accelerator.trackers:
            if tracker.name in ("tensorboard", "wandb"):  # the others take no arrays
                layout = {"dataformats": "NHWC"} if tracker.name == "tensorboard" else {}
                tracker.log_images({"predictions": predictions[None]}, step=step, **layout)

    def end(self) -> None:
        """Write out what is held back."""
        for tracker in self.processes.accelerator.trackers:
            tracker.finish()


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
