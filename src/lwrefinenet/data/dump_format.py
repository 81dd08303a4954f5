"""How the predicted masks of a data set are named and stored, so that those who hold its true masks can score them."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lwrefinenet.images import encode_grey, encode_mask
from lwrefinenet.labels import LabelSet


@dataclass(frozen=True)
class DumpFormat:
    """One PNG for each picture; by default `STEM.png`, indexed, with the data set's palette.

    folder: where they lie below the folder that is asked for.  cut: the end of a picture's stem that is left out, and ending: what
    takes its place.  ids: the value that stands for each class, in a grey PNG; None: class indices.
    """

    folder: str = ""
    cut: str = ""
    ending: str = ".png"
    ids: tuple[int, ...] | None = None

    def path(self, image: Path) -> Path:
        """Where the mask of a picture file belongs, relative to the folder that is asked for."""
        return Path(self.folder) / f"{image.stem.removesuffix(self.cut)}{self.ending}"

    def encoded(self, mask: NDArray[np.uint8], labels: LabelSet) -> bytes:
        """mask: (H, W) class indices.  Returns the content of its file."""
        if self.ids is None:
            return encode_mask(mask, labels.palette, ignore_index=labels.ignore_index)
        return encode_grey(np.array(self.ids, dtype=np.uint8)[mask])
