import base64
import io
import json

import numpy as np
import pytest
from PIL import Image

from lwrefinenet.data.convert.labelme import read_labelme, shape_mask
from lwrefinenet.data.convert.splits import with_splits
from lwrefinenet.data.convert.target import Source, write_dataset
from lwrefinenet.errors import DataError, UsageError
from tests.foreign import left_half_painted, pairs_of, picture_file

LEFT_HALF = {"label": "left", "points": [[0, 0], [3, 5]], "shape_type": "rectangle"}


def write_labelme(root, name, shapes, *, size=(6, 8), stated=None, orientation=1, embedded=False, **more):
    picture = picture_file(root / f"{name}.png", size, orientation=orientation)
    content = base64.b64encode(picture.read_bytes()).decode() if embedded else None
    if embedded:
        picture.unlink()
    height, width = stated or size
    record = {"version": "5", "flags": {}, "shapes": shapes, "imagePath": picture.name, "imageData": content,
              "imageHeight": height, "imageWidth": width, **more}  # fmt: skip
    (root / f"{name}.json").write_text(json.dumps(record))
    return root


def converted(source, destination):
    items, _ = with_splits(source.items, 0.5)
    report = write_dataset(Source(source.labels, items, source.extra, source.notices), destination)
    return report, {key.partition("/")[2]: pair for key, pair in pairs_of(destination).items()}


def polygon(label, points):
    return {"label": label, "points": points, "shape_type": "polygon"}


def test_later_shapes_lie_over_earlier_ones_and_labels_are_sorted(tmp_path):
    shapes = [polygon("zebra", [[1, 1], [5, 1], [5, 4], [1, 4]]), polygon("ant", [[2, 2], [3, 2], [3, 3], [2, 3]])]
    for name, order in (("a", shapes), ("b", shapes[::-1])):
        write_labelme(tmp_path / "s", name, order)
    source = read_labelme(tmp_path / "s")
    _, found = converted(source, tmp_path / "d")
    large = np.zeros((6, 8), np.uint8)
    large[1:5, 1:6] = 2  # outlines belong to a shape, as LabelMe draws it
    both = large.copy()
    both[2:4, 2:4] = 1
    assert source.labels.class_names == ("background", "ant", "zebra")
    assert np.array_equal(found["a"][1], both)
    assert np.array_equal(found["b"][1], large)


def drawn(kind, points, size=(9, 9), **more):
    return np.argwhere(shape_mask({"shape_type": kind, "points": points, **more}, size, "x"))


def test_every_kind_of_shape_covers_what_labelme_paints():
    assert drawn("rectangle", [[5, 4], [2, 3]]).tolist() == [[r, c] for r in (3, 4) for c in (2, 3, 4, 5)]
    assert drawn("circle", [[4, 4], [5, 4]]).tolist() == [[3, 4], [4, 3], [4, 4], [4, 5], [5, 4]]
    point = shape_mask({"shape_type": "point", "points": [[10, 10]]}, (21, 21), "x")
    assert (point[10].sum(), point[:, 10].sum()) == (11, 11)
    line = shape_mask({"shape_type": "line", "points": [[0, 10], [30, 10]]}, (21, 31), "x")
    assert line[:, 15].sum() == 10
    buffer = io.BytesIO()
    Image.fromarray(np.array([[1, 0], [1, 1]], np.uint8)).save(buffer, "PNG")
    stored = drawn("mask", [[3, 5], [4, 6]], mask=base64.b64encode(buffer.getvalue()).decode())
    assert stored.tolist() == [[5, 3], [6, 3], [6, 4]]


def test_a_picture_that_is_absent_is_taken_out_of_the_json(tmp_path):
    for name in "ab":
        write_labelme(tmp_path / "s", name, [LEFT_HALF], embedded=True)
    _, found = converted(read_labelme(tmp_path / "s"), tmp_path / "d")
    assert sorted(path.name for path in (tmp_path / "d").rglob("images/*/*")) == ["a.png", "b.png"]
    assert left_half_painted(found["a"])


@pytest.mark.parametrize(
    ("orientation", "size", "stated", "points"),
    [
        (6, (6, 8), (8, 6), [[0, 0], [5, 3]]),  # labelled upright, as LabelMe does since 2019
        (6, (6, 8), (6, 8), [[0, 0], [3, 5]]),  # labelled as stored, as it did before
        (3, (6, 8), (6, 8), [[4, 0], [7, 5]]),
        (6, (6, 6), (6, 6), [[0, 0], [5, 2]]),
    ],
)
def test_shapes_stay_on_their_object_in_pictures_turned_by_exif(tmp_path, orientation, size, stated, points):
    for name in "ab":
        write_labelme(
            tmp_path / "s", name, [{**LEFT_HALF, "points": points}], orientation=orientation, size=size, stated=stated
        )
    _, found = converted(read_labelme(tmp_path / "s"), tmp_path / "d")
    assert left_half_painted(found["a"])


def test_its_names_for_ignore_and_background_mean_that(tmp_path):
    shapes = [
        polygon("x", [[0, 0], [7, 0], [7, 5], [0, 5]]),
        {**LEFT_HALF, "label": "__ignore__"},
        {"label": "_background_", "points": [[0, 0], [0, 0]], "shape_type": "rectangle"},
    ]
    for name in "ab":
        write_labelme(tmp_path / "s", name, shapes)
    report, found = converted(read_labelme(tmp_path / "s"), tmp_path / "d")
    assert found["a"][1][0].tolist() == [0, 255, 255, 255, 1, 1, 1, 1]
    assert report.ignored == pytest.approx(23 / 48)


def test_split_folders_keep_pictures_apart_and_other_folders_are_part_of_the_name(tmp_path):
    for folder in ("train", "val", "train/cam1"):
        write_labelme(tmp_path / "s" / folder, "a", [LEFT_HALF])
    source = read_labelme(tmp_path / "s")
    assert sorted((item.split, item.stem) for item in source.items) == [
        ("train", "a"), ("train", "cam1__a"), ("val", "a"),
    ]  # fmt: skip


def test_pictures_without_json_are_noticed(tmp_path):
    write_labelme(tmp_path / "s", "a", [LEFT_HALF])
    picture_file(tmp_path / "s" / "unlabelled.png")
    (tmp_path / "s" / "._a.png").write_bytes(b"Mac OS X")
    assert read_labelme(tmp_path / "s").notices == {"picture without JSON: left out": 1}


def test_classes_must_name_every_label(tmp_path):
    write_labelme(tmp_path / "s", "a", [LEFT_HALF])
    assert read_labelme(tmp_path / "s", classes=["right", "left"]).labels.class_names == ("background", "right", "left")
    with pytest.raises(UsageError, match=r"a\.json: has the label 'left', which --classes does not name"):
        read_labelme(tmp_path / "s", classes=["right"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"shapes": [{**LEFT_HALF, "shape_type": "star"}]}, "shape 1: shape type 'star' is not known"),
        ({"shapes": [polygon("x", [[0, 0], [1, 1]])]}, "shape 1: a polygon has at least 3 points; got 2"),
        ({"shapes": [polygon("x", [[0, 0], [1, 1], [1e30, 2]])]}, "shape 1: has a point far outside"),
        ({"shapes": [polygon("x", [[0, 0], [1], [2]])]}, "shape 1: points are"),
        ({"shapes": None}, "'shapes' should be a list"),
        ({"shapes": [{"points": []}]}, "a shape: 'label' should be a text"),
        ({"imagePath": "gone.png"}, "its picture gone.png is not there"),
        ({"imageHeight": 60}, r"states the size 8x60, but its picture .*a\.png is 8x6"),
    ],
)
def test_what_is_wrong_in_a_file_is_said_with_its_name(tmp_path, change, message):
    write_labelme(tmp_path / "s", "a", **{"shapes": [LEFT_HALF], **change})
    write_labelme(tmp_path / "s", "b", [LEFT_HALF])
    with pytest.raises(DataError, match=rf"a\.json: {message}"):
        converted(read_labelme(tmp_path / "s"), tmp_path / "d")
    assert not (tmp_path / "d").exists()
