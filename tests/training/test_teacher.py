"""Distillation: the distance worked out by hand, and a learner that comes nearer to its teacher."""

import math
from dataclasses import replace
from fractions import Fraction

import pytest
import torch

from lwrefinenet import weights
from lwrefinenet.errors import RecipeError
from lwrefinenet.labels import LabelSet, voc_palette
from lwrefinenet.models.zoo import create_model
from lwrefinenet.training.teacher import Teacher, channel_divergence, divergence
from tests.tiny import TINY_META, build_tiny

IMAGES = torch.randint(0, 255, (2, 3, 64, 80), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


def cell(*logits):
    return torch.tensor(logits)[None, :, None, None]


def test_the_distance_of_one_cell_worked_out_by_hand():
    # expected 3/4 and 1/4, learnt 1/2 and 1/2
    found = divergence(cell(0.0, 0.0), cell(math.log(3), 0.0), temperature=1.0)
    assert found.item() == pytest.approx(0.75 * math.log(1.5) + 0.25 * math.log(0.5))


def test_temperature_divides_the_logits_and_its_square_multiplies():
    found = divergence(cell(0.0, 0.0), cell(2 * math.log(3), 0.0), temperature=2.0)
    assert found.item() == pytest.approx(4 * (0.75 * math.log(1.5) + 0.25 * math.log(0.5)))


def test_equal_opinions_have_no_distance_and_sizes_are_brought_together():
    logits = torch.randn(1, 3, 4, 4)
    assert divergence(logits, logits + 5, 1.0).item() == pytest.approx(0, abs=1e-6)
    flat = cell(1.0, 2.0, 3.0)
    assert divergence(flat.expand(1, 3, 5, 7), flat.expand(1, 3, 4, 4), 1.0).item() == pytest.approx(0, abs=1e-6)


def two_cells(first, second):
    """One picture of 2x1 cells with two classes, by how likely the first class is in each."""
    return torch.tensor([[[first], [second]], [[1 - first], [1 - second]]]).log()[None]


def test_where_a_class_is_counts_by_class_worked_out_by_hand():
    # Of itself the first class is expected to have 3/4 and 1/4 in the two cells, the second 1/3 and 2/3; learnt: halves.
    learnt, expected = two_cells(0.5, 0.5), two_cells(0.6, 0.2)
    first = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    second = 1 / 3 * math.log(2 / 3) + 2 / 3 * math.log(4 / 3)  # 0.4 and 0.8
    by_hand = (0.6 * first + 0.8 * second) / 1.4  # by the most that is expected of each in a cell
    assert channel_divergence(learnt, expected, temperature=1.0).item() == pytest.approx(by_hand)
    assert channel_divergence(2 * learnt, 2 * expected, temperature=2.0).item() == pytest.approx(4 * by_hand)


def test_a_missed_class_of_one_cell_counts_for_more_where_it_is_looked_for_than_cell_by_cell():
    rare = torch.full((1, 2, 8, 8), 0.0)
    rare[:, 1] = -4
    rare[:, 1, 0, 0] = 4
    missed = rare.clone()
    missed[:, 1, 0, 0] = -4
    by_cell, by_class = (distance(missed, rare, 1.0).item() for distance in (divergence, channel_divergence))
    assert by_class > 10 * by_cell
    assert channel_divergence(rare + torch.randn(1, 1, 8, 8), rare, 1.0).item() == pytest.approx(0, abs=1e-6)


@pytest.fixture
def teacher_file(tmp_path):
    path = tmp_path / "teacher.safetensors"
    weights.save(path, build_tiny(), TINY_META)
    return str(path)


def teacher_of(*paths, labels=TINY_META.labels, weight=2.0, temperature=1.0, **settings):
    return Teacher(paths, labels, weight=weight, temperature=temperature, device=torch.device("cpu"), **settings)


def test_pictures_that_come_resized_are_seen_as_they_are(tmp_path):
    network = create_model("rf_lw", 3, backbone="test_resnet", decoder_channels=8, input_scale=0.5).eval()
    path = tmp_path / "teacher.safetensors"
    arguments = {"backbone": "test_resnet", "decoder_channels": 8, "input_scale": 0.5}
    weights.save(path, network, replace(TINY_META, network="rf_lw", arguments=arguments))
    network.input_scale = Fraction(1)
    expected = network(TINY_META.preprocess(IMAGES)).detach()
    assert teacher_of(path, resized=True).distance(expected, IMAGES).item() == pytest.approx(0, abs=1e-5)
    assert teacher_of(path).distance(expected, IMAGES).item() > 1e-3


def test_a_network_is_at_no_distance_from_itself_and_a_gradient_leads_others_there(teacher_file):
    teacher = teacher_of(teacher_file)
    own = build_tiny()(TINY_META.preprocess(IMAGES)).detach()
    assert teacher.distance(own, IMAGES).item() == pytest.approx(0, abs=1e-5)
    logits = (own + torch.randn(own.shape, generator=torch.Generator().manual_seed(3))).requires_grad_()
    before = teacher.distance(logits, IMAGES)
    before.backward()
    after = teacher.distance(logits - 100 * logits.grad, IMAGES)
    assert after < before
    assert before.item() == pytest.approx(2 * divergence(logits, own, 1.0).item(), rel=1e-4)
    assert not any(parameter.requires_grad for parameter in teacher.opinions[0].network.parameters())


def test_both_distances_are_weighted_and_added(teacher_file):
    own = build_tiny()(TINY_META.preprocess(IMAGES)).detach()
    logits = own.flip(3)
    alone = teacher_of(teacher_file, temperature=2.0).distance(logits, IMAGES).item()
    found = teacher_of(teacher_file, temperature=2.0, channel_weight=3.0).distance(logits, IMAGES).item()
    by_class = channel_divergence(logits, own, 2.0).item()
    assert by_class > 1e-3
    assert found == pytest.approx(alone + 3 * by_class, rel=1e-4)


def test_under_autocast_a_teacher_computes_in_that_type_throughout(teacher_file):
    teacher = teacher_of(teacher_file)
    own = build_tiny()(TINY_META.preprocess(IMAGES)).detach()
    with torch.autocast("cpu", torch.bfloat16):
        distance = teacher.distance(own, IMAGES)
    (opinion,) = teacher.opinions
    assert {parameter.dtype for parameter in opinion.network.parameters()} == {torch.bfloat16}
    assert 0 < distance < 0.01 * divergence(own.flip(1), own, 1.0)  # what rounding makes of it
    assert teacher.distance(own, IMAGES) > 0  # in float32 again, with what is left of the parameters


def test_of_several_teachers_the_mean_of_their_probabilities_is_learnt(teacher_file, tmp_path):
    torch.manual_seed(9)
    other = create_model("rf_lw", 3, backbone="test_resnet", decoder_channels=8, input_scale=0.5).eval()
    path = tmp_path / "other.safetensors"
    arguments = {"backbone": "test_resnet", "decoder_channels": 8, "input_scale": 0.5}
    weights.save(path, other, replace(TINY_META, network="rf_lw", arguments=arguments))
    prepared = TINY_META.preprocess(IMAGES)
    own = build_tiny()(prepared).detach()
    coarser = torch.nn.functional.interpolate(other(prepared).detach(), size=own.shape[-2:], mode="bilinear")
    mean = 3 * (((own / 3).softmax(1) + (coarser / 3).softmax(1)) / 2).log()
    both = teacher_of(teacher_file, path, temperature=3.0)
    assert both.distance(mean, IMAGES).item() == pytest.approx(0, abs=1e-5)
    assert both.distance(own, IMAGES).item() == pytest.approx(2 * divergence(own, mean, 3.0).item(), rel=1e-3)
    assert both.distance(own, IMAGES).item() > 1e-4


def test_of_a_picture_and_its_mirror_image_the_mean_opinion_is_learnt(teacher_file):
    network = build_tiny()
    upright, mirrored = (network(TINY_META.preprocess(images)).detach() for images in (IMAGES, IMAGES.flip(3)))
    turned_back = mirrored.flip(3)
    mean = 2 * (((upright / 2).softmax(1) + (turned_back / 2).softmax(1)) / 2).log()
    both = teacher_of(teacher_file, temperature=2.0, flip=True)
    assert both.distance(mean, IMAGES).item() == pytest.approx(0, abs=1e-5)
    assert both.distance(upright, IMAGES).item() == pytest.approx(2 * divergence(upright, mean, 2.0).item(), rel=1e-3)
    assert both.distance(upright, IMAGES).item() > 1e-4


def test_a_teacher_of_other_classes_is_refused(teacher_file):
    other = LabelSet("others", ("nothing", "disc", "square"), voc_palette(3))
    with pytest.raises(RecipeError, match=r"teacher.safetensors.*3 classes.*differ in name or order"):
        teacher_of(teacher_file, labels=other)
