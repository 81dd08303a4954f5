"""Split lists: the text files that say which pictures belong to a split, and the checks that every reader makes."""

from collections.abc import Iterable
from pathlib import Path

from lwrefinenet.data.dataset import Sample
from lwrefinenet.errors import DataError


def check_split(split: str, splits: Iterable[str], root: Path) -> None:
    """DataError, with the splits that there are, for one that is not among them."""
    splits = tuple(splits)
    if split not in splits:
        raise DataError(f"{root}: this data set has the splits {', '.join(splits)}; {split!r} is not one of them.")


def read_lines(path: Path) -> list[str]:
    """The lines of a list that hold something; DataError where there is no such file, or nothing in it."""
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file; it is the list of the split's pictures.") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: is not a text file in UTF-8 ({error.reason}).") from error
    if not lines:
        raise DataError(f"{path}: is empty; a list has one picture per line.")
    return lines


def read_stems(path: Path) -> list[str]:
    """The picture names of a list without folder and suffix: `2007_000032`, or `/JPEGImages/2007_000032.jpg /MASKS/...`."""
    return [Path(line.split()[0]).stem for line in read_lines(path)]


def read_pairs(path: Path, root: Path) -> tuple[Sample, ...]:
    """A list of `PICTURE<TAB>MASK` relative to `root`; a third column is depth, a fourth normals, either of which may be left out.

    Whether the files of these two exist is seen when a task wants them.
    """
    samples = []
    for number, line in enumerate(read_lines(path), start=1):
        columns = [column.strip() for column in line.split("\t")]
        if len(columns) < 2 or not all(columns[:2]):
            raise DataError(f"{path}: line {number} is {line!r}; expected PICTURE and MASK with a tab between them.")
        samples.append(Sample(*(root / column if column else None for column in columns[:4])))  # type: ignore[arg-type]
    return listed(samples, path)


def listed(samples: Iterable[Sample], named_by: Path) -> tuple[Sample, ...]:
    """The samples, once all their files are seen to exist; DataError that names the first one missing and how many are."""
    samples = tuple(samples)
    check_files((path for sample in samples for path in (sample.image, sample.mask)), named_by)
    return samples


def check_files(paths: Iterable[Path], named_by: Path) -> None:
    """DataError that names the first file that is missing, what calls for it, and how many are."""
    missing = [path for path in paths if not path.is_file()]
    if missing:
        more = f" (and {len(missing) - 1} more files)" if len(missing) > 1 else ""
        raise DataError(f"{missing[0]}: no such file, but {named_by} calls for it{more}.")


def first_folder(candidates: Iterable[Path], *, holding: Iterable[str] = ()) -> Path | None:
    """The first of these folders that exists and holds all of these files and folders; None where none does."""
    needed = tuple(holding)
    for folder in candidates:
        if folder.is_dir() and all((folder / name).exists() for name in needed):
            return folder
    return None
