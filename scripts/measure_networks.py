"""Parameters and multiply-adds of every network of the original page and its sequels, and of ours beside them.

python scripts/measure_networks.py --output results/networks.json
"""

import argparse
import json
from pathlib import Path
from typing import Any

import torch

from lwrefinenet.benchmark.subjects import multiply_adds
from lwrefinenet.files import write_atomically
from lwrefinenet.models.zoo import create_model
from lwrefinenet.provenance import provenance

NUM_CLASSES = 40  # NYUv2's: with them the published numbers were counted
SIZES = {"512x512": (512, 512), "625x468": (468, 625)}  # (height, width)
TWO_TASKS, THREE_TASKS = ["segmentation", "depth"], ["segmentation", "depth", "normals"]
NETWORKS: dict[str, tuple[str, dict[str, Any]]] = {
    **{
        name: (name, {})
        for name in (
            "rf_lw_resnet50",
            "rf_lw_resnet101",
            "rf_lw_resnet152",
            "rf_lw_mobilenetv2",
            "rf_lw_nasnet_mobile",
            "rf_lw_efficientnet_lite0",
            "rf_lw_efficientnet_lite1",
            "rf_lw_efficientnet_lite2",
            "rf_lw_nano_mobilenetv2",
            "rf_lw_nano_efficientnet_lite0",
            "rf_resnet50",
            "rf_resnet101",
            "rf_resnet152",
        )
    },
    "mt_lw_mobilenetv2, 2 tasks": ("mt_lw_mobilenetv2", {"tasks": TWO_TASKS}),
    "mt_lw_mobilenetv2, 3 tasks": ("mt_lw_mobilenetv2", {"tasks": THREE_TASKS}),
    "mt_lw_efficientnet_lite0, 2 tasks": ("mt_lw_efficientnet_lite0", {"tasks": TWO_TASKS}),
    "mt_lw_efficientnet_lite0, 3 tasks": ("mt_lw_efficientnet_lite0", {"tasks": THREE_TASKS}),
    "mt_lw_efficientnet_lite2, 2 tasks": ("mt_lw_efficientnet_lite2", {"tasks": TWO_TASKS}),
    "mt_lw_efficientnet_lite2, 3 tasks": ("mt_lw_efficientnet_lite2", {"tasks": THREE_TASKS}),
}


def main() -> None:
    """Count, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True)
    arguments = parser.parse_args()
    networks = {}
    for label in NETWORKS:
        networks[label] = size_of(label)
        print(label, networks[label])
    result = {"num_classes": NUM_CLASSES, "networks": networks, **provenance()}
    write_atomically(arguments.output, (json.dumps(result, indent=2) + "\n").encode())


def size_of(label: str) -> dict[str, Any]:
    """Its name and arguments, parameters, and multiply-adds of its convolutions at each size; nothing is computed for it."""
    name, arguments = NETWORKS[label]
    with torch.device("meta"):
        model = create_model(name, NUM_CLASSES, **arguments).eval()
    return {
        "network": name,
        "arguments": arguments,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "multiply_adds": {size: multiply_adds(model, *lengths) for size, lengths in SIZES.items()},
    }


if __name__ == "__main__":
    main()
