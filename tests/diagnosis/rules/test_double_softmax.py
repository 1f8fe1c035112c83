"""A softmax too many."""

import pytest
import torch
import torch.nn.functional as F
from patients import Written, data, diagnose, net, the
from torch import nn

import course_utils as cu


def test_the_extra_softmax_shrinks_the_gradient_k_fold_at_uniform_logits():
    model = nn.Sequential(nn.Linear(64, 25), nn.Softmax(dim=1))
    nn.init.zeros_(model[0].weight), nn.init.zeros_(model[0].bias)
    found = the(diagnose(model, data(outputs=25)), "double_softmax")
    assert found.measured == pytest.approx(1 / 25)
    assert found.predicted == pytest.approx(1 / 25)
    floor = float(F.cross_entropy(torch.eye(25), torch.arange(25)))
    assert f"{floor:.3g}" in found.cause


def test_a_sigmoid_before_binary_cross_entropy_with_logits_is_one_too_many():
    model = nn.Sequential(net(3), nn.Linear(10, 1), nn.Sigmoid())
    y = torch.randint(0, 2, (32, 1), generator=cu.seeded(0)).float()
    found = diagnose(model, (data()[0], y), loss=F.binary_cross_entropy_with_logits)
    assert found.kinds == {"double_softmax"}


@pytest.mark.parametrize(
    ("layer", "loss"),
    [
        (nn.Softmax(dim=1), lambda p, y: F.nll_loss(p.log(), y)),
        (nn.LogSoftmax(dim=1), F.cross_entropy),
        (nn.LogSoftmax(dim=1), F.nll_loss),
        (nn.Identity(), nn.CrossEntropyLoss(label_smoothing=0.1)),
    ],
)
def test_a_softmax_that_is_used_once_is_no_finding(layer, loss):
    assert diagnose(nn.Sequential(net(3), layer), loss=loss).healthy


def test_the_remedy_of_a_hidden_softmax_says_where_to_look():
    hidden = Written(lambda self, x: self.body(x).softmax(-1), body=net(3))
    assert "model.forward" in the(diagnose(hidden), "double_softmax").remedy


def test_a_softmax_inside_a_child_is_taken_out_by_its_path():
    parts = nn.ModuleDict({"head": nn.Sequential(net(3), nn.Softmax(-1))})
    model = Written(lambda self, x: self.parts["head"](x), parts=parts)
    remedy = the(diagnose(model), "double_softmax").remedy
    exec(remedy.replace("model.parts.head", "model.parts['head']"), {"model": model, "nn": nn})
    assert diagnose(model).healthy
