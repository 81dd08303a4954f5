import numpy as np
import pytest

from lwrefinenet.data.convert.splits import with_splits
from lwrefinenet.data.convert.target import Source, write_dataset
from lwrefinenet.data.convert.yolo import read_yolo
from lwrefinenet.errors import DataError, UsageError
from tests.foreign import left_half_painted, pairs_of, picture_file

LEFT_HALF = "0 0 0 0.5 0 0.5 1 0 1"
DESCRIPTION = "path: .\ntrain: images/train\nval: images/val\nnames: {0: cat, 1: dog}\n"


def write_yolo(root, lines=LEFT_HALF, *, description=DESCRIPTION, size=(6, 8), orientation=1, splits=("train", "val")):
    for split in splits:
        picture_file(root / "images" / split / "a.png", size, orientation=orientation)
        label = root / "labels" / split / "a.txt"
        label.parent.mkdir(parents=True, exist_ok=True)
        label.write_text(lines)
    (root / "data.yaml").write_text(description)
    return root


def converted(source, destination):
    items, _ = with_splits(source.items, 0.5)
    report = write_dataset(Source(source.labels, items, source.extra, source.notices), destination)
    return report, pairs_of(destination)


def test_fractions_become_pixels_and_the_smaller_polygon_is_seen(tmp_path):
    small = "1 0.125 0 0.375 0 0.375 0.5 0.125 0.5"  # columns 1-2, rows 0-2
    report, found = converted(read_yolo(write_yolo(tmp_path / "s", f"{small}\n{LEFT_HALF}\n")), tmp_path / "d")
    expected = np.zeros((6, 8), np.uint8)
    expected[:, :4] = 1
    expected[:3, 1:3] = 2
    assert np.array_equal(found["val/a"][1], expected)
    assert report.pictures == {"train": 1, "val": 1}
    assert list(report.shares) == ["background", "cat", "dog"]


@pytest.mark.parametrize(
    ("orientation", "size", "line"),
    [
        (6, (6, 8), "0 0 0 1 0 1 0.5 0 0.5"),
        (3, (6, 8), "0 0.5 0 1 0 1 1 0.5 1"),
        (6, (6, 6), "0 0 0 1 0 1 0.5 0 0.5"),
    ],
)
def test_fractions_refer_to_the_upright_picture(tmp_path, orientation, size, line):
    source = write_yolo(tmp_path / "s", line, orientation=orientation, size=size)
    assert left_half_painted(converted(read_yolo(source), tmp_path / "d")[1]["val/a"])


@pytest.mark.parametrize(
    "description",
    [
        "train: images/train\nval: images/val\nnames: [cat, dog]\n",
        "path: ../datasets/elsewhere\ntrain: images/train\nval: [images/val]\nnames: [cat, dog]\n",
        "train: ../images/train\nval: ../images/val\nnames: [cat, dog]\n",
        "train: train.txt\nval: images/val\nnames: [cat, dog]\n",
    ],
)
def test_the_ways_to_name_a_split_are_understood(tmp_path, description):
    source = write_yolo(tmp_path / "s", description=description)
    (source / "train.txt").write_text("./images/train/a.png\n")
    assert [(item.split, item.stem) for item in read_yolo(source).items] == [("train", "a"), ("val", "a")]


def test_folders_by_split_with_images_inside_are_read_too(tmp_path):
    for split in ("train", "valid"):
        picture_file(tmp_path / "s" / split / "images" / "a.png")
        (tmp_path / "s" / split / "labels").mkdir()
        (tmp_path / "s" / split / "labels" / "a.txt").write_text(LEFT_HALF)
    (tmp_path / "s" / "data.yaml").write_text("train: ../train/images\nval: ../valid/images\nnames: [cat]\n")
    assert left_half_painted(converted(read_yolo(tmp_path / "s"), tmp_path / "d")[1]["val/a"])


def test_what_macos_leaves_beside_pictures_is_none(tmp_path):
    root = write_yolo(tmp_path / "s", f"{LEFT_HALF}\n")
    before = [item.picture for item in read_yolo(root).items]
    for picture in before:
        picture.with_name(f"._{picture.name}").write_bytes(b"Mac OS X")
    assert [item.picture for item in read_yolo(root).items] == before


def test_a_picture_without_label_file_is_background_and_noticed(tmp_path):
    source = write_yolo(tmp_path / "s")
    picture_file(source / "images" / "train" / "empty.png")
    report, found = converted(read_yolo(source), tmp_path / "d")
    assert not found["train/empty"][1].any()
    assert report.notices == {"picture without label file: all background": 1}
    for label in source.rglob("*.txt"):
        label.unlink()
    with pytest.raises(DataError, match="none of its 3 pictures has a label file"):
        read_yolo(source)


def test_classes_choose_and_the_others_are_noticed(tmp_path):
    source = write_yolo(tmp_path / "s", f"{LEFT_HALF}\n1 0.5 0 1 0 1 1\n")
    read = read_yolo(source, classes=["cat"])
    assert read.labels.class_names == ("background", "cat")
    assert read.notices == {"dog left as background, as --classes does not name it": 2}
    with pytest.raises(UsageError, match="did you mean 'cat'"):
        read_yolo(source, classes=["cats"])


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("0 0.5 0.5 0.2 0.2", "is a box .*boxes are not masks"),
        ("0 0.5 0.5 0.2 0.2 0.3", "has 5 coordinates"),
        ("0 a 0 0.5 0 0.5 1", "is not class x1 y1"),
        ("2 0 0 0.5 0 0.5 1", "class 2 is not among the names"),
        ("0 0 0 50 0 50 100", "outside 0-1"),
    ],
)
def test_a_line_that_is_no_polygon_is_named_by_file_and_number(tmp_path, line, message):
    source = write_yolo(tmp_path / "s", f"{LEFT_HALF}\n\n{line}\n")
    with pytest.raises(DataError, match=rf"a\.txt, line 3: .*{message}"):
        read_yolo(source)


@pytest.mark.parametrize(
    ("description", "message"),
    [
        ("names: [a\ntrain", "not valid YAML"),
        ("- a", "should hold names, train and val"),
        ("train: images/train", "names should be a list"),
        ("train: images/gone\nnames: [cat]", "train: 'images/gone' is not there"),
    ],
)
def test_a_description_that_is_none_is_named(tmp_path, description, message):
    with pytest.raises(DataError, match=rf"data\.yaml: {message}"):
        read_yolo(write_yolo(tmp_path / "s", description=description))
