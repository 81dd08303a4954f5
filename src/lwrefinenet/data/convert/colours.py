"""Which colour means which class: tables from TOML, CSV or dataset.toml, and a proposal made from masks without one."""

import csv
import json
import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lwrefinenet.errors import DataError, UsageError
from lwrefinenet.labels import LABEL_SETS, Colour, LabelSet

IGNORE = "ignore"
LISTED = 40  # a set with more colours than this has blurred edges, not classes


@dataclass(frozen=True)
class ColourTable:
    """What colours mean.

    meanings: colour -> class index, or the ignore index.  where: the file or option that says so, for messages.
    extra: further fields of dataset.toml, in TOML.
    """

    labels: LabelSet
    meanings: dict[Colour, int]
    where: str
    extra: str = ""


def read_colours(path: Path, classes: Sequence[str] | None = None) -> ColourTable:
    """A colour table from a file.

    TOML: `road = [128, 64, 128]` per class, or a list of colours for one class; or `class_names` and `palette`, as in
    dataset.toml. CSV: `name,r,g,b` per line, with or without that header, a name again for its further colours.
    The name `ignore` stands for the ignore index. classes: their order, if it is not that of the file.
    UsageError for `classes` that are not those of the file; DataError for a file that does not say it clearly.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
        pairs = _pairs_of_csv(path, text) if path.suffix.lower() == ".csv" else _pairs_of_toml(path, text)
    except OSError as error:
        raise UsageError(f"{path}: no readable colours file; it holds lines like road = [128, 64, 128].") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: is not text in UTF-8 ({error}).") from error
    found = [name for name in dict.fromkeys(name for name, _ in pairs) if name != IGNORE]
    if classes is not None and sorted(classes) != sorted(found):
        raise UsageError(
            f"--classes names {', '.join(classes)}, but {path} has the classes {', '.join(found)}; name each once."
        )
    names = list(classes) if classes is not None else found
    first = dict(reversed(pairs))
    settings = _settings(path, text)
    try:
        labels = LabelSet(path.name, tuple(names), tuple(first[name] for name in names), settings[0])
    except (ValueError, TypeError) as error:
        raise DataError(f"{path}: {error}") from error
    meanings: dict[Colour, int] = {}
    for name, colour in pairs:
        meaning = labels.ignore_index if name == IGNORE else names.index(name)
        if meanings.setdefault(colour, meaning) != meaning:
            raise DataError(f"{path}: the colour {list(colour)} stands for {name!r} and for another class; choose one.")
    return ColourTable(labels, meanings, str(path), settings[1])


def proposed_colours(counts: dict[Colour, int]) -> str:
    """A colours file in TOML for colours found with these numbers of pixels, most frequent first, to be named by hand.

    Colours that all belong to the palette of one known label set are proposed under its names, in its order.
    """
    total = sum(counts.values())
    shares = {colour: f"{100 * counts[colour] / total:.2f} % of the pixels" for colour in sorted(counts)}
    lines = [
        "# Give each colour its class name; the order is the order of the class indices.",
        '# Colours of pixels that count nowhere: "ignore". Several colours of one class: [[r, g, b], [r, g, b]].',
    ]
    if labels := _recognised(set(counts)):
        named = dict(zip(labels.palette, labels.class_names, strict=True))
        lines.append(f"# These are the colours of {labels.name}, so its names are proposed: check them.")
    else:
        ranked = sorted(counts, key=lambda colour: (-counts[colour], colour))
        named = {colour: f"class_{number}" for number, colour in enumerate(ranked[:LISTED])}
    rest = [] if len(counts) > LISTED else sorted(set(counts) - set(named))
    for colour, name in named.items():
        key = name if name.isidentifier() and name.isascii() else json.dumps(name)
        lines.append(f"{key} = {list(colour)}  # {shares.get(colour, 'not found')}")
    if rest:  # one line, as a table has each name once
        colours = list(rest[0]) if len(rest) == 1 else [list(colour) for colour in rest]
        lines.append(f"{IGNORE} = {colours}  # {', '.join(shares[colour] for colour in rest)}")
    if len(counts) > LISTED:
        others = sum(count for colour, count in counts.items() if colour not in named)
        lines += [
            f"# and {len(counts) - len(named)} more colours on {100 * others / total:.2f} % of the pixels: these masks were "
            "blurred or compressed.",
            "# Keep the true colours above, delete the others, and convert with --tolerance N.",
        ]
    return "\n".join(lines) + "\n"


def count_colours(colours: NDArray[np.uint8]) -> dict[Colour, int]:
    """How many pixels each colour of an (H, W, 3) RGB array has."""
    values, counts = np.unique(codes(colours), return_counts=True)
    return {colour_of(value): count for value, count in zip(values.tolist(), counts.tolist(), strict=True)}


def indices_of(colours: NDArray[np.uint8], table: ColourTable, name: str, tolerance: int = 0) -> NDArray[np.uint8]:
    """Class indices (H, W) for an (H, W, 3) RGB mask.

    tolerance: how far (Euclidean distance in RGB, 0-441) a colour may be from the nearest one of the table; at equal
    distance the lower class index is taken. DataError, naming the mask `name`, colour and pixels, for any other colour.
    """
    coded = codes(colours)
    values, counts = np.unique(coded, return_counts=True)
    known = sorted(table.meanings.items(), key=lambda entry: entry[1])
    palette = np.array([colour for colour, _ in known], dtype=np.int64)
    seen = np.stack((values >> 16, values >> 8 & 255, values & 255), axis=1).astype(np.int64)
    squares = np.stack([((seen - colour) ** 2).sum(axis=1) for colour in palette], axis=1)
    nearest = squares.argmin(axis=1)
    distance = np.sqrt(squares.min(axis=1))
    if (distance > tolerance).any():
        raise DataError(_unknown_colour(name, table, seen, counts, distance, nearest, tolerance))
    meanings = np.array([meaning for _, meaning in known], dtype=np.uint8)[nearest]
    indices: NDArray[np.uint8] = meanings[np.searchsorted(values, coded)]
    return indices


def codes(colours: NDArray[np.uint8]) -> NDArray[np.int32]:
    """(H, W) with one number per colour, 0xRRGGBB."""
    red, green, blue = (colours[..., channel].astype(np.int32) for channel in range(3))
    return red << 16 | green << 8 | blue


def colour_of(code: int) -> Colour:
    """The colour behind a number of `codes`."""
    return code >> 16, code >> 8 & 255, code & 255


def _recognised(found: set[Colour]) -> LabelSet | None:
    """The one known label set whose palette holds all of these colours, black and white aside, and at least three."""
    telling = found - {(0, 0, 0), (255, 255, 255)}
    fitting = [labels for labels in LABEL_SETS.values() if telling <= set(labels.palette)]
    return fitting[0] if len(fitting) == 1 and len(telling) >= 3 else None


def _unknown_colour(
    name: str,
    table: ColourTable,
    seen: NDArray[np.int64],
    counts: NDArray[np.int64],
    distance: NDArray[np.float64],
    nearest: NDArray[np.int64],
    tolerance: int,
) -> str:
    unknown = np.flatnonzero(distance > tolerance)
    worst = unknown[counts[unknown].argmax()]
    known = sorted(table.meanings.items(), key=lambda entry: entry[1])
    colour, meaning = known[nearest[worst]]
    called = IGNORE if meaning == table.labels.ignore_index else table.labels.class_names[meaning]
    others = (
        "" if len(unknown) == 1 else f" (and {len(unknown) - 1} more colours, {_pixels(counts[unknown].sum())} in all)"
    )
    needed = int(np.ceil(distance[unknown].max()))
    return (
        f"{name}: {_pixels(counts[worst])} of the colour {seen[worst].tolist()}{others}, which {table.where} does not know; "
        f'the nearest is {list(colour)}, {called}. Add it there (pixels that count nowhere: "{IGNORE}"), or, if the mask was '
        f"blurred or compressed, take the nearest colour with --tolerance {needed}."
    )


def _pixels(count: int) -> str:
    return f"{count} pixel{'s' if count != 1 else ''}"


def _pairs_of_toml(path: Path, text: str) -> list[tuple[str, Colour]]:
    table = _toml(path, text)
    if "class_names" in table:
        names, palette = table["class_names"], table.get("palette")
        if not isinstance(names, list) or not isinstance(palette, list) or len(names) != len(palette):
            raise DataError(f"{path}: needs a palette with one colour per entry of class_names.")
        return [(str(name), _colour(path, colour)) for name, colour in zip(names, palette, strict=True)]
    return [(name, colour) for name, value in table.items() for colour in _colours(path, value)]


def _pairs_of_csv(path: Path, text: str) -> list[tuple[str, Colour]]:
    rows = [[cell.strip() for cell in row] for row in csv.reader(text.splitlines()) if any(map(str.strip, row))]
    if rows and not any(cell.isdigit() for cell in rows[0]):
        rows = rows[1:]
    pairs = []
    for row in rows:
        if len(row) != 4 or not all(cell.isdigit() for cell in row[1:]):
            raise DataError(f"{path}: the line {','.join(row)!r} is not name,r,g,b with numbers of 0-255.")
        pairs.append((row[0], _colour(path, [int(cell) for cell in row[1:]])))
    return pairs


def _colours(path: Path, value: Any) -> Iterable[Colour]:
    several = isinstance(value, list) and value and isinstance(value[0], list)
    return [_colour(path, colour) for colour in (value if several else [value])]


def _colour(path: Path, value: Any) -> Colour:
    if (
        not isinstance(value, list)
        or len(value) != 3
        or not all(isinstance(channel, int) and 0 <= channel <= 255 for channel in value)
    ):
        raise DataError(f"{path}: {value!r} is no colour; expected three numbers of 0-255, [red, green, blue].")
    return value[0], value[1], value[2]


def _settings(path: Path, text: str) -> tuple[int, str]:
    """The ignore index, and what else a dataset.toml says, in TOML."""
    table = _toml(path, text) if path.suffix.lower() != ".csv" else {}
    if "class_names" not in table:
        return 255, ""
    return table.get("ignore_index", 255), kept_fields(table)


def kept_fields(table: dict[str, Any]) -> str:
    """The licence and the merging of a dataset.toml, as TOML to be taken over."""
    lines = [f"licence = {json.dumps(table['licence'], ensure_ascii=False)}"] if "licence" in table else []
    if merge := table.get("merge"):
        lines += ["[merge]", *(f"{_text(old)} = {_text(new)}" for old, new in merge.items())]
    return "".join(f"{line}\n" for line in lines)


def _text(value: Any) -> str:
    return json.dumps(str(value), ensure_ascii=False)


def _toml(path: Path, text: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise DataError(f"{path}: not valid TOML ({error}).") from error
