"""How far a mean IoU would move on other pictures of the same kind: the bootstrap over pictures, in one pass."""

import numpy as np

from lwrefinenet.confusion import intersection_over_union, mean_over_occurring

RESAMPLES = 1000
LEVEL = 0.95
SEED = 2018
FEWEST_PICTURES = 10  # an interval from fewer would claim to know what it cannot


class Resamples:
    """Confusion matrices of resampled sets, in which each picture stands once in the mean, by chance never or several times.

    How often is drawn from a Poisson distribution, so that no picture need be kept (N. Chamandy et al., "Estimating uncertainty for
    massive data streams", Google 2012; for whole sets B. Efron 1979). It follows from the picture's index alone: the same
    in every run and on any number of processes. Pictures are the unit, because pixels of one picture are not independent;
    neither are frames of one video, for which the interval is too narrow.
    """

    def __init__(self, num_classes: int) -> None:
        self.counts = np.zeros((RESAMPLES, num_classes, num_classes))

    def update(self, index: int, counts: np.ndarray) -> None:
        """Count one picture: its index in the set, and its own (C, C) confusion matrix."""
        times = np.random.default_rng((SEED, index)).poisson(1, RESAMPLES)
        true, predicted = np.nonzero(counts)
        self.counts[:, true, predicted] += times[:, None] * counts[true, predicted]

    def interval(self, pictures: int) -> tuple[float, float] | None:
        """Ends of the mean IoU's 95 % interval, 0-1, for a set of so many pictures; None for fewer than ten."""
        if pictures < FEWEST_PICTURES:
            return None
        means = mean_over_occurring(intersection_over_union(self.counts))
        low, high = np.nanquantile(means, ((1 - LEVEL) / 2, (1 + LEVEL) / 2)).tolist()
        return low, high
