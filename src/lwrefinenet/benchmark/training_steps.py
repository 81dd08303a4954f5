"""One training step in two ways: as our engine does it, and as the published code did; same network, same pictures.

The published way is written from the facts of its recipe (2018, NYUv2): V. Nekrasov et al., arXiv:1810.03272.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.optim import SGD

from lwrefinenet.errors import UsageError
from lwrefinenet.models.refinenet import LightWeightRefineNet
from lwrefinenet.models.zoo import create_model
from lwrefinenet.preprocess import Preprocess
from lwrefinenet.training.allocator import keep_freed_memory
from lwrefinenet.training.learner import Learner
from lwrefinenet.training.losses import SegmentationLoss
from lwrefinenet.training.optim import build_optimizer, freeze_batch_norm
from lwrefinenet.training.processes import Processes
from lwrefinenet.training.step import OptimizerStep
from lwrefinenet.training.task_losses import TaskLosses

IGNORE_INDEX = 255
BACKBONE_LR, DECODER_LR = 5e-4, 5e-3  # published, of the first stage
MOMENTUM, WEIGHT_DECAY = 0.9, 1e-5

Step = Callable[[], float]


@dataclass(frozen=True)
class StepJob:
    """What is measured. size: (height, width) of the crops.  batch: of how many.  precision: ours, as in a recipe."""

    model: str
    num_classes: int
    size: tuple[int, int]
    batch: int
    precision: str = "auto"
    threads: int = 1
    seed: int = 0

    def network(self) -> LightWeightRefineNet:
        """The same parameters every time."""
        torch.manual_seed(self.seed)
        network = create_model(self.model, self.num_classes)
        if not isinstance(network, LightWeightRefineNet):
            raise UsageError(f"network {self.model!r} has several tasks; the training benchmark takes networks of one.")
        return network

    def pictures(self) -> tuple[Tensor, Tensor]:
        """(N, 3, H, W) uint8 noise; (N, H, W) int64 random classes in blocks of 25x25 pixels, about a tenth of them ignored."""
        generator = torch.Generator().manual_seed(self.seed)
        height, width = self.size
        images = torch.randint(256, (self.batch, 3, height, width), generator=generator).byte()
        cells = (self.batch, -(-height // 25), -(-width // 25))
        classes = torch.randint(self.num_classes, cells, generator=generator)
        classes[torch.rand(cells, generator=generator) < 0.1] = IGNORE_INDEX
        targets = classes.repeat_interleave(25, dim=1).repeat_interleave(25, dim=2)[:, :height, :width]
        return images, targets.contiguous()


def our_step(job: StepJob) -> Step:
    """A step of the engine, as the training loop drives it; each call takes it again and gives its loss.

    Changes the allocator of this process for good, as training does.
    """
    keep_freed_memory()
    processes = Processes.start(job.precision, torch.device("cpu"))
    learner = Learner(job.network(), auxiliary=False)
    learner.to(memory_format=torch.channels_last)
    optimizer = build_optimizer(
        learner.network,
        "sgd",
        backbone_lr=BACKBONE_LR,
        decoder_lr=DECODER_LR,
        weight_decay=WEIGHT_DECAY,
        momentum=MOMENTUM,
        decay_vectors=True,
    )
    step = OptimizerStep(
        processes,
        processes.distributed(learner),
        TaskLosses(SegmentationLoss(IGNORE_INDEX), {"segmentation": 1.0}),
        processes.prepared(optimizer),
        prepare=Preprocess(),
        device_batch=job.batch,
        clip_grad_norm=0.0,
        say=print,
        frozen=True,
    )
    step.begin()
    images, targets = job.pictures()
    return lambda: step(images.to("cpu", memory_format=torch.channels_last), {"segmentation": targets})


def published_step(job: StepJob) -> Step:
    """A step of the published recipe: eager float32, planes after one another (NCHW), one SGD each for encoder and decoder.

    Its pictures come normalised from the loader, so that its time holds no normalisation, which ours does.
    """
    network = job.network().train()
    freeze_batch_norm(network)
    decoder = [*network.decoder.parameters(), *network.head.parameters()]
    optimizers = [
        SGD(parameters, lr=lr, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY)
        for parameters, lr in ((list(network.backbone.parameters()), BACKBONE_LR), (decoder, DECODER_LR))
    ]
    images, targets = job.pictures()
    normalised = Preprocess()(images)

    def step() -> float:
        logits = F.interpolate(network(normalised), size=targets.shape[-2:], mode="bilinear", align_corners=False)
        loss = F.nll_loss(F.log_softmax(logits, dim=1), targets, ignore_index=IGNORE_INDEX)
        for optimizer in optimizers:
            optimizer.zero_grad()
        torch.autograd.backward(loss)
        for optimizer in optimizers:
            optimizer.step()
        return loss.item()

    return step


WAYS: dict[str, Callable[[StepJob], Step]] = {"ours": our_step, "published": published_step}
