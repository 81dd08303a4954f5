"""Values of a recipe between TOML and their types: reading with the exact error, writing so that reading gives the same."""

import tomllib
from pathlib import Path
from types import UnionType
from typing import Any, get_args, get_origin

from lwrefinenet.errors import RecipeError
from lwrefinenet.files import read_toml


def read_values(path: Path, overrides: list[str]) -> dict[str, Any]:
    """A TOML file's values with `key=value` overrides (values as in TOML; a bare word is a string)."""
    try:
        values = read_toml(path, RecipeError)
    except OSError as error:
        raise RecipeError(f"{path}: no readable recipe ({error.strerror}).") from error
    for override in overrides:
        values |= _override(override)
    return values


def as_type(origin: str, key: str, value: Any, expected: Any) -> Any:
    """The value as the field's type wants it (lists become tuples, whole numbers floats); RecipeError where it does not fit."""
    options = get_args(expected) if get_origin(expected) is UnionType else (expected,)
    for option in options:
        if (kinds := _item_kinds(option, value)) is not None:
            return tuple(as_type(origin, key, item, kind) for item, kind in zip(value, kinds, strict=True))
        if option is float and isinstance(value, int | float) and not isinstance(value, bool):
            return float(value)
        if isinstance(option, type) and type(value) is option:
            return value
    raise RecipeError(f"{origin}: {key} is {value!r}; expected {wording(expected)}.")


def to_toml(value: Any) -> str:
    """As it stands in a recipe file."""
    if value is None:
        return "(none)"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return "[" + ", ".join(map(to_toml, value)) + "]" if isinstance(value, tuple) else repr(value)


def _item_kinds(option: Any, value: Any) -> tuple[Any, ...] | None:
    """The types of a list's items, or None where this option is no list, or one of another length."""
    if get_origin(option) is not tuple or not isinstance(value, list | tuple):
        return None
    kinds = get_args(option)
    if kinds[-1] is Ellipsis:
        return (kinds[0],) * len(value)
    return kinds if len(kinds) == len(value) else None


def wording(expected: Any) -> str:
    """What a field of this type takes, in words."""
    if get_origin(expected) is UnionType:
        return " or ".join(wording(option) for option in get_args(expected) if option is not type(None))
    if get_origin(expected) is not tuple:
        return {"str": "a text", "bool": "true or false", "int": "a whole number", "float": "a number"}[
            expected.__name__
        ]
    kinds = get_args(expected)
    if kinds[-1] is Ellipsis:
        return "a list of texts" if kinds[0] is str else "a list of numbers"
    return "[two numbers]"


def _override(text: str) -> dict[str, Any]:
    key, equals, value = text.partition("=")
    if not equals:
        raise RecipeError(f"--set {text!r}: expected key=value, for example --set epochs=20.")
    try:
        return {key.strip(): tomllib.loads(f"value = {value}")["value"]}
    except tomllib.TOMLDecodeError:
        if value.strip().startswith("["):
            raise RecipeError(
                f'--set {text!r}: is no list as TOML has it; expected --set \'key=["a", "b"]\'.'
            ) from None
        return {key.strip(): value.strip()}
