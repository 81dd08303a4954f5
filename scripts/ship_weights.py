"""Put trained weights into the package, with their scores in the metadata, and print their line for the table.

lwrefinenet evaluate runs/NAME/best.safetensors --data DATA --output score.json
python scripts/ship_weights.py runs/NAME/best.safetensors recipes/NAME.toml rf_lw_efficientnet_lite0.camvid score.json

Further score files, such as that of val where the training did not validate, follow the first. A number that the weights state
already, by the same protocol, gives way to the new one: name the package's own file to state its score anew.
"""

import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from lwrefinenet import weights
from lwrefinenet.evaluate import Evaluation
from lwrefinenet.meta import Score
from lwrefinenet.training.recipe import Recipe


def main(trained: str, recipe: str, name: str, score_file: str, *further: str) -> None:
    """Copy the parameters as they are; the metadata gains the scores and the committed recipe."""
    model, meta = weights.load(trained)
    stated = [score for file in (score_file, *further) for score in _stated(file, Path(trained))]
    target = weights.SHIPPED_FOLDER / (name + weights.SUFFIX)
    weights.save(
        target,
        model,
        replace(meta, scores=_together(meta.scores, stated), recipe=Recipe.from_toml(recipe).to_toml()),
        half=True,
    )
    print(
        f'{target}: {target.stat().st_size / 1e6:.1f} MB\n    "{name}": ShippedWeights(sha256="{weights.sha256_of(target)}"),'
    )


def _together(former: Sequence[Score], stated: Sequence[Score]) -> tuple[Score, ...]:
    """A number that is measured anew keeps its place, and what stands behind its protocol: that offsets were found there."""
    scores = list(former)
    for score in stated:
        twins = [
            i for i, old in enumerate(former) if old.metric == score.metric and old.protocol.startswith(score.protocol)
        ]
        for i in twins:
            scores[i] = replace(scores[i], value=score.value)
        if not twins:
            scores.append(score)
    return tuple(scores)


def _stated(score_file: str, trained: Path) -> tuple[Score, ...]:
    score = json.loads(Path(score_file).read_text())
    if score["weights"]["sha256"] != weights.sha256_of(trained):
        raise SystemExit(f"{score_file}: is the score of other weights than {trained}.")
    return Evaluation.from_dict(score).stated


if __name__ == "__main__":
    main(*sys.argv[1:])
