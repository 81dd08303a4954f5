"""NASNet-A mobile as a backbone, from the library pytorchcv. The only importer of pytorchcv.

B. Zoph, V. Vasudevan, J. Shlens, Q. V. Le, "Learning Transferable Architectures for Scalable Image Recognition", CVPR 2018
(arXiv:1707.07012).
"""

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from lwrefinenet.errors import UsageError
from lwrefinenet.models.backbones import cut_to_size, filled_up
from lwrefinenet.preprocess import Preprocess


class NasNetMobileFeatures(nn.Module):
    """Four features of NASNet-A 4 @ 1056, each as the next cell sees it, after its ReLU.

    Its cells need sizes that are multiples of 32: others are filled up with zeros, and the features are cut.
    """

    name = "nasnet_4a1056"
    channels = (44, 264, 528, 1056)  # at reductions 4, 8, 16, 32

    def __init__(self) -> None:
        super().__init__()
        parts = _network().features
        names = ("init_block", "stem1_unit", "stem2_unit", "stage1", "stage2", "stage3")
        self.net = nn.ModuleDict({name: parts.get_submodule(name) for name in names})
        self.preprocess = Preprocess()

    def forward(self, images: Tensor) -> list[Tensor]:
        """images: (N, 3, H, W).  Returns four features (N, channels[i], ceil(H/r), ceil(W/r)), fine to coarse."""
        height, width = images.shape[-2:]
        start = self.net["init_block"](filled_up(images))
        # Each cell takes the results of the two before it.
        before = self.net["stem1_unit"](start)
        x = self.net["stem2_unit"](before, start)
        features: list[Tensor] = [before]
        for stage in ("stage1", "stage2", "stage3"):
            x, before = self.net[stage](x, before)
            features.append(x)
        return cut_to_size([F.relu(feature) for feature in features], height, width)


def _network() -> Any:
    try:
        from pytorchcv.models.nasnet import nasnet_4a1056
    except ModuleNotFoundError as error:
        raise UsageError("backbone NASNet-A mobile needs pytorchcv: pip install 'lwrefinenet[nasnet]'.") from error
    return nasnet_4a1056(pretrained=False)
