"""The proofs of scripts/prove_training.py, which run the real command: kill -9, and two processes."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.shapes import write_shapes

SCRIPT = Path(__file__).parents[2] / "scripts" / "prove_training.py"


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    return write_shapes(tmp_path_factory.mktemp("shapes"), train=12, val=4)


def proof(*arguments):
    done = subprocess.run([sys.executable, SCRIPT, *map(str, arguments)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout)


def test_a_run_killed_at_random_moments_and_resumed_gives_bit_equal_weights(shapes):
    found = proof("resume", "--data", shapes, "--kills", 2)
    assert found["holds"]
    assert found["weights_equal"]
    assert found["last_checkpoint_equal"]
    assert len(found["kills"]) >= 1


def test_two_processes_have_the_loss_curve_of_one(shapes):
    found = proof("processes", "--data", shapes)
    assert found["holds"]
    one, two = found["loss_per_epoch"].values()
    assert len(one) == len(two) == 8
    assert two == pytest.approx(one, rel=1e-4)


def test_the_proof_of_equality_notices_a_difference():
    spec = importlib.util.spec_from_file_location("prove_training", SCRIPT)
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    state = {"a": [torch.ones(2), 3], "b": {"c": "x"}}
    assert script.equal(state, {"a": [torch.ones(2), 3], "b": {"c": "x"}})
    assert not script.equal(state, {"a": [torch.tensor([1.0, 1.0 + 1e-7]), 3], "b": {"c": "x"}})
    assert not script.equal(state, {"a": [torch.ones(2), 4], "b": {"c": "x"}})
