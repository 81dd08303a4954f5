import numpy as np
import pytest
import torch
from torchvision.transforms.v2 import functional as tf

from lwrefinenet.data.dataset import Labelled
from lwrefinenet.data.transforms import TrainTransform, jitter_colors


def transform(**changes):
    settings = {
        "crop_size": (48, 64),
        "scale_range": (0.5, 2.0),
        "flip": 0.5,
        "color_jitter": 0.0,
        "fill": (10.0, 20.0, 30.0),
        "ignore_index": 255,
    }
    return TrainTransform(**{**settings, **changes})


def coded_picture(height=60, width=90):
    """A picture whose red channel tells the class of each pixel: the mask can be read off the augmented picture."""
    mask = (np.arange(height)[:, None] // 20 + 3 * (np.arange(width)[None] // 30)).astype(np.uint8)
    pixels = np.repeat(25 * mask[:, :, None], 3, axis=2)
    return pixels, mask


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("rotation", [0.0, 45.0])
def test_picture_and_mask_are_cut_turned_and_mirrored_alike(seed, rotation):
    torch.manual_seed(seed)
    image, target = transform(rotation=rotation)(*coded_picture())
    inside = target != 255
    agreement = (image[0][inside].float() / 25).round() == target[inside]
    assert inside.any()
    assert agreement.float().mean() > 0.8  # the rest are interpolated class borders


def test_mask_values_survive_resizing():
    torch.manual_seed(1)
    _, target = transform(scale_range=(1.7, 1.7))(*coded_picture())
    assert set(target.unique().tolist()) <= set(range(9)) | {255}


def test_beyond_the_picture_lie_fill_and_ignore():
    torch.manual_seed(0)
    pixels, mask = np.full((20, 20, 3), 200, np.uint8), np.zeros((20, 20), np.uint8)
    image, target = transform(scale_range=(1.0, 1.0), flip=0.0)(pixels, mask)
    assert int((target == 0).sum()) == 400
    assert image[:, target == 255].unique(dim=1).flatten().tolist() == [10, 20, 30]


def test_beyond_a_turned_picture_lie_fill_and_ignore():
    torch.manual_seed(0)
    pixels, mask = np.full((48, 64, 3), 200, np.uint8), np.zeros((48, 64), np.uint8)
    image, target = transform(scale_range=(1.0, 1.0), flip=0.0, rotation=45.0)(pixels, mask)
    beyond = target == 255
    assert 0 < beyond.float().mean() < 0.5
    fill = (image == torch.tensor([10, 20, 30], dtype=torch.uint8)[:, None, None]).all(dim=0)
    assert fill[beyond].float().mean() > 0.8  # on the border the two are interpolated
    assert not fill[~beyond].any()


def test_scale_one_without_flip_is_a_plain_cut():
    torch.manual_seed(3)
    pixels, mask = coded_picture()
    image, target = transform(crop_size=(60, 90), scale_range=(1.0, 1.0), flip=0.0)(pixels, mask)
    assert np.array_equal(image.permute(1, 2, 0).numpy(), pixels)
    assert np.array_equal(target.numpy(), mask)


def test_a_certain_flip_mirrors():
    pixels, mask = coded_picture()
    image, target = transform(crop_size=(60, 90), scale_range=(1.0, 1.0), flip=1.0)(pixels, mask)
    assert np.array_equal(image.permute(1, 2, 0).numpy(), pixels[:, ::-1])
    assert np.array_equal(target.numpy(), mask[:, ::-1])


def test_scales_spread_over_their_range():
    """Stripes 20 wide in the picture are 20 x scale wide in the crop, which tells the scale that was drawn."""
    stripes = (np.arange(2000) // 20 % 2).astype(np.uint8)[None].repeat(200, axis=0)
    pixels = np.repeat(stripes[:, :, None], 3, axis=2)
    widths = []
    for seed in range(40):
        torch.manual_seed(seed)
        _, target = transform(crop_size=(64, 640), flip=0.0)(pixels, stripes)
        widths.append(640 / max(1, int((target[0, 1:] != target[0, :-1]).sum())))
    assert 9 < min(widths) < 13
    assert 32 < max(widths) < 44


def test_color_jitter_changes_colours_but_not_the_mask():
    torch.manual_seed(0)
    pixels, mask = coded_picture()
    still = transform(crop_size=(60, 90), scale_range=(1.0, 1.0), flip=0.0, color_jitter=0.5)
    image, target = still(pixels, mask)
    assert not np.array_equal(image.permute(1, 2, 0).numpy(), pixels)
    assert np.array_equal(target.numpy(), mask)


def test_blur_smooths_as_many_pictures_as_asked_for_but_not_the_mask():
    pixels = np.random.default_rng(0).integers(0, 256, (60, 90, 3), dtype=np.uint8)
    mask = np.random.default_rng(1).integers(0, 3, (60, 90), dtype=np.uint8)
    still = {"crop_size": (60, 90), "scale_range": (1.0, 1.0), "flip": 0.0}
    torch.manual_seed(0)
    blurred = 0
    for _ in range(200):
        image, target = transform(**still, blur=0.3)(pixels, mask)
        assert image.dtype == torch.uint8 and np.array_equal(target.numpy(), mask)
        blurred += (
            float(image.float().diff(dim=2).abs().mean()) < 0.95 * np.abs(np.diff(pixels.astype(float), axis=1)).mean()
        )
    assert 30 < blurred < 90  # all but the weakest of about 60


def test_balanced_crops_hold_each_class_of_the_picture_alike_often():
    """A class of a single pixel, which crops from anywhere nearly never hold; pixels that are ignored are no class."""
    pixels, mask = np.zeros((64, 64, 3), np.uint8), np.zeros((64, 64), np.uint8)
    mask[40:] = 255
    mask[3, 60] = 1
    settings = {"crop_size": (16, 16), "scale_range": (1.0, 1.0), "flip": 0.0, "color_jitter": 0.0}
    torch.manual_seed(0)
    found = {
        balanced: sum(int((transform(**settings, balanced=balanced)(pixels, mask)[1] == 1).any()) for _ in range(200))
        for balanced in (0.0, 0.5, 1.0)
    }
    assert found[0.0] < 10 and 30 < found[0.5] < 75 and 75 < found[1.0] < 130


def test_a_picture_without_a_labelled_pixel_has_crops_from_anywhere():
    mask = np.full((20, 20), 255, np.uint8)
    _, target = transform(crop_size=(40, 40), balanced=1.0)(np.zeros((20, 20, 3), np.uint8), mask)
    assert target.unique().tolist() == [255]


@pytest.mark.parametrize("place", [(0, 0), (19, 29), (7, 12)])
@pytest.mark.parametrize("size", [(8, 8), (33, 41)])
def test_a_balanced_crop_holds_its_pixel_wherever_that_is_and_however_large_the_crop(place, size):
    mask = np.full((20, 30), 255, np.uint8)
    mask[place] = 2
    settings = {"crop_size": size, "scale_range": (1.0, 1.0), "flip": 0.0, "balanced": 1.0}
    for seed in range(20):
        torch.manual_seed(seed)
        _, target = transform(**settings)(np.zeros((20, 30, 3), np.uint8), mask)
        assert (target == 2).sum() == 1


def test_a_crop_holds_a_pixel_of_the_class_that_is_wanted_and_lies_anywhere_where_there_is_none():
    mask = np.zeros((64, 64), np.uint8)
    mask[3, 60] = 1
    picture = Labelled(np.zeros((64, 64, 3), np.uint8), mask)
    crop_of = transform(crop_size=(16, 16), scale_range=(1.0, 1.0), flip=0.0)
    torch.manual_seed(0)
    assert all((crop_of.of(picture, wanted=1)[1]["segmentation"] == 1).sum() == 1 for _ in range(50))
    assert crop_of.of(picture, wanted=2)[1]["segmentation"].shape == (16, 16)


def muted_picture():
    """Colours that none of the factors below carries beyond 0-255."""
    return torch.randint(60, 150, (3, 16, 24), generator=torch.Generator().manual_seed(0)).byte()


@pytest.mark.parametrize(
    ("place", "adjust"), [(0, tf.adjust_brightness), (1, tf.adjust_contrast), (2, tf.adjust_saturation)]
)
def test_each_colour_change_alone_is_that_of_torchvision(monkeypatch, place, adjust):
    draws = torch.full((4,), 0.5)
    draws[place] = 0.9  # factor 1 + 0.8 x 0.4
    monkeypatch.setattr(torch, "rand", lambda _: draws)
    found, expected = jitter_colors(muted_picture(), 0.4).int(), adjust(muted_picture(), 1.32).int()
    assert (found - expected).abs().max() <= 1
    assert not torch.equal(found, muted_picture().int())


def test_turning_the_hue_keeps_the_lightness_and_greys(monkeypatch):
    monkeypatch.setattr(torch, "rand", lambda _: torch.tensor([0.5, 0.5, 0.5, 1.0]))
    picture = muted_picture()
    turned = jitter_colors(picture, 0.4)
    lightness = tf.rgb_to_grayscale(turned).int() - tf.rgb_to_grayscale(picture).int()
    assert lightness.abs().max() <= 1
    assert (turned.int() - picture.int()).abs().max() > 5
    grey = picture[:1].expand(3, -1, -1).contiguous()
    assert torch.equal(jitter_colors(grey, 0.4), grey)


def widths(**changes):
    """Of a 40-pixel-wide stripe after augmentation, over many draws: the scale times 40."""
    mask = np.zeros((200, 400), np.uint8)
    mask[:, 180:220] = 1
    pixels = np.zeros((200, 400, 3), np.uint8)
    found = []
    for seed in range(200):
        torch.manual_seed(seed)
        _, target = transform(crop_size=(200, 1200), flip=0.0, **changes)(pixels, mask)
        found.append((target == 1).sum(dim=1).max().item())
    return np.array(found) / 40


def test_scales_are_drawn_log_uniformly_or_uniformly():
    by_log, uniform = widths(), widths(scale_sampling="uniform")
    assert np.median(by_log) == pytest.approx(1.0, abs=0.15)  # half of the draws are below 1
    assert np.median(uniform) == pytest.approx(1.25, abs=0.15)
    for found in (by_log, uniform):
        assert 0.45 < found.min() < 0.65
        assert 1.8 < found.max() < 2.1


def test_the_shorter_side_of_a_scaled_picture_has_a_least_length():
    assert widths(scale_range=(0.5, 0.5)) == pytest.approx(np.full(200, 0.5), abs=0.05)
    assert widths(scale_range=(0.5, 0.5), short_side=300) == pytest.approx(np.full(200, 1.5), abs=0.05)


def test_masks_that_shrink_take_the_middle_of_what_becomes_a_pixel():
    """Not its first corner, which would put them half a pixel beside the picture."""
    values = np.arange(60 * 90).reshape(60, 90) % 251
    pixels, mask = np.zeros((60, 90, 3), np.uint8), values.astype(np.uint8)
    shrunk = transform(crop_size=(20, 30), scale_range=(1 / 3, 1 / 3), flip=0.0)
    _, targets = shrunk.of(Labelled(pixels, mask, depth=values.astype(np.float32)))
    assert np.array_equal(targets["segmentation"].numpy(), values[1::3, 1::3])
    assert np.allclose(targets["depth"].numpy(), 3 * values[1::3, 1::3])
