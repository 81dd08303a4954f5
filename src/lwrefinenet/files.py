"""Writing files and folders so that nothing half-written is ever left under the final name; reading what people write."""

import errno
import os
import secrets
import shutil
import tempfile
import tomllib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from lwrefinenet.errors import LwRefineNetError


def read_toml(path: Path, refusal: type[LwRefineNetError]) -> dict[str, Any]:
    """A TOML file's values; `refusal`, naming the file, for text that is no TOML in UTF-8. OSError is left to the caller."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise refusal(f"{path}: not valid TOML ({error}).") from error


def cache_folder(name: str) -> Path:
    """Where things of a kind that can be made again are kept: `lwrefinenet/NAME` in the user's cache folder; not made here."""
    try:
        base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    except RuntimeError:  # nobody's home: a container without a user entry
        base = "/nonexistent"
    return Path(base) / "lwrefinenet" / name


def write_atomically(path: Path, content: bytes) -> None:
    """Write `content` to a temporary name beside `path`, flush it to the disk, and rename it to `path`.

    Missing parent folders are made. LwRefineNetError, with nothing left behind, where the folder cannot be written or
    the disk is full.
    """
    path = Path(os.path.realpath(path))  # a link stays one
    temporary = path.with_name(f".{path.name[:100]}.{secrets.token_hex(4)}")
    try:
        if path.exists() and not path.is_file() and not path.is_dir():  # /dev/null, a pipe
            path.write_bytes(content)
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException as error:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        if not isinstance(error, OSError):
            raise
        raise cannot_write(path, error) from error


def check_writable(folder: Path, advice: str = "give another folder") -> None:
    """See that files can be made in a folder, there or not; LwRefineNetError, with the advice, where not.

    Nothing is left behind: who writes makes the folder (`write_atomically`), and a refusal in between leaves none.
    """
    missing: list[Path] = []
    try:
        missing += missing_folders(folder)
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise LwRefineNetError(
            f"{folder}: nothing can be written here ({error.strerror or error}); {advice}."
        ) from error
    finally:
        remove_empty(missing)


def missing_folders(folder: Path) -> list[Path]:
    """The folder and those above it that are not there, the innermost first."""
    return [each for each in (folder, *folder.parents) if not each.exists()]


def remove_empty(folders: Sequence[Path]) -> None:
    """Take away those of these folders, the innermost first, that hold nothing."""
    for each in folders:
        with suppress(OSError):
            each.rmdir()


def replace_folder(path: Path, contents: Mapping[str, bytes], *, former: Path) -> None:
    """Write a folder of files whole: to a temporary name beside `path`, flushed to the disk, then renamed to `path`.

    former: where the folder that `path` was until now goes; what was there before is deleted. At every moment a whole
    folder stands under one of the two names. LwRefineNetError where it cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        temporary.mkdir(parents=True)
        for name, content in contents.items():
            with (temporary / name).open("xb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        _flush_folder(temporary)
        if path.exists():
            shutil.rmtree(former, ignore_errors=True)
            path.rename(former)
        temporary.rename(path)
        _flush_folder(path.parent)
    except BaseException as error:
        shutil.rmtree(temporary, ignore_errors=True)
        if not isinstance(error, OSError):
            raise
        raise cannot_write(path, error) from error


def _flush_folder(path: Path) -> None:
    """Names are on the disk only when their folder is; systems that cannot flush one (Windows, some mounted drives) are let be."""
    if os.name == "posix":
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS):
                raise
        finally:
            os.close(handle)


def cannot_write(path: Path, error: OSError) -> LwRefineNetError:
    """One sentence for a file that the system does not let us write."""
    reason = error.strerror or str(error)
    return LwRefineNetError(f"{path}: cannot be written ({reason}). Give a folder with space and write permission.")
