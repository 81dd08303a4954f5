"""JSON files of others: read with the file's name in every complaint, and the classes that they speak of."""

import difflib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

from lwrefinenet.errors import DataError, UsageError
from lwrefinenet.labels import LabelSet, voc_palette

T = TypeVar("T")
BACKGROUND = "background"


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file; DataError for a file that is not readable or holds something else."""
    try:
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}).") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: not valid JSON ({error}); it may be cut short, copy or export it again.") from error
    if not isinstance(content, dict):
        raise DataError(f"{path}: holds a {type(content).__name__}, expected an object {{...}}.")
    return content


def entry(record: Any, key: str, kind: type[T], where: str) -> T:
    """`record[key]` of the type `kind`; DataError, naming `where`, if it is absent or of another one."""
    value = record.get(key) if isinstance(record, dict) else None
    if not isinstance(value, kind) or isinstance(value, bool):
        raise DataError(f"{where}: {key!r} should be {_WORDS.get(kind, kind.__name__)}; got {str(value)[:80]!r}.")
    return value


def class_labels(name: str, names: Sequence[str]) -> LabelSet:
    """A label set in the VOC colours with `background` as class 0, unless it has another place among the names."""
    every = tuple(names) if BACKGROUND in names else (BACKGROUND, *names)
    if repeated := [label for label in every if every.count(label) > 1]:
        raise UsageError(f"the class {repeated[0]!r} is named twice; every class has one name.")
    try:
        return LabelSet(name, every, voc_palette(len(every)))
    except ValueError as error:
        raise UsageError(f"{error} Choose fewer with --classes.") from error


def check_chosen(classes: Sequence[str], known: Sequence[str], where: Path) -> None:
    """UsageError, with the nearest name, for a class that the source does not have."""
    for name in classes:
        if name not in known and name != BACKGROUND:
            near = difflib.get_close_matches(name, known, 1)
            hint = f"did you mean {near[0]!r}?" if near else f"it has {', '.join(known[:20])}."
            raise UsageError(f"--classes names {name!r}, which {where} does not have; {hint}")


_WORDS: dict[type, str] = {list: "a list", str: "a text", int: "a whole number", dict: "an object"}
