import numpy as np
import pytest
from PIL import Image

from lwrefinenet.data.convert.binary import read_binary
from lwrefinenet.data.convert.colours import proposed_colours, read_colours
from lwrefinenet.data.convert.masks import found_colours, read_palette, read_rgb
from lwrefinenet.data.convert.splits import with_splits
from lwrefinenet.data.convert.target import Source, write_dataset
from lwrefinenet.errors import DataError, UsageError
from lwrefinenet.images import opened_image, upright
from lwrefinenet.labels import CAMVID
from tests.foreign import LEFT, left_half_painted, mask_file, pairs_of, picture_file

ROAD, SKY, EDGE = (128, 64, 128), (70, 130, 180), (255, 255, 255)
TABLE = "road = [128, 64, 128]\nsky = [70, 130, 180]\nignore = [255, 255, 255]\n"


def write_source(root, masks, size=(2, 3), **options):
    for name, values in masks.items():
        picture_file(root / "images" / f"{name}.png", size)
        mask_file(root / "masks" / f"{name}.png", values, **options)
    return root


def colours_file(folder, text=TABLE, name="colours.toml"):
    (folder / name).write_text(text)
    return folder / name


def converted(source, destination):
    items, _ = with_splits(source.items, 0.5)
    report = write_dataset(Source(source.labels, items, source.extra, source.notices), destination)
    return report, {key.partition("/")[2]: pair for key, pair in pairs_of(destination).items()}


def test_colours_become_the_classes_of_the_table_and_ignore_counts_nowhere(tmp_path):
    mask = [[ROAD, SKY, EDGE], [ROAD, ROAD, SKY]]
    source = write_source(tmp_path / "s", {"a": mask, "b": mask})
    report, found = converted(read_rgb(source, colours=colours_file(tmp_path)), tmp_path / "d")
    assert found["a"][1].tolist() == [[0, 1, 255], [0, 0, 1]]
    assert report.shares == {"road": pytest.approx(3 / 6), "sky": pytest.approx(2 / 6)}
    assert report.ignored == pytest.approx(1 / 6)


def test_a_csv_with_header_and_a_second_colour_for_a_class_is_a_table_too(tmp_path):
    path = colours_file(tmp_path, "name,r,g,b\nsky,70,130,180\nroad,128,64,128\nsky, 1, 2, 3\n", "class_dict.csv")
    table = read_colours(path)
    assert table.labels.class_names == ("sky", "road")
    assert table.labels.palette[0] == SKY
    assert table.meanings == {SKY: 0, ROAD: 1, (1, 2, 3): 0}


def test_classes_give_the_order_of_the_table(tmp_path):
    assert read_colours(colours_file(tmp_path), ["sky", "road"]).meanings[SKY] == 0
    with pytest.raises(UsageError, match="has the classes road, sky"):
        read_colours(colours_file(tmp_path), ["sky"])


def test_a_dataset_toml_beside_the_masks_is_the_table_and_its_merging_goes_along(tmp_path):
    source = write_source(tmp_path / "s", {"a": [[ROAD, SKY, EDGE]], "b": [[ROAD, SKY, EDGE]]}, size=(1, 3))
    (source / "dataset.toml").write_text(
        'class_names = ["road", "sky", "cloud"]\npalette = [[128,64,128],[70,130,180],[255,255,255]]\nignore_index = 9\n'
        'licence = "mine"\n[merge]\ncloud = "sky"\n'
    )
    read = read_rgb(source)
    items, _ = with_splits(read.items, 0.5)
    write_dataset(Source(read.labels, items, read.extra), tmp_path / "d")
    assert pairs_of(tmp_path / "d")["val/" + next(i.stem for i in items if i.split == "val")][1].tolist() == [[0, 1, 1]]
    assert 'licence = "mine"' in (tmp_path / "d" / "dataset.toml").read_text()
    assert "ignore_index = 9" in (tmp_path / "d" / "dataset.toml").read_text()


def test_an_unknown_colour_is_an_error_with_file_colour_pixels_and_the_distance_to_allow(tmp_path):
    near = (130, 65, 130)  # 3 away from ROAD
    source = write_source(tmp_path / "s", {"a": [[ROAD, SKY, SKY]], "b": [[near, near, SKY]]}, size=(1, 3))
    read = read_rgb(source, colours=colours_file(tmp_path))
    with pytest.raises(DataError, match=r"b\.png: 2 pixels of the colour \[130, 65, 130\].*road.*--tolerance 3"):
        converted(read, tmp_path / "d")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["colours.toml", "s"]
    _, found = converted(read_rgb(source, colours=tmp_path / "colours.toml", tolerance=3), tmp_path / "d")
    assert found["b"][1].tolist() == [[0, 0, 1]]


def test_without_a_table_nothing_is_guessed_but_the_colours_are_proposed(tmp_path):
    source = write_source(tmp_path / "s", {"a": [[ROAD, ROAD, SKY]]}, size=(1, 3))
    with pytest.raises(UsageError, match="nothing says which colour is which class"):
        read_rgb(source)
    proposal = proposed_colours(found_colours(source))
    assert "class_0 = [128, 64, 128]  # 66.67 % of the pixels" in proposal
    table = read_colours(colours_file(tmp_path, proposal))
    assert table.meanings == {ROAD: 0, SKY: 1}


def test_the_colours_of_a_known_set_are_proposed_under_its_names(tmp_path):
    counts = dict.fromkeys(CAMVID.palette[:9], 5) | {(0, 0, 0): 5}
    proposal = proposed_colours(counts)
    table = read_colours(colours_file(tmp_path, proposal))
    assert table.labels.class_names == CAMVID.class_names
    assert table.meanings[0, 0, 0] == 255
    assert '"sign symbol" = [192, 128, 128]' in proposal
    assert "class_0" in proposed_colours(dict.fromkeys(CAMVID.palette[:9], 5) | {(1, 2, 3): 5})


def test_black_and_white_beside_a_known_set_are_one_line_that_can_be_read(tmp_path):
    proposal = proposed_colours(dict.fromkeys(CAMVID.palette[:9], 5) | {(0, 0, 0): 5, (255, 255, 255): 5})
    table = read_colours(colours_file(tmp_path, proposal))
    assert table.meanings[0, 0, 0] == table.meanings[255, 255, 255] == 255


def test_test_pictures_without_masks_are_left_out(tmp_path):
    source = write_source(tmp_path / "s", {"train/a": [[0, 255]], "val/b": [[255, 0]]}, size=(1, 2))
    picture_file(source / "images" / "test" / "c.png", (1, 2))
    assert {item.stem for item in read_binary(source).items} == {"a", "b"}
    (source / "masks" / "test").mkdir()
    with pytest.raises(DataError, match="has no mask"):
        read_binary(source)


def test_masks_with_countless_colours_are_said_to_be_blurred():
    proposal = proposed_colours({(n, 0, 0): 200 - n for n in range(50)})
    assert "and 10 more colours on 17.72 % of the pixels" in proposal
    assert "class_39 = [39, 0, 0]" in proposal


def test_alpha_is_dropped_with_a_notice_or_ignored_if_asked(tmp_path):
    mask = [[(*ROAD, 255), (*SKY, 0)]]
    source = write_source(tmp_path / "s", {"a": mask, "b": mask}, size=(1, 2))
    table = colours_file(tmp_path)
    report, found = converted(read_rgb(source, colours=table), tmp_path / "d")
    assert found["a"][1].tolist() == [[0, 1]]
    assert any("alpha: dropped" in notice and count == 2 for notice, count in report.notices.items())
    _, found = converted(read_rgb(source, colours=table, transparent_ignore=True), tmp_path / "e")
    assert found["a"][1].tolist() == [[0, 255]]


@pytest.mark.parametrize(
    "text", ["road = [1, 2]", "road = [1, 2, 300]", 'road = "red"', "a = [1,1,1]\nb = [1,1,1]", "a ="]
)
def test_a_table_that_does_not_say_it_clearly_is_refused_by_name(tmp_path, text):
    with pytest.raises(DataError, match=r"colours\.toml: "):
        read_colours(colours_file(tmp_path, text))


def test_palette_indices_are_kept_and_named(tmp_path):
    mask = [[0, 1, 255], [2, 1, 0]]
    palette = [(0, 0, 0), (9, 8, 7), (1, 2, 3)] + [(0, 0, 0)] * 253
    source = write_source(tmp_path / "s", {"a": mask, "b": mask}, palette=palette)
    _, found = converted(read_palette(source, classes=["bg", "x", "y"]), tmp_path / "d")
    assert found["a"][1].tolist() == mask
    assert "[9, 8, 7]" in (tmp_path / "d" / "dataset.toml").read_text()


def test_palette_colours_are_used_where_a_table_is_given(tmp_path):
    source = write_source(tmp_path / "s", {"a": [[0, 1]], "b": [[0, 1]]}, size=(1, 2), palette=[SKY, ROAD])
    _, found = converted(read_palette(source, colours=colours_file(tmp_path)), tmp_path / "d")
    assert found["a"][1].tolist() == [[1, 0]]


def test_indices_without_names_are_listed_with_a_line_to_paste(tmp_path):
    source = write_source(tmp_path / "s", {"a": [[0, 2, 255, 0]]}, size=(1, 4))
    with pytest.raises(UsageError, match=r"0 \(50\.0 %\), 2 \(25\.0 %\), 255 .*--classes class_0,class_1,class_2$"):
        read_palette(source)
    with pytest.raises(DataError, match=r"a\.png: holds index 2 \(1 pixels\), but 2 classes are named"):
        read_palette(source, classes=["x", "y"]).items[0].draw(opened(source))


@pytest.mark.parametrize(("value", "mode"), [(255, None), (1, None), (128, None), (65535, "I;16"), (300, "I;16")])
def test_a_binary_mask_is_background_and_one_class(tmp_path, value, mode):
    source = write_source(tmp_path / "s", {"a": [[0, value, 0]], "b": [[0, 0, value]]}, size=(1, 3), mode=mode)
    report, found = converted(read_binary(source), tmp_path / "d")
    assert found["a"][1].tolist() == [[0, 1, 0]]
    assert list(report.shares) == ["background", "foreground"]


def test_binary_masks_saved_as_rgb_or_one_bit_are_read_as_well(tmp_path):
    source = write_source(tmp_path / "s", {"a": [[(0, 0, 0), (255, 255, 255)]]}, size=(1, 2))
    picture_file(source / "images" / "b.png", (1, 2))
    Image.fromarray(np.array([[True, False]])).save(source / "masks" / "b.png")
    _, found = converted(read_binary(source, classes=["no", "yes"]), tmp_path / "d")
    assert [found[name][1].tolist() for name in "ab"] == [[[0, 1]], [[1, 0]]]


def test_a_binary_mask_with_three_values_is_an_error_with_the_values(tmp_path):
    source = write_source(tmp_path / "s", {"a": [[0, 7, 255]], "b": [[0, 0, 255]]}, size=(1, 3))
    with pytest.raises(DataError, match=r"a\.png: holds 3 values, 0, 7, 255; a binary mask has two"):
        converted(read_binary(source), tmp_path / "d")
    _, found = converted(read_binary(source, tolerance=7), tmp_path / "d")
    assert found["a"][1].tolist() == [[0, 0, 1]]


def test_two_binary_masks_with_different_values_are_no_binary_set(tmp_path):
    source = write_source(tmp_path / "s", {"a": [[0, 3]], "b": [[0, 5]]}, size=(1, 2))
    with pytest.raises(DataError, match="one value means the class"):
        converted(read_binary(source), tmp_path / "d")


@pytest.mark.parametrize("orientation", [3, 6])
@pytest.mark.parametrize("size", [(6, 8), (6, 6)])
def test_a_mask_that_is_upright_stays_aligned_with_a_turned_picture(tmp_path, orientation, size):
    for name in "ab":
        path = picture_file(tmp_path / "s" / "images" / f"{name}.png", size, orientation=orientation)
        upright = np.array(opened(tmp_path / "s", path).image)
        mask_file(tmp_path / "s" / "masks" / f"{name}.png", upright_mask(upright, orientation) * 255)
    report, found = converted(read_binary(tmp_path / "s"), tmp_path / "d")
    assert left_half_painted(found["a"])
    undecided = size == (6, 6) or orientation == 3
    assert any("taken as labelled upright" in notice for notice in report.notices) == undecided


def test_a_mask_in_the_stored_size_of_a_turned_picture_is_turned_with_it(tmp_path):
    stored = np.zeros((6, 8), np.uint8)
    stored[:, :4] = 255
    for name in "ab":
        picture_file(tmp_path / "s" / "images" / f"{name}.png", orientation=6)
        mask_file(tmp_path / "s" / "masks" / f"{name}.png", stored)
    _, found = converted(read_binary(tmp_path / "s"), tmp_path / "d")
    assert left_half_painted(found["a"])
    assert found["a"][1].shape == (8, 6)


def test_a_mask_of_another_size_is_refused_with_both_sizes(tmp_path):
    source = write_source(tmp_path / "s", {"a": [[0, 255]], "b": [[0, 255]]})
    with pytest.raises(DataError, match=r"a\.png: the mask is 2x1, but its picture .*a\.png is 3x2"):
        converted(read_binary(source), tmp_path / "d")


@pytest.mark.parametrize(
    ("gone", "message"), [("masks/a.png", "has no mask"), ("images/a.png", "the mask of no picture")]
)
def test_pictures_and_masks_without_their_partner_are_named(tmp_path, gone, message):
    source = write_source(tmp_path / "s", {"a": [[0, 255]], "b": [[0, 255]]}, size=(1, 2))
    (source / gone).unlink()
    with pytest.raises(DataError, match=rf"a\.png: .*{message}"):
        read_binary(source)


def test_split_folders_are_kept_and_valid_means_val(tmp_path):
    for split in ("train", "valid"):
        picture_file(tmp_path / "s" / "images" / split / "a.png", (1, 2))
        mask_file(tmp_path / "s" / "masks" / split / "a_mask.png", [[0, 255]])
    report, _ = converted(read_binary(tmp_path / "s"), tmp_path / "d")
    assert report.pictures == {"train": 1, "val": 1}
    assert (tmp_path / "d" / "masks" / "val" / "a.png").is_file()


def opened(root, path=None):
    with opened_image(path or next((root / "images").iterdir())) as image:
        return image


def upright_mask(stored_pixels, orientation):
    return upright((stored_pixels == LEFT).all(axis=2).astype(np.uint8), orientation)
