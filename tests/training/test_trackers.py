import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from lwrefinenet.data.folder import folder_dataset
from lwrefinenet.errors import RunError
from lwrefinenet.training.trackers import prediction_grid
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
