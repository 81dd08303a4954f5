"""Readers of the published benchmarks, in the layouts in which people have them on disk."""

from pathlib import Path

from lwrefinenet.data.dataset import Crop, Sample, SegmentationDataset, paired_by_stem
from lwrefinenet.errors import DataError
from lwrefinenet.labels import CAMVID, NYU

NYU_PUBLISHED_CROP: Crop = (slice(6, 474), slice(7, 632))  # the 625x468 pictures of the published numbers


def camvid(root: Path, split: str) -> SegmentationDataset:
    """CamVid in the SegNet layout: `{train,val,test}/NAME.*`, `{train,val,test}annot/NAME.png`, 11 classes, 11 = void.

    G. Brostow et al., "Semantic object classes in video", PRL 2009; split and classes of SegNet (arXiv:1511.00561).
    """
    _check_split(split, ("train", "val", "test"), root)
    return SegmentationDataset(
        name="camvid",
        split=split,
        labels=CAMVID,
        samples=paired_by_stem(root / split, root / f"{split}annot"),
        mask_values={**{index: index for index in range(11)}, 11: CAMVID.ignore_index},
        void_rule="value 11 (void) ignored",
        licence="CC BY-NC 4.0",
    )


def nyudv2(root: Path, split: str, *, published_crop: bool = False) -> SegmentationDataset:
    """NYU Depth v2 with 40 classes: `images/NNNNNN.jpg`, `labels/NNNNNN.png`, `train.txt`, `test.txt` (795 / 654).

    published_crop: cut off the white border, as in the 625x468 pictures of the published numbers.
    N. Silberman et al., ECCV 2012; 40 classes of S. Gupta et al., CVPR 2013.
    """
    _check_split(split, ("train", "test"), root)
    names = (root / f"{split}.txt").read_text().split()
    samples = tuple(Sample(root / "images" / f"{name}.jpg", root / "labels" / f"{name}.png") for name in names)
    for sample in samples:
        for path in (sample.image, sample.mask):
            if not path.is_file():
                raise DataError(f"{path}: no such file, but {root / split}.txt names it.")
    return SegmentationDataset(
        name="nyudv2",
        split=split,
        labels=NYU,
        samples=samples,
        crop=NYU_PUBLISHED_CROP if published_crop else None,
        void_rule="value 255 (unlabelled) ignored",
        licence="research use",
    )


def _check_split(split: str, splits: tuple[str, ...], root: Path) -> None:
    if split not in splits:
        raise DataError(f"{root}: this data set has the splits {', '.join(splits)}; {split!r} is not one of them.")
