"""Prove what training promises, by running the real command: killed runs end alike, and so do runs on several processes.

    python scripts/prove_training.py resume --data ../shared/data/camvid --set epochs=4 --kills 6 --output results/kill_test.json
    python scripts/prove_training.py processes --data ../shared/data/camvid --set epochs=4 --set batch_size=60 \
        --output results/ddp_equality.json

`resume`: one run from start to end; one that is killed (SIGKILL) at random moments and resumed until it ends. Every tensor of
their weights and of their last checkpoints must be equal, bit for bit.
`processes`: one process; two of them (gloo, started by torchrun) with the same global batch. Their losses must agree; over many
steps of small batches rounding grows, in any training, until two runs part: the steps are therefore few.
"""

import argparse
import json
import math
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import torch

from lwrefinenet.files import write_atomically
from lwrefinenet.provenance import provenance
from lwrefinenet.weights import load

# Small enough for many runs; no field is special to the proof but the frozen batch norms of `processes`.
RECIPE = """
model = "rf_lw"
backbone = "test_resnet"
backbone_weights = "none"
decoder_channels = 32
epochs = 12
batch_size = 4
crop_size = [64, 96]
backbone_lr = 5e-3
decoder_lr = 5e-3
warmup_steps = 3
ema_decay = 0.9
validate_every = 3
checkpoint_minutes = 0.01
class_weight_power = 0.5
"""
BEGINS = "Learning from epoch"  # what the command says before its first step
ENDS = "Best weights so far"  # and after its last
TOLERANCE = 1e-4  # relative, of an epoch's loss: float32 sums in another order, which every further step carries on


def main() -> None:
    """Run one proof, print and write what it found; exit code 1 where it fails."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("proof", choices=("resume", "processes"))
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--output", type=Path, help="JSON file for the result")
    parser.add_argument("--kills", type=int, default=4, help="resume: how often the run is killed")
    parser.add_argument("--seed", type=int, default=0, help="resume: of the random moments")
    parser.add_argument("--set", action="append", default=[], dest="settings", help="override a field of the recipe")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        prove = prove_resume if arguments.proof == "resume" else prove_processes
        result = prove(Path(folder), arguments)
    text = json.dumps({**result, **provenance()}, indent=2)
    print(text)
    if arguments.output is not None:
        write_atomically(arguments.output, (text + "\n").encode())
    raise SystemExit(0 if result["holds"] else 1)


def prove_resume(folder: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """Kill at random moments, counted from the first step after each start, within the time that a whole run needs."""
    recipe = write_recipe(folder, arguments.settings)
    seconds = run_and_kill(command(recipe, arguments.data, folder / "whole"), math.inf)
    moments = random.Random(arguments.seed)
    kills: list[dict[str, Any]] = []
    while len(kills) < arguments.kills:
        resume = ["--resume"] if (folder / "killed" / "recipe.toml").exists() else []
        moment = moments.uniform(0, 1.2 * seconds / arguments.kills)
        learnt = run_and_kill([*command(recipe, arguments.data, folder / "killed"), *resume], moment)
        if learnt < moment:
            break  # it ended before
        kills.append({"seconds_after_first_step": round(moment, 2), **position(folder / "killed")})
    run_and_kill([*command(recipe, arguments.data, folder / "killed"), "--resume"], math.inf)
    same_weights = equal_weights(folder / "whole" / "best.safetensors", folder / "killed" / "best.safetensors")
    same_state = equal(last_state(folder / "whole"), last_state(folder / "killed"))
    return {
        "claim": "a run killed by SIGKILL at random moments and resumed ends bit-equal to one that was not",
        "holds": same_weights and same_state and bool(kills),
        "kills": kills,
        "weights_equal": same_weights,
        "last_checkpoint_equal": same_state,
        "seconds_of_an_undisturbed_run": round(seconds, 1),
        "recipe": recipe.read_text(),
    }


def prove_processes(folder: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """Batch norms are frozen: two processes have statistics of their own, which is another computation.

    SGD, because AdamW's division by the size of the gradient makes large steps of rounding errors; float32, because bfloat16
    rounds by more than the tolerance.
    """
    rates = ["backbone_lr = 0.02", "decoder_lr = 0.02", "epochs = 8"]
    exact = ["freeze_batch_norm = true", 'optimizer = "sgd"', 'precision = "float32"']
    recipe = write_recipe(folder, [*exact, *rates, *arguments.settings])
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    run_whole(command(recipe, arguments.data, folder / "one"))
    run_whole(command(recipe, arguments.data, folder / "two", launcher=launcher))
    one, two = (losses(folder / name) for name in ("one", "two"))
    largest = max(abs(left - right) / left for left, right in zip(one, two, strict=True))
    scores = [scores_of(folder / name) for name in ("one", "two")]
    return {
        "claim": "two gloo processes with the same global batch have the loss curve of one process",
        "holds": largest < TOLERANCE and losses_fall(one),
        "loss_per_epoch": {"one process": one, "two processes": two},
        "largest_relative_difference": largest,
        "tolerance": TOLERANCE,
        "validation_mean_iou": {"one process": scores[0], "two processes": scores[1]},
        "recipe": recipe.read_text(),
    }


def write_recipe(folder: Path, settings: list[str]) -> Path:
    """The recipe with overrides, so that one file says all."""
    lines = {line.partition("=")[0].strip(): line for line in [*RECIPE.strip().splitlines(), *settings]}
    path = folder / "proof.toml"
    path.write_text("\n".join(lines.values()) + "\n")
    return path


def command(recipe: Path, data: Path, output: Path, launcher: list[str] | None = None) -> list[str]:
    """`lwrefinenet train`, by this Python, on the CPU."""
    train = ["train", str(recipe), "--data", str(data), "--output", str(output), "--device", "cpu"]
    return [sys.executable, *(launcher or []), "-m", "lwrefinenet.cli", *train]


def run_whole(arguments: list[str]) -> None:
    """Wait for the end; what went wrong is shown."""
    done = subprocess.run(arguments, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(arguments)} failed with {done.returncode}:\n{done.stdout}\n{done.stderr}")


def run_and_kill(arguments: list[str], seconds: float) -> float:
    """Kill a run this many seconds after it begins to learn; returns how long it learnt."""
    process = subprocess.Popen(
        arguments,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    assert process.stdout is not None
    said = []
    for line in process.stdout:
        said.append(line)
        if line.startswith(BEGINS):
            break
    began = time.monotonic()
    killer = threading.Timer(min(seconds, threading.TIMEOUT_MAX), process.kill)
    killer.start()
    ended = math.nan
    for line in process.stdout:
        said.append(line)
        ended = time.monotonic() - began if line.startswith(ENDS) else ended
    process.wait()
    killer.cancel()
    if process.returncode not in (0, -signal.SIGKILL):
        raise SystemExit(f"{' '.join(arguments)} failed with {process.returncode}:\n{''.join(said)}")
    return ended if process.returncode == 0 else time.monotonic() - began


def position(run: Path) -> dict[str, Any]:
    """Where the last checkpoint of a run is."""
    for folder in ("last", "previous"):
        manifest = run / folder / "manifest.json"
        if manifest.exists():
            values = json.loads(manifest.read_text())
            return {"checkpoint_epoch": values["epoch"], "checkpoint_step": values["step"]}
    return {"checkpoint_epoch": None, "checkpoint_step": None}


def last_state(run: Path) -> Any:
    """Weights, optimiser, schedule, average, position and random generators; not the seconds it took."""
    state = torch.load(run / "last" / "checkpoint.pt", weights_only=True)
    state["state"]["epoch_sums"] = None
    return state


def equal(left: Any, right: Any) -> bool:
    """Bit for bit, through dictionaries and lists."""
    if isinstance(left, torch.Tensor):
        return torch.equal(left, right)
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(equal(value, right[key]) for key, value in left.items())
    if isinstance(left, list | tuple):
        return len(left) == len(right) and all(map(equal, left, right))
    return bool(left == right)


def equal_weights(left: Path, right: Path) -> bool:
    """Every tensor of two weights files."""
    return equal(dict(load(left)[0].state_dict()), dict(load(right)[0].state_dict()))


def metrics(run: Path) -> list[dict[str, Any]]:
    """What the run logged."""
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def losses(run: Path) -> list[float]:
    """The mean loss of every epoch."""
    return [line["loss"] for line in metrics(run) if "loss" in line]


def scores_of(run: Path) -> list[float]:
    """The mean IoU of every validation."""
    return [line["mean_iou"] for line in metrics(run) if "mean_iou" in line]


def losses_fall(curve: list[float]) -> bool:
    """A curve that does not fall proves nothing."""
    return curve[-1] < curve[0]


if __name__ == "__main__":
    main()
