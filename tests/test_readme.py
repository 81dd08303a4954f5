"""What the README says is what the package does."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lwrefinenet import Predictor, weights

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
NAME = "rf_lw_efficientnet_lite0.camvid"
DATA = {"camvid": "camvid", "nyu": "nyudv2"}  # by the second half of a name


def result_file(name, split):
    network, data = name.split(".")
    return ROOT / "results" / f"{data}_{network}_{split}.json"


def result(name, split):
    return json.loads(result_file(name, split).read_text())


# NYUv2 has no val: nothing was chosen there.
SCORED = [(name, split) for name in weights.SHIPPED for split in ("test", "val") if result_file(name, split).exists()]
CROPPED = [name for name in weights.SHIPPED if result_file(name, "test_crop").exists()]


def test_every_weights_file_of_the_package_has_its_test_score():
    assert {name for name, split in SCORED if split == "test"} == set(weights.SHIPPED)


@pytest.mark.parametrize(("name", "split"), SCORED)
def test_the_stated_scores_are_the_measured_ones_of_the_shipped_file(name, split):
    measured = result(name, split)
    assert measured["weights"] == {"name": name, "sha256": weights.SHIPPED[name].sha256, **offsets_of(name)}
    expected = {label: f"{100 * iou:.1f}" for label, iou in measured["per_class_iou"].items()}
    assert stated_per_class(name, split, list(expected)) == expected
    assert f"{100 * measured['mean_iou']:.1f} %" in row_of(name)


def offsets_of(name):
    """What a result says of the offsets for the classes of weights that have them."""
    adjustment = weights.read_meta(name).adjustment
    return {"offsets": adjustment} if adjustment else {}


def row_of(name):
    """Of the README's table of scores."""
    (row,) = re.findall(rf"^\| \[`{re.escape(name)}`\].*$", README, re.MULTILINE)
    return row


def stated_per_class(name, split, class_names):
    """As the card of the weights has it."""
    table = (ROOT / "docs" / "weights" / f"{name}.md").read_text().partition("| IoU % |")[2]
    heads, _, *rows = [line.strip("| ").split(" | ") for line in table.split("\n\n")[0].splitlines()]
    found = {label: values[heads.index(split)] for label, *values in rows}
    return {label: found[label] for label in class_names}


@pytest.mark.parametrize("name", CROPPED)
def test_the_scores_on_the_published_crop_are_of_the_shipped_files(name):
    measured = result(name, "test_crop")
    assert measured["weights"] == {"name": name, "sha256": weights.SHIPPED[name].sha256}
    assert measured["protocol"]["size"] == "625x468"
    assert f"{100 * measured['mean_iou']:.1f} % on the 625x468 crop" in row_of(name)


@pytest.mark.parametrize("name", weights.SHIPPED)
def test_the_shipped_weights_state_their_score_themselves(name):
    stated = stated_by(name, "mean_iou")
    # On val, measured before rounding to float16. Not every file states the crop.
    measured = [split for scored, split in SCORED if scored == name] + ["test_crop"] * ("test_crop" in stated)
    assert stated == {
        split: pytest.approx(result(name, split)["mean_iou"], abs=1e-3 if split == "val" else 1e-6)
        for split in measured
    }


def stated_by(name, metric):
    """What weights say of themselves, by the split's name in `results/`."""
    found = {}
    for score in weights.read_meta(name).scores:
        if score.metric == metric:
            split, pictures, *_ = score.protocol.split(", ")
            assert split.split()[0] == DATA[name.partition(".")[2]]
            found[split.split()[1] + "_crop" * pictures.endswith(" at 625x468")] = score.value
    return found


@pytest.mark.parametrize("name", [name for name in weights.SHIPPED if name.startswith("mt_")])
def test_depth_and_normals_are_stated_as_measured(name):
    for metric, kind, entry, near in (
        ("depth_rmse_metres", "depth", "rmse", 1e-4),
        ("normals_mean_degrees", "normals", "mean_degrees", 0.01),
    ):
        stated = stated_by(name, metric)
        assert "test" in stated
        assert stated == {split: pytest.approx(result(name, split)[kind][entry], abs=near) for split in stated}
    measured = result(name, "test")
    assert f"depth RMSE {measured['depth']['rmse']:.3f} m" in row_of(name)
    assert f"normals {measured['normals']['mean_degrees']:.1f} degrees off" in row_of(name)


def test_the_demo_finds_what_the_readme_shows():
    shares = Predictor.from_weights(NAME, device="cpu")(ROOT / "examples" / "street.jpg").shares()
    demo = README.partition("## Command line")[0]
    shown = re.findall(r"^     (\w[\w ]*?) +([\d.]+)%$", demo, re.MULTILINE)
    assert [name for name, _ in shown][:4] == ["sky", "road", "tree", "pavement"]
    for name, percent in shown:
        assert 100 * shares[name] == pytest.approx(float(percent), abs=0.2)


def test_the_readmes_pictures_are_what_the_demo_writes():
    from lwrefinenet.images import read_mask

    mask = Predictor.from_weights(NAME, device="cpu")(ROOT / "examples" / "street.jpg").mask
    assert (read_mask(ROOT / "docs" / "pictures" / "street_mask.png") == mask).mean() > 0.995


def test_the_pictures_of_three_tasks_are_what_their_command_writes():
    assert "lwrefinenet predict examples/hall.jpg --weights mt_lw_efficientnet_lite2.nyu" in README
    found = Predictor.from_weights("mt_lw_efficientnet_lite2.nyu", device="cpu")(ROOT / "examples" / "hall.jpg")
    drawn = {
        "overlay.jpg": found.overlay(),
        "depth_colours.png": found.depth_picture(),
        "normals.png": found.normals_picture(),
    }
    for ending, pixels in drawn.items():
        shown = np.array(Image.open(ROOT / "docs" / "pictures" / f"hall_{ending}"), np.int16)
        assert np.abs(shown - pixels).mean() < 3, ending


def test_the_python_example_runs(tmp_path, monkeypatch):
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(re.search(r"```python\n(from lwrefinenet import Predictor.*?)```", README, re.DOTALL)[1], names)
    assert names["result"].mask.shape == (360, 640)
    assert names["result"].mask.dtype == np.uint8
    assert (tmp_path / "street_mask.png").is_file()


def test_the_tree_names_every_file_of_the_package():
    for path in (ROOT / "src" / "lwrefinenet").rglob("*.py"):
        assert path.name.startswith("__") or path.name in README, path


@pytest.mark.parametrize("name", weights.SHIPPED)
def test_the_stated_number_of_parameters(name):
    model, _ = weights.load(name)
    row = row_of(name)
    assert f"| {sum(parameter.numel() for parameter in model.parameters()):,} |" in row
    assert f"**{100 * result(name, 'test')['mean_iou']:.1f} %**" in row
    assert f"{weights.locate(name).stat().st_size / 1e6:.1f} MB" in row


@pytest.mark.slow
@pytest.mark.parametrize("name", weights.SHIPPED)
def test_the_stated_score_is_repeated_on_the_data(shared_data, name):
    from lwrefinenet.data.layouts import open_dataset
    from lwrefinenet.evaluate import evaluate

    predictor = Predictor.from_weights(name, device="cpu")
    dataset = open_dataset(shared_data / DATA[name.partition(".")[2]], "test")
    found = evaluate(predictor.predict_maps, dataset, labels=predictor.meta.labels)
    assert found.mean_iou == pytest.approx(result(name, "test")["mean_iou"], abs=1e-3)
