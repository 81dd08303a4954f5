import math
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from lwrefinenet.data.folder import folder_dataset
from lwrefinenet.errors import DataError
from lwrefinenet.evaluate import ConfusionMatrix, evaluate
from lwrefinenet.labels import VOC
from lwrefinenet.predict import Maps
from tests.pictures import write_array
from tests.shapes import write_shapes


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


def test_evaluation_of_perfect_and_of_blind_predictions(tmp_path):
    dataset = folder_dataset(write_shapes(tmp_path), "val")
    truth = iter([dataset[index][1] for index in range(len(dataset))])
    assert evaluate(lambda _: Maps(next(truth)), dataset, labels=dataset.labels).mean_iou == 1.0
    blind = evaluate(lambda pixels: Maps(np.zeros(pixels.shape[:2], np.uint8)), dataset, labels=dataset.labels)
    background = np.mean([(dataset[index][1] == 0).mean() for index in range(len(dataset))])
    assert blind.pixel_accuracy == pytest.approx(background)
    assert blind.per_class_iou["square"] == 0.0


def test_the_protocol_says_what_was_measured(tmp_path):
    dataset = folder_dataset(write_shapes(tmp_path / "blocks"), "val")
    found = evaluate(
        lambda pixels: Maps(np.zeros(pixels.shape[:2], np.uint8)), dataset, labels=dataset.labels, resize="bicubic"
    )
    assert str(found.protocol) == (
        "blocks val, 4 pictures at 80x64, 3 classes, value 255 ignored, logits resized bicubic, single scale, no flip, "
        "one confusion matrix over the set"
    )


def test_absent_classes_are_named(tmp_path):
    dataset = folder_dataset(write_shapes(tmp_path), "val")
    for sample in dataset.samples:
        from PIL import Image

        Image.fromarray(np.zeros((64, 80), np.uint8)).save(sample.mask)
    found = evaluate(lambda pixels: Maps(np.zeros(pixels.shape[:2], np.uint8)), dataset, labels=dataset.labels)
    assert found.absent == ["square", "disc"]
    assert found.to_dict()["per_class_iou"]["disc"] is None


def test_masks_without_a_class_give_no_score(tmp_path):
    dataset = folder_dataset(write_shapes(tmp_path / "blocks"), "val")
    for sample in dataset.samples:
        write_array(sample.mask, np.full((64, 80), 255, np.uint8))
    with pytest.raises(DataError, match="blocks val: not one pixel of its masks has a class, so there is no score"):
        evaluate(lambda pixels: Maps(np.zeros(pixels.shape[:2], np.uint8)), dataset, labels=dataset.labels)


def test_what_is_predicted_is_kept_picture_by_picture(tmp_path):
    dataset = folder_dataset(write_shapes(tmp_path), "val")
    kept = {}
    evaluate(lambda pixels: Maps(pixels[..., 0] // 128), dataset, labels=dataset.labels, keep=kept.__setitem__)
    assert list(kept) == [0, 1, 2, 3]
    assert all(np.array_equal(mask, dataset[index][0][..., 0] // 128) for index, mask in kept.items())


def test_weights_of_other_classes_are_refused(tmp_path):
    dataset = folder_dataset(write_shapes(tmp_path), "val")
    with pytest.raises(DataError, match=r"know 21 classes \(background, aeroplane, bicycle, bird, \.\.\.\)"):
        evaluate(lambda pixels: Maps(pixels[..., 0]), dataset, labels=VOC)


def test_depth_is_scored_where_pictures_hold_it(tmp_path):
    root = write_shapes(tmp_path, val=2)
    with (root / "dataset.toml").open("a") as file:
        file.write("\ndepth_scale = 0.001\nfocal_length = 60\n")
    (root / "depth" / "val").mkdir(parents=True)
    Image.fromarray(np.full((64, 80), 2000, np.uint16)).save(root / "depth" / "val" / "000.png")
    dataset = folder_dataset(root, "val")
    plain = Maps(
        np.zeros((64, 80), np.uint8), np.full((64, 80), 2.5, np.float32), np.full((64, 80, 3), (0, 1, 0), np.float32)
    )
    tasks = ("segmentation", "depth", "normals")
    found = evaluate(lambda _: plain, dataset, labels=dataset.labels, tasks=tasks)
    assert found.depth["rmse"] == pytest.approx(0.5)
    assert found.normals is None and "normals" not in found.to_dict()
    derived = evaluate(lambda _: plain, replace(dataset, normals_from_depth=True), labels=dataset.labels, tasks=tasks)
    assert derived.normals["mean_degrees"] == pytest.approx(0, abs=0.01)
    alone = evaluate(lambda _: plain, dataset, labels=dataset.labels)
    assert alone.depth is None and alone.mean_iou == found.mean_iou
