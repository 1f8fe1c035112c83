"""Layers whose units are one unit."""

import itertools

import pytest
import torch
import torch.nn.functional as F
from patients import data, diagnose, heal, net, the
from torch import nn


def constant(module, value=0.1):
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            parameter.fill_(0.0 if "bias" in name else value)
    return module


def plain(*widths, act=nn.Tanh):
    layers = [m for a, b in itertools.pairwise(widths) for m in (nn.Linear(a, b), act())]
    return nn.Sequential(*layers[:-1])


def doubled():
    model = plain(64, 32, 10)
    with torch.no_grad():
        model[0].weight[16:], model[0].bias[16:] = model[0].weight[:16], model[0].bias[:16]
        model[2].weight[:, 16:] = model[2].weight[:, :16]
    return model


def one_layer():
    model = plain(64, 32, 32, 32, 10)
    constant(model[2])
    constant(model[4])
    return model


class Sequence(nn.Module):
    def __init__(self, kind, value):
        super().__init__()
        self.rnn, self.out = kind(8, 12, batch_first=True), nn.Linear(12, 10)
        if value:
            constant(self, value)

    def forward(self, x):
        return self.out(self.rnn(x.view(len(x), 8, 8))[0][:, -1])


class Bare(nn.Module):
    def __init__(self, transposed):
        super().__init__()
        self.w1 = nn.Parameter(torch.full((16, 64) if transposed else (64, 16), 0.1))
        self.w2 = nn.Parameter(torch.full((16, 10), 0.1))

    def forward(self, x):
        return torch.tanh(x @ (self.w1.T if len(self.w1) == 16 else self.w1)) @ self.w2


def convolutions():
    layers = nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Conv2d(8, 6, 3), nn.ReLU(), nn.Flatten()
    return constant(nn.Sequential(nn.Unflatten(1, (1, 8, 8)), *layers, nn.Linear(96, 10)))


SICK = {
    "ones": (lambda: constant(plain(64, 24, 10), 1.0), 1 / 24),
    "deep": (lambda: constant(plain(64, 24, 24, 24, 10), 0.05), 1 / 24),
    "a layer": (one_layer, 1 / 32),
    "pairs": (doubled, 1 / 2),
    "zeros under sigmoids": (lambda: constant(plain(64, 24, 10, act=nn.Sigmoid), 0.0), 1 / 24),
    "LSTM": (lambda: Sequence(nn.LSTM, 0.1), 1 / 12),
    "GRU": (lambda: Sequence(nn.GRU, 0.2), 1 / 12),
    "x @ W": (lambda: Bare(False), 1 / 16),
    "x @ W.T": (lambda: Bare(True), 1 / 16),
    "convolutions": (convolutions, 1 / 8),
}


@pytest.mark.parametrize("factor", [1e-6, 1, 1e6])
@pytest.mark.parametrize("name", SICK)
def test_units_that_are_one_unit_are_counted(name, factor):
    make, distinct = SICK[name]
    torch.manual_seed(0)
    diagnosis = diagnose(make(), loss=lambda o, y: factor * F.cross_entropy(o, y))
    assert diagnosis.kinds == {"symmetric"}
    assert the(diagnosis, "symmetric").measured == pytest.approx(distinct, rel=0.4)


def test_only_the_layer_and_its_reader_are_named_and_made_anew():
    torch.manual_seed(1)
    model = one_layer()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    assert the(diagnose(model), "symmetric").layers == ("2", "4")
    model = heal(model, data(), "symmetric")
    changed = {name for name, p in model.named_parameters() if not torch.equal(p, before[name])}
    assert changed == {"2.weight", "2.bias", "4.weight", "4.bias"}


def test_dropout_alone_is_said_to_be_slow():
    model = nn.Sequential(nn.Linear(64, 16), nn.Tanh(), nn.Dropout(0.3), nn.Linear(16, 10))
    assert "dropout" in the(diagnose(constant(model)), "symmetric").cause


def incoming():
    model = plain(64, 32, 10)
    constant(model[0])
    return model


def incoming_with_dropout():
    model = nn.Sequential(nn.Linear(64, 16), nn.Tanh(), nn.Dropout(0.3), nn.Linear(16, 10))
    constant(model[0])
    return model


def blur():
    return nn.Sequential(
        *(nn.Unflatten(1, (1, 8, 8)), nn.Conv2d(1, 8, 3), nn.ReLU()),
        *(constant(nn.Conv2d(8, 8, 3, groups=8)), nn.Flatten(), nn.Linear(128, 10)),
    )


def shuffled():
    model = nn.Sequential(
        *(nn.Unflatten(1, (1, 8, 8)), nn.Conv2d(1, 16, 3, padding=1), nn.PixelShuffle(2)),
        *(nn.ReLU(), nn.Conv2d(4, 4, 3, 2, 1), nn.Flatten(), nn.Linear(256, 10)),
    )
    with torch.no_grad():
        model[1].weight.copy_(model[1].weight[::4].repeat_interleave(4, 0))
        model[1].bias.copy_(model[1].bias[::4].repeat_interleave(4, 0))
    return model


@pytest.mark.parametrize(
    "make",
    [
        incoming,
        incoming_with_dropout,
        blur,
        shuffled,
        lambda: constant(nn.Linear(64, 10), 0.0),
        lambda: plain(64, 1, 10),
        lambda: net(3),
        lambda: Sequence(nn.GRU, 0.0),
    ],
)
def test_what_the_first_step_tells_apart_is_healthy(make):
    torch.manual_seed(2)
    assert "symmetric" not in diagnose(make()).kinds


def trained(model, steps=150):
    x, y = data(64)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.3)
    for _ in range(steps):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
    return loss.item()


@pytest.mark.parametrize("name", ["deep", "pairs", "x @ W"])
def test_units_stay_one_until_the_remedy_and_learn_after_it(name):
    make, _ = SICK[name]
    torch.manual_seed(3)
    sick, healed = make(), heal(make(), data(), "symmetric")
    before = trained(sick)
    assert diagnose(sick).kinds == {"symmetric"}
    assert trained(healed) < (before if name == "pairs" else 0.5 * before)


@pytest.mark.parametrize("act", [nn.Tanh, nn.ReLU, nn.GELU, nn.Sigmoid])
@pytest.mark.parametrize("factor", [1e-6, 1.0, 1e6])
def test_all_parameters_zero_are_one_unit_and_drawing_them_mends_it(act, factor):
    def loss(o, y):
        return factor * F.cross_entropy(o, y)

    model = constant(plain(64, 32, 32, 10, act=act), 0.0)
    found = diagnose(model, data(), loss)
    assert found.kinds == {"symmetric"}
    assert "relu" not in the(found, "symmetric").remedy
    assert diagnose(heal(model, data(), "symmetric"), data(), loss).healthy


def test_zero_weights_under_biases_that_differ_move_and_are_no_symmetry():
    model = plain(64, 32, 32, 10)
    for name, parameter in model.named_parameters():
        if "weight" in name:
            nn.init.zeros_(parameter)
    assert diagnose(model).healthy
