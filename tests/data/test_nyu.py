"""NYU Depth v2 by the published lists; its other layout is tested with the real files in test_dataset."""

import numpy as np
import pytest

from lwrefinenet.data.layouts import open_dataset
from lwrefinenet.errors import DataError, UsageError
from tests.pictures import columns, write_list, write_mask, write_picture


def write_nyu(root, suffix=".txt"):
    for split, number in (("train", "000003"), ("val", "000001")):
        pair = (f"{split}_images/{number}.png", f"{split}_labels/{number}.png", f"depth/{number}.png")
        write_list(root / f"{split}{suffix}", "\t".join(pair))
        write_picture(root / pair[0])
        write_mask(root / pair[1], 0, 39, 255)
    return root


@pytest.mark.parametrize("suffix", [".txt", ".lst", ".nyu"])
def test_published_lists_are_pairs_whose_further_columns_are_left_out(tmp_path, suffix):
    dataset = open_dataset(write_nyu(tmp_path, suffix))
    assert (dataset.name, dataset.split, len(dataset)) == ("nyudv2", "val", 1)
    assert dataset.sample(0).image == tmp_path / "val_images" / "000001.png"
    assert np.array_equal(dataset[0][1], columns(0, 39, 255))


def test_a_value_beyond_the_40_classes_is_an_error(tmp_path):
    write_mask(write_nyu(tmp_path) / "val_labels" / "000001.png", 40)
    with pytest.raises(DataError, match="value 40 .*nyu has classes 0-39"):
        open_dataset(tmp_path)[0]


def test_lists_tell_what_is_missing_or_wrong(tmp_path):
    write_nyu(tmp_path)
    with pytest.raises(DataError, match="the splits train, val; 'test'"):
        open_dataset(tmp_path, "test")
    with pytest.raises(UsageError, match="published crop"):
        open_dataset(tmp_path, published_crop=True)
    write_list(tmp_path / "val.txt", "val_images/000001.png\tval_labels/000001.png", "val_images/000002.png")
    with pytest.raises(DataError, match=r"val\.txt: line 2 is 'val_images/000002\.png'; expected PICTURE and MASK"):
        open_dataset(tmp_path)
    write_list(tmp_path / "val.txt", "val_images/000001.png\tval_labels/000009.png")
    with pytest.raises(DataError, match=r"val_labels/000009\.png: no such file, but .*val\.txt calls for it"):
        open_dataset(tmp_path)


def test_a_folder_without_lists_is_refused_by_name(tmp_path):
    with pytest.raises(DataError, match="holds no list"):
        open_dataset(tmp_path, name="nyudv2_lists")


def test_a_part_of_train_is_held_out_for_choices(shared_data):
    root = shared_data / "nyudv2"
    whole, fit, held_out = (open_dataset(root, split).samples for split in ("train", "train_fit", "train_holdout"))
    assert (len(fit), len(held_out)) == (636, 159)
    assert fit + held_out == whole
    assert not set(whole) & set(open_dataset(root, "test").samples)
