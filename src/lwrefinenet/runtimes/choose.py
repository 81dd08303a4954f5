"""Which runtime weights are run on: what was asked for, or the fastest that is there."""

import logging
from importlib.util import find_spec
from pathlib import Path

import torch

from lwrefinenet import weights
from lwrefinenet.errors import UsageError
from lwrefinenet.meta import WeightsMeta
from lwrefinenet.runtimes.network import Network
from lwrefinenet.runtimes.pytorch_runtime import PyTorchNetwork

logger = logging.getLogger("lwrefinenet")

RUNTIMES = ("auto", "pytorch", "openvino", "onnxruntime")
EXPORTED = {".onnx": "onnxruntime", ".xml": "openvino"}


def runs_on_cpu_alone(name_or_path: str | Path, runtime: str) -> bool:
    """Whether only a CPU comes into question, whatever else the machine has: for exported files, OpenVINO and ONNX Runtime."""
    return runtime in EXPORTED.values() or Path(name_or_path).suffix.lower() in EXPORTED


def open_network(
    name_or_path: str | Path,
    device: torch.device,
    *,
    runtime: str = "auto",
    precision: str | None = None,
    compiled: bool = False,
) -> tuple[Network, WeightsMeta]:
    """Weights, or an exported file, ready to predict, and what they mean.

    name_or_path: as `weights.load`, or an .onnx or .xml file of `lwrefinenet export`.
    runtime: "auto" is, for exported files, the one that they were made for; else OpenVINO on a CPU where it is installed
    (converted once, in float32, and kept), and PyTorch everywhere else, and for a network that OpenVINO cannot take.
    precision: "fp32" (what weights get if none is given), "bf16", "fp16", or "int8" for files exported so.
    compiled: by `torch.compile`; PyTorch only.  UsageError for what does not go together, or what is not installed.
    """
    if runtime not in RUNTIMES:
        raise UsageError(f"runtime {runtime!r} is not known; expected {', '.join(RUNTIMES)}.")
    made_for = EXPORTED.get(Path(name_or_path).suffix.lower())
    chosen = _chosen(runtime, made_for, device, compiled, precision)
    if chosen != "pytorch" and compiled:
        instead = "--runtime pytorch" if made_for is None else "the weights that it was made of"
        raise UsageError(f"--compile is PyTorch's, and this would run in {chosen}; give {instead}.")
    if chosen != "pytorch" and device.type != "cpu":
        instead = "--device cpu or --runtime pytorch" if made_for is None else "--device cpu"
        raise UsageError(f"{chosen} runs on the CPU here, not on {device}; give {instead}.")
    if made_for is not None:
        return _open_exported(Path(name_or_path), precision)
    if chosen == "openvino":
        from lwrefinenet.runtimes.kept import NotConvertedError, kept_network

        try:
            return kept_network(weights.locate(name_or_path), precision or "fp32")
        except NotConvertedError as error:
            if runtime != "auto":
                raise
            logger.warning("%s PyTorch is taken.", error)
    model, meta = weights.load(name_or_path)
    return PyTorchNetwork(model.fuse(), meta.preprocess, device, precision=precision or "fp32", compiled=compiled), meta


def _chosen(runtime: str, made_for: str | None, device: torch.device, compiled: bool, precision: str | None) -> str:
    if made_for is not None:
        if runtime not in ("auto", made_for):
            raise UsageError(
                f"an exported file runs in the runtime that it was made for, {made_for}, not in {runtime}."
            )
        return made_for
    if runtime == "onnxruntime":
        raise UsageError(
            "ONNX Runtime runs exported files: lwrefinenet export WEIGHTS --format onnx, then give that file."
        )
    if runtime != "auto":
        return runtime
    # Half precision on a CPU is OpenVINO's only where the processor has it; asking it would mean to import it.
    wants_pytorch = compiled or device.type != "cpu" or precision == "fp16"
    return "pytorch" if wants_pytorch or find_spec("openvino") is None else "openvino"


def _open_exported(path: Path, precision: str | None) -> tuple[Network, WeightsMeta]:
    if not path.is_file():
        raise UsageError(f"{path}: no such file. Exported files are made by `lwrefinenet export`.")
    if path.suffix.lower() == ".xml":
        from lwrefinenet.runtimes import openvino_runtime

        graph, meta, export = openvino_runtime.read(path)
        return openvino_runtime.OpenVINONetwork(graph, export, precision), meta
    from lwrefinenet.runtimes import onnx_runtime

    model, meta, export = onnx_runtime.read(path)
    if precision not in (None, export.precision):
        raise UsageError(f"{path}: was exported in {export.precision}; for {precision}, export it again.")
    return onnx_runtime.ONNXNetwork(model, export), meta
