"""Weights of the package can be made again by one command, from what they were made of."""

import argparse
import subprocess
from pathlib import Path

import pytest

from lwrefinenet import weights
from lwrefinenet.errors import LwRefineNetError
from lwrefinenet.training.recipe import Recipe
from tests.shapes import write_shapes
from tests.test_docs import ROOT, script_named
from tests.tiny import TINY_META, build_tiny

NAME = "tiny.blocks"
RECIPE = (
    'model = "rf_lw"\nbackbone = "test_resnet"\ndecoder_channels = 8\nepochs = 1\nbatch_size = 4\ncrop_size = [32, 32]\n'
    f'workers = 0\ninitial_weights = "{NAME}"\nteacher = ["{NAME}"]\n'
)


@pytest.fixture
def script():
    return script_named("train_released")


@pytest.fixture
def repository(tmp_path, script, monkeypatch):
    """A repository of its own whose first commit has tiny weights as part of the package; gives its folder and that commit."""
    folder = tmp_path / "repository"
    monkeypatch.setattr(script, "ROOT", folder)
    monkeypatch.setitem(weights.SHIPPED, NAME, next(iter(weights.SHIPPED.values())))
    (folder / "recipes").mkdir(parents=True)
    (folder / "recipes" / "blocks_tiny.toml").write_text(RECIPE)
    shipped = folder / script.SHIPPED / f"{NAME}.safetensors"
    weights.save(shipped, build_tiny(), TINY_META)
    git = ("git", "-C", folder, "-c", "user.name=a", "-c", "user.email=a@b")
    for command in (("init", "-q"), ("add", script.SHIPPED), ("commit", "-qm", "first")):
        subprocess.run([*git, *command], check=True)
    shipped.unlink()
    found = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True)
    return folder, found.stdout.strip()


def asked(tmp_path, data, **others):
    given = {"output": tmp_path / "runs", "together": 1, "minutes": None, "device": "cpu", "set": [], **others}
    return argparse.Namespace(data=data, **given)


def test_what_is_written_down_is_what_the_weights_say_of_themselves(script):
    known = script.released()
    assert set(known) == set(weights.SHIPPED)
    for name, made in known.items():
        said = {source.origin for source in weights.read_meta(name).sources if " of commit " in source.origin}
        assert said == {f"{each} of commit {made.commit}" for each in made.ingredients}, name
        averaged = [source for source in weights.read_meta(name).sources if source.role == "averaged weights"]
        backbone = [source for source in weights.read_meta(name).sources if source.role == "backbone weights"]
        assert len(made.backbone) == 3 and bool(backbone) == (not made.commit), name
        assert all([source.name, source.origin] == [made.backbone[0], made.backbone[2]] for source in backbone), name
        assert bool(averaged) == (made.averaged or len(made.runs) > 1), name
        logs = list((ROOT / "results").glob(f"{made.recipe.stem}_training_*.jsonl"))
        assert len(made.runs) == 1 + len(logs), name


def test_every_run_that_is_written_down_can_begin(script):
    for made in script.released().values():
        former = {name: Path("former") / name for name in made.ingredients}
        queue = script.tomllib.loads(script.queue_of(made, Path("data"), former))
        for run in queue["run"]:
            recipe = Recipe.from_toml(run["recipe"], run["set"])
            named = {recipe.initial_weights, *recipe.teachers} - {None}
            assert named == {str(file) for file in former.values()}


def test_fields_that_are_given_go_before_those_that_are_written_down(script):
    made = script.released()["rf_lw_mobilenetv2.camvid"]
    queue = script.tomllib.loads(script.queue_of(made, Path("data"), {}, ["backbone_weights=elsewhere.safetensors"]))
    (run,) = queue["run"]
    assert Recipe.from_toml(run["recipe"], run["set"]).backbone_weights == "elsewhere.safetensors"


def test_the_history_has_the_former_files(script, tmp_path):
    if not (ROOT / ".git").exists():
        pytest.skip("this copy has no history; the check needs a clone")
    for made in script.released().values():
        for name in made.ingredients:
            assert (
                weights.read_meta(script.fetched(name, made.commit, tmp_path / made.commit)).network
                == name.split(".")[0]
            )


def test_weights_are_made_again_as_the_mean_of_their_runs_and_of_the_former_file(script, repository, tmp_path):
    data = write_shapes(tmp_path / "blocks")
    made = script.Released(NAME, [["seed=1"], ["seed=2"]], [], repository[1], averaged=True)
    script.again(made, asked(tmp_path, data))
    folder = tmp_path / "runs" / NAME
    first, second = (weights.load(folder / run / "best.safetensors")[0].state_dict() for run in ("run1", "run2"))
    mean, former = weights.load(folder / f"{NAME}.safetensors")[0].state_dict(), build_tiny().state_dict()
    assert any((first[key] != second[key]).any() for key in mean)
    for key in mean:
        if mean[key].is_floating_point():
            assert (mean[key] - (first[key] + second[key] + former[key]) / 3).abs().max() < 1e-3, key
    sources = weights.read_meta(folder / f"{NAME}.safetensors").sources
    averaged = [Path(source.origin).parent.name for source in sources if source.role == "averaged weights"]
    assert averaged == ["run1", "run2", repository[1]]
    assert {source.role for source in sources} >= {"initial weights", "teacher", "averaged weights"}


def test_a_run_without_time_is_left_for_the_same_command_to_go_on_with(script, repository, tmp_path):
    made = script.Released(NAME, [[]], [], repository[1])
    with pytest.raises(SystemExit, match="tiny.blocks: not all runs are finished; the same command goes on with them"):
        script.again(made, asked(tmp_path, tmp_path, minutes=0.1))
    assert not (tmp_path / "runs" / NAME / f"{NAME}.safetensors").exists()


def test_a_run_that_fails_is_said_and_nothing_is_written(script, repository, tmp_path):
    made = script.Released(NAME, [[]], [], repository[1])
    with pytest.raises(SystemExit, match="tiny.blocks: a run has failed, and says why above"):
        script.again(made, asked(tmp_path, tmp_path / "nowhere"))
    assert not (tmp_path / "runs" / NAME / f"{NAME}.safetensors").exists()


def test_a_commit_that_the_history_lacks_is_one_sentence(script, repository, tmp_path):
    with pytest.raises(
        LwRefineNetError, match="commit 0123456 of .* has no .*; the former files .* git fetch --unshallow"
    ):
        script.fetched(NAME, "0123456", tmp_path)
    assert not list(tmp_path.glob("*.safetensors"))
