"""Several timings of one thing, as a report states them."""

from collections.abc import Sequence
from statistics import median, quantiles
from typing import Any


def spread(seconds: Sequence[float]) -> dict[str, Any]:
    """Median and quartiles, and every value in its order."""
    lower, _, upper = quantiles(seconds, n=4, method="inclusive") if len(seconds) > 1 else [seconds[0]] * 3
    return {"median": median(seconds), "quartiles": [lower, upper], "rounds": list(seconds)}
