"""A dataset.toml for a folder that has none: proposed from what its masks hold."""

from collections import Counter
from pathlib import Path

from lwrefinenet.data.census import Census, Pair
from lwrefinenet.data.doctor.survey import colours_of, names_line, palette_line, smoothed_binary, values_of
from lwrefinenet.data.facts import Form
from lwrefinenet.labels import LabelSet, voc_palette

MOST = 60  # classes that are proposed; more values are no class indices


def provisional_labels(root: Path) -> LabelSet:
    """Labels under which every value but 255 is a class, to look at masks that nobody has described."""
    return LabelSet(root.resolve().name, tuple(f"class_{value}" for value in range(255)), voc_palette(255))


def proposed_description(root: Path, censuses: list[Census]) -> tuple[str, LabelSet]:
    """The text of a whole dataset.toml, its class names to be replaced, and the labels that it gives.

    Masks of indices: as many classes as the highest index tells, 255 ignored. Two values: background and object.
    Coloured masks: a class for each colour, most frequent first. Empty text where the masks give nothing away.
    """
    pairs = [pair for census in censuses for pair in census.pairs]
    name = root.resolve().name
    indexed = [pair for pair in pairs if pair.mask.form in (Form.INDEX, Form.PALETTE) and not pair.mask.fault]
    if indexed:
        values = values_of(indexed)
        names = _names(values)
        if names is None:
            return "", provisional_labels(root)
        return names_line(names) + "\n", LabelSet(name, names, voc_palette(len(names)))
    return _by_colours(name, [pair for pair in pairs if pair.mask.colours], root)


def _names(values: Counter[int]) -> tuple[str, ...] | None:
    classes = sorted(value for value in values if value != 255)
    if smoothed_binary(values) or (len(values) == 2 and classes[:1] == [0] and (255 in values or classes[-1] > 1)):
        return ("background", "object")  # 0 and 255, or 0 and another value: to be converted
    highest = max(classes, default=0)
    if highest >= MOST or highest > 3 * len(classes) + 8:
        return None
    return ("background", *(f"class_{value}" for value in range(1, highest + 1)))


def _by_colours(name: str, pairs: list[Pair], root: Path) -> tuple[str, LabelSet]:
    colours = [colour for colour, _ in colours_of(pairs).most_common()]
    if not 2 <= len(colours) <= MOST:
        return "", provisional_labels(root)
    names = tuple(f"class_{index}" for index in range(len(colours)))
    return f"{names_line(names)}\n{palette_line(colours)}\n", LabelSet(name, names, tuple(colours))
