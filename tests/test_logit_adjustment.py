"""Offsets for classes: found exactly, honest about unseen pictures, and the same wherever logits are looked at."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from lwrefinenet import logit_adjustment
from lwrefinenet.data.folder import folder_dataset
from lwrefinenet.errors import DataError
from lwrefinenet.labels import VOC
from lwrefinenet.logit_adjustment import Adjustment, Pixels, best_offsets, draw_pixels, find_adjustment
from tests.pictures import write_array
from tests.shapes import shapes_picture, write_shapes

OFF = np.array([0.0, -1.5, 2.0])


def noisy_logits(images):
    """(N, H, W, 3) -> (N, 3, H/4, W/4): what a fair classifier of the shapes' colours says, with one class pulled up by 2."""
    colours = images.float().permute(0, 3, 1, 2)
    red, blue = colours[:, 0] - 120, colours[:, 2] - 120
    fair = torch.stack([30 - red.abs() - blue.abs(), red, blue], dim=1) / 30
    generator = torch.Generator().manual_seed(int(images.sum()))
    fair = F.avg_pool2d(fair, 4)
    return fair + torch.randn(fair.shape, generator=generator) + torch.from_numpy(OFF).float()[:, None, None]


def random_pixels(classes=4, number=3000):
    generator = torch.Generator().manual_seed(3)
    truth = torch.randint(classes, (number,), generator=generator)
    logits = 1.5 * F.one_hot(truth, classes).float() + torch.randn(number, classes, generator=generator)
    pulled = logits + torch.tensor([0.0, 1.0, -1.0, 0.5])[:classes]
    return Pixels(pulled, truth, torch.arange(number) % 8, torch.ones(number, dtype=torch.float64))


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    return folder_dataset(write_shapes(tmp_path_factory.mktemp("shapes"), val=16), "val")


@pytest.mark.parametrize("number", range(4))
def test_every_candidate_is_scored_as_if_it_were_tried(number):
    pixels = random_pixels()
    others = np.array([0.3, -0.2, 0.1, 0.0])
    shifted = pixels.logits + torch.from_numpy(others).float()
    counts = logit_adjustment._counts_of_candidates(pixels, shifted, number)
    for candidate in (0, 37, 60, 61, 99, 120):
        tried = others.copy()
        tried[number] = logit_adjustment.CANDIDATES[candidate]
        assert np.array_equal(counts[candidate], pixels.counts(tried))


def test_offsets_undo_what_pulled_the_classes_apart():
    found = best_offsets(random_pixels(number=20000))
    assert found.mean() == pytest.approx(0)
    assert found == pytest.approx(-np.array([0.0, 1.0, -1.0, 0.5]) + 0.125, abs=0.2)


def test_a_class_that_does_not_occur_keeps_its_logits():
    """It would be easy to raise the score of these pictures by never saying it; others may hold it."""
    pixels = random_pixels(number=4000)
    of_three = pixels.among(pixels.classes < 3)
    found = logit_adjustment.adjustment_of(of_three, 8)
    assert of_three.counts(np.zeros(4))[:, 3].sum() > 100
    assert found.offsets[3] == 0 and found.offsets[:3].mean() == pytest.approx(0)
    assert not found.after > 0.9
    others = pixels.counts(found.offsets)
    assert others[3, 3] > 0.5 * others[3].sum()


def test_a_class_of_one_part_of_the_pictures_alone_does_not_hide_what_the_others_gain():
    pixels = random_pixels(number=4000)
    rare = pixels.among((pixels.classes != 3) | (pixels.pictures < 2))
    assert logit_adjustment.adjustment_of(rare, 8).helps


def test_pixels_of_large_pictures_stand_for_more(tmp_path, monkeypatch):
    """One confusion matrix over a set counts pixels, of which each picture gives no more than some."""
    shapes = folder_dataset(write_shapes(tmp_path, val=8), "val")
    large, mask = shapes_picture(seed=1, size=(256, 320))
    write_array(shapes.samples[0].image, large)
    write_array(shapes.samples[0].mask, mask)
    monkeypatch.setattr(logit_adjustment, "PIXELS_PER_PICTURE", 400)
    drawn = draw_pixels(noisy_logits, shapes)
    of_each = torch.bincount(drawn.pictures, weights=drawn.weights)
    assert of_each.tolist() == pytest.approx([256 * 320] + 7 * [64 * 80])
    assert drawn.counts(np.zeros(3)).sum() == pytest.approx(256 * 320 + 7 * 64 * 80)


def test_drawn_logits_are_those_of_resized_ones_and_void_is_never_drawn(shapes, monkeypatch):
    drawn = draw_pixels(noisy_logits, shapes)
    resized = F.interpolate(noisy_logits(torch.from_numpy(shapes[0][0])[None]), size=(64, 80), mode="bilinear")[0]
    first = drawn.among(drawn.pictures == 0)
    assert len(first.classes) == 64 * 80  # all of them, where a picture has no more
    assert torch.allclose(first.logits, resized.flatten(1).T, atol=1e-4)
    assert torch.equal(first.classes, torch.from_numpy(shapes[0][1].ravel()).long())

    monkeypatch.setattr(logit_adjustment, "LARGEST_SAMPLE", 3 * 16 * 50)
    fewer, again = draw_pixels(noisy_logits, shapes), draw_pixels(noisy_logits, shapes)
    assert len(fewer.classes) == 16 * 50
    assert torch.equal(fewer.logits, again.logits)


def test_void_pixels_are_left_out(tmp_path):
    shapes = folder_dataset(write_shapes(tmp_path, val=8), "val")
    mask = shapes[0][1].copy()
    mask[10:] = 255
    write_array(shapes.samples[0].mask, mask)
    drawn = draw_pixels(noisy_logits, shapes)
    assert int((drawn.pictures == 0).sum()) == 10 * 80
    assert int(drawn.classes.max()) == 2


def test_offsets_help_on_pictures_that_they_were_not_found_on(shapes):
    found = find_adjustment(noisy_logits, shapes, labels=shapes.labels)
    assert found.helps
    assert found.before + 0.1 < found.unseen <= found.after
    assert found.offsets.argmin() == 2
    words = found.described(shapes.labels.class_names)
    assert f"from {100 * found.before:.1f} % to {100 * found.after:.1f} %" in words
    assert f"disc {found.offsets[2]:+.2f}" in words


def test_offsets_that_only_fit_their_own_pictures_are_seen_through():
    """Five pixels of each picture, whose classes a network tells apart as well as can be: what is found is chance."""
    few = random_pixels(classes=3, number=40)
    fair = replace(few, logits=few.logits - torch.tensor([0.0, 1.0, -1.0]))
    found = logit_adjustment.adjustment_of(fair, 8)
    assert found.before < found.after and not found.helps
    hopeless = Adjustment(np.zeros(3), before=0.7, after=0.71, unseen=0.69)
    assert not hopeless.helps
    assert hopeless.described(["a", "b", "c"]).startswith("No offsets for the classes help: mean IoU 70.0 % as it is")


def test_what_cannot_be_adjusted_on_is_refused(shapes, tmp_path):
    few = folder_dataset(write_shapes(tmp_path / "few", val=7), "val")
    with pytest.raises(DataError, match="few val: has 7 pictures; offsets for the classes need 8 or more"):
        find_adjustment(noisy_logits, few, labels=few.labels)
    with pytest.raises(DataError, match="the weights know 21 classes"):
        find_adjustment(noisy_logits, shapes, labels=VOC)
    void = folder_dataset(write_shapes(tmp_path / "void", val=8), "val")
    for sample in void.samples:
        write_array(sample.mask, np.full((64, 80), 255, np.uint8))
    with pytest.raises(DataError, match="void val: not one pixel of its masks has a class"):
        find_adjustment(noisy_logits, void, labels=void.labels)
