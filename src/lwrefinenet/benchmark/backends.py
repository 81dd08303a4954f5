"""Ways of running a network that are measured, by name."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import PIL.Image

from lwrefinenet.benchmark.pipelines import Pipeline, our_pipeline, published_pipeline
from lwrefinenet.benchmark.subjects import Subject
from lwrefinenet.device import resolve_device
from lwrefinenet.errors import UsageError
from lwrefinenet.export.formats import Format
from lwrefinenet.models.fuse import fused
from lwrefinenet.provenance import package_version
from lwrefinenet.runtimes.exported import Export
from lwrefinenet.runtimes.network import Network
from lwrefinenet.runtimes.pytorch_runtime import PyTorchNetwork

# The way of the original code, a pipeline of its own, and the device of its network.
PUBLISHED = {"published": "cpu", "published-cuda": "cuda"}
CALIBRATION = 8  # crops of the picture: for speed; what int8 costs in accuracy `export` says, with the user's data

FORMATS = {"openvino": "openvino", "onnxruntime": "onnx"}  # what a runtime reads

# From a subject and the picture to the network, and the megabytes of what is shipped for it.
Opener = Callable[[Subject, np.ndarray], tuple[Network, float]]


@dataclass(frozen=True)
class Opened:
    """A way of running, ready.  name: of the runtime, as it says itself.  megabytes: of what is shipped for it."""

    name: str
    run: Pipeline
    megabytes: float


def open_backend(backend: str, subject: Subject, picture: np.ndarray, batch: int = 1) -> Opened:
    """backend: a key of BACKENDS; left out of account for an exported file.  picture: (H, W, 3) uint8, which int8 is calibrated
    with.  batch: pictures at once.

    UsageError for a backend that is not known, or cannot be run here.
    """
    palette = subject.meta.labels.palette
    if subject.exported is not None:
        return Opened(subject.exported.name, our_pipeline(subject.exported, palette, batch), subject.megabytes)
    check_backend(backend)
    if backend in PUBLISHED:
        device = resolve_device(PUBLISHED[backend])
        run = published_pipeline(subject.model, subject.meta.preprocess, palette, batch, device)
        return Opened(f"PyTorch eager float32 on {device}, NCHW", run, 4 * subject.parameters / 1e6)
    network, megabytes = BACKENDS[backend](subject, picture)
    return Opened(network.name, our_pipeline(network, palette, batch), megabytes)


def check_backend(backend: str) -> None:
    """UsageError for a name that is not known, or a way that cannot be gone here, before any process is made for it."""
    if backend not in (*PUBLISHED, *BACKENDS):
        raise UsageError(f"backend {backend!r} is not known; expected {', '.join((*PUBLISHED, *BACKENDS))}.")
    kind, _, precision = backend.partition("-")
    if "cuda" in (kind, PUBLISHED.get(backend)):
        resolve_device("cuda")
    if kind in FORMATS:
        Format.named(FORMATS[kind], precision or "fp32")
    needed = "cv2" if backend in PUBLISHED else "nncf" if precision == "int8" else None
    if needed and find_spec(needed) is None:
        raise UsageError(f"backend {backend!r} needs {needed}: pip install 'lwrefinenet[bench]'.")


def usual_backends() -> list[str]:
    """Those that are measured if none are asked for: what is installed, in precisions that this processor has."""
    usual = [*(["published"] if find_spec("cv2") else []), "pytorch"]
    usual += ["onnxruntime"] if find_spec("onnxruntime") and find_spec("onnx") else []
    if find_spec("openvino"):
        from lwrefinenet.runtimes.openvino_runtime import processor_has

        usual += ["openvino", *(["openvino-bf16"] if processor_has("bf16") else [])]
        usual += ["openvino-int8"] if find_spec("nncf") else []
    return usual


def _pytorch(precision: str, *, device: str = "cpu", compiled: bool = False) -> Opener:
    def opened(subject: Subject, _: np.ndarray) -> tuple[Network, float]:
        model, preprocess = fused(subject.model), subject.meta.preprocess
        network = PyTorchNetwork(model, preprocess, resolve_device(device), precision=precision, compiled=compiled)
        return network, sum(p.numel() * p.element_size() for p in network.model.parameters()) / 1e6

    return opened


def _exported(name: str, precision: str) -> Opener:
    def opened(subject: Subject, picture: np.ndarray) -> tuple[Network, float]:
        form = Format.named(name, precision)
        export = Export(subject.name, "", precision, None, package_version())
        graph = form.graph(subject.model, subject.meta, export)
        if precision == "int8":
            graph = _quantised(graph, picture, form)
        with TemporaryDirectory() as folder:
            files = form.write(graph, Path(folder) / f"measured{form.suffix}", subject.meta, export)
            size = sum(file.stat().st_size for file in files)
        return form.network(graph, export), size / 1e6

    return opened


BACKENDS: dict[str, Opener] = {
    "pytorch": _pytorch("fp32"),
    "pytorch-bf16": _pytorch("bf16"),
    "pytorch-compiled": _pytorch("fp32", compiled=True),
    "onnxruntime": _exported("onnx", "fp32"),
    "onnxruntime-int8": _exported("onnx", "int8"),
    "openvino": _exported("openvino", "fp32"),
    "openvino-bf16": _exported("openvino", "bf16"),
    "openvino-int8": _exported("openvino", "int8"),
    "cuda": _pytorch("fp32", device="cuda"),
    "cuda-bf16": _pytorch("bf16", device="cuda"),
    "cuda-fp16": _pytorch("fp16", device="cuda"),
    "cuda-fp16-compiled": _pytorch("fp16", device="cuda", compiled=True),
    "cuda-bf16-compiled": _pytorch("bf16", device="cuda", compiled=True),
}


def _quantised(graph: object, picture: np.ndarray, form: Format) -> object:
    from lwrefinenet.export.int8 import quantised

    height, width = picture.shape[:2]
    corners = np.random.default_rng(0).random((CALIBRATION, 2)) * (height // 4, width // 4)
    crops = [picture[int(y) : int(y) + 3 * height // 4, int(x) : int(x) + 3 * width // 4] for y, x in corners]
    shown = [np.array(PIL.Image.fromarray(crop).resize((width, height))) for crop in crops]
    return quantised(graph, shown, form)
