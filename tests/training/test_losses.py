import math

import pytest
import torch

from lwrefinenet.training.losses import SegmentationLoss, lovasz_softmax, median_frequency_weights, soft_dice

TWO_PIXELS = torch.tensor([[[[0.0, 2.0]], [[0.0, 0.0]]]])  # (1, 2 classes, 1, 2)
TARGETS = torch.tensor([[[0, 1]]])
LOSSES = math.log(2), math.log(1 + math.exp(2))  # cross-entropy of the two pixels


def loss_of(logits, targets, **settings):
    return SegmentationLoss(ignore_index=255, **settings)([logits], targets)


def test_loss_of_two_pixels_worked_out_by_hand():
    assert loss_of(TWO_PIXELS, TARGETS).item() == pytest.approx(sum(LOSSES) / 2)


def test_class_weights_weigh_the_mean():
    found = loss_of(TWO_PIXELS, TARGETS, class_weights=torch.tensor([1.0, 3.0]))
    assert found.item() == pytest.approx((LOSSES[0] + 3 * LOSSES[1]) / 4)


@pytest.mark.parametrize("num_classes", [2, 11, 40])
def test_few_classes_and_many_have_the_loss_and_gradient_of_the_formula(num_classes):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, num_classes, 5, 7, generator=generator).contiguous(memory_format=torch.channels_last)
    targets = torch.randint(num_classes, (2, 5, 7), generator=generator)
    weights = torch.rand(num_classes, generator=generator) + 0.5
    mine, theirs = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    found = loss_of(mine, targets, class_weights=weights)
    costs = torch.logsumexp(theirs, 1) - theirs.gather(1, targets[:, None])[:, 0]
    expected = (costs * weights[targets]).sum() / weights[targets].sum()
    found.backward()
    expected.backward()
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(mine.grad, theirs.grad)


def test_ignored_pixels_have_no_loss_and_no_gradient():
    for settings in ({}, {"hardest": (0.9, 0.5)}, {"dice_weight": 1.0}, {"lovasz_weight": 1.0}):
        logits = torch.randn(1, 3, 2, 2, requires_grad=True)
        loss_of(logits, torch.tensor([[[0, 255], [255, 255]]]), **settings).backward()
        assert logits.grad[0, :, 0, 0].abs().sum() > 0
        assert logits.grad.flatten(2)[0, :, 1:].abs().sum() == 0


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"class_weights": torch.tensor([0.5, 2.0])},
        {"hardest": (0.7, 0.1)},
        {"dice_weight": 1.0, "lovasz_weight": 1.0},
    ],
    ids=str,
)
def test_a_batch_of_nothing_but_ignored_pixels_is_zero_not_nan(settings):
    logits = torch.randn(1, 2, 1, 1, requires_grad=True)
    found = loss_of(logits, torch.full((1, 4, 4), 255), **settings)
    found.backward()
    assert found.item() == 0
    assert not logits.grad.isnan().any()


def test_the_hardest_pixels_are_those_under_the_threshold():
    # probabilities of the true classes: 0.5 and 0.12; a threshold of 0.3 keeps the second alone
    assert loss_of(TWO_PIXELS, TARGETS, hardest=(0.3, 0.0)).item() == pytest.approx(LOSSES[1])
    assert loss_of(TWO_PIXELS, TARGETS, hardest=(0.6, 0.0)).item() == pytest.approx(sum(LOSSES) / 2)


def test_the_hardest_pixels_are_at_least_the_given_share():
    assert loss_of(TWO_PIXELS, TARGETS, hardest=(0.01, 0.5)).item() == pytest.approx(LOSSES[1])
    assert loss_of(TWO_PIXELS, TARGETS, hardest=(0.01, 1.0)).item() == pytest.approx(sum(LOSSES) / 2)


def test_soft_dice_worked_out_by_hand():
    p, q = 1 / (1 + math.exp(2)), 0.5  # probability of class 1 at the second pixel, of class 0 at the first
    first = 2 * q / (1 + q + (1 - p))
    second = 2 * p / (1 + p + (1 - q))
    assert soft_dice(TWO_PIXELS, TARGETS, 255).item() == pytest.approx(1 - (first + second) / 2)


def test_lovasz_of_certain_predictions_is_the_jaccard_loss():
    predicted, truth = torch.tensor([[[0, 0, 1, 1, 1]]]), torch.tensor([[[0, 1, 1, 1, 0]]])
    logits = 1e4 * torch.nn.functional.one_hot(predicted, 2).movedim(-1, 1).float()
    # class 0: intersection 1, union 3; class 1: intersection 2, union 4
    assert lovasz_softmax(logits, truth, 255).item() == pytest.approx(1 - (1 / 3 + 2 / 4) / 2)


def test_lovasz_of_uncertain_predictions_worked_out_by_hand():
    # errors of class 0, largest first: 1 - p at pixel 1 (truth 1), q at pixel 0 (truth 0)
    p, q = 1 / (1 + math.exp(2)), 0.5
    class_0 = (1 - p) * 0.5 + (1 - q) * 0.5  # the false pixel first: Jaccard loss 1/2, then 1
    class_1 = (1 - p) * 1.0 + 0.0
    assert lovasz_softmax(TWO_PIXELS, TARGETS, 255).item() == pytest.approx((class_0 + class_1) / 2)


def lovasz_by_definition(logits, targets, ignore_index):
    """Pixel by pixel in the order of their errors, each counts by how much it raises the Jaccard loss of the pixels before it."""
    probabilities = logits.softmax(dim=1).movedim(1, -1)[targets != ignore_index]
    labels = targets[targets != ignore_index]
    losses = []
    for index in labels.unique():
        truth = (labels == index).float()
        errors = (truth - probabilities[:, index]).abs()
        loss, union, missed, before = 0.0, truth.sum(), 0.0, 0.0
        for pixel in errors.argsort(descending=True):
            missed, union = missed + 1, union + 1 - truth[pixel]
            loss, before = loss + errors[pixel] * (missed / union - before), missed / union
        losses.append(loss)
    return torch.stack(losses).mean()


@pytest.mark.parametrize("certainty", [1.0, 4.0, 20.0])
def test_lovasz_and_its_gradient_are_those_of_the_definition(certainty):
    generator = torch.Generator().manual_seed(0)
    targets = torch.randint(6, (2, 9, 11), generator=generator)
    targets[0, :2] = 255
    logits = certainty * torch.randn(2, 7, 9, 11, generator=generator)
    results = []
    for loss in lovasz_softmax, lovasz_by_definition:
        leaf = logits.clone().requires_grad_()
        value = loss(leaf, targets, 255)
        value.backward()
        results.append((value.detach(), leaf.grad))
    (value, gradient), (expected_value, expected_gradient) = results
    torch.testing.assert_close(value, expected_value, rtol=0, atol=1e-3)
    torch.testing.assert_close(gradient, expected_gradient, rtol=0, atol=1e-5)


def test_lovasz_of_every_third_row_and_column_is_that_of_these_pixels():
    logits, targets = torch.randn(2, 4, 7, 8), torch.randint(4, (2, 7, 8))
    found = loss_of(logits, targets, lovasz_weight=2.0, lovasz_stride=3)
    expected = loss_of(logits, targets) + 2 * lovasz_softmax(logits[..., ::3, ::3], targets[..., ::3, ::3], 255)
    torch.testing.assert_close(found, expected)
    assert found.item() != pytest.approx(loss_of(logits, targets, lovasz_weight=2.0).item(), abs=1e-3)


def test_auxiliary_logits_are_added_with_their_weight():
    logits = [torch.randn(1, 2, 2, 2), torch.randn(1, 2, 1, 1)]
    targets = torch.tensor([[[0, 1], [1, 1]]])
    parts = [loss_of(each, targets).item() for each in logits]
    found = SegmentationLoss(ignore_index=255, auxiliary_weight=0.4)(logits, targets).item()
    assert found == pytest.approx(parts[0] + 0.4 * parts[1])


def test_label_smoothing_spreads_the_target():
    found = loss_of(TWO_PIXELS[..., :1], TARGETS[..., :1], label_smoothing=0.2).item()
    assert found == pytest.approx(math.log(2))  # both classes are equally likely there: the target does not matter
    second = loss_of(TWO_PIXELS[..., 1:], TARGETS[..., 1:], label_smoothing=0.2).item()
    assert second == pytest.approx(0.9 * LOSSES[1] + 0.1 * (LOSSES[1] - 2))


def test_micro_batches_weighed_by_their_pixels_give_the_loss_of_the_whole():
    logits, targets = torch.randn(3, 4, 8, 8), torch.randint(0, 4, (3, 8, 8))
    targets[1, :5] = 255
    loss = SegmentationLoss(ignore_index=255, class_weights=torch.tensor([0.5, 1.0, 2.0, 4.0]))
    parts = [(loss([logits[i : i + 1]], targets[i : i + 1]), loss.pixel_weight(targets[i : i + 1])) for i in range(3)]
    total = sum(value * weight for value, weight in parts) / sum(weight for _, weight in parts)
    assert total.item() == pytest.approx(loss([logits], targets).item(), rel=1e-6)


def test_median_frequency_weights_worked_out_by_hand():
    # class 0: 6 of 8 pixels, class 1: 1 of 4 (absent from the second picture), class 2: 1 of 4, class 3 never
    pixels, where_present = [6, 1, 1, 0], [8, 4, 4, 0]
    weights = median_frequency_weights(pixels, where_present, power=1.0)
    assert weights.tolist() == pytest.approx([0.25 / 0.75, 1.0, 1.0, 1.0])
    assert median_frequency_weights(pixels, where_present, power=0.5)[0].item() == pytest.approx((1 / 3) ** 0.5)
    assert median_frequency_weights(pixels, where_present, power=0.0).tolist() == [1, 1, 1, 1]
