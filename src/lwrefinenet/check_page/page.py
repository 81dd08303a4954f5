"""The page of `lwrefinenet data check --html`: census, findings and a contact sheet in one file, without scripts."""

import base64
from collections.abc import Sequence
from html import escape
from string import Template

import numpy as np
import PIL.Image

from lwrefinenet.check_page.plot import census_plot
from lwrefinenet.check_page.style import STYLE
from lwrefinenet.data.census import Census, Pair
from lwrefinenet.data.doctor.examples import chosen_examples
from lwrefinenet.data.doctor.findings import Finding, Report
from lwrefinenet.errors import LwRefineNetError
from lwrefinenet.images import encode_picture, read_picture
from lwrefinenet.visualize import overlay

THUMBNAIL = (320, 320)  # the most pixels of a sample's width and height
NAMED = 20  # files of a finding that are written out

_PAGE = Template("""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>$name: data check</title>
<style>$style</style>
</head>
<body>
<header><p class="path">$path</p><h1>$name</h1><p class="verdict $tone">$verdict</p></header>
<main>$sections</main>
<footer>lwrefinenet data check. Counted: every mask, every picture's header.</footer>
</body>
</html>
""")


def page(report: Report) -> str:
    """One self-contained HTML page, readable in light and dark."""
    sections = [_findings(report.findings)]
    if report.censuses:
        sections = [_splits(report.censuses), *sections, census_plot(report.censuses), _contact_sheet(report.censuses)]
    errors = len(report.errors)
    verdict = (
        f"{errors} error{'s' * (errors != 1)}: training would fail or learn nonsense"
        if errors
        else "Ready for training"
    )
    return _PAGE.substitute(
        name=escape(report.root.resolve().name),
        path=escape(str(report.root)),
        style=STYLE,
        verdict=verdict,
        tone="error" if errors else "sound",
        sections="\n".join(sections),
    )


def _splits(censuses: Sequence[Census]) -> str:
    cards = []
    for census in censuses:
        sizes = [
            f"<li>{width} × {height} <span>{count:,}</span></li>" for (height, width), count in census.sizes.items()
        ]
        more = f"<li>{len(sizes) - 6} other sizes</li>" if len(sizes) > 6 else ""
        present = len(census.labels) - len(census.absent)
        cards.append(
            f'<article class="card"><h3>{escape(census.split)}</h3>'
            f'<p class="big">{census.pictures:,}<small> pictures</small></p>'
            f"<p>{present} of {len(census.labels)} classes, {census.ignore_share:.1%} of the pixels ignored</p>"
            f'<ul class="sizes">{"".join(sizes[:6])}{more}</ul></article>'
        )
    return f'<section class="cards">{"".join(cards)}</section>'


def _findings(findings: Sequence[Finding]) -> str:
    if not findings:
        return "<section><h2>Findings</h2><p>Nothing to mend.</p></section>"
    rows = "".join(
        f'<tr><td><span class="badge {finding.severity.value}">{finding.severity.value}</span></td>'
        f"<td><strong>{escape(finding.kind)}</strong>{_files(finding)}</td>"
        f"<td><p>{escape(finding.came)}</p><p class='expected'>expected: {escape(finding.expected)}</p></td>"
        f'<td class="fix">{escape(finding.fix)}</td></tr>'
        for finding in findings
    )
    return (
        '<section><h2>Findings</h2><div class="scroll"><table><thead><tr><th></th><th>what and where</th><th>what came</th>'
        f"<th>what mends it</th></tr></thead><tbody>{rows}</tbody></table></div></section>"
    )


def _files(finding: Finding) -> str:
    if len(finding.files) == 1:
        return f'<p class="path">{escape(str(finding.files[0]))}</p>'
    names = "".join(f"<li>{escape(str(path))}</li>" for path in finding.files[:NAMED])
    rest = len(finding.files) - NAMED
    more = f"<li>and {rest} more</li>" if rest > 0 else ""
    return f"<details><summary>{len(finding.files)} files</summary><ul>{names}{more}</ul></details>"


def _contact_sheet(censuses: Sequence[Census]) -> str:
    figures = "".join(_figure(census, index) for census, index in chosen_examples(censuses))
    return (
        "<section><h2>Samples</h2><p>Masks painted over their pictures in the palette; chosen so that every class is seen.</p>"
        f'<div class="sheet">{figures}</div></section>'
    )


def _figure(census: Census, index: int) -> str:
    pair = census.pairs[index]
    name = escape(pair.sample.image.name)
    painted, remark = _painted(census, index)
    picture = (
        f'<img alt="{name}" loading="lazy" src="data:image/jpeg;base64,{painted}">'
        if painted
        else '<div class="none"></div>'
    )
    caption = f'<span class="remark">{escape(remark)}</span>' if remark else _chips(census, pair)
    return (
        f'<figure>{picture}<figcaption><span class="file" title="{escape(str(pair.sample.image))}">{name}</span> '
        f'<span class="split">{escape(census.split)}</span><div class="chips">{caption}</div></figcaption></figure>'
    )


def _painted(census: Census, index: int) -> tuple[str, str]:
    """The sample as base64 JPEG, empty where the picture cannot be read, and a remark where its mask cannot."""
    try:
        pixels, mask = census.dataset[index]
    except LwRefineNetError:
        try:
            pixels = read_picture(census.pairs[index].sample.image).pixels
        except LwRefineNetError:
            return "", "the picture cannot be read"
        mask, remark = np.full(pixels.shape[:2], 255, np.uint8), "the mask is not usable, see the findings"
    else:
        remark = ""
    small = PIL.Image.fromarray(pixels)
    small.thumbnail(THUMBNAIL)
    small_mask = PIL.Image.fromarray(mask).resize(small.size, PIL.Image.Resampling.NEAREST)
    painted = overlay(np.array(small), np.array(small_mask), census.labels, 0.55)
    return base64.b64encode(encode_picture(painted, ".jpg")).decode(), remark


def _chips(census: Census, pair: Pair) -> str:
    labels = census.labels
    total = sum(pixels for _, pixels in pair.classes) + pair.ignored
    largest = sorted(pair.classes, key=lambda item: -item[1])
    chips = [
        f'<span class="chip"><i style="background:rgb{labels.palette[index]}"></i>{escape(labels.class_names[index])} '
        f"{_percent(pixels / total)}</span>"
        for index, pixels in largest[:6]
    ]
    return "".join(chips) + (f'<span class="chip">+{len(largest) - 6}</span>' if len(largest) > 6 else "")


def _percent(share: float) -> str:
    return f"{share:.0%}" if share >= 0.01 else "<1%".replace("<", "&lt;")
