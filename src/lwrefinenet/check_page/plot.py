"""The census as bars: an inline SVG with the pixel share of every class in every split, in the colours of the palette."""

from collections.abc import Sequence
from html import escape
from math import sqrt

from lwrefinenet.data.census import Census

WIDTH, NAMES, COUNTS = (
    960,
    190,
    84,
)  # of the drawing, of the class names on its left, of each split's numbers on its right
BAR, GAP = 9, 9
TICKS = (0.001, 0.01, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0)


def census_plot(censuses: Sequence[Census]) -> str:
    """A section with one row per class and in it one bar per split: shares of the labelled pixels on a square-root scale."""
    labels = censuses[0].labels
    row = len(censuses) * BAR + GAP
    height = 30 + len(labels) * row
    top = max(0.01, *(float(census.shares.max()) for census in censuses))
    scale = (WIDTH - NAMES - COUNTS * len(censuses)) / sqrt(top)
    rows = "".join(_row(censuses, index, 30 + index * row, scale) for index in range(len(labels)))
    splits = ", ".join(escape(census.split) for census in censuses)
    return (
        f"<section><h2>Classes</h2><p>Share of the labelled pixels (bars from top to bottom: {splits}; square-root scale, so "
        "that rare classes can be seen), with the number of pictures in which the class occurs.</p>"
        f'<div class="scroll"><svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="Pixel share of every class">'
        f"{_axis(top, scale, height)}{rows}</svg></div></section>"
    )


def _axis(top: float, scale: float, height: int) -> str:
    marks, last = [], 0.0
    for tick in TICKS:
        place = scale * sqrt(tick)
        if tick <= top and place - last >= 34:
            last = place
            marks.append(
                f'<line class="grid" x1="{NAMES + place:.1f}" x2="{NAMES + place:.1f}" y1="20" y2="{height}"/>'
                f'<text class="tick" x="{NAMES + place:.1f}" y="14" text-anchor="middle">{100 * tick:g} %</text>'
            )
    return "".join(marks)


def _row(censuses: Sequence[Census], index: int, top: int, scale: float) -> str:
    labels = censuses[0].labels
    name = labels.class_names[index]
    shown = name if len(name) <= 24 else name[:23] + "…"
    colour = "rgb({}, {}, {})".format(*labels.palette[index])
    middle = top + len(censuses) * BAR / 2
    bars = "".join(_bar(census, index, top + place * BAR, scale, colour) for place, census in enumerate(censuses))
    numbers = " · ".join(_numbers(census, index) for census in censuses)
    return (
        f'<g><title>{escape(name)}</title><text class="name" x="{NAMES - 12}" y="{middle + 4:.1f}" text-anchor="end">'
        f'{escape(shown)}</text>{bars}<text class="count" x="{WIDTH}" y="{middle + 4:.1f}" text-anchor="end">{numbers}</text></g>'
    )


def _bar(census: Census, index: int, top: int, scale: float, colour: str) -> str:
    if not census.pixels[index]:
        return f'<text class="absent" x="{NAMES + 2}" y="{top + BAR - 1}">absent from {escape(census.split)}</text>'
    width = max(1.5, scale * sqrt(float(census.shares[index])))
    return f'<rect class="bar" x="{NAMES}" y="{top}" width="{width:.1f}" height="{BAR - 2}" fill="{colour}"/>'


def _numbers(census: Census, index: int) -> str:
    share = census.shares[index]
    text = "0" if not share else f"{share:.1%}" if share >= 0.001 else "&lt;0.1%"
    return f"{text} ({census.picture_counts[index]:,})"
