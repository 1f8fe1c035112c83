"""The depth is counted along the trunk: a short branch that is added beside it is none."""

from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import course_utils as cu

X, Y = torch.randn(64, 16, generator=cu.seeded(0)), torch.arange(64) % 10


def zeroed(layer):
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer


class Beside(nn.Module):
    """A frozen layer, and a branch that starts at zero and is added to it."""

    def __init__(self, fan_in, fan_out, rank=4, between=nn.Identity):
        super().__init__()
        self.base = nn.Linear(fan_in, fan_out).requires_grad_(False)
        self.a, self.between = nn.Linear(fan_in, rank, bias=False), between()
        self.b = zeroed(nn.Linear(rank, fan_out, bias=False))

    def forward(self, x):
        return self.base(x) + 2 * self.b(self.between(self.a(x)))


class Bare(Beside):
    """The same as products of parameters."""

    def forward(self, x):
        return self.base(x) + x @ self.a.weight.T @ self.b.weight.T


def wide(fan_in, fan_out):
    return Beside(fan_in, fan_out, rank=16)


def dropped(fan_in, fan_out):
    return Beside(fan_in, fan_out, between=lambda: nn.Dropout(0.1))


def adapter(fan_in, fan_out):
    return Beside(fan_in, fan_out, between=nn.ReLU)


def factors(fan_in, fan_out):
    return nn.Sequential(nn.Linear(fan_in, 8, bias=False), nn.Linear(8, fan_out))


def net(layer, depth):
    layers = []
    for fan_in, fan_out in pairwise([16, *[32] * (depth - 1), 10]):
        layers += [layer(fan_in, fan_out), nn.Sigmoid()]
    return nn.Sequential(*layers[:-1])


def diagnosed(layer, depth, steps=0):
    torch.manual_seed(0)
    model = net(layer, depth)
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam(trained, lr=1e-3)
    for _ in range(steps):
        optimizer.zero_grad()
        F.cross_entropy(model(X), Y).backward()
        optimizer.step()
    return cu.diagnose(model, (X, Y), loss=F.cross_entropy)


ADDED = [Beside, Bare, wide, dropped, adapter]


@pytest.mark.parametrize("steps", [0, 1, 3, 30])
@pytest.mark.parametrize("layer", ADDED)
def test_a_branch_beside_three_sigmoid_layers_is_no_depth(layer, steps):
    assert diagnosed(layer, 3, steps).healthy


@pytest.mark.parametrize("layer", ADDED)
def test_a_deep_net_still_vanishes_beside_its_branches(layer):
    found = diagnosed(layer, 8, steps=3).findings[0]
    alone = diagnosed(nn.Linear, 8).findings[0]
    assert found.kind == alone.kind == "vanishing"
    assert found.measured == pytest.approx(alone.measured, rel=0.3)


def test_two_factors_that_are_the_trunk_count_as_two_layers():
    assert diagnosed(nn.Linear, 3).healthy
    found = diagnosed(factors, 8).findings[0]
    assert found.kind == "vanishing" and "15 layers" in found.cause


def test_a_deep_part_beside_one_layer_is_depth():
    class WideAndDeep(nn.Module):
        def __init__(self):
            super().__init__()
            self.wide, self.deep = nn.Linear(16, 10), net(nn.Linear, 8)

        def forward(self, x):
            return self.wide(x) + self.deep(x)

    torch.manual_seed(0)
    assert cu.diagnose(WideAndDeep(), (X, Y), loss=F.cross_entropy).kinds == {"vanishing"}


class AroundData(nn.Module):
    """A narrow branch beside the data themselves, its last weights small."""

    def __init__(self, width, rank, spread, activation):
        super().__init__()
        self.down, self.up = nn.Linear(width, rank), nn.Linear(rank, width)
        self.activation = activation
        nn.init.normal_(self.up.weight, std=spread)
        nn.init.zeros_(self.up.bias)

    def forward(self, x):
        return x + self.up(self.activation(self.down(x)))


@pytest.mark.parametrize("spread", [0.0, 1e-4, 1e-3, 3e-2, 1.0])
@pytest.mark.parametrize("activation", [nn.Identity(), nn.GELU()])
@pytest.mark.parametrize("depth", [1, 3])
def test_an_adapter_around_an_identity_is_no_depth(depth, activation, spread):
    torch.manual_seed(0)
    blocks = [AroundData(16, 4, spread, activation) for _ in range(depth)]
    model = nn.Sequential(*blocks, nn.Linear(16, 10))
    assert cu.diagnose(model, (X, Y), loss=F.cross_entropy).healthy


def test_a_deep_net_behind_such_an_adapter_still_vanishes():
    torch.manual_seed(0)
    model = nn.Sequential(AroundData(16, 4, 1e-3, nn.GELU()), net(nn.Linear, 8))
    assert cu.diagnose(model, (X, Y), loss=F.cross_entropy).kinds == {"vanishing"}
