"""Accuracy against time: one point for each measured network whose score is known."""

import io
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox

INK, OTHERS = "#1b6ca8", "#999999"
INCHES, DOTS = (8.0, 4.8), 130
SIDES = ((7, 0), (-7, 0), (7, 9), (-7, 9), (7, -9), (-7, -9), (7, 18), (-7, 18))  # of a name from its point, in points


EXACT = ("openvino", "onnxruntime", "pytorch", "published")  # ways that give the stated score, fastest first


def accuracy_plot(result: dict[str, Any]) -> bytes:
    """A PNG of the score (mean IoU, percent) over the milliseconds from JPEG bytes to colour mask, in float32.

    Each network stands in the first of EXACT in which it was measured; exported files, and networks measured in no such way, in
    their fastest.
    result: as `inference_speed` gives it, with `score` and `score_protocol` of the subjects that have one.  Networks without a
    score stand as lines: how fast they are is known, how good they would be is not.
    """
    figure = Figure(figsize=INCHES, layout="constrained")
    axes = figure.subplots()
    protocols = set()
    points: dict[str, tuple[float, float]] = {}
    for name, subject in result["subjects"].items():
        ways = subject["ways"]
        exact = next((ways[way] for way in EXACT if way in ways), None)
        milliseconds = min(way["end_to_end"]["p50"] for way in ([exact] if exact else ways.values()))
        if subject.get("score") is None:
            axes.axvline(milliseconds, color=OTHERS, linewidth=0.8, linestyle="--")
            axes.text(
                milliseconds,
                0.98,
                f"{name} ",
                color=OTHERS,
                rotation=90,
                va="top",
                transform=axes.get_xaxis_transform(),
                fontsize=7,
            )
            continue
        protocols.add(subject["score_protocol"])
        axes.plot(milliseconds, 100 * subject["score"], "o", color=INK)
        points[name] = (milliseconds, 100 * subject["score"])
    height, width = result["size"]
    axes.set_xlabel(f"milliseconds from JPEG bytes to colour mask, {width}x{height}, {result['threads']} threads")
    axes.set_ylabel("mean IoU, %\n" + "\n".join(sorted(protocols)))
    axes.margins(x=0.3, y=0.3)
    axes.set_xlim(left=0)
    axes.grid(alpha=0.3)
    _name(figure, axes, points)
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=DOTS)
    return content.getvalue()


def _name(figure: Figure, axes: Axes, points: dict[str, tuple[float, float]]) -> None:
    """Write each name beside its point, on the first side where it covers no other name or point, or else on the last."""
    figure.draw_without_rendering()
    centres = {name: axes.transData.transform(point) for name, point in points.items()}
    dots = {name: Bbox([centre - 6, centre + 6]) for name, centre in centres.items()}
    taken: list[Bbox] = []
    for name, point in points.items():
        dots_of_others = [dot for other, dot in dots.items() if other != name]
        for across, up in SIDES:
            text = axes.annotate(
                name,
                point,
                (across, up),
                textcoords="offset points",
                ha="left" if across > 0 else "right",
                va="center",
                fontsize=8,
                bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 0.5},
            )
            box = text.get_window_extent()
            covers = any(box.overlaps(other) for other in [*taken, *dots_of_others])
            if not covers or (across, up) == SIDES[-1]:
                break
            text.remove()
        taken.append(box)
