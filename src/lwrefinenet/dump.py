"""The predicted masks of a split as files: planned and checked before the first is made, each written whole."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lwrefinenet.data.dataset import SegmentationDataset
from lwrefinenet.data.unlabelled import UnlabelledPictures
from lwrefinenet.errors import UsageError
from lwrefinenet.files import check_writable, write_atomically
from lwrefinenet.images import as_stored, read_header


class Dump:
    """Where the masks of every picture of a split go, in the form that the data set's own scorers want.

    UsageError, before any work is done, where two pictures would share a file, a mask would be written over a file of the data set,
    or files exist and `overwrite` is not set; LwRefineNetError where the folder cannot be written.
    """

    def __init__(
        self, folder: Path, pictures: SegmentationDataset | UnlabelledPictures, *, overwrite: bool = False
    ) -> None:
        self.folder = folder
        self.pictures = pictures
        self.paths = tuple(folder / pictures.dump_format.path(image) for image in pictures.images)
        self._check_collisions()
        existing = [path for path in self.paths if path.exists()]
        if existing and not overwrite:
            raise UsageError(
                f"{existing[0]}: exists, as do {len(existing) - 1} more of {len(self)} masks; give --overwrite to replace them, or "
                "another folder."
            )
        check_writable(folder)

    def __len__(self) -> int:
        return len(self.paths)

    def write(self, index: int, mask: NDArray[np.uint8]) -> None:
        """Write the mask of a picture.  mask: (H, W) class indices, upright; it lines up with the picture's file once written."""
        stored = as_stored(mask, read_header(self.pictures.images[index]).orientation)
        write_atomically(self.paths[index], self.pictures.dump_format.encoded(stored, self.pictures.labels))

    def _check_collisions(self) -> None:
        writers: dict[Path, Path] = {}
        own = {path.resolve() for path in self.pictures.files}
        for image, path in zip(self.pictures.images, self.paths, strict=True):
            if path in writers:
                raise UsageError(
                    f"{writers[path]} and {image} would both be written as {path}; name the pictures of a split apart."
                )
            if path.resolve() in own:
                raise UsageError(f"{path} belongs to the data set and would be written over; give another folder.")
            writers[path] = image
