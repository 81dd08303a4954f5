"""What the data doctor says: findings, each with the files, what came, what was expected and what mends it."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from lwrefinenet.data.census import Census


class Severity(StrEnum):
    """error: training would fail or learn nonsense.  warning: it would be worse than it could be.  note: good to know."""

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


@dataclass(frozen=True)
class Finding:
    """One kind of trouble in one or more files.  fix: the line for a file, or the command, that mends it."""

    severity: Severity
    kind: str
    files: tuple[Path, ...]
    came: str
    expected: str
    fix: str

    def where(self, limit: int = 3) -> str:
        """The first files by name, and how many more there are."""
        named = ", ".join(map(str, self.files[:limit]))
        rest = len(self.files) - limit
        return f"{named} and {rest} more" if rest > 0 else named

    def __str__(self) -> str:
        return f"{self.where()}: {self.kind}: {self.came}; expected {self.expected}. {self.fix}"

    def to_dict(self) -> dict[str, Any]:
        """For JSON, with every file."""
        return {
            "severity": self.severity.value,
            "kind": self.kind,
            "files": [str(path) for path in self.files],
            "came": self.came,
            "expected": self.expected,
            "fix": self.fix,
        }


@dataclass(frozen=True)
class Report:
    """The census of every split, and the findings, errors first."""

    root: Path
    censuses: tuple[Census, ...]
    findings: tuple[Finding, ...]

    @property
    def errors(self) -> tuple[Finding, ...]:
        return tuple(finding for finding in self.findings if finding.severity is Severity.ERROR)

    def to_dict(self) -> dict[str, Any]:
        """For JSON: data, sound, splits, findings."""
        return {
            "data": str(self.root),
            "sound": not self.errors,
            "splits": [census.to_dict() for census in self.censuses],
            "findings": [finding.to_dict() for finding in self.findings],
        }


def ordered(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Errors, then warnings, then notes; otherwise in their order."""
    rank = list(Severity)
    return tuple(sorted(findings, key=lambda finding: rank.index(finding.severity)))


def listed(items: Iterable[object], limit: int = 8) -> str:
    """The items with commas, and how many more there are."""
    texts = [str(item) for item in items]
    rest = len(texts) - limit
    return ", ".join(texts[:limit]) + (f" and {rest} more" if rest > 0 else "")


def number(count: int, noun: str) -> str:
    """1 mask, 2 masks."""
    return f"{count} {noun}{'s' * (count != 1)}"
