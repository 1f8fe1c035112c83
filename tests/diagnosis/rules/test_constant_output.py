"""Outputs that are the same for every input."""

import pytest
from patients import diagnose, net, the
from torch import nn


class OverTheBatch(nn.Module):
    """A mean over the samples where one over the features was meant."""

    def __init__(self, dim):
        super().__init__()
        self.body, self.head, self.dim = net(2, outputs=64), nn.Linear(64, 10), dim

    def forward(self, x):
        h = self.body(x)
        mean = h.mean(self.dim, keepdim=True)
        return self.head(h - mean) if self.dim else self.head(mean.expand_as(h))


@pytest.mark.parametrize("dim", [0, 1])
def test_a_mean_over_the_samples_gives_every_input_the_same_answer(dim):
    found = diagnose(OverTheBatch(dim))
    assert found.kinds == ({"healthy"} if dim else {"constant_output"})
    if not dim:
        assert "Nothing of the input reaches the output" in the(found, "constant_output").cause


def test_two_layers_of_zeros_that_wait_for_each_other():
    model = net(4, activation="tanh")
    names = [n for n, p in model.named_parameters() if p.dim() > 1][-2:]
    for name in names:
        nn.init.zeros_(model.get_parameter(name))
    found = diagnose(model)
    assert found.kinds <= {"constant_output", "zero_gradient"} and len(found.findings) == 1
    assert not found.findings[0].remedy_runs or names[0] in found.findings[0].remedy


def test_a_last_layer_that_starts_at_zero_is_a_note_and_no_finding():
    model = net(5)
    nn.init.zeros_(model.linear5.weight)
    found = diagnose(model)
    assert found.healthy and any("starts at zero" in note for note in found.notes)
