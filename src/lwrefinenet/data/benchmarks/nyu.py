"""NYU Depth v2 with 40 classes, in the layouts of its two common copies."""

from itertools import product
from pathlib import Path

from lwrefinenet.data.dataset import Crop, Sample, SegmentationDataset
from lwrefinenet.data.geometry import DepthScale
from lwrefinenet.data.lists import check_split, listed, read_lines, read_pairs
from lwrefinenet.errors import DataError
from lwrefinenet.labels import NYU

PUBLISHED_CROP: Crop = (slice(6, 474), slice(7, 632))  # the 625x468 pictures of the published numbers
FOCAL_LENGTH = (518.86, 519.47)  # pixels of 640x480, from the calibration that came with the data set
BYTE_DEPTH = DepthScale(metres=10 / 255, offset=0.5, unknown=None)
PUBLISHED_DEPTH = DepthScale(metres=1 / 5000)
HELD_OUT = 5  # one in so many training pictures, where choices are made without the test split
LIST_SUFFIXES = (".txt", ".lst", ".nyu")
LIST_SPLITS = ("train", "val", "test")


def nyudv2(root: Path, split: str, *, published_crop: bool = False) -> SegmentationDataset:
    """NYU Depth v2 with 40 classes: `images/NNNNNN.jpg`, `labels/NNNNNN.png`, `train.txt`, `test.txt` (795 / 654).

    There is no official validation split: `train_fit` and `train_holdout` are the first four and the last fifth of train.txt
    (636 / 159; neighbouring pictures show the same scene, so the parts are not mixed).
    Depth, where the copy has it: `depth/NNNNNN.png` of 8 bits, metres = (value + 0.5) * 10 / 255, which is quantised to 3.9 cm.
    published_crop: cut off the white border, as in the 625x468 pictures of the published numbers.
    N. Silberman et al., ECCV 2012; 40 classes of S. Gupta et al., CVPR 2013.
    """
    check_split(split, ("train", "test", "train_fit", "train_holdout"), root)
    names = root / f"{split.partition('_')[0]}.txt"
    lines = read_lines(names)
    held_out = len(lines) // HELD_OUT
    part = {"train_fit": lines[:-held_out], "train_holdout": lines[-held_out:]}.get(split, lines)
    depth = root / "depth" if (root / "depth").is_dir() else None
    samples = (
        Sample(root / "images" / f"{name}.jpg", root / "labels" / f"{name}.png", depth and depth / f"{name}.png")
        for name in part
    )
    return _dataset(split, listed(samples, names), PUBLISHED_CROP if published_crop else None, BYTE_DEPTH)


def nyudv2_lists(root: Path, split: str) -> SegmentationDataset:
    """NYU Depth v2 by the published lists: `SPLIT.txt` (or .lst, .nyu) of `PICTURE<TAB>MASK` lines relative to the root.

    `train_images/000003.png<TAB>train_labels/000003.png` for instance; a third column is depth (PNG of 16 bits, 5000 for a metre,
    0 unknown), a fourth normals.
    Masks hold 0-39 and 255.  Lists of V. Nekrasov et al., "Light-weight RefineNet", BMVC 2018 (795 train, 654 val).
    """
    lists = _lists(root)
    if not lists:
        raise DataError(f"{root}: holds no list; expected train.txt or val.txt (or .lst, .nyu).")
    check_split(split, lists, root)
    return _dataset(split, read_pairs(lists[split], root), None, PUBLISHED_DEPTH)


def is_nyudv2(root: Path) -> bool:
    """Whether pictures, labels and the two lists of numbers lie here."""
    return all((root / name).exists() for name in ("images", "labels", "train.txt", "test.txt"))


def is_nyudv2_lists(root: Path) -> bool:
    """Lists of tab-separated pairs whose pictures have the numbers of NYU Depth v2 for names."""
    for path in _lists(root).values():
        with path.open(encoding="utf-8", errors="replace") as lines:
            picture, _, mask = lines.readline().strip().partition("\t")
        if mask and Path(picture).stem.isdigit():
            return True
    return False


def _lists(root: Path) -> dict[str, Path]:
    """The lists that there are, by split; with several of one split the first suffix counts."""
    lists: dict[str, Path] = {}
    for split, suffix in product(LIST_SPLITS, LIST_SUFFIXES):
        path = root / f"{split}{suffix}"
        if path.is_file():
            lists.setdefault(split, path)
    return lists


def _dataset(
    split: str, samples: tuple[Sample, ...], crop: Crop | None, depth_scale: DepthScale
) -> SegmentationDataset:
    return SegmentationDataset(
        name="nyudv2",
        split=split,
        labels=NYU,
        samples=samples,
        crop=crop,
        void_rule="value 255 (unlabelled) ignored",
        licence="research use",
        depth_scale=depth_scale,
        focal_length=FOCAL_LENGTH,
    )
