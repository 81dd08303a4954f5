import os
import signal

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from lwrefinenet.data.folder import folder_dataset
from lwrefinenet.errors import RunError
from lwrefinenet.evaluate import Evaluation, Protocol
from lwrefinenet.training.processes import Processes
from lwrefinenet.training.trackers import Trackers, prediction_grid
from tests.shapes import write_shapes
from tests.training.test_loop import Quiet, recipe, run


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    return write_shapes(tmp_path_factory.mktemp("shapes"), train=10, val=3)


def events(folder):
    found = EventAccumulator(str(folder / "tensorboard" / "lwrefinenet"), size_guidance={"images": 0, "scalars": 0})
    found.Reload()
    return found


def test_tensorboard_has_loss_rates_scores_of_every_class_and_pictures(shapes, tmp_path):
    listener = Quiet()
    settings = {"epochs": 2, "batch_size": 2, "validate_every": 1, "trackers": ["tensorboard"]}
    run(shapes, tmp_path / "run", recipe(**settings), listener)
    found = events(tmp_path / "run")
    assert {"loss", "learning_rate/backbone", "learning_rate/decoder", "mean_iou", "pixel_accuracy", "iou/disc"} <= set(
        found.Tags()["scalars"]
    )
    assert [event.step for event in found.Scalars("loss")] == [10]
    assert found.Scalars("loss")[0].value == pytest.approx(listener.losses[9], rel=1e-6)
    assert [event.step for event in found.Scalars("iou/disc")] == [5, 10]
    (first, _) = found.Images("predictions")
    assert (first.width, first.height) == (3 * 320, 3 * 256)


def test_a_resumed_run_keeps_the_scores_of_the_epoch_that_it_goes_on_from(shapes, tmp_path):
    settings = {"epochs": 3, "batch_size": 5, "validate_every": 1, "trackers": ["tensorboard"]}
    stop = Quiet(lambda report: report.done == 3 and os.kill(os.getpid(), signal.SIGTERM))
    run(shapes, tmp_path / "run", recipe(**settings), stop)
    (tmp_path / "run" / "last" / "manifest.json").unlink()  # so that it goes on from the end of the first epoch
    run(shapes, tmp_path / "run", recipe(**settings), resume=True)
    assert [event.step for event in events(tmp_path / "run").Scalars("mean_iou")] == [2, 4, 6]


class FakeTracker:
    """Keeps what it is told, or fails as a server out of reach."""

    def __init__(self, name, error=None):
        self.name, self.error, self.told = name, error, []

    def log(self, values, step):
        if self.error:
            raise self.error
        self.told.append((values, step))


def trackers_with(*fakes):
    processes, sentences = Processes.start("float32", torch.device("cpu")), []
    processes.accelerator.trackers = list(fakes)
    return Trackers(processes, sentences.append), sentences


def scored(name):
    return Evaluation(Protocol("a", "val", 1, "1x1", 1, "", "bilinear"), 0.5, 0.6, {name: 0.5})


def test_a_tracker_that_fails_is_said_and_the_others_are_told_on():
    broken, sound = FakeTracker("wandb", ConnectionError("no route")), FakeTracker("trackio")
    trackers, sentences = trackers_with(broken, sound)
    for step in (1, 2):
        trackers.validation(scored("wall"), lambda: np.zeros((4, 4, 3), np.uint8), step=step)
    assert [step for _, step in sound.told] == [1, 2]
    assert sentences == ["warning: tracker 'wandb' failed (ConnectionError: no route); the run goes on without."]


def test_mlflow_gets_names_that_it_takes():
    mlflow, trackio = FakeTracker("mlflow"), FakeTracker("trackio")
    trackers, _ = trackers_with(mlflow, trackio)
    trackers.validation(scored("pole (thin) + sign"), lambda: np.zeros((4, 4, 3), np.uint8), step=1)
    assert list(mlflow.told[0][0]) == ["mean_iou", "pixel_accuracy", "iou/pole _thin_ _ sign"]
    assert "iou/pole (thin) + sign" in trackio.told[0][0]


def test_a_tracker_that_cannot_start_is_said_before_the_run_begins(shapes, tmp_path, monkeypatch):
    def no_login(*_, **__):
        raise PermissionError("no API key")

    monkeypatch.setattr("accelerate.Accelerator.init_trackers", no_login)
    with pytest.raises(RunError, match=r"a tracker \(tensorboard\) did not start: PermissionError: no API key"):
        run(shapes, tmp_path / "run", recipe(trackers=["tensorboard"]))
    assert not (tmp_path / "run" / "recipe.toml").exists()


def test_a_tracker_that_is_not_installed_is_named_with_its_cure(shapes, tmp_path):
    with pytest.raises(RunError, match="tracker 'wandb' is not installed: pip install wandb"):
        run(shapes, tmp_path / "run", recipe(trackers=["wandb"]))
    assert not (tmp_path / "run" / "recipe.toml").exists()


def test_a_row_of_the_grid_is_picture_truth_and_prediction(colour_predictor, tmp_path):
    root = write_shapes(tmp_path, train=1, val=2)
    pictures = folder_dataset(root, "val")
    grid = prediction_grid(colour_predictor, pictures)
    assert grid.shape == (2 * 256, 3 * 320, 3)
    picture, truth, predicted = np.split(grid[:256], 3, axis=1)
    pixels, mask = pictures[0]
    background = np.kron(mask == 0, np.ones((4, 4), bool))
    assert (
        np.abs(picture.astype(int) - np.kron(pixels, np.ones((4, 4, 1), np.uint8)).astype(int))[background].mean() < 12
    )
    assert not np.array_equal(truth, picture)
    assert not np.array_equal(truth, predicted)
