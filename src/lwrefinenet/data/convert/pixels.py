"""What stands in a mask file of any kind, before anything is made of it."""

import numpy as np
from numpy.typing import NDArray

from lwrefinenet.data.convert.colours import codes
from lwrefinenet.errors import DataError
from lwrefinenet.images import OpenedImage, upright


def colours_and_alpha(image: OpenedImage) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """(H, W, 3) RGB and (H, W) alpha, 255 where there is none; upright by the mask file's own orientation."""
    if image.image.mode not in ("1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX"):
        raise DataError(
            f"{image.name}: has mode {image.image.mode}; colours are read from 8-bit RGB, RGBA, palette and "
            "grey files. Save it as an RGB PNG."
        )
    pixels = upright(np.array(image.image.convert("RGBA")), image.remaining)
    return pixels[..., :3], pixels[..., 3]


def plain_values(image: OpenedImage) -> tuple[NDArray[np.int64], bool]:
    """(H, W) grey values, or colour codes (True) where a file shows other colours than grey; black is 0 in both."""
    if image.image.mode in ("1", "L", "I") or image.image.mode.startswith("I;"):
        values = np.array(image.image)
        values = values.astype(np.int64) * (255 if values.dtype == bool else 1)
        return upright(values, image.remaining), False
    colours = colours_and_alpha(image)[0]
    if (colours == colours[..., :1]).all():
        return colours[..., 0].astype(np.int64), False
    return codes(colours).astype(np.int64), True
