"""How much of a depth's error a straight line takes away: depth * gain + offset, found on pictures that weights did not learn from.

lwrefinenet train RECIPE --data ../shared/data/nyudv2 --output runs/fit --set train_split=train_fit
python scripts/measure_depth_correction.py runs/fit/best.safetensors --data ../shared/data/nyudv2 --split train_holdout \
    --output results/nyu_depth_correction.json

A network that fits its training pictures far better than others may say too little or too much of those others as a whole, which a
gain would mend. Every line is found on four fifths of the pictures, in their order so that those of one room stay together, and
scored on the fifth that is left. Beside it stands the error that would be left if the scale of every picture were known.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lwrefinenet.data.dataset import SegmentationDataset
from lwrefinenet.data.layouts import open_dataset
from lwrefinenet.files import write_atomically
from lwrefinenet.predict import Predictor
from lwrefinenet.provenance import provenance

FOLDS = 5


def main() -> None:
    """Measure in PyTorch on the CPU, print, and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", help="a file, or a name, of a network with depth")
    parser.add_argument("--data", type=Path, required=True, help="the data folder")
    parser.add_argument("--split", required=True, help="one that the weights have not learnt from, and not test")
    parser.add_argument("--output", type=Path, required=True)
    arguments = parser.parse_args()
    dataset = open_dataset(arguments.data, arguments.split)
    predictor = Predictor.from_weights(arguments.weights, device="cpu", runtime="pytorch")
    found = corrections(np.stack([of_picture(predictor, dataset, index) for index in range(len(dataset))]))
    for name, value in found.items():
        print(f"{name}: {value}")
    protocol = {"dataset": dataset.name, "split": dataset.split, "pictures": len(dataset), "folds": FOLDS}
    result = {"protocol": protocol, **found, "recipe": predictor.meta.recipe, **provenance()}
    write_atomically(arguments.output, (json.dumps(result, indent=2) + "\n").encode())


def of_picture(predictor: Predictor, dataset: SegmentationDataset, index: int) -> NDArray[np.float64]:
    """`moments` of one picture of the set."""
    record = dataset.labelled(index, ("depth",))
    found = predictor.predict_maps(record.pixels).depth
    if found is None or record.depth is None:
        raise SystemExit(
            f"Picture {index} of {dataset.name}: no depth to compare; take a network and a data set with depth."
        )
    return moments(found, record.depth)


def moments(found: NDArray[np.floating], truth: NDArray[np.floating]) -> NDArray[np.float64]:
    """(3, 3) sums of the products of (depth found, 1, truth) over the pixels (H, W), in metres, whose truth is known (not 0)."""
    known = truth > 0
    rows = np.stack([found[known], np.ones(known.sum()), truth[known]]).astype(np.float64)
    return rows @ rows.T


def corrections(pictures: NDArray[np.float64]) -> dict[str, Any]:
    """RMSE in metres as it is, with each kind of line, and with every picture's own gain.  pictures: (N, 3, 3), N of 5 or more."""
    return {
        "rmse": rmse(pictures.sum(axis=0), np.array([1.0, 0.0])),
        "gain": unseen(pictures, terms=1),
        "gain_and_offset": unseen(pictures, terms=2),
        "rmse_with_every_pictures_gain": own_gains(pictures),
    }


def unseen(pictures: NDArray[np.float64], *, terms: int) -> dict[str, Any]:
    """The line over all pictures, and the RMSE of lines on the fifth that each was not found on.  terms: 1, or 2 with an offset."""
    folds = np.array_split(np.arange(len(pictures)), FOLDS)
    total = pictures.sum(axis=0)
    left = [pictures[fold].sum(axis=0) for fold in folds]
    squares = sum(squared(part, line(total - part, terms)) for part in left)
    gain, offset = line(total, terms)
    return {"gain": float(gain), "offset": float(offset), "rmse_unseen": float((squares / total[1, 1]) ** 0.5)}


def line(sums: NDArray[np.float64], terms: int) -> NDArray[np.float64]:
    """(gain, offset) of the least squares; zeros where no pixel was known."""
    solved = np.zeros(2)
    solved[:terms] = np.linalg.lstsq(sums[:terms, :terms], sums[:terms, 2])[0]
    return solved


def squared(sums: NDArray[np.float64], of_line: NDArray[np.float64]) -> float:
    """The sum of squared errors that a line leaves."""
    weights_of_rows = np.append(of_line, -1.0)
    return float(weights_of_rows @ sums @ weights_of_rows)


def rmse(sums: NDArray[np.float64], of_line: NDArray[np.float64]) -> float:
    """In metres, over the pixels that were summed."""
    return float((squared(sums, of_line) / sums[1, 1]) ** 0.5)


def own_gains(pictures: NDArray[np.float64]) -> float:
    """RMSE where every picture has the gain that suits it best, which only its truth tells."""
    squares = sum(squared(sums, line(sums, 1)) for sums in pictures)
    return float((squares / pictures[:, 1, 1].sum()) ** 0.5)


if __name__ == "__main__":
    main()
