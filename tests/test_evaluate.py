import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from lwrefinenet.data.folder import folder_dataset
from lwrefinenet.errors import DataError
from lwrefinenet.evaluate import Evaluation, Protocol, evaluate
from lwrefinenet.labels import VOC
from lwrefinenet.predict import Maps
from tests.pictures import write_array
from tests.shapes import write_shapes


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


def test_the_interval_is_worked_out_where_it_is_asked_for_and_by_several_processes_alike(tmp_path):
    dataset = folder_dataset(write_shapes(tmp_path, val=12), "val")
    guess = lambda pixels: Maps(pixels[..., 0] // 128)  # noqa: E731
    plain = evaluate(guess, dataset, labels=dataset.labels)
    alone = evaluate(guess, dataset, labels=dataset.labels, interval=True)
    low, high = alone.mean_iou_interval
    assert plain.mean_iou_interval is None and "mean_iou_interval" not in plain.to_dict()
    assert low < alone.mean_iou < high
    counted = []  # by the first of two processes, which is not scored
    with pytest.raises(StopIteration):
        evaluate(guess, dataset, labels=dataset.labels, interval=True, share=(0, 2), gather=stop_after(counted))
    both = lambda second: [*counted, second]  # noqa: E731
    together = evaluate(guess, dataset, labels=dataset.labels, interval=True, share=(1, 2), gather=both)
    assert together == alone
    assert Evaluation.from_dict(json.loads(json.dumps(alone.to_dict()))) == alone


def stop_after(counted):
    def gather(own):
        counted.append(own)
        raise StopIteration

    return gather


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


def evaluation_of(**tasks):
    protocol = Protocol("rooms", "test", 2, "64x48", 2, "none", "bilinear")
    return Evaluation(protocol, 0.5, 0.75, {"wall": 0.5, "floor": None}, **tasks)


def test_an_evaluation_is_read_back_from_what_was_written_beside_other_facts():
    before = evaluation_of(depth={"rmse": 0.6})
    assert Evaluation.from_dict({**before.to_dict(), "weights": {"name": "rooms"}}) == before


def test_weights_state_one_number_for_each_task():
    of_all = evaluation_of(depth={"rmse": 0.6, "abs_rel": 0.1}, normals={"mean_degrees": 23.0, "median_degrees": 17.0})
    assert {score.metric: score.value for score in of_all.stated} == {
        "mean_iou": 0.5,
        "depth_rmse_metres": 0.6,
        "normals_mean_degrees": 23.0,
    }
    assert [score.metric for score in evaluation_of().stated] == ["mean_iou"]
    assert all(score.protocol.startswith("rooms test, 2 pictures at 64x48") for score in of_all.stated)
