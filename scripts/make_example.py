"""Take the example picture from the dash-cam video: python scripts/make_example.py ../shared/data/videos/highway.mp4

Needs the extra `video`. The frame is made as wide as CamVid's field of view shows a street, 640x360.
"""

import sys
from pathlib import Path

import av
from PIL import Image

FRAME = 137
SIZE = (640, 360)
TARGET = Path(__file__).parents[1] / "examples" / "street.jpg"


def main(video: str) -> None:
    """Decode up to the frame and write it as a JPEG."""
    with av.open(video) as container:
        for number, frame in enumerate(container.decode(video=0)):
            if number == FRAME:
                picture = frame.to_image().resize(SIZE, Image.Resampling.LANCZOS)
                picture.save(TARGET, quality=92)
                print(f"wrote {TARGET}: frame {FRAME} of {video}, {SIZE[0]}x{SIZE[1]}")
                return
    raise SystemExit(f"{video}: has no frame {FRAME}")


if __name__ == "__main__":
    main(sys.argv[1])
