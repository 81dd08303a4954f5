"""The data doctor: every mask and picture header read before training, and what is wrong said with what mends it."""

import os
from collections.abc import Sequence
from pathlib import Path

from lwrefinenet.data.census import Progress, census_of
from lwrefinenet.data.dataset import LabelledPictures, SegmentationDataset
from lwrefinenet.data.doctor.classes import class_findings
from lwrefinenet.data.doctor.encoding import encoding_findings
from lwrefinenet.data.doctor.findings import Finding, Report, Severity, ordered
from lwrefinenet.data.doctor.own_folder import SPLITS, is_own_folder, open_own_folder
from lwrefinenet.data.doctor.pairs import duplicate_findings, empty_findings, pair_findings
from lwrefinenet.data.doctor.survey import Survey
from lwrefinenet.data.doctor.values import BINARY, value_findings
from lwrefinenet.data.layouts import open_dataset
from lwrefinenet.errors import DataError, UsageError

DETECTORS = (encoding_findings, value_findings, pair_findings)


def check_folder(root: str | Path, splits: Sequence[str] | None = None, *, progress: Progress = iter) -> Report:
    """Check a data folder: one's own, also where its reader would refuse it, or any layout that `open_dataset` knows.

    splits: by default train, val and test, as far as they are there.  progress: wraps the indices of each split's pictures.
    UsageError where there is no such folder; DataError where it has no layout that is known, or none of the splits.
    """
    root = Path(root)
    if not root.is_dir():
        raise UsageError(f"{root}: no such data folder.")
    if is_own_folder(root):
        own = open_own_folder(root, splits, progress=progress)
        datasets, findings = own.datasets, own.findings
    else:
        datasets, findings = _opened(root, splits)
    if not datasets:
        if not findings:
            raise DataError(f"{root}: has no pairs of picture and mask in {', '.join(splits or SPLITS)}.")
        return Report(root, (), ordered(findings))
    survey = Survey(root, tuple(census_of(dataset, progress=progress) for dataset in datasets))
    return Report(root, survey.censuses, ordered([*findings, *_findings([survey], survey)]))


def check_datasets(
    training: LabelledPictures, validation: LabelledPictures | None = None, *, progress: Progress = iter
) -> Report:
    """Check data sets that are open already; of several sets as one, each set's files by themselves."""
    datasets = [dataset for dataset in (training, validation) if dataset is not None and len(dataset)]
    parts = [part for dataset in datasets for part in dataset.parts if part.samples]
    whole = Survey(_root_of(parts), tuple(census_of(dataset, progress=progress) for dataset in datasets))
    if len(parts) == len(datasets):
        return Report(whole.root, whole.censuses, ordered(_findings([whole], whole)))
    by_folder: dict[Path, list[SegmentationDataset]] = {}
    for part in parts:
        by_folder.setdefault(_root_of([part]), []).append(part)
    surveys = [Survey(root, tuple(map(census_of, members))) for root, members in by_folder.items()]
    return Report(whole.root, whole.censuses, ordered(_findings(surveys, whole)))


def require_sound(
    training: LabelledPictures, validation: LabelledPictures | None = None, *, progress: Progress = iter
) -> Report:
    """Check before the first step of a training; DataError, one line per error, where it would fail or learn nonsense.

    The report's censuses serve class weights. What was read is kept by content: the next call takes next to nothing.
    """
    report = check_datasets(training, validation, progress=progress)
    if report.errors:
        raise DataError("\n".join(map(str, report.errors)))
    return report


def _findings(surveys: Sequence[Survey], whole: Survey) -> list[Finding]:
    """surveys: of single folders, where the way of storing is looked at; whole: of everything that is learnt from together."""
    found = [finding for survey in surveys for detect in DETECTORS for finding in detect(survey)]
    found += duplicate_findings(whole)
    if any(finding.kind == BINARY for finding in found):
        return found  # the counts of classes mean nothing yet
    return [*found, *(finding for survey in surveys for finding in empty_findings(survey)), *class_findings(whole)]


def _opened(root: Path, splits: Sequence[str] | None) -> tuple[tuple[SegmentationDataset, ...], tuple[Finding, ...]]:
    """The splits of a published layout that can be opened; a split that its reader does not have is no fault."""
    datasets, refusals = [], []
    for split in splits or SPLITS:
        try:
            datasets.append(open_dataset(root, split))
        except DataError as error:
            refusals.append((split, error))
    if not datasets:
        raise refusals[0][1]
    findings = [
        Finding(
            Severity.ERROR,
            f"{split} cannot be opened",
            (root,),
            str(error).rstrip("."),
            f"the layout of {datasets[0].name}",
            "Unpack the data set again.",
        )
        for split, error in refusals
        if split != "test" and "is not one of them" not in str(error)
    ]
    return tuple(datasets), tuple(findings)


def _root_of(parts: Sequence[SegmentationDataset]) -> Path:
    """The folder in which all files of these sets lie."""
    folders = {path.parent for part in parts for sample in part.samples for path in (sample.image, sample.mask)}
    if len({folder.is_absolute() for folder in folders}) > 1:
        folders = {folder.absolute() for folder in folders}
    return Path(os.path.commonpath(folders)) if folders else Path()
