"""Several weights in, one out: the mean of their parameters, which takes no more time than one of them and often knows more.

P. Izmailov et al., "Averaging weights leads to wider optima and better generalization" (UAI 2018); M. Wortsman et al., "Model
soups: averaging weights of multiple fine-tuned models improves accuracy without increasing inference time" (ICML 2022).
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from lwrefinenet import weights
from lwrefinenet.errors import UsageError
from lwrefinenet.meta import Source, WeightsMeta

TO_AGREE: dict[str, Callable[[WeightsMeta], object]] = {
    "networks": lambda meta: meta.network,
    "arguments of the network": lambda meta: {**meta.arguments, "input_scale": None},
    "classes": lambda meta: meta.labels,
    "preprocessing": lambda meta: meta.preprocess,
}  # what has to agree, as a message calls it


def average_weights(sources: Sequence[str | Path], target: Path) -> WeightsMeta:
    """Write the mean of weights that were trained from the same beginning: runs that parted, or one that went on from another.

    Running statistics of batch norms are averaged like parameters, and so are offsets of classes.  Where they see pictures at
    different sizes (`input_scale`), the mean sees them at that of the first.  Of runs with nothing in common it knows nothing:
    score it.
    sources: two or more, each as `weights.load`.  target: written whole or not at all, without scores, which are those of
    others; in float16 where each of the sources is.
    UsageError for fewer than two, or where network, classes or preprocessing differ; other errors as `weights.load`.
    """
    if len(sources) < 2:
        raise UsageError(
            "one file has no mean with others; give two or more that were trained from the same beginning."
        )
    loaded = [weights.load(source) for source in sources]
    metas = [meta for _, meta in loaded]
    for source, meta in zip(sources[1:], metas[1:], strict=True):
        _check_alike(sources[0], metas[0], source, meta)
    model = loaded[0][0]
    for other, _ in loaded[1:]:
        other.see_at(model.input_scale)
    model.load_state_dict(_mean([each.state_dict() for each, _ in loaded]))
    told = _told(sources, metas)
    weights.save(target, model, told, half=all(map(weights.is_half, sources)))
    return told


def _check_alike(first: str | Path, expected: WeightsMeta, other: str | Path, found: WeightsMeta) -> None:
    for called, part in TO_AGREE.items():
        if part(expected) != part(found):
            raise UsageError(
                f"{first} and {other} have different {called}; expected runs of one recipe, or of nearly one."
            )


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
    ingredients = [
        Source("averaged weights", f"{meta.network} {meta.labels.name}", meta.licence, str(source))
        for source, meta in zip(sources, metas, strict=True)
    ]
    further = (source for meta in metas for source in meta.sources)
    return replace(
        first,
        scores=(),
        recipe=first.recipe if len(recipes) == 1 else "",
        licence=_together(meta.licence for meta in metas),
        sources=tuple(dict.fromkeys((*ingredients, *further))),
        adjustment=_together(meta.adjustment for meta in metas if meta.adjustment),
    )


def _together(texts: Iterable[str]) -> str:
    return "; ".join(dict.fromkeys(texts))
