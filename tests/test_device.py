"""How a device computes, told before and after."""

import pytest
import torch

from lwrefinenet.device import timed_convolutions


@pytest.mark.parametrize(("device", "timed"), [("cuda", True), ("cpu", False)])
def test_cudnn_tries_its_ways_on_a_gpu_and_only_while_it_is_asked_to(device, timed):
    with pytest.raises(ZeroDivisionError), timed_convolutions(torch.device(device)):
        assert torch.backends.cudnn.benchmark is timed
        1 / 0  # noqa: B018 - whatever happens inside
    assert torch.backends.cudnn.benchmark is False
