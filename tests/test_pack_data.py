"""What is packed for another machine is what its training needs, in parts that are small enough."""

import shutil
import subprocess
import sys
import tarfile

import numpy as np
import pytest

from lwrefinenet.data.layouts import open_dataset
from tests.shapes import write_shapes
from tests.test_docs import ROOT


def pack(data, output, *options):
    command = [sys.executable, ROOT / "scripts" / "pack_data.py", data, "--output", output, *options]
    return subprocess.run(command, capture_output=True, text=True)


def unpacked(parts, folder):
    for part in parts:
        with tarfile.open(part) as tar:
            tar.extractall(folder, filter="data")
    return folder


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    return write_shapes(tmp_path_factory.mktemp("data") / "shapes", train=6, val=3)


def test_the_parts_together_are_the_splits_and_each_is_small_enough(shapes, tmp_path):
    assert pack(shapes, tmp_path / "parts", "--megabytes", "0.03").returncode == 0
    parts = sorted((tmp_path / "parts").iterdir())
    assert len(parts) > 1 and all(part.stat().st_size <= 30_000 for part in parts)
    root = unpacked(parts, tmp_path / "there") / "shapes"
    for split in ("train", "val"):
        before, after = open_dataset(shapes, split), open_dataset(root, split)
        assert [image.name for image in before.images] == [image.name for image in after.images]
        for index in range(len(before)):
            assert all(np.array_equal(ours, theirs) for ours, theirs in zip(before[index], after[index], strict=True))


def test_only_what_is_asked_for_travels_and_the_same_bytes_every_time(shapes, tmp_path):
    for name in ("once", "again"):
        assert pack(shapes, tmp_path / name, "--splits", "val").returncode == 0
    (part,) = (tmp_path / "once").iterdir()
    assert part.read_bytes() == (tmp_path / "again" / part.name).read_bytes()
    with tarfile.open(part) as tar:
        assert not [name for name in tar.getnames() if "/train/" in name]


def test_a_file_larger_than_a_part_is_named_and_nothing_is_written(shapes, tmp_path):
    found = pack(shapes, tmp_path / "parts", "--megabytes", "0.011")
    assert found.returncode == 1
    assert "more than a part may have; give more --megabytes." in found.stderr and "Traceback" not in found.stderr
    assert not (tmp_path / "parts").exists()


def test_parts_that_lie_there_already_are_not_mixed_with_new_ones(shapes, tmp_path):
    assert pack(shapes, tmp_path / "parts").returncode == 0
    found = pack(shapes, tmp_path / "parts", "--splits", "val")
    assert found.returncode == 1
    assert "shapes.0.tar: is there already" in found.stderr and "Traceback" not in found.stderr


def test_depth_is_left_behind_where_masks_are_enough(tmp_path):
    data = write_shapes(tmp_path / "shapes", train=2, val=1)
    for mask in list((data / "masks").rglob("*.png")):
        depth = data / "depth" / mask.relative_to(data / "masks")
        depth.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(mask, depth)
    with (data / "dataset.toml").open("a") as file:
        file.write("\ndepth_scale = 0.1\n")
    assert pack(data, tmp_path / "all").returncode == 0
    assert pack(data, tmp_path / "masks", "--masks-only").returncode == 0
    held = {}
    for name in ("all", "masks"):
        with tarfile.open(tmp_path / name / "shapes.0.tar") as tar:
            held[name] = [each for each in tar.getnames() if "/depth/" in each]
    assert len(held["all"]) == 3 and not held["masks"]


def test_a_list_that_leads_out_of_the_folder_is_refused(tmp_path):
    write_shapes(tmp_path / "elsewhere", train=1, val=1)
    data = tmp_path / "data"
    data.mkdir()
    shutil.copy(tmp_path / "elsewhere" / "dataset.toml", data)
    image = next((tmp_path / "elsewhere" / "images" / "train").iterdir())
    mask = next((tmp_path / "elsewhere" / "masks" / "train").iterdir())
    (data / "train.txt").write_text(f"{image}\t{mask}\n")
    found = pack(data, tmp_path / "parts", "--splits", "train")
    assert found.returncode == 1
    assert "what lies elsewhere cannot be packed with it" in found.stderr and "Traceback" not in found.stderr


def test_a_folder_that_is_not_there_is_said(tmp_path):
    found = pack(tmp_path / "nowhere", tmp_path / "parts")
    assert found.returncode == 1
    assert "nowhere: no such data folder" in found.stderr and "Traceback" not in found.stderr
