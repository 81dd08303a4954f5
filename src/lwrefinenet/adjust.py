"""Weights in, weights with offsets for their classes out: the same network, as fast, with a larger mean IoU."""

from collections.abc import Callable, Iterable
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from lwrefinenet import weights
from lwrefinenet.data.dataset import LabelledPictures
from lwrefinenet.errors import UsageError
from lwrefinenet.evaluate import evaluate
from lwrefinenet.logit_adjustment import Adjustment, find_adjustment
from lwrefinenet.meta import WITH_OFFSETS_FROM_THERE, Score, found_on
from lwrefinenet.models.refinenet import RefineNet
from lwrefinenet.predict import Predictor
from lwrefinenet.runtimes.choose import EXPORTED


def adjust_weights(
    source: str | Path,
    target: Path,
    pictures: LabelledPictures,
    *,
    device: torch.device,
    watch: Callable[[Iterable[int], str], Iterable[int]] = lambda indices, what: indices,
) -> Adjustment:
    """Find offsets for the classes on labelled pictures, and write the weights with them where they help on unseen ones.

    source: as `weights.load`.  target: may be the source; written whole, with its mean IoU on these pictures, or not at all.
    pictures: of a split that the weights did not learn from.  watch: wraps indices and is told what is done with them.
    UsageError for an exported file; other errors as `weights.load` and `find_adjustment`.
    """
    if Path(source).suffix.lower() in EXPORTED:
        raise UsageError(f"{source}: is an exported file; adjust the {weights.SUFFIX} file, and export it again.")
    model, meta = weights.load(source)
    found = find_adjustment(
        Predictor.from_weights(source, device=device, runtime="pytorch").logits,
        pictures,
        labels=meta.labels,
        progress=lambda indices: watch(indices, "finding offsets"),
    )
    if not found.helps:
        return found
    shifted = with_offsets(model, found.offsets)  # in biases, which no file rounds
    predictor = Predictor.from_model(shifted.fuse(), meta, device)
    evaluation = evaluate(
        predictor.predict_maps,
        pictures,
        labels=meta.labels,
        views=lambda: predictor.views,
        progress=lambda indices: watch(indices, "scoring"),
    )
    protocol = f"{evaluation.protocol}{WITH_OFFSETS_FROM_THERE}"
    others = (score for score in meta.scores if score.metric != "mean_iou")  # offsets change nothing in other tasks
    scores = (Score("mean_iou", evaluation.mean_iou, protocol), *others)
    meta = replace(meta, scores=scores, adjustment=found_on(pictures.name, pictures.split))
    weights.save(target, shifted, meta, half=weights.is_half(source))
    return found


def with_offsets(model: RefineNet, offsets: NDArray[np.float64]) -> RefineNet:
    """A copy of a network that adds offsets, (C,), to its logits: they lie in the biases of its last convolution."""
    shifted = deepcopy(model)
    head = shifted.heads_by_task()["segmentation"]
    last = head[-1] if isinstance(head, nn.Sequential) else head
    assert isinstance(last, nn.Conv2d) and last.bias is not None
    with torch.no_grad():
        last.bias += torch.from_numpy(offsets).to(last.bias)
    return shifted
