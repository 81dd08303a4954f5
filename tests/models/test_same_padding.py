import pytest
import torch
from timm.layers import Conv2dSame

from lwrefinenet.models.backbones import TimmFeatures
from lwrefinenet.models.same_padding import SamePaddedConv2d


@pytest.mark.parametrize(
    ("kernel", "stride", "dilation"), [(3, 1, 1), (3, 2, 1), (5, 2, 1), (2, 2, 1), (3, 1, 2), (7, 4, 1)]
)
@pytest.mark.parametrize("size", [(1, 1), (2, 3), (32, 33), (47, 30)])
def test_it_is_the_convolution_of_timm_bit_by_bit(kernel, stride, dilation, size):
    torch.manual_seed(0)
    theirs = Conv2dSame(3, 4, kernel, stride, dilation=dilation)
    ours = SamePaddedConv2d.like(theirs)
    images = torch.randn(2, 3, *size)
    assert torch.equal(ours(images), theirs(images))
    assert ours(images).shape[-2:] == (-(-size[0] // stride), -(-size[1] // stride))
    assert ours.weight is theirs.weight


def test_backbones_with_this_padding_have_the_form_that_exports():
    kinds = {type(module) for module in TimmFeatures("tf_efficientnet_lite0").modules()}
    assert SamePaddedConv2d in kinds
    assert Conv2dSame not in kinds
