"""Write what follows from code and results: docs/recipe.md from the fields of a recipe, the tables of README and other pages.

python scripts/make_docs.py
"""

import json
import tomllib
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any, get_type_hints

from pages import with_table

from lwrefinenet import weights
from lwrefinenet.files import write_atomically
from lwrefinenet.training.recipe import Recipe
from lwrefinenet.training.recipe_values import to_toml, wording

ROOT = Path(__file__).parents[1]
RECIPE_FIELDS = ROOT / "docs" / "recipe.md"
README, SPEED = ROOT / "README.md", ROOT / "results" / "inference.json"
DEPLOY, CURVE = ROOT / "docs" / "deploy.md", ROOT / "results" / "nano_curve.json"
NETWORKS, SIZES = ROOT / "docs" / "networks.md", ROOT / "results" / "networks.json"
PUBLISHED = ROOT / "scripts" / "published_networks.toml"
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
        rows.append(f"| `{entry.name}` | {default} | {about} ({wording(kind)}) |")
    return HEAD + "\n".join(rows) + "\n"


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


def curve_table(result: dict[str, Any]) -> str:
    """The designs that were compared, as Markdown; result: of scripts/measure_curve.py."""
    subjects = result["subjects"]
    milliseconds = {name: found["ways"][result["backend"]]["milliseconds"] for name, found in subjects.items()}
    peer = milliseconds[next(name for name, found in subjects.items() if "design" not in found)]["network"]["p50"]
    rows = [
        "| design | mean IoU on val | parameters | G multiply-adds | network | of LR-ASPP |",
        "|---|---|---|---|---|---|",
    ]
    for name, found in subjects.items():
        network = milliseconds[name]["network"]["p50"]
        score = f"{100 * found['score']:.1f} %" if "score" in found else ""
        sizes = f"{found['parameters']:,} | {found['macs'] / 1e9:.2f}"
        rows.append(f"| {name} | {score} | {sizes} | {network:.1f} ms | {network / peer:.2f} |")
    return "\n".join(rows) + "\n"


def sizes_table(result: dict[str, Any], published: dict[str, Any]) -> str:
    """Ours beside the published sizes, as Markdown; result: of scripts/measure_networks.py."""
    rows = [
        "| network | parameters | published, M | G multiply-adds, 512x512 | published | 625x468 |",
        "|---|---|---|---|---|---|",
    ]
    for label, found in result["networks"].items():
        stated, (ours, small, large) = published.get(label, {}), _sizes(found)
        theirs, counted = stated.get("parameters", ""), stated.get("multiply_adds", "")
        rows.append(f"| {_label(label)} | {ours} | {theirs} | {small} | {counted} | {large} |")
    return "\n".join(rows) + "\n"


def scores_table(result: dict[str, Any], published: dict[str, Any]) -> str:
    """Published scores and what became of the checkpoints, beside the weights of the package, as Markdown."""
    kinds = ("voc", "person_part", "context", "nyu", "weights")
    rows = [
        "| network | VOC val / test | Person-Part | Context | NYUv2 | published weights | ours |",
        "|---|---|---|---|---|---|---|",
    ]
    for label, found in result["networks"].items():
        stated, ours = published.get(label, {}), _shipped(found["network"], found["arguments"].get("tasks"))
        if stated or ours:
            cells = [_label(label), *(stated.get(kind, "") for kind in kinds), "<br>".join(ours)]
            rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows) + "\n"


def family_table(result: dict[str, Any], published: dict[str, Any]) -> str:
    """Every network with its size, what was published of it and what we have, as Markdown, for the README."""
    rows = [
        "| network | parameters | G multiply-adds, 512x512 | 625x468 | published VOC val / test | NYUv2 | weights | ours |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for label, found in result["networks"].items():
        stated, ours = published.get(label, {}), _shipped(found["network"], found["arguments"].get("tasks"))
        of_others = (stated.get(kind, "") for kind in ("voc", "nyu", "weights"))
        cells = [_label(label), *_sizes(found), *of_others, "<br>".join(ours)]
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows) + "\n"


def _sizes(found: dict[str, Any]) -> tuple[str, str, str]:
    """Parameters, and billions of multiply-adds at 512x512 and at 625x468."""
    small, large = (f"{found['multiply_adds'][size] / 1e9:.2f}" for size in ("512x512", "625x468"))
    return f"{found['parameters']:,}", small, large


def _label(label: str) -> str:
    name, comma, rest = label.partition(",")
    return f"`{name}`{comma}{rest}"


def _shipped(network: str, tasks: list[str] | None) -> list[str]:
    """The weights in the package for this network, each with its score, on test where it has one."""
    found = []
    for name in weights.SHIPPED:
        meta = weights.read_meta(name)
        if meta.network == network and meta.arguments.get("tasks") == tasks:
            scores = {  # of whole pictures, which are stated before the crop
                score.protocol.partition(",")[0]: score.value
                for score in reversed(meta.scores)
                if score.metric == "mean_iou"
            }
            data = next((data for data in scores if data.endswith(" test")), next(iter(scores), None))
            found.append(f"`{name}`" + (f": {100 * scores[data]:.1f} % on {data}" if data else ""))
    return found


def pages() -> dict[Path, str]:
    """Every page that is written, with its whole text."""
    speed = speed_table(json.loads(SPEED.read_text()))
    curve = curve_table(json.loads(CURVE.read_text()))
    sizes, published = json.loads(SIZES.read_text()), tomllib.loads(PUBLISHED.read_text())
    networks = with_table(
        NETWORKS.read_text(), "<!-- sizes written by scripts/make_docs.py -->\n", sizes_table(sizes, published)
    )
    networks = with_table(networks, "<!-- scores written by scripts/make_docs.py -->\n", scores_table(sizes, published))
    readme = with_table(README.read_text(), "<!-- written by make bench -->\n", speed)
    readme = with_table(readme, "<!-- written by scripts/make_docs.py -->\n", family_table(sizes, published))
    return {
        RECIPE_FIELDS: recipe_page(),
        README: readme,
        DEPLOY: with_table(DEPLOY.read_text(), "<!-- written by scripts/make_docs.py -->\n", curve),
        NETWORKS: networks,
    }


if __name__ == "__main__":
    for page, text in pages().items():
        write_atomically(page, text.encode())
