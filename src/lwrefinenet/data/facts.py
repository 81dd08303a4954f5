"""What one file of a data set is: the values or colours of a mask, the header of a picture, and why one cannot be read."""

import hashlib
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import numpy as np
import PIL.Image
from numpy.typing import NDArray

from lwrefinenet.errors import DataError, LwRefineNetError
from lwrefinenet.images import MAX_PIXELS, read_header, read_mask, read_picture

KEPT = 64  # distinct colours, or values above 255, that are kept of a file; the most frequent ones
_LAST_BYTES = {"PNG": b"IEND\xaeB`\x82", "JPEG": b"\xff\xd9", "MPO": b"\xff\xd9"}


class Form(StrEnum):
    """How a mask is stored."""

    INDEX = "index"  # values that `read_mask` takes, or that the data set's own decoder gives
    PALETTE = "palette"  # the same, as indices into a palette
    DEEP = "16-bit"
    JPEG = "jpeg"
    ALPHA = "alpha"
    COLOUR = "colour"
    DAMAGED = "damaged"
    NONE = "none"  # the data set has no masks: it teaches depth alone


@dataclass(frozen=True)
class PictureFacts:
    """A picture's header.  size: (height, width) as stored.  orientation: EXIF 1-8.  fault: why it cannot be read, or empty."""

    sha256: str = ""
    size: tuple[int, int] = (0, 0)
    orientation: int = 1
    mode: str = ""
    fault: str = ""

    @property
    def upright_size(self) -> tuple[int, int]:
        """(height, width) as a person sees it."""
        height, width = self.size
        return (width, height) if self.orientation >= 5 else (height, width)


@dataclass(frozen=True)
class MaskFacts:
    """A mask's content.

    size: (height, width) as stored.  mode: Pillow's word for the pixels.  fault: why it cannot be read, or empty.
    counts: (value, pixels) of every stored value, rising; of a grey picture also where it cannot serve as a mask.
    colours: (red, green, blue, pixels), most frequent first: of a coloured mask; of a palette mask one per value in `counts`.
    num_colours: how many there are, `colours` holds at most 64.
    """

    sha256: str = ""
    size: tuple[int, int] = (0, 0)
    form: Form = Form.DAMAGED
    mode: str = ""
    counts: tuple[tuple[int, int], ...] = ()
    colours: tuple[tuple[int, int, int, int], ...] = ()
    num_colours: int = 0
    fault: str = ""


def sha256_of(content: bytes) -> str:
    """The content hash that files are told apart by."""
    return hashlib.sha256(content).hexdigest()


def picture_facts(path: Path, content: bytes) -> PictureFacts:
    """Read a picture's header; it is decoded only where its end looks cut off, to be certain."""
    sha256 = sha256_of(content)
    try:
        header = read_header(path)
        if header.size[0] * header.size[1] > MAX_PIXELS or not _ends_well(content, header.format):
            read_picture(path)
    except LwRefineNetError as error:
        return PictureFacts(sha256, fault=_without_name(error, path))
    return PictureFacts(sha256, header.size, header.orientation, header.mode)


def mask_facts(path: Path, content: bytes) -> MaskFacts:
    """Count what an index mask holds; of a file that is none, find out what it is."""
    sha256 = sha256_of(content)
    try:
        values = read_mask(path)
    except DataError as error:
        return _no_index_mask(path, sha256, _without_name(error, path))
    except LwRefineNetError as error:
        return MaskFacts(sha256, fault=_without_name(error, path))
    header = read_header(path)
    counts = counted(values)
    if header.mode != "P":
        return MaskFacts(sha256, header.size, Form.INDEX, header.mode, counts)
    colours = _palette_colours(path, counts)
    return MaskFacts(sha256, header.size, Form.PALETTE, "P", counts, colours, len(colours))


def counted(values: NDArray[np.uint8]) -> tuple[tuple[int, int], ...]:
    """(value, pixels) of every value that occurs, rising."""
    counts = np.bincount(values.ravel(), minlength=256)
    return tuple((int(value), int(counts[value])) for value in np.flatnonzero(counts))


def _no_index_mask(path: Path, sha256: str, fault: str) -> MaskFacts:
    header = read_header(path)
    if header.mode.startswith("I"):
        with PIL.Image.open(path) as image:
            found, pixels = np.unique(np.asarray(image), return_counts=True)
        most = np.sort(np.argsort(-pixels)[: 4 * KEPT])
        counts = tuple((int(found[place]), int(pixels[place])) for place in most)
        return MaskFacts(sha256, header.size, Form.DEEP, header.mode, counts, fault=fault)
    try:
        rgb = read_picture(path).pixels.astype(np.uint32)
    except LwRefineNetError as error:
        return MaskFacts(sha256, fault=_without_name(error, path))
    grey = (rgb[..., :1] == rgb[..., 1:]).all()
    found, pixels = np.unique(rgb[..., 0] << 16 | rgb[..., 1] << 8 | rgb[..., 2], return_counts=True)
    most = np.argsort(-pixels, kind="stable")[:KEPT]
    return MaskFacts(
        sha256,
        header.size,
        _form(header.format, header.mode),
        header.mode,
        counted(rgb[..., 0].astype(np.uint8)) if grey else (),
        tuple((int(found[i] >> 16), int(found[i] >> 8 & 255), int(found[i] & 255), int(pixels[i])) for i in most),
        len(found),
        fault,
    )


def _form(file_format: str, mode: str) -> Form:
    if file_format in _LAST_BYTES and file_format != "PNG":
        return Form.JPEG
    return Form.ALPHA if mode in ("LA", "PA", "RGBA", "RGBa", "La") else Form.COLOUR


def _palette_colours(path: Path, counts: tuple[tuple[int, int], ...]) -> tuple[tuple[int, int, int, int], ...]:
    with PIL.Image.open(path) as image:
        palette = (image.getpalette("RGB") or []) + [0] * 768
    return tuple((*palette[3 * value : 3 * value + 3], pixels) for value, pixels in counts)  # type: ignore[misc]


def _ends_well(content: bytes, file_format: str) -> bool:
    if file_format == "WEBP":
        return int.from_bytes(content[4:8], "little") + 8 <= len(content)
    end = _LAST_BYTES.get(file_format)
    return end is not None and content.rstrip(b"\0\r\n ").endswith(end)


def _without_name(error: LwRefineNetError, path: Path) -> str:
    """The sentence without the file that it begins with: the same content may lie under another name tomorrow."""
    return str(error).removeprefix(f"{path}: ")
