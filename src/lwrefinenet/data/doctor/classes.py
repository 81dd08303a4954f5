"""Classes that cannot be learnt or cannot be scored, because they are absent or rare."""

import shlex
from collections.abc import Iterator

import numpy as np

from lwrefinenet.data.census import Census
from lwrefinenet.data.doctor.findings import Finding, Severity, listed
from lwrefinenet.data.doctor.survey import Survey
from lwrefinenet.data.folder import DESCRIPTION

RARE = 0.005  # of the labelled pixels


def class_findings(survey: Survey) -> Iterator[Finding]:
    """Absent from every split, from train, from the splits that are scored, and rare in train."""
    counted = [census for census in survey.censuses if census.pixels.sum()]
    if not counted:
        return
    never = [name for name in survey.labels.class_names if all(name in census.absent for census in counted)]
    if never:
        yield _never(survey, never)
    training = next((census for census in counted if census.split == "train"), None)
    for census in counted:
        missing = [name for name in census.absent if name not in never]
        if missing and len(counted) > 1:
            yield _absent(survey, census, training, missing)
    if training is not None:
        yield from _rare(survey, training)


def _never(survey: Survey, names: list[str]) -> Finding:
    kept = list(survey.stated_names)
    while kept and kept[-1] in names:
        kept.pop()
    shorter = survey.is_own and "merge" not in survey.description and len(kept) < len(survey.stated_names) and kept
    return Finding(
        Severity.WARNING,
        "classes that never occur",
        (survey.root / DESCRIPTION if survey.is_own else survey.root,),
        f"{listed(names)} in no mask",
        "pictures of every class",
        f"Add pictures that show them, or write to {DESCRIPTION}: {survey.described_by(kept)}"
        if shorter
        else "Add pictures that show them, or leave it: they are shown as absent and left out of the mean IoU.",
    )


def _absent(survey: Survey, census: Census, training: Census | None, names: list[str]) -> Finding:
    if census is training:
        came, expected = f"{listed(names)} in no mask of train", "examples of every class to learn from"
    else:
        came, expected = f"{listed(names)} in no mask of {census.split}", "every class, so that it has a score"
    donors = [other for other in survey.censuses if other is not census]
    return Finding(
        Severity.WARNING,
        f"classes absent from {census.split}",
        (survey.root,),
        came,
        expected,
        _moved(survey, census, donors, names[0]),
    )


def _moved(survey: Survey, census: Census, donors: list[Census], name: str) -> str:
    """Move the picture that shows most of a class to the split that lacks it."""
    index = survey.labels.class_names.index(name)
    candidates = [
        (dict(pair.classes)[index], pair) for donor in donors for pair in donor.pairs if index in dict(pair.classes)
    ]
    if not survey.is_own or len(candidates) < 2:
        return f"Add pictures of {name} to {census.split}."
    _, pair = max(candidates, key=lambda candidate: candidate[0])
    if (target := survey.list_of(census.split)) is not None:
        picture = pair.sample.image.name
        return f"{len(candidates)} pictures elsewhere show {name}; move the lines of some to {target}, such as that of {picture}."
    moves = (
        f"mv {shlex.quote(str(path))} {shlex.quote(str(survey.root / folder / census.split))}/"
        for folder, path in (("images", pair.sample.image), ("masks", pair.sample.mask))
    )
    return f"{len(candidates)} pictures elsewhere show {name}; move some, such as: {' && '.join(moves)}"


def _rare(survey: Survey, training: Census) -> Iterator[Finding]:
    shares = training.shares
    rare = [int(index) for index in np.argsort(shares) if 0 < shares[index] < RARE]
    if rare:
        yield Finding(
            Severity.NOTE,
            "rare classes",
            (survey.root,),
            listed(
                f"{survey.labels.class_names[index]} {shares[index]:.2%} of the pixels in {training.picture_counts[index]} pictures"
                for index in rare
            ),
            f"at least {RARE:.1%} for a class to be learnt well without help",
            "Weigh the classes by their frequency: lwrefinenet train ... --set class_weight_power=0.5",
        )
