"""Outputs that are the same for every input."""

from patients import diagnose, net
from torch import nn


def test_equal_weights_everywhere_give_a_constant_output():
    model = net(4, activation="tanh", init="zeros")
    assert diagnose(model).kinds == {"constant_output"}


def test_a_last_layer_that_starts_at_zero_is_a_note_and_no_finding():
    model = net(5)
    nn.init.zeros_(model.linear5.weight)
    found = diagnose(model)
    assert found.healthy and any("starts at zero" in note for note in found.notes)
