import pytest
import torch
import torch.nn.functional as F

from lwrefinenet.models.zoo import create_model
from lwrefinenet.training.learner import Learner
from lwrefinenet.training.losses import SegmentationLoss
from lwrefinenet.training.task_losses import TaskLosses


def test_without_auxiliary_heads_a_learner_is_its_network(tiny_model):
    learner = Learner(tiny_model, auxiliary=False)
    images = torch.randn(1, 3, 64, 64)
    (logits,) = learner(images)[0]["segmentation"]
    assert torch.equal(logits, tiny_model(images))
    assert len(list(learner.parameters())) == len(list(tiny_model.parameters()))


def test_auxiliary_heads_classify_every_coarser_level(tiny_model):
    learner = Learner(tiny_model, auxiliary=True)
    images = torch.randn(1, 3, 64, 64)
    main, *coarser = learner(images)[0]["segmentation"]
    assert torch.equal(main, tiny_model(images))
    assert [tuple(logits.shape) for logits in coarser] == [(1, 3, 2, 2), (1, 3, 4, 4), (1, 3, 8, 8)]
    sum(logits.sum() for logits in coarser).backward()
    assert tiny_model.head.weight.grad is None
    assert all(head.weight.grad.abs().sum() > 0 for head in learner.heads)


def test_a_network_of_a_smaller_input_scale_learns_on_the_smaller_picture():
    network = create_model("rf_lw", 3, backbone="test_resnet", decoder_channels=8, input_scale=0.5).eval()
    images = torch.randn(1, 3, 64, 64)
    (logits,) = Learner(network, auxiliary=False)(images)[0]["segmentation"]
    assert logits.shape == (1, 3, 8, 8)
    torch.testing.assert_close(network(images), logits)


def test_pictures_that_come_resized_are_seen_as_they_are():
    network = create_model("rf_lw", 3, backbone="test_resnet", decoder_channels=8, input_scale=0.5).eval()
    images = torch.randn(1, 3, 64, 64)
    (expected,) = Learner(network, auxiliary=False)(images)[0]["segmentation"]
    smaller = F.interpolate(images, size=(32, 32), mode="bilinear")
    (logits,) = Learner(network, auxiliary=False, resized=True)(smaller)[0]["segmentation"]
    torch.testing.assert_close(logits, expected)


def test_resized_pictures_of_awkward_sizes_are_learnt_on_as_they_will_be_seen():
    arguments = {"backbone": "tf_mobilenetv3_small_minimal_100", "decoder_channels": 8}
    network = create_model("rf_lw", 3, **arguments, input_scale=0.5).eval()
    images = torch.randn(1, 3, 60, 70)
    (logits,) = Learner(network, auxiliary=False, resized=True)(images)[0]["segmentation"]
    seen = F.interpolate(images, size=(64, 64), mode="bilinear")
    torch.testing.assert_close(logits, network.head(network.decoder(network.backbone(seen))))


@pytest.mark.parametrize(("resized", "scale"), [(True, 1.0), (False, 0.5)])
def test_depth_is_learnt_as_that_of_the_crop_where_it_is_seen_larger(resized, scale):
    arguments = {"backbone": "tf_mobilenetv3_small_minimal_100", "decoder_channels": 8}
    network = create_model("mt_lw", 3, **arguments, input_scale=0.5, tasks=("segmentation", "depth")).eval()
    images = torch.randn(1, 3, 60, 70)
    (depth,) = Learner(network, auxiliary=False, resized=resized)(images)[0]["depth"]
    (height, width) = (64, 64) if resized else (32, 32)
    seen = network.decoder(network.backbone(F.interpolate(images, size=(height, width), mode="bilinear")))
    torch.testing.assert_close(depth, network.heads["depth"](seen) * (height / 60 + width / 70) / 2 / scale)


def test_every_head_of_several_tasks_learns_and_so_do_their_weights():
    tasks = ("segmentation", "depth", "normals")
    network = create_model("mt_lw", 3, backbone="test_resnet", decoder_channels=8, tasks=tasks)
    learner = Learner(network, auxiliary=True, uncertainty=True)
    images = torch.randn(2, 3, 64, 64)
    maps, log_variances = learner(images)
    assert {task: len(found) for task, found in maps.items()} == {"segmentation": 4, "depth": 1, "normals": 1}
    for task, expected in network(images).items():
        torch.testing.assert_close(maps[task][0], expected)
    targets = {
        "segmentation": torch.ones(2, 64, 64, dtype=torch.long),
        "depth": torch.full((2, 64, 64), 2.0),
        "normals": torch.tensor([0.0, 1.0, 0.0])[None, :, None, None].expand(2, 3, 64, 64),
    }
    losses = TaskLosses(SegmentationLoss(255, auxiliary_weight=0.1), dict.fromkeys(tasks, 1.0))
    losses(maps, targets, log_variances).sum().backward()
    for task in tasks:
        assert all(parameter.grad.abs().sum() > 0 for parameter in network.heads[task].parameters()), task
    assert (learner.log_variances.grad != 0).all()
    besides = {id(parameter) for parameter in learner.beside_the_network()}
    assert id(learner.log_variances) in besides
    assert not besides & {id(parameter) for parameter in network.parameters()}
