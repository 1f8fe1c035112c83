"""Saturated units, counted, and whose fault it is."""

import pytest
import torch
import torch.nn.functional as F
from patients import data, diagnose, heal, images, net, the
from torch import nn


def test_a_saturated_layer_is_named_with_the_share_counted_by_hand():
    model = net(4, activation="tanh", init="xavier")
    with torch.no_grad():
        model.linear2.bias.fill_(3.0)
    x, y = data()
    h = model[:4](x)
    share = float((1 - h.double().square() < 0.05).double().mean())
    found = the(diagnose(model, (x, y)), "saturated")
    assert found.layers == ("linear2",)
    assert found.measured == pytest.approx(share, abs=1e-3)


def test_a_sigmoid_at_the_output_may_saturate():
    model = nn.Sequential(nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 1), nn.Sigmoid())
    nn.init.constant_(model[2].bias, 20.0)
    target = torch.ones(32, 1)
    found = diagnose(model, (data()[0], target), loss=F.binary_cross_entropy)
    assert "saturated" not in found.kinds


@pytest.mark.parametrize("size", [50.0, 1e4])
def test_inputs_far_too_large_are_blamed_before_the_weights(size):
    x, y = data()
    model = net(3, activation="tanh", init="xavier")
    batch = (size * x + size, y)
    found = the(diagnose(model, batch), "saturated")
    rms = float(batch[0].square().mean().sqrt())
    assert f"root mean square of {rms:.3g}" in found.cause
    healed = heal(model, batch, "saturated")
    assert healed[-1] is model and diagnose(healed, batch).healthy
    pictures = images()[0] * size, images()[1]
    conv = nn.Sequential(nn.Conv2d(1, 8, 3), nn.Tanh(), nn.Flatten(), nn.Linear(288, 10))
    assert "saturated" not in diagnose(heal(conv, pictures, "saturated"), pictures).kinds


def test_weights_far_too_large_are_blamed_at_inputs_of_one():
    model = net(3, activation="tanh", init="normal", std=2.0)
    assert "Its weights have" in the(diagnose(model), "saturated").cause
