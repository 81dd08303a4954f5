import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from lwrefinenet.data.convert.splits import place, split_named, with_splits
from lwrefinenet.data.convert.target import Drawn, Item, Source, write_dataset
from lwrefinenet.data.folder import folder_dataset
from lwrefinenet.errors import DataError, LwRefineNetError, UsageError
from lwrefinenet.labels import LabelSet
from tests.foreign import picture_file

LABELS = LabelSet("x", ("a", 'b "quoted" ü'), ((1, 2, 3), (4, 5, 6)))


def plain(picture, value=1):
    return Drawn(np.full(picture.upright_size, value, np.uint8), ("noticed",))


def broken(picture):
    raise DataError("c.png: broken")


def source_of(folder, draws, split="train"):
    items = []
    for number, draw in enumerate(draws):
        path = picture_file(folder / "pictures" / f"{number}.png")
        items.append(Item(path.stem, split, path, draw))
    return Source(LABELS, tuple(items))


def test_the_report_counts_pictures_pixels_and_notices(tmp_path):
    source = source_of(tmp_path, [plain, plain, partial(plain, value=0), partial(plain, value=255)])
    report = write_dataset(source, tmp_path / "d")
    assert report.pictures == {"train": 4}
    assert report.shares == {"a": 0.25, 'b "quoted" ü': 0.5}
    assert report.ignored == 0.25
    assert report.notices == {"noticed": 4}
    assert folder_dataset(tmp_path / "d", "train").labels.class_names == LABELS.class_names
    assert folder_dataset(tmp_path / "d", "train").labels.palette == LABELS.palette


def test_pictures_are_copied_byte_for_byte_or_hard_linked(tmp_path):
    source = source_of(tmp_path, [plain])
    write_dataset(source, tmp_path / "copied")
    write_dataset(source, tmp_path / "linked", link=True)
    original = source.items[0].picture
    copied, linked = (tmp_path / name / "images" / "train" / "0.png" for name in ("copied", "linked"))
    assert copied.read_bytes() == original.read_bytes()
    assert not copied.samefile(original)
    assert linked.samefile(original)


def test_every_picture_passes_the_watching_callback(tmp_path):
    seen = []

    def watch(done, total):
        for written in done:
            seen.append((written.split, total))
            yield written

    write_dataset(source_of(tmp_path, [plain, plain]), tmp_path / "d", watch=watch)
    assert seen == [("train", 2)] * 2


def test_after_a_failure_nothing_is_left(tmp_path):
    source = source_of(tmp_path, [plain, plain, broken])
    with pytest.raises(DataError, match=r"c\.png: broken"):
        write_dataset(source, tmp_path / "d")
    assert [path.name for path in tmp_path.iterdir()] == ["pictures"]


def test_a_picture_cut_short_stops_with_its_name(tmp_path):
    source = source_of(tmp_path, [plain, plain])
    path = source.items[1].picture
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(LwRefineNetError, match=r"1\.png: cannot be decoded"):
        write_dataset(source, tmp_path / "d")
    assert not (tmp_path / "d").exists()


def test_a_destination_that_exists_is_refused_before_anything_is_read(tmp_path):
    (tmp_path / "d").mkdir()
    with pytest.raises(UsageError, match="d: exists already"):
        write_dataset(source_of(tmp_path, [broken]), tmp_path / "d")


def test_two_pictures_with_one_name_are_both_named(tmp_path):
    paths = [picture_file(tmp_path / folder / "0.png") for folder in ("x", "y")]
    items = tuple(Item(path.stem, "train", path, plain) for path in paths)
    with pytest.raises(DataError, match=r"y/0\.png and .*x/0\.png would both be called '0'"):
        write_dataset(Source(LABELS, items), tmp_path / "d")


def item(stem, split=None):
    return Item(stem, split, Path(f"{stem}.png"), plain)


def val_of(items):
    return {item.stem for item in items if item.split == "val"}


def test_a_drawn_val_split_does_not_move_when_pictures_are_added():
    before, notices = with_splits([item(f"{n:03}") for n in range(200)], 0.2)
    after, _ = with_splits([item(f"{n:03}") for n in range(400)], 0.2)
    assert val_of(before) == {stem for stem in val_of(after) if int(stem) < 200}
    assert 25 < len(val_of(before)) < 55
    assert "--val-share 0.2" in notices[0]


def test_val_and_train_are_never_empty():
    few = [item("a"), item("b"), item("c")]
    for share in (1e-9, 1 - 1e-9):
        dealt, _ = with_splits(few, share)
        assert len(val_of(dealt)) == (1 if share < 0.5 else 2)
    assert val_of(with_splits(few, 1e-9)[0]) == {min("abc", key=place)}


def test_splits_of_the_source_stay_and_a_lone_one_is_dealt():
    own = [item("a", "train"), item("b", "val"), item("c", "test")]
    assert with_splits(own, 0.5) == (tuple(own), ())
    dealt, notices = with_splits([item("a", "val"), item("b", "val"), item("c", "test")], 0.5)
    assert {item.split for item in dealt} == {"train", "val", "test"}
    assert "the source has only val" in notices[0]


@pytest.mark.parametrize(("items", "share", "error"), [(3, 0.0, UsageError), (3, 1.0, UsageError), (1, 0.5, DataError)])
def test_what_cannot_be_dealt_is_refused(items, share, error):
    with pytest.raises(error):
        with_splits([item(str(n)) for n in range(items)], share)


@pytest.mark.parametrize(
    ("name", "split"),
    [("train2017", "train"), ("instances_val2017", "val"), ("valid", "val"), ("retrained", None), ("Test", "test")],
)
def test_a_split_is_told_by_a_whole_word(name, split):
    assert split_named(name) == split


def test_the_description_is_what_the_reader_of_folders_takes(tmp_path):
    write_dataset(source_of(tmp_path, [plain]), tmp_path / "d")
    text = (tmp_path / "d" / "dataset.toml").read_text()
    assert text == f'class_names = ["a", {json.dumps(LABELS.class_names[1], ensure_ascii=False)}]\n' + (
        "palette = [[1, 2, 3], [4, 5, 6]]\nignore_index = 255\n"
    )
