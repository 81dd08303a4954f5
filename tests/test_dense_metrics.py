"""Scores of depth and normals worked out by hand."""

import math

import numpy as np
import pytest

from lwrefinenet.dense_metrics import DepthErrors, NormalErrors


def test_depth_errors_worked_out_by_hand():
    errors = DepthErrors()
    errors.update(np.array([[2.0, 3.0, 9.0]]), np.array([[1.0, 3.0, 0.0]]))  # the last is unknown
    errors.update(np.array([[4.8]]), np.array([[4.0]]))
    assert errors.scores == pytest.approx(
        {
            "rmse": math.sqrt((1 + 0 + 0.64) / 3),
            "log_rmse": math.sqrt((math.log(2) ** 2 + math.log(1.2) ** 2) / 3),
            "abs_rel": (1 + 0.2) / 3,
            "delta_1": 2 / 3,  # a ratio of 2 is above 1.25, 1.5625 and 1.953
            "delta_2": 2 / 3,
            "delta_3": 2 / 3,
        }
    )


def test_a_depth_of_nothing_has_a_logarithm():
    errors = DepthErrors()
    errors.update(np.array([[0.0]]), np.array([[1.0]]))
    assert errors.scores["log_rmse"] == pytest.approx(math.log(1000))


def turned(*degrees):
    """Unit vectors so many degrees from (0, 1, 0), as a row of pixels."""
    angles = np.radians(degrees)
    return np.stack([np.sin(angles), np.cos(angles), np.zeros(len(degrees))], axis=-1)[None]


def test_angles_worked_out_by_hand():
    errors = NormalErrors()
    target = np.broadcast_to((0.0, 1.0, 0.0), (1, 4, 3)).copy()
    target[0, 3] = 0  # unknown
    errors.update(turned(5, 20, 50, 90), target)
    errors.update(turned(25), target[:, :1])
    found = errors.scores
    assert found["mean_degrees"] == pytest.approx((5 + 20 + 50 + 25) / 4)
    assert found["median_degrees"] == pytest.approx(20, abs=0.011)
    assert [found[f"within_{limit}"] for limit in ("11.25", "22.5", "30")] == [0.25, 0.5, 0.75]


@pytest.mark.parametrize("errors", [DepthErrors(), NormalErrors()])
def test_nothing_known_is_no_score_and_other_sizes_are_refused(errors):
    shape = (2, 2) if isinstance(errors, DepthErrors) else (2, 2, 3)
    errors.update(np.ones(shape), np.zeros(shape))
    assert errors.scores is None
    with pytest.raises(ValueError, match="must be of one size"):
        errors.update(np.ones(shape), np.zeros((3, *shape[1:])))
