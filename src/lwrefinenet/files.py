"""Writing files so that nothing half-written is ever left under the final name."""

import os
import tempfile
from pathlib import Path

from lwrefinenet.errors import LwRefineNetError


def write_atomically(path: Path, content: bytes) -> None:
    """Write `content` to a temporary name beside `path`, flush it to the disk, and rename it to `path`.

    Missing parent folders are made. LwRefineNetError, with nothing left behind, where the folder cannot be written or
    the disk is full.
    """
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
            temporary = Path(file.name)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
    except OSError as error:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
        reason = error.strerror or str(error)
        raise LwRefineNetError(
            f"{path}: cannot be written ({reason}). Give a folder with space and write permission through --output."
        ) from error


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
