"""CamVid."""

from pathlib import Path

from lwrefinenet.data.dataset import Sample, SegmentationDataset, paired_by_stem
from lwrefinenet.data.lists import check_split
from lwrefinenet.errors import DataError
from lwrefinenet.labels import CAMVID

SPLITS = ("train", "val", "test")
HELD_OUT_DRIVE = "0006R0"  # of the three in train: a street, and a light, that the other two know nothing of


def camvid(root: Path, split: str) -> SegmentationDataset:
    """CamVid in the SegNet layout: `{train,val,test}/NAME.*`, `{train,val,test}annot/NAME.png`, 11 classes, 11 = void.

    val is of a drive that most of train is of, test mostly of a new one; so for choices that are to hold on new streets
    `train_holdout` is one of train's three drives, and `train_fit` the other two (101 / 266).
    G. Brostow et al., "Semantic object classes in video", PRL 2009; split and classes of SegNet (arXiv:1511.00561).
    """
    check_split(split, (*SPLITS, "train_fit", "train_holdout"), root)
    folder = split.partition("_")[0]
    samples = paired_by_stem(root / folder, root / f"{folder}annot")
    if split != folder:
        samples = _drives(samples, held_out=split == "train_holdout", root=root)
    return SegmentationDataset(
        name="camvid",
        split=split,
        labels=CAMVID,
        samples=samples,
        mask_values={**{index: index for index in range(11)}, 11: CAMVID.ignore_index},
        void_rule="value 11 (void) ignored",
        licence="CC BY-NC 4.0",
    )


def _drives(samples: tuple[Sample, ...], *, held_out: bool, root: Path) -> tuple[Sample, ...]:
    chosen = tuple(sample for sample in samples if sample.image.name.startswith(HELD_OUT_DRIVE) == held_out)
    if not 0 < len(chosen) < len(samples):
        raise DataError(
            f"{root / 'train'}: all pictures, or none, have names that begin with {HELD_OUT_DRIVE}, so this drive cannot be held "
            "out; expected CamVid's own names (0001TP_006690, ...), or take the splits train, val and test."
        )
    return chosen


def is_camvid(root: Path) -> bool:
    """Whether masks of CamVid lie in folders beside the pictures."""
    return any((root / f"{split}annot").is_dir() for split in SPLITS)
