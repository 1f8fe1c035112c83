"""Iterations that converge, and sequences that fade."""

import pytest
import torch
import torch.nn.functional as F
from patients import data, diagnose, the
from torch import nn


class Iteration(nn.Module):
    """z ← φ(W z + U x), or without U x after the first step."""

    def __init__(self, gain, steps=30, act=torch.tanh, inject=True, how="linear", damped=1.0):
        super().__init__()
        self.u, self.out = nn.Linear(64, 24), nn.Linear(24, 10)
        self.w = nn.Linear(24, 24, bias=False)
        nn.init.orthogonal_(self.w.weight, gain=gain)
        self.steps, self.act, self.inject, self.how = steps, act, inject, how
        self.damped = damped
        if how == "bare":
            self.matrix = nn.Parameter(self.w.weight.detach().clone())
            del self.w
        elif how == "cell":
            self.cell = nn.RNNCell(64, 24)
            self.cell.weight_hh.data.copy_(self.w.weight)
            del self.w

    def forward(self, x):
        u = self.u(x)
        z = torch.zeros_like(u) if self.inject else u
        for _ in range(self.steps):
            if self.how == "cell":
                z = self.cell(x, z)
                continue
            v = self.w(z) if self.how == "linear" else z @ self.matrix
            new = self.act(v + u) if self.inject else self.act(v)
            z = (1 - self.damped) * z + self.damped * new
        return self.out(z)


@pytest.mark.parametrize("factor", [1e-6, 1, 1e6])
@pytest.mark.parametrize(
    "options",
    [
        {"gain": 0.5},
        {"gain": 0.3, "act": torch.relu},
        {"gain": 0.5, "how": "bare"},
        {"gain": 0.4, "steps": 60},
        {"gain": 0.5, "damped": 0.7},
    ],
)
def test_a_contraction_that_converges_to_what_depends_on_the_input_is_healthy(options, factor):
    torch.manual_seed(0)
    loss = lambda o, y: factor * F.cross_entropy(o, y)  # noqa: E731
    diagnosis = diagnose(Iteration(**options), loss=loss)
    assert diagnosis.healthy and any("converge" in note for note in diagnosis.notes)
    assert "orthogonal" not in str(diagnosis)


@pytest.mark.parametrize("factor", [1e-6, 1, 1e6])
def test_a_chain_that_forgets_its_input_vanishes(factor):
    torch.manual_seed(1)
    loss = lambda o, y: factor * F.cross_entropy(o, y)  # noqa: E731
    assert diagnose(Iteration(0.5, inject=False), loss=loss).kinds == {"vanishing"}


class ByHand(nn.Module):
    """h ← φ(W [x, h]) with the state first or last, or a third part between."""

    def __init__(self, order, act=torch.tanh, width=24):
        super().__init__()
        self.order, self.act, self.width = order, act, width
        sizes = {"x": 4, "h": width, "e": 3}
        self.clock = nn.Parameter(torch.randn(3))
        self.cell = nn.Linear(sum(sizes[part] for part in order), width)
        self.out = nn.Linear(width, 2)
        self.start = sum(sizes[part] for part in order[: order.index("h")])

    def forward(self, x):
        h = x.new_zeros(len(x), self.width)
        for step in x.unbind(1):
            parts = {"x": step, "h": h, "e": self.clock.expand(len(x), 3)}
            h = self.act(self.cell(torch.cat([parts[part] for part in self.order], 1)))
        return self.out(h)


def sequences(steps=40, size=32):
    x = torch.randn(size, steps, 4)
    return x, (x[:, 0, 0] > 0).long()


@pytest.mark.parametrize("order", ["xh", "hx", "xeh", "xhe", "hex"])
def test_the_part_that_sees_the_state_is_found_and_predicts_the_factor(order):
    torch.manual_seed(2)
    model = ByHand(order)
    found = the(diagnose(model, sequences()), "vanishing")
    assert found.predicted == pytest.approx(found.measured, rel=0.15)
    assert f"[:, {model.start}:{model.start + 24}]" in found.remedy


def test_with_relu_the_identity_is_set_in():
    torch.manual_seed(3)
    model = ByHand("xh", torch.relu)
    assert "eye_" in the(diagnose(model, sequences()), "vanishing").remedy


def learn(model, steps=150):
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    generator, losses = torch.manual_seed(5), []
    for _ in range(steps):
        x = torch.randn(64, 25, 4, generator=generator)
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), (x[:, 0, 0] > 0).long())
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return sum(losses[-10:]) / 10


def test_after_the_remedy_it_remembers_its_first_step():
    torch.manual_seed(4)
    model = ByHand("xh")
    with torch.no_grad():
        model.cell.weight[:, :4] *= 0.5
    found = the(diagnose(model, sequences(25)), "vanishing")
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    sick = learn(model)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(before[name])
    exec(found.remedy, {"model": model, "nn": nn, "torch": torch})
    assert learn(model) < 0.6 * sick


def test_one_sample_and_a_constant_sequence_do_not_crash():
    torch.manual_seed(6)
    diagnose(Iteration(0.5), (data()[0][:1], data()[1][:1]))
    diagnose(ByHand("xh"), (torch.ones(8, 40, 4), torch.arange(8) % 2))
