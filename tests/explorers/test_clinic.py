"""The grid of notebook 12's explorer: sizes, figures and verdicts against networks of modules."""

import numpy as np
import pytest
import torch
from explorer_readings import readouts
from torch import nn

import course_utils as cu
from course_utils.explorers import clinic

PHI = {"relu": nn.ReLU, "tanh": nn.Tanh, "sigmoid": nn.Sigmoid}


class Layer(nn.Module):
    """z + W φ(norm(z)), or without one of the two, from PyTorch's modules."""

    def __init__(self, activation, wiring, weight):
        super().__init__()
        n = len(weight)
        self.norm = nn.BatchNorm1d(n, dtype=torch.float64) if "batch norm" in wiring else None
        self.phi, self.skip = PHI[activation](), "skip" in wiring
        self.linear = nn.Linear(n, n, bias=False, dtype=torch.float64)
        self.linear.weight.data = weight.clone()

    def forward(self, z):
        h = z if self.norm is None else self.norm(z)
        branch = self.linear(self.phi(h))
        return z + branch if self.skip else branch


def network(activation, depth, scale, wiring, seed):
    normal, x, delta = clinic.drawn()
    first = nn.Linear(clinic.WIDTH, clinic.WIDTH, bias=False, dtype=torch.float64)
    first.weight.data = scale * normal[0, 0, seed]
    rest = [Layer(activation, wiring, scale * W[0, seed]) for W in normal[1:depth]]
    return nn.Sequential(first, *rest), x[0, seed].T, delta[0, seed].T


def at(activation, depth, scale, wiring):
    axes = (clinic.ACTIVATION_NAMES, clinic.DEPTHS, clinic.SCALES, clinic.WIRINGS)
    return tuple(
        list(axis).index(value)
        for axis, value in zip(axes, (activation, depth, scale, wiring), strict=True)
    )


SETTINGS = [
    ("relu", 10, 5.0, "nothing"),
    ("tanh", 20, 0.2, "nothing"),
    ("sigmoid", 10, 1.0, "skip"),
    ("relu", 20, 2.0, "batch norm"),
    ("tanh", 10, 5.0, "skip and batch norm"),
]


@pytest.mark.parametrize("setting", SETTINGS)
def test_both_gradients_are_those_of_a_network_of_pytorch_modules(measured, setting):
    depth, logs = setting[1], []
    for seed in range(clinic.SEEDS):
        net, x, delta = network(*setting, seed)
        states = [x]
        for layer in net:
            states.append(layer(states[-1]))
        weights = [p for name, p in net.named_parameters() if "norm" not in name]
        found = torch.autograd.grad((delta * states[-1]).sum(), [*states[1:], *weights])
        size = torch.stack([part.square().mean().sqrt() for part in found]).reshape(2, depth)
        logs.append((size / size[:, -1:]).log())
    expected = torch.stack(logs).mean(0).exp().numpy()
    for table, own in zip(measured, expected, strict=True):
        # Behind a batch norm the two differ by its ε, which is 1e-5 in PyTorch and ~0 here.
        np.testing.assert_allclose(table[at(*setting)][:depth], own, rtol=2e-2)
        assert np.isnan(table[at(*setting)][depth:]).all()


@pytest.mark.parametrize(
    ("setting", "kind"),
    [
        (("relu", 20, 3**-0.5, "nothing"), "vanishing"),
        (("tanh", 30, 0.2, "nothing"), "vanishing"),
        (("sigmoid", 10, 1.0, "nothing"), "vanishing"),
        (("relu", 10, 5.0, "nothing"), "exploding"),
        (("relu", 50, 1.0, "batch norm"), "exploding"),
        (("relu", 20, 2**0.5, "nothing"), "healthy"),
        (("tanh", 10, 1.0, "nothing"), "healthy"),
        (("tanh", 5, 2.0, "skip and batch norm"), "healthy"),
    ],
)
def test_the_verdict_is_that_of_diagnose(measured, setting, kind):
    _, verdict = clinic.judged(measured[0])
    assert clinic.VERDICTS[int(verdict[at(*setting)])] == kind
    net, x, delta = network(*setting, 0)
    kinds = cu.diagnose(net, x, loss=lambda z: (z * delta).mean()).kinds
    assert (kind in kinds) or (kind == "healthy" and not kinds & {"vanishing", "exploding"})


def test_weight_gradients_hide_a_vanished_tanh_network(measured):
    outputs, weights = measured
    place = at("tanh", 50, 0.2, "nothing")
    assert outputs[place][0] < 1e-30
    assert (np.abs(np.log(weights[place][1:])) < np.log(3)).all()


def test_every_verdict_occurs_and_only_one_word_is_shown_at_a_setting(explorer, measured):
    _, verdict = clinic.judged(measured[0])
    assert {0.0, 1.0, 2.0} == set(verdict.ravel())
    marks = explorer._packed.spec["panels"][0]["marks"]
    words = [m for m in marks if m["kind"] == "text"]
    assert len(words) == 3
    for activation, depth, scale, wiring in SETTINGS:
        index = list(at(activation, depth, scale, wiring))
        shown = [np.isfinite(explorer._packed.array(m["x"], index)).all() for m in words]
        assert shown.index(True) == verdict[tuple(index)] and sum(shown) == 1


def test_it_starts_at_pytorchs_default_which_vanishes(explorer):
    factor, first, second = readouts(explorer)
    assert factor == pytest.approx((1 / 6) ** 0.5, rel=0.05)
    assert first == pytest.approx((1 / 6) ** 14.5, rel=3)
    assert 0.3 < second < 3
