"""The constant part of a run ends in time for its closing epochs; the clock here is one that the tests turn."""

import pytest

from lwrefinenet.errors import RecipeError
from lwrefinenet.training import pace as pace_module
from lwrefinenet.training.pace import RESERVE, Pace, require_fittable
from lwrefinenet.training.recipe import Recipe


@pytest.fixture
def clock(monkeypatch):
    """A list whose one number is the time."""
    now = [1000.0]
    monkeypatch.setattr(pace_module.time, "monotonic", lambda: now[0])
    return now


def lengths(clock, recipe, *, limit, learning, saving=0.0, validating=0.0):
    """How long the run should be after each epoch; `learning`: the seconds of each."""
    pace = Pace(deadline=clock[0] + limit)
    clock[0] += 50  # opened, checked, built
    found = []
    for done, seconds in enumerate(learning, start=1):
        ending = validating if recipe.val_split and done % recipe.validate_every == 0 else saving
        clock[0] += seconds + ending
        pace.epoch_took(recipe, done, learning=seconds, ending=ending)
        found.append(pace.plan(recipe, done)[0].epochs)
    return found


def recipe(**changes):
    settings = {"model": "rf_lw_mobilenetv2", "epochs": 500, "schedule": "wsd", "decay_epochs": 4, "val_split": ""}
    return Recipe.from_dict({**settings, **changes})


def test_the_closing_epochs_begin_where_one_more_before_them_would_end_too_late(clock):
    """50 s go before the first epoch; 15 epochs of 10 s and then five with their reserve fit the limit, 16 and five do not."""
    assert lengths(clock, recipe(), limit=50 + 150 + 5 * 10 * RESERVE, learning=[10] * 16) == [500] * 15 + [16 + 4]


def test_the_median_of_the_last_five_epochs_counts(clock):
    """An epoch or two that other work slowed change nothing; where three of five are slow, five epochs of 42 s must be left."""
    assert lengths(clock, recipe(), limit=50 + 110 + RESERVE * 50 + 1, learning=[10, 10, 40, 10, 40]) == [500] * 5
    slow = [10, 10, 40, 40, 40]
    assert lengths(clock, recipe(), limit=50 + 140 + 210, learning=slow) == [500] * 5
    assert lengths(clock, recipe(), limit=50 + 140 + 209, learning=slow) == [500] * 4 + [5 + 4]


def test_epochs_on_larger_crops_are_reckoned_longer(clock):
    """One more, one of the decay, and three that take four times as long: 147 s of the 390."""
    late = recipe(crop_size=[100, 100], late_epochs=3, late_crop_size=[200, 200])
    assert lengths(clock, late, limit=390, learning=[10] * 20) == [500] * 19 + [20 + 4]
    assert lengths(clock, recipe(crop_size=[100, 100]), limit=390, learning=[10] * 20) == [500] * 20


def test_checkpoints_and_validations_to_come_are_reckoned_with(clock):
    """From the 4th epoch on, the 5th and the closing four: five epochs, five checkpoints, or three and two validations."""
    with_checkpoints = RESERVE * 5 * (10 + 2)
    assert lengths(clock, recipe(), limit=50 + 48 + with_checkpoints + 1, learning=[10] * 5, saving=2)[3:] == [
        500,
        5 + 4,
    ]
    validated = recipe(val_split="val", validate_every=4)  # after the 4th, the 8th and the last
    needed = RESERVE * (5 * 10 + 3 * 2 + 2 * 30)
    settings = {"learning": [10] * 4, "saving": 2, "validating": 30}
    assert lengths(clock, validated, limit=50 + 76 + needed + 1, **settings)[3] == 500
    assert lengths(clock, validated, limit=50 + 76 + needed - 1, **settings)[3] == 4 + 4


def test_a_validation_that_was_not_seen_yet_is_reckoned_like_an_epoch(clock):
    rare = recipe(val_split="val", validate_every=100)
    assert lengths(clock, rare, limit=50 + 10 + RESERVE * (5 + 1) * 10, learning=[10]) == [500]
    assert lengths(clock, rare, limit=50 + 10 + RESERVE * (5 + 1) * 10 - 1, learning=[10]) == [1 + 4]


def test_what_the_log_says_counts_until_an_epoch_has_ended_and_its_quickest_of_late(clock):
    pace = Pace(deadline=clock[0] + RESERVE * 5 * 20 + 1)
    pace.remember([])
    assert pace.plan(recipe(), 8)[0].epochs == 500
    pace.remember([5, 20, 90, 20, 90, 20])
    assert pace.plan(recipe(), 8)[0].epochs == 500
    clock[0] += 2
    assert pace.plan(recipe(), 8)[0].epochs == 8 + 4
    pace.epoch_took(recipe(), 9, learning=10, ending=0)
    assert pace.plan(recipe(), 9)[0].epochs == 500


def test_the_length_of_the_recipe_is_never_exceeded(clock):
    assert set(lengths(clock, recipe(epochs=6), limit=10_000, learning=[10] * 6)) == {6}


def test_closing_epochs_that_have_begun_go_on(clock):
    assert lengths(clock, recipe(epochs=6), limit=200, learning=[10, 10, 500, 500]) == [6] * 4


@pytest.mark.parametrize("changes", [{"epochs": 4}, {"schedule": "cosine", "decay_epochs": 0}], ids=str)
def test_a_recipe_without_open_epochs_cannot_be_fitted(changes):
    with pytest.raises(RecipeError, match='fitted to a time limit with schedule = "wsd" alone'):
        require_fittable([recipe(), recipe(**changes)])
