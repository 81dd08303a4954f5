"""Which split a picture belongs to: the source's own, or one drawn by the picture's name."""

import hashlib
from collections.abc import Sequence
from dataclasses import replace

from lwrefinenet.data.convert.target import Item
from lwrefinenet.errors import DataError, UsageError

SPLITS = ("train", "val", "test")
ALIASES = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}


def split_named(name: str) -> str | None:
    """The split that a folder's or file's name speaks of (train, instances_val2017, valid), or None."""
    words = "".join(letter if letter.isalpha() else " " for letter in name.lower()).split()
    found = [ALIASES[word] for word in words if word in ALIASES]
    return found[0] if found else None


def with_splits(items: Sequence[Item], val_share: float) -> tuple[tuple[Item, ...], tuple[str, ...]]:
    """Every item with a split, and what there is to notice.

    Where the source has both train and val, they stay. Otherwise all but its test pictures are dealt to train and val by a
    hash of the stem: the same every time, and more pictures later do not move the ones before. If no hash falls
    under `val_share` (0-1, both excluded), the picture with the smallest becomes val, so that val is never empty.
    UsageError for a share out of range; DataError for fewer than two pictures to deal.
    """
    if not 0 < val_share < 1:
        raise UsageError(f"--val-share {val_share}: expected a fraction between 0 and 1, for example 0.1.")
    own = {item.split for item in items}
    if {"train", "val"} <= own and None not in own:
        return tuple(items), ()
    dealt = [item for item in items if item.split != "test"]
    if len(dealt) < 2:
        raise DataError(f"{len(dealt)} pictures are too few to deal into train and val; at least two are needed.")
    chosen = {item.stem for item in dealt if place(item.stem) < val_share}
    chosen = chosen or {min((item.stem for item in dealt), key=place)}
    if len(chosen) == len({item.stem for item in dealt}):
        chosen.remove(max(chosen, key=place))
    renewed = tuple(
        item if item.split == "test" else replace(item, split="val" if item.stem in chosen else "train")
        for item in items
    )
    named = sorted(split for split in own - {"test"} if split)
    whence = f"the source has only {named[0]}" if named else "the source has no train and val"
    return renewed, (f"val drawn by the names of the pictures, as {whence} (--val-share {val_share})",)


def place(stem: str) -> float:
    """Where a name falls between 0 and 1: the same everywhere and for ever."""
    return int.from_bytes(hashlib.sha256(stem.encode()).digest()[:8], "big") / 2**64
