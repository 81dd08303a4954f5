"""What weights say of themselves when they are put into the package."""

from lwrefinenet.meta import Score
from tests.test_docs import script_named


def test_a_number_that_is_measured_anew_keeps_its_place_and_what_stands_behind_its_protocol():
    together = script_named("ship_weights")._together
    former = [
        Score("mean_iou", 0.5, "val, no flip, on which offsets were found"),
        Score("mean_iou", 0.4, "test, no flip"),
        Score("depth_rmse_metres", 0.7, "test, no flip"),
    ]
    anew = [Score("mean_iou", 0.45, "test, no flip"), Score("mean_iou", 0.55, "val, no flip")]
    assert together(former, anew) == (
        Score("mean_iou", 0.55, "val, no flip, on which offsets were found"),
        Score("mean_iou", 0.45, "test, no flip"),
        Score("depth_rmse_metres", 0.7, "test, no flip"),
    )


def test_a_number_by_another_protocol_is_added():
    together = script_named("ship_weights")._together
    former, other = Score("mean_iou", 0.4, "test, no flip"), Score("mean_iou", 0.41, "test, 625x468 crop")
    assert together([former], [other]) == (former, other)
