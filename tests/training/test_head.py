import pytest
import torch
from torch import nn

from lwrefinenet.training.head import classify


def gradients(function, head, features, gradient):
    features = features.detach().requires_grad_()
    head.zero_grad()
    logits = function(features)
    logits.backward(gradient)
    return logits, features.grad, head.weight.grad, head.bias.grad


@pytest.mark.parametrize(("num_classes", "size"), [(21, (13, 17)), (1, (5, 4)), (3, (1, 1))])
def test_logits_and_gradients_are_those_of_the_convolution(num_classes, size):
    torch.manual_seed(0)
    head = nn.Conv2d(16, num_classes, 3, padding=1).to(memory_format=torch.channels_last)
    features = torch.randn(2, 16, *size).contiguous(memory_format=torch.channels_last)
    gradient = torch.randn(2, num_classes, *size)
    expected = gradients(head, head, features, gradient)
    found = gradients(lambda x: classify(head, x), head, features, gradient)
    assert torch.equal(found[0], expected[0])
    for mine, theirs in zip(found[1:], expected[1:], strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-4)


def test_under_autocast_it_is_the_convolution_itself():
    torch.manual_seed(0)
    head = nn.Conv2d(16, 5, 3, padding=1).to(memory_format=torch.channels_last)
    features = torch.randn(1, 16, 6, 7).contiguous(memory_format=torch.channels_last)
    with torch.autocast("cpu", torch.bfloat16):
        logits = classify(head, features)
    assert logits.dtype == torch.bfloat16
    assert "ConvolutionBackward" in type(logits.grad_fn).__name__
