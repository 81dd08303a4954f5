import copy

import torch

from lwrefinenet.training.learner import Learner
from lwrefinenet.training.optim import build_optimizer, moving_average
from lwrefinenet.training.rng import random_state, restore_random_state
from lwrefinenet.training.state import TrainingState


def state_of(model):
    optimizer = build_optimizer(model, "adamw", backbone_lr=0.1, decoder_lr=0.2, weight_decay=0.0, momentum=0.0)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / 10)
    return TrainingState(Learner(model, auxiliary=False), moving_average(model, 0.5), optimizer, schedule)


def learn(state, images):
    """One step that draws on the random generator, as dropout does; returns the loss."""
    loss = torch.nn.functional.dropout(state.learner(images)[0], 0.5).square().mean()
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
    saved, random = copy.deepcopy(original.to_dict()), random_state()
    expected = [learn(original, images) for _ in range(3)]
    torch.rand(100)
    restored = state_of(tiny_model)
    restored.load_dict(saved)
    restore_random_state(random)
    assert (restored.epoch, restored.step, restored.epoch_loss) == (0, 1, 0.25)
    assert [learn(restored, images) for _ in range(3)] == expected
    assert all(
        torch.equal(value, restored.average.state_dict()[key]) for key, value in original.average.state_dict().items()
    )
