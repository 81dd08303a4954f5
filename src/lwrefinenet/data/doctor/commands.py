"""The commands that a finding recommends, written so that they can be pasted into a shell."""

import shlex
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

WRITTEN_OUT = 3  # single files in a command; what is left over is counted in a comment


def shell_names(files: Sequence[Path]) -> str:
    """The files quoted for a shell, a pattern for a folder of which all are meant."""
    names, rest = _names(files)
    return names + _others(rest)


def remove(files: Sequence[Path]) -> str:
    """Delete files; of pictures and their masks, given pair after pair, both or neither stand in the command."""
    return _folder_by_folder("rm {names}", files)


def put_aside(files: Sequence[Path]) -> str:
    """Move files out of the data set, each folder's into one of its own: pictures, masks and other splits share their names."""
    return _folder_by_folder("mkdir -p {aside} && mv {names} {aside}/", files)


def _folder_by_folder(command: str, files: Sequence[Path]) -> str:
    """The command for the files of each folder; {aside}: where those of the folder may be put."""
    folders: dict[Path, list[Path]] = {}
    for path in files:
        folders.setdefault(path.parent, []).append(path)
    commands, others = [], 0
    for folder, members in folders.items():
        names, rest = _names(members)
        commands.append(command.format(names=names, aside=shlex.quote(str(Path("aside", *folder.parts[-2:])))))
        others += rest
    return " && ".join(commands) + _others(others)


def _names(files: Sequence[Path]) -> tuple[str, int]:
    """The files as a shell takes them, and how many are not among them."""
    folders: dict[tuple[Path, str], list[Path]] = {}
    for path in files:
        folders.setdefault((path.parent, path.suffix), []).append(path)
    patterns, single = [], []
    for (folder, suffix), members in folders.items():
        if len(members) > WRITTEN_OUT and len(set(members)) == len(list(folder.glob(f"*{suffix}"))):
            patterns.append(f"{shlex.quote(str(folder))}/*{suffix}")
        else:
            single += members
    names = " ".join((*patterns, *(shlex.quote(str(path)) for path in single[:WRITTEN_OUT])))
    return names, max(0, len(single) - WRITTEN_OUT)


def _others(rest: int) -> str:
    return f"  # and the {rest} others" if rest else ""


def python_on(action: str, files: Sequence[Path]) -> str:
    """Run a Python expression on each of these files, `f`, with Pillow's Image and numpy at hand."""
    imports = "import sys, numpy" if "numpy" in action else "import sys"
    return (
        f'{_this_python()} -c "{imports}; from PIL import Image; [{action} for f in sys.argv[1:]]" {shell_names(files)}'
    )


def _this_python() -> str:
    """`python` where the shell finds this very one by that name, else its path: another one may lack Pillow."""
    found = shutil.which("python")
    same = found is not None and Path(found).parent == Path(sys.executable).parent
    return "python" if same else shlex.quote(sys.executable)
