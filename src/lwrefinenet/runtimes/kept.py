"""Graphs for OpenVINO that were made once and kept: a network is converted when it is first used, not at every start."""

import hashlib
import logging
import os
import secrets
import shutil
from contextlib import suppress
from functools import cache
from importlib.metadata import version
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


class NotConvertedError(WeightsError):
    """A network that OpenVINO cannot run, or runs wrongly."""


CLOSE = 1e-3  # largest difference of logits, in their standard deviations; rounding is a hundredth of that
CHECKED_SIZE = (97, 131)


def kept_network(file: Path, precision: str) -> tuple[OpenVINONetwork, WeightsMeta]:
    """The weights of a `.safetensors` file on OpenVINO, its float32 graph from the user's cache folder or put there.

    A new graph is compared with PyTorch before it is kept; NotConvertedError where they differ, or there is none.  A folder that
    cannot be written is done without.
    """
    sha256 = weights.sha256_of(file)
    path = cache_folder("openvino") / f"{sha256[:32]}-{_maker()}.xml"
    if os.path.isfile(path):  # noqa: PTH113  Path.is_file raises where a folder may not be entered
        with suppress(WeightsError):  # a damaged one is made anew
            graph, meta, export = openvino_runtime.read(path)
            return OpenVINONetwork(graph, export, precision), meta
    model, meta = weights.load(file)
    logger.info("Converting %s for OpenVINO, in float32; kept in %s.", file.name, path)
    export = Export(str(file), sha256, "fp32", None, package_version())
    graph = _proven_graph(Deployable(model, meta.preprocess, meta.channels), export)
    with suppress(OSError):
        if weights.sha256_of(file) == sha256:  # else a training has written others in its place
            _keep(path, graph, meta, export)
    return OpenVINONetwork(graph, export, precision), meta


@cache
def _maker() -> str:
    """Tells what a graph was made by: this package's own sources, PyTorch and OpenVINO. Graphs of others are not taken."""
    package = Path(weights.__file__).parent
    sources = sorted((*package.glob("models/*.py"), *package.glob("runtimes/*.py"), *package.glob("*.py")))
    made = hashlib.sha256(f"{torch.__version__} {version('openvino')}".encode())
    for source in sources:
        made.update(source.read_bytes())
    return made.hexdigest()[:12]


def _proven_graph(deployable: Deployable, export: Export) -> openvino_runtime.Graph:
    noise = torch.randint(256, (1, *CHECKED_SIZE, 3), generator=torch.Generator().manual_seed(0)).byte()
    with torch.inference_mode():
        *_, expected = deployable(noise)
    try:
        graph = openvino_runtime.to_graph(deployable)
        found = OpenVINONetwork(graph, export, "fp32").logits(noise)
    except Exception as error:  # converters fail in many ways
        raise NotConvertedError(
            f"{export.weights}: OpenVINO cannot take this network ({type(error).__name__})."
        ) from error
    differs = found.shape != expected.shape or not (found - expected).abs().max() / expected.std() < CLOSE
    if differs:
        raise NotConvertedError(f"{export.weights}: OpenVINO's logits are not those of PyTorch.")
    return graph


def _keep(path: Path, graph: openvino_runtime.Graph, meta: WeightsMeta, export: Export) -> None:
    """Both files of a graph, whole or not at all; the .xml, which is looked for, comes last."""
    folder = path.with_name(f".{path.stem}.{secrets.token_hex(4)}")
    folder.mkdir(parents=True)
    try:
        for file in reversed(openvino_runtime.write(graph, folder / path.name, meta, export)):
            file.replace(path.with_name(file.name))
        for outdated in path.parent.glob(f"{path.stem.partition('-')[0]}-*"):
            if outdated.stem != path.stem:
                outdated.unlink()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
