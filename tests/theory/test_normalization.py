"""The price of batch norm per layer against SciPy, closed forms, sampling and simulated networks.

The simulations run at widths, batch sizes and activations that the notebook does not use.
"""

import itertools
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import integrate, stats

from course_utils import theory
from course_utils.activations import ACTIVATIONS, PReLU, lookup
from course_utils.runtime import seeded

factor = theory.batchnorm_gradient_factor
NAMES = sorted(ACTIVATIONS)


def on_float(function):
    return lambda z: function(torch.tensor(float(z), dtype=torch.float64)).item()


def gaussian_mean(f, kinks=()):
    def integrand(z):
        return f(z) * stats.norm.pdf(z)

    edges = sorted({-12.0, 0.0, 12.0, *kinks})
    pieces = itertools.pairwise(edges)
    return sum(integrate.quad(integrand, a, b, epsabs=1e-12)[0] for a, b in pieces)


# ---------------------------------------------------------------------- infinite batch
@pytest.mark.parametrize("name", NAMES)
def test_with_an_infinite_batch_it_is_the_slope_over_the_spread_of_the_output(name):
    entry = ACTIVATIONS[name]
    phi, slope = on_float(entry.function), on_float(entry.slope)
    mean = gaussian_mean(phi, entry.kinks)
    variance = gaussian_mean(lambda z: (phi(z) - mean) ** 2, entry.kinks)
    expected = gaussian_mean(lambda z: slope(z) ** 2, entry.kinks) / variance
    assert factor(name) ** 2 == pytest.approx(expected, rel=1e-8)


def test_relu_pays_pi_over_pi_minus_1():
    assert factor("relu") ** 2 == pytest.approx(math.pi / (math.pi - 1), rel=1e-12)


@settings(deadline=None, max_examples=25)
@given(a=st.floats(-2, 2))
def test_leaky_relu_has_a_closed_form(a):
    mean_square = (1 + a * a) / 2
    expected = mean_square / (mean_square - (1 - a) ** 2 / (2 * math.pi))
    found = factor(lambda z: torch.where(z > 0, z, a * z))
    assert found**2 == pytest.approx(expected, rel=1e-9)
    assert factor(PReLU(a)) ** 2 == pytest.approx(expected, rel=1e-6)  # a is kept in float32


@settings(deadline=None, max_examples=25)
@given(coefficients=st.lists(st.floats(-3, 3), min_size=3, max_size=5))
def test_no_polynomial_goes_below_1(coefficients):
    """E φ′² = Σ k a_k² and Var φ = Σ a_k² in Hermite polynomials: the oracle expands by hand."""
    hermite = np.polynomial.hermite_e.poly2herme(coefficients)
    k = np.arange(hermite.size)
    squares = hermite**2 * np.array([math.factorial(i) for i in k], dtype=float)
    assume(squares[1:].sum() > 1e-3 * squares.sum())  # else there is no variance
    expected = (k * squares).sum() / squares[1:].sum()

    def polynomial(z):
        return sum(c * z**i for i, c in enumerate(coefficients)) + 0 * z

    assert factor(polynomial) ** 2 == pytest.approx(expected, rel=1e-6)
    assert factor(polynomial) >= 1 - 1e-9


@pytest.mark.parametrize("batch_size", [None, 5, 32])
def test_only_the_shape_of_the_activation_counts(batch_size):
    """Scaling and shifting the output changes nothing, as batch norm undoes both."""
    moved = factor(lambda z: 3 * torch.tanh(z) - 2, batch_size)
    assert moved == pytest.approx(factor("tanh", batch_size), rel=1e-8)


# ---------------------------------------------------------------------- finite batch
@pytest.mark.parametrize("batch_size", [4, 5, 7, 20, 1000, 10**6])
def test_linear_pays_b_minus_2_over_b_minus_3(batch_size):
    expected = (batch_size - 2) / (batch_size - 3)
    assert factor("linear", batch_size) ** 2 == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("batch_size", [4, 5, 6, 11, 64, 4096])
def test_relu_has_a_closed_form_by_arccosine_kernels(batch_size):
    """E[ẑ₁⁺ẑ₂⁺] and P(ẑ₁, ẑ₂ > 0) depend on the angle only: Cho and Saul (2009)."""
    B, c = batch_size, -1 / (batch_size - 1)
    both = (math.pi - math.acos(c)) / (2 * math.pi)
    product = math.sqrt(1 - c * c) / (2 * math.pi) + both * c
    transmitted = B / 2 * (1 - 2 / B) - 0.5 + (B + B * (B - 1) * (both + product)) / B**2
    expected = B / ((B - 3) * (B - 1)) * transmitted / (0.5 - product)
    assert factor("relu", B) ** 2 == pytest.approx(expected, rel=1e-7)


def pair_density(t, v, m):
    """Density of two orthogonal coordinates of a unit vector in m ≥ 4 dimensions."""
    inside = np.maximum(1 - t * t - v * v, 0)
    return (m / 2 - 1) / math.pi * inside ** (m / 2 - 2)


@pytest.mark.parametrize(("name", "batch_size"), [("tanh", 6), ("silu", 7), ("sigmoid", 12)])
def test_smooth_activations_agree_with_integrals_over_two_samples(name, batch_size):
    """Gauss-Legendre over the disc, in polar coordinates, of the joint law of ẑ₁ and ẑ₂."""
    entry, B, m = ACTIVATIONS[name], batch_size, batch_size - 1
    r, wr = np.polynomial.legendre.leggauss(120)
    r, wr = (r + 1) / 2, wr / 2
    angle = np.linspace(0, 2 * np.pi, 240, endpoint=False)
    r, angle = r[:, None], angle[None]
    t, v = r * np.cos(angle), r * np.sin(angle)
    weight = pair_density(t, v, m) * wr[:, None] * r * (2 * np.pi / 240)
    assert weight.sum() == pytest.approx(1, abs=2e-3)  # the root at the rim is not a polynomial
    weight = weight / weight.sum()
    c = -1 / m
    one, two = math.sqrt(m) * t, math.sqrt(m) * (c * t + math.sqrt(1 - c * c) * v)

    def mean(f, g):
        left, right = (h(torch.from_numpy(z)).numpy() for h, z in ((f, one), (g, two)))
        return (weight * left * right).sum()

    def along(z):
        return z * entry.slope(z)

    ones = torch.ones_like
    square = mean(lambda z: entry.slope(z) ** 2, ones)
    leaned = mean(lambda z: along(z) ** 2, ones)
    sums = B * square + B * m * mean(entry.slope, entry.slope)
    lean = B * leaned + B * m * mean(along, along)
    transmitted = B * square * (1 - 2 / B) - leaned + (sums + lean) / B**2
    spread = mean(lambda z: entry.function(z) ** 2, ones) - mean(entry.function, entry.function)
    expected = B / (m * (B - 3)) * transmitted / spread
    assert factor(name, B) ** 2 == pytest.approx(expected, rel=3e-3)


@pytest.mark.parametrize(("name", "batch_size"), [("gelu", 4), ("hardswish", 5), ("elu", 9)])
def test_it_is_the_frobenius_norm_of_the_projections_on_random_points_of_the_sphere(
    name, batch_size
):
    """Matrices P, D and G written out, points of the sphere drawn at random."""
    entry, B, count = lookup(name), batch_size, 200_000
    x = torch.randn(count, B, generator=seeded(5), dtype=torch.float64)
    x = x - x.mean(1, keepdim=True)
    z = math.sqrt(B) * x / x.norm(dim=1, keepdim=True)
    G = torch.eye(B, dtype=torch.float64) - 1 / B
    P = G - z[:, :, None] * z[:, None, :] / B
    through = (P @ (entry.slope(z)[:, :, None] * G)).square().sum((1, 2))
    h = entry.function(z)
    spread = (h - h.mean(1, keepdim=True)).square().sum(1) / (B - 1)  # unbiased: E h₁² − E h₁h₂
    expected = B / ((B - 1) * (B - 3)) * through.mean() / spread.mean()
    relative = through.std() / through.mean() + spread.std() / spread.mean()
    tolerance = 4 * relative.item() / math.sqrt(count)
    assert tolerance < 0.02
    assert factor(name, B) ** 2 == pytest.approx(expected.item(), rel=tolerance)


@pytest.mark.parametrize("name", ["relu", "tanh", "hardswish"])
def test_a_large_batch_tends_to_the_infinite_one(name):
    gaps = [abs(factor(name, B) ** 2 - factor(name) ** 2) for B in (100, 10_000, 10**6)]
    assert gaps[0] > 50 * gaps[1] > 2000 * gaps[2] and gaps[2] < 1e-5


@pytest.mark.parametrize(("name", "batch_size"), [("relu", 12), ("gelu", 24), ("sigmoid", 10)])
@pytest.mark.parametrize("weight_std", [0.1, 5.0])
def test_it_is_the_growth_of_g_in_simulated_networks_whatever_the_weights(
    name, batch_size, weight_std
):
    width, depth, seeds = 300, 16, 6
    generator = seeded(batch_size)
    h = torch.randn(seeds, width, batch_size, generator=generator, dtype=torch.float64)
    states = [h.requires_grad_()]
    for _ in range(depth):
        W = torch.randn(seeds, width, width, generator=generator, dtype=torch.float64)
        z = (weight_std / math.sqrt(width) * W @ states[-1]).reshape(1, -1, batch_size)
        z = F.batch_norm(z, None, None, training=True, eps=1e-12)
        states.append(ACTIVATIONS[name].function(z.reshape(seeds, width, batch_size)))
    delta = torch.randn(states[-1].shape, generator=generator, dtype=torch.float64)
    gradients = torch.autograd.grad((delta * states[-1]).sum(), states)
    g = torch.stack([gradient.norm(dim=(1, 2)) for gradient in gradients])
    growth = (g[4] / g[14]) ** (1 / 10)
    assert growth.mean().item() == pytest.approx(factor(name, batch_size), rel=0.02)


# ---------------------------------------------------------------------- edges and errors
def test_a_batch_of_two_has_no_gradient_and_one_of_three_no_finite_mean():
    assert factor("tanh", 2) == 0.0 and factor("relu", 3) == math.inf


def test_the_error_for_one_sample_names_the_way_out():
    with pytest.raises(ValueError, match=r"[Ll]ayer norm"):
        factor("relu", 1)


@pytest.mark.parametrize("batch_size", [None, 8])
def test_an_activation_without_variance_is_refused(batch_size):
    with pytest.raises(ValueError, match="constant"):
        factor(lambda z: 0 * z + 2, batch_size)
    with pytest.raises(ValueError, match="constant"):
        factor(lambda z: 0 * z, batch_size)
    small = factor(lambda z: 1e-9 * torch.tanh(z), batch_size)
    assert small == pytest.approx(factor("tanh", batch_size), rel=1e-6)
    with pytest.raises(ValueError, match="did you mean 'relu'"):
        factor("rellu", batch_size)
    with pytest.raises(TypeError, match="activation=3"):
        factor(3, batch_size)


@pytest.mark.parametrize("batch_size", [None, 8])
def test_an_activation_that_is_nan_somewhere_is_refused(batch_size):
    with pytest.raises(ValueError, match="NaN"):
        factor(torch.sqrt, batch_size)
