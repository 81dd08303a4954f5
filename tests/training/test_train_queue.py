"""A queue of recipes is worked through without anybody there, and without what the command line needs."""

import json
import os
import signal
import subprocess
import sys
import threading

import pytest

from lwrefinenet.errors import RecipeError
from lwrefinenet.training.checkpoints import Checkpoints
from lwrefinenet.training.pace import require_fittable
from lwrefinenet.training.run_dir import fingerprint
from tests.shapes import write_shapes
from tests.test_docs import ROOT, script_named

RECIPE = (
    'model = "rf_lw"\nbackbone = "test_resnet"\ndecoder_channels = 8\nbackbone_weights = "none"\nepochs = 1\n'
    "batch_size = 4\ncrop_size = [32, 32]\nworkers = 0\n"
)
RUN = '[[run]]\nname = "{name}"\nrecipe = "{recipe}"\ndata = ["{data}"]\n'


@pytest.fixture
def script():
    return script_named("train_queue")


@pytest.fixture
def recipe(tmp_path):
    (tmp_path / "tiny.toml").write_text(RECIPE)
    return tmp_path / "tiny.toml"


def written(folder, *tables):
    (folder / "queue.toml").write_text("\n".join(tables))
    return folder / "queue.toml"


def test_a_run_that_fails_does_not_end_the_queue_and_what_is_finished_is_passed_over(tmp_path, recipe):
    data = write_shapes(tmp_path / "blocks")
    queue = written(
        tmp_path,
        RUN.format(name="lost", recipe=recipe, data=tmp_path / "nowhere"),
        RUN.format(name="plain", recipe=recipe, data=data) + 'set = ["seed=3"]\n',
    )
    first = work(queue, tmp_path)
    assert first.returncode == 1
    assert "nowhere: no such data folder" in first.stderr and "Traceback" not in first.stderr
    assert json.loads((tmp_path / "runs" / "queue.json").read_text()) == {"lost": "failed", "plain": "finished"}
    assert "seed = 3" in (tmp_path / "runs" / "plain" / "recipe.toml").read_text()
    trained = (tmp_path / "runs" / "plain" / "best.safetensors").stat().st_mtime_ns
    written(tmp_path, RUN.format(name="plain", recipe=recipe, data=data) + 'set = ["seed=3"]\n')
    second = work(queue, tmp_path)
    assert (second.returncode, second.stdout) == (0, "plain: finished\n")
    assert (tmp_path / "runs" / "plain" / "best.safetensors").stat().st_mtime_ns == trained


def test_runs_are_trained_at_once_where_it_is_asked_for(script, tmp_path, recipe, monkeypatch):
    """Each waits for the other to have begun, which one after the other never ends."""
    names = ("first", "second")
    queue = written(tmp_path, *(RUN.format(name=name, recipe=recipe, data="nowhere") for name in names))
    arguments = script.argparse.Namespace(
        queue=queue, output=tmp_path / "runs", minutes=25, device="cpu", fit=True, together=2
    )
    both, commands = threading.Barrier(2, timeout=10), []

    command_of = script._command

    def begin(*given):
        both.wait()
        commands.append(list(map(str, command_of(*given))))
        return [sys.executable, "-c", ""]

    monkeypatch.setattr(script, "_command", begin)
    assert script.work_through(script.read_queue(queue), arguments) == dict.fromkeys(names, "stopped")
    assert {command[command.index("--only") + 1] for command in commands} == set(names)
    assert all("--fit" in command and 24 < float(command[command.index("--minutes") + 1]) <= 25 for command in commands)


@pytest.mark.parametrize("told", [signal.SIGTERM, signal.SIGINT])
def test_a_queue_that_is_told_to_end_stops_its_runs_and_begins_no_other(tmp_path, recipe, told):
    """What they have learnt is there to go on from. Ctrl-C goes to all processes of a terminal, SIGTERM to the queue alone."""
    data = write_shapes(tmp_path / "blocks")
    names = ("first", "second")
    queue = written(
        tmp_path, *(RUN.format(name=name, recipe=recipe, data=data) + 'set = ["epochs=100000"]\n' for name in names)
    )
    command = [
        sys.executable,
        ROOT / "scripts" / "train_queue.py",
        queue,
        "--output",
        tmp_path / "runs",
        "--device",
        "cpu",
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as working:
        for line in working.stdout:
            if line.startswith("first: epoch"):
                break
        os.kill(working.pid, told) if told == signal.SIGTERM else os.killpg(working.pid, told)
        rest = working.stdout.read()
    assert f"first: Stopped by signal {told.name}; go on with --resume." in rest
    assert rest.splitlines()[-1] == "first: stopped; second: waiting" and working.returncode == 0
    assert (tmp_path / "runs" / "first" / "last" / "checkpoint.pt").is_file()


def test_a_queue_goes_on_where_its_state_cannot_be_written(script, tmp_path, recipe, capsys):
    (tmp_path / "queue.json").mkdir()
    queue = written(tmp_path, RUN.format(name="plain", recipe=recipe, data="nowhere"))
    script.Queue(
        script.read_queue(queue), script.argparse.Namespace(output=tmp_path, minutes=None, fit=False, together=1)
    )
    assert "queue.json" in capsys.readouterr().err


def test_a_run_of_the_queue_is_fitted_to_its_time(script, tmp_path, recipe, monkeypatch):
    asked = {}
    monkeypatch.setattr(script, "train", lambda *given, **settings: asked.update(settings))
    ends = script.time.time() + 120  # the start of the process counts
    arguments = script.argparse.Namespace(output=tmp_path, minutes=5, ends=ends, device="cpu", fit=True)
    script.train_one(script.Run("plain", str(recipe), ["nowhere"], []), arguments)
    assert 110 < asked["time_limit"] <= 120 and asked["fit"] and not asked["resume"]


@pytest.mark.parametrize(("fit", "together", "minutes"), [(False, 1, 12), (True, 1, 4), (True, 2, 6), (True, 3, 12)])
def test_runs_that_are_fitted_to_the_time_have_even_shares_of_it(script, tmp_path, recipe, fit, together, minutes):
    queue = written(tmp_path, *(RUN.format(name=name, recipe=recipe, data="nowhere") for name in "abc"))
    arguments = script.argparse.Namespace(output=tmp_path, minutes=12, fit=fit, together=together)
    assert script.Queue(script.read_queue(queue), arguments)._limit() == pytest.approx(60 * minutes, abs=1)


def test_a_recipe_that_cannot_be_fitted_is_known_before_the_first_run(tmp_path, recipe):
    queue = written(tmp_path, RUN.format(name="plain", recipe=recipe, data="nowhere"))
    refused = work(queue, tmp_path, "--fit", "--minutes", "5")
    assert refused.returncode == 1 and 'fitted to a time limit with schedule = "wsd" alone' in refused.stderr
    assert not (tmp_path / "runs").exists()


def test_to_fit_runs_without_a_time_is_refused(tmp_path, recipe):
    queue = written(tmp_path, RUN.format(name="plain", recipe=recipe, data="nowhere"))
    refused = work(queue, tmp_path, "--fit")
    assert refused.returncode == 2 and "--fit needs --minutes" in refused.stderr


def work(queue, folder, *options):
    """Where neither typer nor rich can be imported."""
    blocked = folder / "blocked"
    blocked.mkdir(exist_ok=True)
    for name in ("typer", "rich"):
        (blocked / f"{name}.py").write_text(f"raise ImportError('{name} is not there')\n")
    return subprocess.run(
        [
            sys.executable,
            ROOT / "scripts" / "train_queue.py",
            queue,
            "--output",
            folder / "runs",
            "--device",
            "cpu",
            *options,
        ],
        env={**os.environ, "PYTHONPATH": str(blocked), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )


def test_a_run_that_was_stopped_is_not_taken_for_finished(script, tmp_path, recipe):
    run = script.Run("plain", str(recipe), [], [])
    assert not run.finished(tmp_path)
    checkpoints = Checkpoints(tmp_path, fingerprint(run.chosen()), ["blocks", "train", "4"], epochs=1)
    checkpoints.save({}, epoch=1, step=0)
    assert not run.finished(tmp_path)
    checkpoints.save({}, epoch=1, step=0, finished=True)
    assert run.finished(tmp_path)
    longer = script.Run("plain", str(recipe), [], ["epochs=2"])
    assert not longer.finished(tmp_path)


def test_what_another_recipe_has_learnt_is_not_taken_for_finished(script, tmp_path, recipe):
    first = script.Run("plain", str(recipe), [], ["seed=1", "schedule=wsd", "epochs=4", "decay_epochs=1"])
    Checkpoints(tmp_path, fingerprint(first.chosen()), [], epochs=4).save({}, epoch=4, step=0, finished=True)
    assert first.finished(tmp_path)
    other = script.Run("plain", str(recipe), [], [*first.set, "seed=2"])
    longer = script.Run("plain", str(recipe), [], [*first.set, "epochs=9"])
    assert not other.finished(tmp_path, fit=True) and not longer.finished(tmp_path)
    assert longer.finished(tmp_path, fit=True)


def test_no_run_begins_where_no_time_is_left(script, tmp_path, recipe):
    queue = written(tmp_path, RUN.format(name="plain", recipe=recipe, data="nowhere"))
    arguments = script.argparse.Namespace(
        queue=queue, output=tmp_path / "runs", minutes=0.1, device="cpu", fit=False, together=1
    )
    assert script.work_through(script.read_queue(queue), arguments) == {"plain": "waiting"}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[[run]]\n", r"is no queue \(KeyError: 'name'\); expected \[\[run\]\] tables with name, recipe and data"),
        ("[run\n", r"is no queue \(TOMLDecodeError"),
        ("", r"is no queue \(KeyError: 'run'\)"),
    ],
)
def test_what_is_no_queue_is_refused(script, tmp_path, text, reason):
    with pytest.raises(SystemExit, match=reason):
        script.read_queue(written(tmp_path, text))


def test_a_slip_in_the_last_recipe_is_known_before_the_first_run(script, tmp_path, recipe):
    table = RUN.format(name="slip", recipe=recipe, data="nowhere") + 'set = ["epoch=2"]\n'
    with pytest.raises(RecipeError, match="epochs"):
        script.read_queue(written(tmp_path, RUN.format(name="plain", recipe=recipe, data="nowhere"), table))


@pytest.mark.parametrize(("queue", "count"), [("gpu_queue", 3), ("gpu_queue_camvid", 2)])
def test_the_queues_for_a_lent_gpu_can_be_read_and_fitted_to_a_time(script, monkeypatch, queue, count):
    monkeypatch.chdir(ROOT)
    runs = script.read_queue(ROOT / "scripts" / f"{queue}.toml")
    assert len(runs) == count
    require_fittable(run.chosen() for run in runs.values())


def test_two_runs_of_one_name_are_refused(script, tmp_path, recipe):
    table = RUN.format(name="plain", recipe=recipe, data="nowhere")
    with pytest.raises(SystemExit, match="two runs have one name"):
        script.read_queue(written(tmp_path, table, table))
