import re
import shutil
import subprocess
import tomllib

import numpy as np
import pytest
from PIL import Image

from lwrefinenet.data.check import check_folder
from lwrefinenet.data.folder import folder_dataset
from lwrefinenet.labels import voc_palette
from tests.shapes import write_shapes


@pytest.fixture
def root(tmp_path):
    return write_shapes(tmp_path / "blocks", train=6, val=2)


def finding(root, kind, severity="error"):
    (found,) = [found for found in check_folder(root).findings if found.kind == kind]
    assert found.severity == severity
    return found, str(found)


def proposed(root):
    """The dataset.toml that a finding proposes."""
    text = finding(root, "no usable dataset.toml")[1]
    lines = re.search(r"it should hold: (.*) \(give the classes", text)[1].replace(" and palette", "\npalette")
    return tomllib.loads(lines)


def test_pictures_without_masks_are_told(root):
    (root / "masks" / "train" / "003.png").unlink()
    found, text = finding(root, "pictures without masks")
    assert found.files == (root / "images" / "train" / "003.png",)
    assert "1 of 6 pictures have no mask" in text
    assert f"expected {root}/masks/train/003.png" in text
    assert check_folder(root).censuses[0].pictures == 5


def test_masks_without_pictures_are_told(root):
    (root / "images" / "val" / "001.png").unlink()
    found, text = finding(root, "masks without pictures", "warning")
    assert found.files == (root / "masks" / "val" / "001.png",)
    assert f"rm {root}/masks/val/001.png" in text


def test_masks_with_longer_names_are_found_and_renamed_by_the_command(root):
    for path in (root / "masks" / "train").iterdir():
        path.rename(path.with_name(f"{path.stem}_mask.png"))
    text = finding(root, "masks under another name")[1]
    assert "their names end in '_mask'" in text
    subprocess.run(["bash", "-c", re.search(r"Run: (.*)", text)[1]], check=True)
    assert check_folder(root).findings == ()
    assert len(folder_dataset(root, "train")) == 6


def test_masks_in_another_format_become_png_by_the_command(root):
    for path in list((root / "masks" / "train").iterdir()):
        Image.open(path).save(path.with_suffix(".tif"))
        path.unlink()
    text = finding(root, "masks that are no .png")[1]
    subprocess.run(["bash", "-c", re.search(r"Run: (.*)", text)[1]], check=True)
    assert len(folder_dataset(root, "train")) == 6


def test_without_val_the_command_moves_every_fifth_pair(root):
    shutil.rmtree(root / "images" / "val")
    shutil.rmtree(root / "masks" / "val")
    text = finding(root, "no val split")[1]
    assert "--set val_split=" in text
    subprocess.run(["bash", "-c", re.search(r"run: (mkdir.*); or train", text)[1]], check=True)
    assert not check_folder(root).errors
    assert [len(folder_dataset(root, split)) for split in ("train", "val")] == [5, 1]


def test_without_any_split_the_pairs_are_counted_and_the_command_is_told(root):
    for folder in ("images", "masks"):
        for path in (root / folder / "train").iterdir():
            path.rename(root / folder / path.name)
        shutil.rmtree(root / folder / "train")
        shutil.rmtree(root / folder / "val")
    assert "lwrefinenet data convert" in finding(root, "no splits")[1]
    assert [(census.split, census.pictures) for census in check_folder(root).censuses] == [("all", 6)]


def test_without_a_description_one_is_proposed_that_makes_the_folder_sound(root):
    (root / "dataset.toml").unlink()
    assert proposed(root) == {"class_names": ["background", "class_1", "class_2"]}
    (root / "dataset.toml").write_text('class_names = ["background", "class_1", "class_2"]')
    assert check_folder(root).findings == ()


def test_for_coloured_masks_the_proposal_has_their_palette(root):
    (root / "dataset.toml").unlink()
    for path in (root / "masks").rglob("*.png"):
        Image.fromarray(np.array(voc_palette(3), np.uint8)[np.array(Image.open(path))]).save(path)
    assert proposed(root)["palette"][0] == [0, 0, 0]
    assert len(proposed(root)["palette"]) == len(proposed(root)["class_names"]) == 3
    assert "With that palette in dataset.toml, run: lwrefinenet data convert" in finding(root, "RGB-coloured masks")[1]


def test_for_binary_masks_the_proposal_has_two_classes(root):
    (root / "dataset.toml").unlink()
    for path in (root / "masks").rglob("*.png"):
        Image.fromarray((np.array(Image.open(path)) > 0) * np.uint8(255)).save(path)
    assert proposed(root) == {"class_names": ["background", "object"]}
    assert "--from binary --output" in finding(root, "binary masks")[1]


def test_a_faulty_description_is_told_and_the_masks_are_counted_all_the_same(root):
    (root / "dataset.toml").write_text("class_names = 3")
    assert "class_names must be a list" in finding(root, "no usable dataset.toml")[1]
    assert check_folder(root).censuses[0].picture_counts.tolist() == [6, 6, 6]


def test_unlabelled_test_pictures_are_no_fault(root):
    (root / "images" / "test").mkdir()
    shutil.copy(root / "images" / "train" / "000.png", root / "images" / "test" / "new.png")
    assert check_folder(root).findings == ()


def test_one_split_can_be_looked_at_alone(root):
    report = check_folder(root, ["val"])
    assert [census.split for census in report.censuses] == ["val"]
    assert report.findings == ()


def test_an_empty_folder_of_ones_own_is_told(root):
    for path in (root / "images").rglob("*.png"):
        path.unlink()
    assert "no splits" in {found.kind for found in check_folder(root).errors}
