"""The processes of a run, one per device, and what they tell one another. The only importer of accelerate.

Started by `accelerate launch` or `torchrun` there are several; otherwise this process is alone, and nothing is exchanged.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Self, TypeVar

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.tracking import get_available_trackers
from accelerate.utils import (
    GradientAccumulationPlugin,
    InitProcessGroupKwargs,
    ProjectConfiguration,
    broadcast,
    broadcast_object_list,
    gather_object,
)
from torch import Tensor, nn
from torch.amp import GradScaler
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from lwrefinenet.errors import RecipeError, RunError
from lwrefinenet.provenance import computer

T = TypeVar("T")

LONGEST_WAIT = timedelta(hours=4)  # for another process: while the main one alone checks the data, not only for a step


@dataclass(frozen=True)
class Processes:
    """device: of this process.  The accelerator brings mixed precision, gradient scaling, process groups and trackers."""

    accelerator: Accelerator
    device: torch.device

    @classmethod
    def start(
        cls, precision: str, device: torch.device, *, trackers: Sequence[str] = (), folder: Path | None = None
    ) -> Self:
        """Join the other processes, if there are any.

        precision: as in a recipe.  device: where to compute; with several processes each takes its own GPU of this kind.
        trackers: names of accelerate's trackers, which write under `folder`; RunError for one that is not installed.
        """
        # Another run of this process may have had another precision.
        AcceleratorState._reset_state(reset_partial_state=True)
        accelerator = Accelerator(
            mixed_precision=_precision(precision, device),
            cpu=device.type == "cpu",
            device_placement=False,
            log_with=_installed(trackers) or None,
            project_config=ProjectConfiguration(logging_dir=None if folder is None else str(folder)),
            # Parts of a step are ours; `accelerate config` may have left a number that would divide every gradient.
            gradient_accumulation_plugin=GradientAccumulationPlugin(num_steps=1),
            kwargs_handlers=[InitProcessGroupKwargs(backend=None, timeout=LONGEST_WAIT)],
        )
        own = accelerator.num_processes > 1 and device.type != "cpu"
        return cls(accelerator, accelerator.device if own else device)

    @property
    def count(self) -> int:
        return int(self.accelerator.num_processes)

    @property
    def computers(self) -> str:
        """What computes in all of them, by its name."""
        each = computer(self.device)
        return each if self.count == 1 else f"{self.count} x {each}"

    @property
    def number(self) -> int:
        """Of this process, from 0."""
        return int(self.accelerator.process_index)

    @property
    def is_main(self) -> bool:
        return self.number == 0

    @property
    def arithmetic(self) -> str:
        """What the forward pass computes in, in words."""
        return {"bf16": "bfloat16", "fp16": "float16"}.get(self.accelerator.mixed_precision, "float32")

    @property
    def scaler(self) -> GradScaler | None:
        """Of float16's loss; it exists once the optimiser is prepared."""
        scaler: GradScaler | None = self.accelerator.scaler
        return scaler

    def distributed(self, module: nn.Module) -> nn.Module:
        """The module, with gradients averaged over the processes where there are several."""
        if self.count == 1:
            return module
        return DistributedDataParallel(module, device_ids=[self.device.index] if self.device.type == "cuda" else None)

    def without_exchange(self, module: nn.Module) -> Any:
        """A context in which gradients of this process pile up and are not averaged yet."""
        return module.no_sync() if isinstance(module, DistributedDataParallel) else nullcontext()

    def prepared(self, optimizer: Optimizer) -> Optimizer:
        """The optimiser with accelerate's gradient scaling around it."""
        wrapped: Optimizer = self.accelerator.prepare(optimizer)
        return wrapped

    @contextmanager
    def loss_of_others_named(self) -> Iterator[None]:
        """RunError where another process has ended and this one waited for it: the cause is what the other one says."""
        try:
            yield
        except RuntimeError as error:
            if self.count == 1 or not any(exchange in str(error) for exchange in ("gloo", "NCCL", "ncclComm")):
                raise
            raise RunError(
                f"process {self.number} of {self.count} lost another one, which says why it ended ("
                f"{str(error).splitlines()[0].rstrip('. ')})."
            ) from error

    def take_buffers_of_main(self, module: nn.Module) -> None:
        """Give the module the main process's batch-norm statistics; each process has seen pictures of its own."""
        if self.count > 1:
            for buffer in module.buffers():
                broadcast(buffer)

    def sum(self, values: Tensor) -> Tensor:
        """The sum over all processes, the same for each of them."""
        if self.count == 1:
            return values
        summed: Tensor = self.accelerator.reduce(values, reduction="sum")
        return summed

    def gather(self, value: T) -> list[T]:
        """Every process's value, in order, for each of them."""
        if self.count == 1:
            return [value]
        gathered: list[T] = gather_object([value])
        return gathered

    def from_main(self, value: T) -> T:
        """The main process's value, for each of them."""
        if self.count == 1:
            return value
        shared = broadcast_object_list([value])
        result: T = shared[0]
        return result


def _precision(precision: str, device: torch.device) -> str:
    if precision == "auto":
        precision = "bfloat16" if computes_bfloat16_fast(device) else "float32"
    if precision == "float16" and device.type != "cuda":
        raise RecipeError(f'recipe: precision is "float16", which needs a CUDA GPU; this run is on {device}.')
    return {"bfloat16": "bf16", "float16": "fp16"}.get(precision, "no")


def computes_bfloat16_fast(device: torch.device) -> bool:
    """Whether the device has instructions for bfloat16; without them it is emulated, many times slower than float32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    on_cpu: bool = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return device.type == "cpu" and on_cpu


def _installed(names: Sequence[str]) -> list[str]:
    """RunError where the package of a tracker is missing: accelerate itself would only do without it."""
    available = {str(getattr(tracker, "value", tracker)) for tracker in get_available_trackers()}
    for name in names:
        if name not in available:
            raise RunError(
                f"tracker {name!r} is not installed: pip install {name}, or leave it out of the recipe's trackers."
            )
    return list(names)
