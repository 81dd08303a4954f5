"""Patches hidden from the learner: how many, where, and that nothing else of a picture changes."""

import pytest
import torch

from lwrefinenet.data.hiding import PATCH, hidden_patches, without_hidden

pytestmark = pytest.mark.usefixtures("seeded")


def test_each_crop_draws_its_share_from_none_to_the_most_and_any_patch_may_be_hidden():
    drawn = torch.stack([hidden_patches((480, 640), 0.6) for _ in range(1000)]).float()
    assert drawn.shape == (1000, 8, 10)  # the last row is cut
    shares = drawn.mean(dim=(1, 2))
    assert shares.mean().item() == pytest.approx(0.3, abs=0.02)
    assert shares.std().item() == pytest.approx(
        0.6 / 12**0.5, abs=0.03
    )  # of a uniform distribution, and a little for chance
    assert (drawn.mean(dim=0) - 0.3).abs().max() < 0.07


def test_with_nothing_to_hide_no_random_number_is_drawn():
    before = torch.get_rng_state()
    assert not hidden_patches((100, 64), 0.0).any()
    assert torch.equal(torch.get_rng_state(), before)


def test_hidden_patches_are_zeros_up_to_the_edges_and_the_rest_stays():
    images = torch.rand(2, 3, 100, 150) + 1
    hidden = torch.tensor([[[True, False, False], [False, False, True]], [[False] * 3] * 2])
    seen = without_hidden(images, hidden)
    expected = images.clone()
    expected[0, :, :PATCH, :PATCH] = 0
    expected[0, :, PATCH:, 2 * PATCH :] = 0
    assert torch.equal(seen, expected)
    assert (images > 0).all()  # what others are shown
