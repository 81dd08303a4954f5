"""From logits to colours, our way and the published one, side by side on the logits of real pictures; and a large one's memory.

python scripts/measure_tail.py rf_lw_efficientnet_lite0.nyu --pictures DIR --output results/tail.json
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import cv2
import numpy as np
import PIL.Image
import torch
import torch.nn.functional as F

from lwrefinenet import weights
from lwrefinenet.benchmark.inference_process import forget_peak, give_back, peak_megabytes
from lwrefinenet.files import write_atomically
from lwrefinenet.images import colour_table, coloured, read_picture
from lwrefinenet.labels import LabelSet, voc_palette
from lwrefinenet.predict import Predictor
from lwrefinenet.provenance import provenance
from lwrefinenet.upsample import labels_at

CLASSES = 21
SIZE = (468, 625)
LARGE, LARGE_CLASSES = (3000, 4000), 60
LARGE_WAYS = {"usual": None, "whole": 0}  # by the tile that the Predictor is given
PALETTE = voc_palette(CLASSES)
COLOURS = colour_table(PALETTE, 255)


def main() -> None:
    """Measure, print, write; or, asked for it by itself, be the process whose memory is measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights")
    parser.add_argument("--pictures", type=Path, required=True)
    parser.add_argument("--count", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--large", choices=tuple(LARGE_WAYS))
    arguments = parser.parse_args()
    if arguments.large:
        print(large_picture(arguments.weights, arguments.pictures, LARGE_WAYS[arguments.large]))
        return
    files = sorted(arguments.pictures.iterdir())[: arguments.count]
    result = {
        "what": f"seconds from logits of {CLASSES} classes to colours, {SIZE[1]}x{SIZE[0]}, medians over pictures and rounds",
        "logits": f"the first {CLASSES} classes of {arguments.weights} on {len(files)} pictures",
        "ways": {
            "ours": "label_cells, then the palette by Pillow",
            "published": "cv2 bicubic, argmax, colours by index",
        },
        **tail_times(arguments.weights, files, arguments.rounds),
        "large": {
            "what": f"peak memory of a process that predicts {LARGE[1]}x{LARGE[0]} pixels with {LARGE_CLASSES} classes, megabytes",
            **{way: measured_apart(way, arguments) for way in LARGE_WAYS},
        },
        **provenance(),
    }
    text = json.dumps(result, indent=2)
    print(text)
    write_atomically(arguments.output, (text + "\n").encode())


def tail_times(weights: str, files: list[Path], rounds: int) -> dict[str, object]:
    """Both ways by turns on each picture's logits, and the share of labels equal to torch's."""
    predictor = Predictor.from_weights(weights, device="cpu")
    seconds: dict[str, list[float]] = {"ours": [], "published": []}
    equal = []
    for file in files:
        pixels = np.array(PIL.Image.fromarray(read_picture(file).pixels).resize(SIZE[::-1]))
        logits = predictor.logits(torch.from_numpy(pixels)[None])[:, :CLASSES].contiguous(
            memory_format=torch.channels_last
        )
        expected = F.interpolate(logits, size=SIZE, mode="bilinear", align_corners=False).argmax(1).to(torch.uint8)
        equal.append(float((labels_at(logits, SIZE) == expected).float().mean()))
        for _ in range(rounds):
            for way, run in (("ours", ours), ("published", published)):
                seconds[way].append(timed(run, logits))
    medians = {way: statistics.median(values) for way, values in seconds.items()}
    return {"seconds": medians, "ratio": medians["published"] / medians["ours"], "equal_labels": float(np.mean(equal))}


def ours(logits: torch.Tensor) -> np.ndarray:
    """(1, C, h, w) logits to (H, W, 3) colours, as the package does it."""
    return coloured(labels_at(logits, SIZE)[0].numpy(), PALETTE)


def published(logits: torch.Tensor) -> np.ndarray:
    """The same as the published code did it, bicubic."""
    cells = logits[0].permute(1, 2, 0).numpy()
    resized = cv2.resize(cells, SIZE[::-1], interpolation=cv2.INTER_CUBIC)
    return COLOURS[resized.argmax(axis=2).astype(np.uint8)]


def timed(run: Callable[[torch.Tensor], np.ndarray], logits: torch.Tensor) -> float:
    """Seconds of one call."""
    begun = time.perf_counter()
    run(logits)
    return time.perf_counter() - begun


def measured_apart(way: str, arguments: argparse.Namespace) -> float:
    """Megabytes, found out by another process."""
    command = [sys.executable, __file__, arguments.weights, "--pictures", str(arguments.pictures), "--output", "none"]
    return float(subprocess.run([*command, "--large", way], check=True, capture_output=True, text=True).stdout)


def large_picture(name: str, pictures: Path, tile: int | None) -> float:
    """Predict one picture, enlarged, with a head of as many classes; the most memory that this took."""
    height, width = LARGE
    pixels = np.array(PIL.Image.fromarray(read_picture(sorted(pictures.iterdir())[0]).pixels).resize((width, height)))
    model, meta = weights.load(name)
    model.head = torch.nn.Conv2d(
        model.head.in_channels, LARGE_CLASSES, model.head.kernel_size, padding=model.head.padding
    )
    classes = tuple(f"class {index}" for index in range(LARGE_CLASSES))
    labels = LabelSet("large", classes, voc_palette(LARGE_CLASSES))
    with TemporaryDirectory() as folder:
        file = Path(folder) / "wider.safetensors"
        weights.save(file, model, replace(meta, labels=labels))
        os.environ["XDG_CACHE_HOME"] = folder
        # What a start converts it does once; what is measured is every start after it.
        Predictor.from_weights(file, device="cpu").predict_mask(pixels[:256, :256])
        predictor = Predictor.from_weights(file, device="cpu", tile=tile)
        give_back()
        forget_peak()
        predictor.predict_mask(pixels)
    return peak_megabytes()


if __name__ == "__main__":
    main()
