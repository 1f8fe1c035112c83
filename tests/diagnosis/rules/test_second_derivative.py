"""u″ of a ReLU network is 0: that term of a loss teaches nothing, whatever stands beside it."""

import pytest
import torch
from torch import nn

import course_utils as cu


def by(value, x):
    return torch.autograd.grad(value.sum(), x, create_graph=True)[0]


def solved(activation, order, *, width=32, depth=3, inputs=1, seed=0, change=None):
    """A network, its batch, and the residual of u″ = −sin x or u′ = −sin x beside a boundary."""
    torch.manual_seed(seed)
    layers = [nn.Linear(inputs, width), activation()]
    for _ in range(depth - 1):
        layers += [nn.Linear(width, width), activation()]
    model = nn.Sequential(*layers, nn.Linear(width, 1))
    if change is not None:
        change(model)
    x = torch.rand(64, inputs).requires_grad_()

    def loss(u):
        derivative = by(u, x)
        for _ in range(order - 1):
            derivative = by(derivative, x)
        return (derivative + torch.sin(x)).square().mean() + u[:4].square().mean()

    return model, x, loss


@pytest.mark.parametrize("scale", [1e-6, 1, 1e6])
@pytest.mark.parametrize("activation", [nn.ReLU, nn.LeakyReLU])
def test_a_second_derivative_of_straight_pieces(activation, scale):
    model, x, loss = solved(activation, 2)
    found = cu.diagnose(model, x, lambda u: loss(u) * scale)
    assert found.kinds == {"zero_gradient"}
    assert "second derivative is 0" in found.findings[0].cause
    assert found.findings[0].measured == 1


@pytest.mark.parametrize("seed", range(3))
def test_any_width_and_depth(seed):
    model, x, loss = solved(
        nn.ReLU, 2, width=8 * (seed + 1), depth=seed + 2, inputs=seed + 1, seed=seed
    )
    assert cu.diagnose(model, x, loss).kinds == {"zero_gradient"}


@pytest.mark.parametrize("scale", [1e-6, 1, 1e6])
@pytest.mark.parametrize(
    ("activation", "order"),
    [(nn.ReLU, 1), (nn.LeakyReLU, 1), (nn.Tanh, 1), (nn.Tanh, 2), (nn.GELU, 2), (nn.SiLU, 2)],
)
def test_a_first_derivative_or_a_smooth_network_is_healthy(activation, order, scale):
    model, x, loss = solved(activation, order)
    assert cu.diagnose(model, x, lambda u: loss(u) * scale).healthy


@pytest.mark.parametrize("place", [1, 3, 5])
def test_one_smooth_layer_is_enough(place):
    def smoothed(model):
        model[place] = nn.Tanh()

    model, x, loss = solved(nn.ReLU, 2, change=smoothed)
    assert cu.diagnose(model, x, loss).healthy


def test_an_output_that_starts_at_zero_is_no_second_derivative():
    model, x, loss = solved(nn.ReLU, 1, change=lambda model: nn.init.zeros_(model[-1].weight))
    assert "zero_gradient" not in cu.diagnose(model, x, loss).kinds


def test_the_remedy_solves_the_equation():
    def residual(model, x):
        return (by(by(model(x), x), x) + torch.sin(x)).square().mean().item()

    def trained(mended):
        model, x, loss = solved(nn.ReLU, 2)
        if mended:
            remedy = cu.diagnose(model, x, loss).findings[0].remedy
            exec(remedy, {"model": model, "nn": nn, "torch": torch})
        optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
        for _ in range(150):
            optimizer.zero_grad()
            loss(model(x)).backward()
            optimizer.step()
        return residual(model, x)

    assert trained(mended=True) < 0.1 * trained(mended=False)
