"""COCO's instances as masks with the classes of VOC: the first stage before SBD and VOC."""

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lwrefinenet.data.dataset import Sample, SegmentationDataset
from lwrefinenet.data.lists import check_split
from lwrefinenet.errors import DataError, UsageError
from lwrefinenet.labels import VOC

MIN_PIXELS = 1000
# What VOC calls otherwise than COCO; the other names are the same.
COCO_NAMES = {
    "aeroplane": "airplane",
    "diningtable": "dining table",
    "motorbike": "motorcycle",
    "pottedplant": "potted plant",
    "sofa": "couch",
    "tvmonitor": "tv",
}
CLASS_OF = {COCO_NAMES.get(name, name): index for index, name in enumerate(VOC.class_names) if index}


@dataclass(frozen=True)
class Region:
    """One instance.  value: what its pixels hold in the mask.  counts: run lengths, as pycocotools compresses them."""

    value: int
    counts: bytes


Instances = tuple[tuple[int, int], tuple[Region, ...]]  # (height, width) and what lies there, from back to front


@dataclass(frozen=True)
class InstanceMasks:
    """Makes the mask of a picture from its instances; small enough to be sent to every worker.

    pictures: by picture id.
    """

    pictures: Mapping[int, Instances]

    def __call__(self, path: Path) -> np.ndarray:
        """path: annotation file / picture id.  Returns (H, W) uint8: VOC's classes, 0 where there is none, 255 for crowds."""
        tools = _pycocotools()
        size, regions = self.pictures[int(path.name)]
        mask = np.zeros(size, dtype=np.uint8, order="F")  # in columns, as run lengths are: twice as fast
        for region in regions:
            inside = tools.decode({"size": list(size), "counts": region.counts})
            np.copyto(mask, region.value, where=inside.view(bool))
        return np.ascontiguousarray(mask)


def coco(root: Path, split: str) -> SegmentationDataset:
    """COCO 2017 with VOC's 21 classes: `annotations/instances_{train,val}2017.json`, `{train,val}2017/*.jpg`.

    Masks lie in no file: they are made from the instances when they are asked for.  Where instances overlap the smaller one
    is in front; crowds are ignored where no instance lies on them; COCO's other 60 classes are background.  Only pictures
    are taken whose instances of VOC's classes have more than 1000 pixels together (by COCO's `area`, crowds not counted), as
    in L.-C. Chen et al. (arXiv:1706.05587).  T.-Y. Lin et al., ECCV 2014 (arXiv:1405.0312).
    DataError for a file that is no COCO annotation; UsageError where pycocotools is missing.
    """
    check_split(split, ("train", "val"), root)
    path = root / "annotations" / f"instances_{split}2017.json"
    _pycocotools()  # missing, it is missed now and not in a worker
    content = _read(path)
    try:
        pictures, samples = _index(content, path, root / f"{split}2017")
    except (KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"{path}: is not an annotation file of COCO's instances ({type(error).__name__}: {error})."
        ) from error
    if not samples:
        raise DataError(f"{path}: no picture has more than {MIN_PIXELS} pixels of VOC's classes.")
    for sample in samples:
        if not sample.image.is_file():
            raise DataError(f"{sample.image}: no such file, but {path} calls for it.")
    return SegmentationDataset(
        name="coco",
        split=split,
        labels=VOC,
        samples=samples,
        decode=InstanceMasks(pictures),
        void_rule=f"crowds ignored; pictures with more than {MIN_PIXELS} pixels of VOC's classes",
        licence="CC BY 4.0 (annotations), Flickr terms of use (pictures)",
    )


def is_coco(root: Path) -> bool:
    """Whether COCO 2017's instance annotations lie here."""
    return any((root / "annotations").glob("instances_*2017.json"))


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file; unpack COCO's annotations_trainval2017.zip there.") from error
    except ValueError as error:
        raise DataError(f"{path}: is damaged: not valid JSON ({error}).") from error


def _index(content: Any, path: Path, folder: Path) -> tuple[dict[int, Instances], tuple[Sample, ...]]:
    """The pictures that count, in the order of their ids, with what their masks are made of."""
    value_of = {entry["id"]: CLASS_OF[entry["name"]] for entry in content["categories"] if entry["name"] in CLASS_OF}
    instances = defaultdict(list)
    for entry in content["annotations"]:
        if entry["category_id"] in value_of:
            instances[entry["image_id"]].append(entry)
    pictures, samples = {}, []
    for entry in sorted(content["images"], key=lambda entry: entry["id"]):
        found = instances[entry["id"]]
        if sum(each["area"] for each in found if not each["iscrowd"]) > MIN_PIXELS:
            size = (entry["height"], entry["width"])
            pictures[entry["id"]] = size, tuple(_regions(found, size, value_of))
            samples.append(Sample(folder / entry["file_name"], path / str(entry["id"])))
    return pictures, tuple(samples)


def _regions(instances: list[Any], size: tuple[int, int], value_of: Mapping[int, int]) -> Iterable[Region]:
    """From back to front: crowds, then instances from the largest to the smallest."""
    tools = _pycocotools()
    for each in sorted(instances, key=lambda each: (not each["iscrowd"], -each["area"])):
        value = VOC.ignore_index if each["iscrowd"] else value_of[each["category_id"]]
        shape = each["segmentation"]
        if shape == []:
            continue
        encoded = tools.frPyObjects(shape, *size)  # polygons, or run lengths for crowds
        yield Region(value, (tools.merge(encoded) if isinstance(shape, list) else encoded)["counts"])


def _pycocotools() -> Any:
    try:
        from pycocotools import mask
    except ModuleNotFoundError as error:
        raise UsageError("COCO needs pycocotools: pip install 'lwrefinenet[datasets]'.") from error
    return mask
