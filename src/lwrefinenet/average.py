"""Several weights in, one out: the mean of their parameters, which takes no more time than one of them and often knows more.

P. Izmailov et al., "Averaging weights leads to wider optima and better generalization" (UAI 2018); M. Wortsman et al., "Model
soups: averaging weights of multiple fine-tuned models improves accuracy without increasing inference time" (ICML 2022).
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from lwrefinenet import weights
from lwrefinenet.errors import UsageError
from lwrefinenet.meta import WeightsMeta, joined
from lwrefinenet.models.refinenet import RefineNet
from lwrefinenet.runtimes.choose import EXPORTED


def average_weights(sources: Sequence[str | Path], target: Path) -> WeightsMeta:
    """Write the mean of weights that were trained from the same beginning: runs that parted, or one that went on from another.

    Running statistics of batch norms are averaged like parameters, and so are offsets of classes.  Where they see pictures at
    different sizes (`input_scale`), the mean sees them at that of the first.  Of runs with nothing in common it knows nothing:
    score it.
    sources: two or more, each as `weights.load`.  target: written whole or not at all, without scores, which are those of
    others; in float16 where each of the sources is.
    UsageError for fewer than two, an exported file, or where network, classes or preprocessing differ; others as `weights.load`.
    """
    if len(sources) < 2:
        raise UsageError(
            f"a mean of {len(sources)} is none; give two files or more that were trained from the same beginning."
        )
    for source in sources:
        if Path(source).suffix.lower() in EXPORTED:
            raise UsageError(f"{source}: is an exported file; average {weights.SUFFIX} files, and export the mean.")
    loaded = [weights.load(source) for source in sources]
    (model, meta), *others = loaded
    for source, (other, others_meta) in zip(sources[1:], others, strict=True):
        if difference := _difference(model, meta, other, others_meta):
            raise UsageError(f"{sources[0]} and {source} differ: {difference}; expected runs of nearly one recipe.")
        other.see_at(model.input_scale)
    model.load_state_dict(_mean([each.state_dict() for each, _ in loaded]))
    told = _told(sources, [meta for _, meta in loaded])
    weights.save(target, model, told, half=all(map(weights.is_half, sources)))
    return told


def _difference(model: RefineNet, meta: WeightsMeta, other: RefineNet, others: WeightsMeta) -> str:
    """What keeps two networks from having a mean, in words; empty where nothing does, at whatever size they see pictures."""
    if meta.network != others.network:
        return f"they are {meta.network} and {others.network}"
    if len(meta.labels) != len(others.labels):
        return f"they know {len(meta.labels)} and {len(others.labels)} classes"
    if repr(model) != repr(other):  # as they are built, with what their metadata leaves out
        return f"they are {meta.network} with {meta.arguments} and with {others.arguments}"
    if meta.labels.class_names != others.labels.class_names:
        return f"the classes are {', '.join(meta.labels.class_names)} and {', '.join(others.labels.class_names)}"
    if meta.preprocess != others.preprocess:
        return f"they want pictures as {meta.preprocess} and {others.preprocess}"
    return ""


def _mean(states: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    """What counts steps, in whole numbers, is that of the first."""
    first, *_ = states
    return {
        key: torch.stack([state[key].double() for state in states]).mean(dim=0).to(value)
        if value.is_floating_point()
        else value
        for key, value in first.items()
    }


def _told(sources: Sequence[str | Path], metas: Sequence[WeightsMeta]) -> WeightsMeta:
    """What the mean says about itself: the recipe only where all have the same, and every source of each."""
    first = metas[0]
    recipes = {meta.recipe for meta in metas}
    ingredients = [meta.as_source("averaged weights", str(source)) for source, meta in zip(sources, metas, strict=True)]
    further = (source for meta in metas for source in meta.sources)
    return replace(
        first,
        scores=(),
        recipe=first.recipe if len(recipes) == 1 else "",
        licence=joined(meta.licence for meta in metas),
        sources=tuple(dict.fromkeys((*ingredients, *further))),
        adjustment=joined(meta.adjustment for meta in metas if meta.adjustment),
    )
