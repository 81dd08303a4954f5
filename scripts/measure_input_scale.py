"""Score weights as if pictures were seen at other sizes, to choose a recipe's input_scale on pictures not learnt from.

lwrefinenet train RECIPE --data ../shared/data/nyudv2 --output runs/fit --set train_split=train_fit
python scripts/measure_input_scale.py runs/fit/best.safetensors --data ../shared/data/nyudv2 --split train_holdout \
    --scales 1 0.75 0.6 0.5 --output results/nyu_input_scale.json

With --as-they-come also without the whole multiples of 32 that networks see (`RefineNet.seen_size`) where their backbone has
TensorFlow's padding, or their recipe asks for it by size_multiple:

python scripts/measure_input_scale.py rf_lw_nano_efficientnet_lite0.camvid --data ../shared/data/camvid --split val \
    --scales 0.7 0.8 0.9 1 1.1 1.2 1.3 --as-they-come --output results/camvid_whole_multiples.json
python scripts/measure_input_scale.py rf_lw_mobilenetv2.nyu --data ../shared/data/nyudv2 --split train_holdout --published-crop \
    --scales 1 --as-they-come --output results/nyu_rf_lw_mobilenetv2_whole_multiples.json   # pictures that it has learnt

What was learnt on crops of pictures that were scaled down may know whole pictures best when they are small as well
(H. Touvron et al., "Fixing the train-test resolution discrepancy", NeurIPS 2019).
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

from lwrefinenet import weights
from lwrefinenet.data.dataset import SegmentationDataset
from lwrefinenet.data.layouts import open_dataset
from lwrefinenet.evaluate import evaluate
from lwrefinenet.files import write_atomically
from lwrefinenet.predict import Predictor
from lwrefinenet.provenance import provenance


def main() -> None:
    """Score one scale after the other, in PyTorch on the CPU; write them with the weights' recipe."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", help="a file, or a name")
    parser.add_argument("--data", type=Path, required=True, help="the data folder")
    parser.add_argument("--split", required=True, help="one that the weights have not learnt from, and not test")
    parser.add_argument("--scales", type=float, nargs="+", default=[1.0, 0.75, 0.6, 0.5], help="0.25 to 2 each")
    parser.add_argument(
        "--as-they-come", action="store_true", help="score each scale without whole multiples of 32, too"
    )
    parser.add_argument("--published-crop", action="store_true", help="NYU Depth v2: the 625x468 part, as published")
    parser.add_argument("--output", type=Path, required=True)
    arguments = parser.parse_args()
    dataset = open_dataset(arguments.data, arguments.split, published_crop=arguments.published_crop)
    ways = [None, 1] if arguments.as_they_come else [None]
    found = [scored(arguments.weights, dataset, scale, way) for scale in arguments.scales for way in ways]
    for one in found:
        multiple = f"multiples of {one['size_multiple']:2}"
        depth = f"{one['depth_rmse_metres']:.3f} m  " if "depth_rmse_metres" in one else ""
        print(f"{one['input_scale']:4g}  {multiple}  {one['mean_iou']:.1%}  {depth}{one['seconds']:.0f} s")
    protocol = {
        "dataset": dataset.name,
        "split": dataset.split,
        "pictures": len(dataset),
        "published_crop": arguments.published_crop,
    }
    recipe = weights.read_meta(arguments.weights).recipe
    result = {"protocol": protocol, "scales": found, "recipe": recipe, **provenance()}
    write_atomically(arguments.output, (json.dumps(result, indent=2) + "\n").encode())


def scored(
    name_or_path: str, dataset: SegmentationDataset, scale: float, size_multiple: int | None = None
) -> dict[str, Any]:
    """Mean IoU, 0-1, over whole pictures at their own size, seen at `scale`, and the seconds that all of them took.

    Of networks with further tasks also what `Evaluation.stated` says of them, such as depth's RMSE in metres.

    size_multiple: in place of that of the backbone.
    """
    model, meta = weights.load(name_or_path)
    model.see_at(scale)
    model.size_multiple = size_multiple or model.size_multiple
    predictor = Predictor.from_model(model.fuse(), meta, "cpu")
    begin = time.perf_counter()
    evaluation = evaluate(predictor.predict_maps, dataset, labels=meta.labels, tasks=meta.tasks)
    return {
        "input_scale": scale,
        "size_multiple": model.size_multiple,
        **{score.metric: score.value for score in evaluation.stated},
        "seconds": time.perf_counter() - begin,
    }


if __name__ == "__main__":
    main()
