"""Go the three commands of the README with a data set of one's own, as a newcomer would, and measure where they lead.

    python scripts/measure_journey.py --output results/own_data_journey.json

Writes the shapes of examples/make_shapes.py into a temporary folder, checks them, trains recipes/custom.toml on them, predicts
a picture that is in neither split; states the mean IoU on val before and after, and the seconds of each command.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from lwrefinenet.data.layouts import open_dataset
from lwrefinenet.evaluate import evaluate
from lwrefinenet.files import write_atomically
from lwrefinenet.predict import Predictor
from lwrefinenet.provenance import provenance
from lwrefinenet.training.recipe import Recipe
from lwrefinenet.training.run_data import open_data
from lwrefinenet.training.start import build_state
from lwrefinenet.weights import load

ROOT = Path(__file__).parents[1]
RECIPE = ROOT / "recipes" / "custom.toml"


def main() -> None:
    """Run, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, help="JSON file for the result")
    parser.add_argument("--keep", type=Path, help="work in this new folder and leave it, to look at")
    arguments = parser.parse_args()
    if arguments.keep is not None and arguments.keep.exists():
        parser.error(f"--keep {arguments.keep}: is there already, and would stand in the way; name a new folder.")
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.keep or Path(temporary)
        folder.mkdir(exist_ok=True)
        result = {**journey(folder), **provenance()}
    text = json.dumps(result, indent=2)
    print(text)
    if arguments.output is not None:
        write_atomically(arguments.output, (text + "\n").encode())


def journey(folder: Path, settings: str = "") -> dict[str, object]:
    """The shapes, then the three commands, in this folder.  settings: what `train` is told beside the recipe."""
    subprocess.run([sys.executable, ROOT / "examples" / "make_shapes.py", folder / "my_data"], check=True)
    before = untrained_score(folder / "my_data")
    best = folder / "runs" / "custom" / "best.safetensors"
    commands = (
        "lwrefinenet data check my_data",
        f"lwrefinenet train {RECIPE.relative_to(ROOT)} --data my_data {settings}".rstrip(),
        "lwrefinenet predict new.jpg --weights runs/custom/best.safetensors",
    )
    steps = [timed(command, folder) for command in commands]
    after = score(Predictor.from_model(*load(best), "cpu"), folder / "my_data")
    return {
        "claim": "three commands take a data set of one's own from an untrained network to one that knows its classes",
        "mean_iou_before": before,
        "mean_iou_after": after,
        "seconds": {str(step["command"]): step["seconds"] for step in steps},
        "output": {str(step["command"]): step["output"] for step in steps},
        "share_of_right_pixels_in_new_picture": right_share(folder),
        "protocol": "my_data val, 4 pictures at 240x192, 3 classes; before: the recipe's network at its first step",
    }


def timed(command: str, folder: Path) -> dict[str, object]:
    """Run a command in the folder, with the recipes where the README has them."""
    words = command.replace("recipes/", f"{ROOT}/recipes/").split()
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "lwrefinenet.cli", *words[1:]], cwd=folder, capture_output=True, text=True
    )
    if done.returncode:
        raise SystemExit(f"{command} failed:\n{done.stdout}\n{done.stderr}")
    output = re.sub(r"\s+$", "", done.stdout, flags=re.MULTILINE)
    return {"command": command, "seconds": round(time.monotonic() - began, 1), "output": output.splitlines()}


def untrained_score(data: Path) -> float:
    """What the network of the recipe knows before its first step."""
    recipe = Recipe.from_toml(RECIPE)
    state, meta = build_state(recipe, open_data(recipe, {"": data}), torch.device("cpu"), print)
    return score(Predictor.from_model(state.shipped_model.eval(), meta, "cpu"), data)


def score(predictor: Predictor, data: Path) -> float:
    """Mean IoU on val."""
    return evaluate(predictor.predict_maps, open_dataset(data, "val"), labels=predictor.meta.labels).mean_iou


def right_share(folder: Path) -> float:
    """Of the new picture, against the mask that it was made from."""
    sys.path.insert(0, str(ROOT / "examples"))
    from make_shapes import SIZE, shapes_picture

    _, truth = shapes_picture(seed=2000, size=SIZE)
    predicted = np.array(Image.open(folder / "output" / "new_mask.png"))
    return float((predicted == truth).mean())


if __name__ == "__main__":
    main()
