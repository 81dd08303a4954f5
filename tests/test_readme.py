"""What the README says is what the package does."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from lwrefinenet import Predictor, weights

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
NAME = "rf_lw_efficientnet_lite0.camvid"


def result(name, split):
    network, data = name.split(".")
    return json.loads((ROOT / "results" / f"{data}_{network}_{split}.json").read_text())


@pytest.mark.parametrize("name", weights.SHIPPED)
@pytest.mark.parametrize("split", ["test", "val"])
def test_the_stated_scores_are_the_measured_ones_of_the_shipped_file(name, split):
    measured = result(name, split)
    assert measured["weights"] == {"name": name, "sha256": weights.SHIPPED[name].sha256}
    row = re.search(rf"^\| `{name}` {split} \| (.*) \|$", README, re.MULTILINE)
    assert [float(cell) for cell in row[1].split(" | ")] == [
        round(100 * iou, 1) for iou in measured["per_class_iou"].values()
    ]
    assert f"{100 * measured['mean_iou']:.1f} %" in README


@pytest.mark.parametrize("name", weights.SHIPPED)
def test_the_shipped_weights_state_their_score_themselves(name):
    stated = {score.protocol.partition(",")[0]: score.value for score in weights.read_meta(name).scores}
    assert stated == {
        "camvid test": result(name, "test")["mean_iou"],
        "camvid val": pytest.approx(result(name, "val")["mean_iou"], abs=1e-3),  # measured before rounding to float16
    }


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
    (row,) = re.findall(rf"^\| `{name}` \| CamVid test.*$", README, re.MULTILINE)
    assert f"| {sum(parameter.numel() for parameter in model.parameters()):,} |" in row
    assert f"**{100 * result(name, 'test')['mean_iou']:.1f} %**" in row
    assert f"{weights.locate(name).stat().st_size / 1e6:.1f} MB" in row


@pytest.mark.slow
@pytest.mark.parametrize("name", weights.SHIPPED)
def test_the_stated_score_is_repeated_on_the_data(shared_data, name):
    from lwrefinenet.data.layouts import open_dataset
    from lwrefinenet.evaluate import evaluate

    predictor = Predictor.from_weights(name, device="cpu")
    dataset = open_dataset(shared_data / "camvid", "test")
    found = evaluate(predictor.predict_mask, dataset, labels=predictor.meta.labels)
    assert found.mean_iou == pytest.approx(result(name, "test")["mean_iou"], abs=1e-3)
