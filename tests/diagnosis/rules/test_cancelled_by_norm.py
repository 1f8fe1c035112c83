"""Losses that a norm makes constant."""

import pytest
import torch
import torch.nn.functional as F
from patients import Written, data, diagnose, the
from torch import nn


def body(*tail, width=64):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(64, width), nn.Tanh(), nn.Linear(width, width), *tail)


def functional(norm):
    return Written(lambda self, x: norm(self.net(x)), net=body())


SICK = {
    "sum of a layer norm": (body(nn.LayerNorm(64)), lambda o, y: o.sum()),
    "mean of a layer norm": (body(nn.LayerNorm(64)), lambda o, y: (1 - o).mean()),
    "mean of a batch norm": (body(nn.BatchNorm1d(64)), lambda o, y: o.mean()),
    "weighted channels": (body(nn.BatchNorm1d(64)), lambda o, y: (o @ torch.arange(64.0)).mean()),
    "without weights": (body(nn.LayerNorm(64, elementwise_affine=False)), lambda o, y: -o.mean()),
    "functional": (functional(lambda z: F.layer_norm(z, (64,))), lambda o, y: o.sum(1).mean()),
    "group norm": (
        functional(lambda z: F.group_norm(z.view(32, 8, 8), 4)),
        lambda o, y: o.mean(),
    ),
}


@pytest.mark.parametrize("name", SICK)
@pytest.mark.parametrize("factor", [1e-6, 1, 1e6])
def test_a_sum_over_what_is_normalized_has_no_gradient_below_the_norm(name, factor):
    model, loss = SICK[name]
    answer = diagnose(model, loss=lambda o, y: factor * loss(o, y))
    assert answer.kinds == {"zero_gradient"}, answer
    found = the(answer, "zero_gradient")
    assert found.measured < 1e-5 and "norm" in found.cause and "rounding" in found.cause
    exec(found.remedy, {})


TARGET = torch.randn(32, 64, generator=torch.Generator().manual_seed(3))
HEALTHY = {
    "a fit": (body(nn.LayerNorm(64)), lambda o, y: F.mse_loss(o, TARGET)),
    "some features": (body(nn.LayerNorm(64)), lambda o, y: o[:, :9].mean()),
    "some samples": (body(nn.BatchNorm1d(64)), lambda o, y: o[:16].mean() - o[16:].mean()),
    "a linear layer behind": (body(nn.LayerNorm(64), nn.Linear(64, 1)), lambda o, y: o.mean()),
    "an activation behind": (body(nn.LayerNorm(64), nn.Tanh()), lambda o, y: o.mean()),
    "two terms": (body(nn.LayerNorm(64)), lambda o, y: o.mean() + F.mse_loss(o, TARGET)),
    "no norm": (body(), lambda o, y: o.mean()),
    "weighted features": (body(nn.LayerNorm(64)), lambda o, y: (o @ torch.arange(64.0)).mean()),
}


@pytest.mark.parametrize("name", HEALTHY)
@pytest.mark.parametrize("factor", [1e-6, 1, 1e6])
def test_losses_that_tell_the_outputs_apart_are_healthy(name, factor):
    model, loss = HEALTHY[name]
    assert diagnose(model, loss=lambda o, y: factor * loss(o, y)).kinds <= {"healthy", "undecided"}


def test_a_head_behind_the_norm_learns_where_the_sum_does_not():
    x, _ = data()
    target = x[:, :1].tanh()
    fall = {}
    for name, head in (("sum", None), ("head", nn.Linear(64, 1))):
        torch.manual_seed(0)
        model = body(nn.LayerNorm(64, elementwise_affine=False), *([head] if head else []))
        optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
        losses = []
        for _ in range(100):
            o = model(x)
            loss = F.mse_loss(o if head else o.sum(1, keepdim=True), target)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        fall[name] = 1 - losses[-1] / losses[0]
    assert abs(fall["sum"]) < 1e-3 and fall["head"] > 0.5
