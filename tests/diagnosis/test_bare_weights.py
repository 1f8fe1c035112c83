"""Weights in a model's own code."""

import warnings

import pytest
import torch
import torch.nn.functional as F
from patients import Written, data, diagnose, factor_by_autograd, heal, the
from torch import nn

import course_utils as cu


class Products(nn.Module):
    def __init__(self, gain, activation=torch.relu, depth=16, width=96):
        super().__init__()
        g = cu.seeded(9)
        self.weights = nn.ParameterList(
            nn.Parameter(gain * torch.randn(n, m, generator=g) / n**0.5)
            for n, m in [(64, width), *[(width, width)] * depth, (width, 10)]
        )
        self.activation = activation

    def forward(self, x):
        return self.hidden(x)[-1] @ self.weights[-1]

    def hidden(self, x):
        states = []
        for weight in self.weights[:-1]:
            x = self.activation(x @ weight)
            states.append(x)
        return states


@pytest.mark.parametrize(("gain", "kind"), [(0.6, "vanishing"), (3.0, "exploding")])
def test_products_by_bare_weights_are_layers(gain, kind):
    model, (x, y) = Products(gain), data()
    hidden = model.hidden(x)
    loss = F.cross_entropy(hidden[-1] @ model.weights[-1], y)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # that it has no layer to record is no news
        found = the(diagnose(model), kind)
    assert found.measured == pytest.approx(factor_by_autograd(loss, hidden), rel=1e-4)
    assert found.predicted == pytest.approx(gain / 2**0.5, rel=0.03)
    assert diagnose(heal(model, data(), kind)).healthy


def test_a_leaf_with_one_weight_is_a_layer_and_one_with_many_is_looked_into():
    def weight(generator):
        return nn.Parameter(0.4 * torch.randn(64, 64, generator=generator) / 8)

    def one():
        return Written(lambda self, x: torch.tanh(F.linear(x, self.w)), w=weight(cu.seeded(1)))

    def two():
        g = cu.seeded(2)
        forward = lambda self, x: torch.tanh(torch.tanh(x @ self.a) @ self.b)  # noqa: E731
        return Written(forward, a=weight(g), b=weight(g))

    single = nn.Sequential(*(one() for _ in range(12)), nn.Linear(64, 10))
    paired = nn.Sequential(*(two() for _ in range(6)), nn.Linear(64, 10))
    for model, name in ((single, "3"), (paired, "3.b")):
        found = the(diagnose(model), "vanishing")
        assert name in found.layers and len(found.layers) == 13
        assert found.measured == pytest.approx(0.4, rel=0.05)


def test_a_parameter_that_is_not_used_is_named_and_nothing_is_frozen_by_the_remedy():
    model = Products(2**0.5, depth=3)
    model.spare = nn.Parameter(torch.zeros(3))
    found = the(diagnose(model), "not_connected")
    assert found.layers == ("(model)",) and "1 of" in found.cause
    exec(found.remedy, {"model": model})
    assert all(p.requires_grad for p in model.parameters())
