"""Which reader fits a data folder: told by the files that lie in it, or chosen by name."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from lwrefinenet.data.benchmarks import camvid, cityscapes, coco, context, nyu, pascal
from lwrefinenet.data.dataset import SegmentationDataset
from lwrefinenet.data.folder import DESCRIPTION, folder_dataset
from lwrefinenet.data.unlabelled import UnlabelledPictures
from lwrefinenet.errors import DataError, UsageError


@dataclass(frozen=True)
class Reader:
    """A data set and how to know it.

    open: takes the root, the split and `options`.  fits: whether a root has the layout.  default_split: the one that scores
    are stated on.  layout: in words, what a root holds.
    unlabelled: gives the pictures of a split whose masks are not public, None for other splits.
    """

    open: Callable[..., SegmentationDataset]
    fits: Callable[[Path], bool]
    default_split: str
    layout: str
    options: tuple[str, ...] = ()
    unlabelled: Callable[[Path, str], UnlabelledPictures | None] = lambda root, split: None


CONTEXT_LAYOUT = "SegmentationClassContext/, or trainval/ and labels.txt (PASCAL Context)"

# Where several readers fit one root, the first of this table is taken: one's own description first, then the plain data set
# before what others drew on its pictures (`voc` before `context` and `person_part`).
READERS: dict[str, Reader] = {
    "folder": Reader(
        folder_dataset,
        lambda root: (root / DESCRIPTION).is_file(),
        "val",
        f"{DESCRIPTION} beside images/ and masks/ (your own)",
    ),
    "camvid": Reader(camvid.camvid, camvid.is_camvid, "test", "trainannot/ beside train/ (CamVid)"),
    "nyudv2_lists": Reader(
        nyu.nyudv2_lists,
        nyu.is_nyudv2_lists,
        "val",
        "train.txt of tab-separated pairs like train_images/000003.png (NYU Depth v2 by lists)",
    ),
    "nyudv2": Reader(
        nyu.nyudv2,
        nyu.is_nyudv2,
        "test",
        "images/, labels/, train.txt and test.txt (NYU Depth v2)",
        options=("published_crop",),
    ),
    "cityscapes": Reader(
        cityscapes.cityscapes,
        cityscapes.is_cityscapes,
        "val",
        "leftImg8bit/ and gtFine/ (Cityscapes)",
        unlabelled=cityscapes.cityscapes_unlabelled,
    ),
    "kitti": Reader(cityscapes.kitti, cityscapes.is_kitti, "val", "training/image_2/ and training/semantic/ (KITTI)"),
    "voc": Reader(
        pascal.voc,
        pascal.is_voc,
        "val",
        "JPEGImages/, SegmentationClass/ and ImageSets/Segmentation/ (VOC 2012)",
        unlabelled=pascal.voc_unlabelled,
    ),
    "sbd": Reader(pascal.sbd, pascal.is_sbd, "val", "img/ and cls/ (SBD)", options=("voc_root",)),
    "context": Reader(context.context, context.is_context, "val", CONTEXT_LAYOUT),
    "context59": Reader(context.context59, context.is_context, "val", CONTEXT_LAYOUT),
    "person_part": Reader(pascal.person_part, pascal.is_person_part, "val", "pascal_person_part_gt/ (Person-Part)"),
    "coco": Reader(coco.coco, coco.is_coco, "val", "annotations/instances_val2017.json (COCO with VOC's classes)"),
}


def open_dataset(
    root: str | Path,
    split: str | None = None,
    *,
    name: str | None = None,
    published_crop: bool = False,
    voc_root: str | Path | None = None,
) -> SegmentationDataset:
    """Open one split of a data folder: one's own (`dataset.toml`), or a benchmark as it lies on disk.

    split: None takes the one that scores are stated on.
    name: one of `READERS`; None takes the first of them that fits, so the plain data set where several lie in one folder
    (`context`, `context59` and `person_part` want their names beside VOC's own masks).
    published_crop: for NYU Depth v2 only, the 625x468 part that the published numbers use.
    voc_root: for SBD's `train_noval`, where VOC 2012 lies, if not beside it; others have no use for it.
    DataError where the folder has none of these layouts, or the split no public masks; UsageError where it does not exist or no
    reader has the name.
    """
    found = open_pictures(root, split, name=name, published_crop=published_crop, voc_root=voc_root)
    if isinstance(found, UnlabelledPictures):
        raise DataError(
            f"{root}: {found.name} {found.split} cannot be scored or learnt from: {found.why}; to predict it, give "
            f"`lwrefinenet evaluate WEIGHTS --data {root} --split {found.split} --dump FOLDER`."
        )
    return found


def open_pictures(
    root: str | Path,
    split: str | None = None,
    *,
    name: str | None = None,
    published_crop: bool = False,
    voc_root: str | Path | None = None,
) -> SegmentationDataset | UnlabelledPictures:
    """As `open_dataset`, but of a split whose masks are not public it gives the pictures alone."""
    root = Path(root)
    if not root.is_dir():
        raise UsageError(f"{root}: no such data folder.")
    reader = READERS[_fitting(root) if name is None else _known(name)]
    split = split or reader.default_split
    options: dict[str, object] = {}
    if published_crop:
        if "published_crop" not in reader.options:
            raise UsageError(
                f"{root}: the published crop can be cut from NYU Depth v2 as images/, labels/, train.txt and test.txt alone, which "
                "this folder is not; leave published_crop (--published-crop) out."
            )
        options["published_crop"] = True
    if voc_root is not None and "voc_root" in reader.options:
        options["voc_root"] = Path(voc_root)
    return reader.unlabelled(root, split) or reader.open(root, split, **options)


def _known(name: str) -> str:
    if name not in READERS:
        raise UsageError(f"{name!r} is no data set that is known here; expected one of {', '.join(READERS)}.")
    return name


def _fitting(root: Path) -> str:
    for name, reader in READERS.items():
        if reader.fits(root):
            return name
    looked_for = "; ".join(dict.fromkeys(reader.layout for reader in READERS.values()))
    raise DataError(f"{root}: not a data folder that is known here. Expected one of: {looked_for}.")
