"""Train a list of recipes one after the other, unattended; also from a bare source tree, where nothing can be installed.

    python scripts/train_queue.py queue.toml --output runs --minutes 25
    python scripts/train_queue.py queue.toml --output runs --minutes 25 --fit --together 3    # a lent GPU, used to the full

In queue.toml, one table for each run; paths are as seen from where the command is given:

    [[run]]
    name = "nyu_seed1"                                  # its folder under --output
    recipe = "recipes/nyu_rf_lw_efficientnet_lite0.toml"
    data = ["../shared/data/nyudv2"]
    set = ["seed=1"]                                    # fields that differ from the recipe; may be left out

--fit gives every run an even share of the minutes and as many epochs as end in it (recipes with schedule "wsd"); --together
trains several at once, which together fill a large GPU.

Each run is a process of its own, so that one that fails does not end the queue. OUTPUT/queue.json says after each what
became of it. Given again, the same command passes over what is finished and goes on with what is not. It needs torch, timm,
safetensors and accelerate, and neither typer nor rich. The exit code is 1 where a run failed.
"""

import argparse
import json
import math
import signal
import subprocess
import sys
import threading
import time
import tomllib
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SOURCES = Path(__file__).parents[1] / "src"
if SOURCES.is_dir():
    sys.path.insert(0, str(SOURCES))  # a bare tree

from lwrefinenet.data.stages import parse_data_arguments  # noqa: E402
from lwrefinenet.device import resolve_device  # noqa: E402
from lwrefinenet.errors import LwRefineNetError  # noqa: E402
from lwrefinenet.evaluate import Evaluation  # noqa: E402
from lwrefinenet.files import write_atomically  # noqa: E402
from lwrefinenet.training.checkpoints import Checkpoints  # noqa: E402
from lwrefinenet.training.pace import require_fittable  # noqa: E402
from lwrefinenet.training.progress import StepReport  # noqa: E402
from lwrefinenet.training.recipe import Recipe  # noqa: E402
from lwrefinenet.training.run_dir import fingerprint  # noqa: E402
from lwrefinenet.training.train import train  # noqa: E402

STEPS_BETWEEN_LINES = 50
FEWEST_SECONDS = 30  # left of the time, below which no further run begins


@dataclass(frozen=True)
class Run:
    """One table of the queue."""

    name: str
    recipe: str
    data: list[str]
    set: list[str]

    def chosen(self) -> Recipe:
        """The recipe as it will be used; RecipeError as `Recipe.from_toml`."""
        return Recipe.from_toml(self.recipe, self.set)

    def finished(self, folder: Path, *, fit: bool = False) -> bool:
        """Whether its last checkpoint says so, of this very recipe.  fit: with however many epochs."""
        manifest, recipe = Checkpoints(folder, "", []).manifest(), self.chosen()
        same = manifest.get("recipe") == fingerprint(recipe) and (fit or manifest.get("epochs") == recipe.epochs)
        return same and bool(manifest.get("finished"))


class Lines:
    """Tells how a run goes in plain lines, each with its name, for a log."""

    def __init__(self, name: str) -> None:
        self.name = name

    def say(self, sentence: str) -> None:
        print(f"{self.name}: {sentence}", flush=True)

    def stepped(self, report: StepReport) -> None:
        if report.done % STEPS_BETWEEN_LINES == 0:
            self.say(f"epoch {report.epoch}/{report.epochs} step {report.done}/{report.total} loss {report.loss:.3f}")

    def validated(self, epoch: int, evaluation: Evaluation, *, best: bool) -> None:
        self.say(
            f"epoch {epoch}: validation mean IoU {100 * evaluation.mean_iou:.2f} %{' (best so far)' if best else ''}"
        )

    def watch(self, indices: Iterable[int], *, what: str) -> Iterable[int]:
        return indices


def main() -> None:
    """Work through the queue."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("queue", type=Path, help="TOML file with the runs")
    parser.add_argument("--output", type=Path, default=Path("runs"), help="folder of the run folders")
    parser.add_argument(
        "--minutes", type=float, help="of all runs together; the last one stops cleanly and can be resumed"
    )
    parser.add_argument(
        "--fit", action="store_true", help="with --minutes: each run gets as many epochs as end in its share"
    )
    parser.add_argument("--together", type=int, default=1, help="how many runs are trained at once")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--only", help=argparse.SUPPRESS)  # the one run that this process is for
    parser.add_argument("--ends", type=float, help=argparse.SUPPRESS)  # when it must have ended, by time.time()
    arguments = parser.parse_args()
    if arguments.together < 1 or (arguments.fit and arguments.minutes is None):
        parser.error("--together is at least 1, and --fit needs --minutes, to which runs are fitted.")
    try:
        runs = read_queue(arguments.queue)
        if arguments.only is not None:
            with suppress(KeyboardInterrupt):  # before its first step a run ends by it: stopped, not failed
                train_one(runs[arguments.only], arguments)
            return
        if arguments.fit:
            require_fittable(run.chosen() for run in runs.values())
    except LwRefineNetError as error:
        raise SystemExit(f"{arguments.only or arguments.queue}: {error}") from None
    raise SystemExit(1 if "failed" in work_through(runs, arguments).values() else 0)


def read_queue(path: Path) -> dict[str, Run]:
    """The runs by name, each recipe read once, so that a slip in the last one is known before the first begins."""
    try:
        tables = tomllib.loads(path.read_text())["run"]
        runs = [Run(table["name"], table["recipe"], table["data"], table.get("set", [])) for table in tables]
    except (OSError, KeyError, TypeError, tomllib.TOMLDecodeError) as error:
        raise SystemExit(
            f"{path}: is no queue ({type(error).__name__}: {error}); expected [[run]] tables with name, recipe and data."
        ) from None
    if len({run.name for run in runs}) != len(runs):
        raise SystemExit(f"{path}: two runs have one name; each name is a folder.")
    for run in runs:
        run.chosen()
    return {run.name: run for run in runs}


def work_through(runs: dict[str, Run], arguments: argparse.Namespace) -> dict[str, str]:
    """What became of each run: finished, stopped, failed or waiting."""
    arguments.output.mkdir(parents=True, exist_ok=True)
    queue = Queue(runs, arguments)
    before = {number: signal.signal(number, queue.stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        with ThreadPoolExecutor(arguments.together) as pool:
            list(pool.map(queue.work, [name for name, state in queue.states.items() if state == "waiting"]))
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    print("; ".join(f"{name}: {state}" for name, state in queue.states.items()))
    return queue.states


class Queue:
    """The runs, and what became of each so far; several threads work on it, one for each run in hand."""

    def __init__(self, runs: dict[str, Run], arguments: argparse.Namespace) -> None:
        self.runs, self.arguments = runs, arguments
        self.ends = None if arguments.minutes is None else time.monotonic() + 60 * arguments.minutes
        self.states = {name: "finished" if self._finished(name) else "waiting" for name in runs}
        rounds = math.ceil(list(self.states.values()).count("waiting") / arguments.together)
        self.share = 60 * arguments.minutes / max(1, rounds) if arguments.fit else math.inf
        self.lock = threading.Lock()
        self.children: set[subprocess.Popen[bytes]] = set()
        self.stopped = False
        self._write_down()

    def work(self, name: str) -> None:
        """Train one run in a process of its own, unless no time is left."""
        limit = self._limit()
        if self.stopped or (limit is not None and limit <= FEWEST_SECONDS):
            return
        print(f"== {name}", flush=True)
        with subprocess.Popen(_command(name, self.arguments, limit)) as child:
            self.children.add(child)
            if self.stopped:
                child.terminate()
        self.children.discard(child)
        with self.lock:
            self.states[name] = "failed" if child.returncode else "finished" if self._finished(name) else "stopped"
            self._write_down()

    def stop(self, number: int, _frame: object) -> None:
        """Let each run in hand save and stop, and begin no other; a terminal tells their processes of Ctrl-C itself."""
        self.stopped = True
        if number != signal.SIGINT:
            for child in tuple(self.children):
                child.terminate()

    def _limit(self) -> float | None:
        """Seconds for a run that begins now: all that are left, or, to be fitted, its even share of them."""
        return None if self.ends is None else min(self.share, self.ends - time.monotonic())

    def _finished(self, name: str) -> bool:
        return self.runs[name].finished(self.arguments.output / name, fit=self.arguments.fit)

    def _write_down(self) -> None:
        """For who looks; the runs go on where it cannot be written."""
        try:
            write_atomically(self.arguments.output / "queue.json", (json.dumps(self.states, indent=2) + "\n").encode())
        except LwRefineNetError as error:
            print(f"warning: {error}", file=sys.stderr, flush=True)


def _command(name: str, arguments: argparse.Namespace, limit: float | None) -> list[Any]:
    """What trains this one run; limit: seconds, in which the time to start the process counts."""
    command = [sys.executable, __file__, arguments.queue, "--output", arguments.output, "--device", arguments.device]
    if limit is not None:
        command += ["--minutes", f"{limit / 60:.3f}", "--ends", f"{time.time() + limit:.1f}"]
    return [*command, *(["--fit"] if arguments.fit else []), "--only", name]


def train_one(run: Run, arguments: argparse.Namespace) -> None:
    """Begin the run, or go on with it."""
    folder = arguments.output / run.name
    train(
        run.chosen(),
        parse_data_arguments(run.data),
        folder,
        device=resolve_device(arguments.device),
        listener=Lines(run.name),
        resume=(folder / "recipe.toml").is_file(),
        time_limit=None if arguments.ends is None else arguments.ends - time.time(),
        fit=arguments.fit,
    )


if __name__ == "__main__":
    main()
