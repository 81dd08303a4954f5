import math

import numpy as np
import pytest
import torch

from lwrefinenet.training.losses import class_weights, segmentation_loss


def test_loss_of_two_pixels_worked_out_by_hand():
    logits = torch.tensor([[[[0.0, 2.0]], [[0.0, 0.0]]]])  # (1, 2 classes, 1, 2)
    targets = torch.tensor([[[0, 1]]])
    expected = (math.log(2) + math.log(1 + math.exp(2))) / 2
    assert segmentation_loss(logits, targets, class_weights=None, ignore_index=255).item() == pytest.approx(expected)


def test_class_weights_weigh_the_mean():
    logits = torch.tensor([[[[0.0, 2.0]], [[0.0, 0.0]]]])
    targets = torch.tensor([[[0, 1]]])
    weights = torch.tensor([1.0, 3.0])
    expected = (math.log(2) + 3 * math.log(1 + math.exp(2))) / 4
    found = segmentation_loss(logits, targets, class_weights=weights, ignore_index=255)
    assert found.item() == pytest.approx(expected)


def test_ignored_pixels_have_no_loss_and_no_gradient():
    logits = torch.randn(1, 3, 2, 2, requires_grad=True)
    targets = torch.tensor([[[0, 255], [255, 255]]])
    segmentation_loss(logits, targets, class_weights=None, ignore_index=255).backward()
    assert logits.grad[0, :, 0, 0].abs().sum() > 0
    assert logits.grad.flatten(2)[0, :, 1:].abs().sum() == 0


@pytest.mark.parametrize("weights", [None, torch.tensor([0.5, 2.0])])
def test_a_batch_of_nothing_but_ignored_pixels_is_zero_not_nan(weights):
    targets = torch.full((1, 4, 4), 255)
    assert segmentation_loss(torch.randn(1, 2, 1, 1), targets, class_weights=weights, ignore_index=255).item() == 0


def test_median_frequency_weights_worked_out_by_hand():
    # class 0: 6 of 8 pixels, class 1: 1 of 4 (absent from the second picture), class 2: 1 of 4, class 3 never
    masks = [np.array([[0, 0, 0, 1]], np.uint8), np.array([[0, 0, 0, 2, 255]], np.uint8)]
    weights = class_weights(masks, 4, power=1.0)
    assert weights.tolist() == pytest.approx([0.25 / 0.75, 1.0, 1.0, 1.0])
    assert class_weights(masks, 4, power=0.5)[0].item() == pytest.approx((1 / 3) ** 0.5)
    assert class_weights(masks, 4, power=0.0).tolist() == [1, 1, 1, 1]
