"""Instances as run lengths, and the class mask that they make together. Only importer of pycocotools."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as run_lengths

from lwrefinenet.errors import DataError

FAR = 10  # picture sizes; points beyond are no labelling but damage, and break the arithmetic of pycocotools


@dataclass(frozen=True, eq=False)
class Instance:
    """One labelled object: the value that its pixels get, and its run lengths.

    beneath: whether it lies under everything that is not, whatever its size (COCO's crowds).
    """

    value: int
    runs: Mapping[str, Any]
    beneath: bool = False


def runs_of(segmentation: Any, size: tuple[int, int], name: str) -> Mapping[str, Any]:
    """Run lengths of an object on a picture of `size` (H, W).

    segmentation: as COCO writes it, a list of polygons [x, y, x, y, ...] in pixels, of which the union counts, or run lengths,
    plain or compressed. A pixel belongs to a polygon if its centre does. DataError, beginning with `name`, for anything else.
    """
    height, width = size
    try:
        if isinstance(segmentation, list):
            _check_polygons(segmentation, size, name)
            segmentation = run_lengths.merge(run_lengths.frPyObjects(segmentation, height, width))
        if tuple(segmentation["size"]) != size:
            raise DataError(
                f"{name}: its run lengths are for {segmentation['size']}, the picture is {[height, width]}."
            )
        counts = segmentation["counts"]
        if isinstance(counts, list):
            if sum(counts) != height * width:
                raise DataError(
                    f"{name}: its run lengths do not add up to {height * width}, the pixels of the picture."
                )
            segmentation = run_lengths.frPyObjects(segmentation, height, width)
        run_lengths.decode(segmentation)
    except (ValueError, TypeError, KeyError) as error:
        raise DataError(f"{name}: is neither polygons nor run lengths that pycocotools reads ({error}).") from error
    runs: Mapping[str, Any] = segmentation
    return runs


def painted(instances: Sequence[Instance], size: tuple[int, int], background: int) -> NDArray[np.uint8]:
    """The mask (H, W) of all instances together.

    Where they overlap, the smaller one is seen, as it is the one in front or the part; of equal ones the later.
    """
    mask = np.full(size, background, np.uint8)
    areas = [int(run_lengths.area(instance.runs)) for instance in instances]
    for number in sorted(range(len(instances)), key=lambda n: (not instances[n].beneath, -areas[n], n)):
        mask[run_lengths.decode(instances[number].runs).astype(bool)] = instances[number].value
    return mask


def _check_polygons(polygons: Sequence[Any], size: tuple[int, int], name: str) -> None:
    for polygon in polygons:
        if not isinstance(polygon, list) or len(polygon) < 6 or len(polygon) % 2:
            raise DataError(
                f"{name}: a polygon is a list of at least three points, [x, y, x, y, x, y]; got {str(polygon)[:80]}."
            )
        if not (np.abs(np.array(polygon, dtype=float)) <= FAR * max(size)).all():
            raise DataError(f"{name}: a polygon has a point far outside the picture, or none: {str(polygon)[:80]}.")
