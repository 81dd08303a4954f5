"""From a picture to its mask: the Predictor and its result."""

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
import PIL.Image
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from lwrefinenet import visualize
from lwrefinenet.device import ran_out_of_memory, resolve_device
from lwrefinenet.errors import ImageError, UsageError
from lwrefinenet.files import write_atomically
from lwrefinenet.images import MAX_PIXELS, Picture, as_stored, encode_depth, encode_mask, read_picture, upright
from lwrefinenet.labels import LabelSet
from lwrefinenet.meta import WeightsMeta
from lwrefinenet.runtimes.choose import open_network, runs_on_cpu_alone
from lwrefinenet.runtimes.network import Network
from lwrefinenet.runtimes.pytorch_runtime import PyTorchNetwork
from lwrefinenet.runtimes.scales import USUAL_SCALES, MultiScaleNetwork
from lwrefinenet.runtimes.tiles import USUAL_TILE, USUALLY_WHOLE, TiledNetwork, check_tile
from lwrefinenet.tasks import AT_FULL_SIZE
from lwrefinenet.upsample import RESIZES, labels_at

logger = logging.getLogger("lwrefinenet")

ONE_VIEW = "single scale, no flip"
GIVEN = "the given picture"


@dataclass(frozen=True, eq=False)
class Maps:
    """What a network says of each pixel.

    mask: (H, W) class indices.  depth: (H, W) float32 metres.  normals: (H, W, 3) float32 unit vectors (right, towards the camera,
    down, as a person sees the picture).  None for what the network does not give.
    """

    mask: NDArray[np.uint8]
    depth: NDArray[np.float32] | None = None
    normals: NDArray[np.float32] | None = None


@dataclass(frozen=True, eq=False)
class Segmentation:
    """What a network sees in a picture.

    mask, depth, normals: as in `Maps`, aligned with the picture as it lies in its file.
    picture: what was predicted, upright.  timings: seconds by step: decode, prepare, network, upsample+argmax.
    """

    mask: NDArray[np.uint8]
    labels: LabelSet
    picture: Picture
    timings: dict[str, float] = field(default_factory=dict)
    depth: NDArray[np.float32] | None = None
    normals: NDArray[np.float32] | None = None

    def shares(self) -> dict[str, float]:
        """The share of all pixels (0-1) of each class found, largest first."""
        return visualize.class_shares(self.mask, self.labels)

    def overlay(self, opacity: float = 0.5) -> NDArray[np.uint8]:
        """The classes painted over the picture, (H, W, 3) RGB, upright for the eye."""
        mask = upright(self.mask, self.picture.orientation)
        return visualize.overlay(self.picture.pixels, mask, self.labels, opacity)

    def sheet(self) -> NDArray[np.uint8]:
        """Picture, mask and overlay side by side over a legend, (H', W', 3) RGB, upright for the eye."""
        mask = upright(self.mask, self.picture.orientation)
        return visualize.contact_sheet(self.picture.pixels, mask, self.labels)

    def depth_picture(self) -> NDArray[np.uint8]:
        """The depth in colours over a scale bar, (H', W, 3) RGB, upright for the eye; UsageError where the network gives none."""
        return visualize.depth_picture(upright(self._given("depth", self.depth), self.picture.orientation))

    def normals_picture(self) -> NDArray[np.uint8]:
        """The normals as colours, (H, W, 3) RGB, upright for the eye; UsageError where the network gives none."""
        return visualize.normal_colours(upright(self._given("normals", self.normals), self.picture.orientation))

    def encoded_depth(self) -> bytes:
        """The depth as a grey PNG of 16 bits, in millimetres (65.535 m at most); UsageError where the network gives none."""
        return encode_depth(self._given("depth", self.depth))

    def _given(self, task: str, values: NDArray[np.float32] | None) -> NDArray[np.float32]:
        if values is None:
            raise UsageError(
                f"the network gives no {task}; take weights of several tasks, such as mt_lw_efficientnet_lite2.nyu."
            )
        return values

    def encoded(self) -> bytes:
        """The mask as an indexed PNG with the palette."""
        return encode_mask(self.mask, self.labels.palette, ignore_index=self.labels.ignore_index)

    def save(self, path: str | Path) -> None:
        """Write the mask as an indexed PNG with the palette, whole or not at all; UsageError for other suffixes."""
        if Path(path).suffix.lower() != ".png":
            raise UsageError(f"{path}: masks are written as .png, because other formats change or lose class indices.")
        write_atomically(Path(path), self.encoded())


class Predictor:
    """A network on some runtime, and the meaning of its weights.

    resize: how logits are brought to the picture's size, "bilinear" or "bicubic" (as published); UsageError for anything else.
    large: what sees pictures above 10 million pixels; None: the network, as it sees all others.
    """

    def __init__(
        self, network: Network, meta: WeightsMeta, *, resize: str = "bilinear", large: Network | None = None
    ) -> None:
        if resize not in RESIZES:
            raise UsageError(f"resize is {resize!r}; expected {' or '.join(RESIZES)}.")
        self.network = network
        self.meta = meta
        self.resize = resize
        self.large = large or network
        self._has_cut = False
        # What is compiled is loaded here, so that no first picture waits for it.
        labels_at(torch.zeros(1, 2, 2, 2, device=network.device), (4, 4), resize)

    @classmethod
    def from_weights(
        cls,
        name_or_path: str | Path,
        *,
        device: str | torch.device = "auto",
        runtime: str = "auto",
        precision: str | None = None,
        compile: bool = False,  # noqa: A002 - as torch calls it
        tile: int | None = None,
        tta: bool | Sequence[float] = False,
        resize: str = "bilinear",
    ) -> Self:
        """A Predictor with named weights (see `lwrefinenet models`), those of a file, or an exported .onnx or .xml file.

        device: auto (cuda, then mps, then cpu; cpu where the runtime has no other), cpu, cuda, cuda:N or mps.
        runtime, precision and compile: as `open_network`.
        tile: side of the overlapping tiles in which larger pictures are seen, in pixels; 0: pictures are never cut; None: on a CPU
        those above 10 million pixels are, in tiles of 1024, so that they fit into memory.
        tta: average what is seen at several scales, each with its mirror image (multi-scale testing): True for 0.5, 0.75, 1, 1.25,
        1.5 and 1.75, or scales of one's own.  Each scale is cut into tiles by itself.
        Errors as `open_network` and `weights.load`.
        """
        if tile:
            check_tile(tile)
        if str(device) == "auto" and runs_on_cpu_alone(name_or_path, runtime):
            device = "cpu"
        network, meta = open_network(
            name_or_path, resolve_device(device), runtime=runtime, precision=precision, compiled=compile
        )
        large = _for_large_pictures(network) if tile is None else None
        if tile:
            network = TiledNetwork(network, tile)
        if tta is not False:
            scales = USUAL_SCALES if tta is True else tta
            network = MultiScaleNetwork(network, meta.channels, scales)
            large = MultiScaleNetwork(large, meta.channels, network.scales) if large else None
        return cls(network, meta, resize=resize, large=large)

    @classmethod
    def from_model(
        cls, model: nn.Module, meta: WeightsMeta, device: str | torch.device = "auto", *, resize: str = "bilinear"
    ) -> Self:
        """A Predictor with a module, in PyTorch and float32; the module is moved to the device and put into evaluation mode.

        Large pictures are cut as those of `from_weights` are.
        """
        network = PyTorchNetwork(model, meta.preprocess, resolve_device(device))
        return cls(network, meta, resize=resize, large=_for_large_pictures(network))

    @property
    def views(self) -> str:
        """At which scales and in which parts the network sees a picture, in words, for the protocol of a score.

        Whether a large picture was cut is known only afterwards.
        """
        inner, words = self.network, ONE_VIEW
        if isinstance(self.network, MultiScaleNetwork):
            inner, words = self.network.network, self.network.views
        if isinstance(inner, TiledNetwork):
            return f"{words}, in tiles of {inner.tile}x{inner.tile}"
        return f"{words}, large pictures in tiles of {USUAL_TILE}x{USUAL_TILE}" if self._has_cut else words

    def __call__(
        self, source: str | Path | PIL.Image.Image | NDArray[Any], *, max_pixels: int = MAX_PIXELS
    ) -> Segmentation:
        """Segment one picture: a file, a Pillow image, or an (H, W, 3) uint8 RGB array; errors as `read_picture`."""
        clock = _Clock(self.network.device)
        picture = read_picture(source, max_pixels=max_pixels)
        clock.lap("decode")
        maps = self._fitting_maps(picture.pixels, clock, str(source) if isinstance(source, str | Path) else GIVEN)
        mask = as_stored(maps.mask, picture.orientation)
        dense = {
            task: as_stored(values, picture.orientation)
            for task, values in (("depth", maps.depth), ("normals", maps.normals))
            if values is not None
        }
        return Segmentation(mask, self.meta.labels, picture, clock.laps, **dense)

    def predict_mask(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """pixels: (H, W, 3) uint8 RGB, upright.  Returns (H, W) uint8 class indices."""
        return self.predict_maps(pixels).mask

    def predict_maps(self, pixels: NDArray[np.uint8]) -> Maps:
        """pixels: (H, W, 3) uint8 RGB, upright.  Returns everything that the network says of them."""
        return self._fitting_maps(pixels, _Clock(self.network.device), GIVEN)

    @torch.inference_mode()
    def logits(self, images: Tensor) -> Tensor:
        """images: (N, H, W, 3) uint8 RGB.  Returns float32 (N, C, h, w), as `Network.logits` does, on the network's device."""
        network = self._network_for(images)
        return self.meta.channels.split(network.logits(network.prepare(images)))["segmentation"]

    def _network_for(self, images: Tensor) -> Network:
        scale = max(self.network.scales) if isinstance(self.network, MultiScaleNetwork) else 1
        if self.large is self.network or images.shape[1] * images.shape[2] * scale**2 <= USUALLY_WHOLE:
            return self.network
        if not self._has_cut:
            seen = f"above {USUALLY_WHOLE // 10**6} million pixels{' at the largest scale' if scale > 1 else ''}"
            logger.info("Pictures %s: %s; --tile 0 for whole ones.", seen, self.large.name)
        self._has_cut = True
        return self.large

    def _fitting_maps(self, pixels: NDArray[np.uint8], clock: "_Clock", name: str) -> Maps:
        """ImageError, naming the picture, where it does not fit into the memory."""
        try:
            return self._maps(pixels, clock)
        except Exception as error:  # each runtime has errors of its own
            if not ran_out_of_memory(error):
                raise
            device = self._innermost().device
            advice = (
                "give a smaller --tile, such as 512" if device.type == "cpu" else "give --tile 1024, or --device cpu"
            )
            raise ImageError(
                f"{name}: {pixels.shape[1]}x{pixels.shape[0]} pixels do not fit into the memory of {device}; {advice}."
            ) from error

    def _innermost(self) -> Network:
        network = self.network
        while isinstance(network, TiledNetwork | MultiScaleNetwork):
            network = network.network
        return network

    @torch.inference_mode()
    def _maps(self, pixels: NDArray[np.uint8], clock: "_Clock") -> Maps:
        images = torch.from_numpy(pixels)[None]
        network = self._network_for(images)
        prepared = network.prepare(images)
        clock.lap("prepare")
        results = self.meta.channels.split(network.logits(prepared))
        clock.lap("network")
        size = pixels.shape[:2]
        mask = labels_at(results.pop("segmentation"), size, self.resize)[0].cpu().numpy()
        dense = {task: AT_FULL_SIZE[task](found, size, self.resize)[0].cpu().numpy() for task, found in results.items()}
        clock.lap("upsample+argmax")
        return Maps(mask, **dense)


def _for_large_pictures(network: Network) -> Network | None:
    """The same in tiles, so that large pictures fit into a CPU's memory; None on other devices, and for networks of one size."""
    return TiledNetwork(network, USUAL_TILE) if network.device.type == "cpu" and network.size is None else None


class _Clock:
    """Seconds by step; waits for the device, which works on while Python goes ahead."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.laps: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, step: str) -> None:
        if self.device.type != "cpu":
            torch.accelerator.synchronize(self.device)
        now = time.perf_counter()
        self.laps[step], self._last = now - self._last, now
