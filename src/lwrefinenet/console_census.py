"""What `lwrefinenet data check` shows in a terminal: one table per data folder, then the findings."""

from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Column, Table
from rich.text import Text

from lwrefinenet.console import console, say, swatch
from lwrefinenet.data.census import Census
from lwrefinenet.data.doctor.findings import Report, Severity

STYLES = {Severity.ERROR: "bold red", Severity.WARNING: "yellow", Severity.NOTE: "cyan"}


def census_report(report: Report) -> None:
    """The census of every split and every finding with what mends it."""
    if report.censuses:
        for census in report.censuses:
            say(split_line(census))
        console.print(_classes(report.censuses))
    for finding in report.findings:
        console.print(Text.assemble((finding.severity.value, STYLES[finding.severity]), ": ", finding.kind))
        say(f"  {finding.where()}")
        say(f"  came:     {finding.came}")
        say(f"  expected: {finding.expected}")
        say(f"  fix:      {finding.fix}")
    say(conclusion(report))


def split_line(census: Census) -> str:
    """Pictures, sizes and ignored pixels of a split in one line."""
    sizes = [f"{width}x{height} ({count})" for (height, width), count in census.sizes.items()]
    rest = f" and {len(sizes) - 4} other sizes" if len(sizes) > 4 else ""
    return (
        f"{census.name} {census.split}: {census.pictures} pictures, {', '.join(sizes[:4])}{rest}; "
        f"{census.ignore_share:.1%} of the pixels ignored"
    )


def conclusion(report: Report) -> str:
    """How many findings of which severity, in one sentence."""
    counts = {severity: sum(finding.severity is severity for finding in report.findings) for severity in Severity}
    found = ", ".join(f"{count} {severity.value}{'s' * (count != 1)}" for severity, count in counts.items() if count)
    if report.errors:
        return f"{report.root}: {found}. Training would fail or learn nonsense: mend the errors first."
    return f"{report.root}: {found or 'nothing to mend'}. Ready for training."


def _classes(censuses: tuple[Census, ...]) -> Table:
    table = Table("", Column("class", no_wrap=True), box=SIMPLE_HEAD, pad_edge=False)
    for census in censuses:
        table.add_column(census.split, justify="right")
        table.add_column("pictures", justify="right")
    labels = censuses[0].labels
    for index, name in enumerate(labels.class_names):
        cells = [cell for census in censuses for cell in _cells(census, index)]
        table.add_row(swatch(labels.palette[index]), escape(name), *cells)
    return table


def _cells(census: Census, index: int) -> tuple[str, str]:
    if not census.pixels[index]:
        return "absent", "0"
    share = census.shares[index]
    return f"{share:.2%}" if share >= 0.0001 else "<0.01%", str(census.picture_counts[index])
