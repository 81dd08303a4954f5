"""A data set made in code, to try the three commands of the README on: squares and discs on grey, with exact masks.

python examples/make_shapes.py my_data      # my_data/{images,masks}/{train,val}, my_data/dataset.toml; and new.jpg beside it
"""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image

CLASS_NAMES = ("nothing", "square", "disc")
TRAIN, VAL, SIZE = 16, 4, (192, 240)  # of the set that the command writes


def shapes_picture(seed: int, size: tuple[int, int] = (64, 80)) -> tuple[np.ndarray, np.ndarray]:
    """A picture (H, W, 3) uint8 and its mask (H, W): a reddish square and a bluish disc at random places."""
    random = np.random.default_rng(seed)
    height, width = size
    side, radius, reach = (length * height // 64 for length in (24, 13, 16))
    pixels = random.integers(90, 130, (height, width, 3)).astype(np.uint8)
    mask = np.zeros(size, np.uint8)
    rows, columns = np.mgrid[:height, :width]
    top, left = random.integers(4, height // 2), random.integers(4, width // 2)
    square = (rows >= top) & (rows < top + side) & (columns >= left) & (columns < left + side)
    centre = random.integers((reach, reach), (height - reach, width - reach))
    disc = (rows - centre[0]) ** 2 + (columns - centre[1]) ** 2 < radius**2
    for index, (where, colour) in enumerate(((square, (210, 40, 40)), (disc, (40, 60, 220))), start=1):
        pixels[where], mask[where] = colour, index
    return pixels, mask


def write_shapes(root: Path, *, train: int = 8, val: int = 4, size: tuple[int, int] = (64, 80)) -> Path:
    """Write images/{train,val}, masks/{train,val} and dataset.toml under `root`."""
    for split, count in (("train", train), ("val", val)):
        for number in range(count):
            pixels, mask = shapes_picture(seed=1000 * (split == "val") + number, size=size)
            for folder, array in (("images", pixels), ("masks", mask)):
                path = root / folder / split / f"{number:03}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(array).save(path)
    names = ", ".join(f'"{name}"' for name in CLASS_NAMES)
    (root / "dataset.toml").write_text(f"class_names = [{names}]\n")
    return root


def main(root: Path) -> None:
    """The set, and one picture that is in neither split."""
    write_shapes(root, train=TRAIN, val=VAL, size=SIZE)
    pixels, _ = shapes_picture(seed=2000, size=SIZE)
    Image.fromarray(pixels).save(root.parent / "new.jpg", quality=95)
    print(f"Wrote {root} and {root.parent / 'new.jpg'}.")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where the set is written; new.jpg is written beside it")
    main(parser.parse_args().folder)
