import json

import pytest
import torch

from lwrefinenet.benchmark.loader_rate import loader_rate
from lwrefinenet.benchmark.spread import spread
from lwrefinenet.data.folder import folder_dataset
from lwrefinenet.data.transforms import TrainTransform
from tests.shapes import write_shapes

TRANSFORM = TrainTransform((32, 48), (0.5, 2.0), 0.5, 0.4, (0.0, 0.0, 0.0), 255)


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    dataset = folder_dataset(write_shapes(tmp_path_factory.mktemp("shapes"), train=5), "train")
    return loader_rate(dataset, TRANSFORM, rounds=2)


def test_the_rate_says_what_was_loaded_and_how(found):
    assert json.loads(json.dumps(found)) == found
    assert found["data"].endswith("train, 5 pictures, the first of 80x64")
    assert (found["crop_size"], found["workers"], found["cached_bytes"]) == ([32, 48], 0, 5 * 64 * 80 * 4)


def test_each_cache_has_its_rates_and_parts(found):
    for cache in ("none", "memory"):
        assert len(found["pictures_per_second"][cache]["rounds"]) == 2
        assert found["pictures_per_core_second"][cache]["median"] > 0
        assert set(found["milliseconds"][cache]) == {"picture", "mask", "augmentation", "collation"}


def test_kept_pictures_are_not_decoded(found):
    assert found["milliseconds"]["memory"]["picture"] == 0
    assert found["milliseconds"]["none"]["picture"] > 0


def test_measuring_leaves_the_number_of_threads_alone(tmp_path):
    before = torch.get_num_threads()
    loader_rate(folder_dataset(write_shapes(tmp_path, train=2), "train"), TRANSFORM, rounds=1)
    assert torch.get_num_threads() == before


def test_a_spread_holds_median_and_quartiles():
    assert spread([4.0, 1.0, 2.0, 3.0, 5.0])["quartiles"] == [2.0, 4.0]
    assert spread([7.0]) == {"median": 7.0, "quartiles": [7.0, 7.0], "rounds": [7.0]}
