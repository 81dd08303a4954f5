"""A folder of one's own, opened as far as it goes: what its reader would refuse becomes findings that say how to mend it."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from lwrefinenet.data.census import Progress, census_of
from lwrefinenet.data.dataset import SegmentationDataset
from lwrefinenet.data.doctor.description import proposed_description, provisional_labels
from lwrefinenet.data.doctor.findings import Finding, Severity
from lwrefinenet.data.doctor.pairing import paired, pairing_findings
from lwrefinenet.data.folder import DESCRIPTION, described, folder_dataset
from lwrefinenet.errors import DataError

SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class OwnFolder:
    """The splits that hold at least one pair, and what is wrong with the folder's layout."""

    datasets: tuple[SegmentationDataset, ...]
    findings: tuple[Finding, ...]


def is_own_folder(root: Path) -> bool:
    """Whether a folder is meant as one of one's own: it has a dataset.toml, or images/ and masks/."""
    return (root / DESCRIPTION).is_file() or all((root / name).is_dir() for name in ("images", "masks"))


def open_own_folder(root: Path, splits: Sequence[str] | None = None, *, progress: Progress = iter) -> OwnFolder:
    """Open train, val and test, or these splits; without a dataset.toml by what the masks hold."""
    findings: list[Finding] = []
    try:
        base, faulty = described(root, ""), None
    except DataError as error:
        base, faulty = SegmentationDataset(root.resolve().name, "", provisional_labels(root), ()), error
    datasets = []
    for split in splits or SPLITS:
        dataset, found = _split(root, split, base, faulty is None)
        findings += found
        if dataset is not None:
            datasets.append(dataset)
    if splits is None:
        findings += _missing_splits(root, {dataset.split for dataset in datasets})
        if not datasets and (loose := paired(root / "images", root / "masks")).samples:
            datasets.append(replace(base, split="all", samples=loose.samples))
    if faulty is not None:
        censuses = [census_of(dataset, progress=progress) for dataset in datasets]
        text, labels = proposed_description(root, censuses)
        datasets = [replace(dataset, labels=labels) for dataset in datasets]
        findings.insert(0, _no_description(root, faulty, text))
    return OwnFolder(tuple(datasets), tuple(findings))


def _no_description(root: Path, error: DataError, text: str) -> Finding:
    path = root / DESCRIPTION
    came = str(error).removeprefix(f"{path}: ").partition("; write it")[0].rstrip(".")
    lines = text.rstrip("\n").replace("\n", " and ")
    fix = (
        f"By the values found, it should hold: {lines} (give the classes their names)."
        if text
        else ('Write it with one line: class_names = ["background", ...]')
    )
    return Finding(Severity.ERROR, f"no usable {DESCRIPTION}", (path,), came, "the names of the classes", fix)


def _split(
    root: Path, split: str, base: SegmentationDataset, is_described: bool
) -> tuple[SegmentationDataset | None, list[Finding]]:
    """The split with what pairs it has, None where it has none, and what its reader would refuse."""
    images, masks, names = root / "images" / split, root / "masks" / split, root / f"{split}.txt"
    if is_described and (root / "depth" / split).is_dir() and not masks.is_dir():
        unread = "depth that cannot be read", "a file of depth for each picture", "Add it, or take the picture out."
        return _as_read(root, split, *unread)
    if not images.is_dir():
        if not names.is_file() or not is_described:
            return None, []
        return _as_read(root, split, "a list that cannot be read", "a list of pairs that exist", f"Correct {names}.")
    if split == "test" and not masks.is_dir():
        return None, []  # pictures to predict
    pairing = paired(images, masks)
    dataset = replace(base, split=split, samples=pairing.samples) if pairing.samples else None
    return dataset, pairing_findings(pairing, masks)


def _as_read(
    root: Path, split: str, kind: str, expected: str, fix: str
) -> tuple[SegmentationDataset | None, list[Finding]]:
    """A split that has no folder of masks, as its reader takes it, or why it does not."""
    try:
        return folder_dataset(root, split), []
    except DataError as error:
        path, _, came = str(error).partition(": ")
        return None, [Finding(Severity.ERROR, kind, (Path(path),), came.rstrip("."), expected, fix)]


def _missing_splits(root: Path, present: set[str]) -> list[Finding]:
    if {"train", "val"} <= present:
        return []
    if not present:
        where = shlex.quote(str(root)), shlex.quote(f"{root}_fixed")
        fix = f"To have them dealt out, run: lwrefinenet data convert {where[0]} --from palette --output {where[1]}"
        came = f"no pairs in {root / 'images' / 'train'} and {root / 'masks' / 'train'}"
        return [Finding(Severity.ERROR, "no splits", (root,), came, "images/{train,val} and masks/{train,val}", fix)]
    lacking = "val" if "train" in present else "train"
    source = "train" if "train" in present else sorted(present)[0]
    without = "; or train without validation: lwrefinenet train ... --set val_split=" if lacking == "val" else ""
    if not (root / "images" / source).is_dir():
        return [
            _no_split(
                root,
                lacking,
                f"Move every fifth line of {root / f'{source}.txt'} to {root / f'{lacking}.txt'}{without}",
            )
        ]
    names = {
        folder: [shlex.quote(str(root / folder / split)) for split in (source, lacking)]
        for folder in ("images", "masks")
    }
    command = (
        f"mkdir -p {names['images'][1]} {names['masks'][1]} && ls {names['images'][0]} | awk 'NR % 5 == 0' | while read f; do "
        f'mv {names["images"][0]}/"$f" {names["images"][1]}/; mv {names["masks"][0]}/"${{f%.*}}".png {names["masks"][1]}/; done'
    )
    return [_no_split(root, lacking, f"To move every fifth pair of {source}, run: {command}{without}")]


def _no_split(root: Path, lacking: str, fix: str) -> Finding:
    return Finding(
        Severity.ERROR,
        f"no {lacking} split",
        (root / "images" / lacking,),
        f"no pairs of {lacking}",
        "images/{train,val} and masks/{train,val}, or lists of them",
        fix,
    )
