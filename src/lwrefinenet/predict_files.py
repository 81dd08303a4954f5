"""Many pictures: which files are meant, and a mask, an overlay and a sheet for each, one failure at a time."""

import glob
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from lwrefinenet.errors import ImageError, LwRefineNetError, UsageError
from lwrefinenet.files import check_writable, write_atomically
from lwrefinenet.images import MAX_PIXELS, READABLE_SUFFIXES, encode_picture, is_picture_name
from lwrefinenet.predict import Predictor, Segmentation


@dataclass(frozen=True, eq=False)
class FileResult:
    """What became of one input: a segmentation and where it was written, or the error.

    outputs: the files by kind: mask, overlay, sheet, depth, depth colours, normals.  timings: those of the segmentation, and save.
    """

    source: Path
    outputs: dict[str, Path]
    segmentation: Segmentation | None = None
    error: LwRefineNetError | None = None
    timings: dict[str, float] = field(default_factory=dict)


def expand_inputs(arguments: Sequence[str | Path]) -> list[Path]:
    """Files as they are, the pictures of folders (not of folders in them), the files that globs match.

    In the order of the arguments, sorted within a folder or glob, each file once.  UsageError for an argument that is
    nothing of this kind.
    """
    files: dict[str, Path] = {}
    for argument in arguments:
        try:
            found = _expanded(str(argument))
        except OSError as error:
            raise UsageError(f"{argument}: cannot be looked up ({error.strerror}); check the name.") from error
        for file in found:
            files.setdefault(os.path.abspath(file), file)  # noqa: PTH100 - links to one file stay two inputs
    return list(files.values())


def predict_files(
    predictor: Predictor,
    files: Sequence[Path],
    output: Path,
    *,
    overwrite: bool = False,
    overlay: bool = True,
    sheet: bool = False,
    max_pixels: int = MAX_PIXELS,
) -> Iterator[FileResult]:
    """Write STEM_mask.png, STEM_overlay.jpg and, if asked for, STEM_sheet.png of each file into the folder `output`.

    Of networks of several tasks also STEM_depth.png (16 bits, millimetres), STEM_depth_colours.png with a scale bar, and
    STEM_normals.png.
    Yields one FileResult per file as it is done; a file that fails, or whose outputs exist, does not stop the rest.
    Before any work starts: UsageError where two outputs, or an output and an input, would be the same file;
    LwRefineNetError where the folder cannot be written.
    """
    endings = {"mask": "mask.png"}
    endings |= {"overlay": "overlay.jpg"} if overlay else {}
    endings |= {"sheet": "sheet.png"} if sheet else {}
    if "depth" in predictor.meta.tasks:
        endings |= {"depth": "depth.png"} | ({"depth colours": "depth_colours.png"} if overlay else {})
    endings |= {"normals": "normals.png"} if "normals" in predictor.meta.tasks else {}
    plan = [
        FileResult(file, {kind: output / f"{file.stem}_{ending}" for kind, ending in endings.items()}) for file in files
    ]
    _check_collisions(plan)
    check_writable(output, "give another folder through --output")
    return (_predict_file(predictor, planned, overwrite=overwrite, max_pixels=max_pixels) for planned in plan)


def _predict_file(predictor: Predictor, planned: FileResult, *, overwrite: bool, max_pixels: int) -> FileResult:
    try:
        for path in planned.outputs.values():
            if path.exists() and not overwrite:
                raise ImageError(
                    f"{planned.source}: {path} exists; give --overwrite to replace it, or another --output."
                )
        segmentation = predictor(planned.source, max_pixels=max_pixels)
        started = time.perf_counter()
        for path, content in [(path, _content(kind, segmentation)) for kind, path in planned.outputs.items()]:
            write_atomically(path, content)
        timings = {**segmentation.timings, "save": time.perf_counter() - started}
    except LwRefineNetError as error:
        return replace(planned, error=error)
    except (OSError, MemoryError) as error:
        return replace(
            planned, error=ImageError(f"{planned.source}: cannot be predicted ({error or 'out of memory'}).")
        )
    return replace(planned, segmentation=segmentation, timings=timings)


def _content(kind: str, segmentation: Segmentation) -> bytes:
    match kind:
        case "mask":
            return segmentation.encoded()
        case "depth":
            return segmentation.encoded_depth()
        case "overlay":
            return encode_picture(segmentation.overlay(), ".jpg")
        case "depth colours":
            return encode_picture(segmentation.depth_picture(), ".png")
        case "normals":
            return encode_picture(segmentation.normals_picture(), ".png")
        case _:
            return encode_picture(segmentation.sheet(), ".png")


def _expanded(argument: str) -> list[Path]:
    if not argument:
        raise UsageError("an input is empty; give a picture, a folder or a glob.")
    path = Path(argument)
    if path.is_dir():
        pictures = sorted(p for p in path.iterdir() if is_picture_name(p) and p.is_file())
        if not pictures:
            raise UsageError(f"{path}: this folder holds no pictures ({', '.join(READABLE_SUFFIXES)}).")
        return pictures
    if path.exists():
        return [path]
    if not any(wildcard in argument for wildcard in "*?["):
        raise UsageError(f"{path}: there is no such file or folder; check the name.")
    found = (Path(match) for match in glob.glob(argument, recursive=True))  # noqa: PTH207 - as a shell: no hidden files
    matches = sorted(path for path in found if path.is_file())
    if not matches:
        raise UsageError(f"{argument}: no file matches this pattern.")
    return matches


def _check_collisions(plan: Sequence[FileResult]) -> None:
    writers: dict[Path, Path] = {}
    inputs = {planned.source.resolve() for planned in plan}
    for planned in plan:
        for path in planned.outputs.values():
            if path in writers:
                raise UsageError(
                    f"{writers[path]} and {planned.source} would both be written as {path}; "
                    "predict them in two calls, each with its own --output."
                )
            if path.resolve() in inputs:
                raise UsageError(f"{path} is an input and would be written over; give another --output.")
            writers[path] = planned.source
