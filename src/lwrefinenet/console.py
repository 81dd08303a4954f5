"""What the command line shows: progress bars, tables, plain lines where the output is no terminal. Only importer of rich."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Self, TypeVar

import torch
from rich.color import Color
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
from rich.style import Style
from rich.table import Table
from rich.text import Text

from lwrefinenet.errors import UsageError
from lwrefinenet.evaluate import Evaluation
from lwrefinenet.export.export import Exported
from lwrefinenet.labels import Colour
from lwrefinenet.meta import WITH_OFFSETS_FROM_THERE, Score, WeightsMeta
from lwrefinenet.models.zoo import MODELS, create_model, needs_backbone
from lwrefinenet.predict_files import FileResult
from lwrefinenet.training.progress import StepReport
from lwrefinenet.weights import SHIPPED, locate, read_meta

if TYPE_CHECKING:
    from lwrefinenet.export.int8 import Int8Report  # which needs an extra to be imported

T = TypeVar("T")
NEAR = {"depth": "within one percent", "normals": "within one degree"}

console = Console(highlight=False, soft_wrap=True, emoji=False)
error_console = Console(stderr=True, highlight=False, soft_wrap=True, emoji=False)


def say(sentence: str) -> None:
    """Print one line of plain text."""
    console.print(escape(sentence))


def watched(items: Iterable[T], *, what: str, total: int) -> Iterator[T]:
    """The items, with a progress bar while they are worked through (none where the output is no terminal)."""
    with _progress() as progress:
        yield from progress.track(items, total=total, description=what)


def evaluation_report(evaluation: Evaluation) -> None:
    """Per-class IoU in percent, the mean and the pixel accuracy, the protocol, and what the mean leaves out."""
    table = Table("class", "IoU %")
    table.columns[1].justify = "right"
    for name, iou in evaluation.per_class_iou.items():
        table.add_row(escape(name), "absent" if iou is None else f"{100 * iou:.1f}")
    table.add_section()
    table.add_row("mean IoU", f"{100 * evaluation.mean_iou:.1f}")
    table.add_row("pixel accuracy", f"{100 * evaluation.pixel_accuracy:.1f}")
    console.print(table)
    if evaluation.mean_iou_interval:
        low, high = (100 * end for end in evaluation.mean_iou_interval)
        say(f"Mean IoU on other pictures of this kind: {low:.1f} to {high:.1f} (95 %, pictures drawn again and again).")
    if evaluation.depth:
        say(f"Depth: {depth_scores(evaluation.depth)}.")
    if evaluation.normals:
        say(f"Normals: {normal_scores(evaluation.normals)}.")
    say(f"Protocol: {evaluation.protocol}.")
    if evaluation.absent:
        say(f"Left out of the mean, because neither truth nor prediction holds them: {', '.join(evaluation.absent)}.")


def depth_scores(scores: Mapping[str, float]) -> str:
    """As `dense_metrics.DepthErrors` names them, in words."""
    near = ", ".join(f"{100 * scores[f'delta_{power}']:.1f} %" for power in (1, 2, 3))
    return (
        f"RMSE {scores['rmse']:.3f} m, of logarithms {scores['log_rmse']:.3f}, relative {scores['abs_rel']:.3f}; off by less than "
        f"1.25, 1.25^2, 1.25^3 times: {near} of the pixels"
    )


def normal_scores(scores: Mapping[str, float]) -> str:
    """As `dense_metrics.NormalErrors` names them, in words."""
    within = ", ".join(f"{100 * scores[f'within_{limit}']:.1f} %" for limit in ("11.25", "22.5", "30"))
    return (
        f"off by {scores['mean_degrees']:.1f} degrees in the mean, {scores['median_degrees']:.1f} in the median; by less than "
        f"11.25, 22.5, 30 degrees: {within} of the pixels"
    )


def prediction_report(result: FileResult, weights: str) -> None:
    """The classes found with their share of the pixels, the time of each step, and where the files are."""
    segmentation = result.segmentation
    if segmentation is None:
        return
    height, width = segmentation.mask.shape
    console.print(f"{escape(str(result.source))}: {width}x{height} pixels, weights {escape(weights)}")
    table = Table("", "class", "share of pixels", box=None)
    table.columns[2].justify = "right"
    colours = dict(zip(segmentation.labels.class_names, segmentation.labels.palette, strict=True))
    for name, share in segmentation.shares().items():
        table.add_row(swatch(colours[name]), escape(name), f"{share:.1%}" if share >= 0.001 else "<0.1%")
    console.print(table)
    steps = "  ".join(f"{step} {1000 * seconds:.0f} ms" for step, seconds in result.timings.items())
    console.print(f"{steps}  (all {1000 * sum(result.timings.values()):.0f} ms)")
    for kind, path in result.outputs.items():
        console.print(f"{kind:{max(8, *map(len, result.outputs))}} {escape(str(path))}")


def networks_table() -> Table:
    """The networks that `create_model` knows, with their size."""
    table = Table("network", "parameters at 21 classes", title="Networks", title_justify="left")
    table.columns[1].justify = "right"
    for name in MODELS:
        table.add_row(name, "depends on the timm backbone" if needs_backbone(name) else _parameters(name))
    return table


def weights_table() -> Table:
    """The weights inside the package, with size, scores and licence."""
    table = Table("weights", "size", "classes", "score", "licence", title="Weights", title_justify="left")
    table.columns[0].no_wrap = True  # whole on any screen: it is there to be copied
    for name in SHIPPED:
        path = locate(name)
        meta = read_meta(path)
        table.add_row(name, f"{path.stat().st_size / 1e6:.1f} MB", f"{len(meta.labels)}", _scores(meta), meta.licence)
    return table


def protocols() -> list[str]:
    """What the scores of the weights inside the package were measured on and how: a line for each set of pictures."""
    stated = (score.protocol for name in SHIPPED for score in read_meta(name).scores)
    common = {protocol.removesuffix(WITH_OFFSETS_FROM_THERE) for protocol in stated}
    return [f"{_measured_on(protocol)}: {protocol.partition(', ')[2]}" for protocol in sorted(common)]


def parity_report(exported: Exported) -> None:
    """What was written, and how it compares with PyTorch."""
    parity, export = exported.parity, exported.export
    sizes = ", ".join(f"{size} {share:.3%}" for size, share in parity.sizes.items())
    say(f"Pixels with the same class as in PyTorch: {parity.equal_pixels:.3%} ({sizes}).")
    for task, share in parity.tasks.items():
        say(f"Pixels with the same {task} ({NEAR[task]}): {share:.3%}.")
    relative = f"{parity.relative_difference:.2g} of their standard deviation"
    say(f"Largest difference of logits: {parity.logit_difference:.2g}, {relative}.")
    taken = "pictures of every size" if export.size is None else f"pictures of {export.size[1]}x{export.size[0]} only"
    say(
        f"Wrote {' and '.join(map(str, exported.files))}: {exported.megabytes:.1f} MB, {export.precision}, for {taken}."
    )


def int8_report(report: "Int8Report") -> None:
    """IoU of each class in float32 and in int8, the means, and the protocol."""
    table = Table("class", "float32 %", "int8 %", "change")
    for column in table.columns[1:]:
        column.justify = "right"
    after = report.after.per_class_iou
    for name, iou in report.before.per_class_iou.items():
        table.add_row(escape(name), *_compared(iou, after[name]))
    table.add_section()
    table.add_row("mean IoU", *_compared(report.before.mean_iou, report.after.mean_iou))
    console.print(table)
    say(f"Protocol: {report.before.protocol}.")
    if report.mixed:
        say("The layers that hurt most stayed in float32.")


def _compared(before: float | None, after: float | None) -> tuple[str, str, str]:
    shown = ["absent" if value is None else f"{100 * value:.1f}" for value in (before, after)]
    change = "" if before is None or after is None else f"{100 * (after - before):+.1f}"
    return shown[0], shown[1], change


def training_speed_report(result: dict[str, Any]) -> None:
    """Both ways of a training step with their seconds, and the ratio; `result` as `benchmark.training_speed` gives it."""
    height, width = result["crop_size"]
    say(
        f"A training step of {result['model']}: {result['batch_size']} crops of {height}x{width}, {result['num_classes']} "
        f"classes, {result['threads']} threads."
    )
    table = Table("way", "", "seconds", "quartiles")
    for column in table.columns[2:]:
        column.justify = "right"
    for way, timing in result["seconds"].items():
        table.add_row(way, escape(result["ways"][way]), f"{timing['median']:.2f}", _quartiles(timing, ".2f"))
    console.print(table)
    say(f"Ours is {result['ratio']:.2f} times as fast; medians of {len(timing['rounds'])} rounds.")
    say(f"By the work of all cores, which other work on the machine disturbs less: {result['core_ratio']:.2f} times.")


def inference_speed_report(result: dict[str, Any]) -> None:
    """A ledger for each network: where the time goes, part by part; `result` as `benchmark.inference_speed` gives it."""
    height, width = result["size"]
    batch = f" (prepared and seen in batches of {result['batch']})" if result["batch"] > 1 else ""
    say(
        f"One picture of {width}x{height}{batch}, from JPEG bytes to colour mask; {result['threads']} threads, "
        f"{result['rounds']} rounds."
    )
    for name, subject in result["subjects"].items():
        known = "parameters" in subject
        sizes = (
            f"{subject['parameters']:,} parameters, {subject['macs'] / 1e9:.2f} G multiply-adds"
            if known
            else "exported"
        )
        say(f"{name}: {sizes}")
        parts = next(iter(subject["ways"].values()))["milliseconds"]
        times = _tight("ms", *parts, "sum", "p95", "ratio")
        others = _tight("", "labels", "MB", "peak MB", "runtime")
        for way, timing in subject["ways"].items():
            shares = [f"{part['p50']:.1f}" for part in timing["milliseconds"].values()]
            whole = timing["end_to_end"]
            ratio = f"{timing['ratio']:.1f}x" if "ratio" in timing else ""
            times.add_row(way, *shares, f"{whole['p50']:.1f}", f"{whole['p95']:.1f}", ratio)
            megabytes = f"{timing['megabytes']:.1f}", f"{timing['peak_megabytes']:.0f}"
            others.add_row(way, f"{timing['equal_labels']:.3%}", *megabytes, timing["runtime"])
        console.print(times, others)
    say(
        "Medians; sum: without encode, the mask's PNG; labels: pixels with the class of the first way, its logits resized "
        "likewise; MB: of the file, peak MB: of memory."
    )


def _tight(*headings: str) -> Table:
    """A table that fits a narrow screen: its first column to the left, numbers to the right."""
    table = Table(*headings, box=None, padding=(0, 2, 0, 0))
    for column in table.columns[1:]:
        column.justify = "right"
    return table


def loader_rate_report(result: dict[str, Any]) -> None:
    """Pictures per second and core with and without the cache, and the parts; `result` as `benchmark.loader_rate` gives it."""
    say(f"{result['data']}; crops of {'x'.join(map(str, result['crop_size']))}, one process, one thread.")
    say("Pictures per second and core, and the milliseconds of each part:")
    parts = result["milliseconds"]
    table = Table("cache", "pictures/s", "quartiles", *parts["none"])
    for column in table.columns[1:]:
        column.justify = "right"
    for cache, rate in result["pictures_per_core_second"].items():
        milliseconds = (f"{value:.1f}" for value in parts[cache].values())
        table.add_row(cache, f"{rate['median']:.0f}", _quartiles(rate, ".0f"), *milliseconds)
    console.print(table)
    walls = ", ".join(f"{cache} {rate['median']:.0f}" for cache, rate in result["pictures_per_second"].items())
    say(f"By the clock, with whatever else runs here: {walls} pictures/s.")


def _quartiles(timing: dict[str, Any], form: str) -> str:
    return " - ".join(format(value, form) for value in timing["quartiles"])


class TrainingConsole:
    """Draws a training run: a bar with loss, learning rates and time left; one line every so often where there is no terminal."""

    def __init__(self, *, lines_every: int = 50) -> None:
        self.lines_every = lines_every
        self.seconds = 0.0
        self.progress = _progress(TextColumn("{task.fields[status]}"))
        self.task = self.progress.add_task("training", total=None, status="")

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
            status=f"loss {report.loss:.3f}  lr {rates}",
        )
        if not console.is_terminal and report.done % self.lines_every == 0:
            minutes = (report.total - report.done) * self.seconds / 60
            self.say(
                f"epoch {report.epoch}/{report.epochs}  step {report.done}/{report.total}  loss {report.loss:.3f}  "
                f"lr {rates}  {self.seconds:.2f} s/step  about {minutes:.0f} min left"
            )

    def validated(self, epoch: int, evaluation: Evaluation, *, best: bool) -> None:
        classes = ", ".join(
            f"{name} {'absent' if iou is None else f'{100 * iou:.1f}'}"
            for name, iou in evaluation.per_class_iou.items()
        )
        mark = " (best so far, kept)" if best else ""
        self.say(f"epoch {epoch}: validation mean IoU {100 * evaluation.mean_iou:.2f} %{mark}; {classes}")
        if evaluation.depth:
            self.say(f"epoch {epoch}: depth {depth_scores(evaluation.depth)}")
        if evaluation.normals:
            self.say(f"epoch {epoch}: normals {normal_scores(evaluation.normals)}")

    def watch(self, indices: Iterable[int], *, what: str) -> Iterable[int]:
        items = list(indices)
        task = self.progress.add_task(what, total=len(items), status="")
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


def _parameters(name: str) -> str:
    try:
        with torch.device("meta"):
            return f"{sum(parameter.numel() for parameter in create_model(name).parameters()):,}"
    except UsageError as error:  # a library that the network needs is not installed
        return str(error)


def _scores(meta: WeightsMeta) -> str:
    """Each score with the set, split and size it was measured on; `protocols` has the rest."""
    stated = (f"{score} on {_measured_on(score.protocol)}{_offsets_there(meta, score)}" for score in meta.scores)
    return "\n".join(stated) or "none stated"


def _offsets_there(meta: WeightsMeta, score: Score) -> str:
    dataset, split = score.protocol.partition(",")[0].split(" ")
    return ", where its offsets were found" if meta.has_offsets_from(dataset, split) else ""


def _measured_on(protocol: str) -> str:
    """The set, the split and the size: "nyudv2 test, 654 pictures at 640x480, ..." is shown as "nyudv2 test 640x480"."""
    split, pictures, *_ = protocol.split(", ")
    return f"{split} {pictures.rpartition(' at ')[2]}"


def swatch(colour: Colour) -> Text:
    """A colour as two cells of background."""
    return Text("  ", style=Style(bgcolor=Color.from_rgb(*colour)))
