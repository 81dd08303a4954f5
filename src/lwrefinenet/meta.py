"""What weights must say about themselves: the metadata inside every weights file."""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Self

from lwrefinenet.labels import LabelSet
from lwrefinenet.preprocess import Preprocess
from lwrefinenet.tasks import TASKS, Channels

SCHEMA_VERSION = 1
_BETWEEN = "; "  # parts of a licence or an adjustment
WITH_OFFSETS_FROM_THERE = ", on which the classes' offsets were found"  # at the end of a protocol


def found_on(dataset: str, split: str) -> str:
    """What `WeightsMeta.adjustment` says of offsets that were found on a split."""
    return f"found on {dataset} {split}"


def joined(texts: Iterable[str]) -> str:
    """Licences, or what adjustments say, of several weights in one text: each once, and those of means hold several already."""
    return _BETWEEN.join(dict.fromkeys(part for text in texts for part in text.split(_BETWEEN)))


@dataclass(frozen=True)
class Score:
    """A measured number with the protocol that makes it comparable.

    value: a fraction 0-1; metres where the metric ends in `_metres`, degrees where it ends in `_degrees`.
    """

    metric: str
    value: float
    protocol: str

    def __str__(self) -> str:
        name, _, unit = self.metric.rpartition("_")
        if unit == "metres":
            return f"{name} {self.value:.3f} m"
        return f"{name} {self.value:.1f} degrees" if unit == "degrees" else f"{self.metric} {100 * self.value:.1f} %"


@dataclass(frozen=True)
class Source:
    """An ingredient of the weights (backbone weights, data), its licence, and where it comes from."""

    role: str
    name: str
    licence: str
    origin: str


@dataclass(frozen=True)
class WeightsMeta:
    """Everything that makes a set of parameters usable without asking its author.

    network and arguments: what `create_model` needs.  recipe: the text of the TOML recipe, empty if unknown.
    licence: of the weights as a whole, as its ingredients allow.
    adjustment: where the offsets of its classes come from (`adjust`; of a mean all, with "; " between), empty where it has none.
    """

    network: str
    labels: LabelSet
    preprocess: Preprocess
    arguments: dict[str, Any] = field(default_factory=dict)
    scores: tuple[Score, ...] = ()
    recipe: str = ""
    licence: str = "unknown"
    sources: tuple[Source, ...] = ()
    adjustment: str = ""

    @property
    def tasks(self) -> tuple[str, ...]:
        """What the network gives, in this order."""
        given = self.arguments.get("tasks", TASKS[:1])
        return tuple(task for task in TASKS if task in given)

    @property
    def channels(self) -> Channels:
        """How the network's results lie one above the other."""
        return Channels(len(self.labels), self.tasks)

    def has_offsets_from(self, dataset: str, split: str) -> bool:
        """Whether offsets of its classes were found on these pictures, whose score then says too much."""
        return found_on(dataset, split) in self.adjustment.split(_BETWEEN)

    def as_source(self, role: str, origin: str) -> Source:
        """These weights as an ingredient of others; origin: their name or file."""
        return Source(role, f"{self.network} {self.labels.name}", self.licence, origin)

    def to_json(self) -> str:
        """One JSON object; `from_json` gives the same WeightsMeta again."""
        return json.dumps(
            {
                "schema_version": SCHEMA_VERSION,
                "network": self.network,
                "arguments": self.arguments,
                "labels": {
                    "name": self.labels.name,
                    "class_names": self.labels.class_names,
                    "palette": self.labels.palette,
                    "ignore_index": self.labels.ignore_index,
                },
                "preprocess": self.preprocess.to_dict(),
                "scores": [vars(score) for score in self.scores],
                "recipe": self.recipe,
                "licence": self.licence,
                "sources": [vars(source) for source in self.sources],
                **({"adjustment": self.adjustment} if self.adjustment else {}),
            },
            ensure_ascii=False,
        )

    @classmethod
    def from_json(cls, text: str) -> Self:
        """ValueError, KeyError or TypeError where the text is not such an object; ValueError for a newer schema."""
        values: dict[str, Any] = json.loads(text)
        if not isinstance(values, dict):
            raise ValueError("the metadata is not a JSON object")
        if values["schema_version"] != SCHEMA_VERSION:
            raise ValueError(f"schema version {values['schema_version']}, this release reads {SCHEMA_VERSION}")
        labels = values["labels"]
        return cls(
            network=values["network"],
            arguments=values["arguments"],
            labels=LabelSet(
                name=labels["name"],
                class_names=tuple(labels["class_names"]),
                palette=tuple((int(r), int(g), int(b)) for r, g, b in labels["palette"]),
                ignore_index=labels["ignore_index"],
            ),
            preprocess=Preprocess.from_dict(values["preprocess"]),
            scores=tuple(Score(**score) for score in values["scores"]),
            recipe=values["recipe"],
            licence=values["licence"],
            sources=tuple(Source(**source) for source in values["sources"]),
            adjustment=values.get("adjustment", ""),
        )
