"""What was found in files, kept by their content: a data set that has not changed is not read again."""

import hashlib
import json
import os
import time
from collections.abc import Callable
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar

from lwrefinenet.data.facts import Form, MaskFacts, PictureFacts, sha256_of
from lwrefinenet.errors import LwRefineNetError
from lwrefinenet.files import cache_folder, write_atomically

FORMAT = 1  # a file of another format is as good as none
UNSETTLED = 2e9  # ns; a file written so shortly before it was read may change again without a new time stamp

F = TypeVar("F", PictureFacts, MaskFacts)


class FactsCache:
    """The facts of one split's files, in one JSON file of the user's cache folder.

    A file whose path, size and time stamp are those of last time is not opened; one whose bytes are known is not decoded.
    A cache that cannot be read is built anew, one that cannot be written is done without.
    """

    def __init__(self, name: str) -> None:
        """name: says whose facts these are; another name is another file."""
        self.path = cache_folder("census") / f"{hashlib.sha256(name.encode()).hexdigest()[:24]}.json"
        self.stamps: dict[str, tuple[int, int, str]] = {}
        self.facts: dict[str, PictureFacts | MaskFacts] = {}
        self.known_stamps, self.known_facts = _read(self.path)

    def of(self, kind: type[F], path: Path, read: Callable[[Path, bytes], F]) -> F:
        """The facts of a file; `read` finds them out, from its path and its bytes, where they are not known.

        A file that cannot be opened gives facts with a fault, which are not kept.
        """
        name = os.path.abspath(path)  # noqa: PTH100  Path.absolute keeps "..", resolve costs a system call per folder
        content = b""
        try:
            stat, is_file = _stamp(path)
            size, changed, sha256 = self.known_stamps.get(name, (-1, -1, ""))
            key = f"{kind.__name__} {sha256}"
            # Unpacking and copying set the first back to that of the source, nothing the second.
            since = max(stat.st_mtime_ns, stat.st_ctime_ns)
            if (size, changed) != (stat.st_size, since) or key not in self.known_facts:
                settled = time.time_ns() - since > UNSETTLED
                content = path.read_bytes() if is_file else f"{name} {stat.st_size} {stat.st_mtime_ns}".encode()
                sha256 = sha256_of(content)
                key = f"{kind.__name__} {sha256}"
                changed = since if settled else -1
        except OSError as error:
            return kind(fault=f"cannot be opened ({error.strerror}); check the name and the permissions.")
        found = self.known_facts.get(key) or self.facts.get(key)
        if not isinstance(found, kind):
            found = read(path, content)
        self.stamps[name] = (stat.st_size, changed, sha256)
        self.facts[key] = found
        return found

    def save(self) -> None:
        """Keep what was asked for, and nothing else, if anything of it is new."""
        if self.stamps == self.known_stamps and self.facts.keys() == self.known_facts.keys():
            return
        facts = {key: _values(found) for key, found in self.facts.items()}
        content = {"format": FORMAT, "stamps": self.stamps, "facts": facts}
        with suppress(LwRefineNetError):
            write_atomically(self.path, json.dumps(content, separators=(",", ":"), sort_keys=True).encode())


def _stamp(path: Path) -> tuple[os.stat_result, bool]:
    """The state of a file; or of the file in which a mask has its place (`annotations.json/17`), whose bytes are too many."""
    try:
        return path.stat(), True
    except NotADirectoryError:
        holder = next((parent for parent in path.parents if parent.is_file()), path)
        return holder.stat(), False


def _read(path: Path) -> tuple[dict[str, tuple[int, int, str]], dict[str, PictureFacts | MaskFacts]]:
    try:
        content = json.loads(path.read_bytes())
        if content["format"] != FORMAT:
            return {}, {}
        stamps = {
            str(name): (int(size), int(changed), str(sha)) for name, (size, changed, sha) in content["stamps"].items()
        }
        facts = {str(key): _facts(key, values) for key, values in content["facts"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {}, {}
    return stamps, facts


def _values(found: PictureFacts | MaskFacts) -> list[Any]:
    """The facts for JSON; pairs and colours as one list of numbers, which is read back several times faster."""
    if isinstance(found, PictureFacts):
        return [found.sha256, *found.size, found.orientation, found.mode, found.fault]
    counts, colours = list(chain.from_iterable(found.counts)), list(chain.from_iterable(found.colours))
    return [found.sha256, *found.size, found.form, found.mode, counts, colours, found.num_colours, found.fault]


def _facts(key: str, values: list[Any]) -> PictureFacts | MaskFacts:
    sha256, height, width, *rest = values
    if key.startswith(PictureFacts.__name__):
        return PictureFacts(sha256, (height, width), *rest)
    form, mode, counts, colours, num_colours, fault = rest
    pairs, fours = iter(counts), iter(colours)
    return MaskFacts(
        sha256,
        (height, width),
        Form(form),
        mode,
        tuple(zip(pairs, pairs, strict=True)),
        tuple(zip(fours, fours, fours, fours, strict=True)),
        num_colours,
        fault,
    )
