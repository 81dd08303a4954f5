"""Depth and normals: what files hold, planes whose normals are known, and how they follow the picture through augmentation."""

import math

import numpy as np
import pytest
import torch
from PIL import Image

from lwrefinenet.data.dataset import Labelled, deriving_normals
from lwrefinenet.data.folder import folder_dataset
from lwrefinenet.data.geometry import DepthScale, normals_from_depth, read_depth, read_normals
from lwrefinenet.data.layouts import open_dataset
from lwrefinenet.data.transforms import TrainTransform
from lwrefinenet.errors import DataError, ImageError
from tests.pictures import write_list, write_mask, write_picture
from tests.shapes import write_shapes

MILLIMETRES = DepthScale(metres=0.001)
FOCAL = (60.0, 50.0)


def save(path, values):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).save(path)
    return path


def test_whole_numbers_are_metres_by_their_scale_and_0_is_unknown(tmp_path):
    path = save(tmp_path / "d.png", np.array([[0, 1500], [65535, 1]], np.uint16))
    np.testing.assert_allclose(read_depth(path, MILLIMETRES), [[0, 1.5], [65.535, 0.001]], rtol=1e-6)
    eight = save(tmp_path / "e.png", np.array([[0, 255]], np.uint8))
    found = read_depth(eight, DepthScale(metres=10 / 255, offset=0.5, unknown=None))
    np.testing.assert_allclose(found, [[5 / 255, 2555 / 255]], rtol=1e-6)


def test_floating_point_files_hold_metres(tmp_path):
    path = save(tmp_path / "d.tif", np.array([[0.5, np.nan, -1.0, np.inf]], np.float32))
    assert read_depth(path, None).tolist() == [[0.5, 0, 0, 0]]


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("d.png", np.zeros((4, 4, 3), np.uint8), r"d\.png: is a PNG of mode RGB; depth is expected as a grey PNG"),
        ("d.jpg", np.zeros((4, 4), np.uint8), r"d\.jpg: is a JPEG of mode L"),
        ("d.png", np.ones((4, 4), np.uint16), r"d\.png: holds whole numbers and their unit .*depth_scale"),
    ],
)
def test_what_is_no_depth_is_named(tmp_path, name, values, message):
    with pytest.raises(DataError, match=message):
        read_depth(save(tmp_path / name, values), None)


def test_a_file_that_is_cut_short_is_named(tmp_path):
    noise = np.random.default_rng(0).integers(1, 60000, (64, 64), dtype=np.uint16)
    path = save(tmp_path / "d.png", noise)
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(ImageError, match=r"d\.png: cannot be decoded"):
        read_depth(path, MILLIMETRES)


def test_colours_are_normals_and_black_is_unknown(tmp_path):
    colours = np.array([[[128, 255, 128], [128, 128, 255], [0, 0, 0], [255, 128, 128]]], np.uint8)
    found = read_normals(save(tmp_path / "n.png", colours))
    np.testing.assert_allclose(found[0], [[0, 1, 0], [0, 0, -1], [0, 0, 0], [1, 0, 0]], atol=0.01)
    with pytest.raises(DataError, match=r"g\.png: is a PNG of mode L; normals are expected as the colours"):
        read_normals(save(tmp_path / "g.png", colours[..., 0]))


def plane(normal, distance=4.0, size=(48, 64)):
    """The depth of a plane whose normal, towards the camera, is (right, towards the camera, down)."""
    height, width = size
    x = (np.arange(width) - (width - 1) / 2) / FOCAL[0]
    y = ((np.arange(height) - (height - 1) / 2) / FOCAL[1])[:, None]
    right, towards, down = normal
    return (-distance / (right * x + down * y - towards)).astype(np.float32)


@pytest.mark.parametrize("normal", [(0, 1, 0), (0.6, 0.8, 0), (0, 0.8, -0.6), (-0.36, 0.8, 0.48)])
def test_the_normal_of_a_plane_is_found(normal):
    found = normals_from_depth(plane(normal), FOCAL)
    known = np.abs(found).sum(-1) > 0
    assert known[10:-10, 10:-10].all()
    np.testing.assert_allclose(found[known], np.broadcast_to(normal, found[known].shape), atol=1e-3)


def test_where_depth_is_unknown_or_breaks_off_there_is_no_normal():
    depth = plane((0, 1, 0))
    depth[:, 32:] *= 2
    depth[:6, :6] = 0
    found = np.abs(normals_from_depth(depth, FOCAL)).sum(-1) > 0
    assert not found[:6, :6].any()
    assert not found[24, 30:34].any()
    assert found[24, 12:24].all() and found[24, 40:52].all()


def test_terraces_of_coarse_depth_are_smoothed_by_the_larger_window():
    step = 0.039
    depth = np.round(plane((0.1, 0.995, 0), size=(120, 160)) / step).astype(np.float32) * np.float32(step)
    coarse = normals_from_depth(depth, FOCAL, window=DepthScale(metres=step).window)
    fine = normals_from_depth(depth, FOCAL, window=MILLIMETRES.window)
    middle = (slice(40, 80), slice(40, 120))
    worst = [np.degrees(np.arccos((each[middle] @ (0.1, 0.995, 0)).clip(-1, 1))).max() for each in (coarse, fine)]
    assert 4 * worst[0] < worst[1]


@pytest.fixture
def root(tmp_path):
    """Two pictures of 80x64 with masks; the first has depth, the second has normals."""
    write_shapes(tmp_path, train=2, val=1)
    with (tmp_path / "dataset.toml").open("a") as file:
        file.write("\ndepth_scale = 0.001\nfocal_length = 60\n")
    save(tmp_path / "depth" / "train" / "000.png", np.full((64, 80), 2000, np.uint16))
    normals = np.zeros((64, 80, 3), np.uint8)
    normals[...] = (128, 255, 128)
    save(tmp_path / "normals" / "train" / "001.png", normals)
    return tmp_path


def test_a_folder_gives_what_each_picture_has(root):
    dataset = folder_dataset(root, "train")
    first, second = (dataset.labelled(index, ("depth", "normals")) for index in range(2))
    assert (first.depth == 2).all() and first.normals is None
    assert second.depth is None and second.normals.shape == (64, 80, 3)
    assert dataset.labelled(0, ()).depth is None
    assert dataset.has("depth") and dataset.has("normals") and not folder_dataset(root, "val").has("depth")
    derived = deriving_normals(dataset).labelled(0, ("normals",))
    assert derived.depth is None
    np.testing.assert_allclose(derived.normals[30, 40], (0, 1, 0), atol=1e-5)


def test_depth_of_a_turned_photo_is_turned_with_it(root):
    path = root / "images" / "train" / "000.png"
    turn_right = Image.Exif()
    turn_right[0x0112] = 6
    Image.open(path).save(path, exif=turn_right)
    values = np.arange(64 * 80, dtype=np.uint16).reshape(64, 80)
    save(root / "depth" / "train" / "000.png", values)
    found = folder_dataset(root, "train").labelled(0, ("depth",)).depth
    np.testing.assert_allclose(found, np.rot90(values, -1) / 1000, rtol=1e-6)


def test_files_that_do_not_fit_are_named(root):
    save(root / "depth" / "train" / "000.png", np.ones((10, 20), np.uint16))
    dataset = folder_dataset(root, "train")
    expected = r"depth/train/000\.png: is 20x10, its picture 000\.png is 80x64"
    with pytest.raises(DataError, match=expected):
        dataset.labelled(0, ("depth",))
    with pytest.raises(DataError, match=expected):
        dataset.check_files("depth")


def test_kinds_units_and_focal_lengths_are_found_before_anything_is_learnt(root):
    text = (root / "dataset.toml").read_text()
    (root / "dataset.toml").write_text(text.replace("depth_scale = 0.001", ""))
    with pytest.raises(DataError, match="their unit is not known; write depth_scale"):
        folder_dataset(root, "train").check_files("depth")
    (root / "dataset.toml").write_text(text.replace("focal_length = 60", ""))
    folder_dataset(root, "train").check_files("depth")
    (root / "normals" / "train" / "001.png").unlink()
    with pytest.raises(DataError, match="the camera's focal length is known"):
        deriving_normals(folder_dataset(root, "train")).check_files("normals")
    save(root / "depth" / "train" / "001.png", np.zeros((64, 80, 3), np.uint8))
    with pytest.raises(DataError, match=r"001\.png: is a PNG of mode RGB; depth is expected"):
        folder_dataset(root, "train").check_files("depth")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('depth_scale = "mm"', "depth_scale is 'mm'; expected the metres for each value"),
        ("depth_scale = -1", "depth_scale is -1"),
        ("focal_length = [1, 2, 3]", r"focal_length is \[1, 2, 3\]; expected a number of pixels"),
    ],
)
def test_a_description_that_cannot_be_is_refused(root, line, message):
    text = (root / "dataset.toml").read_text()
    (root / "dataset.toml").write_text(text[: text.index("depth_scale")] + line + "\n")
    with pytest.raises(DataError, match=message):
        folder_dataset(root, "train")


def test_normals_cannot_be_derived_without_a_focal_length(root):
    text = (root / "dataset.toml").read_text()
    (root / "dataset.toml").write_text(text.replace("focal_length = 60", ""))
    with pytest.raises(DataError, match=r"depth/train/000\.png: normals can be derived .* focal_length = PIXELS"):
        deriving_normals(folder_dataset(root, "train")).labelled(0, ("normals",))


def test_published_lists_have_depth_in_a_third_and_normals_in_a_fourth_column(tmp_path):
    columns = [f"{kind}/000001.png" for kind in ("rgb", "masks", "depth", "normals")]
    write_list(tmp_path / "train.txt", "\t".join(columns))
    write_picture(tmp_path / columns[0])
    write_mask(tmp_path / columns[1], 0, 39, 255)
    height, width = np.array(Image.open(tmp_path / columns[1])).shape
    save(tmp_path / columns[2], np.full((height, width), 5000, np.uint16))
    dataset = open_dataset(tmp_path, "train")
    assert (dataset.labelled(0, ("depth",)).depth == 1).all()
    with pytest.raises(
        DataError, match=r"normals/000001\.png: no such file, but it is to be the normals of 000001\.png"
    ):
        dataset.check_files("normals")


def test_nyu_has_depth_in_metres(shared_data):
    labelled = open_dataset(shared_data / "nyudv2", "train").labelled(0, ("depth",))
    assert labelled.depth.shape == labelled.mask.shape == (480, 640)
    assert 0.3 < labelled.depth.min() < labelled.depth.max() < 10


def transform(**changes):
    settings = {
        "crop_size": (48, 64),
        "scale_range": (1.0, 1.0),
        "flip": 0.0,
        "color_jitter": 0.0,
        "fill": (0.0, 0.0, 0.0),
    }
    return TrainTransform(**{**settings, "ignore_index": 255, **changes})


def labelled(height=48, width=64):
    columns = np.arange(width, dtype=np.float32)[None].repeat(height, 0) + 1
    normals = np.zeros((height, width, 3), np.float32)
    normals[...] = (0.6, 0.8, 0.0)
    pixels = np.zeros((height, width, 3), np.uint8)
    return Labelled(pixels, np.zeros((height, width), np.uint8), columns, normals)


def test_a_mirror_image_mirrors_depth_and_turns_the_normals_round():
    _, targets = transform(flip=1.0).of(labelled())
    assert targets["depth"][0].tolist() == list(range(64, 0, -1))
    assert targets["normals"][:, 0, 0].tolist() == pytest.approx([-0.6, 0.8, 0.0])


def turned_ramp(seed, **changes):
    """A crop of a ramp that rises to the right, as its normals say, and by how many degrees anticlockwise it was turned."""
    torch.manual_seed(seed)
    record = labelled(200, 240)
    record.normals[...] = (1.0, 0.0, 0.0)
    _, targets = transform(**changes).of(record)
    depth = targets["depth"][12:-12, 16:-16]
    rises_right, rises_down = (depth[:, -1] - depth[:, 0]).mean() / 31, (depth[-1] - depth[0]).mean() / 23
    assert math.hypot(rises_right, rises_down) == pytest.approx(1, abs=0.05)  # a roll: nothing is nearer or farther
    return targets, math.degrees(math.atan2(-rises_down, rises_right))


@pytest.mark.parametrize("seed", range(6))
def test_normals_turn_with_the_crop(seed):
    targets, angle = turned_ramp(seed, rotation=180.0)
    right, towards, down = targets["normals"][:, 24, 32].tolist()
    assert abs(math.remainder(math.degrees(math.atan2(-down, right)) - angle, 360)) < 4
    assert math.hypot(right, down) == pytest.approx(1)
    assert towards == 0


def test_crops_are_turned_either_way_by_at_most_the_rotation():
    angles = [turned_ramp(seed, rotation=30.0)[1] for seed in range(40)]
    assert -32 < min(angles) < -20
    assert 20 < max(angles) < 32


def test_a_crop_is_turned_in_its_picture_where_that_is_large_enough():
    for seed in range(10):
        targets, _ = turned_ramp(seed, rotation=45.0)
        assert (targets["depth"] > 0).all()
        assert (targets["segmentation"] == 0).all()


def test_a_crop_around_a_pixel_of_a_class_stays_upright():
    angles = [turned_ramp(seed, rotation=45.0, balanced=1.0)[1] for seed in range(10)]
    assert angles == [0] * 10


def test_what_is_shown_larger_is_nearer():
    torch.manual_seed(0)
    record = labelled()
    record.depth[...] = 6.0
    _, targets = transform(scale_range=(2.0, 2.0)).of(record)
    assert targets["depth"].unique().tolist() == [3.0]
    assert targets["normals"][:, 5, 5].tolist() == pytest.approx([0.6, 0.8, 0.0])


def test_what_is_shown_at_the_usual_scale_is_as_far_as_it_is():
    torch.manual_seed(0)
    record = labelled()
    record.depth[...] = 6.0
    for scale, expected in ((0.5, 6.0), (1.0, 3.0), (0.25, 12.0)):
        _, targets = transform(crop_size=(12, 16), scale_range=(scale, scale), usual_scale=0.5).of(record)
        assert targets["depth"].unique().tolist() == [expected]


def test_beyond_the_picture_nothing_is_known():
    torch.manual_seed(0)
    _, targets = transform(crop_size=(96, 128)).of(labelled())
    assert int((targets["depth"] > 0).sum()) == 48 * 64 == int((targets["normals"].abs().sum(0) > 0).sum())
    assert math.isclose(float(targets["depth"].max()), 64)
