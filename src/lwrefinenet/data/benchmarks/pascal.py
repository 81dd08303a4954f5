"""PASCAL VOC 2012 and what others drew on its pictures: the Semantic Boundaries Dataset and Person-Part."""

from pathlib import Path

from lwrefinenet.data.dataset import Sample, SegmentationDataset
from lwrefinenet.data.decoders import MatMask
from lwrefinenet.data.dump_format import DumpFormat
from lwrefinenet.data.lists import check_files, check_split, first_folder, listed, read_stems
from lwrefinenet.data.unlabelled import UnlabelledPictures
from lwrefinenet.errors import DataError
from lwrefinenet.labels import PERSON_PART, VOC

VOC_LISTS = Path("ImageSets") / "Segmentation"
PARTS, PART_LISTS = "pascal_person_part_gt", "pascal_person_part_trainval_list"
LICENCE = "Flickr terms of use (pictures), research use"


def voc(root: Path, split: str) -> SegmentationDataset:
    """PASCAL VOC 2012, 21 classes: `JPEGImages`, `SegmentationClass`, `ImageSets/Segmentation/SPLIT.txt`; 255 = void.

    The root is `VOC2012` or a folder above it (`VOCdevkit`, or what holds that).  `trainaug` (10582 pictures with SBD's) is
    read where `SegmentationClassAug` and its list lie there too.  2012's `test` is read by `voc_unlabelled`.
    M. Everingham et al., "The PASCAL Visual Object Classes challenge: a retrospective", IJCV 2015; 1464 / 1449.
    """
    check_split(split, ("train", "val", "trainval", "test", "trainaug"), root)
    folder = _required_voc_folder(root)
    masks = folder / ("SegmentationClassAug" if split == "trainaug" else "SegmentationClass")
    names = folder / VOC_LISTS / f"{split}.txt"
    samples = (Sample(folder / "JPEGImages" / f"{name}.jpg", masks / f"{name}.png") for name in read_stems(names))
    return SegmentationDataset(
        name="voc",
        split=split,
        labels=VOC,
        samples=listed(samples, names),
        void_rule="value 255 (object borders, difficult) ignored",
        licence=LICENCE,
        dump_format=_to_the_server(split),
    )


def voc_unlabelled(root: Path, split: str) -> UnlabelledPictures | None:
    """The 1456 pictures of 2012's `test`; None for other splits, and where masks lie beside them, as for VOC 2007."""
    folder = voc_folder(root)
    if split != "test" or folder is None:
        return None
    names = folder / VOC_LISTS / f"{split}.txt"
    stems = read_stems(names)
    if (folder / "SegmentationClass" / f"{stems[0]}.png").is_file():
        return None
    images = tuple(folder / "JPEGImages" / f"{stem}.jpg" for stem in stems)
    check_files(images, names)
    return UnlabelledPictures(
        name="voc",
        split=split,
        labels=VOC,
        images=images,
        why="its masks are not public, the server at host.robots.ox.ac.uk has them",
        dump_format=_to_the_server(split),
    )


def _to_the_server(split: str) -> DumpFormat:
    """As VOC's development kit lays results out; 6 is the competition in which any training data may be used."""
    return DumpFormat(folder=f"results/VOC2012/Segmentation/comp6_{split}_cls")


def sbd(root: Path, split: str, *, voc_root: Path | None = None) -> SegmentationDataset:
    """Semantic Boundaries Dataset, VOC's 21 classes: `img/*.jpg`, `cls/*.mat` (GTcls.Segmentation), `train.txt`, `val.txt`.

    The root is `benchmark_RELEASE/dataset` or a folder above it.  Its train and val (8498 / 2857) overlap VOC 2012's val,
    so a network that is scored there learns from `train_noval`: by the published `train_noval.txt` (5623 pictures) where
    that lies beside the lists, else all of train and val but the pictures of VOC 2012's val.
    voc_root: where VOC 2012 lies, if not here or up to three folders above.
    B. Hariharan et al., "Semantic contours from inverse detectors", ICCV 2011.
    """
    check_split(split, ("train", "val", "train_noval"), root)
    folder = _sbd_folder(root)
    if folder is None:
        raise DataError(f"{root}: holds no img and cls here or in benchmark_RELEASE/dataset.")
    names = folder / f"{split}.txt"
    computed = split == "train_noval" and not names.is_file()
    stems = _without_voc_val(folder, voc_root) if computed else read_stems(names)
    samples = (Sample(folder / "img" / f"{stem}.jpg", folder / "cls" / f"{stem}.mat") for stem in stems)
    rule = {True: "train and val without VOC 2012's val", False: "by train_noval.txt"}[computed]
    return SegmentationDataset(
        name="sbd",
        split=split,
        labels=VOC,
        samples=listed(samples, folder if computed else names),
        decode=MatMask(("GTcls", "Segmentation")),
        void_rule="no void pixels" + (f"; pictures {rule}" if split == "train_noval" else ""),
        licence=LICENCE,
    )


def person_part(root: Path, split: str) -> SegmentationDataset:
    """PASCAL Person-Part, 7 classes: `pascal_person_part_gt/*.png` (0-6, 255), `pascal_person_part_trainval_list/SPLIT.txt`.

    Both lie in the root or in its `pascal_person_part`; the pictures in `JPEGImages` there, or in VOC2010 or VOC2012 (also
    under VOCdevkit).  X. Chen et al., "Detect what you can", CVPR 2014; parts merged to six by F. Xia et al., ECCV 2016;
    1716 / 1817.
    """
    check_split(split, ("train", "val", "trainval"), root)
    folder = _person_part_folder(root)
    pictures = pictures_folder(root)
    if folder is None or pictures is None:
        raise DataError(
            f"{root}: expected {PARTS} and {PART_LISTS} here or in pascal_person_part, and JPEGImages here or in VOC2010."
        )
    lists = (folder / PART_LISTS / f"{split}{ending}.txt" for ending in ("", "_id"))
    names = next(filter(Path.is_file, lists), folder / PART_LISTS / f"{split}.txt")
    samples = (Sample(pictures / f"{stem}.jpg", folder / PARTS / f"{stem}.png") for stem in read_stems(names))
    return SegmentationDataset(
        name="person_part",
        split=split,
        labels=PERSON_PART,
        samples=listed(samples, names),
        void_rule="value 255 ignored",
        licence=LICENCE,
    )


def voc_folder(root: Path) -> Path | None:
    """The folder of VOC 2012 in `root`, if it is there."""
    return first_folder(_voc_places(root, "VOC2012"), holding=("JPEGImages", str(VOC_LISTS)))


def _required_voc_folder(root: Path) -> Path:
    folder = voc_folder(root)
    if folder is None:
        raise DataError(f"{root}: holds no JPEGImages with {VOC_LISTS} here or in VOCdevkit/VOC2012.")
    return folder


def pictures_folder(root: Path) -> Path | None:
    """JPEGImages in `root` or in a VOC folder under it; the pictures of 2010 and 2012 have the same names."""
    places = (place / "JPEGImages" for year in ("VOC2010", "VOC2012") for place in _voc_places(root, year))
    return first_folder(places)


def is_voc(root: Path) -> bool:
    """Whether VOC's own masks lie here or in a VOC 2012 folder."""
    folder = voc_folder(root)
    return folder is not None and any(
        (folder / name).is_dir() for name in ("SegmentationClass", "SegmentationClassAug")
    )


def is_sbd(root: Path) -> bool:
    """Whether SBD lies here or in its release folder."""
    return _sbd_folder(root) is not None


def is_person_part(root: Path) -> bool:
    """Whether the masks and lists of Person-Part lie here."""
    return _person_part_folder(root) is not None


def _voc_places(root: Path, year: str) -> tuple[Path, ...]:
    return root, root / year, root / "VOCdevkit" / year


def _sbd_folder(root: Path) -> Path | None:
    return first_folder((root, root / "dataset", root / "benchmark_RELEASE" / "dataset"), holding=("img", "cls"))


def _person_part_folder(root: Path) -> Path | None:
    return first_folder((root, root / "pascal_person_part"), holding=(PARTS, PART_LISTS))


def _without_voc_val(folder: Path, voc_root: Path | None) -> list[str]:
    """SBD's pictures, in the order of its lists, without those that VOC 2012 scores on."""
    above = folder.resolve().parents[:3]
    places = (folder, *above) if voc_root is None else (voc_root,)
    found = next((found for place in places if (found := voc_folder(place))), None)
    if found is None:
        raise DataError(
            f"{folder}: the split train_noval needs train_noval.txt there, or VOC 2012 to leave out its val: expected "
            f"VOCdevkit/VOC2012 in {', '.join(map(str, places))}; name its folder as `--data voc=DIR`."
        )
    left_out = set(read_stems(found / VOC_LISTS / "val.txt"))
    stems = dict.fromkeys(stem for split in ("train", "val") for stem in read_stems(folder / f"{split}.txt"))
    return [stem for stem in stems if stem not in left_out]
