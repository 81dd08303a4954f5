"""Distillation: other weights, larger, slower or several, whose opinion of every cell is learnt beside the masks."""

from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from lwrefinenet import weights
from lwrefinenet.errors import RecipeError
from lwrefinenet.labels import LabelSet
from lwrefinenet.tasks import stacked


class Teacher:
    """Weights that are learnt from, as they are: they see the same crops, flipped and coloured as the learner's.

    What is hidden from the learner (`hidden_patches`) they see.  Of several, the mean of what they hold likely is learnt.
    names: each as `weights.load`.  labels: of the learner; RecipeError where a teacher's classes are others.
    weight: of the distance in the loss, of what each cell shows.  channel_weight: of that of where each class is.
    temperature: divides the logits of all.  flip: they see the crops' mirror images as well, and the mean of both is learnt.
    resized: pictures come resized already (`Learner`), so that a teacher with an `input_scale` sees them at that size, too.
    G. Hinton, O. Vinyals, J. Dean, "Distilling the knowledge in a neural network" (arXiv:1503.02531); C. Shu et al.,
    "Channel-wise knowledge distillation for dense prediction", ICCV 2021 (arXiv:2011.13256).
    """

    def __init__(
        self,
        names: Sequence[str],
        labels: LabelSet,
        *,
        weight: float,
        temperature: float,
        device: torch.device,
        channel_weight: float = 0.0,
        flip: bool = False,
        resized: bool = False,
    ) -> None:
        self.opinions = [_Opinion(name, labels, device, resized=resized) for name in names]
        self.weight, self.channel_weight, self.temperature, self.flip = weight, channel_weight, temperature, flip

    def distance(self, logits: Tensor, images: Tensor) -> Tensor:
        """How far the learner's opinion is from the teachers', weighted: a scalar.

        logits: the learner's, (N, C, h, w).  images: what all saw, (N, 3, H, W) uint8 RGB.
        """
        first, *others = self._seen(images)
        expected = self._mean([first, *others], logits) if others else first
        distance = self.weight * divergence(logits, expected, self.temperature)
        if self.channel_weight:
            distance = distance + self.channel_weight * channel_divergence(logits, expected, self.temperature)
        return distance

    def _seen(self, images: Tensor) -> Iterator[Tensor]:
        """What each of the teachers says of the images, and of their mirror images, turned back: logits (N, C, h, w)."""
        for opinion in self.opinions:
            yield opinion(images)
            if self.flip:
                yield opinion(images.flip(3)).flip(3)

    def _mean(self, opinions: Sequence[Tensor], logits: Tensor) -> Tensor:
        """Logits of the size of `logits`, which at the temperature give the mean of what several opinions hold likely."""
        alike = [_resized(opinion, logits).float() / self.temperature for opinion in opinions]
        likely = torch.stack([each.softmax(dim=1) for each in alike]).mean(dim=0)
        return self.temperature * likely.clamp_min(1e-9).log()


class _Opinion:
    """One network that is listened to, and how it wants pictures; arguments as `Teacher`.

    Under autocast its parameters are of that type themselves: autocast would keep them wide, and with maps of another type than
    its parameters the decoder finds every maximum's place (`models.fused_level`).
    """

    def __init__(self, name_or_path: str, labels: LabelSet, device: torch.device, *, resized: bool) -> None:
        model, self.meta = weights.load(name_or_path)
        if self.meta.labels.class_names != labels.class_names:
            raise RecipeError(
                f"recipe: teacher is {name_or_path!r}, which knows {len(self.meta.labels)} classes, and the training data has "
                f"{len(labels)}, or they differ in name or order; expected weights with the same classes."
            )
        if resized:
            model.see_at(1)
        self.network = model.fuse().to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Tensor:
        """images: (N, 3, H, W) uint8 RGB.  Returns logits (N, C, h, w)."""
        kind = images.device.type
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else torch.float32
        self.network.to(dtype)
        with torch.autocast(kind, enabled=False):
            results = stacked(self.network(self.meta.preprocess(images).to(dtype)))
        return self.meta.channels.split(results)["segmentation"]


def divergence(logits: Tensor, expected: Tensor, temperature: float) -> Tensor:
    """The mean over the cells of KL(expected || logits) at a temperature, times its square, so that gradients keep their size.

    logits, expected: (N, C, h, w); brought to the size of `logits` where sizes differ.  Returns a scalar.
    """
    learnt, known = _log_likely(logits, temperature), _log_likely(_resized(expected, logits), temperature)
    return temperature**2 * F.kl_div(learnt, known, reduction="none", log_target=True).sum(dim=1).mean()


def channel_divergence(logits: Tensor, expected: Tensor, temperature: float) -> Tensor:
    """The same of where each class is: the KL of how its likelihood is spread over the cells, a mean over classes and pictures.

    A class counts by the most that is expected of it in a cell, so that those of a picture count nearly alike, however few cells
    they have.  The paper (`Teacher`) counts all alike, also those that a picture lacks, which of many classes are most.  And what
    is spread is the probability at the temperature, where the paper has logits: so a number added to all classes of a cell changes
    nothing, and several teachers' mean is one of probabilities here, too.
    logits, expected: (N, C, h, w), as `divergence` takes them.  Returns a scalar.
    """
    learnt, known = (_log_likely(each, temperature).flatten(2) for each in (logits, _resized(expected, logits)))
    seen = known.amax(dim=2).exp()  # (N, C)
    apart = F.kl_div(learnt.log_softmax(dim=2), known.log_softmax(dim=2), reduction="none", log_target=True).sum(dim=2)
    return temperature**2 * ((seen * apart).sum(dim=1) / seen.sum(dim=1)).mean()


def _log_likely(logits: Tensor, temperature: float) -> Tensor:
    return (logits.float() / temperature).log_softmax(dim=1)


def _resized(maps: Tensor, like: Tensor) -> Tensor:
    size = like.shape[-2:]
    return maps if maps.shape[-2:] == size else F.interpolate(maps, size=size, mode="bilinear", align_corners=False)
