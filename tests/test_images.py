import io
import struct
import warnings
import zlib

import numpy as np
import PIL.Image
import pytest
from PIL import ImageOps

from lwrefinenet.errors import DataError, ImageError, UsageError
from lwrefinenet.images import as_stored, coloured, encode_mask, encode_picture, read_mask, read_picture, upright

ORIENTATIONS = range(1, 9)
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


@pytest.fixture
def pixels():
    """A picture that is unlike any of its turned or mirrored copies."""
    return np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)


def save(path, array, **options):
    PIL.Image.fromarray(array).save(path, **options)
    return path


def with_orientation(orientation):
    exif = PIL.Image.Exif()
    exif[0x0112] = orientation
    return exif


# EXIF orientation


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_a_turned_file_is_read_upright_and_its_mask_goes_back(tmp_path, pixels, orientation, suffix):
    path = save(tmp_path / f"turned{suffix}", pixels, exif=with_orientation(orientation))
    picture = read_picture(path)
    with PIL.Image.open(path) as image:
        as_pillow_turns_it = np.array(ImageOps.exif_transpose(image))
    np.testing.assert_array_equal(picture.pixels, as_pillow_turns_it)
    np.testing.assert_array_equal(as_stored(picture.pixels, picture.orientation), pixels)


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_as_stored_undoes_upright_for_masks(pixels, orientation):
    mask = pixels[:, :, 0]
    np.testing.assert_array_equal(as_stored(upright(mask, orientation), orientation), mask)
    np.testing.assert_array_equal(upright(mask, orientation), upright(pixels, orientation)[:, :, 0])


def test_orientation_6_turns_a_quarter_clockwise():
    stored = np.array([[1, 2, 3], [4, 5, 6]], np.uint8)
    assert upright(stored, 6).tolist() == [[4, 1], [5, 2], [6, 3]]


def test_a_pillow_image_carries_its_orientation_and_stays_as_it_was(tmp_path, pixels):
    path = save(tmp_path / "turned.png", pixels, exif=with_orientation(6))
    with PIL.Image.open(path) as image:
        picture = read_picture(image)
        assert (picture.orientation, image.size) == (6, (7, 5))
    np.testing.assert_array_equal(picture.pixels, read_picture(path).pixels)


@pytest.mark.parametrize("orientation", [0, 9])
def test_an_orientation_that_does_not_exist_counts_as_upright(tmp_path, pixels, orientation):
    picture = read_picture(save(tmp_path / "odd.png", pixels, exif=with_orientation(orientation)))
    assert picture.orientation == 1
    np.testing.assert_array_equal(picture.pixels, pixels)


# Modes


def read_saved(tmp_path, image, suffix=".png", **options):
    path = tmp_path / f"picture{suffix}"
    image.save(path, **options)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return read_picture(path).pixels


def test_grey_fills_all_channels(tmp_path):
    image = PIL.Image.fromarray(np.array([[0, 7, 255]], np.uint8))
    assert read_saved(tmp_path, image).tolist() == [[[0, 0, 0], [7, 7, 7], [255, 255, 255]]]


def test_one_bit_is_black_and_white(tmp_path):
    image = PIL.Image.fromarray(np.array([[0, 255]], np.uint8)).convert("1")
    assert read_saved(tmp_path, image).tolist() == [[[0, 0, 0], [255, 255, 255]]]


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_alpha_is_dropped_and_the_colour_under_it_kept(tmp_path, mode):
    image = PIL.Image.new("RGBA", (2, 1), (90, 90, 90, 0)).convert(mode)
    assert read_saved(tmp_path, image).tolist() == [[[90, 90, 90]] * 2]


@pytest.mark.parametrize("options", [{}, {"transparency": 1}, {"transparency": b"\x80\x40"}])
def test_a_palette_gives_its_colours_whether_transparent_or_not(tmp_path, options):
    image = PIL.Image.fromarray(np.array([[0, 1]], np.uint8))
    image.putpalette([10, 20, 30, 40, 50, 60])
    assert read_saved(tmp_path, image, **options).tolist() == [[[10, 20, 30], [40, 50, 60]]]


def test_cmyk_goes_through_pillow(tmp_path):
    image = PIL.Image.new("CMYK", (1, 1), (255, 0, 0, 0))
    assert read_saved(tmp_path, image, ".tif").tolist() == [[[0, 255, 255]]]


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_16_bit_grey_is_scaled_not_cut(tmp_path, suffix):
    image = PIL.Image.fromarray(np.array([[0, 257, 32768, 65535]], np.uint16))
    assert read_saved(tmp_path, image, suffix)[0, :, 0].tolist() == [0, 1, 128, 255]


def test_32_bit_integers_are_scaled_like_16_bit_ones(tmp_path):
    image = PIL.Image.fromarray(np.array([[0, 32768, 65535]], np.int32))
    assert read_saved(tmp_path, image, ".tif")[0, :, 0].tolist() == [0, 128, 255]


def test_floats_run_from_black_at_0_to_white_at_1(tmp_path):
    image = PIL.Image.fromarray(np.array([[0.0, 0.5, 1.0]], np.float32))
    assert read_saved(tmp_path, image, ".tif")[0, :, 0].tolist() == [0, 128, 255]


@pytest.mark.parametrize("values", [[0.0, 255.0], [-0.1, 1.0], [np.nan, 1.0]])
def test_floats_of_another_range_are_refused_not_guessed(tmp_path, values):
    image = PIL.Image.fromarray(np.array([values], np.float32))
    with pytest.raises(ImageError, match=r"grey values run from .* expected 0 to 1"):
        read_saved(tmp_path, image, ".tif")


def test_an_animation_gives_its_first_frame(tmp_path):
    first, second = (PIL.Image.new("RGB", (2, 2), colour) for colour in ("red", "blue"))
    assert read_saved(tmp_path, first, ".gif", save_all=True, append_images=[second])[0, 0].tolist() == [255, 0, 0]


def test_a_picture_of_one_pixel(tmp_path):
    assert read_saved(tmp_path, PIL.Image.new("RGB", (1, 1), (1, 2, 3))).tolist() == [[[1, 2, 3]]]


# Arrays


def test_an_array_is_taken_as_it_is(pixels):
    assert read_picture(pixels).pixels is pixels


def test_a_mirrored_or_read_only_array_becomes_one_that_torch_takes(pixels):
    read_only = pixels.copy()
    read_only.flags.writeable = False
    for array in (pixels[:, ::-1], read_only):
        taken = read_picture(array).pixels
        assert taken.flags.writeable
        assert taken.flags.c_contiguous
        np.testing.assert_array_equal(taken, array)


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [((4, 5), "uint8"), ((4, 5, 4), "uint8"), ((4, 5, 3), "float32"), ((0, 5, 3), "uint8")],
)
def test_another_array_is_misuse(shape, dtype):
    with pytest.raises(UsageError, match=rf"must be \(H, W, 3\) uint8.*got shape .*{dtype}"):
        read_picture(np.zeros(shape, dtype))


# Refusals


def test_a_missing_file_a_folder_and_an_empty_file_are_named(tmp_path):
    (tmp_path / "empty.png").touch()
    for name, reason in {"no.png": "No such file", ".": "Is a directory", "empty.png": "is empty"}.items():
        with pytest.raises(ImageError, match=reason) as caught:
            read_picture(tmp_path / name)
        assert str(tmp_path / name) in str(caught.value)


def test_text_is_no_picture(tmp_path):
    (tmp_path / "notes.png").write_text("not a picture at all, but longer than a header")
    with pytest.raises(ImageError, match=r"notes\.png: is no picture"):
        read_picture(tmp_path / "notes.png")


@pytest.mark.parametrize(
    ("suffix", "options"),
    [(".png", {}), (".jpg", {}), (".jpg", {"progressive": True}), (".tif", {}), (".bmp", {}), (".webp", {})],
)
@pytest.mark.parametrize("kept", [0.3, 0.6, 0.95])
def test_a_truncated_picture_is_refused_never_padded(tmp_path, suffix, options, kept):
    noise = np.random.default_rng(1).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    path = save(tmp_path / f"cut{suffix}", noise, **options)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * kept)])
    with pytest.raises(ImageError, match=rf"cut\{suffix}: .*cut short"):
        read_picture(path)


def test_a_truncated_pillow_image_is_refused_too(tmp_path, pixels):
    path = save(tmp_path / "cut.bmp", pixels)
    path.write_bytes(path.read_bytes()[:-30])
    with PIL.Image.open(path) as image, pytest.raises(ImageError, match=r"cut\.bmp: cannot be decoded"):
        read_picture(image)


def png_chunk(kind, content):
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


@pytest.fixture
def huge_picture(tmp_path):
    """20000 x 20000 pixels of one bit, whose data are nonsense: whoever decodes it finds it damaged, not too large."""
    header = struct.pack(">IIBBBBB", 20_000, 20_000, 1, 0, 0, 0, 0)
    path = tmp_path / "huge.png"
    path.write_bytes(PNG_SIGNATURE + png_chunk(b"IHDR", header) + png_chunk(b"IDAT", b"nonsense"))
    return path


def test_a_huge_picture_is_refused_before_it_is_decoded(huge_picture):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ImageError, match=r"huge\.png: is 20000x20000 .* limit is 16,000,000.*--max-pixels.*tiles"):
            read_picture(huge_picture)
        with pytest.raises(ImageError, match="limit is 16,000,000"):
            read_mask(huge_picture)


def test_the_limit_itself_is_allowed_and_holds_for_arrays(pixels):
    assert read_picture(pixels, max_pixels=35).pixels.shape == (5, 7, 3)
    with pytest.raises(ImageError, match=r"is 7x5 pixels \(35\), the limit is 34"):
        read_picture(pixels, max_pixels=34)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_our_limit_takes_the_place_of_pillows_which_stays_as_it_was(tmp_path, pixels, suffix, monkeypatch):
    path = save(tmp_path / f"large{suffix}", pixels)
    monkeypatch.setattr(PIL.Image, "MAX_IMAGE_PIXELS", 10)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_array_equal(read_picture(path, max_pixels=35).pixels, pixels)
    assert PIL.Image.MAX_IMAGE_PIXELS == 10


# Masks


@pytest.mark.parametrize("mode", ["L", "P"])
def test_a_mask_gives_indices_never_colours(tmp_path, mode):
    classes = np.array([[0, 1, 2, 255]], np.uint8)
    image = PIL.Image.fromarray(classes)
    if mode == "P":
        image.putpalette([255, 0, 0] * 256)
    image.save(tmp_path / "mask.png")
    np.testing.assert_array_equal(read_mask(tmp_path / "mask.png"), classes)


def test_a_one_bit_mask_has_classes_0_and_1(tmp_path):
    PIL.Image.fromarray(np.array([[0, 255]], np.uint8)).convert("1").save(tmp_path / "mask.png")
    assert read_mask(tmp_path / "mask.png").tolist() == [[0, 1]]


@pytest.mark.parametrize(("bits", "row", "classes"), [(2, 0b00_01_10_11, [0, 1, 2, 3]), (4, 0x5C, [5, 12])])
def test_grey_of_few_bits_is_not_stretched(tmp_path, bits, row, classes):
    header = struct.pack(">IIBBBBB", len(classes), 1, bits, 0, 0, 0, 0)
    chunks = (b"IHDR", header), (b"IDAT", zlib.compress(bytes([0, row]))), (b"IEND", b"")
    path = tmp_path / "mask.png"
    path.write_bytes(PNG_SIGNATURE + b"".join(png_chunk(*chunk) for chunk in chunks))
    assert read_mask(path).tolist() == [classes]


def test_a_16_bit_mask_is_read_unscaled_if_its_values_fit(tmp_path):
    path = save(tmp_path / "mask.png", np.array([[0, 3, 255]], np.uint16))
    assert read_mask(path).tolist() == [[0, 3, 255]]
    save(path, np.array([[0, 256]], np.uint16))
    with pytest.raises(DataError, match=r"mask\.png: holds the value 256; class indices are 0-255"):
        read_mask(path)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA"])
def test_a_mask_of_colours_is_refused(tmp_path, mode):
    PIL.Image.new(mode, (2, 2)).save(tmp_path / "mask.png")
    with pytest.raises(DataError, match=rf"mask\.png: has mode {mode}, so it holds colours"):
        read_mask(tmp_path / "mask.png")


def test_a_jpeg_mask_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"mask\.jpg: is a JPEG"):
        read_mask(save(tmp_path / "mask.jpg", np.zeros((8, 8), np.uint8)))


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_a_mask_is_never_turned(tmp_path, orientation, suffix):
    classes = np.arange(6, dtype=np.uint8).reshape(2, 3)
    path = save(tmp_path / f"mask{suffix}", classes, exif=with_orientation(orientation))
    np.testing.assert_array_equal(read_mask(path), classes)


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_a_turned_grey_tiff_is_not_scrambled(tmp_path, orientation):
    grey = np.arange(6, dtype=np.uint8).reshape(2, 3)
    picture = read_picture(save(tmp_path / "grey.tif", grey, exif=with_orientation(orientation)))
    np.testing.assert_array_equal(picture.pixels[:, :, 0], upright(grey, orientation))


def test_a_damaged_mask_is_an_image_error(tmp_path, pixels):
    path = save(tmp_path / "mask.png", pixels[:, :, 0])
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(ImageError, match=r"mask\.png"):
        read_mask(path)


# Writing


def test_an_encoded_mask_shows_the_palette_and_keeps_the_indices(tmp_path):
    classes = np.array([[0, 1, 255]], np.uint8)
    (tmp_path / "mask.png").write_bytes(encode_mask(classes, [(10, 20, 30), (40, 50, 60)], ignore_index=255))
    np.testing.assert_array_equal(read_mask(tmp_path / "mask.png"), classes)
    assert read_picture(tmp_path / "mask.png").pixels.tolist() == [[[10, 20, 30], [40, 50, 60], [255, 255, 255]]]


def test_a_png_is_lossless_a_jpeg_close_and_other_suffixes_are_refused(pixels):
    np.testing.assert_array_equal(np.array(PIL.Image.open(io.BytesIO(encode_picture(pixels, ".PNG")))), pixels)
    red = np.zeros((16, 16, 3), np.uint8) + np.array([200, 30, 30], np.uint8)
    decoded = np.array(PIL.Image.open(io.BytesIO(encode_picture(red, ".jpg"))), int)
    assert np.abs(decoded - red).max() <= 3
    with pytest.raises(UsageError, match=r"not '\.webp'"):
        encode_picture(pixels, ".webp")


def test_a_coloured_mask_has_the_colours_of_the_palette_and_white_where_it_is_ignored():
    mask = np.array([[0, 1], [255, 2]], np.uint8)
    found = coloured(mask, ((1, 2, 3), (4, 5, 6)))
    assert found.tolist() == [[[1, 2, 3], [4, 5, 6]], [[255, 255, 255], [0, 0, 0]]]


@pytest.mark.parametrize("suffix", [".png", ".webp"])
def test_a_sound_picture_with_junk_for_exif_is_upright(tmp_path, pixels, suffix):
    options = {"exif": b"Exif\0\0junk that is no TIFF"} | ({"lossless": True} if suffix == ".webp" else {})
    PIL.Image.fromarray(pixels).save(tmp_path / f"junk{suffix}", **options)
    picture = read_picture(tmp_path / f"junk{suffix}")
    assert picture.orientation == 1 and np.array_equal(picture.pixels, pixels)
