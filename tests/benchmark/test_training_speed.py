import json

import pytest
import torch

from lwrefinenet.benchmark import training_steps
from lwrefinenet.benchmark.step_process import step_process
from lwrefinenet.benchmark.training_speed import training_speed
from lwrefinenet.benchmark.training_steps import StepJob, our_step, published_step
from lwrefinenet.errors import RunError

JOB = StepJob("rf_lw_mobilenetv2", 5, (64, 80), 2, "float32", threads=1)


@pytest.fixture
def networks(monkeypatch):
    """The networks that the steps build, to look into after them; and no change to this process's allocator."""
    built = []
    network = StepJob.network

    def remembered(job):
        built.append(network(job))
        return built[-1]

    monkeypatch.setattr(StepJob, "network", remembered)
    monkeypatch.setattr(training_steps, "keep_freed_memory", lambda: True)
    return built


def test_both_ways_compute_the_same_loss_gradients_and_update(networks):
    losses = [way(JOB)() for way in (our_step, published_step)]
    ours, published = networks
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    for (name, mine), (_, theirs) in zip(ours.named_parameters(), published.named_parameters(), strict=True):
        # Where a rounding error moves a maximum to another pixel, its gradient goes there too.
        assert (mine.grad - theirs.grad).norm() < 0.01 * theirs.grad.norm(), name
        torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-6, msg=name)


def test_both_ways_go_on_alike_and_keep_the_statistics_of_their_batch_norms(networks):
    first, second = our_step(JOB), published_step(JOB)
    before = {name: buffer.clone() for name, buffer in networks[0].named_buffers()}
    for _ in range(4):
        losses = first(), second()
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)
    for network in networks:
        assert all(torch.equal(buffer, before[name]) for name, buffer in network.named_buffers())


def test_the_pictures_hold_ignored_pixels_and_every_class():
    _, targets = JOB.pictures()
    assert set(targets.unique().tolist()) == {0, 1, 2, 3, 4, 255}


def test_the_comparison_says_what_was_compared():
    found = training_speed(JOB, rounds=2)
    assert json.loads(json.dumps(found)) == found
    assert set(found["seconds"]) == {"ours", "published"}
    medians = {way: timing["median"] for way, timing in found["seconds"].items()}
    assert found["ratio"] == medians["published"] / medians["ours"]
    assert len(found["seconds"]["ours"]["rounds"]) == len(found["core_seconds"]["ours"]["rounds"]) == 2
    assert found["losses"]["ours"] == pytest.approx(found["losses"]["published"], rel=1e-3)
    assert found["ways"]["ours"].startswith("float32, channels_last")


def test_a_process_that_ends_before_its_time_is_reported():
    with (
        step_process("ours", StepJob("no_network", 5, (64, 64), 1)) as process,
        pytest.raises(RunError, match="measures the training step 'ours' ended with 1"),
    ):
        process.ready()
