import torch
import torch.nn.functional as F

from lwrefinenet.models.zoo import create_model
from lwrefinenet.training.learner import Learner


def test_without_auxiliary_heads_a_learner_is_its_network(tiny_model):
    learner = Learner(tiny_model, auxiliary=False)
    images = torch.randn(1, 3, 64, 64)
    (logits,) = learner(images)
    assert torch.equal(logits, tiny_model(images))
    assert len(list(learner.parameters())) == len(list(tiny_model.parameters()))


def test_auxiliary_heads_classify_every_coarser_level(tiny_model):
    learner = Learner(tiny_model, auxiliary=True)
    images = torch.randn(1, 3, 64, 64)
    main, *coarser = learner(images)
    assert torch.equal(main, tiny_model(images))
    assert [tuple(logits.shape) for logits in coarser] == [(1, 3, 2, 2), (1, 3, 4, 4), (1, 3, 8, 8)]
    sum(logits.sum() for logits in coarser).backward()
    assert tiny_model.head.weight.grad is None
    assert all(head.weight.grad.abs().sum() > 0 for head in learner.heads)


def test_a_network_of_a_smaller_input_scale_learns_on_the_smaller_picture():
    network = create_model("rf_lw", 3, backbone="test_resnet", decoder_channels=8, input_scale=0.5).eval()
    images = torch.randn(1, 3, 64, 64)
    (logits,) = Learner(network, auxiliary=False)(images)
    assert logits.shape == (1, 3, 8, 8)
    torch.testing.assert_close(network(images), F.interpolate(logits, size=(16, 16), mode="bilinear"))
