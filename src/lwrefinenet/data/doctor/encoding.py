"""Masks that hold no class indices: damaged files, JPEGs, 16 bits, alpha, colours."""

from collections import Counter
from collections.abc import Iterator

from lwrefinenet.data.census import Pair
from lwrefinenet.data.doctor.commands import put_aside, python_on
from lwrefinenet.data.doctor.findings import Finding, Severity, listed
from lwrefinenet.data.doctor.survey import (
    Survey,
    both_files,
    colours_of,
    image_files,
    mask_files,
    palette_line,
    values_of,
)
from lwrefinenet.data.facts import Form

ENOUGH = 0.95  # share of the pixels that must fit for a way out to be recommended
SMOOTHED = 40  # more colours than this are no classes: they come from smoothed edges or lossy compression


def encoding_findings(survey: Survey) -> Iterator[Finding]:
    """One finding for each form of mask that cannot serve as one, or only just."""
    yield from _damaged(survey)
    yield from _jpegs(survey)
    yield from _deep(survey)
    yield from _no_indices(survey)


def _damaged(survey: Survey) -> Iterator[Finding]:
    masks = [pair for pair in survey.masks(Form.DAMAGED, Form.INDEX) if pair.mask.fault]
    pictures = [pair for pair in survey.pairs if pair.picture.fault]
    for kind, pairs, files, faults in (
        ("damaged masks", masks, mask_files(masks), [pair.mask.fault for pair in masks]),
        ("damaged pictures", pictures, image_files(pictures), [pair.picture.fault for pair in pictures]),
    ):
        if pairs:
            yield Finding(
                Severity.ERROR,
                kind,
                files,
                listed(dict.fromkeys(fault.rstrip(".") for fault in faults), 2),
                "whole files of at most 16 million pixels",
                f"Copy them again from where they came, or take the pairs out: {put_aside(both_files(pairs))}",
            )


def _jpegs(survey: Survey) -> Iterator[Finding]:
    pairs = survey.masks(Form.JPEG)
    if not pairs:
        return
    values = values_of(pairs)
    dark, bright = (sum(values[value] for value in ends) for ends in (range(64), range(192, 256)))
    if min(dark, bright) > 0 and dark + bright >= ENOUGH * values.total():
        came = f"lossy compression of what was 0 and 255 ({len(values)} values now)"
        fix = "Run: " + survey.convert("binary", " --tolerance 127")
    elif survey.stated_palette and not values:
        came = f"lossy compression has changed the colours ({max(pair.mask.num_colours for pair in pairs)} in one mask)"
        fix = "Run: " + survey.convert("rgb", " --tolerance 128")
    else:
        distinct = len(values) or max(pair.mask.num_colours for pair in pairs)
        came = f"lossy compression has mixed the classes at their edges ({distinct} values now)"
        fix = "Export the masks again from the labelling tool, as PNG; what JPEG changed cannot be told from what was drawn."
    yield Finding(
        Severity.ERROR, "JPEG-compressed masks", mask_files(pairs), came, survey.expected_values + " in PNG", fix
    )


def _deep(survey: Survey) -> Iterator[Finding]:
    pairs = survey.masks(Form.DEEP)
    if pairs:
        values = values_of(pairs)
        yield Finding(
            Severity.ERROR,
            "16-bit masks",
            mask_files(pairs),
            f"values {_with_pixels(values)}",
            survey.expected_values,
            _divided(values, pairs),
        )
    fitting = [pair for pair in survey.masks(Form.INDEX) if pair.mask.mode.startswith("I")]
    if fitting:
        yield Finding(
            Severity.NOTE,
            "16-bit masks",
            mask_files(fitting),
            "16 bits per pixel with values that fit 8 bits",
            "8 bits; they are read as they are, other tools may scale them",
            "Run: "
            + python_on("Image.fromarray(numpy.array(Image.open(f)).astype('uint8')).save(f)", mask_files(fitting)),
        )


def _divided(values: Counter[int], pairs: list[Pair]) -> str:
    """Values are often the class times a constant: 8 bits stretched to 16, or class and instance in one number.

    Where some have no instance (Cityscapes: 7 is road, 26001 a car), no division of all of them keeps the classes.
    """
    with_instances = max(values) < 256_000 and all(value == 0 or value >= 1000 for value in values)
    for divisor, meaning, fits in (
        (257, "8-bit values stretched to 16", all(value % 257 == 0 for value in values)),
        (256, "8-bit values shifted up", all(value % 256 == 0 for value in values)),
        (1000, "class * 1000 + instance", with_instances),
    ):
        if fits:
            action = f"Image.fromarray((numpy.array(Image.open(f)) // {divisor}).astype('uint8')).save(f)"
            command = python_on(action, mask_files(pairs))
            return f"They look like {meaning}. Run: {command}"
    return "Number the classes 0, 1, 2, ... and save the masks with 8 bits."


def _no_indices(survey: Survey) -> Iterator[Finding]:
    """Masks that hold colours, or grey beside an alpha channel."""
    for form, kind, beside in (
        (Form.ALPHA, "masks with alpha", ", an alpha channel beside"),
        (Form.COLOUR, "RGB-coloured masks", " with"),
    ):
        if pairs := survey.masks(form):
            mode = Counter(pair.mask.mode for pair in pairs).most_common(1)[0][0]
            came = f"mode {mode}{beside} {_contents(pairs)}"
            yield Finding(Severity.ERROR, kind, mask_files(pairs), came, _index_png(survey), _way_out(survey, pairs))


def _index_png(survey: Survey) -> str:
    return f"{survey.expected_values} in a grey or palette PNG"


def _contents(pairs: list[Pair]) -> str:
    if _is_grey(pairs):
        return f"the same value in red, green and blue: {_with_pixels(values_of(pairs))}"
    colours = colours_of(pairs)
    shares = [
        f"({red}, {green}, {blue}) {pixels / colours.total():.1%}"
        for (red, green, blue), pixels in colours.most_common()
    ]
    return f"the colours {listed(shares)}"


def _way_out(survey: Survey, pairs: list[Pair]) -> str:
    if _is_grey(pairs):
        values = values_of(pairs)
        if set(values) <= {0, 255}:
            return "Run: " + survey.convert("binary")
        return "Run: " + python_on("Image.open(f).getchannel(0).save(f)", mask_files(pairs))
    colours = colours_of(pairs)
    stated = sum(pixels for colour, pixels in colours.items() if colour in survey.stated_palette)
    if stated >= ENOUGH * colours.total():
        return f"Run: {_by_palette(survey, pairs) if survey.masks(Form.INDEX) else survey.convert('rgb')}"
    if max(pair.mask.num_colours for pair in pairs) > SMOOTHED:
        return (
            "So many colours come from smoothed edges or lossy compression: export the masks without antialiasing, or take "
            "the nearest class. "
            + ("Run: " + survey.convert("rgb", " --tolerance 128") if survey.stated_palette else survey.name_colours())
        )
    if not survey.description and len(colours) == len(survey.labels):
        return "With that palette in dataset.toml, run: " + survey.convert("rgb")
    if len(colours) != len(survey.stated_names):
        return survey.name_colours()
    return (
        f"Write this line to dataset.toml, its colours in the order of class_names: {palette_line(sorted(colours))} "
        f"and then run: {survey.convert('rgb')}"
    )


def _by_palette(survey: Survey, pairs: list[Pair]) -> str:
    """For a few coloured masks among index masks, which the conversion of a whole folder would not take."""
    palette = str([list(colour) for colour in survey.stated_palette])
    colours = "numpy.array(Image.open(f).convert('RGB'))[:, :, None]"
    found = f"(is_class := ({colours} == {palette}).all(-1)).any(-1)"
    indices = f"numpy.where({found}, is_class.argmax(-1), {survey.labels.ignore_index})"
    action = f"Image.fromarray({indices}.astype('uint8')).save(f)"
    return python_on(action, mask_files(pairs))


def _is_grey(pairs: list[Pair]) -> bool:
    return all(pair.mask.counts for pair in pairs)


def _with_pixels(values: Counter[int]) -> str:
    return listed((f"{value} ({pixels} pixels)" for value, pixels in values.most_common()), 6)
