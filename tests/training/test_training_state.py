import copy
import random

import numpy as np
import torch

from lwrefinenet.training.learner import Learner
from lwrefinenet.training.optim import build_optimizer, moving_average
from lwrefinenet.training.rng import random_state, restore_random_state, seed_all
from lwrefinenet.training.state import TrainingState


def state_of(model):
    optimizer = build_optimizer(model, "adamw", backbone_lr=0.1, decoder_lr=0.2, weight_decay=0.0, momentum=0.0)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / 10)
    return TrainingState(Learner(model, auxiliary=False), moving_average(model, 0.5), optimizer, schedule)


def learn(state, images):
    """One step that draws on the random generator, as dropout does; returns the loss."""
    loss = torch.nn.functional.dropout(state.learner(images)[0]["segmentation"][0], 0.5).square().mean()
    state.optimizer.zero_grad()
    loss.backward()
    state.optimizer.step()
    state.schedule.step()
    state.average.update_parameters(state.learner.network)
    return loss.item()


def test_a_restored_state_goes_on_as_the_saved_one_random_numbers_included(tiny_model):
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    original = state_of(copy.deepcopy(tiny_model))
    learn(original, images)
    original.step, original.epoch_loss = 1, 0.25
    saved, generators = copy.deepcopy(original.to_dict()), random_state()
    expected = [learn(original, images) for _ in range(3)]
    torch.rand(100)
    restored = state_of(tiny_model)
    restored.load_dict(saved)
    restore_random_state(generators)
    assert (restored.epoch, restored.step, restored.epoch_loss) == (0, 1, 0.25)
    assert [learn(restored, images) for _ in range(3)] == expected
    assert all(
        torch.equal(value, restored.average.state_dict()[key]) for key, value in original.average.state_dict().items()
    )


def test_every_generator_goes_on_from_where_it_was_taken_down():
    def draws():
        return torch.rand(2).tolist(), np.random.rand(2).tolist(), [random.random(), random.gauss()]

    seed_all(3)
    draws()
    state = random_state()
    expected = draws()
    seed_all(4)
    assert all(now != then for now, then in zip(draws(), expected, strict=True))
    restore_random_state(state)
    assert draws() == expected


def test_a_seed_starts_every_generator():
    first = [(seed_all(seed), torch.rand(1).item(), np.random.rand(), random.random())[1:] for seed in (5, 5, 6)]
    assert first[0] == first[1]
    assert all(left != right for left, right in zip(first[1], first[2], strict=True))
