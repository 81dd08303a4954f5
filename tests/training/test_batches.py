import multiprocessing
import os
import re
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from lwrefinenet.data.cache import kept_in_memory
from lwrefinenet.data.folder import folder_dataset
from lwrefinenet.data.mixing import Mixing
from lwrefinenet.data.transforms import TrainTransform
from lwrefinenet.errors import DataError
from lwrefinenet.training.batches import AugmentedSamples, steps_per_epoch
from lwrefinenet.training.batches import batches as stream
from lwrefinenet.training.run_data import holders_of_classes
from tests.shapes import write_shapes

TRANSFORM = TrainTransform((32, 32), (0.5, 2.0), 0.5, 0.4, (0.0, 0.0, 0.0), 255)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return folder_dataset(write_shapes(tmp_path_factory.mktemp("shapes"), train=7), "train")


def batches(dataset, *, seed=0, epoch=0, epochs=1, **settings):
    samples = AugmentedSamples(dataset, TRANSFORM, seed=seed)
    return list(stream(samples, range(epoch, epoch + epochs), batch_size=2, **{"workers": 0, **settings}))


def same(left, right):
    return all(
        a.indices == b.indices
        and torch.equal(a.images, b.images)
        and torch.equal(a.targets["segmentation"], b.targets["segmentation"])
        for a, b in zip(left, right, strict=True)
    )


def test_batches_are_the_same_whatever_the_generator_did_before(dataset):
    first = batches(dataset)
    torch.rand(17)
    assert same(first, batches(dataset))


def test_batches_are_the_same_with_workers(dataset):
    assert same(batches(dataset), batches(dataset, workers=2))


def test_an_epoch_entered_in_the_middle_gives_the_rest_of_it(dataset):
    assert same(batches(dataset)[1:], batches(dataset, first_step=1))


def test_epochs_and_seeds_differ_in_order_and_augmentation(dataset):
    assert not same(batches(dataset), batches(dataset, epoch=1))
    assert not same(batches(dataset), batches(dataset, seed=1))


def test_an_epoch_shows_no_picture_twice_and_only_whole_batches(dataset):
    indices = [index for batch in batches(dataset) for index in batch.indices]
    assert len(indices) == len(set(indices)) == 6


def test_drawing_batches_leaves_the_training_generator_alone(dataset):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    batches(dataset, workers=1)
    assert torch.equal(torch.rand(3), expected)


def test_fewer_pictures_than_a_batch_is_refused_with_the_cure():
    with pytest.raises(DataError, match="3 pictures, fewer than one batch of 8; set batch_size lower"):
        steps_per_epoch(3, 8)


def test_one_stream_holds_the_epochs_one_after_the_other(dataset):
    assert same(batches(dataset, epochs=2, first_step=1), batches(dataset, first_step=1) + batches(dataset, epoch=1))


def test_the_shares_of_two_devices_make_up_the_batches_of_one(dataset):
    first, second = (batches(dataset, epochs=2, share=(number, 2)) for number in (0, 1))
    for whole, left, right in zip(batches(dataset, epochs=2), first, second, strict=True):
        assert torch.equal(whole.images, torch.cat([left.images, right.images]))
        assert whole.indices == left.indices + right.indices


def test_late_epochs_have_their_own_transform(dataset):
    late = replace(TRANSFORM, crop_size=(48, 64))
    samples = AugmentedSamples(dataset, TRANSFORM, seed=0, late=late, late_from=1)
    sizes = [tuple(batch.images.shape[-2:]) for batch in stream(samples, range(2), batch_size=6, workers=1)]
    assert sizes == [(32, 32), (48, 64)]


@pytest.mark.parametrize("mixing", [Mixing(class_mix=1.0), Mixing(cut_mix=1.0)], ids=str)
def test_mixed_crops_hold_two_pictures_and_depend_on_seed_epoch_and_place_alone(dataset, mixing):
    plain = AugmentedSamples(dataset, TRANSFORM, seed=0)
    mixed = replace(plain, mixing=mixing)
    settings = {"batch_size": 2, "workers": 0}
    whole = list(stream(mixed, range(2), **settings))
    assert same(whole[1:], list(stream(mixed, range(2), first_step=1, **settings)))
    assert not same(whole, list(stream(plain, range(2), **settings)))
    image, targets, *_ = mixed[0, 3]
    alone, targets_alone, *_ = plain[0, 3]
    kept = (image == alone).all(dim=0)
    assert 0.02 < kept.float().mean() < 0.98
    assert torch.equal(targets["segmentation"][kept], targets_alone["segmentation"][kept])


def test_a_class_of_one_picture_is_laid_over_others_as_often_as_common_ones(dataset):
    rare = 2  # as if only the second picture held it
    holders = tuple((1,) if index == rare else tuple(range(7)) for index in range(len(dataset.labels)))
    assert (dataset.labelled(1, ()).mask == rare).any()
    plain = AugmentedSamples(dataset, replace(TRANSFORM, scale_range=(2.0, 2.0), color_jitter=0.0), seed=0)
    mixed = replace(plain, mixing=Mixing(class_mix=1.0, holders=holders))
    places = [(epoch, 3) for epoch in range(60)]
    laid = [mixed[place][1]["segmentation"] != plain[place][1]["segmentation"] for place in places]
    changed = [mixed[place][1]["segmentation"][inside] for place, inside in zip(places, laid, strict=True)]
    found = sum(bool((classes == rare).any()) for classes in changed)
    assert found > 60 / len(dataset.labels) / 2  # crops are a small part of a picture: by chance it is in few


def test_a_crop_that_is_drawn_for_a_class_always_brings_it(dataset):
    plain = AugmentedSamples(dataset, replace(TRANSFORM, scale_range=(2.0, 2.0), color_jitter=0.0), seed=0)
    mixed = replace(plain, mixing=Mixing(class_mix=1.0, holders=((), (), (1,))))
    alone, brought = (
        [bool((samples[epoch, 3][1]["segmentation"] == 2).any()) for epoch in range(60)] for samples in (plain, mixed)
    )
    assert all(brought)
    assert sum(alone) < 40


def test_the_holders_of_a_class_are_the_places_of_the_pictures_whose_masks_hold_it(tmp_path):
    pictures = folder_dataset(write_shapes(tmp_path / "shapes", train=3), "train")
    mask = pictures.samples[1].mask
    Image.fromarray(np.full_like(np.array(Image.open(mask)), 2)).save(mask)
    assert holders_of_classes(pictures) == ((0, 2), (0, 2), (0, 1, 2))
    assert holders_of_classes(kept_in_memory(pictures)) == ((0, 2), (0, 2), (0, 1, 2))


def test_what_is_hidden_depends_on_seed_epoch_and_place_alone_and_leaves_the_pictures_as_they_are(dataset):
    large = replace(TRANSFORM, crop_size=(256, 320))
    plain = AugmentedSamples(dataset, large, seed=0)
    hiding = replace(plain, hiding=0.8)
    settings = {"batch_size": 2, "workers": 0}
    whole, shown = (list(stream(samples, range(2), **settings)) for samples in (hiding, plain))
    assert same(whole, shown)
    assert all(batch.hidden is None for batch in shown)
    hidden = torch.stack([batch.hidden for batch in whole])
    assert hidden.shape[1:] == (2, 4, 5)
    assert 0.2 < hidden.float().mean() < 0.6
    later = [batch.hidden for batch in stream(hiding, range(2), first_step=1, **settings)]
    assert torch.equal(hidden[1:], torch.stack(later))
    assert not torch.equal(hidden[0], hidden[3])  # the same step of another epoch


def signal_to_the_workers(dataset, number):
    """The batches that come after every worker got a signal."""
    samples = AugmentedSamples(dataset, TRANSFORM, seed=0)
    flowing = stream(samples, range(40), batch_size=2, workers=1)
    next(flowing)
    for worker in multiprocessing.active_children():
        os.kill(worker.pid, number)
    return list(flowing)


def test_workers_outlive_the_signals_that_stop_a_run(dataset):
    """torchrun sends SIGTERM to the process group of each of its processes, workers included."""
    assert len(signal_to_the_workers(dataset, signal.SIGTERM)) == 40 * 3 - 1


DYING = """
import os, sys
from tests.training.test_batches import folder_dataset, signal, signal_to_the_workers
from lwrefinenet.errors import RunError
from lwrefinenet.training.batches import dead_workers_named
try:
    with dead_workers_named():
        signal_to_the_workers(folder_dataset(__import__("pathlib").Path(sys.argv[1]), "train"), signal.SIGKILL)
except RunError as error:
    print(error, flush=True)
os._exit(0)
"""


def test_a_worker_that_dies_is_said_in_one_sentence(tmp_path):
    """In a process of its own: torch raises wherever that is when it learns of the death, a second time in the midst of pytest."""
    write_shapes(tmp_path, train=7)
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", DYING, tmp_path], cwd=root, capture_output=True, text=True, check=False
    )
    expected = r"a process that loads pictures died .*--resume --set workers=0, or give it more\."
    assert re.fullmatch(expected, done.stdout.strip()), done.stdout + done.stderr


def test_loading_pictures_leaves_the_generator_of_a_gpu_alone(dataset, monkeypatch):
    """There the network draws its own numbers, and goes on with them whoever loads the pictures."""
    seeded = []
    monkeypatch.setattr(torch.cuda, "manual_seed_all", seeded.append)
    samples = AugmentedSamples(dataset, TRANSFORM, seed=0)
    before = torch.get_rng_state()
    image = samples[0, 1][0]
    assert torch.equal(samples[0, 1][0], image) and torch.equal(torch.get_rng_state(), before) and not seeded
