"""Streaming metrics of depth and normals: sums over the pixels whose truth is known, whatever the size of the set."""

import numpy as np

STEPS = 18_000  # of an angle's histogram, a hundredth of a degree each
DELTA = 1.25
SMALLEST = 1e-3  # metres: what a predicted depth is at least, where its logarithm is taken


class DepthErrors:
    """Errors in metres, of logarithms, and relative ones (D. Eigen, C. Puhrsch, R. Fergus, NeurIPS 2014)."""

    def __init__(self) -> None:
        # pixels, e^2, log error^2, |e| / truth, and pixels with a ratio under 1.25, 1.25^2, 1.25^3
        self.sums = np.zeros(7)

    def update(self, predicted: np.ndarray, target: np.ndarray) -> None:
        """Count one picture.  predicted, target: (H, W) metres; target 0 where unknown.  ValueError where sizes differ."""
        _check_sizes(predicted, target)
        known = target > 0
        truth = target[known].astype(np.float64)
        found = np.maximum(predicted[known].astype(np.float64), SMALLEST)
        ratio = np.maximum(found / truth, truth / found)
        errors, logs = found - truth, np.log(found / truth)
        self.sums += [
            *(truth.size, (errors**2).sum(), (logs**2).sum(), (np.abs(errors) / truth).sum()),
            *((ratio < DELTA**power).sum() for power in (1, 2, 3)),
        ]

    @property
    def scores(self) -> dict[str, float] | None:
        """rmse (metres), log_rmse (natural logarithm), abs_rel, delta_1 to delta_3 (shares, 0-1); None where nothing is known."""
        pixels = self.sums[0]
        if not pixels:
            return None
        square, log_square, relative, *near = (self.sums[1:] / pixels).tolist()
        errors = {"rmse": square**0.5, "log_rmse": log_square**0.5, "abs_rel": relative}
        return {**errors, **{f"delta_{power}": share for power, share in enumerate(near, start=1)}}


class NormalErrors:
    """Angles between predicted and true normals (D. Fouhey, A. Gupta, M. Hebert, ICCV 2013)."""

    def __init__(self) -> None:
        self.sums = np.zeros(STEPS + 2)  # a histogram of angles, and last the sum of all angles in degrees

    def update(self, predicted: np.ndarray, target: np.ndarray) -> None:
        """Count one picture.

        predicted, target: (H, W, 3), of length 1; target 0 where unknown.  ValueError where sizes differ.
        """
        _check_sizes(predicted, target)
        known = np.abs(target).sum(axis=-1) > 0
        cosines = (predicted[known].astype(np.float64) * target[known]).sum(axis=-1)
        angles = np.degrees(np.arccos(cosines.clip(-1, 1)))
        self.sums[:-1] += np.bincount(np.rint(angles * 100).astype(np.int64), minlength=STEPS + 1)
        self.sums[-1] += angles.sum()

    @property
    def scores(self) -> dict[str, float] | None:
        """mean_degrees, median_degrees, and within_11.25, within_22.5, within_30 (shares, 0-1); None where nothing is known."""
        counts = self.sums[:-1]
        pixels = counts.sum()
        if not pixels:
            return None
        below = counts.cumsum() / pixels
        shares = {f"within_{limit:g}": float(below[round(limit * 100) - 1]) for limit in (11.25, 22.5, 30)}
        median = float(np.searchsorted(below, 0.5)) / 100
        return {"mean_degrees": float(self.sums[-1] / pixels), "median_degrees": median, **shares}


def _check_sizes(predicted: np.ndarray, target: np.ndarray) -> None:
    if predicted.shape != target.shape:
        raise ValueError(f"prediction is {predicted.shape}, target is {target.shape}; they must be of one size.")
