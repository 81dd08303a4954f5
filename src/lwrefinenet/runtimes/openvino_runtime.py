"""OpenVINO: from the deployable graph to its files, and predictions with them. The only importer of openvino."""

import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path
from threading import Lock
from typing import Any, TypeAlias

import torch
from torch import Tensor

from lwrefinenet.errors import ImageError, UsageError, WeightsError
from lwrefinenet.meta import WeightsMeta
from lwrefinenet.runtimes.deployable import EXAMPLE_SIZE, OUTPUTS, Deployable
from lwrefinenet.runtimes.exported import EXPORT_KEY, META_KEY, Export, entries, from_entries

try:
    import openvino as ov
    from openvino import opset13 as operations
except ModuleNotFoundError as error:
    raise UsageError("OpenVINO is not installed: pip install 'lwrefinenet[fast]'.") from error

Graph: TypeAlias = ov.Model
HINTS = {"fp32": "f32", "bf16": "bf16", "fp16": "f16", "int8": "f32"}  # int8: of what is not quantised


class OpenVINONetwork:
    """An OpenVINO graph on the CPU; pictures are normalised inside it.

    graph: as `to_graph` or `read` gives it.  export: what it says about itself.
    precision: of the arithmetic, by default that of the export; always told to OpenVINO, which would else take bfloat16 by itself
    where the processor has it.  UsageError for a precision that this processor does not have.
    """

    def __init__(self, graph: Graph, export: Export, precision: str | None = None) -> None:
        self.precision = _possible(precision or export.precision, export)
        self.export, self.size = export, export.size
        self.device = torch.device("cpu")
        self.name = f"OpenVINO {self.precision} on cpu"
        settings = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": HINTS[self.precision],
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),  # as ONNX Runtime and PyTorch: whoever sets it means all of them
        }
        # Kept, because a request does not keep what it was made from, and would read memory that was freed.
        self._compiled = _core().compile_model(_ending_at_logits(graph), "CPU", settings)
        self._request = self._compiled.create_infer_request()
        self._alone = Lock()  # a request and its result belong together, and several threads may share a network

    def prepare(self, images: Tensor) -> Tensor:
        """images: (N, H, W, 3) uint8 RGB.  Returned as they are."""
        return images

    def logits(self, prepared: Tensor) -> Tensor:
        """prepared: (N, H, W, 3) uint8 RGB.  WeightsError for a size that a static graph does not take."""
        self.export.check_size(*prepared.shape[1:3])
        parts = [self._one(image) for image in prepared]
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def _one(self, image: Tensor) -> Tensor:
        with self._alone:
            return self._ask(image)

    def _ask(self, image: Tensor) -> Tensor:
        try:
            self._request.infer([image[None].numpy()], share_inputs=True)
        except RuntimeError as error:
            height, width, _ = image.shape
            reason = str(error).strip().splitlines()[-1]
            raise ImageError(
                f"OpenVINO fails on a picture of {width}x{height} pixels ({reason}); give weights that are not exported, and "
                "--runtime pytorch."
            ) from error
        cells = torch.from_numpy(self._request.get_output_tensor(0).data)
        # The tensor is OpenVINO's own and changes with the next picture.
        return cells.clone().permute(0, 3, 1, 2)


def to_graph(deployable: Deployable, size: tuple[int, int] | None = None) -> Graph:
    """The deployable module as an OpenVINO graph: `image` in, `mask` (and `depth`, `normals`) out, the tensor of its results named
    `logits`.

    size: (height, width) for a graph of this size only.
    """
    example = torch.zeros(1, *(size or EXAMPLE_SIZE), 3, dtype=torch.uint8)
    shape = [1, *(size or (-1, -1)), 3]
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # what tracing takes for constants: found by the parity gate if it matters
        graph = ov.convert_model(deployable.eval(), example_input=example, input=[(shape, ov.Type.u8)])
    graph.inputs[0].get_tensor().set_names({"image"})
    *outputs, logits = graph.outputs
    for output, name in zip(outputs, deployable.outputs, strict=True):
        output.get_tensor().set_names({name})
    # Named on the tensor itself, which stays when it is no output any more.
    logits.get_node().input_value(0).get_tensor().set_names({"logits"})
    return ov.Model(outputs, graph.get_parameters(), "lwrefinenet")


def network_of(graph: Graph, export: Export) -> OpenVINONetwork:
    """The graph, ready to give logits in the precision of its export."""
    return OpenVINONetwork(graph, export)


def whole(graph: Graph | ov.CompiledModel, export: Export) -> Callable[[Tensor], dict[str, Tensor]]:
    """The graph to its very end, as other programs run it: (1, H, W, 3) uint8 -> its outputs by name."""
    compiled = graph
    if isinstance(graph, ov.Model):
        compiled = _core().compile_model(graph, "CPU", {"INFERENCE_PRECISION_HINT": HINTS[export.precision]})
    # Compiling adds names of its own.
    names = [next(name for name in OUTPUTS if name in output.get_names()) for output in compiled.outputs]

    def run(image: Tensor) -> dict[str, Tensor]:
        found = compiled([image.numpy()])
        return {name: torch.from_numpy(found[name].copy()) for name in names}

    return run


def write(graph: Graph, path: Path, meta: WeightsMeta, export: Export) -> list[Path]:
    """Write `path` (.xml) and, beside it, its .bin, and return both; fp16 stores float16 parameters.  OSError for a full disk."""
    for key, text in entries(meta, export).items():
        graph.set_rt_info(text, key.split("."))
    try:
        ov.save_model(graph, path, compress_to_fp16=export.precision == "fp16")
    except RuntimeError as error:
        raise OSError(f"{path}: OpenVINO cannot write it ({str(error).strip().splitlines()[-1]}).") from error
    return [path, path.with_suffix(".bin")]


def quantisers(graph: Graph) -> int:
    """How many values of the graph are rounded to int8."""
    return sum(node.get_type_name() == "FakeQuantize" for node in graph.get_ops())


def read(path: Path) -> tuple[Graph, WeightsMeta, Export]:
    """The inverse of `write`; WeightsError for a file that is damaged, not ours, or without its .bin."""
    if not path.with_suffix(".bin").is_file():
        raise WeightsError(f"{path}: its other half, {path.with_suffix('.bin').name}, is not beside it; copy both.")
    try:
        graph = _core().read_model(path)
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1]
        raise WeightsError(f"{path}: not a readable OpenVINO file ({reason}).") from error
    found = {key: _text(graph, key) for key in (META_KEY, EXPORT_KEY)}
    return graph, *from_entries({key: text for key, text in found.items() if text}, str(path))


def processor_has(precision: str) -> bool:
    """Whether OpenVINO computes with this precision on this machine's CPU, instead of silently taking another."""
    abilities = _core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    return {"fp32": "FP32", "bf16": "BF16", "fp16": "FP16", "int8": "INT8"}[precision] in abilities


@cache
def _core() -> ov.Core:
    """One for the whole process: with the last one OpenVINO unloads its plugins, whose threads may still run."""
    return ov.Core()


def _possible(precision: str, export: Export) -> str:
    if precision not in HINTS:
        raise UsageError(f"precision {precision!r} is not one of OpenVINO's: {', '.join(HINTS)}.")
    if "int8" in (precision, export.precision) and precision != export.precision:
        raise UsageError(
            f"{export.weights}: was exported in {export.precision} and cannot run in {precision}; `lwrefinenet export` makes int8 "
            "files, with pictures to calibrate them."
        )
    if precision == "bf16" and not processor_has("bf16"):
        raise UsageError(
            "this processor has no bfloat16 (avx512_bf16 or amx_bf16), OpenVINO would take float32; give fp32."
        )
    return precision


def _ending_at_logits(graph: ov.Model) -> Graph:
    """The same graph up to the logits, with the classes of a cell side by side, as the upsampling on our side wants them."""
    logits = next(o for node in graph.get_ops() for o in node.outputs() if "logits" in o.get_names())
    return ov.Model([operations.transpose(logits, [0, 2, 3, 1]).output(0)], graph.get_parameters())


def _text(graph: Any, key: str) -> str:
    path = key.split(".")
    return str(graph.get_rt_info(path).astype(str)) if graph.has_rt_info(path) else ""
