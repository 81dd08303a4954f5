"""PASCAL Context as it was released and as others converted it."""

import pickle

import numpy as np
import pytest
from scipy.io import savemat

from lwrefinenet.data.layouts import open_dataset
from lwrefinenet.errors import DataError
from lwrefinenet.labels import CONTEXT, CONTEXT_59
from tests.pictures import columns, write_array, write_list, write_mask, write_picture

NAME = "2008_000002"
# Numbers of the PNG conversion, from the class list of the toolkit that made it: bag 2, bed 3, table 50, wood 59.
BAG, TABLE, WOOD = 2, 50, 59


def index(name):
    return CONTEXT.class_names.index(name)


@pytest.fixture
def converted(tmp_path):
    root = tmp_path / "VOC2010"
    write_list(root / "ImageSets" / "SegmentationContext" / "val.txt", NAME)
    write_picture(root / "JPEGImages" / f"{NAME}.jpg")
    write_mask(root / "SegmentationClassContext" / f"{NAME}.png", 0, BAG, TABLE, WOOD)
    return root


@pytest.fixture
def released(tmp_path):
    """A release of 459 names in which ours have other numbers than here."""
    ours = sorted(CONTEXT.class_names[1:], reverse=True)
    others = [f"other {number}" for number in range(459 - len(ours))]
    write_list(tmp_path / "labels.txt", *(f"{number}: {name}" for number, name in enumerate(others + ours, start=1)))
    write_list(tmp_path / "VOCdevkit" / "VOC2010" / "ImageSets" / "Main" / "val.txt", NAME)
    write_picture(tmp_path / "VOCdevkit" / "VOC2010" / "JPEGImages" / f"{NAME}.jpg")
    write_label_map(tmp_path, 0, 1, 401, 459)
    return tmp_path


def write_label_map(root, *values):
    (root / "trainval").mkdir(exist_ok=True)
    row = [*values, *[values[-1]] * (8 - len(values))]
    savemat(root / "trainval" / f"{NAME}.mat", {"LabelMap": np.array([row] * 8, dtype=np.uint16)})


def test_numbers_of_the_conversion_are_mapped_by_name(converted):
    dataset = open_dataset(converted)
    assert (dataset.name, dataset.split) == ("context", "val")
    assert np.array_equal(dataset[0][1], columns(0, index("bag"), index("table"), index("wood")))


def test_without_background_it_is_ignored_and_the_others_count_from_0(converted):
    dataset = open_dataset(converted.parent, name="context59")
    assert dataset.labels == CONTEXT_59
    names = dataset.labels.class_names
    assert np.array_equal(dataset[0][1], columns(255, names.index("bag"), names.index("table"), names.index("wood")))


def test_ground_truth_in_the_published_colours_is_read_by_its_colours(converted):
    colours = np.array([(0, 0, 0), (128, 0, 0), (224, 224, 192), CONTEXT.palette[59]], dtype=np.uint8)
    path = write_array(converted / "SegmentationClassContext" / f"{NAME}.png", colours[[[0, 1, 2, 3, 3, 3, 3, 3]] * 8])
    assert np.array_equal(open_dataset(converted)[0][1], columns(0, 1, 255, 59))
    assert np.array_equal(open_dataset(converted, name="context59")[0][1], columns(255, 0, 255, 58))
    pixels = colours[[[0] * 8] * 8]
    pixels[0, :3] = (1, 2, 3)
    write_array(path, pixels)
    with pytest.raises(DataError, match=rf"{NAME}\.png: holds the colour \(1, 2, 3\) \(3 pixels\)"):
        open_dataset(converted)[0]


def test_the_release_is_mapped_by_its_list_of_names(released):
    # reversed alphabet from number 401: wood; number 459: aeroplane
    dataset = open_dataset(released)
    assert np.array_equal(dataset[0][1], columns(0, 0, index("wood"), index("aeroplane")))
    without = pickle.loads(pickle.dumps(open_dataset(released, name="context59")))
    assert np.array_equal(without[0][1], columns(255, 255, 58, 0))


def test_a_number_beyond_the_release_is_an_error(released):
    write_label_map(released, 3, 460)
    with pytest.raises(DataError, match=rf"{NAME}\.mat: mask holds value 460 \(56 pixels\)"):
        open_dataset(released)[0]


def test_a_list_of_names_that_lacks_a_class_is_refused(released):
    write_list(released / "labels.txt", "1: accordion", "2: aeroplane")
    with pytest.raises(DataError, match=r"labels\.txt: lacks 'bicycle'; expected the names of the 459"):
        open_dataset(released)


def test_a_missing_list_says_all_places_where_it_may_lie(released):
    with pytest.raises(
        DataError, match=r"SegmentationContext/train\.txt: no such list.*VOC2010/ImageSets/Main/train\.txt"
    ):
        open_dataset(released, "train")


def test_a_wrong_split_is_answered_with_those_there_are(converted):
    with pytest.raises(DataError, match="the splits train, val, trainval; 'test'"):
        open_dataset(converted, "test")


def test_an_unknown_number_of_the_conversion_is_an_error(converted):
    write_mask(converted / "SegmentationClassContext" / f"{NAME}.png", 60)
    with pytest.raises(DataError, match=r"value 60 \(64 pixels\), but context has classes 0-59"):
        open_dataset(converted)[0]


def test_context_beside_vocs_own_masks_wants_its_name(converted):
    write_list(converted / "ImageSets" / "Segmentation" / "val.txt", NAME)
    write_mask(converted / "SegmentationClass" / f"{NAME}.png", 1)
    assert open_dataset(converted).name == "voc"
    assert open_dataset(converted, name="context").name == "context"
