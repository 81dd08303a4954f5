"""COCO's instances as VOC's classes, on an annotation file like the published ones."""

import json
import multiprocessing
import pickle

import numpy as np
import pytest
from pycocotools.coco import COCO

from lwrefinenet.data.layouts import open_dataset
from lwrefinenet.errors import DataError, UsageError
from lwrefinenet.labels import VOC
from tests.pictures import write_picture

CATEGORIES = {1: "person", 62: "chair", 67: "dining table", 72: "tv", 84: "book"}
SIZE = (60, 80)  # rows, columns


def rectangle(top, left, bottom, right):
    """A polygon as COCO writes them: x, y, x, y, ..."""
    return [[left, top, right, top, right, bottom, left, bottom]]


def instance(picture, category, box, *, area=None):
    top, left, bottom, right = box
    area = (bottom - top) * (right - left) if area is None else area
    shape = rectangle(*box)
    return {"image_id": picture, "category_id": category, "segmentation": shape, "area": area, "iscrowd": 0}


def crowd(picture, category, rows):
    """A crowd over the first rows: uncompressed run lengths, column by column."""
    counts = [0] + [length for _ in range(SIZE[1]) for length in (rows, SIZE[0] - rows)]
    shape = {"size": list(SIZE), "counts": counts}
    area = rows * SIZE[1]
    return {"image_id": picture, "category_id": category, "segmentation": shape, "area": area, "iscrowd": 1}


def write_coco(root, annotations, pictures=(139,)):
    names = {number: f"{number:012}.jpg" for number in pictures}
    annotations = [{"id": number, **entry} for number, entry in enumerate(annotations, start=1)]
    content = {
        "images": [{"id": n, "file_name": name, "height": SIZE[0], "width": SIZE[1]} for n, name in names.items()],
        "categories": [{"id": number, "name": name} for number, name in CATEGORIES.items()],
        "annotations": annotations,
    }
    for split in ("train", "val"):
        path = root / "annotations" / f"instances_{split}2017.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(content))
        for name in names.values():
            write_picture(root / f"{split}2017" / name, SIZE)
    return root


def voc_class(name):
    return VOC.class_names.index(name)


@pytest.fixture
def root(tmp_path):
    table = instance(139, 67, (10, 0, 50, 60))
    person = instance(139, 1, (20, 20, 40, 40))
    book = instance(139, 84, (52, 0, 58, 80))
    return write_coco(tmp_path, [person, crowd(139, 1, rows=15), table, book])


def expected_mask():
    mask = np.zeros(SIZE, np.uint8)
    mask[:15] = 255
    mask[10:50, :60] = voc_class("diningtable")
    mask[20:40, 20:40] = voc_class("person")
    return mask


def test_small_instances_lie_before_large_ones_and_both_before_crowds(root):
    dataset = open_dataset(root)
    assert (dataset.name, dataset.split, dataset.labels) == ("coco", "val", VOC)
    assert np.array_equal(dataset[0][1], expected_mask())


def test_each_instance_covers_what_pycocotools_own_reader_says(root):
    coco = COCO(root / "annotations" / "instances_val2017.json")
    person, table = (coco.loadAnns(coco.getAnnIds(catIds=[number], iscrowd=False))[0] for number in (1, 67))
    mask = open_dataset(root)[0][1]
    assert np.array_equal(mask == voc_class("person"), coco.annToMask(person) == 1)
    covered = coco.annToMask(table) & ~coco.annToMask(person)
    assert np.array_equal(mask == voc_class("diningtable"), covered == 1)


def test_only_pictures_with_more_than_1000_pixels_of_vocs_classes_count(tmp_path):
    annotations = [
        instance(1, 72, (0, 0, 20, 50)),  # exactly 1000
        instance(2, 72, (0, 0, 20, 50)),
        instance(2, 62, (30, 0, 31, 1)),
        instance(3, 84, (0, 0, 40, 50)),  # a book, which is none of VOC's
        crowd(4, 1, rows=50),
    ]
    dataset = open_dataset(write_coco(tmp_path, annotations, pictures=(4, 3, 2, 1, 5)), "train")
    assert [sample.image.name for sample in dataset.samples] == ["000000000002.jpg"]
    assert dataset[0][1][30, 0] == voc_class("chair")
    assert dataset[0][1][0, 0] == voc_class("tvmonitor")


def test_every_class_of_voc_has_its_category():
    from lwrefinenet.data.benchmarks.coco import CLASS_OF

    published = (
        "airplane bicycle bird boat bottle bus car cat chair cow dining_table dog horse motorcycle person potted_plant "
        "sheep couch train tv"
    )
    assert [name.replace(" ", "_") for name in CLASS_OF] == published.split()
    assert list(CLASS_OF.values()) == list(range(1, 21))


def test_a_mask_is_read_by_the_place_of_its_sample(root):
    dataset = open_dataset(root)
    place = dataset.sample(0).mask
    assert str(place).endswith("instances_val2017.json/139")
    assert np.array_equal(dataset.read_mask(place), expected_mask())


def test_a_pickled_set_gives_the_same_masks(root):
    assert np.array_equal(pickle.loads(pickle.dumps(open_dataset(root)))[0][1], expected_mask())


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_workers_give_the_same_masks(root, method):
    with multiprocessing.get_context(method).Pool(1) as pool:
        [(_, mask)] = pool.map(open_dataset(root).__getitem__, [0])
    assert np.array_equal(mask, expected_mask())


def test_coco_tells_what_is_missing_or_wrong(root):
    with pytest.raises(DataError, match="the splits train, val; 'test'"):
        open_dataset(root, "test")
    (root / "val2017" / "000000000139.jpg").unlink()
    with pytest.raises(DataError, match=r"000000000139\.jpg: no such file, but .*instances_val2017\.json calls for it"):
        open_dataset(root)
    path = root / "annotations" / "instances_val2017.json"
    path.write_text('{"images": [')
    with pytest.raises(DataError, match=r"instances_val2017\.json: is damaged: not valid JSON"):
        open_dataset(root)
    path.write_text('{"images": [], "annotations": []}')
    with pytest.raises(DataError, match=r"is not an annotation file of COCO's instances \(KeyError: 'categories'\)"):
        open_dataset(root)
    path.unlink()
    with pytest.raises(DataError, match=r"instances_val2017\.json: no such file"):
        open_dataset(root)


def test_a_file_without_vocs_classes_is_refused(tmp_path):
    write_coco(tmp_path, [instance(139, 84, (0, 0, 50, 50))])
    with pytest.raises(DataError, match="no picture has more than 1000 pixels of VOC's classes"):
        open_dataset(tmp_path)


def test_without_pycocotools_the_extra_is_named(root, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pycocotools", None)
    with pytest.raises(UsageError, match=r"pip install 'lwrefinenet\[datasets\]'"):
        open_dataset(root)
