"""What the detectors of the data doctor look at: the censuses of the splits, the folder, and what dataset.toml states."""

import shlex
import tomllib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from lwrefinenet.data.census import Census, Pair
from lwrefinenet.data.facts import Form
from lwrefinenet.data.folder import DESCRIPTION
from lwrefinenet.labels import Colour, LabelSet, voc_palette


@dataclass(frozen=True)
class Survey:
    """Everything that was found in the splits of one folder.  root: where the files lie."""

    root: Path
    censuses: tuple[Census, ...]

    @property
    def labels(self) -> LabelSet:
        return self.censuses[0].labels

    @cached_property
    def pairs(self) -> tuple[Pair, ...]:
        return tuple(pair for census in self.censuses for pair in census.pairs)

    def masks(self, *forms: Form) -> list[Pair]:
        """The pairs whose mask is stored in one of these forms."""
        return [pair for pair in self.pairs if pair.mask.form in forms]

    @cached_property
    def values(self) -> Counter[int]:
        """Stored value -> pixels, over all masks that hold class indices."""
        return values_of(self.masks(Form.INDEX, Form.PALETTE))

    @cached_property
    def description(self) -> dict[str, Any]:
        """`dataset.toml` as far as it can be read; empty for a data set without one."""
        try:
            return tomllib.loads((self.root / DESCRIPTION).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}

    @property
    def is_own(self) -> bool:
        """Whether it is a folder of one's own, which dataset.toml describes, and not a published set."""
        return (self.root / DESCRIPTION).is_file() or (self.root / "masks").is_dir()

    @cached_property
    def stated_palette(self) -> tuple[Colour, ...]:
        """The palette in dataset.toml, by stored value; empty where it states none."""
        stated = self.description.get("palette", [])
        try:
            return tuple((int(red), int(green), int(blue)) for red, green, blue in stated)
        except (TypeError, ValueError):
            return ()

    @property
    def expected_values(self) -> str:
        """What masks may hold, in words."""
        names = self.stated_names
        return f"class indices 0-{len(names) - 1} and ignore index {self.labels.ignore_index}"

    @property
    def stated_names(self) -> tuple[str, ...]:
        """class_names as dataset.toml has them, before merging; of a published set its classes."""
        names = self.description.get("class_names") if self.is_own else None
        return tuple(map(str, names)) if isinstance(names, list) else self.labels.class_names

    def list_of(self, split: str) -> Path | None:
        """The list that names the pictures of a split, where no folder does."""
        path = self.root / f"{split}.txt"
        return path if path.is_file() and not (self.root / "images" / split).is_dir() else None

    def described_by(self, names: Sequence[str]) -> str:
        """The lines of dataset.toml for these classes; each keeps its colour where colours are stated, and new ones get theirs."""
        stated = dict(zip(self.stated_names, self.stated_palette, strict=False))
        if not stated:
            return names_line(names)
        free = (colour for colour in voc_palette(256) if colour not in stated.values())
        return f"{names_line(names)} and {palette_line([stated.get(name) or next(free) for name in names])}"

    def convert(self, source_kind: str, options: str = "") -> str:
        """The command that turns the masks into index PNGs."""
        source, output = shlex.quote(str(self.root)), shlex.quote(f"{self.root}_fixed")
        if source_kind == "binary" and len(self.stated_names) != 2:
            options += " --classes background,object"
        return f"lwrefinenet data convert {source} --from {source_kind}{options} --output {output}"

    def name_colours(self) -> str:
        """The way to index PNGs where no palette says which colour is which class."""
        colours = shlex.quote(f"{self.root}_colours.toml")
        return (
            f"Run: {self.convert('rgb', f' --write-colours {colours}')}  # name the classes in that file, and run it again with "
            f"--colours {colours}"
        )


def values_of(pairs: list[Pair]) -> Counter[int]:
    """Stored value -> pixels, over the masks of these pairs."""
    values: Counter[int] = Counter()
    for pair in pairs:
        values.update(dict(pair.mask.counts))
    return values


def smoothed_binary(values: Counter[int]) -> bool:
    """Whether these are black and white with a few pixels of many greys between them, as smoothing or JPEG leaves them."""
    dark, bright = (sum(values[value] for value in ends) for ends in (range(48), range(208, 256)))
    return len(values) > 16 and min(values[0], values[255]) > 0 and dark + bright >= 0.9 * values.total()


def colours_of(pairs: list[Pair]) -> Counter[Colour]:
    """Colour -> pixels, over the masks of these pairs."""
    colours: Counter[Colour] = Counter()
    for pair in pairs:
        for red, green, blue, pixels in pair.mask.colours:
            colours[red, green, blue] += pixels
    return colours


def mask_files(pairs: list[Pair]) -> tuple[Path, ...]:
    """Their masks."""
    return tuple(pair.sample.mask for pair in pairs)


def image_files(pairs: list[Pair]) -> tuple[Path, ...]:
    """Their pictures."""
    return tuple(pair.sample.image for pair in pairs)


def both_files(pairs: list[Pair]) -> tuple[Path, ...]:
    """Their pictures and masks, in pairs."""
    return tuple(path for pair in pairs for path in (pair.sample.image, pair.sample.mask))


def names_line(names: Sequence[str]) -> str:
    """The line of dataset.toml that names the classes."""
    return f"class_names = [{', '.join(quoted(name) for name in names)}]"


def palette_line(colours: Sequence[Colour]) -> str:
    """The line of dataset.toml that gives each class its colour."""
    return f"palette = [{', '.join(f'[{red}, {green}, {blue}]' for red, green, blue in colours)}]"


def quoted(text: str) -> str:
    """A TOML string."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
