"""A split whose true masks are not public: pictures to predict, nothing to score or learn from."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lwrefinenet.data.dump_format import DumpFormat
from lwrefinenet.images import read_picture
from lwrefinenet.labels import LabelSet


@dataclass(frozen=True)
class UnlabelledPictures:
    """The pictures of a split without masks.

    why: a sentence's end that says why there are none: "cityscapes test cannot be scored here: " + why.
    """

    name: str
    split: str
    labels: LabelSet
    images: tuple[Path, ...]
    why: str
    dump_format: DumpFormat

    @property
    def files(self) -> tuple[Path, ...]:
        """What must not be written over."""
        return self.images

    def __len__(self) -> int:
        return len(self.images)

    def picture(self, index: int) -> np.ndarray:
        """(H, W, 3) uint8 RGB, upright; ImageError for a file that cannot be read."""
        return read_picture(self.images[index]).pixels
