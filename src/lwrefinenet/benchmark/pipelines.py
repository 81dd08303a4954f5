"""From the bytes of a JPEG file to a colour mask, in several ways; each says how long each part took.

The published way is written from the facts of its code (2018): eager float32 with planes after one another, preparation in float64,
bicubic resizing of all logits, argmax, and the colour map by index.
"""

import io
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import PIL.Image
import torch
from torch import Tensor, nn

from lwrefinenet.images import colour_table, coloured, encode_mask, read_picture
from lwrefinenet.labels import Colour
from lwrefinenet.preprocess import Preprocess
from lwrefinenet.runtimes.network import Network
from lwrefinenet.tasks import stacked
from lwrefinenet.upsample import labels_at

PARTS = ("decode", "prepare", "network", "tail", "colour", "encode")

CPU = torch.device("cpu")

Pipeline = Callable[[bytes], "Passage"]


class Passage:
    """What became of one picture.

    seconds: by part, of PARTS.  mask: (H, W) uint8.  logits: (1, C, h, w) float32.  device: which a part is waited for on.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.seconds: dict[str, float] = {}
        self.mask: np.ndarray = np.empty(0)
        self.logits: Tensor = torch.empty(0)

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Measure what happens inside."""
        begun = time.perf_counter()
        yield
        if self.device.type != "cpu":
            torch.accelerator.synchronize(self.device)
        self.seconds[name] = time.perf_counter() - begun


def our_pipeline(network: Network, palette: tuple[Colour, ...], batch: int = 1) -> Pipeline:
    """As the Predictor does it, on any runtime.

    batch: so many copies of the picture are prepared and shown to the network at once; the other parts have one.
    """

    @torch.inference_mode()
    def run(content: bytes) -> Passage:
        passage = Passage(network.device)
        with passage.part("decode"):
            pixels = read_picture(PIL.Image.open(io.BytesIO(content))).pixels
        with passage.part("prepare"):
            prepared = network.prepare(torch.from_numpy(pixels)[None].expand(batch, -1, -1, -1))
        with passage.part("network"):
            passage.logits = network.logits(prepared)[:, : len(palette)]
        with passage.part("tail"):
            passage.mask = labels_at(passage.logits[:1], pixels.shape[:2])[0].cpu().numpy()
        with passage.part("colour"):
            coloured(passage.mask, palette)
        with passage.part("encode"):
            encode_mask(passage.mask, palette)
        return passage

    return run


def published_pipeline(
    model: nn.Module, preprocess: Preprocess, palette: tuple[Colour, ...], batch: int = 1, device: torch.device = CPU
) -> Pipeline:
    """As the published code did it; batch as in `our_pipeline`.  device: of the network; the rest is done by the processor."""
    import cv2

    cv2.setNumThreads(torch.get_num_threads())
    colours = colour_table(palette, 255)
    mean, std = np.array(preprocess.mean), np.array(preprocess.std)
    model = model.to(device)

    @torch.no_grad()
    def run(content: bytes) -> Passage:
        passage = Passage(device)
        with passage.part("decode"):
            pixels = np.array(PIL.Image.open(io.BytesIO(content)))
        with passage.part("prepare"):
            prepared = torch.tensor(((pixels / 255.0 - mean) / std).transpose(2, 0, 1)[None]).float()
            prepared = prepared.repeat(batch, 1, 1, 1).to(device)
        with passage.part("network"):
            passage.logits = stacked(model(prepared))[:, : len(palette)]
        with passage.part("tail"):
            cells = passage.logits[0].cpu().numpy().transpose(1, 2, 0)
            resized = cv2.resize(cells, pixels.shape[1::-1], interpolation=cv2.INTER_CUBIC)
            passage.mask = resized.argmax(axis=2).astype(np.uint8)
        with passage.part("colour"):
            colours[passage.mask]
        with passage.part("encode"):
            encode_mask(passage.mask, palette)
        return passage

    return run
