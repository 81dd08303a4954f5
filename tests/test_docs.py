"""The pages of docs/ say what the code does."""

import importlib.util
import re
from dataclasses import fields
from pathlib import Path

import pytest

from lwrefinenet.training.recipe import Recipe

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
