import pytest
import torch
from torch import nn

from lwrefinenet.training.optim import build_optimizer, freeze_batch_norm, moving_average


def test_every_parameter_is_optimised_once_at_its_own_rate(tiny_model):
    optimizer = build_optimizer(tiny_model, "sgd", backbone_lr=0.1, decoder_lr=0.2, weight_decay=0.3, momentum=0.9)
    rates = {id(p): (group["lr"], group["weight_decay"]) for group in optimizer.param_groups for p in group["params"]}
    assert len(rates) == sum(len(group["params"]) for group in optimizer.param_groups)
    for name, parameter in tiny_model.named_parameters():
        expected = (0.1 if name.startswith("backbone.") else 0.2, 0.3 if parameter.ndim > 1 else 0.0)
        assert rates[id(parameter)] == pytest.approx(expected), name


def test_vectors_are_decayed_where_the_recipe_asks_for_it(tiny_model):
    settings = {"backbone_lr": 0.1, "decoder_lr": 0.2, "weight_decay": 0.3, "momentum": 0.9}
    optimizer = build_optimizer(tiny_model, "sgd", **settings, decay_vectors=True)
    assert {group["weight_decay"] for group in optimizer.param_groups} == {0.3}


def test_auxiliary_heads_learn_at_the_rate_of_the_decoder(tiny_model):
    heads = nn.Linear(2, 2)
    settings = {"backbone_lr": 0.1, "decoder_lr": 0.2, "weight_decay": 0.3, "momentum": 0.9}
    optimizer = build_optimizer(tiny_model, "adamw", **settings, besides=heads.parameters())
    rates = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    assert [rates[id(p)] for p in heads.parameters()] == [0.2, 0.2]


def test_moving_average_equals_the_recurrence_worked_out_apart():
    layer = nn.Linear(1, 1, bias=False)
    average = moving_average(layer, decay=0.5)
    values, expected = (1.0, 3.0, -2.0), None
    for updates, value in enumerate(values):
        nn.init.constant_(layer.weight, value)
        average.update_parameters(layer)
        kept = min(0.5, (1 + updates) / (10 + updates))
        expected = value if expected is None else kept * expected + (1 - kept) * value
    assert average.module.weight.item() == pytest.approx(expected)


def test_moving_average_covers_batch_norm_statistics():
    norm = nn.BatchNorm1d(1)
    average = moving_average(norm, decay=0.5)
    average.update_parameters(norm)
    norm.running_mean.fill_(8.0)
    average.update_parameters(norm)
    assert 0 < average.module.running_mean.item() < 8.0


def test_frozen_batch_norms_keep_their_statistics_but_learn_their_scale(tiny_model):
    tiny_model.train()
    freeze_batch_norm(tiny_model)
    before = {key: value.clone() for key, value in tiny_model.state_dict().items() if "running" in key}
    tiny_model(torch.randn(2, 3, 64, 64)).sum().backward()
    assert all(torch.equal(value, tiny_model.state_dict()[key]) for key, value in before.items())
    assert all(module.weight.grad is not None for module in tiny_model.modules() if isinstance(module, nn.BatchNorm2d))
