"""CamVid."""

from pathlib import Path

from lwrefinenet.data.dataset import SegmentationDataset, paired_by_stem
from lwrefinenet.data.lists import check_split
from lwrefinenet.labels import CAMVID

SPLITS = ("train", "val", "test")


def camvid(root: Path, split: str) -> SegmentationDataset:
    """CamVid in the SegNet layout: `{train,val,test}/NAME.*`, `{train,val,test}annot/NAME.png`, 11 classes, 11 = void.

    G. Brostow et al., "Semantic object classes in video", PRL 2009; split and classes of SegNet (arXiv:1511.00561).
    """
    check_split(split, SPLITS, root)
    return SegmentationDataset(
        name="camvid",
        split=split,
        labels=CAMVID,
        samples=paired_by_stem(root / split, root / f"{split}annot"),
        mask_values={**{index: index for index in range(11)}, 11: CAMVID.ignore_index},
        void_rule="value 11 (void) ignored",
        licence="CC BY-NC 4.0",
    )


def is_camvid(root: Path) -> bool:
    """Whether masks of CamVid lie in folders beside the pictures."""
    return any((root / f"{split}annot").is_dir() for split in SPLITS)
