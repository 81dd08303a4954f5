"""Large pictures by overlapping tiles, whose logits are blended: memory follows the tile, and objects keep their training scale."""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from lwrefinenet.errors import UsageError
from lwrefinenet.runtimes.network import Network

STRIDE = 32  # pixels: tiles begin where the coarsest cells of the whole picture begin
CELL = 4  # pixels of a cell of logits
SMALLEST_TILE = 128
OVERLAP = 0.25
USUAL_TILE, USUALLY_WHOLE = (
    1024,
    10_000_000,
)  # pixels: what a CPU's memory is spared, and what is not cut unless asked for


def check_tile(tile: int, overlap: float = OVERLAP) -> None:
    """Raise UsageError for a tile that is too small, or an overlap out of range."""
    if tile < SMALLEST_TILE:
        raise UsageError(f"a tile of {tile} pixels shows a network too little; give at least {SMALLEST_TILE}.")
    if not 0 <= overlap <= 0.5:
        raise UsageError(f"an overlap of {overlap} is out of range; expected 0 to 0.5 of the tile.")


class TiledNetwork:
    """Another network, shown one tile at a time where a picture is larger than a tile.

    tile: side of the square tiles in pixels, rounded up to a multiple of 32; overlap: the share of it, 0-0.5, that neighbours have
    in common at least.  Where tiles overlap, the nearer to a tile's edge, the less its logits count: there the network saw
    least around them.  UsageError for a tile under 128 pixels or an overlap out of range.
    """

    def __init__(self, network: Network, tile: int, overlap: float = OVERLAP) -> None:
        check_tile(tile, overlap)
        self.network = network
        self.tile = -(-tile // STRIDE) * STRIDE
        self.overlap = overlap
        self.size: tuple[int, int] | None = None
        self.device = torch.device("cpu")  # where the blended logits of a large picture have room
        self.name = f"{network.name}, in tiles of {self.tile}x{self.tile}"

    def prepare(self, images: Tensor) -> Tensor:
        """images: (N, H, W, 3) uint8 RGB.  Returned as they are; tiles are prepared one by one."""
        return images

    def logits(self, prepared: Tensor) -> Tensor:
        """prepared: (N, H, W, 3) uint8 RGB.  Returns float32 (N, C, h, w) on the CPU.

        Of a picture no larger than a tile the logits of the other network, as they are; else ceil(H/4) x ceil(W/4), channels_last.
        """
        count, height, width, _ = prepared.shape
        if max(height, width) <= self.tile:
            return self.network.logits(self.network.prepare(prepared)).cpu()
        summed = torch.empty(0)
        total = torch.zeros(-(-height // CELL), -(-width // CELL), 1)
        for top, left in self._origins(height, width):
            part = prepared[:, top : top + self.tile, left : left + self.tile].contiguous()
            cells = self._cells(part).permute(0, 2, 3, 1)
            if not len(summed):
                summed = torch.zeros(count, *total.shape[:2], cells.shape[-1])
            rows, columns = (
                slice(at // CELL, at // CELL + n) for at, n in zip((top, left), cells.shape[1:3], strict=True)
            )
            weight = _tent(cells.shape[1])[:, None, None] * _tent(cells.shape[2])[:, None]
            summed[:, rows, columns] += cells * weight
            total[rows, columns] += weight
        return summed.div_(total).permute(0, 3, 1, 2)

    def _cells(self, part: Tensor) -> Tensor:
        """The logits of one tile, at a quarter of its size, rounded up, however fine the network gives them."""
        size = [-(-length // CELL) for length in part.shape[1:3]]
        logits = self.network.logits(self.network.prepare(part)).cpu()
        if list(logits.shape[2:]) == size:
            return logits
        return F.interpolate(logits, size, mode="bilinear", align_corners=False)

    def _origins(self, height: int, width: int) -> Iterator[tuple[int, int]]:
        for top in self._starts(height):
            for left in self._starts(width):
                yield top, left

    def _starts(self, length: int) -> list[int]:
        """Where tiles begin along one side: evenly, on multiples of 32, the last reaching the end."""
        if length <= self.tile:
            return [0]
        room = length - self.tile
        steps = -(-room // max(STRIDE, int(self.tile * (1 - self.overlap)) // STRIDE * STRIDE))
        return [min(-(-room * i // (steps * STRIDE)) * STRIDE, -(-room // STRIDE) * STRIDE) for i in range(steps + 1)]


def _tent(cells: int) -> Tensor:
    """The weight of each cell along one side of a tile: its distance to the nearer edge, never 0."""
    places = torch.arange(cells, dtype=torch.float32) + 0.5
    return torch.minimum(places, cells - places)
