import numpy as np
import pytest
from PIL import Image

from lwrefinenet.data.dataset import ConcatenatedDataset
from lwrefinenet.data.folder import folder_dataset
from lwrefinenet.data.layouts import open_dataset
from lwrefinenet.errors import DataError
from tests.foreign import mask_file, picture_file
from tests.pictures import write_list
from tests.shapes import shapes_picture, write_shapes


@pytest.fixture
def root(tmp_path):
    return write_shapes(tmp_path, train=3, val=2)


def test_a_sample_is_the_written_picture_and_mask(root):
    pixels, mask = folder_dataset(root, "train")[2]
    expected_pixels, expected_mask = shapes_picture(seed=2)
    assert np.array_equal(pixels, expected_pixels)
    assert np.array_equal(mask, expected_mask)


def test_an_unknown_class_is_named_with_file_value_and_count(root):
    path = root / "masks" / "train" / "001.png"
    mask = np.array(Image.open(path))
    mask[:2, :3] = 7
    Image.fromarray(mask).save(path)
    with pytest.raises(DataError, match=r"001\.png: mask holds value 7 \(6 pixels\).*classes 0-2"):
        folder_dataset(root, "train")[1]


def test_a_mask_of_another_size_is_named_with_both_sizes(root):
    path = root / "masks" / "train" / "000.png"
    Image.fromarray(np.zeros((10, 20), np.uint8)).save(path)
    with pytest.raises(DataError, match=r"000\.png: the mask is 20x10, its picture 000\.png is 80x64"):
        folder_dataset(root, "train")[0]


def test_a_mask_stored_like_a_turned_photo_is_turned_with_it(root):
    pixels, mask = shapes_picture(seed=0)
    turn_right = Image.Exif()
    turn_right[0x0112] = 6
    Image.fromarray(pixels).save(root / "images" / "train" / "000.png", exif=turn_right)
    turned_pixels, turned_mask = folder_dataset(root, "train")[0]
    assert np.array_equal(turned_pixels, np.rot90(pixels, -1))
    assert np.array_equal(turned_mask, np.rot90(mask, -1))


def test_a_picture_without_mask_is_named(root):
    (root / "masks" / "val" / "001.png").unlink()
    with pytest.raises(DataError, match=r"images/val/001\.png: has no mask; expected .*masks/val/001\.png. 1 of 2"):
        folder_dataset(root, "val")


def test_merged_classes_take_the_index_of_their_new_class(root):
    (root / "dataset.toml").write_text('class_names = ["nothing", "square", "disc"]\n[merge]\nsquare = "disc"\n')
    dataset = folder_dataset(root, "train")
    assert dataset.labels.class_names == ("nothing", "disc")
    assert np.array_equal(dataset[1][1], shapes_picture(seed=1)[1] > 0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("classes = 3", "unknown field 'classes'"),
        ('class_names = "square"', "class_names must be a list"),
        ('class_names = ["a", "a"]', "a name twice"),
        ('class_names = ["a"]\npalette = [[0, 0, 0], [1, 1, 1]]', "2 colours for 1 class_names"),
        ('class_names = ["a", "b"]\nignore_index = 1', "ignore index 1 is also a class"),
        ('class_names = ["a"]\n[merge]\nb = "a"', "merge speaks of 'b'"),
        ("class_names = [", "not valid TOML"),
    ],
)
def test_a_faulty_description_is_one_clear_sentence(root, text, message):
    (root / "dataset.toml").write_text(text)
    with pytest.raises(DataError, match=message):
        folder_dataset(root, "train")


def flatten(root, lines):
    """The set without folders per split, and a list of the pictures of `train`."""
    for folder in ("images", "masks"):
        for path in sorted((root / folder / "train").iterdir()):
            path.rename(root / folder / path.name)
        (root / folder / "train").rmdir()
    write_list(root / "train.txt", *lines)


@pytest.mark.parametrize(
    "lines",
    [("002", "000"), ("002.png", "images/000.png"), ("images/002.png\tmasks/002.png", "images/000.png\tmasks/000.png")],
    ids=["stems", "pictures", "pairs"],
)
def test_a_list_says_which_pictures_belong_to_a_split(root, lines):
    flatten(root, lines)
    dataset = folder_dataset(root, "train")
    assert [sample.image.stem for sample in dataset.samples] == ["002", "000"]
    assert np.array_equal(dataset[0][1], shapes_picture(seed=2)[1])


def test_a_list_may_name_pictures_in_folders(root):
    flatten(root, ["street/001.png"])
    for folder in ("images", "masks"):
        (root / folder / "street").mkdir()
        (root / folder / "001.png").rename(root / folder / "street" / "001.png")
    assert folder_dataset(root, "train").samples[0].mask == root / "masks" / "street" / "001.png"


def test_a_stem_without_picture_is_named_with_its_list(root):
    flatten(root, ["000", "nothing"])
    with pytest.raises(DataError, match=r"images/nothing: no such file, but .*train\.txt calls for it"):
        folder_dataset(root, "train")
    (root / "train.txt").write_text("\n")
    with pytest.raises(DataError, match=r"train\.txt: is empty"):
        folder_dataset(root, "train")
    (root / "train.txt").unlink()
    with pytest.raises(DataError, match=r"images/train: no such folder.*or a list of them in .*train\.txt"):
        folder_dataset(root, "train")


def test_camvid_layout_is_recognised_and_void_is_ignored(tmp_path):
    for folder, array in (("test", np.zeros((4, 5, 3), np.uint8)), ("testannot", np.full((4, 5), 11, np.uint8))):
        (tmp_path / folder).mkdir()
        Image.fromarray(array).save(tmp_path / folder / "a.png")
    dataset = open_dataset(tmp_path)
    assert (dataset.name, dataset.split) == ("camvid", "test")
    assert (dataset[0][1] == 255).all()


def test_nyu_layout_is_recognised_and_the_published_crop_is_625x468(tmp_path):
    for folder, array in (("images", np.zeros((480, 640, 3), np.uint8)), ("labels", np.full((480, 640), 39, np.uint8))):
        (tmp_path / folder).mkdir()
        array[6:474, 7:632] = 1
        Image.fromarray(array).save(tmp_path / folder / ("000007.jpg" if folder == "images" else "000007.png"))
    for split in ("train", "test"):
        (tmp_path / f"{split}.txt").write_text("000007\n")
    pixels, mask = open_dataset(tmp_path, published_crop=True)[0]
    assert pixels.shape == (468, 625, 3)
    assert (mask == 1).all()
    assert (open_dataset(tmp_path)[0][1] == 39).any()


def test_a_folder_of_no_known_layout_says_what_is_expected(tmp_path):
    with pytest.raises(DataError, match=r"Expected one of: dataset\.toml .* trainannot/ .* train\.txt"):
        open_dataset(tmp_path)


def test_a_drive_of_camvids_train_is_held_out_for_choices(shared_data):
    root = shared_data / "camvid"
    whole, fit, held_out = (open_dataset(root, split).samples for split in ("train", "train_fit", "train_holdout"))
    assert (len(fit), len(held_out)) == (266, 101)
    assert set(fit) | set(held_out) == set(whole)
    drives = [{sample.image.name.partition("_")[0] for sample in part} for part in (fit, held_out)]
    assert not drives[0] & drives[1]


def test_camvid_under_other_names_has_no_drive_to_hold_out(tmp_path):
    picture_file(tmp_path / "train" / "a.png", (2, 3))
    mask_file(tmp_path / "trainannot" / "a.png", [[0, 1, 2]] * 2)
    with pytest.raises(DataError, match=r"train: all pictures, or none, have names that begin with 0006R0"):
        open_dataset(tmp_path, "train_fit")


def test_camvid_as_it_lies_here_has_the_published_split(shared_data):
    sizes = [len(open_dataset(shared_data / "camvid", split)) for split in ("train", "val", "test")]
    assert sizes == [367, 101, 233]


def test_nyu_as_it_lies_here_has_the_published_split(shared_data):
    assert [len(open_dataset(shared_data / "nyudv2", split)) for split in ("train", "test")] == [795, 654]


def test_concatenated_sets_follow_one_another(tmp_path):
    first = folder_dataset(write_shapes(tmp_path / "a", train=2, val=1), "train")
    second = folder_dataset(write_shapes(tmp_path / "b", train=3, val=1), "train")
    both = ConcatenatedDataset((first, second))
    assert len(both) == 5
    assert [both.sample(index) for index in range(5)] == [*first.samples, *second.samples]
    assert np.array_equal(both[4][1], second[2][1])
    assert (both.name, both.split, both.parts) == ("a+b", "train", (first, second))
    with pytest.raises(IndexError):
        both[5]


def test_sets_with_other_classes_are_not_concatenated(tmp_path):
    first = folder_dataset(write_shapes(tmp_path / "a"), "train")
    root = write_shapes(tmp_path / "b")
    (root / "dataset.toml").write_text('class_names = ["nothing", "disc", "square"]\n')
    with pytest.raises(DataError, match="same classes"):
        ConcatenatedDataset((first, folder_dataset(root, "train")))
