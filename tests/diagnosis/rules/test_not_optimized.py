"""Parameters that the optimizer does not hold, and steps of no use."""

import copy

import pytest
import torch
import torch.nn.functional as F
from patients import diagnose, falls_by, net, run, the
from torch import nn


@pytest.mark.parametrize("factor", [1e-6, 1, 1e6])
def test_a_head_made_after_the_optimizer_is_named_and_trains_after_the_remedy(factor):
    model = net(2)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    model.linear2 = nn.Linear(64, 10)
    loss = lambda o, y: factor * F.cross_entropy(o, y)  # noqa: E731
    found = the(diagnose(model, loss=loss, optimizer=optimizer), "not_optimized")
    assert found.layers == ("linear2",) and "2 of 4" in found.cause
    optimizer = run(found.remedy, model, optimizer)
    assert diagnose(model, optimizer=optimizer).healthy


def test_an_optimizer_of_a_copy_moves_nothing_and_the_remedy_trains():
    first = net(3)
    model, optimizer = copy.deepcopy(first), torch.optim.Adam(first.parameters(), lr=1e-3)
    found = the(diagnose(model, optimizer=optimizer), "not_optimized")
    assert "0 of 6" in found.cause and abs(falls_by(model, optimizer)) < 1e-6
    assert falls_by(model, run(found.remedy, model, optimizer)) > 0.5


@pytest.mark.parametrize(
    "make",
    [
        lambda p: torch.optim.Adam(p, lr=1e-3),
        lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9),
        torch.optim.RMSprop,  # its first step is 10 times as long as the later ones
        torch.optim.LBFGS,
    ],
)
def test_frozen_layers_and_usual_optimizers_are_healthy(make):
    model = net(3)
    model.linear1.requires_grad_(False)
    assert diagnose(
        model, optimizer=make([p for p in model.parameters() if p.requires_grad])
    ).healthy
