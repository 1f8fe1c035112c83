"""Dead units, counted."""

import pytest
import torch
from patients import data, diagnose, images, net, the

import course_utils as cu


@pytest.mark.parametrize("size", [1, 2, 256])
def test_a_symmetric_layer_is_not_dead_whatever_the_batch(size):
    assert diagnose(net(20, 256), data(size)).healthy


def test_a_signal_that_fades_away_is_not_called_dead():
    model = net(20, init="normal", std=1e-4)
    assert diagnose(model).kinds == {"vanishing"}


def test_dead_units_are_counted_per_channel_of_a_convolution():
    model = cu.conv_net(4, 64, generator=cu.seeded(0))
    with torch.no_grad():
        model.conv1.bias[:60] = -100.0
    found = the(diagnose(model, images()), "dead")
    assert found.layers == ("conv1",)
    assert found.measured == 60 / 64


def test_a_narrow_network_dies_by_chance_and_the_finding_gives_the_probability():
    model = cu.mlp(30, 2, inputs=64, generator=cu.seeded(0))
    found = the(diagnose(model, data(1)), "dead")
    expected = cu.theory.dead_network_probability(2, 29)
    assert f"{expected:.2g}" in found.cause
