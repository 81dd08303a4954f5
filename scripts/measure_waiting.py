"""Train one epoch and tell how long its steps waited for the loader.

python scripts/measure_waiting.py recipes/RECIPE.toml --data DATA --output results/loader_waiting.json
"""

import argparse
import json
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from lwrefinenet.files import write_atomically
from lwrefinenet.provenance import provenance
from lwrefinenet.training.recipe import Recipe

LATE = ("late_crop_size", "late_scale_range")
STAGES = ("stage_epochs", "stage_data", "stage_lr_scales")


def main() -> None:
    """Run, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe")
    parser.add_argument("--data", required=True)
    parser.add_argument("--output", type=Path, required=True)
    arguments = parser.parse_args()
    recipe = one_epoch(Recipe.from_toml(arguments.recipe))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / Path(arguments.recipe).name
        path.write_text(recipe.to_toml())
        command = [sys.executable, "-m", "lwrefinenet.cli", "train", str(path), "--data", arguments.data]
        subprocess.run([*command, "--output", f"{folder}/run"], check=True)
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


def one_epoch(recipe: Recipe) -> Recipe:
    """The first epoch of the recipe by itself: no validation, no late epochs, no stages, and a rate that does not fall."""
    late, stages = (dict.fromkeys(names) for names in (LATE, STAGES))
    rates = {"schedule": "constant", "decay_epochs": 0, "late_epochs": 0, "adjust_logits": False, "early_stopping": 0}
    return replace(recipe, epochs=1, val_split="", val_data="", trackers=(), **rates, **late, **stages)


if __name__ == "__main__":
    main()
