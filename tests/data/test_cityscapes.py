"""Cityscapes and KITTI, on folders like the published ones."""

import shutil

import numpy as np
import pytest
from torchvision.datasets import Cityscapes

from lwrefinenet.data.layouts import open_dataset, open_pictures
from lwrefinenet.errors import DataError
from lwrefinenet.labels import CITYSCAPES
from tests.pictures import columns, write_mask, write_picture

STEM = "frankfurt_000000_000294"


def write_cityscapes(root, *values, kind="labelIds", split="val", stem=STEM):
    city = stem.partition("_")[0]
    write_picture(root / "leftImg8bit" / split / city / f"{stem}_leftImg8bit.png")
    write_mask(root / "gtFine" / split / city / f"{stem}_gtFine_{kind}.png", *values)
    return root


def test_train_ids_are_made_from_ids(tmp_path):
    # unlabelled, road, parking, building, bridge, licence plate, caravan, bicycle
    dataset = open_dataset(write_cityscapes(tmp_path, 0, 7, 9, 11, 15, 255, 29, 33))
    assert (dataset.name, dataset.split) == ("cityscapes", "val")
    assert np.array_equal(dataset[0][1], columns(255, 0, 255, 2, 255, 255, 255, 18))


def test_ids_have_the_classes_that_torchvision_gives_them(tmp_path):
    table, known = open_dataset(write_cityscapes(tmp_path, 0)).value_table()
    published = {c.id: 255 if c.train_id in (-1, 255) else c.train_id for c in Cityscapes.classes if c.id >= 0}
    assert published == {int(value): int(table[value]) for value in np.flatnonzero(known) if value != 255}
    assert tuple(c.name for c in Cityscapes.classes if 0 <= c.train_id < 255) == CITYSCAPES.class_names


def test_ready_train_ids_serve_where_ids_are_absent(tmp_path):
    dataset = open_dataset(write_cityscapes(tmp_path, 0, 18, 255, kind="labelTrainIds"))
    assert np.array_equal(dataset[0][1], columns(0, 18, 255))
    write_cityscapes(tmp_path, 7, 8)
    assert np.array_equal(open_dataset(tmp_path)[0][1], columns(0, 1))


def test_cityscapes_tells_what_is_missing_or_wrong(tmp_path):
    root = write_cityscapes(tmp_path, 34)
    with pytest.raises(DataError, match=r"labelIds\.png: mask holds value 34"):
        open_dataset(root)[0]
    with pytest.raises(DataError, match=r"the splits train, val, test; 'train_extra'"):
        open_dataset(root, "train_extra")
    with pytest.raises(DataError, match=r"leftImg8bit/train: holds no CITY"):
        open_dataset(root, "train")
    (root / "gtFine" / "val" / "frankfurt" / f"{STEM}_gtFine_labelIds.png").unlink()
    with pytest.raises(DataError, match=r"_gtFine_labelTrainIds\.png: no such file"):
        open_dataset(root)


@pytest.mark.parametrize("masks", ["dummies", "none"])
def test_the_test_split_has_pictures_and_no_score_whatever_lies_in_gtfine(tmp_path, masks):
    write_cityscapes(tmp_path, 0, split="test", stem="berlin_000001_000019")
    if masks == "none":
        shutil.rmtree(tmp_path / "gtFine")
    pictures = open_pictures(tmp_path, "test")
    assert (pictures.name, pictures.split, len(pictures), pictures.labels) == ("cityscapes", "test", 1, CITYSCAPES)
    assert (pictures.picture(0) == 90).all()
    with pytest.raises(
        DataError, match="cityscapes test cannot be scored or learnt from: its public masks hold no class"
    ):
        open_dataset(tmp_path, "test")
    with pytest.raises(DataError, match=r"leftImg8bit/val: holds no CITY"):
        open_pictures(tmp_path, "val")


@pytest.fixture
def kitti(tmp_path):
    for number in range(6):
        write_picture(tmp_path / "training" / "image_2" / f"{number:06}_10.png")
        write_picture(tmp_path / "training" / "image_2" / f"{number:06}_11.png")
        write_mask(tmp_path / "training" / "semantic" / f"{number:06}_10.png", 7, 23, number)
    return tmp_path


def test_kitti_validates_on_every_fifth_picture_and_learns_from_the_others(kitti):
    names = {
        split: [sample.image.name[:6] for sample in open_dataset(kitti, split).samples] for split in ("train", "val")
    }
    assert names == {"train": ["000001", "000002", "000003", "000004"], "val": ["000000", "000005"]}
    assert len(open_dataset(kitti, "trainval")) == 6


def test_kitti_holds_cityscapes_ids(kitti):
    dataset = open_dataset(kitti)
    assert (dataset.name, dataset.split, dataset.labels) == ("kitti", "val", CITYSCAPES)
    assert np.array_equal(dataset[0][1], columns(0, 10, 255))
    write_mask(dataset.sample(0).mask, 40)
    with pytest.raises(DataError, match="mask holds value 40"):
        dataset[0]


def test_kitti_tells_what_is_missing_or_wrong(kitti):
    with pytest.raises(DataError, match="the splits train, val, trainval; 'test'"):
        open_dataset(kitti, "test")
    (kitti / "training" / "image_2" / "000003_10.png").unlink()
    with pytest.raises(DataError, match=r"000003_10\.png: no such file"):
        open_dataset(kitti)
