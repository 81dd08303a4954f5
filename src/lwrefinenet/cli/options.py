"""What several commands share: option types, the sentence for a missing extra, complaints."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from lwrefinenet.console import error_console
from lwrefinenet.data.dataset import SegmentationDataset
from lwrefinenet.data.layouts import READERS, open_dataset, open_pictures
from lwrefinenet.data.stages import parse_data_arguments
from lwrefinenet.data.unlabelled import UnlabelledPictures
from lwrefinenet.errors import UsageError
from lwrefinenet.weights import SUFFIX


class Resize(StrEnum):
    """How logits are brought to the picture's size."""

    BILINEAR = "bilinear"
    BICUBIC = "bicubic"


class Runtime(StrEnum):
    """What a network is run with."""

    AUTO = "auto"
    PYTORCH = "pytorch"
    OPENVINO = "openvino"
    ONNXRUNTIME = "onnxruntime"


DATA_HELP = "Data folder, [NAME=]DIR: your own with dataset.toml, or a benchmark as it lies on disk"
WEIGHTS_HELP = "A name from `lwrefinenet models`, a .safetensors file, or an exported .onnx or .xml file."
WeightsOption = Annotated[str, typer.Option(help=WEIGHTS_HELP)]
RuntimeOption = Annotated[
    Runtime,
    typer.Option(help="auto: OpenVINO on a CPU where it is installed, else PyTorch; exported files in their own."),
]
PrecisionOption = Annotated[str | None, typer.Option(help="fp32, bf16 or fp16; by default fp32, or as exported.")]
CompileOption = Annotated[
    bool, typer.Option("--compile", help="PyTorch: compile the network for each size of pictures, once per start.")
]
TileOption = Annotated[
    int | None,
    typer.Option(
        help="See larger pictures in overlapping tiles with this side, in pixels; 0: never. By default 1024 above 10 million "
        "pixels on a CPU.",
        min=0,
    ),
]
TtaOption = Annotated[
    bool,
    typer.Option(
        "--tta",
        help="Average the probabilities of six scales, 0.5 to 1.75, each with its mirror image: 17 times the work.",
    ),
]
TtaScalesOption = Annotated[
    str | None, typer.Option(help="Scales for --tta instead, which need not be given as well: 0.75,1,1.25.")
]
DeviceOption = Annotated[str, typer.Option(help="auto, cpu, cuda[:n] or mps.")]
ResizeOption = Annotated[Resize, typer.Option(help="How logits are resized; bicubic is the published behaviour.")]


def complain(sentence: str) -> None:
    """One line on the standard error."""
    error_console.print(f"lwrefinenet: {sentence}", markup=False)


def check_new_weights(output: Path, *, overwrite: bool) -> None:
    """UsageError where weights may not be written under this name: it means another kind of file, or stands for one unasked."""
    if output.suffix != SUFFIX:
        raise UsageError(f"{output}: weights files end in {SUFFIX}; give such a name to -o.")
    if output.exists() and not overwrite:
        raise UsageError(f"{output} exists; give --overwrite to replace it, or another -o.")


def size_of(text: str, option: str, form: str = "HEIGHTxWIDTH") -> tuple[int, int]:
    """The two numbers of a size; UsageError, naming the option, for anything else or less than 32x32."""
    match = re.fullmatch(r"(\d+)x(\d+)", text)
    if match is None or min(int(match[1]), int(match[2])) < 32:
        raise UsageError(f"{option} {text!r}: expected {form} in pixels, at least 32x32, for example 480x640.")
    return int(match[1]), int(match[2])


def tta_of(tta: bool, scales: str | None) -> bool | tuple[float, ...]:
    """What `--tta` and `--tta-scales` mean for a Predictor; UsageError for scales that are no numbers."""
    if scales is None:
        return tta
    try:
        return tuple(float(scale) for scale in scales.split(","))
    except ValueError as error:
        raise UsageError(f"--tta-scales {scales!r}: expected numbers with commas between them: 0.75,1,1.25.") from error


def labelled(data: str, split: str | None, *, published_crop: bool = False) -> SegmentationDataset:
    """What `--data DIR` or `--data NAME=DIR` means, read by the reader of that name, or by the one that fits."""
    name, root = _named_root(data)
    return open_dataset(root, split, name=name, published_crop=published_crop)


def pictures_of(
    data: str, split: str | None, *, published_crop: bool = False
) -> SegmentationDataset | UnlabelledPictures:
    """As `labelled`; the pictures alone of a split whose masks are not public."""
    name, root = _named_root(data)
    return open_pictures(root, split, name=name, published_crop=published_crop)


def _named_root(data: str) -> tuple[str | None, Path]:
    ((name, root),) = parse_data_arguments([data]).items()
    return name if name in READERS else None, root


@contextmanager
def needs_extra(name: str) -> Iterator[None]:
    """Imports inside need an optional part of the package, which someone who does without it has not installed."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise UsageError(f"this command needs {error.name}: pip install 'lwrefinenet[{name}]'.") from error
