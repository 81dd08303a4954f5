"""What offsets for the classes (logit adjustment) give: on val, where they are found, and on test.

git show ca96a0f:src/lwrefinenet/shipped/rf_lw_mobilenetv2.camvid.safetensors > mobilenetv2.safetensors
python scripts/measure_adjustment.py mobilenetv2.safetensors --data ../shared/data/camvid --output results/logit_adjustment.json

Several weights may be given. What the offsets would be worth on pictures like those of val, but unseen, is estimated on val alone.
"""

import argparse
import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from lwrefinenet import weights
from lwrefinenet.adjust import adjust_weights
from lwrefinenet.data.layouts import open_dataset
from lwrefinenet.evaluate import evaluate
from lwrefinenet.files import write_atomically
from lwrefinenet.predict import Predictor
from lwrefinenet.provenance import provenance


def main() -> None:
    """Adjust one file after the other on val, in PyTorch on the CPU, and score it on test before and afterwards."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", nargs="+", help="files, or names")
    parser.add_argument("--data", type=Path, required=True, help="the data folder")
    parser.add_argument("--output", type=Path, required=True)
    arguments = parser.parse_args()
    found = [measured(each, arguments.data) for each in arguments.weights]
    write_atomically(arguments.output, (json.dumps({"weights": found, **provenance()}, indent=2) + "\n").encode())


def measured(name_or_path: str, data: Path) -> dict[str, Any]:
    """Mean IoU, 0-1, of one network with and without offsets, and these."""
    pictures = open_dataset(data, "val")
    with TemporaryDirectory() as folder:
        adjusted = Path(folder) / "adjusted.safetensors"
        found = adjust_weights(name_or_path, adjusted, pictures, device=torch.device("cpu"))
        scores = {"before": scores_on_test(name_or_path, data)}
        if found.helps:
            scores["after"] = scores_on_test(adjusted, data)
    print(f"{name_or_path}: {found.described(pictures.labels.class_names)}")
    print("  test:", ", ".join(f"{when} {100 * score['mean_iou']:.1f} %" for when, score in scores.items()))
    return {
        "network": weights.read_meta(name_or_path).network,
        "sha256": weights.sha256_of(weights.locate(name_or_path)),
        "val": found.to_dict(pictures.labels.class_names),
        "test": scores,
    }


def scores_on_test(name_or_path: str | Path, data: Path) -> dict[str, Any]:
    """What `evaluate` says of the test split."""
    predictor = Predictor.from_weights(name_or_path, device="cpu", runtime="pytorch")
    return evaluate(predictor.predict_maps, open_dataset(data, "test"), labels=predictor.meta.labels).to_dict()


if __name__ == "__main__":
    main()
