"""Data folders by name, and expressions over them."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lwrefinenet.data.layouts import READERS, open_dataset
from lwrefinenet.data.stages import open_stage, parse_data_arguments
from lwrefinenet.errors import DataError, UsageError
from lwrefinenet.training.recipe import Recipe
from lwrefinenet.training.run_data import open_data
from tests.pictures import write_array, write_list, write_mask, write_picture
from tests.shapes import write_shapes


def write_voc(root, **splits):
    for split, name in splits.items():
        write_list(root / "ImageSets" / "Segmentation" / f"{split}.txt", name)
        write_picture(root / "JPEGImages" / f"{name}.jpg")
        write_mask(root / "SegmentationClass" / f"{name}.png", 0, 3)
    return root


def test_folders_have_names_and_one_alone_needs_none():
    assert parse_data_arguments(["/data/my"]) == {"": Path("/data/my")}
    assert parse_data_arguments(["coco=/data/coco", "mine=b/c=d"]) == {
        "coco": Path("/data/coco"),
        "mine": Path("b/c=d"),
    }
    assert parse_data_arguments([]) == {}


def test_a_folder_with_an_equals_sign_in_its_name_is_that_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("run=3").mkdir()
    assert parse_data_arguments(["run=3"]) == {"": Path("run=3")}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["voc=/a", "voc=/b"], r"voc=/b: the name 'voc' stands for /a already"),
        (["voc=/a", "/b"], r"--data /b: with several data folders each needs a name: --data NAME=/b"),
        (["/a", "voc=/b"], r"--data /a: with several"),
        (["/a", "/b"], r"--data /b: with several"),
    ],
)
def test_folders_that_cannot_be_told_apart_are_refused(arguments, message):
    with pytest.raises(UsageError, match=message):
        parse_data_arguments(arguments)


def test_one_folder_without_name_is_opened_as_it_always_was(tmp_path):
    roots = parse_data_arguments([str(write_shapes(tmp_path, train=2, val=1))])
    assert len(open_stage("", roots, "train")) == 2
    assert open_stage("", roots, None).split == "val"


def test_parts_of_an_expression_follow_one_another(tmp_path):
    first, second = write_shapes(tmp_path / "a", train=2, val=1), write_shapes(tmp_path / "b", train=3, val=1)
    stage = open_stage("a:val + b", {"a": first, "b": second}, "train")
    assert (stage.name, stage.split, len(stage)) == ("a+b", "val+train", 4)


def test_a_readers_name_chooses_the_reader(tmp_path):
    write_voc(tmp_path, train="2007_000032", val="2007_000033")
    write_list(tmp_path / "pascal_person_part_trainval_list" / "train.txt", "2007_000032")
    write_mask(tmp_path / "pascal_person_part_gt" / "2007_000032.png", 0, 6)
    assert open_stage("person_part", {"person_part": tmp_path}, "train").labels.name == "person_part"
    assert open_stage("mine", {"mine": tmp_path}, "train").labels.name == "voc"


def test_a_folder_without_name_serves_every_reader_that_is_named(tmp_path):
    write_voc(tmp_path / "VOCdevkit" / "VOC2012", train="2007_000032", val="2007_000033")
    stage = open_stage("voc:train+voc:val", {"": tmp_path}, "train")
    assert [stage.sample(index).image.stem for index in range(2)] == ["2007_000032", "2007_000033"]


def write_nyu(root):
    for split in ("train", "test"):
        write_list(root / f"{split}.txt", split)
        write_picture(root / "images" / f"{split}.jpg", size=(480, 640))
        write_array(root / "labels" / f"{split}.png", np.full((480, 640), 39, np.uint8))
    return root


@pytest.mark.parametrize("named", ["", "nyudv2"])
def test_a_run_on_the_published_crop_learns_from_it_and_validates_on_it(tmp_path, named):
    roots = {named: write_nyu(tmp_path)}
    recipe = Recipe(model="rf_lw_mobilenetv2", epochs=1, batch_size=1, val_split="test", published_crop=True)
    data = open_data(recipe, roots)
    assert [part[0][0].shape for part in (*data.parts, *data.validation.parts)] == [(468, 625, 3)] * 2
    whole = open_data(replace(recipe, published_crop=False), roots)
    assert whole.parts[0][0][0].shape == (480, 640, 3)


def test_other_data_has_no_published_crop(tmp_path):
    write_voc(tmp_path, train="2007_000032", val="2007_000033")
    with pytest.raises(UsageError, match="NYU Depth v2 as images/.* this folder is not; leave published_crop .* out"):
        open_stage("", {"": tmp_path}, "train", published_crop=True)


def test_train_noval_finds_voc_in_the_folder_of_that_name(tmp_path):
    savemat = pytest.importorskip("scipy.io").savemat
    roots = {"voc": write_voc(tmp_path / "v", train="2007_000032", val="2007_000033"), "sbd": tmp_path / "1/2/3/sbd"}
    for split, name in (("train", "2007_000033"), ("val", "2007_000042")):
        write_list(roots["sbd"] / f"{split}.txt", name)
        write_picture(roots["sbd"] / "img" / f"{name}.jpg")
        (roots["sbd"] / "cls").mkdir(exist_ok=True)
        savemat(roots["sbd"] / "cls" / f"{name}.mat", {"GTcls": {"Segmentation": [[0] * 8] * 8}})
    stage = open_stage("sbd:train_noval+voc:train", roots, "train")
    assert [stage.sample(index).image.stem for index in range(len(stage))] == ["2007_000042", "2007_000032"]


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("coco", r"'coco': no data folder has this name \(named are: a\); give it as --data coco=DIR"),
        ("a:b:c", r"'a:b:c': expected a data set NAME or NAME:SPLIT"),
        ("a+", r"'': expected a data set NAME"),
    ],
)
def test_an_expression_that_means_nothing_is_refused(tmp_path, expression, message):
    with pytest.raises(UsageError, match=message):
        open_stage(expression, {"a": write_shapes(tmp_path, train=1, val=1)}, "train")


def test_no_expression_and_several_folders_is_refused(tmp_path):
    with pytest.raises(UsageError, match=r"2 data folders \(a, b\)"):
        open_stage("", {"a": tmp_path, "b": tmp_path}, "train")


def test_sets_with_other_classes_are_not_one_stage(tmp_path):
    roots = {"voc": write_voc(tmp_path / "v", train="2007_000032"), "own": write_shapes(tmp_path / "s", train=1, val=1)}
    with pytest.raises(DataError, match="same classes"):
        open_stage("voc+own", roots, "train")


def test_an_unknown_reader_is_answered_with_those_there_are(tmp_path):
    with pytest.raises(UsageError, match=r"'ade' is no data set that is known here; expected one of folder, camvid,"):
        open_dataset(tmp_path, name="ade")


@pytest.mark.parametrize("name", READERS)
def test_a_reader_that_is_named_for_an_empty_folder_is_one_clear_sentence(tmp_path, name):
    with pytest.raises(DataError, match=str(tmp_path)):
        open_dataset(tmp_path, name=name)
