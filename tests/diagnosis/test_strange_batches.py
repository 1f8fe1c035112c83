"""Batches, outputs, losses and optimizers as strangers have them."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.func import functional_call, jacrev, vmap

import course_utils as cu
from course_utils.diagnosis.batch import split_batch


class Takes(nn.Module):
    """A model with one argument, whatever that is."""

    def forward(self, things):
        return things


class TakesTwo(nn.Module):
    def forward(self, x, y=None):
        return x


class Wraps(nn.Module):
    def forward(self, *args, **kwargs):
        return args


X, Y = torch.zeros(2, 3), torch.zeros(2)


def loss(o, y):
    return o


@pytest.mark.parametrize(
    ("model", "batch", "function", "args", "kwargs"),
    [
        (Takes(), ({"a": X}, Y), loss, ({"a": X},), {}),
        (Takes(), ({"things": X}, Y), loss, (), {"things": X}),
        (Takes(), ([X, X], Y), loss, ([X, X],), {}),
        (TakesTwo(), ([X, Y], Y), loss, (X, Y), {}),
        (TakesTwo(), (X, Y), None, (X, Y), {}),
        (TakesTwo(), (X, Y), loss, (X,), {}),
        (nn.DataParallel(Takes()), ([X, X], Y), loss, ([X, X],), {}),
        (Wraps(), ([X, X], Y), loss, (X, X), {}),
    ],
)
def test_a_batch_goes_to_the_model_as_its_forward_takes_it(model, batch, function, args, kwargs):
    parts = split_batch(model, batch, function)
    assert str(parts.args) == str(args)
    assert str(parts.kwargs) == str(kwargs)


def small():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 16), nn.Tanh(), nn.Linear(16, 3))


def test_a_loss_may_map_the_model():
    model, x = small(), torch.randn(16, 3)

    def function(o):
        state = dict(model.named_parameters())
        slopes = vmap(jacrev(lambda v: functional_call(model, state, (v,))))(x)
        return slopes.pow(2).mean() + o.pow(2).mean()

    assert cu.diagnose(model, x, function).healthy


def test_the_derivative_of_a_loss_is_no_loss():
    model, x, y = small(), torch.randn(32, 3), torch.arange(32) % 3

    def function(o, y):
        value = F.cross_entropy(o, y)
        grads = torch.autograd.grad(value, list(model.parameters()), create_graph=True)
        return value + 0.1 * sum(g.pow(2).sum() for g in grads)

    assert cu.diagnose(model, (x, y), function).healthy


def test_a_bias_that_is_differentiated_away_in_forward():
    class Slope(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = nn.Sequential(nn.Linear(2, 32), nn.Tanh(), nn.Linear(32, 1))

        def forward(self, x):
            x = x.detach().requires_grad_()
            return torch.autograd.grad(self.net(x).sum(), x, create_graph=True)[0]

    found = cu.diagnose(Slope(), (torch.randn(64, 2), torch.randn(64, 2)), F.mse_loss)
    assert found.healthy, found
    assert any("net.2.bias" in note.lower() for note in found.notes)


def test_an_optimizer_that_cannot_step_here_is_noted():
    class Needy(torch.optim.SGD):
        def step(self, closure=None):
            raise TypeError("a closure is needed")

    model = small()
    optimizer = Needy(model.parameters(), lr=0.1)
    x, y = torch.randn(32, 3), torch.arange(32) % 3
    found = cu.diagnose(model, (x, y), F.cross_entropy, optimizer=optimizer)
    assert found.healthy
    assert any("a closure is needed" in note for note in found.notes)


@pytest.mark.parametrize(("rate", "kinds"), [(1e-12, {"update_size"}), (1e-2, {"healthy"})])
def test_a_rate_below_the_last_digit(rate, kinds):
    model = small()
    optimizer = torch.optim.SGD(model.parameters(), lr=rate)
    x, y = torch.randn(32, 3), torch.arange(32) % 3
    found = cu.diagnose(model, (x, y), F.cross_entropy, optimizer=optimizer)
    assert found.kinds == kinds, found
    if "update_size" in kinds:
        exec(found.findings[0].remedy, {"optimizer": optimizer})
        assert cu.diagnose(model, (x, y), F.cross_entropy, optimizer=optimizer).healthy


def test_a_buffer_that_wants_a_gradient_becomes_a_parameter():
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = small()
            self.register_buffer("gain", torch.ones(3).requires_grad_())

        def forward(self, x):
            return self.net(x) * self.gain

    model, x, y = Scaled(), torch.randn(32, 3), torch.arange(32) % 3
    found = cu.diagnose(model, (x, y), F.cross_entropy)
    assert found.kinds == {"not_registered"}, found
    exec(found.findings[0].remedy, {"model": model, "nn": nn})
    assert "gain" in dict(model.named_parameters())
    assert cu.diagnose(model, (x, y), F.cross_entropy).healthy


def jump(o):
    return (torch.atan2(o[:, 1], o[:, 0]) - 0.5).pow(2).mean()


def ranks(o):
    return (o[:, 0].argsort().argsort() - torch.arange(len(o))).float().pow(2).mean() + 0 * o.sum()


@pytest.mark.parametrize("function", [jump, ranks])
def test_a_loss_that_is_flat_and_not_at_its_least(function):
    model = small()
    if function is jump:
        nn.init.zeros_(model[-1].weight)
        nn.init.zeros_(model[-1].bias)
    found = cu.diagnose(model, torch.randn(32, 3), function)
    assert found.kinds == {"zero_gradient"}, found


class OneByOne(nn.Module):
    """An expert per sample, called on one sample after the other."""

    def __init__(self):
        super().__init__()
        self.experts = nn.ModuleList(nn.Linear(6, 6) for _ in range(3))
        self.out = nn.Linear(6, 3)

    def forward(self, x):
        chosen = x[:, :3].argmax(1).tolist()
        weight = torch.sigmoid(x[:, :1])
        answers = [self.experts[e](row) for e, row in zip(chosen, x, strict=True)]
        return self.out(x + weight * torch.stack(answers))


def test_calls_side_by_side_are_no_depth():
    torch.manual_seed(0)
    x, y = torch.randn(40, 6), torch.arange(40) % 3
    assert cu.diagnose(OneByOne(), (x, y), F.cross_entropy).healthy


def test_a_dead_head_does_not_count_as_vanishing():
    class Heads(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = small(), small()
            nn.init.constant_(self.b[-1].bias, -30.0)

        def forward(self, x):
            return self.a(x), self.b(x).relu()

    def function(o, y):
        return F.cross_entropy(o[0], y) + (o[1] - 1).pow(2).mean()

    torch.manual_seed(0)
    found = cu.diagnose(Heads(), (torch.randn(32, 3), torch.arange(32) % 3), function)
    assert found.kinds == {"dead"}, found
