"""Write the pages of docs/ that follow from the code: docs/recipe.md, from the fields of a recipe.

python scripts/make_docs.py
"""

from dataclasses import MISSING, fields
from pathlib import Path
from typing import get_type_hints

from lwrefinenet.files import write_atomically
from lwrefinenet.training.recipe import Recipe
from lwrefinenet.training.recipe_values import to_toml

PAGE = Path(__file__).parents[1] / "docs" / "recipe.md"
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


if __name__ == "__main__":
    write_atomically(PAGE, recipe_page().encode())
