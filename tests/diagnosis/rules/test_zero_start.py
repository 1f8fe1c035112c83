"""Layers, norms and gates that start at zero on purpose."""

import pytest
import torch
import torch.nn.functional as F
from patients import Written, data, diagnose
from torch import nn


def zeroed(layer):
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer


class Residual(nn.Sequential):
    def forward(self, x):
        return x + super().forward(x)


class Low(nn.Module):
    """A frozen layer with a low-rank layer beside it."""

    def __init__(self, fan_in, fan_out):
        super().__init__()
        self.base = nn.Linear(fan_in, fan_out).requires_grad_(False)
        self.a, self.b = nn.Linear(fan_in, 4, bias=False), nn.Linear(4, fan_out, bias=False)
        zeroed(self.b)

    def forward(self, x):
        return self.base(x) + self.b(self.a(x))


class Gated(nn.Module):
    def __init__(self, gate=lambda a: a):
        super().__init__()
        self.fc, self.alpha, self.gate = nn.Linear(32, 32), nn.Parameter(torch.zeros(1)), gate

    def forward(self, x):
        return x + self.gate(self.alpha) * torch.relu(self.fc(x))


def branches():
    blocks = [
        Residual(nn.LayerNorm(32), nn.Linear(32, 32), nn.ReLU(), zeroed(nn.Linear(32, 32)))
        for _ in range(5)
    ]
    return nn.Sequential(nn.Linear(64, 32), *blocks, nn.LayerNorm(32), nn.Linear(32, 10))


def norms():
    blocks = [Residual(nn.Linear(32, 32), nn.ReLU(), nn.LayerNorm(32)) for _ in range(4)]
    for block in blocks:
        nn.init.zeros_(block[2].weight)
    return nn.Sequential(nn.Linear(64, 32), *blocks, nn.Linear(32, 10))


def output():
    return nn.Sequential(nn.Linear(64, 32), nn.SiLU(), zeroed(nn.Linear(32, 10)))


def square():
    layers = [m for _ in range(3) for m in (nn.Linear(32, 32), nn.Tanh())]
    return nn.Sequential(nn.Linear(64, 32), *layers, zeroed(nn.Linear(32, 32)), nn.Linear(32, 10))


MADE = {
    "branches": branches,
    "norms": norms,
    "output": output,
    "one layer": lambda: zeroed(nn.Linear(64, 10)),
    "LoRA, sigmoid": lambda: nn.Sequential(Low(64, 32), nn.Sigmoid(), Low(32, 10)),
    "LoRA, ReLU": lambda: nn.Sequential(
        Low(64, 32), nn.ReLU(), Low(32, 32), nn.ReLU(), Low(32, 10)
    ),
    "gates": lambda: nn.Sequential(nn.Linear(64, 32), Gated(), Gated(), nn.Linear(32, 10)),
    "tanh gates": lambda: nn.Sequential(nn.Linear(64, 32), Gated(torch.tanh), nn.Linear(32, 10)),
}


@pytest.mark.parametrize("factor", [1e-6, 1, 1e6])
@pytest.mark.parametrize("name", MADE)
def test_zero_on_purpose_is_healthy_with_a_note(name, factor):
    torch.manual_seed(0)
    diagnosis = diagnose(MADE[name](), loss=lambda o, y: factor * F.cross_entropy(o, y))
    assert diagnosis.healthy and any("at zero" in note for note in diagnosis.notes)
    assert "nan" not in str(diagnosis) and "underflow" not in str(diagnosis)


@pytest.mark.parametrize("adam", [True, False])
@pytest.mark.parametrize("name", MADE)
def test_after_three_steps_it_is_healthy_still(name, adam):
    torch.manual_seed(0)
    model, (x, y) = MADE[name](), data(64)
    own = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam(own, lr=1e-3) if adam else torch.optim.SGD(own, lr=0.01)
    for _ in range(3):
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()
    assert diagnose(model).healthy


def test_biases_and_position_embeddings_of_zero_are_not_spoken_of():
    def forward(self, x):
        return self.head(torch.relu(self.body(x + self.place.weight[0])))

    place = zeroed(nn.Embedding(1, 64))
    model = Written(forward, body=nn.Linear(64, 32), head=nn.Linear(32, 10), place=place)
    nn.init.zeros_(model.body.bias)
    assert not diagnose(model).notes


def test_a_zero_layer_in_the_middle_of_a_chain_cuts_it():
    assert not diagnose(square()).healthy
