"""The network as it learns: with auxiliary heads on the coarser levels of its decoder where the recipe has them."""

from torch import Tensor, nn

from lwrefinenet.models.refinenet import LightWeightRefineNet
from lwrefinenet.training.head import classify


class Learner(nn.Module):
    """The network and its auxiliary heads, one module for optimiser and devices; only the network is shipped.

    auxiliary: deep supervision as in H. Zhao et al., CVPR 2017: one 1x1 classifier for each level but the finest.
    """

    def __init__(self, network: LightWeightRefineNet, *, auxiliary: bool) -> None:
        super().__init__()
        self.network = network
        widths = [handover.in_channels for handover in network.decoder.handovers] if auxiliary else []
        self.heads = nn.ModuleList(nn.Conv2d(int(width), network.num_classes, kernel_size=1) for width in widths)  # type: ignore[arg-type]

    def forward(self, images: Tensor) -> list[Tensor]:
        """images: (N, 3, H, W), normalised.  Returns the network's logits, then those of the heads, coarse to fine."""
        *coarser, finest = self.network.decoder.cascade(self.network.features(images))
        logits = classify(self.network.head, finest)
        if not self.heads:
            return [logits]
        return [logits, *(head(level) for head, level in zip(self.heads, coarser, strict=True))]
