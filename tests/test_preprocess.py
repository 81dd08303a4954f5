"""Normalisation, against the arithmetic done another way."""

import numpy as np
import pytest
import torch

from lwrefinenet.preprocess import IMAGENET_MEAN, IMAGENET_STD, Preprocess


def test_equals_the_formula_in_double_precision():
    images = np.random.default_rng(0).integers(0, 256, (2, 3, 5, 7), dtype=np.uint8)
    mean, std = (np.array(values).reshape(1, 3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD))
    expected = torch.from_numpy((images / 255 - mean) / std).float()
    torch.testing.assert_close(Preprocess()(torch.from_numpy(images)), expected, rtol=0, atol=1e-6)


def test_channels_are_red_green_blue():
    red = torch.tensor([255, 0, 0], dtype=torch.uint8).view(1, 3, 1, 1)
    assert Preprocess()(red).flatten().tolist() == pytest.approx([2.2489, -2.0357, -1.8044], abs=1e-4)


def test_half_and_half_maps_to_minus_one_and_one():
    extremes = torch.tensor([0, 255], dtype=torch.uint8).view(1, 1, 1, 2).expand(1, 3, 1, 2)
    normalised = Preprocess(mean=(0.5,) * 3, std=(0.5,) * 3)(extremes)
    assert normalised.aminmax().min == -1.0
    assert normalised.aminmax().max == 1.0


def test_memory_format_is_kept():
    images = torch.zeros(2, 3, 4, 5, dtype=torch.uint8).to(memory_format=torch.channels_last)
    normalised = Preprocess()(images)
    assert normalised.is_contiguous(memory_format=torch.channels_last)
    assert normalised.dtype == torch.float32


def test_pictures_given_in_are_not_changed():
    images = torch.full((1, 3, 2, 2), 9, dtype=torch.uint8)
    Preprocess()(images)
    assert (images == 9).all()


def test_dictionary_and_back():
    preprocess = Preprocess(mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6))
    assert Preprocess.from_dict(preprocess.to_dict()) == preprocess


def test_dictionary_without_std_or_with_two_numbers_is_refused():
    with pytest.raises(KeyError, match="std"):
        Preprocess.from_dict({"mean": [0, 0, 0]})
    with pytest.raises(ValueError, match="three numbers"):
        Preprocess.from_dict({"mean": [0, 0], "std": [1, 1, 1]})
