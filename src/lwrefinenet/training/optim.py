"""Optimisers, the moving average of the weights, and batch norms that stand still."""

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor, nn
from torch.optim import SGD, AdamW, Optimizer
from torch.optim.swa_utils import AveragedModel

from lwrefinenet.models.refinenet import RefineNet


def build_optimizer(
    model: RefineNet,
    kind: str,
    *,
    backbone_lr: float,
    decoder_lr: float,
    weight_decay: float,
    momentum: float,
    decay_vectors: bool = False,
    besides: Iterable[nn.Parameter] = (),
) -> Optimizer:
    """ "adamw" or "sgd", with one learning rate for the backbone and one for decoder, heads, and what learns besides.

    decay_vectors: also on biases and batch norms, as published; these are spared otherwise.
    """
    rest = [parameter for name, parameter in model.named_parameters() if not name.startswith("backbone.")]
    rest += besides
    groups = [
        {
            "params": [p for p in parameters if (p.ndim > 1) == matrices],
            "lr": lr,
            "weight_decay": weight_decay if matrices or decay_vectors else 0.0,
        }
        for parameters, lr in ((list(model.backbone.parameters()), backbone_lr), (rest, decoder_lr))
        for matrices in (True, False)
    ]
    return AdamW(groups) if kind == "adamw" else SGD(groups, momentum=momentum)


def moving_average(model: nn.Module, decay: float) -> AveragedModel:
    """An exponential moving average of parameters and batch-norm statistics, with a short memory at first."""
    return AveragedModel(model, multi_avg_fn=_ema(decay), use_buffers=True)


def _ema(decay: float) -> Callable[[Sequence[Tensor], Sequence[Tensor], Tensor | int], None]:
    @torch.no_grad()
    def update(averages: Sequence[Tensor], values: Sequence[Tensor], updates: Tensor | int) -> None:
        kept = min(decay, (1 + float(updates)) / (10 + float(updates)))
        # All of one kind in one call: on a GPU a call for each would take longer than the step.
        if averages[0].is_floating_point():
            torch._foreach_lerp_(list(averages), list(values), 1 - kept)
        else:
            torch._foreach_copy_(list(averages), list(values))

    return update


def freeze_batch_norm(model: nn.Module) -> None:
    """Put every batch norm in evaluation mode: running statistics stay, scale and shift still learn."""
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.eval()
