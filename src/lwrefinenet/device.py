"""Where to compute, from the word that a user gives; how, and whether there was too little memory for it."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from lwrefinenet.errors import UsageError

OUT_OF_MEMORY = (
    *("can't allocate memory", "not enough memory", "MPS backend out of memory", "STATUS_ALLOC_FAILED"),
    *("Failed to allocate memory", "bad_alloc", "bad allocation"),
)


def resolve_device(name: str | torch.device) -> torch.device:
    """The device for auto, cpu, cuda, cuda:N or mps; UsageError for another word or a device that is not there."""
    name = str(name)
    if name == "auto":
        usable = [kind for kind in ("cuda", "mps") if _count(kind)]
        return torch.device(usable[0] if usable else "cpu")
    if not (match := re.fullmatch(r"cpu|mps|cuda(?::(\d+))?", name)):
        raise UsageError(f"device {name!r} is not known; expected auto, cpu, cuda, cuda:N or mps.")
    kind, index = name.partition(":")[0], int(match[1] or 0)
    if kind != "cpu" and index >= (count := _count(kind)):
        raise UsageError(
            f"device {name!r} is not there: this machine, with torch {torch.__version__}, has {count} usable {kind} "
            "devices. Give auto or cpu, or install the driver and the torch build for it."
        )
    return torch.device(name)


def ran_out_of_memory(error: BaseException) -> bool:
    """Whether it says so: on a GPU, a Mac's GPU or a CPU (Linux, Windows), in PyTorch, ONNX Runtime or OpenVINO."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or any(
        words in str(error) for words in OUT_OF_MEMORY
    )


@contextmanager
def timed_convolutions(device: torch.device) -> Iterator[None]:
    """On a CUDA GPU, let cuDNN try its ways to convolve pictures of a new size and keep the fastest, while this lasts.

    For crops, which are all of one size; where sizes vary, the trials would take longer than they save. Another process may find
    another way the fastest, and then rounds otherwise.
    """
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = before or device.type == "cuda"
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before


def _count(kind: str) -> int:
    """How many devices of a kind can be used."""
    if kind == "cuda":
        return torch.cuda.device_count() if torch.cuda.is_available() else 0
    return int(torch.backends.mps.is_available())
