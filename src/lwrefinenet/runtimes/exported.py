"""What an exported file says about itself, beside what its weights say: enough to be used without them."""

import json
from dataclasses import asdict, dataclass, field
from typing import Any

from lwrefinenet.errors import WeightsError
from lwrefinenet.meta import WeightsMeta

META_KEY = "lwrefinenet.meta"
EXPORT_KEY = "lwrefinenet.export"


@dataclass(frozen=True)
class Export:
    """How a graph was made.

    weights: the name or file that it was exported from.  sha256: of that file.  precision: fp32, bf16, fp16 or int8.
    size: (height, width) for a graph that takes this size only, None for one that takes any.
    version: of this package.  parity: what the parity gate measured; empty before it has.  int8: mean IoU before and after, and
    what it was measured on; empty for other precisions.
    """

    weights: str
    sha256: str
    precision: str
    size: tuple[int, int] | None
    version: str
    parity: dict[str, Any] = field(default_factory=dict)
    int8: dict[str, Any] = field(default_factory=dict)

    def check_size(self, height: int, width: int) -> None:
        """Raise WeightsError for pictures that a static graph does not take."""
        if self.size is not None and (height, width) != self.size:
            raise WeightsError(
                f"this graph was exported for pictures of {self.size[1]}x{self.size[0]} only, and one has {width}x{height}; "
                "resize it, or export again without --static."
            )


def entries(meta: WeightsMeta, export: Export) -> dict[str, str]:
    """What is written into the file: two texts, each a JSON object."""
    return {META_KEY: meta.to_json(), EXPORT_KEY: json.dumps(asdict(export))}


def from_entries(found: dict[str, str], origin: str) -> tuple[WeightsMeta, Export]:
    """The inverse of `entries`; WeightsError, naming `origin`, where they are missing or damaged."""
    if META_KEY not in found or EXPORT_KEY not in found:
        raise WeightsError(
            f"{origin}: holds no lwrefinenet metadata (classes, preprocessing); give a file made by `lwrefinenet export`."
        )
    try:
        values = json.loads(found[EXPORT_KEY])
        size = None if values["size"] is None else (int(values["size"][0]), int(values["size"][1]))
        return WeightsMeta.from_json(found[META_KEY]), Export(**{**values, "size": size})
    except (ValueError, KeyError, TypeError) as error:
        raise WeightsError(
            f"{origin}: its lwrefinenet metadata cannot be read ({type(error).__name__}: {error})."
        ) from error
