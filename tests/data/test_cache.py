import numpy as np
import pytest

from lwrefinenet.data import cache
from lwrefinenet.data.cache import kept_in_memory
from lwrefinenet.data.dataset import concatenated
from lwrefinenet.data.folder import folder_dataset
from lwrefinenet.data.transforms import TrainTransform
from lwrefinenet.errors import DataError
from lwrefinenet.training.batches import AugmentedSamples, batches
from tests.shapes import write_shapes

BYTES_OF_ONE = 64 * 80 * 4  # three channels and the mask


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return folder_dataset(write_shapes(tmp_path_factory.mktemp("shapes"), train=6), "train")


def test_cached_pictures_are_those_of_the_data_set_in_its_order(dataset):
    cached = kept_in_memory(dataset)
    assert len(cached) == len(dataset) == 6
    for index in range(6):
        for kept, decoded in zip(cached[index], dataset[index], strict=True):
            assert np.array_equal(kept, decoded)
        assert cached.sample(index) == dataset.sample(index)
    assert (cached.name, cached.labels, cached.parts) == (dataset.name, dataset.labels, dataset.parts)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_cache_changes_no_batch(dataset, workers):
    transform = TrainTransform((32, 48), (0.5, 2.0), 0.5, 0.4, (0.0, 0.0, 0.0), 255)
    with_cache, without = (
        list(batches(AugmentedSamples(pictures, transform, seed=3), range(2), batch_size=2, workers=workers))
        for pictures in (kept_in_memory(dataset), dataset)
    )
    for left, right in zip(with_cache, without, strict=True):
        assert left.indices == right.indices
        assert left.images.equal(right.images)
        assert left.targets["segmentation"].equal(right.targets["segmentation"])


def test_augmentation_leaves_the_kept_pictures_as_they_are(dataset):
    cached = kept_in_memory(dataset)
    before = [(pixels.copy(), mask.copy()) for pixels, mask in cached]
    transform = TrainTransform((64, 80), (1.0, 1.0), 0.0, 0.5, (0.0, 0.0, 0.0), 255)
    list(batches(AugmentedSamples(cached, transform, seed=0), range(3), batch_size=3, workers=0))
    for kept, copies in zip(cached, before, strict=True):
        assert all(np.array_equal(array, copy) for array, copy in zip(kept, copies, strict=True))


def test_it_says_how_much_memory_it_takes(dataset):
    assert kept_in_memory(dataset).bytes == 6 * BYTES_OF_ONE


def test_what_does_not_fit_is_refused_from_a_few_pictures(dataset):
    decoded = []

    def watch(indices):
        for index in indices:
            decoded.append(index)
            yield index

    with pytest.raises(DataError, match=r'its 6 pictures and masks take .* are free for them; set cache = "none"'):
        kept_in_memory(dataset, watch=watch, free=6 * BYTES_OF_ONE)
    assert decoded == []


def test_what_turns_out_larger_than_a_few_pictures_told_is_refused_as_well(dataset, monkeypatch):
    monkeypatch.setattr(cache, "FEW", 1)
    small = folder_dataset(dataset.samples[0].image.parents[2], "val")
    monkeypatch.setattr(type(small), "__getitem__", lambda _, index: _grey(8 if index == 0 else 64))
    with pytest.raises(DataError, match="free for them"):
        kept_in_memory(small, free=64 * 64 * 4 * 2)


def _grey(side):
    return np.zeros((side, side, 3), np.uint8), np.zeros((side, side), np.uint8)


def test_the_smaller_of_machine_and_container_bounds_the_memory(monkeypatch):
    monkeypatch.setattr(cache, "_free_on_machine", lambda: 5)
    monkeypatch.setattr(cache, "_free_in_container", lambda: None)
    assert cache.free_memory() == 5
    monkeypatch.setattr(cache, "_free_in_container", lambda: 3)
    assert cache.free_memory() == 3
    monkeypatch.setattr(cache, "_free_on_machine", lambda: None)
    monkeypatch.setattr(cache, "_free_in_container", lambda: None)
    assert cache.free_memory() is None


def test_a_damaged_picture_is_named(tmp_path):
    root = write_shapes(tmp_path, train=3)
    (root / "images" / "train" / "002.png").write_bytes(b"no picture")
    with pytest.raises(Exception, match=r"002\.png"):
        kept_in_memory(folder_dataset(root, "train"))


def test_several_sets_as_one_are_cached_as_one(dataset):
    both = concatenated([dataset, dataset])
    cached = kept_in_memory(both)
    assert len(cached) == 12
    assert np.array_equal(cached[7][1], dataset[1][1])


def test_files_that_the_system_keeps_in_memory_are_free_for_arrays(tmp_path, monkeypatch):
    monkeypatch.setattr(cache, "CONTROL_GROUP", tmp_path)
    assert cache._free_in_container() is None
    for name, text in (("max", "1000"), ("current", "900"), ("stat", "anon 300\ninactive_file 500\nactive_file 50\n")):
        (tmp_path / f"memory.{name}").write_text(text)
    assert cache._free_in_container() == 1000 - 900 + 550
    (tmp_path / "memory.max").write_text("max\n")
    assert cache._free_in_container() is None
