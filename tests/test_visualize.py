import numpy as np
import pytest

from lwrefinenet.labels import LabelSet
from lwrefinenet.visualize import INK, PAPER, class_shares, colourise, contact_sheet, legend, overlay

RED, BLUE, GREEN = (200, 0, 0), (0, 0, 200), (0, 200, 0)
LABELS = LabelSet("signs", ("stop", "parking", "go"), (RED, BLUE, GREEN))


@pytest.fixture
def mask():
    """Three quarters parking, an eighth stop, an eighth ignored; nothing to go."""
    return np.array([[1, 1, 1, 1], [1, 1, 0, 255]], np.uint8)


def test_overlay_mixes_picture_and_class_colours(mask):
    image = np.full((2, 4, 3), 100, np.uint8)
    painted = overlay(image, mask, LABELS)
    assert painted[0, 0].tolist() == [50, 50, 150]
    assert painted[1, 2].tolist() == [150, 50, 50]
    assert overlay(image, mask, LABELS, opacity=0.25)[0, 0].tolist() == [75, 75, 125]
    assert overlay(image + np.uint8(1), mask, LABELS)[0, 0].tolist() == [51, 51, 151]


def test_overlay_leaves_ignored_pixels_and_unknown_classes_unpainted(mask):
    image = np.random.default_rng(0).integers(0, 256, (2, 4, 3), dtype=np.uint8)
    mask[0, 0] = 77
    painted = overlay(image, mask, LABELS)
    np.testing.assert_array_equal(painted[[1, 0], [3, 0]], image[[1, 0], [3, 0]])


def test_opacity_runs_from_the_picture_to_the_mask(mask):
    image = np.random.default_rng(0).integers(0, 256, (2, 4, 3), dtype=np.uint8)
    np.testing.assert_array_equal(overlay(image, mask, LABELS, opacity=0), image)
    classes = mask != 255
    np.testing.assert_array_equal(overlay(image, mask, LABELS, opacity=1)[classes], colourise(mask, LABELS)[classes])


def test_overlay_keeps_the_given_picture(mask):
    image = np.full((2, 4, 3), 100, np.uint8)
    overlay(image, mask, LABELS)
    assert (image == 100).all()


def test_a_mask_of_another_size_is_refused(mask):
    with pytest.raises(ValueError, match=r"a mask of \(2, 4\) cannot lie over a picture of \(4, 2, 3\)"):
        overlay(np.zeros((4, 2, 3), np.uint8), mask, LABELS)


def test_colourise_uses_the_palette_and_white_for_ignore(mask):
    coloured = colourise(mask, LABELS)
    assert [coloured[0, 0].tolist(), coloured[1, 2].tolist(), coloured[1, 3].tolist()] == [
        list(BLUE),
        list(RED),
        [255, 255, 255],
    ]


def test_shares_are_of_all_pixels_largest_first_and_only_of_what_is_there(mask):
    assert list(class_shares(mask, LABELS).items()) == [("parking", 0.75), ("stop", 0.125)]


def colours_in(picture):
    return {tuple(int(channel) for channel in colour) for colour in picture.reshape(-1, 3)}


def test_the_legend_shows_the_colours_of_the_classes_that_are_there(mask):
    drawn = legend(mask, LABELS, width=400)
    assert {RED, BLUE, PAPER, INK} <= colours_in(drawn)
    assert GREEN not in colours_in(drawn)


def test_the_legend_says_the_shares(mask):
    same_classes_other_shares = np.where(mask == 255, 0, mask).astype(np.uint8)
    assert (legend(mask, LABELS, width=400) != legend(same_classes_other_shares, LABELS, width=400)).any()


def test_a_narrow_legend_becomes_higher_and_loses_no_entry(mask):
    wide, narrow = legend(mask, LABELS, width=400), legend(mask, LABELS, width=150)
    assert (wide.shape[1], narrow.shape[1]) == (400, 150)
    assert len(narrow) > len(wide)
    for colour in (RED, BLUE, INK):
        in_wide, in_narrow = ((picture == colour).all(axis=2).sum() for picture in (wide, narrow))
        assert in_wide == in_narrow


def test_the_contact_sheet_is_picture_mask_overlay_and_legend(mask):
    mask = mask.repeat(50, axis=0).repeat(50, axis=1)
    image = np.random.default_rng(0).integers(0, 256, (100, 200, 3), dtype=np.uint8)
    sheet = contact_sheet(image, mask, LABELS)
    np.testing.assert_array_equal(sheet[:100, :200], image)
    np.testing.assert_array_equal(sheet[:100, 204:404], colourise(mask, LABELS))
    np.testing.assert_array_equal(sheet[:100, 408:], overlay(image, mask, LABELS))
    np.testing.assert_array_equal(sheet[100:], legend(mask, LABELS, width=608))
