"""Pack what a training needs of a data folder into tar files small enough to travel to a machine with a GPU.

    python scripts/pack_data.py ../shared/data/nyudv2 --splits train --masks-only --output packed --megabytes 50

writes packed/nyudv2.0.tar, packed/nyudv2.1.tar, ..., none larger than asked for, of the pictures, masks, depth and normals of the
splits, and of the lists and descriptions in the folder itself. There: `for part in nyudv2.*.tar; do tar xf $part; done` makes
nyudv2/ again. Before anything is kept, the parts are unpacked and opened, and must hold the same files.
"""

import argparse
import hashlib
import io
import tarfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from lwrefinenet.data.dataset import SegmentationDataset
from lwrefinenet.data.layouts import open_dataset
from lwrefinenet.errors import LwRefineNetError
from lwrefinenet.files import write_atomically

MEGABYTE = 1_000_000
BLOCK = 512  # tar pads every file to whole blocks, and has one before it; a name that is long has up to four more
ENDING = 10_240  # the end of a tar file


def main() -> None:
    """Gather, pack, prove, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="the data folder")
    parser.add_argument("--splits", default="train,val", help="SPLIT,SPLIT,... (train,val)")
    parser.add_argument("--masks-only", action="store_true", help="leave depth and normals behind")
    parser.add_argument("--output", type=Path, required=True, help="folder for the parts")
    parser.add_argument("--megabytes", type=float, default=50, help="the most that a part may have (50)")
    arguments = parser.parse_args()
    name = arguments.data.resolve().name
    if others := sorted(arguments.output.glob(f"{name}.*.tar")):
        raise SystemExit(
            f"{others[0]}: is there already, and would be unpacked with the new parts; delete it or give another --output."
        )
    try:
        splits = {split: open_dataset(arguments.data, split) for split in arguments.splits.split(",")}
        files = needed(arguments.data, splits.values(), masks_only=arguments.masks_only)
        parts = [packed(arguments.data, group) for group in grouped(files, int(arguments.megabytes * MEGABYTE))]
        require_equal(parts, splits, name, masks_only=arguments.masks_only)
        arguments.output.mkdir(parents=True, exist_ok=True)
        for number, content in enumerate(parts):
            target = arguments.output / f"{name}.{number}.tar"
            write_atomically(target, content)
            print(f"{target}: {len(content) / MEGABYTE:.1f} MB")
    except LwRefineNetError as error:
        raise SystemExit(str(error)) from None


def needed(root: Path, splits: Iterable[SegmentationDataset], *, masks_only: bool) -> list[Path]:
    """The files of the splits, and those that lie in the folder itself, in a fixed order."""
    found = {path for path in root.iterdir() if path.is_file()}
    for sample in (sample for split in splits for sample in split.samples):
        beside = () if masks_only else (sample.depth, sample.normals)
        found |= {existing(path, root) for path in (sample.image, sample.mask, *beside) if path is not None}
    return sorted(found)


def existing(path: Path, root: Path) -> Path:
    """The file itself, or the one that a mask without a file of its own lies in; SystemExit for what is not in the folder."""
    file = next((each for each in (path, *path.parents) if each.exists()), path)
    if not file.is_file() or not file.is_relative_to(root) or ".." in file.parts[len(root.parts) :]:
        raise SystemExit(f"{path}: is no file in {root}; what lies elsewhere cannot be packed with it.")
    return file


def grouped(files: Iterable[Path], most: int) -> Iterator[list[Path]]:
    """The files in groups whose tar file has at most `most` bytes; SystemExit for one that has more alone."""
    group: list[Path] = []
    size = ENDING
    for path in files:
        own = 6 * BLOCK + -(-path.stat().st_size // BLOCK) * BLOCK
        if own + ENDING > most:
            raise SystemExit(f"{path}: has {own / MEGABYTE:.1f} MB, more than a part may have; give more --megabytes.")
        if size + own > most:
            yield group
            group, size = [], ENDING
        group.append(path)
        size += own
    yield group


def packed(root: Path, files: Iterable[Path]) -> bytes:
    """A tar file, the same bytes whenever and by whom it is made."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for path in files:
            about = tarfile.TarInfo(str(Path(root.resolve().name) / path.relative_to(root)))
            content = path.read_bytes()
            about.size = len(content)
            tar.addfile(about, io.BytesIO(content))
    return buffer.getvalue()


def require_equal(
    parts: Iterable[bytes], splits: dict[str, SegmentationDataset], name: str, *, masks_only: bool
) -> None:
    """Unpack and open every split again; SystemExit where one has other files than the folder it came from."""
    with TemporaryDirectory() as folder:
        for content in parts:
            with tarfile.open(fileobj=io.BytesIO(content)) as tar:
                tar.extractall(folder, filter="data")
        for split, dataset in splits.items():
            try:
                opened = open_dataset(Path(folder) / name, split)
            except LwRefineNetError as error:
                raise SystemExit(
                    f"{name}: what was packed cannot be opened ({error}); pack the whole folder instead."
                ) from None
            if contents(opened, masks_only=masks_only) != contents(dataset, masks_only=masks_only):
                raise SystemExit(
                    f"{name}: what was packed of {split} is not what the folder has; pack the whole folder instead."
                )


def contents(dataset: SegmentationDataset, *, masks_only: bool) -> list[bytes]:
    """The hash of every file of the split, in order."""
    found = []
    for sample in dataset.samples:
        beside = () if masks_only else (sample.depth, sample.normals)
        files = [path for path in (sample.image, sample.mask, *beside) if path is not None and path.is_file()]
        found += [hashlib.sha256(path.read_bytes()).digest() for path in files]
    return found


if __name__ == "__main__":
    main()
