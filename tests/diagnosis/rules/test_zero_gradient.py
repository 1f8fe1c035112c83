"""Gradients that are exactly 0, and the operation that takes them."""

import pytest
import torch
import torch.nn.functional as F
from patients import Written, data, diagnose, falls_by, net, the
from torch import nn

import course_utils as cu

SCALES = [1e-6, 1, 1e6]


def between(function, outputs=10):
    torch.manual_seed(0)
    return Written(
        lambda m, x: m.head(function(m.encoder(x))),
        encoder=nn.Linear(64, 48),
        head=nn.Linear(48, outputs),
    )


def scaled(factor, loss):
    return lambda *arguments: factor * loss(*arguments)


STEPS = {
    "round": torch.round,
    "floor": lambda h: torch.floor(4 * h) / 4,
    "ceil": torch.ceil,
    "sign": torch.sign,
    "trunc": torch.trunc,
    "div": lambda h: torch.div(h, 0.1, rounding_mode="floor"),
    "clamp": lambda h: (h + 50).clamp(0, 1),
    "clamp_min": lambda h: (h - 50).clamp(min=-1),
}


@pytest.mark.parametrize("factor", SCALES)
@pytest.mark.parametrize("name", STEPS)
def test_the_operation_between_two_layers_is_named(name, factor):
    diagnosis = diagnose(between(STEPS[name]), loss=scaled(factor, F.cross_entropy))
    assert diagnosis.kinds == {"zero_gradient"}
    found = the(diagnosis, "zero_gradient")
    assert found.layers == ("encoder",) and f"{name.removesuffix('_min')} (" in found.cause
    assert "behind encoder" in found.cause and found.measured == 0.5


@pytest.mark.parametrize("function", [F.hardtanh, F.hardsigmoid, torch.sigmoid])
def test_what_is_saturated_is_not_said_twice(function):
    assert diagnose(between(lambda h: function(h - 200))).kinds == {"saturated"}
    assert diagnose(between(lambda h: F.relu(h - 200))).kinds == {"dead"}


LOSSES = {
    "round": lambda o, y: o.round().sum(),
    "relu": lambda o, y: F.relu(o - 100).mean(),
    "mul": lambda o, y: (o * 0.0).mean(),
    "clamp": lambda o, y: o.clamp(50, 60).sum(),
    "softmax": lambda o, y: 1 - o[:, :1].softmax(1).mean() + 1,
    "pow": lambda o, y: (o[:, 0] * 0).pow(2).mean(),
}


@pytest.mark.parametrize("factor", SCALES)
@pytest.mark.parametrize("name", LOSSES)
def test_the_operation_in_the_loss_is_named(name, factor):
    diagnosis = diagnose(net(2), loss=scaled(factor, LOSSES[name]))
    assert diagnosis.kinds == {"zero_gradient"}
    found = the(diagnosis, "zero_gradient")
    assert "in the loss" in found.cause and (name in found.cause or name == "pow")
    assert found.layers == ("linear1", "linear2") and found.measured == 1


def lora(a_zero):
    torch.manual_seed(0)
    model = Written(
        lambda m, x: m.base(x) + m.b(m.a(x)),
        base=nn.Linear(64, 10).requires_grad_(False),
        a=nn.Linear(64, 4, bias=False),
        b=nn.Linear(4, 10, bias=False),
    )
    nn.init.zeros_(model.b.weight)
    if a_zero:
        nn.init.zeros_(model.a.weight)
    return model


@pytest.mark.parametrize("factor", SCALES)
def test_two_zero_factors_hold_each_other(factor):
    model = lora(True)
    found = the(diagnose(model, loss=scaled(factor, F.cross_entropy)), "zero_gradient")
    assert found.layers == ("a", "b") and "never moves" in found.cause
    assert falls_by(model, torch.optim.Adam(model.parameters(), lr=0.01)) == 0
    exec(found.remedy, {"model": model, "nn": nn})
    assert not model.b.weight.any() and diagnose(model).healthy
    assert falls_by(model, torch.optim.Adam(model.parameters(), lr=0.01)) > 0.3


def test_a_straight_through_estimator_trains_what_a_step_holds():
    torch.manual_seed(0)
    found = the(diagnose(between(torch.sign)), "zero_gradient")
    scope = {}
    exec(found.remedy, scope)
    through = between(lambda h: scope["straight_through"](torch.sign, h))
    assert diagnose(through).healthy
    before = through.encoder.weight.detach().clone()
    assert falls_by(through, torch.optim.Adam(through.parameters(), lr=0.01)) > 0.9
    assert not torch.equal(before, through.encoder.weight)


def test_a_parameter_beyond_its_own_clamp_comes_back():
    model = Written(
        lambda m, x: m.linear(x) * m.scale.clamp(0.01, 1.0),
        linear=nn.Linear(64, 10),
    )
    model.scale = nn.Parameter(torch.tensor(-2.0))
    found = the(diagnose(model), "zero_gradient")
    assert "scale" in found.cause and "0.01" in found.cause and "-2" in found.cause
    exec(found.remedy, {"model": model, "torch": torch})
    assert diagnose(model).healthy


def test_dropout_of_everything_is_told_from_a_share_to_keep():
    model = nn.Sequential(nn.Linear(64, 48), nn.ReLU(), nn.Dropout(1.0), nn.Linear(48, 10))
    found = the(diagnose(model), "zero_gradient")
    assert "p = 1" in found.cause
    exec(found.remedy, {"model": model, "nn": nn})
    assert diagnose(model).healthy


def test_a_softmax_over_one_output():
    x = torch.randn(64, 64)
    model = nn.Sequential(nn.Linear(64, 8), nn.Tanh(), nn.Linear(8, 1), nn.Softmax(dim=1))
    batch = x, (x[:, :1] > 0).float()
    found = the(diagnose(model, batch, F.mse_loss), "zero_gradient")
    assert "single entry" in found.cause
    exec(found.remedy, {"model": model, "nn": nn})
    assert diagnose(model, batch, F.mse_loss).healthy


def hinge(margin):
    return lambda o, y: F.relu(margin - o[:, 0] * (2.0 * (y % 2) - 1)).mean()


def separated():
    x, y = data()
    x = x.clone()
    x[:, 0] = 30 * (2.0 * (y % 2) - 1)
    model = nn.Linear(64, 1)
    nn.init.zeros_(model.weight), nn.init.zeros_(model.bias)
    with torch.no_grad():
        model.weight[0, 0] = 1
    return model, (x, y)


HEALTHY = {
    "straight through": (between(lambda h: h + (h.round() - h).detach()), F.cross_entropy),
    "some beyond the clamp": (between(lambda h: h.clamp(-0.5, 0.5)), F.cross_entropy),
    "hinge": (net(3, outputs=1), hinge(1.0)),
    "LoRA": (lora(False), F.cross_entropy),
    "difference of means": (net(2, outputs=1), lambda o, y: o[:16].mean() - o[16:].mean()),
    "a term that is not on yet": (
        net(2),
        lambda o, y: F.cross_entropy(o, y) + 0.0 * o.pow(2).mean(),
    ),
    "fake quantization": (
        between(lambda h: torch.fake_quantize_per_tensor_affine(h, 0.1, 0, -128, 127)),
        F.cross_entropy,
    ),
}


@pytest.mark.parametrize("factor", SCALES)
@pytest.mark.parametrize("name", HEALTHY)
def test_healthy_twins(name, factor):
    model, loss = HEALTHY[name]
    assert diagnose(model, loss=scaled(factor, loss)).healthy


@pytest.mark.parametrize("factor", SCALES)
def test_a_loss_at_its_least_is_done(factor):
    model, batch = separated()
    diagnosis = diagnose(model, batch, scaled(factor, hinge(1.0)))
    assert diagnosis.healthy and any("at its least" in note for note in diagnosis.notes)
    x = data()[0]
    done = diagnose(net(2), (x, net(2)(x).detach()), lambda o, y: factor * F.mse_loss(o, y))
    assert done.healthy


def test_it_leaves_no_hook_and_no_gradient():
    model = between(torch.round)
    first = str(cu.diagnose(model, data(), loss=F.cross_entropy))
    assert all(p.grad is None for p in model.parameters())
    assert str(cu.diagnose(model, data(), loss=F.cross_entropy)) == first
