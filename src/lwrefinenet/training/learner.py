"""The network as it learns: with auxiliary heads and with weights of its tasks that are learnt, where the recipe has them."""

from collections.abc import Iterator
from fractions import Fraction

import torch
from torch import Tensor, nn

from lwrefinenet.models.refinenet import RefineNet
from lwrefinenet.training.head import classify


class Learner(nn.Module):
    """The network and what learns beside it, one module for optimiser and devices; only the network is shipped.

    auxiliary: deep supervision of the classes as in H. Zhao et al., CVPR 2017: one 1x1 classifier for each level but the finest.
    uncertainty: learn the log of each task's variance, which weighs its loss (see `TaskLosses`).
    resized: pictures come at the network's `input_scale` already, and its backbone sees them at their own size
    (`RefineNet.seen_size`).
    """

    def __init__(
        self, network: RefineNet, *, auxiliary: bool, uncertainty: bool = False, resized: bool = False
    ) -> None:
        super().__init__()
        self.network = network
        self.resized = resized
        widths = [handover.in_channels for handover in network.decoder.handovers] if auxiliary else []
        self.heads = nn.ModuleList(nn.Conv2d(int(width), network.num_classes, kernel_size=1) for width in widths)  # type: ignore[arg-type]
        log_variances = torch.zeros(len(network.tasks))
        if uncertainty:
            self.log_variances = nn.Parameter(log_variances)
        else:
            self.register_buffer("log_variances", log_variances, persistent=False)

    def forward(self, images: Tensor) -> tuple[dict[str, list[Tensor]], Tensor]:
        """images: (N, 3, H, W), normalised.

        Returns what the network says by task, after the logits those of the auxiliary heads, coarse to fine; and the logs of the
        tasks' variances, (tasks,), zeros where they are not learnt.
        """
        scale = Fraction(1) if self.resized else None
        *coarser, finest = self.network.decoder.cascade(self.network.features(images, scale))
        heard = {task: _heard(head, finest) for task, head in self.network.heads_by_task().items()}
        heard = self.network.as_far_away(heard, images.shape[-2:], scale)
        maps = {task: [results] for task, results in heard.items()}
        maps["segmentation"] += [head(level) for head, level in zip(self.heads, coarser, strict=bool(self.heads))]
        return maps, self.log_variances

    def beside_the_network(self) -> Iterator[nn.Parameter]:
        """The parameters that are not shipped."""
        return (parameter for name, parameter in self.named_parameters() if not name.startswith("network."))


def _heard(head: nn.Module, finest: Tensor) -> Tensor:
    """What a head says: a convolution, or layers that end in one."""
    *layers, last = head if isinstance(head, nn.Sequential) else [head]
    for layer in layers:
        finest = layer(finest)
    assert isinstance(last, nn.Conv2d)
    return classify(last, finest)
