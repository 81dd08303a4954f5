"""What the command line shows: progress bars, tables, and plain lines where the output is no terminal. With cli.py the only importer of rich."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Self, TypeVar

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from lwrefinenet.evaluate import Evaluation
from lwrefinenet.training.loop import StepReport

T = TypeVar("T")

console = Console(highlight=False, soft_wrap=True)
error_console = Console(stderr=True, highlight=False, soft_wrap=True)


def say(sentence: str) -> None:
    """Print one line of plain text."""
    console.print(escape(sentence))


def watched(items: Iterable[T], *, what: str, total: int) -> Iterator[T]:
    """The items, with a progress bar while they are worked through (none where the output is no terminal)."""
    with _progress() as progress:
        yield from progress.track(items, total=total, description=what)


def evaluation_table(evaluation: Evaluation) -> Table:
    """Per-class IoU in percent, with the mean and the pixel accuracy below."""
    table = Table("class", "IoU %", title=None)
    table.columns[1].justify = "right"
    for name, iou in evaluation.per_class_iou.items():
        table.add_row(name, "absent" if iou is None else f"{100 * iou:.1f}")
    table.add_section()
    table.add_row("mean IoU", f"{100 * evaluation.mean_iou:.1f}")
    table.add_row("pixel accuracy", f"{100 * evaluation.pixel_accuracy:.1f}")
    return table


class TrainingConsole:
    """Draws a training run: a bar with loss, learning rates and time left; one line every so often where there is no terminal."""

    def __init__(self, *, lines_every: int = 50) -> None:
        self.lines_every = lines_every
        self.seconds = 0.0
        self.progress = _progress(TextColumn("loss {task.fields[loss]:.3f}  lr {task.fields[lr]}"))
        self.task = self.progress.add_task("training", total=None, loss=float("nan"), lr="")

    def __enter__(self) -> Self:
        self.progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.progress.stop()

    def say(self, sentence: str) -> None:
        self.progress.console.print(escape(sentence))

    def stepped(self, report: StepReport) -> None:
        self.seconds = report.seconds if self.seconds == 0 else 0.95 * self.seconds + 0.05 * report.seconds
        rates = f"{report.backbone_lr:.1e}/{report.decoder_lr:.1e}"
        self.progress.update(
            self.task,
            total=report.total,
            completed=report.done,
            description=f"epoch {report.epoch}/{report.epochs}",
            loss=report.loss,
            lr=rates,
        )
        if not console.is_terminal and report.done % self.lines_every == 0:
            minutes = (report.total - report.done) * self.seconds / 60
            self.say(
                f"epoch {report.epoch}/{report.epochs}  step {report.done}/{report.total}  loss {report.loss:.3f}  "
                f"lr {rates}  {self.seconds:.2f} s/step  about {minutes:.0f} min left"
            )

    def validated(self, epoch: int, evaluation: Evaluation, *, best: bool) -> None:
        classes = ", ".join(
            f"{name} {'absent' if iou is None else f'{100 * iou:.1f}'}" for name, iou in evaluation.per_class_iou.items()
        )
        mark = " (best so far, kept)" if best else ""
        self.say(f"epoch {epoch}: validation mean IoU {100 * evaluation.mean_iou:.2f} %{mark}; {classes}")

    def watch(self, indices: Iterable[int], *, what: str) -> Iterable[int]:
        items = list(indices)
        task = self.progress.add_task(what, total=len(items), loss=float("nan"), lr="")
        for item in items:
            yield item
            self.progress.advance(task)
        self.progress.remove_task(task)


@contextmanager
def waiting(what: str) -> Iterator[None]:
    """Show a spinner while something takes a moment."""
    with console.status(what):
        yield


def _progress(*columns: ProgressColumn) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        *columns,
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
    )
