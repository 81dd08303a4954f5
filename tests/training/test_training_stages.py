import math

import pytest
import torch
from torch import nn

from lwrefinenet.training.recipe import Recipe
from lwrefinenet.training.stages import build_stages, learning_rate_schedule

PICTURES = list(range(20))  # all that a stage asks of them is their number


def plan(epochs, *, sets=(PICTURES,), **settings):
    recipe = Recipe.from_dict({"model": "rf_lw", "epochs": epochs, "warmup_steps": 0, **settings})
    return recipe, build_stages(recipe, sets, lambda pictures: len(pictures) // 2)


def rates(epochs, **settings):
    """The learning rate of every step, for a peak of 1."""
    recipe, stages = plan(epochs, **settings)
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule = learning_rate_schedule(optimizer, recipe, stages)
    found = []
    for _ in range(stages.total_steps):
        found.append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
    return [*found, schedule.get_last_lr()[0]]


def test_poly_warms_up_and_ends_at_zero():
    found = rates(10, warmup_steps=9, poly_power=0.9)
    assert found[0] == pytest.approx(0.1)
    assert found[50] == pytest.approx(0.5**0.9)
    assert found.index(max(found)) == 9
    assert found[-1] == 0.0


def test_cosine_is_half_way_down_in_the_middle():
    found = rates(10, schedule="cosine")
    assert found[25] == pytest.approx((1 + math.cos(math.pi / 4)) / 2)
    assert (found[0], found[50], found[-1]) == pytest.approx((1.0, 0.5, 0.0))


def test_wsd_stands_until_its_decay_and_falls_to_zero_in_a_line():
    found = rates(6, schedule="wsd", decay_epochs=2, warmup_steps=9)
    assert found[0] == pytest.approx(0.1)
    assert found[9:41] == pytest.approx([1.0] * 32)
    assert found[41:] == pytest.approx([1 - step / 20 for step in range(1, 21)])


def test_wsd_learns_alike_before_the_decay_however_many_epochs_follow():
    short, long = (rates(epochs, schedule="wsd", decay_epochs=2) for epochs in (6, 9))
    assert short[:40] == long[:40]
    assert short[41] != long[41]


def test_multistep_falls_at_its_milestones():
    found = rates(4, schedule="multistep", milestones=[1, 3], gamma=0.1)
    assert found[:-1] == pytest.approx([1.0] * 10 + [0.1] * 20 + [0.01] * 10)


def test_the_published_three_stages_have_their_constant_rates():
    found = rates(3, schedule="constant", stage_epochs=[1, 1, 1], stage_lr_scales=[1.0, 0.5, 0.2])
    assert found[:-1] == pytest.approx([1.0] * 10 + [0.5] * 10 + [0.2] * 10)


def test_each_stage_decays_anew_over_its_own_steps():
    found = rates(3, stage_epochs=[1, 2], sets=(PICTURES, PICTURES[:8]), poly_power=1.0)
    assert found[:10] == pytest.approx([1 - step / 10 for step in range(10)])
    assert found[10:18] == pytest.approx([1 - step / 8 for step in range(8)])


def test_stages_know_their_epochs_and_steps():
    _, stages = plan(3, stage_epochs=[1, 2], sets=(PICTURES, PICTURES[:8]))
    assert [stages.at_epoch(epoch).steps for epoch in range(4)] == [10, 4, 4, 4]
    assert [stages.starts_at(epoch) for epoch in range(4)] == [False, True, False, False]
    assert [stages.steps_before(epoch) for epoch in range(4)] == [0, 10, 14, 18]
    assert stages.total_steps == 18
