"""The formats of exported files, and what can be in them."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from lwrefinenet.errors import UsageError
from lwrefinenet.meta import WeightsMeta
from lwrefinenet.runtimes.deployable import Deployable
from lwrefinenet.runtimes.exported import Export
from lwrefinenet.runtimes.network import PRECISIONS, Network

SUFFIXES = {"onnx": ".onnx", "openvino": ".xml"}


@dataclass(frozen=True)
class Format:
    """One way of writing graphs down: the module of its runtime, and the suffix of its files."""

    name: str
    runtime: ModuleType
    suffix: str

    @classmethod
    def named(cls, name: str, precision: str) -> "Format":
        """UsageError for an unknown name, a precision that it has not, or an extra that is not installed."""
        if name not in SUFFIXES:
            raise UsageError(f"format {name!r} is not known; expected {' or '.join(SUFFIXES)}.")
        if precision not in (*PRECISIONS, "int8"):
            raise UsageError(f"precision {precision!r} is not known; expected fp32, bf16, fp16 or int8.")
        if name == "onnx":
            if precision == "bf16":
                raise UsageError(
                    "ONNX Runtime cannot run bf16 on a CPU, so that the file could not be proven; "
                    "give --format openvino, or fp32 or fp16."
                )
            from lwrefinenet.runtimes import onnx_runtime

            return cls(name, onnx_runtime, SUFFIXES[name])
        from lwrefinenet.runtimes import openvino_runtime

        if precision == "bf16" and not openvino_runtime.processor_has("bf16"):
            raise UsageError(
                "this processor has no bfloat16 (avx512_bf16 or amx_bf16), so that the file could not be proven; export fp32 and "
                "give --precision bf16 where it runs, or export on such a machine."
            )
        return cls(name, openvino_runtime, SUFFIXES[name])

    def graph(self, model: torch.nn.Module, meta: WeightsMeta, export: Export) -> Any:
        """The network as a graph of this format, in the precision and for the sizes that `export` says."""
        # OpenVINO keeps float32 arithmetic in the graph and shortens what is stored; ONNX says each type in the graph.
        shortened = self.name == "onnx" and export.precision == "fp16"
        deployable = Deployable(model, meta.preprocess, meta.channels, torch.float16 if shortened else torch.float32)
        return self.runtime.to_graph(deployable, export.size)

    def network(self, graph: Any, export: Export) -> Network:
        """The graph, ready to give logits."""
        network: Network = self.runtime.network_of(graph, export)
        return network

    def whole(self, graph: Any, export: Export) -> Callable[[Tensor], dict[str, Tensor]]:
        """The graph to its very end, as other programs run it: (1, H, W, 3) uint8 -> `Deployable.outputs` by name."""
        run: Callable[[Tensor], dict[str, Tensor]] = self.runtime.whole(graph, export)
        return run

    def quantisers(self, graph: Any) -> int:
        """How many values of the graph are rounded to int8."""
        count: int = self.runtime.quantisers(graph)
        return count

    def files(self, path: Path) -> list[Path]:
        """What `write` would write."""
        return [path, path.with_suffix(".bin")] if self.name == "openvino" else [path]

    def write(self, graph: Any, path: Path, meta: WeightsMeta, export: Export) -> list[Path]:
        """Write the file, and its other half where there is one; returns what was written."""
        files: list[Path] = self.runtime.write(graph, path, meta, export)
        return files

    def read(self, path: Path) -> Any:
        """The graph of a file."""
        return self.runtime.read(path)[0]
