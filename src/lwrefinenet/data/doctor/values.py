"""Class indices that mean something else: 0/255 masks, Cityscapes ids, palettes without order, values that are no class."""

from collections import Counter
from collections.abc import Iterator

from lwrefinenet.data.census import Pair
from lwrefinenet.data.doctor.findings import Finding, Severity, listed, number
from lwrefinenet.data.doctor.survey import Survey, mask_files, smoothed_binary
from lwrefinenet.data.facts import Form
from lwrefinenet.labels import CITYSCAPES, Colour

QUANTISED = 16  # so many unknown indices in one palette mask were dealt out by a program that reduced colours
BINARY = "binary masks"
HIGHEST_CITYSCAPES_ID = 33


def value_findings(survey: Survey) -> Iterator[Finding]:
    """What the stored values give away; the most telling explanation of an unknown value is the one that is given."""
    palettes = list(_palettes(survey))
    yield from palettes
    explained = {path for finding in palettes for path in finding.files}
    pairs = [pair for pair in survey.pairs if pair.unknown and pair.sample.mask not in explained]
    if binary := _binary(survey):
        yield binary
    elif pairs:
        yield _cityscapes(survey, pairs) or _unknown(survey, pairs)


def _binary(survey: Survey) -> Finding | None:
    """Two values, of which the higher is no class: 0/255, 0/128, ...; or black and white with smoothed edges."""
    values, labels = survey.values, survey.labels
    highest = max(values, default=0)
    unknown = {value for pair in survey.pairs for value, _ in pair.unknown}
    two = len(values) == 2 and min(values) == 0 and highest in (*unknown, labels.ignore_index)
    smoothed = bool(unknown) and smoothed_binary(values)
    if len(labels) < 2 or not (two or smoothed):
        return None
    counts = listed(f"{value} ({pixels} pixels)" for value, pixels in values.most_common(2))
    meaning = "is ignored, so that nothing but class 0 is learnt" if highest == labels.ignore_index else "is no class"
    pairs = [
        pair for pair in survey.masks(Form.INDEX, Form.PALETTE) if pair.unknown or highest in dict(pair.mask.counts)
    ]
    return Finding(
        Severity.ERROR,
        BINARY,
        mask_files(pairs),
        f"all masks together hold only {counts}, and {highest} {meaning}"
        if two
        else f"all masks together hold {counts} and, along smoothed edges, {len(values) - 2} values between",
        f"0 and 1 for {labels.class_names[0]} and {labels.class_names[1]}",
        "Run: " + survey.convert("binary", "" if two else " --tolerance 127"),
    )


def _palettes(survey: Survey) -> Iterator[Finding]:
    """A palette PNG is a good mask if its indices are the classes; what its colours say to the contrary."""
    pairs = survey.masks(Form.PALETTE)
    stated = survey.stated_palette
    wrong = [pair for pair in pairs if _disagrees(pair, stated)]
    if wrong:
        pair = wrong[0]
        index, colour = next(item for item in _used(pair) if item[1] in stated and _belongs_elsewhere(item, stated))
        yield Finding(
            Severity.ERROR,
            "palette indices that are no classes",
            mask_files(wrong),
            f"index {index} shows the colour {colour}, which dataset.toml gives to "
            f"{survey.stated_names[stated.index(colour)]!r} (class {stated.index(colour)})",
            "indices in the order of the palette in dataset.toml",
            "Run: " + survey.convert("palette"),
        )
        return
    quantised = [pair for pair in pairs if len(pair.unknown) >= QUANTISED]
    if quantised:
        first = quantised[0]
        yield Finding(
            Severity.ERROR,
            "palette indices that are no classes",
            mask_files(quantised),
            f"{len(first.mask.counts)} indices in one mask, as when a program reduces a picture to few colours "
            f"({_colours(first)})",
            survey.expected_values,
            "Run: " + survey.convert("palette") if stated else survey.name_colours(),
        )
    shuffled = [] if quantised else _shuffled(pairs)
    if shuffled:
        yield Finding(
            Severity.ERROR,
            "palette indices that are no classes",
            mask_files(shuffled),
            "the same colours stand at other indices than in the other masks, so an index means another class in each file",
            "one palette for all masks",
            survey.name_colours(),
        )


def _disagrees(pair: Pair, stated: tuple[Colour, ...]) -> bool:
    return bool(stated) and any(_belongs_elsewhere(item, stated) for item in _used(pair))


def _belongs_elsewhere(item: tuple[int, Colour], stated: tuple[Colour, ...]) -> bool:
    index, colour = item
    return colour in stated and (index >= len(stated) or stated[index] != colour)


def _used(pair: Pair) -> list[tuple[int, Colour]]:
    """(index, colour) of what a palette mask holds."""
    return [
        (value, (red, green, blue))
        for (value, _), (red, green, blue, _) in zip(pair.mask.counts, pair.mask.colours, strict=True)
    ]


def _shuffled(pairs: list[Pair]) -> list[Pair]:
    """The masks in which a colour stands at another index than in most masks, while that index shows another known colour."""
    votes: dict[Colour, Counter[int]] = {}
    for pair in pairs:
        for index, colour in _used(pair):
            votes.setdefault(colour, Counter())[index] += 1
    usual = {colour: indices.most_common(1)[0][0] for colour, indices in votes.items()}
    taken = {index: colour for colour, index in usual.items()}
    if len(taken) < len(usual):  # two colours at one index: each file has colours of its own, which say nothing
        conflicts = {index for index in usual.values() if list(usual.values()).count(index) > 1}
        taken = {index: colour for index, colour in taken.items() if index not in conflicts}
    return [
        pair
        for pair in pairs
        if any(usual[colour] != index and taken.get(index, colour) != colour for index, colour in _used(pair))
    ]


def _colours(pair: Pair) -> str:
    return listed([f"{index}: {colour}" for index, colour in _used(pair)], 4)


def _cityscapes(survey: Survey, pairs: list[Pair]) -> Finding | None:
    """Ids 0-33 where the 19 train ids 0-18 are expected."""
    names = {name.lower().replace("_", " ").replace("-", " ") for name in survey.labels.class_names}
    unknown = {value for pair in pairs for value, _ in pair.unknown}
    if len(names) != 19 or len(names & set(CITYSCAPES.class_names)) < 15:
        return None
    if not unknown or max(unknown - {255}, default=0) > HIGHEST_CITYSCAPES_ID:
        return None
    return Finding(
        Severity.ERROR,
        "Cityscapes label ids",
        mask_files(pairs),
        f"values up to {max(unknown)}: {_counts(pairs)}; these are the ids of *_labelIds.png (7 is road, 33 is bicycle)",
        "the 19 train ids 0-18 and 255",
        "Give the Cityscapes folder itself, with leftImg8bit/ and gtFine/, as the data; or make masks of train ids from it: "
        "pip install cityscapesscripts && CITYSCAPES_DATASET=FOLDER csCreateTrainIdLabelImgs",
    )


def _unknown(survey: Survey, pairs: list[Pair]) -> Finding:
    names, ignore_index = survey.stated_names, survey.labels.ignore_index
    return Finding(
        Severity.ERROR,
        "unknown class ids",
        mask_files(pairs),
        _counts(pairs),
        f"{survey.expected_values} ({listed(names, 6)})"
        if survey.is_own
        else f"{survey.expected_values} ({survey.labels.name})",
        _mended_description(survey, pairs, ignore_index),
    )


def _counts(pairs: list[Pair]) -> str:
    """Each unknown value with its pixels and masks, most pixels first."""
    pixels: Counter[int] = Counter()
    masks: Counter[int] = Counter()
    for pair in pairs:
        pixels.update(dict(pair.unknown))
        masks.update(value for value, _ in pair.unknown)
    return listed(
        f"value {value} ({count} pixels in {number(masks[value], 'mask')})" for value, count in pixels.most_common()
    )


def _mended_description(survey: Survey, pairs: list[Pair], ignore_index: int) -> str:
    """The line of dataset.toml that makes sense of the values, where there is one."""
    unknown = sorted({value for pair in pairs for value, _ in pair.unknown})
    names = survey.stated_names
    if not survey.is_own:
        return (
            f"These masks are not those of {survey.labels.name}; give its own files, or a folder with a dataset.toml."
        )
    only_one = len(unknown) == 1 and not survey.values[ignore_index]
    if len(unknown) > 8 or max(unknown) > len(names) + 40:
        if only_one:
            return f"If these pixels are no class, write to dataset.toml: ignore_index = {unknown[0]}"
        return (
            f"Number the classes 0, 1, 2, ... without gaps; what is no class becomes {ignore_index}. Where the values are "
            f"indices into a palette: {survey.convert('palette')}"
        )
    if unknown == [len(names)]:
        lines = [
            f"one name is missing, at the end or, often, at the start: {survey.described_by(('unlabelled', *names))}"
        ]
    else:
        more = tuple(f"class_{value}" for value in range(len(names), max(unknown) + 1))
        lines = [survey.described_by((*names, *more))]
    if only_one:
        lines.append(f"or, if these pixels are no class, ignore_index = {unknown[0]}")
    return f"Correct the masks, or name the values in dataset.toml: {'; '.join(lines)}"
