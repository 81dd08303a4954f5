"""The constant part of a run ends in time for its decay; the clock here is one that the tests turn."""

import pytest

from lwrefinenet.training import pace as pace_module
from lwrefinenet.training.pace import RESERVE, Pace
from lwrefinenet.training.recipe import Recipe


@pytest.fixture
def clock(monkeypatch):
    """A list whose one number is the time."""
    now = [1000.0]
    monkeypatch.setattr(pace_module.time, "monotonic", lambda: now[0])
    return now


def lengths(clock, recipe, *, limit, seconds):
    """How long the run should be after each epoch, until that is another length; `seconds` of each epoch."""
    pace = Pace(deadline=clock[0] + limit)
    clock[0] += 50  # opened, checked, built
    pace.begin()
    for done, each in enumerate(seconds, start=1):
        clock[0] += each
        yield pace.epochs(recipe, done)


def recipe(**changes):
    return Recipe.from_dict(
        {"model": "rf_lw_mobilenetv2", "epochs": 500, "schedule": "wsd", "decay_epochs": 4, **changes}
    )


def test_the_decay_begins_where_one_more_epoch_before_it_would_end_too_late(clock):
    """50 s go before the first epoch; n epochs of 10 s, and five reckoned 5 % longer, fit 252.5 s for n = 15 and not for 16."""
    limit = 50 + 150 + 5 * 10 * RESERVE
    assert list(lengths(clock, recipe(), limit=limit, seconds=[10] * 16)) == [500] * 15 + [16 + 4]


def test_a_slow_epoch_counts_from_then_on(clock):
    """Five epochs of 42 s must be left of the 400."""
    assert list(lengths(clock, recipe(), limit=400, seconds=[10, 40, *[10] * 10])) == [500] * 11 + [12 + 4]
    assert list(lengths(clock, recipe(), limit=400, seconds=[10] * 15)) == [500] * 15


def test_epochs_on_larger_crops_are_reckoned_longer(clock):
    """One more, one of the decay, and three that take four times as long: 147 s of the 390."""
    late = recipe(crop_size=[100, 100], late_epochs=3, late_crop_size=[200, 200])
    assert list(lengths(clock, late, limit=390, seconds=[10] * 20)) == [500] * 19 + [20 + 4]
    assert list(lengths(clock, recipe(crop_size=[100, 100]), limit=390, seconds=[10] * 20)) == [500] * 20


def test_the_length_of_the_recipe_is_never_exceeded(clock):
    assert set(lengths(clock, recipe(epochs=6), limit=10_000, seconds=[10] * 6)) == {6}


def test_a_decay_that_has_begun_goes_on(clock):
    assert list(lengths(clock, recipe(epochs=6), limit=200, seconds=[10, 10, 500, 500])) == [6] * 4
