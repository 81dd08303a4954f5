import numpy as np
import pytest
import torch
import torch.nn.functional as F

from lwrefinenet import label_cells, upsample

pytest.importorskip("numba")


def smooth_logits(classes, height, width):
    """Regions with borders, as a network gives them: noise in which neighbours are alike."""
    noise = torch.randn(1, classes, height // 6 + 2, width // 6 + 2, generator=torch.Generator().manual_seed(0))
    return F.interpolate(noise, size=(height, width), mode="bicubic") * 5


@pytest.mark.parametrize(
    ("small", "size"),
    [
        ((117, 157), (468, 625)),
        ((12, 20), (47, 77)),
        ((9, 7), (33, 28)),
        ((1, 1), (3, 2)),
        ((1, 30), (2, 117)),
        ((8, 8), (5, 3)),
    ],
)
@pytest.mark.parametrize("classes", [1, 2, 21])
def test_labels_are_those_of_the_picture_interpolated_as_a_whole(small, size, classes):
    logits = smooth_logits(classes, *small)
    expected = F.interpolate(logits, size=size, mode="bilinear", align_corners=False).argmax(1)[0]
    found = label_cells.label_cells(logits[0], size)
    assert found.dtype == torch.uint8
    assert (found == expected).float().mean() >= 0.99999


def test_a_class_that_is_best_in_no_cell_is_found_between_cells():
    logits = torch.tensor([[[10.0, 0.0]], [[7.0, 7.0]], [[0.0, 10.0]]])
    assert label_cells.label_cells(logits, (1, 8)).unique().tolist() == [0, 1, 2]


def test_the_part_that_is_compiled_says_the_same_in_python(monkeypatch):
    logits = smooth_logits(5, 7, 9)[0]
    compiled = label_cells.label_cells(logits, (29, 34))
    monkeypatch.setattr(label_cells, "_compiled", lambda: label_cells._label)
    assert torch.equal(label_cells.label_cells(logits, (29, 34)), compiled)


def test_noise_in_which_every_class_may_win_is_labelled_right():
    logits = torch.randn(1, 30, 40, 50, generator=torch.Generator().manual_seed(0))
    expected = F.interpolate(logits, size=(163, 201), mode="bilinear", align_corners=False).argmax(1)[0]
    assert (label_cells.label_cells(logits[0], (163, 201)) == expected).float().mean() >= 0.9999


def test_equal_values_give_the_first_class_as_argmax_does():
    assert label_cells.label_cells(torch.zeros(4, 3, 3), (12, 12)).unique().tolist() == [0]


def test_upsampling_takes_cells_where_numba_is_there_and_bands_where_not(monkeypatch):
    logits = smooth_logits(11, 30, 40)
    with_cells = upsample.labels_at(logits, (119, 160))
    monkeypatch.setattr(upsample, "has_numba", lambda: False)
    monkeypatch.setattr(upsample, "label_cells", lambda *_: pytest.fail("cells were taken"))
    in_bands = upsample.labels_at(logits, (119, 160))
    np.testing.assert_array_equal(with_cells.numpy(), in_bands.numpy())
