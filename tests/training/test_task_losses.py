"""The losses of depth and normals worked out by hand, and how tasks weigh against each other."""

import math
from types import SimpleNamespace

import pytest
import torch

from lwrefinenet.training.losses import SegmentationLoss
from lwrefinenet.training.recipe import Recipe
from lwrefinenet.training.start import build_loss
from lwrefinenet.training.task_losses import TaskLosses, berhu, cosine_distance, squared_error


def row(*values):
    return torch.tensor(values)[None, None]


def test_berhu_worked_out_by_hand():
    # errors 0.5, 1, 10: c = 2, and the last costs (100 + 4) / 4
    assert berhu(row(1.5, 3.0, 11.0), row(1.0, 2.0, 1.0)).item() == pytest.approx((0.5 + 1 + 26) / 3)


def test_unknown_depth_is_left_out_of_the_mean_and_of_the_gradient():
    depth = row(1.5, 100.0).requires_grad_()
    loss = berhu(depth, row(1.0, 0.0))
    assert loss.item() == pytest.approx((0.25 + 0.01) / 0.2)  # one pixel: c is a tenth of a metre
    loss.backward()
    assert depth.grad[0, 0, 1] == 0 != depth.grad[0, 0, 0]


def test_no_error_costs_nothing_and_is_a_number():
    depth = row(1.0, 2.0).requires_grad_()
    loss = berhu(depth, row(1.0, 2.0))
    loss.backward()
    assert loss.item() == 0
    assert depth.grad.isfinite().all()
    assert berhu(row(1.0), row(0.0)).item() == 0


def test_squared_error_is_least_at_the_mean_of_what_may_be_and_berhu_nearer():
    target = row(1.0, 1.0, 1.0, 1.0, 6.0, 0.0)
    said = torch.arange(0.5, 6, 0.01)
    least = {
        loss: min(said, key=lambda depth: loss(depth.expand_as(target), target)) for loss in (squared_error, berhu)
    }
    assert least[squared_error].item() == pytest.approx(2, abs=0.01)
    assert 1 <= least[berhu].item() < 1.9
    assert squared_error(row(1.0, 100.0), row(3.0, 0.0)).item() == 4
    assert squared_error(row(1.0), row(0.0)).item() == 0


def vectors(*normals):
    return torch.tensor(normals).t()[None, :, None]


def test_cosine_distance_worked_out_by_hand():
    found = vectors((0.0, 5.0, 0.0), (1.0, 1.0, 0.0), (9.0, 9.0, 9.0))
    target = vectors((0.0, 1.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 0.0))
    assert cosine_distance(found, target).item() == pytest.approx((0 + 1 - math.sqrt(0.5)) / 2, abs=1e-6)
    assert cosine_distance(found, torch.zeros_like(target)).item() == 0


MAPS = {"segmentation": [torch.zeros(1, 2, 2, 2)], "depth": [torch.full((1, 1, 2, 2), 2.0)]}
TARGETS = {"segmentation": torch.tensor([[[0, 1], [1, 255]]]), "depth": torch.tensor([[[1.0, 0.0], [0.0, 0.0]]])}


def losses_of(log_variances=(0.0, 0.0), depth_weight=3.0, depth_loss="berhu"):
    losses = TaskLosses(SegmentationLoss(255), {"segmentation": 1.0, "depth": depth_weight}, depth_loss)
    return losses(MAPS, TARGETS, torch.tensor(log_variances)), losses.counts(TARGETS)


def test_each_task_has_its_weight_and_its_count_of_known_pixels():
    found, counts = losses_of()
    depth = 3 * (1 + 0.04) / 0.4  # an error of 1, c = 0.2
    assert found.tolist() == pytest.approx([math.log(2), depth])
    assert counts.tolist() == [3, 1]
    assert losses_of(depth_loss="squared")[0].tolist() == pytest.approx([math.log(2), 3])


def test_learnt_variances_divide_the_losses_and_cost_their_logarithm():
    plain, _ = losses_of()
    found, _ = losses_of(log_variances=(math.log(2), math.log(4)))
    expected = [plain[0].item() / 2 + math.log(2) / 2, plain[1].item() / 4 + math.log(4) / 2]
    assert found.tolist() == pytest.approx(expected)


def test_a_recipe_says_which_loss_depth_is_learnt_by():
    meta = SimpleNamespace(labels=SimpleNamespace(ignore_index=255), tasks=("segmentation", "depth"))
    recipe = Recipe(model="mt_lw_efficientnet_lite2", epochs=1, depth_loss="squared", depth_weight=3.0)
    assert build_loss(recipe, meta, None)(MAPS, TARGETS, torch.zeros(2)).tolist() == pytest.approx([math.log(2), 3])


def test_a_recipe_says_what_lovaszs_loss_is_taken_of():
    meta = SimpleNamespace(labels=SimpleNamespace(ignore_index=255), tasks=("segmentation",))
    logits, targets = (
        20 * torch.tensor([[[[1.0, 0.0]], [[0.0, 1.0]]]]),
        torch.zeros(1, 1, 2, dtype=torch.int64),
    )  # right, wrong
    found = []
    for stride in 1, 2:
        recipe = Recipe(model="rf_lw_resnet50", epochs=1, lovasz_weight=1.0, lovasz_stride=stride)
        found.append(build_loss(recipe, meta, None).segmentation([logits], targets).item())
    assert found == pytest.approx([20 / 2 + 1 / 2, 20 / 2])
