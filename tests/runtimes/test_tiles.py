from itertools import pairwise

import numpy as np
import pytest
import torch

from lwrefinenet import predict, weights
from lwrefinenet.errors import UsageError
from lwrefinenet.predict import Predictor
from lwrefinenet.runtimes.tiles import TiledNetwork


class MeanColour:
    """Logits are the mean colours of the cells: what a network that sees nothing around a cell would give."""

    name, device = "mean colour", torch.device("cpu")

    def __init__(self):
        self.seen = []

    def prepare(self, images):
        self.seen.append(tuple(images.shape[1:3]))
        return images.permute(0, 3, 1, 2).float()

    def logits(self, prepared):
        return torch.nn.functional.avg_pool2d(prepared, 4, ceil_mode=True)


@pytest.mark.parametrize("size", [(1, 1), (128, 128), (129, 300), (500, 97), (333, 517)])
@pytest.mark.parametrize("overlap", [0.0, 0.25, 0.5])
def test_tiles_come_together_to_the_whole_picture(size, overlap):
    images = torch.randint(256, (1, *size, 3)).byte()
    network = MeanColour()
    tiled = TiledNetwork(network, 128, overlap)
    found = tiled.logits(tiled.prepare(images))
    assert max(max(seen) for seen in network.seen) <= 128
    torch.testing.assert_close(found, network.logits(network.prepare(images)), rtol=1e-5, atol=1e-3)


@pytest.mark.parametrize("length", [129, 160, 200, 255, 256, 257, 1000])
@pytest.mark.parametrize("overlap", [0.0, 0.25, 0.5])
def test_neighbours_overlap_at_least_as_much_as_asked_and_begin_at_cells(length, overlap):
    starts = TiledNetwork(MeanColour(), 128, overlap)._starts(length)
    assert starts[0] == 0
    assert length <= starts[-1] + 128 < length + 32
    assert all(start % 32 == 0 for start in starts)
    assert all(later - earlier <= 128 * (1 - overlap) for earlier, later in pairwise(starts))


def test_where_tiles_disagree_the_nearer_to_its_middle_counts_more():
    class Numbered(MeanColour):
        def logits(self, prepared):
            return torch.full((1, 1, prepared.shape[2] // 4, prepared.shape[3] // 4), float(len(self.seen)))

    tiled = TiledNetwork(Numbered(), 128, 0.5)
    row = tiled.logits(torch.zeros(1, 128, 192, 3, dtype=torch.uint8))[0, 0, 0]
    assert row[0] == 1
    assert row[-1] == 2
    shared = row[16:32]
    assert (shared.diff() > 0).all()
    assert 1 < shared[0] < 1.1


@pytest.mark.parametrize("cell", [2, 3, 8])
def test_tiles_of_a_finer_or_coarser_network_come_together_to_quarters_of_the_picture(cell):
    class Otherwise(MeanColour):
        def logits(self, prepared):
            return torch.nn.functional.avg_pool2d(prepared, cell, ceil_mode=True)

    ramp = torch.arange(256).expand(256, 256).byte()  # brighter by a step a column
    found = TiledNetwork(Otherwise(), 128).logits(ramp[None, ..., None].expand(1, 256, 256, 3))
    assert found.shape == (1, 3, 64, 64)
    expected = torch.arange(64) * 4 + 1.5
    torch.testing.assert_close(found[0, 0, 0], expected, rtol=0, atol=3)


def test_a_picture_no_larger_than_the_tile_is_seen_as_a_whole(tiny_model, tiny_meta):
    predictor = Predictor.from_model(tiny_model, tiny_meta, "cpu")
    pixels = np.random.default_rng(0).integers(0, 256, (96, 128, 3), dtype=np.uint8)
    tiled = Predictor(TiledNetwork(predictor.network, 128), tiny_meta)
    np.testing.assert_array_equal(tiled.predict_mask(pixels), predictor.predict_mask(pixels))


def test_tiles_of_a_trained_network_agree_with_the_whole_picture_nearly_everywhere():
    predictor = Predictor.from_weights("rf_lw_efficientnet_lite0.camvid", runtime="pytorch")
    picture = np.asarray(predictor("examples/street.jpg").picture.pixels)
    whole = predictor.predict_mask(picture)
    tiled = Predictor(TiledNetwork(predictor.network, 320), predictor.meta)
    assert (tiled.predict_mask(picture) == whole).mean() > 0.95


@pytest.mark.parametrize("overlap", [-0.1, 0.6])
def test_an_overlap_out_of_range_is_misuse(overlap):
    with pytest.raises(UsageError, match=f"an overlap of {overlap} is out of range"):
        TiledNetwork(MeanColour(), 256, overlap)


@pytest.fixture
def large_above_100x100(monkeypatch, tiny_model, tiny_meta, tmp_path):
    """Weights, with pictures of more than 100x100 pixels as large ones."""
    monkeypatch.setattr(predict, "USUALLY_WHOLE", 100 * 100)
    monkeypatch.setattr(predict, "USUAL_TILE", 128)
    weights.save(tmp_path / "tiny.safetensors", tiny_model, tiny_meta)
    return tmp_path / "tiny.safetensors"


def test_large_pictures_are_cut_unasked_on_a_cpu_and_it_is_said(large_above_100x100, caplog):
    caplog.set_level("INFO")
    usual = Predictor.from_weights(large_above_100x100, device="cpu", runtime="pytorch")
    tiled = Predictor.from_weights(large_above_100x100, device="cpu", runtime="pytorch", tile=128)
    whole = Predictor.from_weights(large_above_100x100, device="cpu", runtime="pytorch", tile=0)
    small, large = (
        torch.randint(256, (1, size, 200, 3), generator=torch.Generator().manual_seed(0)).byte() for size in (50, 150)
    )
    assert torch.equal(usual.logits(small), whole.logits(small))
    assert not caplog.records
    assert torch.equal(usual.logits(large), tiled.logits(large))
    assert not torch.equal(usual.logits(large), whole.logits(large))
    assert "in tiles of 128x128; --tile 0 for whole ones" in caplog.text
    np.testing.assert_array_equal(usual.predict_mask(large[0].numpy()), tiled.predict_mask(large[0].numpy()))
    given = Predictor.from_model(weights.load(large_above_100x100)[0], usual.meta, "cpu")
    torch.testing.assert_close(given.logits(large), tiled.logits(large))
    assert not torch.allclose(given.logits(large), whole.logits(large), atol=1e-3)
