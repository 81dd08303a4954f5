import copy
import os
import subprocess
import sys
import weakref
from contextlib import contextmanager
from types import SimpleNamespace

import pytest
import torch

from lwrefinenet.device import ran_out_of_memory
from lwrefinenet.errors import RunError
from lwrefinenet.provenance import computer
from lwrefinenet.training import step as step_module
from lwrefinenet.training.depthwise import FastDepthwiseGradients
from lwrefinenet.training.learner import Learner
from lwrefinenet.training.losses import SegmentationLoss
from lwrefinenet.training.optim import freeze_batch_norm
from lwrefinenet.training.processes import Processes
from lwrefinenet.training.step import OptimizerStep, fitting_batch
from lwrefinenet.training.task_losses import TaskLosses

IMAGES = torch.randint(0, 255, (4, 3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
TARGETS = torch.randint(0, 3, (4, 64, 64), generator=torch.Generator().manual_seed(2))
TARGETS[0, :50] = 255  # so that the parts do not weigh alike
TARGETS = {"segmentation": TARGETS}


def step_of(model, device_batch, *, say=lambda sentence: None, clip=0.0, wrap=lambda learner: learner):
    learner = Learner(copy.deepcopy(model), auxiliary=False).train()
    freeze_batch_norm(learner)
    optimizer = torch.optim.SGD(learner.parameters(), lr=0.1)
    processes = Processes.start("float32", torch.device("cpu"))
    classes = SegmentationLoss(ignore_index=255, class_weights=torch.tensor([0.5, 1.0, 3.0]))
    loss = TaskLosses(classes, {"segmentation": 1.0})
    prepared = processes.prepared(optimizer)
    return OptimizerStep(
        processes, wrap(learner), loss, prepared, lambda x: x.float() / 255, device_batch, clip, say
    ), learner


def parameters(learner):
    return torch.cat([parameter.detach().flatten() for parameter in learner.parameters()])


class SmallMemory(torch.nn.Module):
    """A learner on a device that holds only so many pictures."""

    def __init__(self, learner, limit):
        super().__init__()
        self.learner, self.limit = learner, limit

    def forward(self, images):
        if len(images) > self.limit:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return self.learner(images)


def test_a_step_in_parts_is_the_step_of_the_whole_batch(tiny_model):
    whole, learner = step_of(tiny_model, 4)
    parts, other = step_of(tiny_model, 1)
    before = parameters(learner)
    assert parts(IMAGES, TARGETS) == pytest.approx(whole(IMAGES, TARGETS), rel=1e-6)
    assert not torch.equal(parameters(learner), before)
    assert torch.allclose(parameters(learner), parameters(other), atol=1e-6)


class Witness:
    """A teacher that keeps what it is shown and asks for nothing."""

    def __init__(self):
        self.shown = []

    def distance(self, logits, images):
        self.shown.append(images.clone())
        return 0 * logits.sum()


def test_the_learner_does_not_see_what_is_hidden_and_its_teacher_does(tiny_model):
    seen = []

    class Watched(torch.nn.Module):
        def __init__(self, learner):
            super().__init__()
            self.learner = learner

        def forward(self, images):
            seen.append(images.detach().clone())
            return self.learner(images)

    hidden = torch.tensor([True, False, True, False])[:, None, None]
    step, learner = step_of(tiny_model, 3, wrap=Watched)
    step.teacher = Witness()
    step(IMAGES, TARGETS, hidden)
    assert [len(images) for images in seen] == [3, 1]  # hidden goes by parts, as pictures do
    assert torch.equal(torch.cat(step.teacher.shown), IMAGES)
    seen = torch.cat(seen)
    assert not seen[[0, 2]].any()
    assert torch.equal(seen[[1, 3]], IMAGES[[1, 3]].float() / 255)
    unhidden, other = step_of(tiny_model, 3)
    unhidden(IMAGES, TARGETS)
    assert not torch.equal(parameters(learner), parameters(other))  # what is hidden is still asked for


def test_cudnn_may_time_its_ways_for_all_of_a_step(tiny_model, monkeypatch):
    during = []

    @contextmanager
    def watched(device):
        during.append(device.type)
        yield
        during.append("over")

    monkeypatch.setattr(step_module, "timed_convolutions", watched)
    step, _ = step_of(tiny_model, 4, wrap=lambda learner: SmallMemory(learner, 2))
    step(IMAGES, TARGETS)
    assert during == ["cpu", "cpu", "over"]  # once in vain


def test_a_step_in_bfloat16_takes_the_faster_depthwise_gradients(tiny_model, monkeypatch):
    calls = []
    handled = FastDepthwiseGradients.__torch_function__

    def watched(self, func, types, args=(), kwargs=None):
        calls.append(torch.is_autocast_enabled("cpu"))
        return handled(self, func, types, args, kwargs)

    monkeypatch.setattr(FastDepthwiseGradients, "__torch_function__", watched)
    step, _ = step_of(tiny_model, 4)
    step.processes = Processes.start("bfloat16", torch.device("cpu"))
    step(IMAGES, TARGETS)
    assert any(calls)


def test_parts_that_do_not_divide_evenly_are_the_same_step(tiny_model):
    whole, learner = step_of(tiny_model, 4, clip=0.5)
    parts, other = step_of(tiny_model, 3, clip=0.5)
    assert parts(IMAGES, TARGETS) == pytest.approx(whole(IMAGES, TARGETS), rel=1e-6)
    assert torch.allclose(parameters(learner), parameters(other), atol=1e-6)


def test_out_of_memory_halves_the_parts_and_keeps_the_step(tiny_model):
    sentences = []
    small, other = step_of(tiny_model, 4, say=sentences.append, wrap=lambda learner: SmallMemory(learner, 1))
    whole, learner = step_of(tiny_model, 4)
    assert small(IMAGES, TARGETS) == pytest.approx(whole(IMAGES, TARGETS), rel=1e-6)
    assert small.device_batch == 1
    assert [sentence.split(":")[1] for sentence in sentences] == [
        " from here on 2 pictures at once, with more parts per step; the batch stays the same.",
        " from here on 1 pictures at once, with more parts per step; the batch stays the same.",
    ]
    assert torch.allclose(parameters(learner), parameters(other), atol=1e-6)


def test_what_a_failed_attempt_held_is_given_back_when_nothing_refers_to_it(tiny_model, monkeypatch):
    held, alive = [], []

    class Attempt(SmallMemory):
        def forward(self, images):
            activations = self.learner(images)
            if len(images) > self.limit:
                held.append(weakref.ref(activations[0]["segmentation"][0]))
                raise torch.OutOfMemoryError("CUDA out of memory.")
            return activations

    monkeypatch.setattr(step_module, "release_memory", lambda: alive.append(held[-1]() is not None))
    small, _ = step_of(tiny_model, 4, wrap=lambda learner: Attempt(learner, 2))
    small(IMAGES, TARGETS)
    assert alive == [False]


@pytest.mark.parametrize(
    "words",
    [
        "[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes.",
        "DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes.",
        "MPS backend out of memory (MPS allocated: 9 GB).",
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
    ],
)
def test_a_lack_of_memory_is_known_by_its_words_on_every_system(words):
    assert ran_out_of_memory(RuntimeError(words))


def test_not_even_one_picture_in_memory_is_said(tiny_model):
    small, _ = step_of(tiny_model, 2, wrap=lambda learner: SmallMemory(learner, 0))
    with pytest.raises(RunError, match="not even one picture at a time fits the memory; set crop_size smaller"):
        small(IMAGES, TARGETS)


def test_other_errors_are_not_taken_for_a_lack_of_memory(tiny_model):
    step, _ = step_of(tiny_model, 4, wrap=lambda learner: torch.nn.Linear(1, 1))
    with pytest.raises(RuntimeError, match="cannot be multiplied"):
        step(IMAGES, TARGETS)
    assert step.device_batch == 4


def test_a_loss_that_is_no_number_moves_nothing(tiny_model):
    step, learner = step_of(tiny_model, 4)
    with torch.no_grad():
        learner.network.head.bias.fill_(float("nan"))
    before = parameters(learner)
    assert step(IMAGES, TARGETS) != step(IMAGES, TARGETS)  # nan
    assert torch.equal(parameters(learner).nan_to_num(7), before.nan_to_num(7))


@pytest.mark.parametrize(("limit", "expected"), [(9, 8), (4, 4), (3, 2), (1, 1)])
def test_the_batch_that_fits_is_found_by_halving(limit, expected):
    def attempt(size):
        if size > limit:
            raise torch.OutOfMemoryError("CUDA out of memory.")

    assert fitting_batch(8, attempt) == expected


def test_no_batch_that_fits_is_said():
    def attempt(size):
        raise torch.OutOfMemoryError("CUDA out of memory.")

    with pytest.raises(RunError, match="not even one picture"):
        fitting_batch(8, attempt)


def test_a_number_that_accelerate_config_left_divides_no_gradient(tiny_model, monkeypatch):
    plain, learner = step_of(tiny_model, 4)
    plain(IMAGES, TARGETS)
    monkeypatch.setenv("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "4")
    configured, other = step_of(tiny_model, 4)
    configured(IMAGES, TARGETS)
    assert torch.equal(parameters(learner), parameters(other))


def test_processes_alone_exchange_nothing():
    processes = Processes.start("float32", torch.device("cpu"))
    assert (processes.count, processes.number, processes.is_main) == (1, 0, True)
    assert processes.gather("a") == ["a"]
    assert processes.sum(torch.tensor(3.0)).item() == 3.0
    assert "RANK" not in os.environ


def test_a_log_counts_the_processes_that_computed():
    one, two = (Processes(SimpleNamespace(num_processes=count), torch.device("cpu")) for count in (1, 2))
    assert one.computers == computer(torch.device("cpu"))
    assert two.computers == f"2 x {one.computers}"


@pytest.mark.parametrize(
    "words",
    ["[gloo/transport/tcp/pair.cc:561] Connection closed by peer [127.0.0.1]:1", "NCCL communicator was aborted"],
)
def test_a_process_that_lost_another_does_not_call_it_a_fault_of_ours(words):
    two = Processes(SimpleNamespace(num_processes=2, process_index=1), torch.device("cpu"))
    with pytest.raises(RunError, match="process 1 of 2 lost another one, which says why"), two.loss_of_others_named():
        raise RuntimeError(words)


TWO_PROCESSES = """
import torch
from lwrefinenet.training.processes import Processes

processes = Processes.start("float32", torch.device("cpu"))
norm = torch.nn.BatchNorm2d(2)
norm.running_mean.fill_(processes.number + 5)
processes.take_buffers_of_main(norm)
found = processes.gather((processes.number, norm.running_mean.tolist()))
if processes.is_main:
    print(processes.count, found, processes.from_main("a"))
else:
    processes.from_main("b")
"""


def test_validation_sees_the_same_statistics_in_every_process(tmp_path):
    script = tmp_path / "two.py"
    script.write_text(TWO_PROCESSES)
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run([sys.executable, *launcher, script], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "2 [(0, [5.0, 5.0]), (1, [5.0, 5.0])] a", done.stderr


class Unlike:
    """A teacher whose distance is the mean of the logits' squares, whatever the labels."""

    def distance(self, logits, images):
        return logits.square().mean()


def test_a_teacher_counts_by_pictures_whatever_their_labels(tiny_model):
    whole, learner = step_of(tiny_model, 4)
    parts, other = step_of(tiny_model, 1)
    whole.teacher = parts.teacher = Unlike()
    assert parts(IMAGES, TARGETS) == pytest.approx(whole(IMAGES, TARGETS), rel=1e-5)
    assert torch.allclose(parameters(learner), parameters(other), atol=1e-5)
    unlabelled = {"segmentation": torch.full_like(TARGETS["segmentation"], 255)}
    assert whole(IMAGES, unlabelled) > 0
