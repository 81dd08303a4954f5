"""What a training stage learns from: data folders with names, and expressions such as `sbd:train_noval+voc:train`."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from lwrefinenet.data.dataset import LabelledPictures, SegmentationDataset, concatenated
from lwrefinenet.data.layouts import READERS, open_dataset
from lwrefinenet.errors import UsageError

UNNAMED = ""
_NAMED = re.compile(r"([A-Za-z]\w*)=(.+)")
_PART = re.compile(r"(\w+)(?::(\w+))?")


def parse_data_arguments(arguments: Sequence[str]) -> dict[str, Path]:
    """`--data [NAME=]DIR`, repeated: the folders by name; one folder alone needs no name and is under `UNNAMED`.

    NAME is one of `READERS`, which then reads the folder, or a word of one's own for a folder that is told by its files.
    UsageError for a name that comes twice, or for several folders of which one has no name.
    """
    roots: dict[str, Path] = {}
    for argument in arguments:
        named = None if Path(argument).exists() else _NAMED.fullmatch(argument)
        name, folder = (named[1], named[2]) if named else (UNNAMED, argument)
        if name in roots and name != UNNAMED:
            raise UsageError(f"--data {argument}: the name {name!r} stands for {roots[name]} already.")
        if roots and UNNAMED in (name, *roots):
            nameless = argument if name == UNNAMED else roots[UNNAMED]
            raise UsageError(
                f"--data {nameless}: with several data folders each needs a name: --data NAME={nameless}, where NAME is one "
                f"of {', '.join(READERS)}, or a word of your own."
            )
        roots[name] = Path(folder).expanduser()
    return roots


def open_stage(
    expression: str, roots: Mapping[str, Path], default_split: str | None, *, published_crop: bool = False
) -> LabelledPictures:
    """The data of one stage, as `parse_data_arguments` names the folders.

    expression: `coco`, `sbd:train_noval+voc:train`: names joined by `+` become one set; an empty one takes the only folder
    that there is.  A folder without a name is read by every reader that the expression names.
    default_split: where a name has no `:split`; None takes the one that scores are stated on.  published_crop: as `open_dataset`.
    UsageError for a name without a folder; DataError for data that cannot be read or sets whose classes differ.
    """
    if not expression:
        if len(roots) != 1:
            raise UsageError(f"{len(roots)} data folders ({', '.join(roots)}), and no word on which of them to take.")
        expression = next(iter(roots))
        if expression == UNNAMED:
            return open_dataset(roots[UNNAMED], default_split, published_crop=published_crop)
    parts = expression.split("+")
    return concatenated([_open(part.strip(), roots, default_split, published_crop=published_crop) for part in parts])


def _open(
    part: str, roots: Mapping[str, Path], default_split: str | None, *, published_crop: bool
) -> SegmentationDataset:
    match = _PART.fullmatch(part)
    if match is None:
        raise UsageError(f"{part!r}: expected a data set NAME or NAME:SPLIT, several of them joined by +.")
    name, split = match[1], match[2] or default_split
    reader = name if name in READERS else None
    if name in roots:
        root = roots[name]
    elif UNNAMED in roots and reader is not None:
        root = roots[UNNAMED]
    else:
        known = ", ".join(key for key in roots if key != UNNAMED) or "none"
        raise UsageError(f"{part!r}: no data folder has this name (named are: {known}); give it as --data {name}=DIR.")
    return open_dataset(root, split, name=reader, published_crop=published_crop, voc_root=roots.get("voc"))
