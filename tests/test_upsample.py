import pytest
import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from lwrefinenet import upsample
from lwrefinenet.upsample import CPU_BAND_VALUES, RESIZES, labels_at


@pytest.mark.parametrize("resize", ["bilinear", "bicubic"])
@pytest.mark.parametrize(
    ("small", "size"),
    [((12, 20), (47, 77)), ((9, 7), (33, 28)), ((1, 1), (1, 1)), ((1, 1), (3, 2)), ((1, 30), (2, 117))],
)
def test_labels_are_those_of_the_whole_picture_interpolated(resize, small, size):
    logits = torch.randn(2, 11, *small, generator=torch.Generator().manual_seed(0))
    whole = F.interpolate(logits, size=size, mode=resize, align_corners=False)
    best_two = whole.topk(2, dim=1).values
    decided = best_two[:, 0] - best_two[:, 1] > 1e-5  # closer than that, rounding decides
    labels = labels_at(logits, size, resize)
    assert labels.dtype == torch.uint8
    assert decided.float().mean() > 0.99
    assert (labels == whole.argmax(1))[decided].all()


@pytest.mark.parametrize("resize", ["bilinear", "bicubic"])
def test_the_height_of_the_bands_changes_no_label(resize):
    logits = torch.randn(2, 7, 50, 60, generator=torch.Generator().manual_seed(0))
    at_once = labels_at(logits, (199, 240), resize, band_values=10**9)
    for rows in (1, 3, 64):
        torch.testing.assert_close(
            labels_at(logits, (199, 240), resize, band_values=rows * 2 * 7 * 240), at_once, rtol=0, atol=0
        )


class LargestTensor(TorchDispatchMode):
    """The number of values of the largest tensor that any operation makes."""

    values = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor):
            self.values = max(self.values, result.numel())
        return result


@pytest.mark.parametrize("resize", RESIZES)
def test_resized_logits_never_exist_as_a_whole(monkeypatch, resize):
    monkeypatch.setattr(
        upsample, "has_numba", lambda: False
    )  # what is compiled makes no tensors that could be seen here
    logits = torch.randn(1, 60, 75, 100)
    with LargestTensor() as largest:
        labels_at(logits, (300, 400), resize)
    assert largest.values <= CPU_BAND_VALUES < 60 * 300 * 400 / 5


def test_logits_are_resized_and_not_labels():
    """Between classes 0 and 2 lies a place where class 1 is best, though it is best in no cell."""
    logits = torch.tensor([[[[10.0, 0.0]], [[7.0, 7.0]], [[0.0, 10.0]]]])
    assert labels_at(logits, (1, 8)).unique().tolist() == [0, 1, 2]
