"""Graphs that are converted once for many tests: it takes seconds, and is not what most tests of graphs are about."""

import copy
import hashlib

import torch

from lwrefinenet.runtimes import onnx_runtime, openvino_runtime
from lwrefinenet.runtimes.exported import Export

ANY_SIZE = Export("tiny", "0" * 64, "fp32", None, "0")  # what a graph of `tests.tiny` says about itself


def convert_once(monkeypatch, graphs):
    """Make the runtimes give copies of graphs of equal networks that were converted before. graphs: where they are kept."""
    for runtime in (onnx_runtime, openvino_runtime):
        monkeypatch.setattr(runtime, "to_graph", _remembering(runtime.to_graph, graphs))


def _remembering(convert, graphs):
    def converted(deployable, size=None):
        key = convert.__module__, size, deployable.precision, deployable.channels, _digest(deployable)
        if key not in graphs:
            graphs[key] = convert(deployable, size)
        return copy.deepcopy(graphs[key])

    return converted


def _digest(network):
    """Of the modules and their values: equal networks have equal ones."""
    digest = hashlib.sha256(str(network).encode())
    for value in network.state_dict().values():
        digest.update(value.contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
