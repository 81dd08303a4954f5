import re
import shutil
import subprocess

import numpy as np
import pytest
from PIL import Image

from lwrefinenet.data.check import check_datasets, check_folder, require_sound
from lwrefinenet.data.dataset import ConcatenatedDataset
from lwrefinenet.data.folder import folder_dataset
from lwrefinenet.data.layouts import open_dataset
from lwrefinenet.errors import DataError, UsageError
from lwrefinenet.labels import CITYSCAPES, voc_palette
from tests.shapes import write_shapes

PALETTE = np.array(voc_palette(3), np.uint8)
STATED = f"palette = {PALETTE.tolist()}\n"


@pytest.fixture
def root(tmp_path):
    return write_shapes(tmp_path / "blocks", train=4, val=2)


def redraw(root, change, *, splits=("train", "val"), suffix=".png", **options):
    """Write every mask anew: `change` makes an array or a Pillow image of its class indices."""
    for split in splits:
        for path in sorted((root / "masks" / split).iterdir()):
            drawn = change(np.array(Image.open(path)))
            path.unlink()
            image = drawn if isinstance(drawn, Image.Image) else Image.fromarray(drawn)
            image.save(path.with_suffix(suffix), **options)


def describe(root, text):
    with (root / "dataset.toml").open("a") as file:
        file.write(text)


def finding(root, kind, severity="error"):
    """The one finding of a kind, the sentence with everything in it."""
    (found,) = [found for found in check_folder(root).findings if found.kind == kind]
    assert found.severity == severity
    return found, str(found)


def test_a_sound_folder_has_no_findings(root):
    assert check_folder(root).findings == ()
    assert require_sound(folder_dataset(root, "train"), folder_dataset(root, "val")).findings == ()


def test_unknown_class_ids_are_named_with_pixels_files_and_the_line_that_names_them(root):
    path = root / "masks" / "train" / "001.png"
    mask = np.array(Image.open(path))
    mask[:2, :3] = 4
    Image.fromarray(mask).save(path)
    found, text = finding(root, "unknown class ids")
    assert found.files == (path,)
    assert "value 4 (6 pixels in 1 mask)" in text
    assert "class indices 0-2 and ignore index 255 (nothing, square, disc)" in text
    assert 'class_names = ["nothing", "square", "disc", "class_3", "class_4"]' in text
    assert "ignore_index = 4" in text


def test_following_the_advice_on_an_unknown_id_mends_it(root):
    path = root / "masks" / "train" / "001.png"
    Image.fromarray(np.where(np.array(Image.open(path)) == 0, 4, 1).astype(np.uint8)).save(path)
    line = re.search(r"ignore_index = 4", finding(root, "unknown class ids")[1])[0]
    describe(root, line + "\n")
    assert not check_folder(root).errors


def test_one_value_too_many_hints_at_a_name_that_is_missing_at_the_start(root):
    redraw(root, lambda mask: mask + np.uint8(1))
    assert 'class_names = ["unlabelled", "nothing", "square", "disc"]' in finding(root, "unknown class ids")[1]


def test_binary_masks_of_0_and_255_are_told_although_255_is_ignored(root):
    (root / "dataset.toml").write_text('class_names = ["nothing", "shape"]\n')
    redraw(root, lambda mask: (mask > 0) * np.uint8(255))
    report = check_folder(root)
    assert [found.kind for found in report.findings] == ["binary masks"]
    text = str(report.findings[0])
    assert "255 is ignored, so that nothing but class 0 is learnt" in text
    assert f"lwrefinenet data convert {root} --from binary --output {root}_fixed" in text


def test_binary_masks_for_other_than_two_classes_are_given_two_names(root):
    redraw(root, lambda mask: (mask > 0) * np.uint8(128))
    text = finding(root, "binary masks")[1]
    assert "128 is no class" in text
    assert "--from binary --classes background,object" in text


def test_binary_masks_with_smoothed_edges_are_told(root):
    (root / "dataset.toml").write_text('class_names = ["nothing", "shape"]\n')
    redraw(root, lambda mask: Image.fromarray((mask > 0) * np.uint8(255)).resize((320, 256)).resize((80, 64), 1))
    text = finding(root, "binary masks")[1]
    assert "smoothed edges" in text
    assert "--from binary --tolerance 127 --output" in text


def test_masks_of_class_0_and_void_in_one_file_are_not_binary(root):
    path = root / "masks" / "train" / "000.png"
    Image.fromarray((np.array(Image.open(path)) > 0) * np.uint8(255)).save(path)
    assert not check_folder(root).errors


def palette_image(indices, colours):
    image = Image.fromarray(indices)
    image.putpalette(np.array(colours, np.uint8).tobytes())
    return image


def test_palette_pngs_whose_indices_are_the_classes_are_fine(root):
    describe(root, STATED)
    redraw(root, lambda mask: palette_image(mask, PALETTE))
    assert check_folder(root).findings == ()


def test_palette_pngs_whose_colours_contradict_the_palette_are_told(root):
    describe(root, STATED)
    redraw(root, lambda mask: palette_image(2 - mask, PALETTE[::-1]))
    text = finding(root, "palette indices that are no classes")[1]
    assert "which dataset.toml gives to" in text
    assert f"data convert {root} --from palette" in text


def test_palettes_that_differ_from_file_to_file_are_told(root):
    redraw(root, lambda mask: palette_image(mask, PALETTE), splits=("train",))
    redraw(root, lambda mask: palette_image(2 - mask, PALETTE[::-1]), splits=("val",))
    found, text = finding(root, "palette indices that are no classes")
    assert {path.parent.name for path in found.files} == {"val"}
    assert "an index means another class in each file" in text
    assert "--write-colours" in text


def test_colour_quantised_palettes_are_told(root):
    noisy = np.random.default_rng(0).integers(0, 64, (64, 80)).astype(np.uint8)
    redraw(root, lambda mask: palette_image(noisy, np.arange(192).reshape(64, 3)))
    assert "64 indices in one mask" in finding(root, "palette indices that are no classes")[1]


def test_rgb_masks_are_told_with_their_colours_and_the_command(root):
    describe(root, STATED)
    redraw(root, lambda mask: PALETTE[mask])
    found, text = finding(root, "RGB-coloured masks")
    assert len(found.files) == 6
    assert "and 3 more" in text
    assert "(0, 0, 0) " in text and "(128, 0, 0) " in text
    assert f"lwrefinenet data convert {root} --from rgb --output {root}_fixed" in text


def test_rgb_masks_without_a_palette_are_given_the_line_of_their_colours(root):
    redraw(root, lambda mask: PALETTE[mask])
    assert "palette = [[0, 0, 0], [0, 128, 0], [128, 0, 0]]" in finding(root, "RGB-coloured masks")[1]


def test_rgb_masks_with_smoothed_edges_are_taken_by_the_nearest_colour(root):
    describe(root, STATED)
    redraw(root, lambda mask: Image.fromarray(PALETTE[mask]).resize((160, 128)).resize((80, 64)))
    assert "--from rgb --tolerance 128" in finding(root, "RGB-coloured masks")[1]


def run_python_advice(text):
    subprocess.run(re.search(r"[Rr]un: (\S*python\S* -c .*)", text)[1], shell=True, check=True)


def test_class_indices_in_three_channels_are_mended_by_the_command(root):
    redraw(root, lambda mask: np.dstack([mask] * 3), splits=("train",))
    text = finding(root, "RGB-coloured masks")[1]
    assert "the same value in red, green and blue" in text
    run_python_advice(text)
    assert not check_folder(root).errors


def test_a_few_coloured_masks_among_index_masks_are_mended_by_the_command(root):
    describe(root, STATED)
    path = root / "masks" / "train" / "002.png"
    mask = np.array(Image.open(path))
    Image.fromarray(PALETTE[mask]).save(path)
    run_python_advice(finding(root, "RGB-coloured masks")[1])
    assert np.array_equal(np.array(Image.open(path)), mask)


def test_alpha_is_told(root):
    describe(root, STATED)
    redraw(root, lambda mask: np.dstack([PALETTE[mask], np.full(mask.shape, 255, np.uint8)]))
    text = finding(root, "masks with alpha")[1]
    assert "mode RGBA" in text
    assert "--from rgb" in text


def test_grey_masks_with_alpha_are_mended_by_the_command(root):
    redraw(root, lambda mask: np.dstack([mask, np.full_like(mask, 255)]), splits=("train",))
    run_python_advice(finding(root, "masks with alpha")[1])
    assert not check_folder(root).errors


def test_16_bit_masks_with_large_values_are_mended_by_the_command(root):
    redraw(root, lambda mask: mask.astype(np.uint16) * 257, splits=("train",))
    text = finding(root, "16-bit masks")[1]
    assert re.search(r"257 \(\d+ pixels\)", text)
    assert "8-bit values stretched to 16" in text
    run_python_advice(text)
    assert not check_folder(root).errors


def test_16_bit_masks_whose_values_fit_are_only_noted(root):
    redraw(root, lambda mask: mask.astype(np.uint16))
    assert "16 bits per pixel with values that fit 8 bits" in finding(root, "16-bit masks", "note")[1]


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_jpeg_masks_are_told_whatever_their_name(root, suffix):
    redraw(root, lambda mask: mask * np.uint8(100), suffix=suffix, format="JPEG")
    text = finding(root, "JPEG-compressed masks")[1]
    assert "lossy compression" in text
    assert "as PNG" in text


def test_jpeg_masks_of_two_values_can_be_converted(root):
    redraw(root, lambda mask: (mask > 0) * np.uint8(255), format="JPEG", quality=95)
    assert "--from binary --tolerance 127" in finding(root, "JPEG-compressed masks")[1]


def test_a_mask_of_another_size_is_told_and_mended_by_the_command(root):
    path = root / "masks" / "val" / "000.png"
    Image.open(path).resize((40, 32), Image.Resampling.NEAREST).save(path)
    text = finding(root, "mask and picture differ in size")[1]
    assert "the mask is 40x32, its picture 000.png is 80x64" in text
    run_python_advice(text)
    assert not check_folder(root).errors


def turn(path, orientation, size=None):
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = Image.open(path).copy()
    (image.resize(size) if size else image).save(path, exif=exif)


def test_a_turned_photo_with_its_mask_as_stored_is_noted(root):
    turn(root / "images" / "train" / "000.png", 6)
    text = finding(root, "EXIF-turned pictures with masks as stored", "note")[1]
    assert "000.png is shown turned to the right, its mask is not" in text
    assert "exiftool -Orientation=" in text


@pytest.mark.parametrize(("orientation", "size"), [(3, None), (6, (64, 64))])
def test_a_turned_photo_whose_mask_may_lie_either_way_is_a_warning(root, orientation, size):
    turn(root / "images" / "train" / "000.png", orientation, size)
    if size:
        path = root / "masks" / "train" / "000.png"
        Image.open(path).resize(size, Image.Resampling.NEAREST).save(path)
    assert "nothing tells whether" in finding(root, "EXIF-turned pictures whose masks may not be", "warning")[1]


def test_a_picture_in_train_and_val_is_told(root):
    shutil.copy(root / "images" / "val" / "001.png", root / "images" / "train" / "003.png")
    found, text = finding(root, "the same pictures in train and val", "warning")
    assert found.files == (root / "images" / "train" / "003.png",)
    assert "003.png of train is byte for byte 001.png of val" in text
    subprocess.run(text.partition("out of train: ")[2], shell=True, check=True)
    assert not check_folder(root).findings and not (root / "masks" / "train" / "003.png").exists()


def test_a_picture_in_two_lists_is_told(root):
    for split in ("train", "val"):
        (root / f"{split}.txt").write_text("".join(f"{split}/{n:03}.png\n" for n in range(2)))
    (root / "val.txt").write_text((root / "val.txt").read_text() + "train/001.png\n")
    for name in ("images", "masks"):
        (root / name).rename(root / "old")
        (root / name).mkdir()
        for split in ("train", "val"):
            (root / "old" / split).rename(root / name / f"of_{split}")
        (root / "old").rmdir()
    for split in ("train", "val"):
        names = root / f"{split}.txt"
        names.write_text(names.read_text().replace("train/", "of_train/").replace("val/", "of_val/"))
    found, text = finding(root, "the same pictures in train and val", "warning")
    assert found.files == (root / "images" / "of_train" / "001.png",)
    assert text.rstrip(".").endswith(f"Take them out of {root / 'train.txt'}")


def test_pairs_that_are_put_aside_stay_whole_and_lie_apart(root, tmp_path):
    """Pictures and masks are both PNGs of one name here, in two splits; four pairs are more than a command writes out."""
    for split, number in (("train", 0), ("train", 1), ("train", 2), ("train", 3), ("val", 0)):
        path = root / "images" / split / f"{number:03}.png"
        path.write_bytes(path.read_bytes()[:-40])
    text = finding(root, "damaged pictures")[1]
    (tmp_path / "at").mkdir()
    subprocess.run(text.partition("take the pairs out: ")[2], shell=True, check=True, cwd=tmp_path / "at")
    aside = {str(path.relative_to(tmp_path / "at" / "aside")) for path in (tmp_path / "at").rglob("*.png")}
    pairs = {path.removeprefix("images/") for path in aside if path.startswith("images/")}
    assert "val/000.png" in pairs and len(pairs) >= 4
    assert aside == {f"{folder}/{pair}" for folder in ("images", "masks") for pair in pairs}


def test_depth_without_masks_is_a_sound_split(root):
    """As docs/tasks.md describes it."""
    for path in (root / "masks" / "train").iterdir():
        target = root / "depth" / "train" / path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", Image.open(path).size, 7).save(target)
        path.unlink()
    (root / "masks" / "train").rmdir()
    describe(root, "depth_scale = 0.1\n")
    assert not check_folder(root).errors
    (root / "depth" / "train" / "002.png").unlink()
    assert "has neither mask nor depth" in finding(root, "depth that cannot be read")[1]


@pytest.mark.parametrize("count", [3, 20])
def test_masks_beside_numbers_without_zeros_are_those_of_their_pictures(tmp_path, count):
    """10_mask begins with 1, and is no mask of it."""
    for folder in ("images", "masks"):
        (tmp_path / folder / "train").mkdir(parents=True)
    for number in range(1, count + 1):
        Image.new("RGB", (8, 8), (number, 0, 0)).save(tmp_path / "images" / "train" / f"{number}.png")
        Image.new("L", (8, 8), number % 2).save(tmp_path / "masks" / "train" / f"{number}_mask.png")
    (tmp_path / "dataset.toml").write_text('class_names = ["even", "odd"]\n')
    kinds = {found.kind for found in check_folder(tmp_path).findings}
    assert kinds & {"masks under another name", "pictures without masks", "masks without pictures"} == {
        "masks under another name"
    }
    command = finding(tmp_path, "masks under another name")[1].partition("Run: ")[2]
    subprocess.run(["bash", "-c", command], check=True)
    samples = folder_dataset(tmp_path, "train")
    assert all(samples[n][1].max() == samples[n][0].max() % 2 for n in range(count))


def test_an_instance_number_is_cut_off_only_where_every_class_has_one(root):
    redraw(root, lambda mask: np.choose(mask, [0, 1000, 2001]).astype(np.uint16))
    assert "// 1000" in finding(root, "16-bit masks")[1]
    redraw(
        root, lambda mask: np.where(mask == 2001, 26001, mask // 1000 * 7).astype(np.uint16)
    )  # 7 is Cityscapes' road
    assert "// 1000" not in finding(root, "16-bit masks")[1]


@pytest.mark.parametrize("missing", [0, 4, None])
def test_advice_on_class_names_holds_beside_a_palette(root, missing):
    """Such as `data convert` writes: one name too few at the start, at the end, or one too many."""
    names = 'class_names = ["nothing", "square", "disc"]'
    describe(root, STATED)
    if missing is None:
        description = (root / "dataset.toml").read_text().replace(names, names.replace("]", ', "ring"]'))
        (root / "dataset.toml").write_text(description.replace("[128, 0, 0]", "[128, 0, 0], [1, 2, 3]"))
        text = finding(root, "classes that never occur", "warning")[1]
    else:
        redraw(root, lambda mask: (mask + 1 if missing == 0 else np.where(mask == 0, 4, mask)).astype(np.uint8))
        text = finding(root, "unknown class ids")[1]
    lines = re.search(r"(class_names = \[.*?\]) and (palette = \[\[.*?\]\])", text)
    (root / "dataset.toml").write_text(f"{lines[1]}\n{lines[2]}\n")
    assert not check_folder(root).errors


def test_a_colour_that_no_class_has_is_not_made_one(root):
    """A few coloured masks among index masks, with some pixels of another colour."""
    describe(root, STATED)
    path = root / "masks" / "train" / "001.png"
    coloured = PALETTE[np.array(Image.open(path))]
    before = np.array(Image.open(path))
    coloured[0, :2] = (9, 9, 9)
    Image.fromarray(coloured).save(path)
    command = finding(root, "RGB-coloured masks")[1].partition("Run: ")[2]
    subprocess.run(command, shell=True, check=True)
    before[0, :2] = 255
    assert np.array_equal(np.array(Image.open(path)), before)


def test_masks_of_ignore_only_are_told(root):
    Image.fromarray(np.full((64, 80), 255, np.uint8)).save(root / "masks" / "train" / "002.png")
    found, text = finding(root, "empty masks", "warning")
    assert found.files == (root / "masks" / "train" / "002.png",)
    assert "with nothing but the ignore index 255" in text


def test_masks_of_background_only_are_noted(root):
    Image.fromarray(np.zeros((64, 80), np.uint8)).save(root / "masks" / "train" / "002.png")
    assert "1 of 6 masks hold only class 0, nothing" in finding(root, "masks of one class only", "note")[1]


def test_cityscapes_ids_are_told_from_other_unknown_values(root):
    names = ", ".join(f'"{name}"' for name in CITYSCAPES.class_names)
    (root / "dataset.toml").write_text(f"class_names = [{names}]\n")
    redraw(root, lambda mask: np.choose(mask, [7, 26, 33]).astype(np.uint8))
    text = finding(root, "Cityscapes label ids")[1]
    assert "value 26 (" in text
    assert "train ids 0-18" in text
    assert "csCreateTrainIdLabelImgs" in text


@pytest.mark.parametrize("folder", ["images", "masks"])
def test_a_damaged_file_is_told(root, folder):
    path = root / folder / "train" / "001.png"
    path.write_bytes(path.read_bytes()[:-40])
    found, text = finding(root, f"damaged {'pictures' if folder == 'images' else 'masks'}")
    assert found.files == (path,)
    assert "cannot be decoded" in text


def test_a_picture_cut_off_is_noticed_although_its_header_is_whole(root):
    path = root / "images" / "train" / "001.jpg"
    Image.open(path.with_suffix(".png")).save(path)
    path.with_suffix(".png").unlink()
    path.write_bytes(path.read_bytes()[:-200])
    assert finding(root, "damaged pictures")[0].files == (path,)


def test_classes_absent_from_val_are_told_with_a_picture_to_move(root):
    redraw(root, lambda mask: np.where(mask == 2, 0, mask).astype(np.uint8), splits=("val",))
    text = finding(root, "classes absent from val", "warning")[1]
    assert "disc in no mask of val" in text
    assert re.search(r"mv \S+images/train/\d+\.png \S+images/val/ && mv \S+masks/train/\d+\.png", text)


def test_classes_absent_from_train_are_told(root):
    redraw(root, lambda mask: np.where(mask == 2, 0, mask).astype(np.uint8), splits=("train",))
    assert "disc in no mask of train" in finding(root, "classes absent from train", "warning")[1]


def test_classes_that_never_occur_are_told_with_the_shorter_line(root):
    (root / "dataset.toml").write_text('class_names = ["nothing", "square", "disc", "ring"]\n')
    text = finding(root, "classes that never occur", "warning")[1]
    assert "ring in no mask" in text
    assert 'class_names = ["nothing", "square", "disc"]' in text


def test_rare_classes_are_noted_with_the_recipe_line(root):
    def nine_pixels_of_disc(mask):
        mask = np.minimum(mask, 1)
        mask[5, :9] = 2
        return mask

    redraw(root, nine_pixels_of_disc)
    text = finding(root, "rare classes", "note")[1]
    assert "disc 0.18% of the pixels in 4 pictures" in text  # 9 of 64 * 80
    assert "--set class_weight_power=0.5" in text


def test_training_is_refused_with_every_error(root):
    redraw(root, lambda mask: PALETTE[mask], splits=("train",))
    Image.fromarray(np.zeros((9, 9), np.uint8)).save(root / "masks" / "val" / "000.png")
    with pytest.raises(DataError, match="RGB-coloured masks(.|\n)*differ in size") as caught:
        require_sound(folder_dataset(root, "train"), folder_dataset(root, "val"))
    assert str(caught.value).count("\n") == 1


def test_of_concatenated_sets_each_folder_has_its_own_command(root, tmp_path):
    other = write_shapes(tmp_path / "more", train=2, val=1)
    redraw(other, lambda mask: PALETTE[mask])
    both = ConcatenatedDataset((folder_dataset(root, "train"), folder_dataset(other, "train")))
    (error,) = check_datasets(both, folder_dataset(root, "val")).errors
    assert f"lwrefinenet data convert {other} --from rgb --output {other}_fixed" in error.fix


def test_a_folder_that_does_not_exist_is_a_usage_error(tmp_path):
    with pytest.raises(UsageError, match="no such data folder"):
        check_folder(tmp_path / "nowhere")


def test_a_folder_of_no_layout_says_what_is_expected(tmp_path):
    with pytest.raises(DataError, match="not a data folder that is known"):
        check_folder(tmp_path)


def test_camvid_as_it_lies_here_has_no_errors(shared_data):
    report = check_folder(shared_data / "camvid")
    assert [census.split for census in report.censuses] == ["train", "val", "test"]
    assert report.errors == ()
    assert require_sound(open_dataset(shared_data / "camvid", "train")).censuses[0].pictures == 367


def test_what_macos_leaves_beside_pictures_is_none(root):
    """Neither for the doctor nor for the reader."""
    for folder in ("images", "masks"):
        (root / folder / "train" / "._000.png").write_bytes(b"Mac OS X")
    assert check_folder(root).findings == ()
    assert len(folder_dataset(root, "train")) == 4


def test_pictures_that_share_a_mask_are_named(root):
    """One of them learns from a mask that may be another picture's."""
    twin = root / "images" / "train" / "000.jpg"
    Image.open(root / "images" / "train" / "000.png").save(twin)
    found, text = finding(root, "pictures that share a mask", "warning")
    (left_over,) = found.files
    assert left_over == root / "images" / "train" / "000.png"
    assert "1 picture with the stem of another one" in text
    subprocess.run(text.partition("of each stem: ")[2], shell=True, check=True, cwd=root)
    assert [path.suffix for path in sorted((root / "images" / "train").glob("000.*"))] == [".jpg"]
    assert check_folder(root).findings == ()
