"""Data of one's own in three commands, as the README has them, by scripts/measure_journey.py."""

import importlib.util
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "scripts" / "measure_journey.py"


@pytest.fixture(scope="module")
def journey(tmp_path_factory):
    spec = importlib.util.spec_from_file_location("measure_journey", SCRIPT)
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    folder = tmp_path_factory.mktemp("journey")
    # Half of the recipe's epochs and a quarter of its pixels, for time.
    return folder, script.journey(folder, "--set epochs=20 --set crop_size=[128,160]")


def test_three_commands_lead_from_under_30_to_over_90_percent(journey):
    _, found = journey
    assert found["mean_iou_before"] < 0.3
    assert found["mean_iou_after"] > 0.9
    assert found["share_of_right_pixels_in_new_picture"] > 0.9


def test_every_command_says_what_to_do_next(journey):
    _, found = journey
    check, train, predict = ("\n".join(lines) for lines in found["output"].values())
    assert "Ready for training." in check
    assert "lwrefinenet predict PICTURE --weights runs/custom/best.safetensors" in train
    assert "new_mask.png" in predict


def test_the_run_folder_holds_what_the_documentation_promises(journey):
    folder, _ = journey
    names = {path.name for path in (folder / "runs" / "custom").iterdir()}
    assert {"best.safetensors", "metrics.jsonl", "recipe.toml", "last", "previous", "tensorboard"} <= names
