"""Counts of right and wrong pixels, against values worked out by hand."""

import math

import numpy as np
import pytest

from lwrefinenet.confusion import ConfusionMatrix, intersection_over_union, mean_over_occurring


def matrix_of(predicted, target, num_classes=3):
    matrix = ConfusionMatrix(num_classes, ignore_index=255)
    matrix.update(np.array(predicted, np.uint8), np.array(target, np.uint8))
    return matrix


def test_iou_of_a_3x3_picture_worked_out_by_hand():
    matrix = matrix_of([[0, 0, 1], [0, 1, 1], [2, 2, 1]], [[0, 0, 0], [0, 1, 1], [2, 1, 255]])
    # class 0: 3 hits, 4 true, 3 predicted; class 1: 2 hits, 3 true, 3 predicted; class 2: 1 hit, 1 true, 2 predicted
    assert matrix.per_class_iou.tolist() == [3 / 4, 2 / 4, 1 / 2]
    assert matrix.mean_iou == pytest.approx((3 / 4 + 1 / 2 + 1 / 2) / 3)
    assert matrix.pixel_accuracy == 6 / 8


def test_absent_class_does_not_count():
    matrix = matrix_of([[0, 0], [1, 1]], [[0, 0], [1, 255]])
    assert matrix.mean_iou == 1.0
    assert math.isnan(matrix.per_class_iou[2])


def test_a_class_predicted_but_never_true_counts_as_zero():
    assert matrix_of([[0, 2]], [[0, 0]]).per_class_iou[2] == 0.0


def test_ignored_pixels_count_nowhere():
    matrix = matrix_of([[0, 1], [2, 0]], [[255, 255], [255, 0]])
    assert matrix.counts.sum() == 1


def test_two_pictures_add_up_to_one_matrix_not_to_a_mean_of_scores():
    matrix = ConfusionMatrix(2, ignore_index=255)
    matrix.update(np.zeros((1, 8), np.uint8), np.zeros((1, 8), np.uint8))
    matrix.update(np.zeros((1, 2), np.uint8), np.ones((1, 2), np.uint8))
    assert matrix.per_class_iou.tolist() == [8 / 10, 0.0]


def test_an_ignore_index_that_is_not_255_is_honoured():
    matrix = ConfusionMatrix(2, ignore_index=11)
    matrix.update(np.array([[0, 1]], np.uint8), np.array([[0, 11]], np.uint8))
    assert matrix.counts.tolist() == [[1, 0], [0, 0]]


@pytest.mark.parametrize(("predicted", "target"), [([[3]], [[0]]), ([[0]], [[4]])])
def test_an_index_that_is_no_class_is_refused(predicted, target):
    with pytest.raises(ValueError, match="beyond the 3 classes"):
        matrix_of(predicted, target)


def test_a_picture_gives_its_own_counts_beside_those_of_the_set():
    matrix = matrix_of([[0, 1]], [[0, 0]])
    alone = matrix.update(np.array([[2]], np.uint8), np.array([[2]], np.uint8))
    assert alone.tolist() == [[0, 0, 0], [0, 0, 0], [0, 0, 1]]
    assert matrix.counts.tolist() == [[1, 1, 0], [0, 0, 0], [0, 0, 1]]


def test_many_matrices_at_once_are_scored_as_each_alone():
    counts = np.random.default_rng(0).integers(0, 9, (5, 3, 3))
    counts[2, :, 1] = counts[2, 1, :] = 0  # a class that does not occur
    counts[4] = 0
    together = intersection_over_union(counts)
    for alone, iou, mean in zip(counts, together, mean_over_occurring(together), strict=True):
        matrix = ConfusionMatrix(3, ignore_index=255)
        matrix.counts = alone
        np.testing.assert_array_equal(matrix.per_class_iou, iou)
        np.testing.assert_equal(matrix.mean_iou, mean)
