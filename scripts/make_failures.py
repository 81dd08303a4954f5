"""Draw the test pictures on which shipped weights do worst, for their model card.

python scripts/make_failures.py rf_lw_efficientnet_lite0.camvid --data ../shared/data/camvid

Of each quarter of the test split, in its order, the picture with the lowest mean IoU over its own classes: neighbours in a
video are alike. Where the data may be shown the classes are painted over the picture, else they stand alone.
"""

import argparse
import io
from pathlib import Path

import numpy as np
import PIL.Image

from lwrefinenet import visualize, weights
from lwrefinenet.confusion import ConfusionMatrix
from lwrefinenet.data.dataset import SegmentationDataset
from lwrefinenet.data.layouts import open_dataset
from lwrefinenet.files import write_atomically
from lwrefinenet.labels import LabelSet
from lwrefinenet.predict import Predictor

TARGET = Path(__file__).parents[1] / "docs" / "pictures" / "failures"
PARTS = 4
SIZE = (400, 300)


def main() -> None:
    """Predict the split, choose, draw, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", help="of shipped weights")
    parser.add_argument("--data", type=Path, required=True, help="the data folder")
    arguments = parser.parse_args()
    predictor = Predictor.from_weights(arguments.name, device="cpu")
    dataset = open_dataset(arguments.data, "test")
    shown = dataset.licence.startswith("CC ")
    rows = [_row(predictor, dataset, index, shown=shown) for index in worst_of_parts(scores(predictor, dataset))]
    picture = PIL.Image.fromarray(np.vstack(rows))
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=85, comment=weights.sha256_of(weights.locate(arguments.name)))
    TARGET.mkdir(parents=True, exist_ok=True)
    write_atomically(TARGET / f"{arguments.name}.jpg", buffer.getvalue())
    print(f"Wrote {TARGET / arguments.name}.jpg, {picture.width}x{picture.height}.")


def scores(predictor: Predictor, dataset: SegmentationDataset) -> list[float]:
    """Of each picture the mean IoU over the classes in its own mask, 0-1; nan for one without any."""
    found = []
    for pixels, truth in (dataset[index] for index in range(len(dataset))):
        matrix = ConfusionMatrix(len(dataset.labels), dataset.labels.ignore_index)
        matrix.update(predictor.predict_mask(pixels), truth)
        own = matrix.per_class_iou[matrix.counts.any(axis=1)]
        found.append(float(own.mean()) if len(own) else float("nan"))
    return found


def worst_of_parts(found: list[float]) -> list[int]:
    """The index of the lowest score in each of equal parts of the list."""
    parts = np.array_split(np.arange(len(found)), PARTS)
    return [int(part[np.nanargmin(np.array(found)[part])]) for part in parts]


def _row(predictor: Predictor, dataset: SegmentationDataset, index: int, *, shown: bool) -> np.ndarray:
    """Truth and prediction side by side, the classes of both under them."""
    pixels, truth = dataset[index]
    labels = dataset.labels
    masks = truth, predictor.predict_mask(pixels)
    painted = [
        _painted(pixels if shown else np.full_like(pixels, 255), mask, labels, 0.5 if shown else 1) for mask in masks
    ]
    gap = np.full((SIZE[1], 4, 3), visualize.PAPER, np.uint8)
    row = np.hstack([painted[0], gap, painted[1]])
    return np.vstack([row, visualize.legend(np.hstack(masks), labels, width=row.shape[1], text_size=12)])


def _painted(pixels: np.ndarray, mask: np.ndarray, labels: LabelSet, opacity: float) -> np.ndarray:
    painted = visualize.overlay(pixels, mask, labels, opacity)
    return np.array(PIL.Image.fromarray(painted).resize(SIZE, PIL.Image.Resampling.BOX))


if __name__ == "__main__":
    main()
