"""Accuracy against time: one point for each measured network whose score is known."""

import io
from typing import Any

from matplotlib.figure import Figure

INK, OTHERS = "#1b6ca8", "#999999"
INCHES, DOTS = (8.0, 4.8), 130


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
    for name, subject in result["subjects"].items():
        ways = subject["ways"]
        exact = next((ways[way] for way in EXACT if way in ways), None)
        milliseconds = min(way["end_to_end"]["p50"] for way in ([exact] if exact else ways.values()))
        if subject.get("score") is None:
            axes.axvline(milliseconds, color=OTHERS, linewidth=0.8, linestyle="--")
            axes.text(
                milliseconds,
                0.02,
                f" {name}",
                color=OTHERS,
                rotation=90,
                transform=axes.get_xaxis_transform(),
                fontsize=7,
            )
            continue
        protocols.add(subject["score_protocol"])
        axes.plot(milliseconds, 100 * subject["score"], "o", color=INK)
        axes.annotate(
            name, (milliseconds, 100 * subject["score"]), xytext=(6, 5), textcoords="offset points", fontsize=8
        )
    height, width = result["size"]
    axes.set_xlabel(f"milliseconds from JPEG bytes to colour mask, {width}x{height}, {result['threads']} threads")
    axes.set_ylabel("mean IoU, %\n" + "\n".join(sorted(protocols)))
    axes.margins(x=0.3, y=0.3)
    axes.set_xlim(left=0)
    axes.grid(alpha=0.3)
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=DOTS)
    return content.getvalue()
