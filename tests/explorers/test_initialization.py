"""The grid of notebook 05's explorer: against a network built by hand, autograd and theory."""

import numpy as np
import pytest
import torch
from explorer_readings import mark, readouts

import course_utils as cu
from course_utils.explorers import initialization

FUNCTIONS = {"tanh": torch.tanh, "relu": torch.relu, "sigmoid": torch.sigmoid}


def place(explorer, activation, weight_std, bias_std, depth):
    explorer.activation, explorer.depth = activation, depth
    explorer.weight_std, explorer.bias_std = weight_std, bias_std


def by_hand(activation, weight_std, bias_std, depth):
    """z and ∂𝓛/∂z of every layer from the same numbers, by autograd in float64."""
    n, generator = initialization.WIDTH, cu.seeded(5)
    layers = initialization.DEPTHS[-1]
    W = torch.randn(layers, n, n, generator=generator).double() * weight_std / n**0.5
    b = torch.randn(layers, n, generator=generator).double() * bias_std
    x = torch.randn(initialization.SAMPLES, n, generator=generator).double()
    x = x / (x**2).mean(1, keepdim=True) ** 0.5
    arriving = torch.randn(initialization.SAMPLES, n, generator=generator).double()
    z, h = [], x
    for layer in range(depth):
        z.append((h @ W[layer] + b[layer]).requires_grad_())
        h = FUNCTIONS[activation](z[-1])
    gradients = torch.autograd.grad((arriving * z[-1]).sum(), z)
    return [t.detach() for t in z], [g.norm().item() for g in gradients]


SETTINGS = [
    ("tanh", 1.0, 0.0, 20),
    ("relu", 2**0.5, 0.1, 30),
    ("sigmoid", 3.0, 0.5, 10),
    ("tanh", 3.0, 0.05**0.5, 10),  # deeper, chaos amplifies the rounding of float32
    ("relu", 0.3, 0.0, 2),
]


@pytest.mark.parametrize("setting", SETTINGS)
def test_every_panel_shows_the_network_of_the_sliders(explorer, setting):
    place(explorer, *setting)
    depth = setting[-1]
    z, gradients = by_hand(*setting)
    layers, q = mark(explorer, 1, "measured")
    np.testing.assert_array_equal(layers, np.arange(1, 51))
    expected = np.array([(layer**2).mean().item() for layer in z])
    shown = (expected > 1e-13) & (expected < 1e13)
    np.testing.assert_allclose(q[:depth][shown], expected[shown], rtol=2e-2)
    _, g = mark(explorer, 2, "measured")
    np.testing.assert_allclose(g[:depth], np.array(gradients) / gradients[-1], rtol=2e-2)
    assert np.isnan(g[depth:]).all()
    assert readouts(explorer)[3] == pytest.approx(gradients[0] / gradients[-1], rel=2e-2)
    for label, layer in (("layer 1", 1), ("layer L/2", depth // 2), ("layer L", depth)):
        centers, shares = mark(explorer, 0, label)
        half = (centers[1] - centers[0]) / 2
        values = np.clip(z[layer - 1].numpy(), centers[0], centers[-1])
        edges = np.append(centers - half, centers[-1] + half)
        counts = np.histogram(values, edges)[0] / values.size
        np.testing.assert_allclose(shares, counts, atol=4e-3)  # float32 moves a value over an edge


@pytest.mark.parametrize(
    ("activation", "weight_std", "bias_std"),
    [("tanh", 5 / 3, 0.0), ("tanh", 0.8, 0.5), ("sigmoid", 8.0, 0.1), ("relu", 0.8, 0.1)],
)
def test_what_theory_says_agrees_with_the_theory_room(explorer, activation, weight_std, bias_std):
    place(explorer, activation, weight_std, bias_std, 30)
    root, scale, fixed, _ = readouts(explorer)
    variances = weight_std**2, bias_std**2
    assert root == pytest.approx(cu.theory.gradient_factor(activation, *variances), rel=5e-3)
    assert fixed == pytest.approx(cu.theory.fixed_point(activation, *variances), rel=1e-2)
    assert scale == pytest.approx(cu.theory.depth_scale(activation, *variances), rel=0.1)
    _, q = mark(explorer, 1, "theory")
    start = variances[0] + variances[1]  # inputs of mean square 1
    expected = cu.theory.preactivation_variances(activation, *variances, depth=50, start=start)
    np.testing.assert_allclose(q, expected, rtol=2e-2)
    layers, line = mark(explorer, 2, "√χ₁ per layer")
    assert layers[29] == 30 and line[29] == pytest.approx(1) and np.isnan(line[30:]).all()
    np.testing.assert_allclose(
        line[:30], np.maximum(root ** np.arange(29.0, -1, -1), 1e-8), rtol=1e-3
    )


def test_a_signal_that_dies_and_one_that_diverges_are_said(explorer):
    place(explorer, "tanh", 0.8, 0.0, 10)
    assert readouts(explorer)[2] == 0 and readouts(explorer)[0] == pytest.approx(0.8, rel=1e-3)
    place(explorer, "relu", 3.0, 0.1, 10)
    assert np.isinf(readouts(explorer)[2])
    assert readouts(explorer)[0] == pytest.approx(3 / 2**0.5, rel=1e-3)
    place(explorer, "relu", 2**0.5, 0.0, 10)  # every q is fixed
    assert readouts(explorer)[0] == pytest.approx(1, rel=1e-6)
    assert np.isinf(readouts(explorer)[1])


def test_the_point_lies_where_the_sliders_stand_and_the_edge_where_a_search_finds_it(explorer):
    place(explorer, "tanh", 2.0, 0.05**0.5, 10)
    x, y = mark(explorer, 3, "here")
    assert (x[0], y[0]) == pytest.approx((2.0, 0.05**0.5), rel=1e-5)
    x, y = mark(explorer, 3, "edge of chaos")
    at = np.interp(0.05**0.5, y, x)
    assert at**2 == pytest.approx(cu.theory.critical_weight_variance("tanh", 0.05), rel=5e-3)
    place(explorer, "sigmoid", 2.0, 0.0, 10)
    x, y = mark(explorer, 3, "edge of chaos")
    assert (
        x[0] ** 2 == pytest.approx(103.0076, rel=1e-3) and y[0] < 0.01
    )  # test_theory: E[φ′²] σ_w²
    place(explorer, "relu", 2.0, 0.0, 10)
    np.testing.assert_allclose(mark(explorer, 3, "edge of chaos")[0], 2**0.5, rtol=1e-6)


def test_it_starts_on_the_edge(explorer):
    assert readouts(explorer)[0] == pytest.approx(1, rel=1e-3)
    assert readouts(explorer)[2] == 0
