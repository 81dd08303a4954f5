"""ONNX: from the deployable graph to its file, and predictions with it in ONNX Runtime. The only importer of both."""

import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeAlias

import torch
from torch import Tensor

from lwrefinenet.errors import UsageError, WeightsError
from lwrefinenet.meta import WeightsMeta
from lwrefinenet.runtimes.deployable import EXAMPLE_SIZE, Deployable
from lwrefinenet.runtimes.exported import Export, entries, from_entries

try:
    import onnx
    import onnxruntime
except ModuleNotFoundError as error:
    raise UsageError(f"{error.name} is not installed: pip install 'lwrefinenet[export]'.") from error

Graph: TypeAlias = onnx.ModelProto
OPSET = 18
MANY = 33  # pixels: torch.export asks for maps of more than one cell; the graph that comes out takes smaller pictures as well


class ONNXNetwork:
    """An ONNX graph in ONNX Runtime on the CPU, in the precision in which it was exported; pictures are normalised inside it.

    graph: as `to_graph` or `read` gives it.  export: what it says about itself.
    """

    def __init__(self, graph: Graph, export: Export) -> None:
        self.export, self.size = export, export.size
        self.device = torch.device("cpu")
        self.name = f"ONNX Runtime {export.precision} on cpu"
        self._session = _session(_ending_at_logits(graph))

    def prepare(self, images: Tensor) -> Tensor:
        """images: (N, H, W, 3) uint8 RGB.  Returned as they are."""
        return images

    def logits(self, prepared: Tensor) -> Tensor:
        """prepared: (N, H, W, 3) uint8 RGB.  WeightsError for a size that a static graph does not take."""
        self.export.check_size(*prepared.shape[1:3])
        parts = [self._session.run(["logits"], {"image": image[None].numpy()})[0] for image in prepared]
        return torch.cat([torch.from_numpy(part) for part in parts])


def to_graph(deployable: Deployable, size: tuple[int, int] | None = None) -> Graph:
    """The deployable module as an ONNX graph: `image` in, `mask` out, the value of the logits named `logits`.

    size: (height, width) for a graph of this size only; else it takes any.
    """
    example = torch.zeros(1, *(size or EXAMPLE_SIZE), 3, dtype=torch.uint8)
    any_length = torch.export.Dim.DYNAMIC(min=MANY)
    shapes = None if size else ({1: any_length, 2: any_length},)
    with _quietly(), torch.no_grad():
        traced = torch.export.export(deployable.eval(), (example,), dynamic_shapes=shapes, strict=False)
        program = torch.onnx.export(
            traced,
            (),
            input_names=["image"],
            output_names=[*deployable.outputs, "logits"],
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    graph: Graph = program.model_proto
    del graph.graph.output[-1]  # the value stays in the graph, under its name
    return graph


def network_of(graph: Graph, export: Export) -> ONNXNetwork:
    """The graph, ready to give logits."""
    return ONNXNetwork(graph, export)


def whole(graph: Graph, _: Export) -> Callable[[Tensor], dict[str, Tensor]]:
    """The graph to its very end, as other programs run it: (1, H, W, 3) uint8 -> its outputs by name."""
    session = _session(graph)
    names = [output.name for output in session.get_outputs()]

    def run(image: Tensor) -> dict[str, Tensor]:
        return dict(zip(names, map(torch.from_numpy, session.run(names, {"image": image.numpy()})), strict=True))

    return run


def write(graph: Graph, path: Path, meta: WeightsMeta, export: Export) -> list[Path]:
    """Write one .onnx file with its parameters inside, and return it."""
    onnx.helper.set_model_props(graph, entries(meta, export))
    onnx.save(graph, path)
    return [path]


def quantisers(graph: Graph) -> int:
    """How many values of the graph are rounded to int8."""
    return sum(node.op_type == "QuantizeLinear" for node in graph.graph.node)


def read(path: Path) -> tuple[Graph, WeightsMeta, Export]:
    """The inverse of `write`; WeightsError for a file that is damaged or not ours."""
    try:
        graph = onnx.load(path)
        onnx.checker.check_model(graph)
    except Exception as error:  # protobuf and the checker raise a dozen different errors for damaged files
        raise WeightsError(f"{path}: not a readable ONNX file ({type(error).__name__}).") from error
    return graph, *from_entries({entry.key: entry.value for entry in graph.metadata_props}, str(path))


def _ending_at_logits(graph: Graph) -> Graph:
    """The same graph up to the logits; what comes after them is left out."""
    shortened = onnx.ModelProto()
    shortened.CopyFrom(graph)
    nodes = shortened.graph.node
    last = next(place for place, node in enumerate(nodes) if "logits" in node.output)
    del nodes[last + 1 :]
    del shortened.graph.output[:]
    shortened.graph.output.append(onnx.helper.make_tensor_value_info("logits", onnx.TensorProto.FLOAT, None))
    return shortened


def _session(graph: Graph) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(graph.SerializeToString(), options, providers=["CPUExecutionProvider"])


@contextmanager
def _quietly() -> Iterator[None]:
    """The exporter tells of its own affairs in warnings and in the log."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
