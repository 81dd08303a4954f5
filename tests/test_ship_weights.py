"""What weights say of themselves when they are put into the package."""

from lwrefinenet import weights
from lwrefinenet.meta import Score, Source
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


def test_a_mean_names_what_it_is_made_of_by_commit_and_recipe():
    named = script_named("ship_weights")._named
    former = "rf_lw_efficientnet_lite0.camvid"
    theirs = weights.read_meta(former).sources
    assert [source for source in theirs if source.role == "initial weights"]
    made = [
        Source("averaged weights", "net", "CC0", "runs/net/best.safetensors"),
        Source("averaged weights", "net", "CC0", former),
        Source("teacher", "net", "CC0", former),
        Source("backbone weights", "net", "CC0", "net-pytorch-model"),
        *theirs,
    ]
    data = [source for source in theirs if source.role == "training data"]
    assert named(made, "recipes/net.toml", "1234567") == (
        Source("averaged weights", "net", "CC0", "recipes/net.toml"),
        Source("averaged weights", "net", "CC0", f"{former} of commit 1234567"),
        Source("teacher", "net", "CC0", f"{former} of commit 1234567"),
        Source("backbone weights", "net", "CC0", "net-pytorch-model"),
        *data,
    )


def test_files_that_were_fetched_from_the_history_are_named_with_their_commit():
    former = "rf_lw_efficientnet_lite0.camvid"
    made = [Source(role, "net", "CC0", f"/a/former/{former}.safetensors") for role in ("initial weights", "teacher")]
    named = script_named("ship_weights")._named(made, "recipes/net.toml", "1234567", "89abcde")
    assert named == tuple(
        Source(role, "net", "CC0", f"{former} of commit 89abcde") for role in ("initial weights", "teacher")
    )


def test_what_a_fetched_file_of_a_mean_was_made_of_itself_is_left_out(tmp_path):
    former = "rf_lw_efficientnet_lite0.camvid"
    fetched = tmp_path / f"{former}.safetensors"
    fetched.write_bytes((weights.SHIPPED_FOLDER / fetched.name).read_bytes())
    theirs = weights.read_meta(former).sources
    made = [Source("averaged weights", "net", "CC0", str(fetched)), *theirs]
    named = script_named("ship_weights")._named(made, "recipes/net.toml", "1234567", "89abcde")
    assert named == (
        Source("averaged weights", "net", "CC0", f"{former} of commit 89abcde"),
        *(source for source in theirs if source.role == "training data"),
    )


def test_a_score_that_is_stated_anew_leaves_the_sources_as_they_are():
    named = script_named("ship_weights")._named
    for name in weights.SHIPPED:
        sources = weights.read_meta(name).sources
        assert named(sources, "recipes/net.toml", "1234567") == sources
