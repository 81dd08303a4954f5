"""The interval of a mean IoU, against the bootstrap that keeps every picture."""

import numpy as np
import pytest

from lwrefinenet.confidence import Resamples
from lwrefinenet.confusion import intersection_over_union, mean_over_occurring


def pictures(number, seed=0):
    """Confusion matrices of pictures that are more or less well predicted."""
    random = np.random.default_rng(seed)
    shares = random.beta(4, 2, (number, 1, 1)) * np.eye(3) + 0.1
    return random.poisson(1000 * shares)


def interval_of(matrices, order=None):
    resamples = Resamples(3)
    for index in order or range(len(matrices)):
        resamples.update(index, matrices[index])
    return resamples.interval(len(matrices))


def test_it_is_that_of_the_bootstrap_that_draws_with_replacement():
    matrices = pictures(80)
    random = np.random.default_rng(1)
    drawn = [matrices[random.integers(0, 80, 80)].sum(axis=0) for _ in range(4000)]
    means = mean_over_occurring(intersection_over_union(np.array(drawn)))
    low, high = np.quantile(means, (0.025, 0.975))
    assert interval_of(matrices) == pytest.approx((low, high), abs=0.15 * (high - low))


def test_more_pictures_make_it_narrower():
    (low, high), (near_low, near_high) = interval_of(pictures(20)), interval_of(pictures(320))
    assert 2 < (high - low) / (near_high - near_low) < 8


def test_the_order_of_the_pictures_does_not_matter():
    assert interval_of(pictures(12)) == interval_of(pictures(12), order=[*range(11, -1, -1)])


def test_equal_pictures_leave_no_doubt():
    low, high = interval_of(np.repeat(pictures(1), 30, axis=0))
    assert low == pytest.approx(high)


def test_a_handful_of_pictures_has_none():
    assert interval_of(pictures(9)) is None
