"""Reads what torch.save wrote: tensors only, through weights_only, so that nothing in the file is run."""

from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import Tensor

from lwrefinenet.errors import UsageError, WeightsError

WRAPPERS = ("segmenter", "model", "state_dict")  # where training checkpoints keep the parameters
_KNOWN_WRAPPERS = " or ".join(map(repr, WRAPPERS))
PARALLEL = "module."  # what torch.nn.DataParallel puts before every name


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """The tensors of a state dict, alone or inside a training checkpoint, without the prefix of DataParallel.

    UsageError for a missing file; WeightsError for one that is damaged or holds something else.
    """
    content = _read(path)
    for wrapper in WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
    if not isinstance(content, Mapping):
        raise WeightsError(
            f"{path}: holds a {type(content).__name__}; expected a state dict, alone or under {_KNOWN_WRAPPERS}."
        )
    for name, value in content.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise WeightsError(
                f"{path}: entry {name!r} is of type {type(value).__name__}; expected a state dict, whose entries are all "
                f"tensors, alone or under {_KNOWN_WRAPPERS}."
            )
    if all(name.startswith(PARALLEL) for name in content):
        return {name.removeprefix(PARALLEL): value for name, value in content.items()}
    return dict(content)


def _read(path: Path) -> Any:
    if not path.is_file():
        raise UsageError(f"{path}: no such file. Give what torch.save wrote (.pth, .pth.tar, .ckpt).")
    numpy_numbers: list[Any] = [(_NumpyNumber, name) for name in _NUMPY_NAMES]
    try:
        with torch.serialization.safe_globals(numpy_numbers):
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged pickle fails in as many ways as there are bytes to damage
        if isinstance(error, UnpicklingError) and "GLOBAL" in str(error):
            raise WeightsError(
                f"{path}: holds Python objects besides tensors, which are not read because they could run any code; "
                "expected a state dict, as `torch.save(model.state_dict(), FILE)` writes it. Ask the file's author for one."
            ) from error
        raise WeightsError(
            f"{path}: {path.stat().st_size} bytes that are no readable torch checkpoint: damaged, cut off or of another "
            "kind; expected what torch.save writes. Get the file again."
        ) from error


class _NumpyNumber:
    """Stands in for the numpy numbers of a training checkpoint, such as its best score: taken note of, never built."""

    def __init__(self, *parts: object) -> None: ...

    def __setstate__(self, state: object) -> None: ...


_NUMPY_NAMES = ("numpy.dtype", "numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar")
