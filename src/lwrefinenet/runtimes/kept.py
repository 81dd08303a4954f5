"""Graphs for OpenVINO that were made once and kept: a network is converted when it is first used, not at every start."""

import logging
import secrets
import shutil
from contextlib import suppress
from pathlib import Path

import torch

from lwrefinenet import weights
from lwrefinenet.errors import WeightsError
from lwrefinenet.files import cache_folder
from lwrefinenet.meta import WeightsMeta
from lwrefinenet.provenance import package_version
from lwrefinenet.runtimes import openvino_runtime
from lwrefinenet.runtimes.deployable import Deployable
from lwrefinenet.runtimes.exported import Export
from lwrefinenet.runtimes.openvino_runtime import OpenVINONetwork

logger = logging.getLogger("lwrefinenet")

CLOSE = 1e-3  # largest difference of logits, in their standard deviations; rounding is a hundredth of that
CHECKED_SIZE = (97, 131)


def kept_network(file: Path, precision: str) -> tuple[OpenVINONetwork, WeightsMeta]:
    """The weights of a `.safetensors` file on OpenVINO, its float32 graph from the user's cache folder or put there.

    A new graph is compared with PyTorch before it is kept; RuntimeError where they differ.  A folder that cannot be written is
    done without.
    """
    sha256 = weights.sha256_of(file)
    path = cache_folder("openvino") / f"{sha256[:32]}-{package_version()}.xml"
    if path.is_file():
        with suppress(WeightsError):  # a damaged one is made anew
            graph, meta, export = openvino_runtime.read(path)
            return OpenVINONetwork(graph, export, precision), meta
    model, meta = weights.load(file)
    logger.info("Converting %s for OpenVINO, in float32; kept in %s.", file.name, path)
    deployable = Deployable(model, meta.preprocess)
    graph = openvino_runtime.to_graph(deployable)
    export = Export(str(file), sha256, "fp32", None, package_version())
    _check(graph, export, deployable)
    with suppress(OSError):
        _keep(path, graph, meta, export)
    return OpenVINONetwork(graph, export, precision), meta


def _check(graph: openvino_runtime.Graph, export: Export, deployable: Deployable) -> None:
    noise = torch.randint(256, (1, *CHECKED_SIZE, 3), generator=torch.Generator().manual_seed(0)).byte()
    with torch.inference_mode():
        _, expected = deployable(noise)
    found = OpenVINONetwork(graph, export, "fp32").logits(noise)
    difference = float((found - expected).abs().max() / expected.std())
    if not difference < CLOSE:
        raise RuntimeError(
            f"OpenVINO's logits differ from PyTorch's by {difference:.1e} of their deviation, expected under {CLOSE}; "
            "give --runtime pytorch, and tell us."
        )


def _keep(path: Path, graph: openvino_runtime.Graph, meta: WeightsMeta, export: Export) -> None:
    """Both files of a graph, whole or not at all; the .xml, which is looked for, comes last."""
    folder = path.with_name(f".{path.stem}.{secrets.token_hex(4)}")
    folder.mkdir(parents=True)
    try:
        for file in reversed(openvino_runtime.write(graph, folder / path.name, meta, export)):
            file.replace(path.with_name(file.name))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
