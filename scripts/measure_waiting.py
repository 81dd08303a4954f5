"""Train one epoch and tell how long its steps waited for the loader.

python scripts/measure_waiting.py recipes/RECIPE.toml --data DATA --output results/loader_waiting.json
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from lwrefinenet.files import write_atomically
from lwrefinenet.provenance import provenance

ONE_EPOCH = ("epochs=1", "late_epochs=0", "val_split=", "trackers=[]")


def main() -> None:
    """Run, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe")
    parser.add_argument("--data", required=True)
    parser.add_argument("--output", type=Path, required=True)
    arguments = parser.parse_args()
    recipe = without_late_epochs(Path(arguments.recipe).read_text())
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / Path(arguments.recipe).name
        path.write_text(recipe)
        settings = [word for setting in ONE_EPOCH for word in ("--set", setting)]
        command = [sys.executable, "-m", "lwrefinenet.cli", "train", str(path), "--data", arguments.data]
        subprocess.run([*command, *settings, "--output", f"{folder}/run"], check=True)
        epoch = json.loads((Path(folder) / "run" / "metrics.jsonl").read_text())
    result = {
        "what": "seconds of one epoch in optimiser steps, and seconds in which a step waited for its pictures",
        "recipe": Path(arguments.recipe).name,
        "seconds_in_steps": epoch["seconds"],
        "seconds_waiting": epoch["waiting"],
        "share_waiting": epoch["waiting"] / (epoch["seconds"] + epoch["waiting"]),
        **provenance(),
    }
    text = json.dumps(result, indent=2)
    print(text)
    write_atomically(arguments.output, (text + "\n").encode())


def without_late_epochs(recipe: str) -> str:
    """The recipe of the first epochs."""
    return "".join(line for line in recipe.splitlines(keepends=True) if not line.startswith("late_"))


if __name__ == "__main__":
    main()
