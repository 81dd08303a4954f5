"""Designs of small networks compared: the score of a short training on CamVid, the same for all, against milliseconds.

python scripts/measure_curve.py --data ../shared/data/camvid --mobilenetv2 ../shared/data/weights/mobilenetv2_imagenet.safetensors \
    --output results/nano_curve.json --plot docs/pictures/nano_curve.png

Trains what is not trained yet under --runs, about ten minutes each on two cores; what was stopped goes on where it was.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

from lwrefinenet.benchmark.accuracy_plot import accuracy_plot
from lwrefinenet.benchmark.inference import inference_speed
from lwrefinenet.files import write_atomically
from lwrefinenet.provenance import provenance
from lwrefinenet.weights import SHIPPED_FOLDER

RECIPE = Path(__file__).parents[1] / "recipes" / "camvid_nano_curve.toml"
LITE0, MOBILENETV2 = "rf_lw_nano_efficientnet_lite0", "rf_lw_nano_mobilenetv2"
DESIGNS = {  # backbone, width of the decoder, links of its chains, input scale
    "lite0 128x4": (LITE0, 128, 4, 1.0),
    "lite0 48x2": (LITE0, 48, 2, 1.0),
    "lite0 96x4 at 0.75": (LITE0, 96, 4, 0.75),
    "lite0 64x4 at 0.8": (LITE0, 64, 4, 0.8),
    "lite0 64x4 at 0.75": (LITE0, 64, 4, 0.75),
    "lite0 48x2 at 0.75": (LITE0, 48, 2, 0.75),
    "lite0 48x2 at 0.5": (LITE0, 48, 2, 0.5),
    "mobilenetv2 48x2": (MOBILENETV2, 48, 2, 1.0),
    "mobilenetv2 48x2 at 0.75": (MOBILENETV2, 48, 2, 0.75),
}
PEER = "torchvision:lraspp_mobilenet_v3_large"
SIZE = (468, 625)


def main() -> None:
    """Train, measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--mobilenetv2", type=Path, required=True, help="its ImageNet weights")
    parser.add_argument("--runs", type=Path, default=Path("output/nano_curve"))
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--backend", default="openvino")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--plot", type=Path)
    arguments = parser.parse_args()
    runs = {name: arguments.runs / name.replace(" ", "_") for name in DESIGNS}
    for name, run in runs.items():
        train(name, run, arguments.data, arguments.mobilenetv2)
    speed = speeds({name: run / "best.safetensors" for name, run in runs.items()}, arguments.backend, arguments.rounds)
    for name, run in runs.items():
        speed["subjects"][name].update(learnt(name, run))
    if arguments.plot:
        write_atomically(arguments.plot, accuracy_plot(speed))
    result = {"recipe": RECIPE.name, "backend": arguments.backend, **speed, **provenance()}
    write_atomically(arguments.output, (json.dumps(result, indent=2) + "\n").encode())
    for name, subject in speed["subjects"].items():
        score = f"{subject['score']:.1%}" if "score" in subject else ""
        print(f"{name:45s} {score:>6s} {subject['ways'][arguments.backend]['milliseconds']['network']['p50']:7.1f} ms")


def train(name: str, run: Path, data: Path, mobilenetv2: Path) -> None:
    """Let the command line train one design, unless it has."""
    if (run / "metrics.jsonl").is_file() and "mean_iou" in (run / "metrics.jsonl").read_text():
        return
    model, channels, links, scale = DESIGNS[name]
    fields = {"model": model, "decoder_channels": channels, "decoder_links": links, "input_scale": scale}
    if model == MOBILENETV2:
        fields.update(backbone_weights=mobilenetv2, input_range="symmetric")
    command = [sys.executable, "-m", "lwrefinenet.cli", "train", str(RECIPE), "--data", str(data), "--output", str(run)]
    resume = ["--resume"] if (run / "last").is_dir() else []
    subprocess.run([*command, *resume, *(f"--set={key}={value}" for key, value in fields.items())], check=True)


def learnt(name: str, run: Path) -> dict[str, Any]:
    """The design, its score on val and what it was measured by."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    last = [line for line in lines if "mean_iou" in line][-1]
    protocol = f"{last['protocol']['dataset']} {last['protocol']['split']}"
    keys = ("network", "decoder_channels", "decoder_links", "input_scale")
    design = dict(zip(keys, DESIGNS[name], strict=True))
    return {"design": design, "score": last["mean_iou"], "score_protocol": f"{protocol}, {last['epoch']} epochs"}


def speeds(files: dict[str, Path], backend: str, rounds: int) -> dict[str, Any]:
    """All designs and the peer by turns, by their names here."""
    found = inference_speed(
        [*map(str, files.values()), PEER],
        [backend],
        size=SIZE,
        threads=torch.get_num_threads(),
        picture=SHIPPED_FOLDER / "street.jpg",
        rounds=rounds,
    )
    names = {str(file): name for name, file in files.items()}
    found["subjects"] = {names.get(key, key): subject for key, subject in found["subjects"].items()}
    return found


if __name__ == "__main__":
    main()
