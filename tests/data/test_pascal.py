"""VOC 2012, SBD and Person-Part, on folders like the published ones."""

import pickle

import numpy as np
import pytest
from scipy.io import savemat
from torchvision.datasets import SBDataset

from lwrefinenet.data.layouts import open_dataset, open_pictures
from lwrefinenet.data.unlabelled import UnlabelledPictures
from lwrefinenet.errors import DataError, UsageError
from tests.pictures import columns, write_list, write_mask, write_picture


def write_voc(folder, **splits):
    for split, names in splits.items():
        write_list(folder / "ImageSets" / "Segmentation" / f"{split}.txt", *names)
        for name in names:
            write_picture(folder / "JPEGImages" / f"{name}.jpg")
            write_mask(folder / "SegmentationClass" / f"{name}.png", 0, 15, 255, 20)
    return folder


def write_sbd(folder, **splits):
    for split, names in splits.items():
        write_list(folder / f"{split}.txt", *names)
        for name in names:
            write_picture(folder / "img" / f"{name}.jpg")
            write_mat(folder / "cls" / f"{name}.mat", columns(0, 12, 20))
    return folder


def write_mat(path, mask):
    path.parent.mkdir(parents=True, exist_ok=True)
    boundaries = np.zeros((20, 1), object)
    fields = {"Boundaries": boundaries, "Segmentation": mask, "CategoriesPresent": np.unique(mask)}
    savemat(path, {"GTcls": fields}, do_compression=True)


def write_person_part(folder):
    for split, name in (("train", "2008_000008"), ("val", "2008_000026")):
        line = f"/JPEGImages/{name}.jpg /pascal_person_part_gt/{name}.png"
        write_list(folder / "pascal_person_part" / "pascal_person_part_trainval_list" / f"{split}.txt", line)
        write_picture(folder / "VOC2010" / "JPEGImages" / f"{name}.jpg")
        write_mask(folder / "pascal_person_part" / "pascal_person_part_gt" / f"{name}.png", 0, 1, 6, 255)
    return folder


@pytest.mark.parametrize("above", [".", "VOC2012", "VOCdevkit/VOC2012"])
def test_voc_is_found_in_its_folder_and_in_those_above(tmp_path, above):
    write_voc(tmp_path / above, train=["2007_000032"], val=["2007_000033", "2007_000042"])
    dataset = open_dataset(tmp_path)
    assert (dataset.name, dataset.split, len(dataset)) == ("voc", "val", 2)
    assert np.array_equal(dataset[0][1], columns(0, 15, 255, 20))
    assert dataset.sample(1).image.name == "2007_000042.jpg"


def test_trainaug_takes_the_augmented_masks(tmp_path):
    write_voc(tmp_path, train=["2007_000032"])
    write_list(
        tmp_path / "ImageSets" / "Segmentation" / "trainaug.txt",
        "/JPEGImages/2007_000032.jpg /SegmentationClassAug/2007_000032.png",
    )
    write_mask(tmp_path / "SegmentationClassAug" / "2007_000032.png", 0, 9)
    assert np.array_equal(open_dataset(tmp_path, "trainaug")[0][1], columns(0, 9))


def test_the_test_split_of_2012_has_pictures_and_no_masks(tmp_path):
    write_voc(tmp_path, val=["2007_000033"])
    write_list(tmp_path / "ImageSets" / "Segmentation" / "test.txt", "2008_000006", "2008_000011")
    for name in ("2008_000006", "2008_000011"):
        write_picture(tmp_path / "JPEGImages" / f"{name}.jpg")
    pictures = open_pictures(tmp_path, "test")
    assert isinstance(pictures, UnlabelledPictures)
    assert [path.name for path in pictures.images] == ["2008_000006.jpg", "2008_000011.jpg"]
    with pytest.raises(DataError, match=r"voc test cannot be scored or learnt from: its masks are not public.*--dump"):
        open_dataset(tmp_path, "test")
    pictures.images[1].unlink()
    with pytest.raises(DataError, match=r"2008_000011\.jpg: no such file, but .*test\.txt calls for it"):
        open_pictures(tmp_path, "test")


def test_a_test_split_with_masks_is_scored(tmp_path):
    write_voc(tmp_path, test=["000068"])  # as in VOC 2007
    assert np.array_equal(open_dataset(tmp_path, "test")[0][1], columns(0, 15, 255, 20))


def test_a_wrong_split_is_answered_with_the_splits_that_there_are(tmp_path):
    write_voc(tmp_path, val=["2007_000033"])
    with pytest.raises(DataError, match=r"the splits train, val, trainval, test, trainaug; 'valid' is not one"):
        open_dataset(tmp_path, "valid")


def test_a_file_that_a_list_names_in_vain_is_named_with_the_list(tmp_path):
    write_voc(tmp_path, val=["2007_000033", "2007_000042"])
    (tmp_path / "SegmentationClass" / "2007_000042.png").unlink()
    with pytest.raises(
        DataError, match=r"SegmentationClass/2007_000042\.png: no such file, but .*val\.txt calls for it"
    ):
        open_dataset(tmp_path)
    with pytest.raises(DataError, match=r"train\.txt: no such file; it is the list"):
        open_dataset(tmp_path, "train")


def test_a_value_that_voc_does_not_have_is_an_error(tmp_path):
    write_voc(tmp_path, val=["2007_000033"])
    write_mask(tmp_path / "SegmentationClass" / "2007_000033.png", 0, 21)
    with pytest.raises(
        DataError, match=r"2007_000033\.png: mask holds value 21 \(56 pixels\), but voc has classes 0-20"
    ):
        open_dataset(tmp_path)[0]


@pytest.mark.parametrize("above", [".", "dataset", "benchmark_RELEASE/dataset"])
def test_sbd_masks_come_out_of_their_matlab_files(tmp_path, above):
    write_sbd(tmp_path / above, train=["2008_000002"], val=["2008_000003"])
    dataset = open_dataset(tmp_path, "train")
    assert (dataset.name, dataset.labels.name) == ("sbd", "voc")
    assert np.array_equal(dataset[0][1], columns(0, 12, 20))
    assert np.array_equal(pickle.loads(pickle.dumps(dataset))[0][1], dataset[0][1])


def test_sbd_masks_are_those_that_torchvision_reads(tmp_path):
    write_sbd(tmp_path, val=["2008_000003", "2008_000004"])
    dataset = open_dataset(tmp_path)
    theirs = SBDataset(tmp_path, "val", mode="segmentation")
    assert all(np.array_equal(dataset[index][1], np.array(theirs[index][1])) for index in range(2))


def test_train_noval_leaves_out_what_voc_scores_on(tmp_path):
    write_sbd(tmp_path / "benchmark_RELEASE" / "dataset", train=["2008_000002", "2008_000009"], val=["2008_000003"])
    write_voc(tmp_path / "VOCdevkit" / "VOC2012", val=["2008_000009"])
    dataset = open_dataset(tmp_path, "train_noval", name="sbd")
    assert [sample.image.stem for sample in dataset.samples] == ["2008_000002", "2008_000003"]
    assert "without VOC 2012's val" in dataset.void_rule


def test_train_noval_follows_the_published_list_where_there_is_one(tmp_path):
    write_sbd(tmp_path, train=["2008_000002", "2008_000009"], val=["2008_000003"])
    write_list(tmp_path / "train_noval.txt", "2008_000009")
    assert [sample.image.stem for sample in open_dataset(tmp_path, "train_noval").samples] == ["2008_000009"]


def test_train_noval_asks_for_voc_and_takes_it_from_where_it_is_said_to_lie(tmp_path):
    root = write_sbd(tmp_path / "a" / "b" / "c" / "d", train=["2008_000002"], val=["2008_000003"])
    voc_root = write_voc(tmp_path / "elsewhere", val=["2008_000002"])
    with pytest.raises(DataError, match=r"needs train_noval\.txt there, or VOC 2012.*--data voc=DIR"):
        open_dataset(root, "train_noval")
    dataset = open_dataset(root, "train_noval", voc_root=voc_root)
    assert [sample.image.stem for sample in dataset.samples] == ["2008_000003"]


@pytest.mark.parametrize("content", [b"", b"MATLAB 5.0 MAT-file" + bytes(200), b"x" * 300])
def test_a_damaged_matlab_file_is_named(tmp_path, content):
    write_sbd(tmp_path, val=["2008_000003"])
    (tmp_path / "cls" / "2008_000003.mat").write_bytes(content)
    with pytest.raises(DataError, match=r"2008_000003\.mat: no mask can be read.*holds GTcls\.Segmentation"):
        open_dataset(tmp_path)[0]


def test_a_matlab_file_with_something_else_is_named(tmp_path):
    write_sbd(tmp_path, val=["2008_000003", "2008_000004"])
    savemat(tmp_path / "cls" / "2008_000003.mat", {"GTinst": {"Segmentation": columns(0)}})
    savemat(tmp_path / "cls" / "2008_000004.mat", {"GTcls": {"Segmentation": columns(0) / 2}})
    dataset = open_dataset(tmp_path)
    with pytest.raises(DataError, match=r"2008_000003\.mat: no mask can be read"):
        dataset[0]
    with pytest.raises(DataError, match=r"Segmentation is float64 of shape \(8, 8\); expected \(H, W\) integers"):
        dataset[1]


def test_without_scipy_the_extra_is_named_when_the_set_is_opened(tmp_path, monkeypatch):
    write_sbd(tmp_path, val=["2008_000003"])
    monkeypatch.setitem(__import__("sys").modules, "scipy.io", None)
    with pytest.raises(UsageError, match=r"pip install 'lwrefinenet\[datasets\]'"):
        open_dataset(tmp_path)


def test_person_part_finds_lists_masks_and_the_pictures_of_2010(tmp_path):
    dataset = open_dataset(write_person_part(tmp_path))
    assert (dataset.name, dataset.split, len(dataset.labels)) == ("person_part", "val", 7)
    assert dataset.sample(0).image.name == "2008_000026.jpg"
    assert np.array_equal(dataset[0][1], columns(0, 1, 6, 255))


def test_person_part_beside_vocs_own_masks_wants_its_name(tmp_path):
    write_voc(tmp_path / "VOC2012", val=["2007_000033"])
    write_person_part(tmp_path)
    assert open_dataset(tmp_path).name == "voc"
    assert open_dataset(tmp_path, "train", name="person_part").sample(0).image.name == "2008_000008.jpg"


def test_person_part_without_pictures_says_where_they_are_expected(tmp_path):
    write_person_part(tmp_path / "x")
    with pytest.raises(DataError, match=r"JPEGImages here or in VOC2010"):
        open_dataset(tmp_path / "x" / "pascal_person_part", name="person_part")
