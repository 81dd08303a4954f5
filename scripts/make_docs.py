"""Write what follows from code and results: docs/recipe.md, from the fields of a recipe, and the README's table of speeds.

python scripts/make_docs.py
"""

import json
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any, get_type_hints

from lwrefinenet.files import write_atomically
from lwrefinenet.training.recipe import Recipe
from lwrefinenet.training.recipe_values import to_toml

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "recipe.md"
README = ROOT / "README.md"
SPEED = ROOT / "results" / "inference.json"
TABLE_BEGINS, TABLE_ENDS = "<!-- written by make bench -->\n", "<!-- end -->"
LEDGER = ("decode", "prepare", "network", "tail", "colour")
HEAD = """# The fields of a recipe

A recipe is a flat TOML file: one line for each field that differs from its default. An unknown field is an error that names the
nearest one; `--set field=value` overrides the file; `recipe.toml` in the run folder holds all fields as they were used.
This page is written by `python scripts/make_docs.py`, from what `lwrefinenet train --help` shows.

| field | default | what it is |
|---|---|---|
"""


def recipe_page() -> str:
    """The whole page."""
    rows = []
    for entry, kind in zip(fields(Recipe), get_type_hints(Recipe).values(), strict=True):
        default = (
            "required"
            if entry.default is MISSING
            else f"`{to_toml(entry.default)}`"
            if entry.default is not None
            else "left out"
        )
        about = entry.metadata["about"].replace("|", "\\|")
        rows.append(f"| `{entry.name}` | {default} | {about} ({_kind(kind)}) |")
    return HEAD + "\n".join(rows) + "\n"


def _kind(kind: object) -> str:
    text = str(getattr(kind, "__name__", kind)).replace(" | None", "")
    if text.startswith("tuple"):
        return "list of texts" if "str" in text else "list of numbers"
    return {"str": "text", "int": "whole number", "float": "number", "bool": "true or false"}[text]


def speed_table(result: dict[str, Any]) -> str:
    """The ledger of every network in every way, as Markdown; result: of `lwrefinenet benchmark --output`."""
    heads = ("network", "runtime", *LEDGER, "together (p95)", "ratio", "labels", "file", "memory")
    rows = [f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}"]
    for name, subject in result["subjects"].items():
        for way, found in subject["ways"].items():
            parts = [f"{found['milliseconds'][part]['p50']:.1f}" for part in LEDGER]
            whole = f"**{found['end_to_end']['p50']:.0f}** ({found['end_to_end']['p95']:.0f})"
            ratio = f"{found['ratio']:.1f}x" if "ratio" in found else ""
            sizes = f"{found['megabytes']:.1f} MB", f"{found['peak_megabytes']:.0f} MB"
            cells = (f"`{name}`", way, *parts, whole, ratio, f"{100 * found['equal_labels']:.3f} %", *sizes)
            rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows) + "\n"


def with_speed_table(readme: str) -> str:
    """The README with the table of the last `make bench` between its two marks."""
    before, _, rest = readme.partition(TABLE_BEGINS)
    _, mark, after = rest.partition(TABLE_ENDS)
    if not mark:
        raise ValueError(f"{README}: the marks of the table of speeds are not there.")
    return before + TABLE_BEGINS + speed_table(json.loads(SPEED.read_text())) + mark + after


if __name__ == "__main__":
    write_atomically(PAGE, recipe_page().encode())
    write_atomically(README, with_speed_table(README.read_text()).encode())
