"""Pictures and masks, between files and arrays: one reading rule for every mode, EXIF orientation, refusals."""

import io
import struct
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import numpy as np
import PIL.Image
from numpy.typing import NDArray
from PIL import ExifTags

from lwrefinenet.errors import DataError, ImageError, UsageError

MAX_PIXELS = 16_000_000  # the activations of a network take memory in proportion
IGNORE_COLOUR = (255, 255, 255)
READABLE_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".webp", ".bmp", ".gif")
WRITABLE_SUFFIXES = (".png", ".jpg", ".jpeg")

Array = TypeVar("Array", bound=NDArray[Any])


def is_picture_name(path: Path) -> bool:
    """Whether a file in a folder is taken for a picture, by its name; hidden ones are not, such as macOS's `._NAME.jpg`."""
    return path.suffix.lower() in READABLE_SUFFIXES and not path.name.startswith(".")


# EXIF orientation -> (transpose, then flip rows, then flip columns) that sets the stored picture upright.
_UPRIGHT = {
    1: (False, False, False),
    2: (False, False, True),
    3: (False, True, True),
    4: (False, True, False),
    5: (True, False, False),
    6: (True, False, True),
    7: (True, True, True),
    8: (True, True, False),
}
# Pillow stretches grey of 2 and 4 bits to 0-255; in a mask these are class indices, so the stretch is undone.
_STRETCH = {"L;2": 85, "L;4": 17}
_pillow_limit = threading.Lock()


@dataclass(frozen=True, eq=False)
class Picture:
    """A picture as a person sees it, and how it lies in its file.

    pixels: (H, W, 3) uint8 RGB, upright.  orientation: EXIF 1-8; `as_stored(x, orientation)` lines x up with the file.
    """

    pixels: NDArray[np.uint8]
    orientation: int = 1


@dataclass(frozen=True, eq=False)
class OpenedImage:
    """A decoded Pillow image and how it lies in its file.

    name: of the file, for messages.  stored: its (height, width) in the file.  orientation: EXIF 1-8.
    remaining: the orientation that the decoded pixels still need; 1 for a TIFF, which Pillow itself sets upright.
    """

    name: str
    image: PIL.Image.Image
    stored: tuple[int, int]
    orientation: int
    remaining: int

    @property
    def upright_size(self) -> tuple[int, int]:
        """(height, width) as a person sees it."""
        height, width = self.stored
        return (width, height) if _UPRIGHT[self.orientation][0] else (height, width)


def read_picture(source: str | Path | PIL.Image.Image | NDArray[Any], *, max_pixels: int = MAX_PIXELS) -> Picture:
    """Read a file, take a Pillow image, or take an (H, W, 3) uint8 RGB array, which counts as upright.

    The first frame, by one rule per kind: RGB as it is; grey and 1-bit in all three channels; palette by its colours;
    alpha and transparency dropped, the colours under them kept; CMYK and the rest by Pillow's conversion; 16-bit grey
    (and 32-bit integers 0-65535) scaled so that 65535 becomes 255; floats 0.0-1.0 scaled so that 1.0 becomes 255.
    max_pixels: larger pictures are refused before they are decoded.
    ImageError for a file that is missing, empty, damaged, no picture, or too large; UsageError for other arrays.
    """
    if isinstance(source, np.ndarray):
        return Picture(_checked_array(source, max_pixels))
    if isinstance(source, PIL.Image.Image):
        name = str(getattr(source, "filename", "") or "the given Pillow image")
        return _decoded(source, name, max_pixels)
    with _opened(Path(source)) as image:
        return _decoded(image, str(source), max_pixels)


@dataclass(frozen=True)
class Header:
    """What a picture file says of itself before it is decoded: (height, width) as stored, EXIF orientation 1-8, Pillow's names."""

    size: tuple[int, int]
    orientation: int
    mode: str
    format: str

    @property
    def upright_size(self) -> tuple[int, int]:
        """(height, width) as a person sees it."""
        height, width = self.size
        return (width, height) if _UPRIGHT[self.orientation][0] else (height, width)


def read_header(path: str | Path) -> Header:
    """Read a file's header, whatever the size of the picture; ImageError for a file that is missing, empty or no picture."""
    with _opened(Path(path)) as image:
        size = (image.height, image.width)
        return Header(size, _orientation(image, str(path)), image.mode, image.format or "")


def read_mask(path: str | Path, *, max_pixels: int = MAX_PIXELS) -> NDArray[np.uint8]:
    """Read class indices, (H, W), as they are stored: grey values or palette indices, never colours, never turned.

    ImageError for a file that cannot be read; DataError for one that holds no class indices of 0-255: colours, alpha,
    larger values, or JPEG, whose compression changes values.
    """
    with _opened(Path(path)) as image:
        _check_size(str(path), image.size, max_pixels)
        if image.format in ("JPEG", "MPO"):
            raise DataError(f"{path}: is a JPEG, whose compression changes class indices; give the mask as a PNG.")
        if image.mode not in ("1", "L", "P") and not _is_integer(image.mode):
            raise DataError(
                f"{path}: has mode {image.mode}, so it holds colours, not class indices; a mask is a grey or palette "
                "PNG whose pixel values are 0, 1, 2, ... Turn its colours into class indices first."
            )
        stretch = _STRETCH.get(_raw_mode(image), 1)
        stored = _orientation(image, str(path))
        values = _loaded(image, str(path))
        if _orientation(image, str(path)) != stored:  # Pillow itself sets a TIFF upright while it decodes
            values = as_stored(values, stored)
    if values.dtype != np.uint8 and (values.min() < 0 or values.max() > 255):
        raise DataError(f"{path}: holds the value {values[(values < 0) | (values > 255)][0]}; class indices are 0-255.")
    return values.astype(np.uint8) // np.uint8(stretch)


@contextmanager
def opened_image(source: Path | bytes, name: str = "", *, max_pixels: int = MAX_PIXELS) -> Iterator[OpenedImage]:
    """Decode a picture file, or the bytes of one called `name`, and lend it as Pillow reads it, nothing converted.

    ImageError for what is missing, empty, damaged, no picture, or larger than `max_pixels`.
    """
    name = name or str(source)
    lent = nullcontext(_recognised(io.BytesIO(source), Path(name))) if isinstance(source, bytes) else _opened(source)
    with lent as image:
        _check_size(name, image.size, max_pixels)
        stored = (image.height, image.width)
        orientation = _orientation(image, name)
        _load(image, name)
        yield OpenedImage(name, image, stored, orientation, _orientation(image, name))


def upright(array: Array, orientation: int) -> Array:
    """Apply an EXIF orientation (1-8) to a stored (H, W) or (H, W, C) array; the result is contiguous."""
    transpose, flip_rows, flip_columns = _UPRIGHT[orientation]
    return _contiguous(_flipped(array.swapaxes(0, 1) if transpose else array, flip_rows, flip_columns))


def as_stored(array: Array, orientation: int) -> Array:
    """Undo an EXIF orientation (1-8): the inverse of `upright`."""
    transpose, flip_rows, flip_columns = _UPRIGHT[orientation]
    array = _flipped(array, flip_rows, flip_columns)
    return _contiguous(array.swapaxes(0, 1) if transpose else array)


def encode_mask(mask: NDArray[np.uint8], palette: Sequence[tuple[int, int, int]], *, ignore_index: int = 255) -> bytes:
    """An indexed PNG: the pixel values are the class indices, the palette only shows them; ignore pixels show white."""
    return _encoded(_indexed(mask, palette, ignore_index), "PNG", compress_level=1)


def encode_grey(values: NDArray[np.uint8]) -> bytes:
    """(H, W) -> a grey PNG of 8 bits, one channel, packed tighter than `encode_mask`, to be sent somewhere."""
    return _encoded(PIL.Image.fromarray(np.ascontiguousarray(values)), "PNG", compress_level=6)


def colour_table(palette: Sequence[tuple[int, int, int]], ignore_index: int) -> NDArray[np.uint8]:
    """(256, 3): the colour of every mask value; white for the ignore index, black for values that mean nothing."""
    table = np.zeros((256, 3), np.uint8)
    table[: len(palette)] = palette
    if ignore_index < len(table):
        table[ignore_index] = IGNORE_COLOUR
    return table


def coloured(
    mask: NDArray[np.uint8], palette: Sequence[tuple[int, int, int]], *, ignore_index: int = 255
) -> NDArray[np.uint8]:
    """(H, W) class indices -> (H, W, 3) RGB in the colours of the palette; white for the ignore index."""
    return np.asarray(_indexed(mask, palette, ignore_index).convert("RGB"))


def encode_depth(depth: NDArray[np.float32]) -> bytes:
    """(H, W) metres as a grey PNG of 16 bits in millimetres, 65535 for what is beyond."""
    millimetres = np.rint(depth * np.float32(1000)).clip(0, 65535).astype(np.uint16)
    return _encoded(PIL.Image.fromarray(millimetres), "PNG", compress_level=1)


def _indexed(mask: NDArray[np.uint8], palette: Sequence[tuple[int, int, int]], ignore_index: int) -> PIL.Image.Image:
    image = PIL.Image.fromarray(np.ascontiguousarray(mask))
    image.putpalette(colour_table(palette, ignore_index).tobytes())
    return image


def encode_picture(pixels: NDArray[np.uint8], suffix: str) -> bytes:
    """(H, W, 3) RGB as PNG (".png", lossless) or JPEG (".jpg", ".jpeg"; quality 92, full colour resolution)."""
    if suffix.lower() not in WRITABLE_SUFFIXES:
        raise UsageError(f"pictures are written as {', '.join(WRITABLE_SUFFIXES)}, not {suffix!r}.")
    image = PIL.Image.fromarray(np.ascontiguousarray(pixels))
    if suffix.lower() == ".png":
        return _encoded(image, "PNG", compress_level=1)
    return _encoded(image, "JPEG", quality=92, subsampling=0)


def _checked_array(array: NDArray[Any], max_pixels: int) -> NDArray[np.uint8]:
    if array.ndim != 3 or array.shape[2] != 3 or array.dtype != np.uint8 or array.size == 0:
        raise UsageError(
            f"a picture array must be (H, W, 3) uint8, RGB 0-255; got shape {array.shape} of {array.dtype}."
        )
    _check_size("the given array", (array.shape[1], array.shape[0]), max_pixels)
    return np.require(array, requirements=["C", "W"])  # torch takes neither negative strides nor read-only arrays


def _check_size(name: str, size: tuple[int, int], max_pixels: int) -> None:
    width, height = size
    if width * height > max_pixels:
        raise ImageError(
            f"{name}: is {width}x{height} pixels ({width * height:,}), the limit is {max_pixels:,}; allow more "
            "(`lwrefinenet predict --max-pixels`; memory grows with it), or cut the picture into tiles."
        )


def _decoded(image: PIL.Image.Image, name: str, max_pixels: int) -> Picture:
    _check_size(name, image.size, max_pixels)
    stored = _orientation(image, name)
    pixels = _rgb(image, name)
    still_to_apply = _orientation(image, name)  # 1 for a TIFF, which Pillow itself sets upright while it decodes
    return Picture(upright(pixels, still_to_apply), stored)


def _orientation(image: PIL.Image.Image, name: str) -> int:
    with _decoding(name):
        if image.format == "PNG" and "exif" not in image.info:
            image.load()  # to look for it behind the pixels, as getexif does: what fails here is the picture
    try:
        value = image.getexif().get(ExifTags.Base.Orientation, 1)
    except (SyntaxError, ValueError, TypeError, KeyError, struct.error):
        return 1  # no EXIF, whatever stands there; the picture may be sound
    return value if isinstance(value, int) and value in _UPRIGHT else 1


def _rgb(image: PIL.Image.Image, name: str) -> NDArray[np.uint8]:
    """(H, W, 3) uint8, by the rule in `read_picture`."""
    if image.mode == "F" or _is_integer(image.mode):
        return np.repeat(_grey(_loaded(image, name), name)[:, :, None], 3, axis=2)
    _load(image, name)
    with _decoding(name):
        if image.mode in ("P", "PA"):
            image = image.convert("RGBA")  # by way of alpha: Pillow warns when a palette loses its transparency
        return np.array(image.convert("RGB"))


def _grey(values: NDArray[Any], name: str) -> NDArray[np.uint8]:
    white = 65535 if np.issubdtype(values.dtype, np.integer) else 1
    if not (values.min() >= 0 and values.max() <= white):
        raise ImageError(
            f"{name}: its grey values run from {values.min()} to {values.max()}; expected 0 to {white}. "
            "Scale them to that range, or save the picture with 8 bits."
        )
    scaled: NDArray[np.uint8] = np.rint(values * np.float32(255 / white)).astype(np.uint8)
    return scaled


def _is_integer(mode: str) -> bool:
    return mode == "I" or mode.startswith("I;")


def _raw_mode(image: PIL.Image.Image) -> str:
    """How the pixels lie in the file, in Pillow's words; empty where its decoder does not say."""
    tiles = getattr(image, "tile", [])
    arguments = tiles[0][3] if tiles else ""
    return str(arguments[0] if isinstance(arguments, tuple) else arguments)


def _loaded(image: PIL.Image.Image, name: str) -> NDArray[Any]:
    _load(image, name)
    return np.array(image)


def _load(image: PIL.Image.Image, name: str) -> None:
    """Decode now; Pillow checks its own limit again in some decoders, so a larger picture takes the lock on it."""
    large = image.width * image.height > (PIL.Image.MAX_IMAGE_PIXELS or 0)
    with _decoding(name), _without_pillows_limit() if large else nullcontext():
        image.load()


@contextmanager
def _opened(path: Path) -> Iterator[PIL.Image.Image]:
    """Open a picture file without decoding it, whatever its size."""
    try:
        file = path.open("rb")
    except OSError as error:
        raise ImageError(f"{path}: cannot be opened ({error.strerror}); check the name and the permissions.") from error
    with file:
        if not file.read(1):
            raise ImageError(f"{path}: is empty (0 bytes), expected a picture; copy or download it again.")
        yield _recognised(file, path)


def _recognised(file: BinaryIO, path: Path) -> PIL.Image.Image:
    """By handle, not by name: files opened by name Pillow maps into memory, and then scrambles turned grey TIFFs."""
    try:
        with _without_pillows_limit():
            return PIL.Image.open(file)
    except PIL.UnidentifiedImageError as error:
        raise ImageError(f"{path}: is no picture, or cut short; give a whole PNG, JPEG, TIFF, WebP or BMP.") from error
    except Exception as error:  # decoders fail in many ways (OSError, SyntaxError, ...); all mean the same here
        raise _damaged(str(path), error) from error


@contextmanager
def _without_pillows_limit() -> Iterator[None]:
    """Let `max_pixels` take the place of Pillow's limit, which warns, or fails without telling the size."""
    with _pillow_limit:
        limit, PIL.Image.MAX_IMAGE_PIXELS = PIL.Image.MAX_IMAGE_PIXELS, None
        try:
            yield
        finally:
            PIL.Image.MAX_IMAGE_PIXELS = limit


@contextmanager
def _decoding(name: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # see `_recognised`
        raise _damaged(name, error) from error


def _damaged(name: str, error: Exception) -> ImageError:
    return ImageError(f"{name}: cannot be decoded ({error}), so it is damaged or cut short; copy or download it again.")


def _flipped(array: Array, rows: bool, columns: bool) -> Array:
    flipped: Array = array[:: -1 if rows else 1, :: -1 if columns else 1]  # type: ignore[assignment]
    return flipped


def _contiguous(array: Array) -> Array:
    contiguous: Array = np.ascontiguousarray(array)  # type: ignore[assignment]
    return contiguous


def _encoded(image: PIL.Image.Image, file_format: str, **options: int) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, file_format, **options)
    return buffer.getvalue()
