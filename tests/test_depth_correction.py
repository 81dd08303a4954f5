"""How much a line over depths mends, on pictures that it was not found on."""

import numpy as np
import pytest

from tests.test_docs import script_named


@pytest.fixture(scope="module")
def script():
    return script_named("measure_depth_correction")


def pictures_of(script, pairs):
    return np.stack([script.moments(found, truth) for found, truth in pairs])


def depths(count):
    rng = np.random.default_rng(0)
    return [rng.uniform(1, 6, (9, 12)) for _ in range(count)]


def test_a_line_that_all_pictures_share_is_found_and_leaves_nothing(script):
    found = script.corrections(pictures_of(script, [(depth, 0.8 * depth + 0.3) for depth in depths(10)]))
    assert found["gain_and_offset"] == pytest.approx({"gain": 0.8, "offset": 0.3, "rmse_unseen": 0}, abs=1e-5)
    assert found["gain"]["offset"] == 0 and 0.8 < found["gain"]["gain"] < 0.95
    assert found["gain"]["rmse_unseen"] < found["rmse"]


def test_pixels_without_a_known_depth_do_not_count(script):
    (depth,) = depths(1)
    truth = depth.copy()
    truth[:4] = 0
    sums = script.moments(depth, truth)
    assert sums[1, 1] == 5 * 12
    assert script.rmse(sums, np.array([1.0, 0.0])) == pytest.approx(0, abs=1e-6)
    assert script.rmse(sums, np.array([1.0, 0.25])) == pytest.approx(0.25)


def test_a_picture_without_any_known_depth_changes_nothing(script):
    pairs = [(depth, 0.8 * depth + 0.3) for depth in depths(10)]
    found = script.corrections(pictures_of(script, [*pairs, (pairs[0][0], np.zeros((9, 12)))]))
    assert found["rmse_with_every_pictures_gain"] == pytest.approx(
        script.corrections(pictures_of(script, pairs))["rmse_with_every_pictures_gain"]
    )


def test_a_fifth_is_not_scored_by_its_own_line(script):
    truth = [2 * depth if index < 2 else depth for index, depth in enumerate(depths(10))]  # the first fifth differs
    found = script.corrections(pictures_of(script, zip(depths(10), truth, strict=True)))
    assert found["gain"]["rmse_unseen"] > found["rmse"]  # which the line over all pictures would lower
    assert found["rmse_with_every_pictures_gain"] == pytest.approx(0, abs=1e-5)
