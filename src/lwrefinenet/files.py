"""Writing files so that nothing half-written is ever left under the final name."""

import os
import secrets
from contextlib import suppress
from pathlib import Path

from lwrefinenet.errors import LwRefineNetError


def write_atomically(path: Path, content: bytes) -> None:
    """Write `content` to a temporary name beside `path`, flush it to the disk, and rename it to `path`.

    Missing parent folders are made. LwRefineNetError, with nothing left behind, where the folder cannot be written or
    the disk is full.
    """
    temporary = path.with_name(f".{path.name[:100]}.{secrets.token_hex(4)}")
    try:
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


def cannot_write(path: Path, error: OSError) -> LwRefineNetError:
    """One sentence for a file that the system does not let us write."""
    reason = error.strerror or str(error)
    return LwRefineNetError(f"{path}: cannot be written ({reason}). Give a folder with space and write permission.")
