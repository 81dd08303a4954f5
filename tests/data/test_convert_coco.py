import json

import numpy as np
import pytest
from pycocotools import mask as run_lengths

from lwrefinenet.data.convert.coco import read_coco
from lwrefinenet.data.convert.splits import with_splits
from lwrefinenet.data.convert.target import Source, write_dataset
from lwrefinenet.errors import DataError, UsageError
from tests.foreign import left_half_painted, pairs_of, picture_file

SQUARE = [1, 1, 5, 1, 5, 5, 1, 5]  # columns and rows 1-4
SMALL = [2, 2, 4, 2, 4, 4, 2, 4]  # columns and rows 2-3
LARGER = run_lengths.encode(np.ones((60, 80), np.uint8, order="F"))["counts"].decode()
CATEGORIES = [{"id": 7, "name": "dog"}, {"id": 3, "name": "cat"}]


def annotation(segmentation, category=3, crowd=0, image=1, **more):
    return {"id": 5, "image_id": image, "category_id": category, "segmentation": segmentation, "iscrowd": crowd, **more}


def write_coco(root, annotations, *, name="instances.json", folder="images", size=(6, 8), stated=None, orientation=1,
               categories=CATEGORIES):  # fmt: skip
    height, width = stated or size
    images = []
    for number in (1, 2):
        picture_file(root / folder / f"{number}.png", size, orientation=orientation)
        images.append({"id": number, "file_name": f"{number}.png", "height": height, "width": width})
    path = root / "annotations" / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    return path


def converted(source, destination):
    items, _ = with_splits(source.items, 0.5)
    report = write_dataset(Source(source.labels, items, source.extra, source.notices), destination)
    return report, {key.partition("/")[2]: pair for key, pair in pairs_of(destination).items()}


def mask_of(root, annotations, **options):
    write_coco(root / "s", annotations, **options)
    return converted(read_coco(root / "s"), root / "d")[1]["1"][1]


def block(value, rows, columns, onto=None):
    mask = np.zeros((6, 8), np.uint8) if onto is None else onto
    mask[rows, columns] = value
    return mask


def test_a_polygon_covers_the_pixels_whose_centres_it_holds_and_ids_give_the_order(tmp_path):
    mask = mask_of(tmp_path, [annotation([SQUARE], category=7)])
    assert np.array_equal(mask, block(2, slice(1, 5), slice(1, 5)))  # background, cat (3), dog (7)


def test_several_polygons_are_one_object(tmp_path):
    mask = mask_of(tmp_path, [annotation([[0, 0, 2, 0, 2, 2, 0, 2], [6, 4, 8, 4, 8, 6, 6, 6]])])
    assert np.array_equal(mask, block(1, slice(4, 6), slice(6, 8), block(1, slice(0, 2), slice(0, 2))))


def test_run_lengths_keep_their_hole(tmp_path):
    truth = block(0, slice(2, 4), slice(2, 4), block(1, slice(1, 5), slice(1, 5)))
    columns_first = truth.T.ravel()
    changes = np.flatnonzero(np.diff(columns_first)) + 1
    counts = np.diff([0, *changes, truth.size]).tolist()
    assert np.array_equal(mask_of(tmp_path, [annotation({"size": [6, 8], "counts": counts})]), truth)


def test_compressed_run_lengths_are_read(tmp_path):
    truth = block(1, slice(0, 3), slice(5, 7))
    runs = run_lengths.encode(np.asfortranarray(truth))
    segmentation = {"size": [6, 8], "counts": runs["counts"].decode()}
    assert np.array_equal(mask_of(tmp_path, [annotation(segmentation)]), truth)


@pytest.mark.parametrize("turned", [False, True])
def test_the_smaller_object_is_seen_whatever_the_order(tmp_path, turned):
    annotations = [annotation([SQUARE], category=7), annotation([SMALL], category=3)]
    mask = mask_of(tmp_path, annotations[::-1] if turned else annotations)
    assert np.array_equal(mask, block(1, slice(2, 4), slice(2, 4), block(2, slice(1, 5), slice(1, 5))))


def test_a_crowd_is_ignored_and_lies_beneath_larger_objects(tmp_path):
    crowd = {"size": [6, 8], "counts": [0, 12, 36]}  # the columns 0 and 1
    mask = mask_of(tmp_path, [annotation([SQUARE]), annotation(crowd, crowd=1)])
    assert np.array_equal(mask, block(1, slice(1, 5), slice(1, 5), block(255, slice(0, 6), slice(0, 2))))


def test_a_category_called_background_is_class_0(tmp_path):
    categories = [{"id": 1, "name": "cat"}, {"id": 2, "name": "background"}]
    mask = mask_of(tmp_path, [annotation([SQUARE], category=1)], categories=categories)
    assert np.array_equal(mask, block(1, slice(1, 5), slice(1, 5)))


def test_classes_choose_and_order_and_the_others_are_noticed(tmp_path):
    write_coco(tmp_path / "s", [annotation([SQUARE], category=3), annotation([SMALL], category=7)])
    report, found = converted(read_coco(tmp_path / "s", classes=["dog"]), tmp_path / "d")
    assert np.array_equal(found["1"][1], block(1, slice(2, 4), slice(2, 4)))
    assert report.notices["cat left as background, as --classes does not name it"] == 1
    with pytest.raises(UsageError, match=r"'dgo'.*did you mean 'dog'"):
        read_coco(tmp_path / "s", classes=["dgo"])


def test_a_pair_of_files_keeps_its_splits_and_finds_the_official_folders(tmp_path):
    for split in ("train", "val"):
        write_coco(tmp_path / "s", [annotation([SQUARE])], name=f"instances_{split}2017.json", folder=f"{split}2017")
    source = read_coco(tmp_path / "s")
    assert with_splits(source.items, 0.1)[0] == source.items
    report = write_dataset(source, tmp_path / "d")
    assert report.pictures == {"train": 2, "val": 2}
    assert report.notices == {"picture without annotation: all background": 2}


def test_one_file_may_be_given_itself(tmp_path):
    path = write_coco(tmp_path / "s", [annotation([SQUARE])])
    assert len(read_coco(path).items) == 2


@pytest.mark.parametrize(("orientation", "stated"), [(6, (8, 6)), (6, (6, 8)), (3, (6, 8)), (1, (6, 8))])
def test_polygons_stay_on_their_object_in_pictures_turned_by_exif(tmp_path, orientation, stated):
    """Left half of the stored picture: stated 8x6 it is labelled as stored; 6x8 upright, where it is the top."""
    upright = {(6, (8, 6)): [0, 0, 6, 0, 6, 4, 0, 4], (6, (6, 8)): [0, 0, 4, 0, 4, 6, 0, 6],
               (3, (6, 8)): [4, 0, 8, 0, 8, 6, 4, 6], (1, (6, 8)): [0, 0, 4, 0, 4, 6, 0, 6]}  # fmt: skip
    polygon = upright[orientation, stated]
    write_coco(tmp_path / "s", [annotation([polygon])], orientation=orientation, stated=stated)
    report, found = converted(read_coco(tmp_path / "s"), tmp_path / "d")
    assert left_half_painted(found["1"])
    assert any("EXIF" in notice for notice in report.notices) == (orientation == 3)


@pytest.mark.parametrize(
    ("segmentation", "message"),
    [
        ([[1, 1, 5, 5]], "at least three points"),
        ([[1, 1, 5, 5, 3, 3, 2]], "at least three points"),
        ([[1, 1, 5, 1, 1e12, 5]], "far outside the picture"),
        ({"size": [6, 8], "counts": [1, 2]}, "do not add up"),
        ({"size": [8, 6], "counts": [48]}, "run lengths are for"),
        ({"size": [6, 8], "counts": LARGER}, "neither polygons nor run lengths"),
        ("text", "neither polygons nor run lengths"),
    ],
)
def test_a_segmentation_that_is_none_is_named_by_file_and_annotation(tmp_path, segmentation, message):
    write_coco(tmp_path / "s", [annotation(segmentation)])
    with pytest.raises(DataError, match=rf"instances\.json: annotation 5: .*{message}"):
        converted(read_coco(tmp_path / "s"), tmp_path / "d")
    assert not (tmp_path / "d").exists()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda text: text[:-9], "not valid JSON"),
        (lambda text: text.replace('"categories"', '"categorys"'), "'categories' should be a list"),
        (lambda text: text.replace('"category_id": 3', '"category_id": 4'), "category 4 is not among"),
        (lambda text: text.replace('"image_id": 1', '"image_id": 9'), "speak of picture 9"),
        (lambda text: text.replace("2.png", "gone.png"), "the picture gone.png is not there"),
        (lambda text: text.replace("segmentation", "seg"), "boxes are not masks"),
    ],
)
def test_a_file_that_is_not_coco_is_named(tmp_path, damage, message):
    path = write_coco(tmp_path / "s", [annotation([SQUARE])])
    path.write_text(damage(path.read_text()))
    with pytest.raises(DataError, match=rf"instances\.json: .*{message}"):
        read_coco(tmp_path / "s")


def test_a_picture_of_another_size_than_stated_is_refused(tmp_path):
    write_coco(tmp_path / "s", [annotation([SQUARE])], stated=(60, 80))
    with pytest.raises(DataError, match=r"states the size 80x60, but its picture .*1\.png is 8x6"):
        converted(read_coco(tmp_path / "s"), tmp_path / "d")
