"""The pages of docs/ say what the code does."""

import importlib.util
import re
from dataclasses import fields
from pathlib import Path

import pytest

from lwrefinenet.cli.data_convert import Format
from lwrefinenet.data.layouts import READERS
from lwrefinenet.training.recipe import Recipe
from lwrefinenet.training.run_dir import FREE_TO_CHANGE

ROOT = Path(__file__).parents[1]
PAGES = sorted((ROOT / "docs").glob("*.md"))


def test_the_page_of_recipe_fields_is_what_the_script_writes():
    spec = importlib.util.spec_from_file_location("make_docs", ROOT / "scripts" / "make_docs.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    page = (ROOT / "docs" / "recipe.md").read_text()
    assert page == script.recipe_page(), "run python scripts/make_docs.py"
    assert all(f"| `{entry.name}` |" in page for entry in fields(Recipe))


@pytest.mark.parametrize("page", [*PAGES, ROOT / "README.md"], ids=lambda path: path.name)
def test_links_to_files_lead_somewhere(page):
    for target in re.findall(r"\]\((?!https?:)([^)#]+)(?:#[^)]*)?\)", page.read_text()):
        assert (page.parent / target).exists(), target


def test_the_page_on_data_names_every_reader_and_format():
    page = (ROOT / "docs" / "data.md").read_text()
    assert not [name for name in [*READERS, *(each.value for each in Format)] if f"`{name}`" not in page]


def test_the_page_on_training_names_every_recipe_and_free_field():
    page = (ROOT / "docs" / "training.md").read_text()
    names = [path.name for path in (ROOT / "recipes").glob("*.toml")]
    assert not [name for name in [*names, *FREE_TO_CHANGE] if f"`{name}`" not in page]
