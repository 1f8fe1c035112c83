"""Activations behind the last layer that lose the gradient of a wrong answer."""

import pytest
import torch
import torch.nn.functional as F
from patients import Written, diagnose, the
from torch import nn

import course_utils as cu

SCALES = [1e-6, 1, 1e6]


def scaled(factor, loss):
    return lambda *arguments: factor * loss(*arguments)


def batch(size=64, width=6, seed=0):
    x = torch.randn(size, width, generator=cu.seeded(seed))
    return x, (x[:, :1] + x[:, 1:2] > 0).float()


def layers(gain=1.0, bias=0.0, outputs=1):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 32), nn.ReLU(), nn.Linear(32, outputs))
    with torch.no_grad():
        model[2].weight.mul_(gain)
        model[2].bias.add_(bias)
    return model


def behind(function, **options):
    return Written(lambda m, x: function(m.layers(x)), layers=layers(**options))


def half(y):
    return 0.5 * (2 * y - 1)


SICK = {
    "sigmoid": (behind(torch.sigmoid, gain=200), F.mse_loss),
    "sigmoid, absolute": (behind(torch.sigmoid, gain=200), F.l1_loss),
    "sigmoid in the loss": (layers(200), lambda z, y: F.mse_loss(z.sigmoid(), y)),
    "sigmoid times 100 in the loss": (layers(2), lambda z, y: F.mse_loss((100 * z).sigmoid(), y)),
    "sigmoid over 0.01 in the loss": (
        layers(2),
        lambda z, y: F.mse_loss((z / 0.01).sigmoid(), y),
    ),
    "tanh times 100 in the loss": (
        layers(2),
        lambda z, y: F.mse_loss((100 * z).tanh(), half(y)),
    ),
    "tanh": (behind(torch.tanh, gain=200), lambda a, y: F.mse_loss(a, half(y))),
    "tanh × 2": (behind(lambda z: 2 * z.tanh(), gain=200), lambda a, y: F.mse_loss(a, half(y))),
    "hardsigmoid": (behind(F.hardsigmoid, gain=200), F.mse_loss),
    "hardtanh": (behind(F.hardtanh, gain=200), lambda a, y: F.mse_loss(a, half(y))),
    "softmax": (
        behind(lambda z: z.softmax(1), gain=300, outputs=2),
        lambda p, y: F.mse_loss(p, torch.cat([y, 1 - y], 1)),
    ),
    "sigmoid rounds to 1, BCE": (
        behind(torch.sigmoid, bias=120),
        lambda p, y: F.binary_cross_entropy(p, 0 * y),
    ),
    "generator": (behind(torch.sigmoid, bias=-14), lambda d, y: torch.log(1 - d).mean()),
}


@pytest.mark.parametrize("factor", SCALES)
@pytest.mark.parametrize("name", SICK)
def test_sure_and_wrong(name, factor):
    model, loss = SICK[name]
    diagnosis = diagnose(model, batch(), scaled(factor, loss))
    assert diagnosis.kinds == {"saturated"}
    cause = the(diagnosis, "saturated").cause
    assert name.split()[0].strip(",") in cause or "sigmoid" in cause


WELL = {
    "fresh": (behind(torch.sigmoid), F.mse_loss),
    "undone": (behind(torch.sigmoid, bias=8), F.binary_cross_entropy),
    "undone, logits": (layers(bias=50), F.binary_cross_entropy_with_logits),
    "generator that does not saturate": (
        behind(torch.sigmoid, bias=-14),
        lambda d, y: -torch.log(d).mean(),
    ),
    "right and sure": (
        Written(
            lambda m, x: (30 * (x[:, :1] + x[:, 1:2]) + m.layers(x)).sigmoid(), layers=layers()
        ),
        F.mse_loss,
    ),
    "right and sure, times 100 in the loss": (
        Written(lambda m, x: 3 * (x[:, :1] + x[:, 1:2]) + m.layers(x), layers=layers()),
        lambda z, y: F.mse_loss((100 * z).sigmoid(), y),
    ),
    "a mild factor in the loss": (layers(), lambda z, y: F.mse_loss((2 * z).sigmoid(), y)),
    "right and sure, tanh": (
        Written(lambda m, x: (30 * (x[:, :1] + x[:, 1:2]) + m.layers(x)).tanh(), layers=layers()),
        lambda a, y: F.mse_loss(a, 2 * y - 1),
    ),
    "relu": (behind(F.relu), F.mse_loss),
    "relu, 0 where it should be": (behind(F.relu, bias=-9), lambda a, y: F.mse_loss(a, 0 * y)),
}


@pytest.mark.parametrize("factor", SCALES)
@pytest.mark.parametrize("name", WELL)
def test_no_alarm(name, factor):
    model, loss = WELL[name]
    kinds = diagnose(model, batch(), scaled(factor, loss)).kinds
    assert not kinds & {"saturated", "dead", "zero_gradient"}


@pytest.mark.parametrize("factor", SCALES)
@pytest.mark.parametrize("relu", [F.relu, F.relu6, lambda z: 3 * F.relu(z)])
def test_a_dead_output(relu, factor):
    loss = scaled(factor, lambda a, y: F.mse_loss(a, 1 + y))
    diagnosis = diagnose(behind(relu, bias=-9), batch(), loss)
    assert diagnosis.kinds == {"dead"} and "every input" in the(diagnosis, "dead").cause
    model = behind(relu, outputs=4)
    with torch.no_grad():
        model.layers[2].bias[1] = -9
    found = the(diagnose(model, batch(), lambda a, y: F.mse_loss(a, (1 + y).expand(-1, 4))), "dead")
    assert "Output 1 " in found.cause and found.measured == 0.25


def test_a_few_samples_can_be_below_zero_by_chance():
    diagnosis = diagnose(behind(F.relu, bias=-9), batch(2), lambda a, y: F.mse_loss(a, 1 + y))
    assert "dead" not in diagnosis.kinds and any("chance" in note for note in diagnosis.notes)


@pytest.mark.parametrize("name", ["sigmoid", "dead"])
def test_the_remedy_lets_it_learn(name):
    def falls(model):
        x, y = batch(256)
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
        losses = []
        for _ in range(150):
            loss = F.mse_loss(model(x), y)
            optimizer.zero_grad(), loss.backward(), optimizer.step()
            losses.append(loss.item())
        return 1 - losses[-1] / losses[0]

    def sick():
        if name == "sigmoid":
            return behind(torch.sigmoid, bias=-40)
        return behind(F.relu, bias=-9)

    model = sick()
    assert abs(falls(model)) < 1e-3
    found = the(
        diagnose(model, batch(256), F.mse_loss), "saturated" if name == "sigmoid" else "dead"
    )
    exec(found.remedy, {"model": model, "nn": nn})
    assert falls(model) > 0.5


@pytest.mark.parametrize("scale", [1e-6, 1, 1e6])
@pytest.mark.parametrize(
    "asked",
    [
        lambda o: torch.tanh(1000 * o).square(),
        lambda o: torch.tanh(300 * o).abs(),
        lambda o: (torch.sigmoid(1000 * o) - 0.5).square(),
    ],
)
def test_a_loss_that_is_least_in_the_middle_of_a_saturated_activation(asked, scale):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 4))
    found = cu.diagnose(model, torch.randn(64, 8), lambda o: scale * asked(o).mean())
    assert found.kinds == {"saturated"}


@pytest.mark.parametrize("factor", [0.3, 1, 3])
def test_the_same_loss_within_reach_of_the_middle_is_healthy(factor):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 4))
    x = torch.randn(64, 8)
    assert cu.diagnose(model, x, lambda o: torch.tanh(factor * o).square().mean()).healthy
