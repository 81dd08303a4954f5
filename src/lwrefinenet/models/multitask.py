"""Multi-task Light-Weight RefineNet: segmentation, depth and surface normals from one decoder.

V. Nekrasov, T. Dharmasiri, A. Spek, T. Drummond, C. Shen, I. Reid, "Real-Time Joint Semantic Segmentation and Depth Estimation
Using Asymmetric Annotations", ICRA 2019 (arXiv:1809.04766).
"""

from collections.abc import Iterable, Sequence
from fractions import Fraction

import torch
from torch import Tensor, nn

from lwrefinenet.errors import UsageError
from lwrefinenet.models.refinenet import Cascade, RefineNet, depthwise1x1
from lwrefinenet.tasks import TASKS, WIDTHS


class MultiTaskRefineNet(RefineNet):
    """A backbone that gives features, a decoder that fuses them, and a head for each task.

    tasks: some of TASKS, in their order.  The other arguments are those of `RefineNet`.
    """

    def __init__(
        self,
        backbone: nn.Module,
        decoder: Cascade,
        num_classes: int,
        tasks: Sequence[str],
        *,
        input_scale: float = 1.0,
    ) -> None:
        super().__init__(backbone, decoder, num_classes, input_scale=input_scale)
        channels = {"segmentation": num_classes, **WIDTHS}
        self.heads = nn.ModuleDict({task: _head(decoder.out_channels, channels[task]) for task in tasks})

    def heads_by_task(self) -> dict[str, nn.Module]:
        return dict(self.heads.items())

    def see_at(self, scale: float | Fraction) -> None:
        """As `RefineNet.see_at`: what is shown larger looks nearer, by as much as its depth is multiplied here."""
        former = self.input_scale
        super().see_at(scale)
        if "depth" in self.heads:
            with torch.no_grad():
                for values in self.heads["depth"][-1].parameters():  # type: ignore[index]
                    values *= float(self.input_scale / former)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """images: (N, 3, H, W), normalised; any H and W.

        Returns, for each task, (N, C, ceil(h/4), ceil(w/4)), where h x w is `seen_size`: "segmentation" logits, "depth" in
        metres, one channel, of which the absolute value is meant, "normals", unnormalised vectors, three channels.
        """
        fused = self.decoder(self.features(images))
        results = {task: head(fused) for task, head in self.heads.items()}
        return self.as_far_away(results, images.shape[-2:])


def canonical_tasks(tasks: Iterable[str]) -> tuple[str, ...]:
    """The tasks in the order of TASKS; UsageError for an unknown one, or where segmentation is not among them."""
    given = list(tasks) if isinstance(tasks, Iterable) and not isinstance(tasks, str) else [tasks]
    if "segmentation" not in given or not set(given) <= set(TASKS):
        raise UsageError(f"tasks are {given}; expected 'segmentation', and with it any of {', '.join(TASKS[1:])}.")
    return tuple(task for task in TASKS if task in given)


def _head(in_channels: int, out_channels: int) -> nn.Module:
    return nn.Sequential(
        depthwise1x1(in_channels, in_channels),
        nn.ReLU6(),
        nn.Conv2d(in_channels, out_channels, kernel_size=3, padding=1),
    )


def beginning_small(network: MultiTaskRefineNet) -> MultiTaskRefineNet:
    """The same network, its decoder and heads as the published one began: weights of deviation 0.01, biases 0."""
    for conv in (*network.decoder.modules(), *network.heads.modules()):
        if isinstance(conv, nn.Conv2d):
            nn.init.normal_(conv.weight, std=0.01)
            if conv.bias is not None:
                nn.init.zeros_(conv.bias)
    return network
