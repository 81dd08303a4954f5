"""Pictures and masks of two folders brought together, with what stays over and under which names the masks lie."""

import shlex
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from lwrefinenet.data.dataset import Sample
from lwrefinenet.data.doctor.commands import put_aside, python_on, remove
from lwrefinenet.data.doctor.findings import Finding, Severity, listed, number
from lwrefinenet.images import is_picture_name


@dataclass(frozen=True)
class Pairing:
    """samples: pictures with their masks.  bare: pictures without.  orphans: masks without.

    suffix: what the stems of the masks have more than those of their pictures.
    """

    samples: tuple[Sample, ...] = ()
    bare: tuple[Path, ...] = ()
    orphans: tuple[Path, ...] = ()
    suffix: str = ""


def paired(images: Path, masks: Path) -> Pairing:
    """Pair by stem, whatever picture format the masks have; where the masks' stems are all longer by one suffix, by that."""
    pictures, found = _pictures(images), _pictures(masks)
    by_stem = {path.stem: path for path in sorted(found, key=lambda path: path.suffix.lower() == ".png")}
    stems = {path.stem for path in pictures}
    suffix = _suffix(stems, by_stem) if stems.isdisjoint(by_stem) else ""
    samples = tuple(Sample(path, by_stem[path.stem + suffix]) for path in pictures if path.stem + suffix in by_stem)
    used = {sample.mask for sample in samples}
    served = {path.stem for path in used}
    paired = {sample.image for sample in samples}
    return Pairing(
        samples,
        tuple(path for path in pictures if path not in paired),
        tuple(path for path in found if path not in used and path.stem not in served),
        suffix,
    )


def _suffix(pictures: set[str], masks: Iterable[str]) -> str:
    """What makes most stems of pictures those of masks, the shortest of several: `10_mask` is no mask of 1 beside `1_mask`."""
    found = Counter(stem[length:] for stem in masks for length in range(1, len(stem)) if stem[:length] in pictures)
    return max(found, key=lambda suffix: (found[suffix], -len(suffix)), default="")


def pairing_findings(pairing: Pairing, masks: Path) -> list[Finding]:
    """What the reader of a folder would refuse, or pass over."""
    lossless = [
        sample.mask
        for sample in pairing.samples
        if sample.mask.suffix != ".png" and sample.mask.suffix.lower() not in (".jpg", ".jpeg")
    ]
    findings = []
    if pairing.suffix:
        findings.append(_other_names(pairing, masks))
    if lossless:
        action = "Image.open(f).save(f.rpartition('.')[0] + '.png')"
        found = f"masks end in {listed(dict.fromkeys(path.suffix for path in lossless))}"
        findings.append(
            Finding(
                Severity.ERROR,
                "masks that are no .png",
                tuple(lossless),
                found,
                "PNG",
                "Run: " + python_on(action, lossless),
            )
        )
    if pairing.bare:
        findings.append(_bare(pairing, masks))
    if sharing := _sharing(pairing.samples):
        findings.append(
            Finding(
                Severity.WARNING,
                "pictures that share a mask",
                sharing,
                f"{number(len(sharing), 'picture')} with the stem of another one",
                "a stem of its own, and a mask, for each picture",
                f"Keep one picture of each stem: {put_aside(sharing)}",
            )
        )
    if pairing.orphans:
        findings.append(
            Finding(
                Severity.WARNING,
                "masks without pictures",
                pairing.orphans,
                f"{number(len(pairing.orphans), 'mask')} without a picture, not used",
                "a picture with the stem of each mask",
                f"Add the pictures, or remove the masks: {remove(pairing.orphans)}",
            )
        )
    return findings


def _sharing(samples: Iterable[Sample]) -> tuple[Path, ...]:
    """All pictures of a mask but the first."""
    first: dict[Path, Sample] = {}
    return tuple(sample.image for sample in samples if first.setdefault(sample.mask, sample) is not sample)


def _other_names(pairing: Pairing, masks: Path) -> Finding:
    suffix = shlex.quote(pairing.suffix)
    return Finding(
        Severity.ERROR,
        "masks under another name",
        tuple(sample.mask for sample in pairing.samples),
        f"their names end in {pairing.suffix!r}",
        "the stem of the picture and .png",
        f'Run: for f in {shlex.quote(str(masks))}/*{suffix}.*; do mv "$f" "${{f/{suffix}./.}}"; done',
    )


def _bare(pairing: Pairing, masks: Path) -> Finding:
    total = len(pairing.bare) + len(pairing.samples)
    return Finding(
        Severity.ERROR,
        "pictures without masks",
        pairing.bare,
        f"{len(pairing.bare)} of {total} pictures have no mask",
        str(masks / f"{pairing.bare[0].stem}.png"),
        f"Label them, or take them out: {put_aside(pairing.bare)}",
    )


def _pictures(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(filter(is_picture_name, folder.iterdir()))
