"""From weights to a file for another runtime: converted, quantised if asked for, proven equal, and only then put in its place."""

import secrets
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from lwrefinenet import weights
from lwrefinenet.errors import UsageError, WeightsError
from lwrefinenet.export.formats import Format
from lwrefinenet.export.parity import SIZES, Parity, Run, measure
from lwrefinenet.files import cannot_write, check_writable
from lwrefinenet.images import read_picture
from lwrefinenet.meta import WeightsMeta
from lwrefinenet.provenance import package_version
from lwrefinenet.runtimes.exported import Export

PICTURE = weights.SHIPPED_FOLDER / "street.jpg"


class Scores(Protocol):
    """What a quantiser measured."""

    def to_dict(self) -> dict[str, Any]:
        """As it stands in the file."""


Quantise = Callable[[Any, Export, WeightsMeta], tuple[Any, Scores]]


@dataclass(frozen=True)
class Exported:
    """What came of it.  files: what was written; megabytes: their size together."""

    files: list[Path]
    export: Export
    parity: Parity

    @property
    def megabytes(self) -> float:
        return sum(file.stat().st_size for file in self.files) / 1e6

    def to_dict(self) -> dict[str, Any]:
        """What was written, how, and what was measured of it, ready for JSON."""
        return {"files": [file.name for file in self.files], "megabytes": self.megabytes, **asdict(self.export)}


def export_weights(
    name_or_path: str | Path,
    output: Path,
    form: Format,
    *,
    precision: str = "fp32",
    size: tuple[int, int] | None = None,
    pictures: Sequence[Path] = (),
    overwrite: bool = False,
    quantise: Quantise | None = None,
) -> Exported:
    """Write weights as a graph of another runtime, and prove on pictures that it computes the same.

    output: its file.  size: (height, width) for a graph that takes this size only.  pictures: for the proof, by default a street
    scene of the package.  quantise: makes the int8 graph out of the float32 one, and says what it cost.
    UsageError for an output that exists (without `overwrite`) or has another suffix; WeightsError, with nothing left behind,
    where the file does not compute the same.
    """
    _check_output(output, form, overwrite=overwrite)
    file = weights.locate(name_or_path)
    sha256 = weights.sha256_of(file)
    model, meta = weights.load(file)
    if weights.sha256_of(file) != sha256:
        raise WeightsError(f"{file}: changed while it was read, as in a training that goes on; export it again.")
    export = Export(str(name_or_path), sha256, precision, size, package_version())
    graph = form.graph(model, meta, export)
    if quantise is not None:
        graph, scores = quantise(graph, export, meta)
        export = replace(export, int8=scores.to_dict())
    folder = output.with_name(f".{output.stem}.{secrets.token_hex(4)}")
    try:
        folder.mkdir(parents=True)
        form.write(graph, folder / output.name, meta, export)
        images = (read_picture(path).pixels for path in (pictures or [PICTURE]))
        parity = measure(_runner(form, folder / output.name, export), model, meta, images, precision, _sizes(size))
        parity.check(f"{name_or_path} as {form.name} {precision}")
        export = replace(export, parity=parity.to_dict())
        (folder / "proven").mkdir()  # what was run may still be mapped into memory, and is not written over
        written = form.write(graph, folder / "proven" / output.name, meta, export)
        # What is looked for comes last, so that it never stands there without its other half.
        files = [path.replace(output.with_name(path.name)) for path in reversed(written)]
    except OSError as error:
        raise cannot_write(output, error) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return Exported(files[::-1], export, parity)


def _check_output(output: Path, form: Format, *, overwrite: bool) -> None:
    if output.suffix != form.suffix:
        raise UsageError(f"{output}: files of {form.name} end in {form.suffix}; give such a name to -o.")
    for path in form.files(output):
        if path.exists() and not overwrite:
            raise UsageError(f"{path} exists; give --overwrite to replace it, or another -o.")
    check_writable(output.parent, "give another -o")


def _sizes(size: tuple[int, int] | None) -> Sequence[tuple[int, int]]:
    return SIZES if size is None else (size,)


def _runner(form: Format, path: Path, export: Export) -> Run:
    """Runs the file as it was written: once to its end, for the mask, and once to the logits."""
    graph = form.read(path)
    whole, network = form.whole(graph, export), form.network(graph, export)
    return lambda image: (whole(image), network.logits(network.prepare(image)))
