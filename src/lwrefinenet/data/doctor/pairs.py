"""What is wrong between files: sizes, turned photos, the same picture on both sides, masks that teach nothing."""

from collections.abc import Iterator

from lwrefinenet.data.census import Pair
from lwrefinenet.data.doctor.commands import put_aside, python_on, remove, shell_names
from lwrefinenet.data.doctor.findings import Finding, Severity, number
from lwrefinenet.data.doctor.survey import Survey, both_files, image_files, mask_files
from lwrefinenet.data.facts import Form

TURNED_BY = {
    2: "mirrored",
    3: "turned by 180 degrees",
    4: "mirrored upside down",
    5: "mirrored and turned",
    6: "turned to the right",
    7: "mirrored and turned",
    8: "turned to the left",
}


def pair_findings(survey: Survey) -> Iterator[Finding]:
    """Findings about a picture and its mask."""
    readable = [pair for pair in survey.pairs if not pair.picture.fault and pair.mask.size != (0, 0)]
    yield from _sizes(readable)
    yield from _turned(readable)


def _sizes(pairs: list[Pair]) -> Iterator[Finding]:
    wrong = [pair for pair in pairs if pair.mask.size not in (pair.picture.size, pair.picture.upright_size)]
    if wrong:
        first = wrong[0]
        height, width = first.picture.upright_size
        action = f"Image.open(f).resize(({width}, {height}), Image.Resampling.NEAREST).save(f)"
        yield Finding(
            Severity.ERROR,
            "mask and picture differ in size",
            mask_files(wrong),
            f"the mask is {_size(first.mask.size)}, its picture {first.sample.image.name} is {_size(first.picture.size)}",
            "one value per pixel of the picture",
            "Bring back the picture that was labelled. If the mask shows the same view at another scale, run: "
            + python_on(action, [first.sample.mask]),
        )


def _turned(pairs: list[Pair]) -> Iterator[Finding]:
    """EXIF-turned pictures: where the size tells how the mask lies, it is turned with its picture; elsewhere nobody knows."""
    turned = [pair for pair in pairs if pair.picture.orientation != 1]
    told = [
        pair
        for pair in turned
        if pair.picture.size != pair.picture.upright_size and pair.mask.size == pair.picture.size
    ]
    untold = [pair for pair in turned if pair.picture.size == pair.picture.upright_size == pair.mask.size]
    if told:
        yield Finding(
            Severity.NOTE,
            "EXIF-turned pictures with masks as stored",
            mask_files(told),
            f"{told[0].sample.image.name} is shown {_how(told)}, its mask is not",
            "a mask that is upright or as the picture is stored; the size tells which, and the mask is turned with its picture",
            "Nothing is to be done here. For tools that ignore EXIF, remove the tag: "
            f"exiftool -Orientation= {shell_names(image_files(told))}",
        )
    if untold:
        yield Finding(
            Severity.WARNING,
            "EXIF-turned pictures whose masks may not be",
            image_files(untold),
            f"{untold[0].sample.image.name} is shown {_how(untold)}, which leaves its size as it is, so that nothing tells whether "
            "its mask was drawn on the turned view",
            "masks drawn on the upright view, as which they are read",
            "Look at them with --html. If they do not fit, the masks are as stored; remove the tag: "
            f"exiftool -Orientation= {shell_names(image_files(untold))}",
        )


def duplicate_findings(survey: Survey) -> Iterator[Finding]:
    """The same bytes on both sides of the line between learning and scoring."""
    seen: dict[str, tuple[str, Pair]] = {}
    twins: dict[tuple[str, str], list[tuple[Pair, Pair]]] = {}
    for census in survey.censuses:
        for pair in census.pairs:
            split, other = seen.setdefault(pair.picture.sha256, (census.split, pair))
            # Splits of published sets share files by design, such as train and trainval.
            elsewhere = survey.is_own or other.sample.image != pair.sample.image
            if pair.picture.sha256 and split != census.split and elsewhere:
                twins.setdefault((split, census.split), []).append((other, pair))
    for (first, second), pairs in twins.items():
        left, right = pairs[0]
        surplus = both_files([other for other, _ in pairs])
        names = survey.list_of(first)
        yield Finding(
            Severity.WARNING,
            f"the same pictures in {first} and {second}",
            tuple(other.sample.image for other, _ in pairs),
            f"{left.sample.image.name} of {first} is byte for byte {right.sample.image.name} of {second}",
            f"pictures in {second} that are not learnt from; a score on known pictures says nothing",
            f"Take them out of {first}: {remove(surplus)}"
            if survey.is_own and names is None
            else f"Take them out of {names or f'the list of {first}'}.",
        )


def empty_findings(survey: Survey) -> Iterator[Finding]:
    """Masks that teach nothing: ignored altogether, or of the first class only."""
    pairs = [pair for pair in survey.masks(Form.INDEX, Form.PALETTE) if not pair.mask.fault and not pair.unknown]
    ignored = [pair for pair in pairs if not pair.classes]
    background = [pair for pair in pairs if [index for index, _ in pair.classes] == [0]]
    if ignored:
        all_of_them = len(ignored) == len(pairs)
        how_many = "all masks" if all_of_them else number(len(ignored), "mask")
        yield Finding(
            Severity.ERROR if all_of_them else Severity.WARNING,
            "empty masks",
            mask_files(ignored),
            f"{how_many} with nothing but the ignore index {survey.labels.ignore_index}",
            "some labelled pixels in each mask",
            _aside(ignored),
        )
    if background and len(survey.labels) > 1:
        name = survey.labels.class_names[0]
        only = len(background) == len(pairs)
        yield Finding(
            Severity.ERROR if only else Severity.NOTE,
            "masks of one class only",
            mask_files(background),
            f"{'all' if only else f'{len(background)} of {len(pairs)}'} masks hold only class 0, {name}",
            "other classes as well" if only else f"that they are meant to show nothing but {name}",
            "Label the pictures, or give class_names those of the values." if only else _aside(background),
        )


def _aside(pairs: list[Pair]) -> str:
    return f"Label them, or take them out: {put_aside(both_files(pairs))}"


def _how(pairs: list[Pair]) -> str:
    return TURNED_BY[pairs[0].picture.orientation]


def _size(size: tuple[int, int]) -> str:
    return f"{size[1]}x{size[0]}"
