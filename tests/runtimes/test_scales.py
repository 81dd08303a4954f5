import numpy as np
import pytest
import torch
import torch.nn.functional as F

from lwrefinenet.errors import UsageError
from lwrefinenet.predict import Predictor
from lwrefinenet.runtimes.pytorch_runtime import PyTorchNetwork
from lwrefinenet.runtimes.scales import USUAL_SCALES, MultiScaleNetwork, resized
from lwrefinenet.runtimes.tiles import TiledNetwork
from lwrefinenet.tasks import Channels


class MeanColour:
    """Logits are the mean colours of the cells, so that a mirrored picture has mirrored logits; remembers the sizes seen."""

    name, device = "mean colour", torch.device("cpu")

    def __init__(self, size=None, cell=4):
        self.size, self.seen, self.cell = size, [], cell

    def prepare(self, images):
        self.seen.append(tuple(images.shape[1:3]))
        return images.permute(0, 3, 1, 2).float() / 8

    def logits(self, prepared):
        return F.avg_pool2d(prepared, self.cell, ceil_mode=True)


def multi_scale(network, scales=USUAL_SCALES):
    return MultiScaleNetwork(network, Channels(3), scales)


def noise(height, width, seed=0):
    return torch.randint(256, (1, height, width, 3), generator=torch.Generator().manual_seed(seed)).byte()


def test_the_result_is_the_average_of_all_scales_and_mirror_images_worked_out_plainly(tiny_model, tiny_meta):
    images = noise(66, 93)
    network = PyTorchNetwork(tiny_model, tiny_meta.preprocess, torch.device("cpu"))
    found = multi_scale(network, (0.5, 1.0, 1.5)).logits(images)
    probabilities = []
    for height, width in ((33, 46), (66, 93), (99, 140)):
        planes = images.permute(0, 3, 1, 2)
        scaled = F.interpolate(planes, (height, width), mode="bilinear", antialias=True)
        with torch.no_grad():
            for view in (scaled, scaled.flip(3)):
                logits = F.interpolate(tiny_model(tiny_meta.preprocess(view)), (17, 24), mode="bilinear")
                probabilities.append(logits.softmax(1))
        probabilities[-1] = probabilities[-1].flip(3)
    expected = torch.stack(probabilities).mean(0)
    assert found.shape == (1, 3, 17, 24)
    torch.testing.assert_close(found.exp(), expected, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(found.exp().sum(1), torch.ones(1, 17, 24))


def test_a_mirrored_picture_gives_the_mirrored_result(tiny_model, tiny_meta):
    network = multi_scale(PyTorchNetwork(tiny_model, tiny_meta.preprocess, torch.device("cpu")), (0.75, 1.25))
    images = noise(64, 96)
    plain = network.network
    torch.testing.assert_close(network.logits(images.flip(2)), network.logits(images).flip(3), rtol=1e-4, atol=1e-4)
    alone = [plain.logits(plain.prepare(view)) for view in (images, images.flip(2))]
    assert not torch.allclose(alone[1], alone[0].flip(3), atol=1e-2)  # which the network by itself does not


def test_a_symmetric_picture_gives_a_symmetric_result(tiny_model, tiny_meta):
    half = noise(64, 48)
    network = multi_scale(PyTorchNetwork(tiny_model, tiny_meta.preprocess, torch.device("cpu")))
    found = network.logits(torch.cat([half, half.flip(2)], dim=2))
    torch.testing.assert_close(found, found.flip(3), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("cell", [2, 4, 5])
def test_one_scale_of_a_network_that_mirrors_gives_the_labels_of_the_network_alone(cell):
    images = noise(40, 60)
    network = MeanColour(cell=cell)
    once = multi_scale(network, (1.0,))
    expected = network.logits(network.prepare(images)).log_softmax(1)
    torch.testing.assert_close(once.logits(images), expected)


@pytest.mark.parametrize(("scales", "size"), [((0.5, 1.0, 1.5), (20, 30)), ((0.5, 1.5), (10, 15))])
def test_results_are_as_fine_as_at_scale_1_or_quarters_of_the_picture_without_it(scales, size):
    found = multi_scale(MeanColour(cell=2), scales).logits(noise(40, 60))
    assert found.shape == (1, 3, *size)
    brightness = multi_scale(MeanColour(cell=2), scales).logits(torch.full((1, 40, 60, 3), 80, dtype=torch.uint8))
    torch.testing.assert_close(brightness, torch.full_like(brightness, 1 / 3).log())


def test_certainty_beyond_float32_stays_finite():
    class Certain(MeanColour):
        def logits(self, prepared):
            return super().logits(prepared) * 1000

    found = multi_scale(Certain()).logits(noise(32, 32))
    assert found.isfinite().all()


def test_every_scale_is_seen_twice_and_said_in_the_name():
    network = MeanColour()
    wrapped = multi_scale(network)
    wrapped.logits(noise(100, 200))
    assert network.seen[::2] == network.seen[1::2]
    assert sorted(network.seen[::2]) == [(50, 100), (75, 150), (100, 200), (125, 250), (150, 300), (175, 350)]
    assert wrapped.name == "mean colour, scales 0.5 0.75 1 1.25 1.5 1.75, with flip"


def test_tiles_lie_inside_each_scale():
    network = MeanColour()
    tiled = multi_scale(TiledNetwork(network, 128), (1.0, 1.5))
    found = tiled.logits(noise(128, 200))
    assert max(max(seen) for seen in network.seen) <= 128
    torch.testing.assert_close(
        found, multi_scale(MeanColour(), (1.0, 1.5)).logits(noise(128, 200)), rtol=1e-4, atol=1e-3
    )


def test_a_graph_of_one_size_refuses_other_scales_in_a_sentence():
    with pytest.raises(UsageError, match="exported for pictures of 640x480 only and cannot see them at other scales"):
        multi_scale(MeanColour(size=(480, 640)))
    assert multi_scale(MeanColour(size=(32, 48)), (1.0,)).logits(noise(32, 48)).shape == (1, 3, 8, 12)


@pytest.mark.parametrize("scales", [(), (0.0,), (1.0, 5.0), (float("nan"),), 1.0, None, "0.5", ("1",)])
def test_scales_out_of_range_or_of_another_kind_are_misuse(scales):
    with pytest.raises(UsageError, match="expected one or more numbers from 0.1 to 4"):
        multi_scale(MeanColour(), scales)


def test_pictures_shrink_smoothly_and_keep_their_colours():
    stripes = torch.zeros(1, 8, 8, 3, dtype=torch.uint8)
    stripes[:, :, ::2] = 200
    half = resized(stripes, 0.5)
    assert half.shape == (1, 4, 4, 3)
    assert (half[:, :, 1:-1].float() - 100).abs().max() <= 13  # skipping every other column would give 0 or 200
    assert torch.equal(resized(stripes, 1.0), stripes)
    assert resized(stripes, 0.1).shape == (1, 1, 1, 3)


def test_a_predictor_sees_scales_and_says_so(tmp_path, tiny_model, tiny_meta):
    from lwrefinenet import weights

    file = tmp_path / "tiny.safetensors"
    weights.save(file, tiny_model, tiny_meta)
    pixels = noise(64, 96)[0].numpy()
    options = {"device": "cpu", "runtime": "pytorch"}
    plain = Predictor.from_weights(file, **options)
    usual = Predictor.from_weights(file, tta=True, **options)
    own = Predictor.from_weights(file, tta=(0.5, 1), tile=128, **options)
    assert plain.views == "single scale, no flip"
    assert usual.network.scales == USUAL_SCALES
    assert usual.views == "scales 0.5 0.75 1 1.25 1.5 1.75, with flip"
    assert own.views == "scales 0.5 1, with flip, in tiles of 128x128"
    expected = multi_scale(plain.network).logits(noise(64, 96))
    torch.testing.assert_close(usual.logits(noise(64, 96)), expected)
    assert not np.array_equal(usual.predict_mask(pixels), plain.predict_mask(pixels))


def test_large_scales_of_a_picture_are_cut_unasked_on_a_cpu(tmp_path, tiny_model, tiny_meta, monkeypatch):
    from lwrefinenet import predict, weights

    monkeypatch.setattr(predict, "USUALLY_WHOLE", 100 * 100)
    monkeypatch.setattr(predict, "USUAL_TILE", 128)
    file = tmp_path / "tiny.safetensors"
    weights.save(file, tiny_model, tiny_meta)
    predictor = Predictor.from_weights(file, device="cpu", runtime="pytorch", tta=(0.5, 2.0))
    assert predictor._network_for(noise(50, 50)) is predictor.network  # 100x100 at scale 2
    assert predictor.views == "scales 0.5 2, with flip"
    assert predictor._network_for(noise(50, 51)) is predictor.large
    assert predictor.views == "scales 0.5 2, with flip, large pictures in tiles of 128x128"
    assert isinstance(predictor.large.network, TiledNetwork)


class Geometry(MeanColour):
    """Two classes, a depth that is as many metres as the picture is high in hundreds of pixels, and a normal half to the right."""

    def logits(self, prepared):
        cells = super().logits(prepared)
        depth = torch.full_like(cells[:, :1], -prepared.shape[2] / 100)
        normal = torch.tensor([3.0, 4.0, 0.0])[None, :, None, None].expand(1, 3, *cells.shape[2:])
        return torch.cat([cells[:, :2], depth, normal], dim=1)


def test_depth_is_averaged_in_metres_of_the_picture_and_normals_turn_round_in_mirror_images():
    channels = Channels(2, ("segmentation", "depth", "normals"))
    found = channels.split(MultiScaleNetwork(Geometry(), channels, (0.5, 1.0)).logits(noise(100, 40)))
    # 0.5 m of a picture half as large is 0.25 m, 1 m of the picture itself is 1 m
    assert found["depth"].flatten().unique().tolist() == pytest.approx([0.625])
    assert found["normals"][0, :, 3, 3].tolist() == pytest.approx([0.0, 0.8, 0.0], abs=1e-6)
    torch.testing.assert_close(found["segmentation"].exp().sum(1), torch.ones(1, 25, 10))
