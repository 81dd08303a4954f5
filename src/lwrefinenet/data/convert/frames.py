"""Which way up a mask is: what was drawn on the stored picture and what was drawn on the upright one, told apart by size."""

import numpy as np
from numpy.typing import NDArray

from lwrefinenet.errors import DataError
from lwrefinenet.images import OpenedImage, upright

UNDECIDED = (
    "picture whose EXIF orientation leaves its size as it is: taken as labelled upright, as the picture is shown"
)


def set_upright(
    mask: NDArray[np.uint8], picture: OpenedImage, name: str, drawn_by: str
) -> tuple[NDArray[np.uint8], tuple[str, ...]]:
    """The mask (H, W) as the picture stands upright, and what there is to notice.

    The size decides, by the rule of `SegmentationDataset`: the upright picture's size means upright, the stored
    picture's size means that the mask is turned with it. Half turns, mirrored pictures and squares have one size for both;
    they count as upright, which is what LabelMe (since 2019), CVAT, Label Studio, FiftyOne and browsers show to the person
    who labels. DataError, naming the mask `name` and what drew it, for any other size.
    """
    notices = (UNDECIDED,) if picture.orientation != 1 and picture.stored == picture.upright_size else ()
    if mask.shape == picture.upright_size:
        return mask, notices
    if mask.shape == picture.stored:
        return upright(mask, picture.orientation), notices
    raise _mismatch(mask.shape, picture, name, drawn_by)


def drawing_size(stated: tuple[int, int], picture: OpenedImage, name: str, drawn_by: str) -> tuple[int, int]:
    """The (height, width) that a label file states for its picture, if it is one of the picture's two; else DataError."""
    if stated not in (picture.upright_size, picture.stored):
        raise _mismatch(stated, picture, name, drawn_by)
    return stated


def _mismatch(size: tuple[int, ...], picture: OpenedImage, name: str, drawn_by: str) -> DataError:
    stored = f"{picture.stored[1]}x{picture.stored[0]}"
    return DataError(
        f"{name}: {drawn_by} {size[1]}x{size[0]}, but its picture {picture.name} is {stored}; a mask has one value per pixel of "
        "its picture. Bring back the picture that was labelled, or label this one."
    )
