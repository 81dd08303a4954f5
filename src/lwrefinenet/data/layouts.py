"""Which reader fits a data folder: told by the files that lie in it."""

from pathlib import Path

from lwrefinenet.data.benchmarks import camvid, nyudv2
from lwrefinenet.data.dataset import SegmentationDataset
from lwrefinenet.data.folder import DESCRIPTION, folder_dataset
from lwrefinenet.errors import DataError, UsageError


def open_dataset(root: str | Path, split: str | None = None, *, published_crop: bool = False) -> SegmentationDataset:
    """Open one split of a data folder: one's own (`dataset.toml`), CamVid (SegNet layout) or NYU Depth v2.

    split: None takes the one that scores are stated on: test, or val for a folder of one's own.
    published_crop: for NYU Depth v2 only, the 625x468 part that the published numbers use.
    DataError where the folder has none of these layouts; UsageError where it does not exist.
    """
    root = Path(root)
    if not root.is_dir():
        raise UsageError(f"{root}: no such data folder.")
    is_nyu = all((root / name).exists() for name in ("images", "labels", "train.txt", "test.txt"))
    if published_crop and not is_nyu:
        raise UsageError(f"{root}: the published crop belongs to NYU Depth v2, which this folder is not.")
    if (root / DESCRIPTION).is_file():
        return folder_dataset(root, split or "val")
    if is_nyu:
        return nyudv2(root, split or "test", published_crop=published_crop)
    if any((root / f"{name}annot").is_dir() for name in ("train", "val", "test")):
        return camvid(root, split or "test")
    raise DataError(
        f"{root}: not a data folder that is known here. Expected {DESCRIPTION} beside images/ and masks/ (your own), "
        "trainannot/ (CamVid), or images/, labels/, train.txt and test.txt (NYU Depth v2)."
    )
