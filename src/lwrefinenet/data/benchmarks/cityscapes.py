"""Cityscapes, and KITTI's semantic benchmark, whose masks hold the same ids."""

from pathlib import Path

from lwrefinenet.data.dataset import Sample, SegmentationDataset
from lwrefinenet.data.dump_format import DumpFormat
from lwrefinenet.data.lists import check_split, listed
from lwrefinenet.data.unlabelled import UnlabelledPictures
from lwrefinenet.errors import DataError
from lwrefinenet.labels import CITYSCAPES

EVALUATED_IDS = (
    7,
    8,
    11,
    12,
    13,
    17,
    19,
    20,
    21,
    22,
    23,
    24,
    25,
    26,
    27,
    28,
    31,
    32,
    33,
)  # in the order of the classes
NUM_IDS = 34  # and -1 for licence plates, which a file holds as 255
TRAIN_IDS = {
    value: EVALUATED_IDS.index(value) if value in EVALUATED_IDS else CITYSCAPES.ignore_index for value in range(NUM_IDS)
}
PICTURE, IDS, READY_TRAIN_IDS = "_leftImg8bit.png", "_gtFine_labelIds.png", "_gtFine_labelTrainIds.png"
# A server's file is found by its beginning, CITY_SEQUENCE_FRAME, and holds ids.
TO_THE_SERVER = DumpFormat(cut=PICTURE.removesuffix(".png"), ending="_labelIds.png", ids=EVALUATED_IDS)
KITTI_VAL_STRIDE = 5


def cityscapes(root: Path, split: str) -> SegmentationDataset:
    """Cityscapes, fine annotations: `leftImg8bit/SPLIT/CITY/*_leftImg8bit.png`, `gtFine/SPLIT/CITY/*_gtFine_labelIds.png`.

    The 19 classes come from the 34 ids; `*_gtFine_labelTrainIds.png` serve where ids are absent.  `test` is read by
    `cityscapes_unlabelled`.  M. Cordts et al., CVPR 2016 (arXiv:1604.01685); 2975 / 500.
    """
    check_split(split, ("train", "val", "test"), root)
    names = _pictures(root, split)
    stems = [root / "gtFine" / split / path.parent.name / path.name.removesuffix(PICTURE) for path in names]
    suffix = IDS if Path(f"{stems[0]}{IDS}").is_file() else READY_TRAIN_IDS
    samples = (Sample(path, Path(f"{stem}{suffix}")) for path, stem in zip(names, stems, strict=True))
    return SegmentationDataset(
        name="cityscapes",
        split=split,
        labels=CITYSCAPES,
        samples=listed(samples, names[0].parents[1]),
        mask_values=TRAIN_IDS if suffix == IDS else {},
        void_rule="19 classes; the other ids and licence plates ignored",
        licence="Cityscapes terms: non-commercial",
        dump_format=TO_THE_SERVER,
    )


def cityscapes_unlabelled(root: Path, split: str) -> UnlabelledPictures | None:
    """The 1525 pictures of `test`, whose public masks, where they lie in gtFine, hold no class; None for other splits."""
    if split != "test":
        return None
    return UnlabelledPictures(
        name="cityscapes",
        split=split,
        labels=CITYSCAPES,
        images=tuple(_pictures(root, split)),
        why="its public masks hold no class, the server at cityscapes-dataset.com has the true ones",
        dump_format=TO_THE_SERVER,
    )


def _pictures(root: Path, split: str) -> list[Path]:
    folder = root / "leftImg8bit" / split
    names = sorted(folder.glob(f"*/*{PICTURE}"))
    if not names:
        raise DataError(f"{folder}: holds no CITY/*{PICTURE}; unpack leftImg8bit_trainvaltest.zip in {root}.")
    return names


def kitti(root: Path, split: str) -> SegmentationDataset:
    """KITTI's semantic benchmark: `training/image_2/*.png`, `training/semantic/*.png` with Cityscapes ids, 200 pictures.

    There is no official validation split: `val` is every fifth picture in the order of names (40), `train` the others (160).
    `testing/` has no masks.  H. Alhaija et al., IJCV 2018 (arXiv:1708.01566).
    """
    check_split(split, ("train", "val", "trainval"), root)
    pictures, masks = root / "training" / "image_2", root / "training" / "semantic"
    # the masks say which pictures count: image_2 of the 2015 benchmarks also holds the frames after them
    samples = listed((Sample(pictures / path.name, path) for path in sorted(masks.glob("*.png"))), masks)
    if not samples:
        raise DataError(f"{masks}: holds no masks; unpack data_semantics.zip in {root}.")
    chosen = {
        "train": tuple(sample for number, sample in enumerate(samples) if number % KITTI_VAL_STRIDE),
        "val": samples[::KITTI_VAL_STRIDE],
        "trainval": samples,
    }
    return SegmentationDataset(
        name="kitti",
        split=split,
        labels=CITYSCAPES,
        samples=chosen[split],
        mask_values=TRAIN_IDS,
        void_rule="19 classes of Cityscapes, its other ids ignored; val: every 5th of the training pictures by name",
        licence="CC BY-NC-SA 3.0",
    )


def is_cityscapes(root: Path) -> bool:
    """Whether pictures of Cityscapes lie here."""
    return (root / "leftImg8bit").is_dir()


def is_kitti(root: Path) -> bool:
    """Whether KITTI's training pictures and semantic masks lie here."""
    return (root / "training" / "image_2").is_dir() and (root / "training" / "semantic").is_dir()
