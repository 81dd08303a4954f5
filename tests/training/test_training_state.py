import copy

import torch

from lwrefinenet.training.loop import _transform
from lwrefinenet.training.optim import build_optimizer, moving_average, poly_schedule
from lwrefinenet.training.recipe import Recipe
from lwrefinenet.training.state import TrainingState


def state_of(model):
    optimizer = build_optimizer(model, "adamw", backbone_lr=0.1, decoder_lr=0.2, weight_decay=0.0, momentum=0.0)
    schedule = poly_schedule(optimizer, 10, warmup_steps=0, power=1.0)
    return TrainingState(model, moving_average(model, 0.5), optimizer, schedule)


def learn(state, images):
    """One step that draws on the random generator, as dropout does; returns the loss."""
    loss = torch.nn.functional.dropout(state.model(images), 0.5).square().mean()
    state.optimizer.zero_grad()
    loss.backward()
    state.optimizer.step()
    state.schedule.step()
    state.average.update_parameters(state.model)
    return loss.item()


def test_a_restored_state_goes_on_as_the_saved_one_random_numbers_included(tiny_model):
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    original = state_of(copy.deepcopy(tiny_model))
    learn(original, images)
    original.step, original.epoch_loss = 1, 0.25
    saved = copy.deepcopy(original.to_dict())
    expected = [learn(original, images) for _ in range(3)]
    torch.rand(100)
    restored = state_of(tiny_model)
    restored.load_dict(saved)
    assert (restored.epoch, restored.step, restored.epoch_loss) == (0, 1, 0.25)
    assert [learn(restored, images) for _ in range(3)] == expected
    assert all(
        torch.equal(value, restored.average.state_dict()[key]) for key, value in original.average.state_dict().items()
    )


def test_late_epochs_have_their_own_crop_and_scale(tiny_meta):
    late = {"late_epochs": 2, "late_crop_size": [64, 96], "late_scale_range": [0.9, 1.1]}
    recipe = Recipe.from_dict({"model": "rf_lw_resnet50", "epochs": 5, "crop_size": [32, 48], **late})
    found = [(t.crop_size, t.scale_range) for t in (_transform(recipe, epoch, tiny_meta) for epoch in range(5))]
    assert found == [((32, 48), (0.5, 2.0))] * 3 + [((64, 96), (0.9, 1.1))] * 2
