"""What is packed for another machine is what its training needs, in parts that are small enough."""

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


def test_a_folder_that_is_not_there_is_said(tmp_path):
    found = pack(tmp_path / "nowhere", tmp_path / "parts")
    assert found.returncode == 1
    assert "nowhere: no such data folder" in found.stderr and "Traceback" not in found.stderr
