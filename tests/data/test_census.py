import os
import time

import numpy as np
import pytest
from PIL import Image

from lwrefinenet.data import census as census_module
from lwrefinenet.data import facts_cache
from lwrefinenet.data.census import census_of
from lwrefinenet.data.dataset import ConcatenatedDataset, Sample, SegmentationDataset
from lwrefinenet.data.facts import mask_facts, picture_facts
from lwrefinenet.data.folder import folder_dataset
from lwrefinenet.data.layouts import open_dataset
from lwrefinenet.errors import UsageError
from lwrefinenet.training.run_data import balanced_classes

MASKS = (
    [[0, 0, 0, 1], [0, 0, 0, 1]],  # 6 pixels of a, 2 of b
    [[1, 1, 1, 255], [1, 1, 1, 255]],  # 6 of b, 2 ignored
)


def write(root, masks=MASKS, split="train", age=60):
    """One picture per mask, all of them written a minute ago."""
    for number, mask in enumerate(masks):
        for folder, array in (("images", np.full((*np.shape(mask), 3), number)), ("masks", np.array(mask))):
            path = root / folder / split / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(array.astype(np.uint8)).save(path)
            os.utime(path, (time.time() - age, time.time() - age))
    (root / "dataset.toml").write_text('class_names = ["a", "b", "c"]\n')
    return root


@pytest.fixture
def reads(monkeypatch):
    """Every file that is decoded, or whose header is read, from now on."""
    found = []
    for name, read in (("mask_facts", mask_facts), ("picture_facts", picture_facts)):
        monkeypatch.setattr(
            census_module, name, lambda path, content, read=read: (found.append(path.name), read(path, content))[1]
        )
    return found


def test_the_numbers_are_those_counted_by_hand(tmp_path):
    census = census_of(folder_dataset(write(tmp_path), "train"))
    assert census.pixels.tolist() == [6, 8, 0]
    assert census.picture_counts.tolist() == [1, 2, 0]
    assert census.pixels_where_present.tolist() == [8, 14, 0]  # b: 8 pixels of the first picture, 6 of the second
    assert (census.pictures, census.sizes, census.ignored, census.unknown) == (2, {(2, 4): 2}, 2, 0)
    assert census.ignore_share == 2 / 16
    assert census.shares.tolist() == [6 / 14, 8 / 14, 0]
    assert census.absent == ("c",)


def test_class_weights_follow_from_the_census(tmp_path):
    census = census_of(folder_dataset(write(tmp_path), "train"))
    # a: 6 of the 8 pixels where it occurs; b: 8 of 14; c is absent
    frequency = np.array([6 / 8, 8 / 14])
    assert np.allclose(balanced_classes(census, 1.0), [*(np.median(frequency) / frequency), 1.0])
    assert np.allclose(balanced_classes(census, 0.5), [*(np.median(frequency) / frequency) ** 0.5, 1.0])


def test_unknown_values_are_counted_apart(tmp_path):
    census = census_of(folder_dataset(write(tmp_path, [[[0, 7, 7, 9]]]), "train"))
    assert census.unknown == 3
    assert census.pairs[0].unknown == ((7, 2), (9, 1))


def test_merged_classes_are_counted_together(tmp_path):
    write(tmp_path)
    (tmp_path / "dataset.toml").write_text('class_names = ["a", "b"]\n[merge]\nb = "a"\n')
    assert census_of(folder_dataset(tmp_path, "train")).pixels.tolist() == [14]


def test_several_sets_are_counted_as_one(tmp_path):
    parts = tuple(folder_dataset(write(tmp_path / name), "train") for name in "ab")
    assert census_of(ConcatenatedDataset(parts)).pixels.tolist() == [12, 16, 0]


def test_a_data_set_with_a_decoder_of_its_own_is_counted_by_it(tmp_path):
    dataset = folder_dataset(write(tmp_path), "train")
    own = SegmentationDataset("x", "train", dataset.labels, dataset.samples, decode=_everything_is_two)
    assert census_of(own).pixels.tolist() == [0, 0, 12]


def _everything_is_two(path):
    return np.full((2, 3), 2, np.uint8)


def test_a_missing_package_is_no_fact_about_a_file(tmp_path):
    dataset = folder_dataset(write(tmp_path), "train")
    own = SegmentationDataset("y", "train", dataset.labels, dataset.samples, decode=_needs_a_package)
    with pytest.raises(UsageError, match="pip install"):
        census_of(own)


def _needs_a_package(path):
    raise UsageError("this needs scipy: pip install 'lwrefinenet[datasets]'.")


def test_a_mask_that_lies_inside_another_file_is_kept_by_that_files_state(tmp_path):
    dataset = folder_dataset(write(tmp_path), "train")
    (tmp_path / "all.json").write_text("{}")
    samples = (Sample(dataset.samples[0].image, tmp_path / "all.json" / "17"),)
    own = SegmentationDataset("x", "train", dataset.labels, samples, decode=_everything_is_two)
    assert [census_of(own).pixels.tolist() for _ in range(2)] == [[0, 0, 6]] * 2


def test_the_second_census_reads_no_file(tmp_path, reads, monkeypatch):
    monkeypatch.setattr(facts_cache, "UNSETTLED", 0)  # as if the files were older than they are
    dataset = folder_dataset(write(tmp_path), "train")
    first = census_of(dataset)
    assert sorted(reads) == ["0.png", "0.png", "1.png", "1.png"]
    reads.clear()
    monkeypatch.setattr(type(tmp_path), "read_bytes", _only_json)
    assert census_of(dataset).pairs == first.pairs
    assert reads == []


def _only_json(path):
    assert path.suffix == ".json", f"{path} was read"
    return path.open("rb").read()


def test_a_changed_mask_is_read_again_and_only_that_one(tmp_path, reads):
    dataset = folder_dataset(write(tmp_path), "train")
    census_of(dataset)
    reads.clear()
    Image.fromarray(np.full((2, 4), 2, np.uint8)).save(tmp_path / "masks" / "train" / "0.png")
    assert census_of(dataset).pixels.tolist() == [0, 6, 8]
    assert reads == ["0.png"]


def test_a_touched_file_with_the_same_bytes_is_not_decoded_again(tmp_path, reads):
    dataset = folder_dataset(write(tmp_path), "train")
    census_of(dataset)
    reads.clear()
    os.utime(tmp_path / "masks" / "train" / "0.png")
    census_of(dataset)
    assert reads == []


def test_a_file_written_just_now_is_looked_at_again_even_with_an_equal_time_stamp(tmp_path):
    dataset = folder_dataset(write(tmp_path, age=0), "train")
    census_of(dataset)
    path = tmp_path / "masks" / "train" / "0.png"
    before = path.stat()
    Image.fromarray(np.array([[2, 2, 2, 1], [2, 2, 2, 1]], np.uint8)).save(path)
    assert path.stat().st_size == before.st_size
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert census_of(dataset).pixels.tolist() == [0, 8, 6]


def test_a_mask_of_equal_size_unpacked_over_another_is_read_though_both_have_the_time_stamp_of_the_pack(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(facts_cache, "UNSETTLED", 0)
    dataset = folder_dataset(write(tmp_path), "train")
    path = tmp_path / "masks" / "train" / "0.png"
    os.utime(path, (0, 0))
    census_of(dataset)
    size = path.stat().st_size
    Image.fromarray(np.array([[2, 2, 2, 1], [2, 2, 2, 1]], np.uint8)).save(path)
    os.utime(path, (0, 0))
    assert path.stat().st_size == size
    assert census_of(dataset).pixels.tolist() == [0, 8, 6]


def test_another_ignore_index_is_known_of_splits_without_masks(tmp_path):
    root = write(tmp_path)
    (root / "masks").rename(root / "depth")
    with (root / "dataset.toml").open("a") as file:
        file.write("depth_scale = 0.001\n")
    assert not any(pair.unknown for pair in census_of(folder_dataset(root, "train")).pairs)
    with (root / "dataset.toml").open("a") as file:
        file.write("ignore_index = 254\n")
    assert not any(pair.unknown for pair in census_of(folder_dataset(root, "train")).pairs)


def test_an_unreadable_cache_is_built_anew(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    dataset = folder_dataset(write(tmp_path / "data"), "train")
    census_of(dataset)
    (cache,) = (tmp_path / "cache" / "lwrefinenet" / "census").iterdir()
    whole = cache.read_bytes()
    for damage in (b"", whole[:100], b'{"format": 1, "stamps": [], "facts": 3}', b'{"format": 99}', b"\xff\xfe"):
        cache.write_bytes(damage)
        assert census_of(dataset).pixels.tolist() == [6, 8, 0]
        assert cache.read_bytes() == whole


def test_a_cache_folder_that_cannot_be_written_is_no_error(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert census_of(folder_dataset(write(tmp_path / "data"), "train")).pixels.tolist() == [6, 8, 0]


def test_progress_wraps_the_indices(tmp_path):
    seen = []

    def watch(indices):
        for index in indices:
            seen.append(index)
            yield index

    census_of(folder_dataset(write(tmp_path), "train"), progress=watch)
    assert seen == [0, 1]


def test_camvid_as_it_lies_here_has_the_pixels_of_its_masks(shared_data):
    dataset = open_dataset(shared_data / "camvid", "val")
    census = census_of(dataset)
    counts = sum(np.bincount(dataset[index][1].ravel(), minlength=256) for index in range(len(dataset)))
    assert census.pixels.tolist() == counts[:11].tolist()
    assert census.ignored == counts[255]
