"""Put trained weights into the package, with their scores in the metadata, and print their line for the table.

lwrefinenet evaluate runs/NAME/best.safetensors --data DATA --output score.json
python scripts/ship_weights.py runs/NAME/best.safetensors recipes/NAME.toml rf_lw_efficientnet_lite0.camvid score.json

Further score files, such as that of val where the training did not validate, follow the first. A number that the weights state
already, by the same protocol, gives way to the new one: name the package's own file to state its score anew.

Weights of the package that the new ones were made of are named with today's commit, which has their files, what they were made of
themselves is left out, and of a mean (`lwrefinenet average`) the file that the recipe made is named by the recipe. So commit first.
Former files that were given by their paths, as train_released.py does, are named with the commit that released.toml has for them.
"""

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from train_released import released

from lwrefinenet import weights
from lwrefinenet.evaluate import Evaluation
from lwrefinenet.meta import Score, Source
from lwrefinenet.training.recipe import Recipe


def main(trained: str, recipe: str, name: str, score_file: str, *further: str) -> None:
    """Copy the parameters as they are; the metadata gains the scores and the committed recipe."""
    model, meta = weights.load(trained)
    stated = [score for file in (score_file, *further) for score in _stated(file, Path(trained))]
    target = weights.SHIPPED_FOLDER / (name + weights.SUFFIX)
    made = released().get(name)
    sources = _named(meta.sources, recipe, _commit(), made.commit if made else "")
    weights.save(
        target,
        model,
        replace(
            meta, scores=_together(meta.scores, stated), recipe=Recipe.from_toml(recipe).to_toml(), sources=sources
        ),
        half=True,
    )
    print(
        f'{target}: {target.stat().st_size / 1e6:.1f} MB\n    "{name}": ShippedWeights(sha256="{weights.sha256_of(target)}"),'
    )


def _named(sources: Sequence[Source], recipe: str, today: str, begun: str = "") -> tuple[Source, ...]:
    """As a file of the package has them: no paths of this machine, and no names whose files will be others.

    today: the commit of files that are called by their name.  begun: that of files which were fetched from the history for the
    runs, such as runs/NAME/former/NAME.safetensors; empty where none were.
    """
    former = {source: name for source in sources if (name := _of_package(source, today, begun))}
    averaged = [source for source in former if source.role == "averaged weights"]
    theirs = {each for source in averaged for each in weights.read_meta(source.origin).sources}
    named = []
    for source in sources:
        if source in former:
            named.append(replace(source, origin=former[source]))
        elif source.role == "averaged weights" and source.origin.endswith(weights.SUFFIX):
            named.append(replace(source, origin=recipe))
        elif source not in theirs or source.role == "training data":
            named.append(source)
    return tuple(dict.fromkeys(named))


def _of_package(source: Source, today: str, begun: str) -> str:
    """What a file of the package is called for good, by its name or by the path of its fetched copy; empty for other sources."""
    file = Path(source.origin)
    if source.origin in weights.SHIPPED:
        return f"{source.origin} of commit {today}"
    if begun and file.suffix == weights.SUFFIX and file.stem in weights.SHIPPED:
        return f"{file.stem} of commit {begun}"
    return ""


def _commit() -> str:
    return subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], check=True, capture_output=True, text=True
    ).stdout.strip()


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
