"""Weights files: strict load and save, and the table of the weights that come with the package."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as serialise
from torch import Tensor, nn

from lwrefinenet.errors import UsageError, WeightsError
from lwrefinenet.files import write_atomically
from lwrefinenet.meta import WeightsMeta
from lwrefinenet.models.refinenet import RefineNet, as_fraction
from lwrefinenet.models.state import load_strictly
from lwrefinenet.models.zoo import MODELS, create_model, usual_input_scale

SUFFIX = ".safetensors"
META_KEY = "lwrefinenet"
SHIPPED_FOLDER = Path(__file__).parent / "shipped"

_BEGINNINGS_OF_CHECKPOINTS = b"PK", b"\x80\x02"  # torch.save writes zip archives, and wrote pickles


@dataclass(frozen=True)
class ShippedWeights:
    """Named weights inside the package: the file is `SHIPPED_FOLDER / (name + ".safetensors")`."""

    sha256: str


SHIPPED: dict[str, ShippedWeights] = {
    "rf_lw_efficientnet_lite0.camvid": ShippedWeights(
        sha256="dcf33c1a4e9d740b90ba722cfa44f40e855ebd55e1c7c57372030c92dd2cce3a"
    ),
    "rf_lw_mobilenetv2.camvid": ShippedWeights(
        sha256="365fc2e11cd79d28cc28048868036f5690cbd3e14589324da3d7e7fdff8ae3f4"
    ),
    "rf_lw_efficientnet_lite0.nyu": ShippedWeights(
        sha256="01dcf9ca7eb2277aede9a99bc7df8a00d42140252e3774d089a6f1603920d95a"
    ),
    "rf_lw_nano_efficientnet_lite0.camvid": ShippedWeights(
        sha256="59952f103f8b5b4796b7a49aa500720cf99b1cc9245f8f132bd0d78a6f44a991"
    ),
    "mt_lw_efficientnet_lite2.nyu": ShippedWeights(
        sha256="dabbb346fd2bcc9ff46b7607b7293042b91bc165c5a98685400ad009215426ba"
    ),
    "rf_lw_efficientnet_lite2.nyu": ShippedWeights(
        sha256="e6f0742f9fc4a511425fd780680732913cb4eb2cc3ec4a3e77257ed0d4a207f1"
    ),
    "rf_lw_mobilenetv2.nyu": ShippedWeights(sha256="6b144742352eb240c13865b2991ff5462b06f7d63b9be5d7311912718ec3ab3d"),
}
DEFAULT_WEIGHTS = "rf_lw_efficientnet_lite0.camvid"


def load(name_or_path: str | Path) -> tuple[RefineNet, WeightsMeta]:
    """Read weights and build the network that they were made for, in evaluation mode, float32, on the CPU.

    name_or_path: a name of SHIPPED (its sha256 is checked) or a `.safetensors` file of this package. Never unpickles.
    UsageError for an unknown name (with the nearest ones) or a missing file; WeightsError for a damaged or foreign file.
    """
    path = locate(name_or_path)
    meta, state = _read(path)
    return _built(state, meta, origin=str(path)), meta


def rounded(model: nn.Module, meta: WeightsMeta) -> RefineNet:
    """The network that `load` gives back after `save` with `half`, without a file in between.

    In evaluation mode, float32, on the CPU; the given one stays as it is.  WeightsError where the metadata speaks of another.
    """
    return _built(_state_of(model, half=True), meta, origin="the network in memory")


def read_meta(name_or_path: str | Path) -> WeightsMeta:
    """What weights say about themselves, without building their network; errors as `load`."""
    path = locate(name_or_path)
    with _opened(path) as file:
        return _meta_of(path, file.metadata())


def is_half(name_or_path: str | Path) -> bool:
    """Whether weights store their convolutions as float16 (`save`); errors as `load`."""
    with _opened(locate(name_or_path)) as file:
        return any(file.get_slice(key).get_dtype() == "F16" for key in file.keys())  # noqa: SIM118 - safe_open is no dict


def save(path: str | Path, model: nn.Module, meta: WeightsMeta, *, half: bool = False) -> None:
    """Write one self-describing `.safetensors` file, whole or not at all.

    half: store convolution weights as float16 (half the size; biases and batch-norm statistics stay float32).
    WeightsError where the metadata asks for a network of other tasks or another `input_scale` or `size_multiple`, which would mean
    something else.
    """
    _check_tasks(model, meta, str(path))
    _check_sizes(model, meta, str(path))
    metadata = {META_KEY: meta.to_json(), "format": "pt"}
    write_atomically(Path(path), serialise(_state_of(model, half=half), metadata=metadata))


def _built(state: Mapping[str, Tensor], meta: WeightsMeta, *, origin: str) -> RefineNet:
    """origin: where the state comes from, for messages."""
    try:
        model = create_model(meta.network, len(meta.labels), **meta.arguments)
    except (UsageError, TypeError, ValueError) as error:
        raise WeightsError(f"{origin}: its metadata asks for a network that cannot be built: {error}") from error
    load_strictly(model, state, origin=origin, network=meta.network)
    _check_tasks(model, meta, origin)
    return model.eval()


def _check_tasks(model: nn.Module, meta: WeightsMeta, origin: str) -> None:
    tasks = getattr(model, "tasks", meta.tasks)
    if tasks != meta.tasks:
        raise WeightsError(
            f"{origin}: its metadata speaks of {', '.join(meta.tasks)}, the network gives {', '.join(tasks)}; the metadata's "
            f"arguments need tasks = {list(tasks)}."
        )


def _check_sizes(model: nn.Module, meta: WeightsMeta, origin: str) -> None:
    if not isinstance(model, RefineNet) or meta.network not in MODELS:
        return
    usual = {"input_scale": usual_input_scale(meta.network), "size_multiple": model.usual_size_multiple}
    for name, left_out in usual.items():
        asked, has = meta.arguments.get(name), getattr(model, name)
        if asked is None:  # as good as left out, as `create_model` has it
            asked = left_out
        if as_fraction(asked) != has:
            number = type(left_out)(has)
            raise WeightsError(
                f"{origin}: its metadata asks for a network with {name} {asked}, this one has {number}; the metadata's arguments "
                f"need {name} = {number}."
            )


def locate(name_or_path: str | Path) -> Path:
    """The file of named weights, its sha256 checked, or the path itself; errors as `load`."""
    name = str(name_or_path)
    if name in SHIPPED:
        return _checked(SHIPPED_FOLDER / (name + SUFFIX), SHIPPED[name].sha256)
    path = Path(name_or_path)
    if path.is_file():
        return path
    if path.suffix == SUFFIX or path.parent != Path():
        raise UsageError(f"{path}: no such weights file. Give a {SUFFIX} file or a name from `lwrefinenet models`.")
    near = get_close_matches(name, SHIPPED, n=3, cutoff=0.3)
    raise UsageError(f"no weights are named {name!r}; nearest: {', '.join(near or SHIPPED)}. See `lwrefinenet models`.")


def sha256_of(path: Path) -> str:
    """The hexadecimal SHA-256 of a file; WeightsError where it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: OSError) -> WeightsError:
    return WeightsError(f"{path}: cannot be read ({error.strerror or error}); check the name and the permissions.")


def _checked(path: Path, expected: str) -> Path:
    if not path.is_file():
        raise WeightsError(f"{path}: these weights should have come with the package; install lwrefinenet again.")
    if (found := sha256_of(path)) != expected:
        raise WeightsError(
            f"{path}: sha256 is {found[:12]}..., expected {expected[:12]}...; the file is damaged. Install lwrefinenet again."
        )
    return path


def _opened(path: Path) -> safe_open:
    try:
        return safe_open(path, framework="pt")
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{path}: not a readable {SUFFIX} file ({error}). {_cure(path)}") from error


def _cure(path: Path) -> str:
    """What to do about a file that cannot be opened; WeightsError where not even its bytes can be read."""
    try:
        with path.open("rb") as file:
            beginning = file.read(2)
    except OSError as error:  # of which safe_open says that there is no such file
        raise _unreadable(path, error) from error
    if beginning in _BEGINNINGS_OF_CHECKPOINTS:
        return "It begins as torch.save's checkpoints do; take it in by `lwrefinenet import`."
    return "It is cut, damaged or of another kind; copy it again."


def _read(path: Path) -> tuple[WeightsMeta, dict[str, Tensor]]:
    with _opened(path) as file:
        meta = _meta_of(path, file.metadata())
        return meta, {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - safe_open is no dict


def _meta_of(path: Path, metadata: Mapping[str, str] | None) -> WeightsMeta:
    if not metadata or META_KEY not in metadata:
        raise WeightsError(
            f"{path}: holds tensors but no lwrefinenet metadata (network, classes, preprocessing), so it cannot be used. "
            "Published checkpoints go through `lwrefinenet import`; own ones must be saved by `lwrefinenet.weights.save`."
        )
    try:
        return WeightsMeta.from_json(metadata[META_KEY])
    except (ValueError, KeyError, TypeError) as error:
        raise WeightsError(
            f"{path}: its lwrefinenet metadata cannot be read ({type(error).__name__}: {error})."
        ) from error


def _state_of(model: nn.Module, *, half: bool) -> dict[str, Tensor]:
    """What a file holds of a network."""
    return {key: _stored(value, half=half) for key, value in model.state_dict().items()}


def _stored(value: Tensor, *, half: bool) -> Tensor:
    value = value.detach().cpu()
    if half and value.is_floating_point() and value.ndim > 1:
        value = value.to(torch.float16)
    return value.contiguous()
