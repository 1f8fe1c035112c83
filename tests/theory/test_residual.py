"""Growth and correlation of gradients through residual blocks, against simulated networks."""

import math

import pytest
import scipy.integrate
import torch

from course_utils import theory
from course_utils.runtime import seeded

WIDTH, SEEDS = 300, 24


def backward(x, depth, *, alpha=1.0, residual=True, norm=None, frozen=False, seed=0):
    """Gradients at the input of a random network, written out; x is (seeds, samples, width).

    With `frozen` the batch norm's mean and variance are constants on the way back.
    """
    generator = seeded(seed)
    count, samples, width = x.shape
    # one direction for all samples, or one for each
    shape = (count, 1 if frozen or norm is None else samples, width)
    delta = torch.randn(shape, generator=generator, dtype=torch.float64).expand_as(x)
    x = x.clone().requires_grad_()
    h = x
    for _ in range(depth):
        weight = torch.randn(count, width, width, generator=generator, dtype=torch.float64)
        z = h
        if norm == "batch":
            mean, var = h.mean(1, keepdim=True), h.var(1, keepdim=True, unbiased=False)
            if frozen:
                mean, var = mean.detach(), var.detach()
            z = (h - mean) / var.sqrt()
        branch = torch.relu(z) @ (weight.mT * math.sqrt(2 / width))
        h = h + alpha * branch if residual else branch
    (gradient,) = torch.autograd.grad((delta * h).sum(), x)
    return delta, gradient, h.detach()


def inputs(seed, samples, count=SEEDS, width=WIDTH):
    return torch.randn(count, samples, width, generator=seeded(seed), dtype=torch.float64)


@pytest.mark.parametrize("depth, alpha", [(3, 1.0), (6, 0.5), (20, 20**-0.5)])
def test_growth_without_norm_is_that_of_a_simulated_net(depth, alpha):
    delta, gradient, output = backward(inputs(1, 4), depth, alpha=alpha)
    predicted = theory.residual_growth(depth, alpha)
    assert gradient.square().sum() / delta.square().sum() == pytest.approx(predicted, rel=0.1)
    assert output.square().mean() == pytest.approx(predicted, rel=0.1)  # E x² grows alike


@pytest.mark.parametrize("depth, alpha", [(5, 1.0), (16, 1.0), (12, 0.6)])
def test_growth_with_batch_norm_is_that_of_a_simulated_net(depth, alpha):
    delta, gradient, output = backward(
        inputs(2, 128, count=4), depth, alpha=alpha, norm="batch", seed=3
    )
    growth = gradient.square().sum() / delta.square().sum()
    predicted = theory.residual_growth(depth, alpha, norm="batch")
    assert growth == pytest.approx(predicted, rel=0.08)
    assert output.square().mean() == pytest.approx(1 + alpha**2 * depth, rel=0.05)


def measured_correlation(gradient):
    """⟨g₁, g₂⟩ over ‖g‖², both averaged over seeds and pairs of samples."""
    samples = gradient.shape[1]
    squares = gradient.square().sum()
    products = gradient.sum(1).square().sum() - squares
    return float(products / (samples - 1) / squares)


@pytest.mark.parametrize("depth", [1, 3, 5])
def test_plain_batch_norm_nets_halve_the_correlation_per_layer(depth):
    assert theory.gradient_correlation(depth, False) == 0.5**depth
    x = inputs(4, 64, count=8)
    _, gradient, _ = backward(x, depth, residual=False, norm="batch", frozen=True, seed=5)
    assert measured_correlation(gradient) == pytest.approx(0.5**depth, abs=0.03)


@pytest.mark.parametrize("depth, alpha", [(3, 1.0), (24, 1.0), (10, 0.5)])
def test_residual_batch_norm_nets_keep_the_predicted_correlation(depth, alpha):
    x = inputs(6, 64, count=4)
    _, gradient, _ = backward(x, depth, alpha=alpha, norm="batch", frozen=True, seed=7)
    predicted = theory.gradient_correlation(depth, True, branch_scale=alpha)
    assert measured_correlation(gradient) == pytest.approx(predicted, rel=0.12)


@pytest.mark.parametrize("depth, residual", [(2, False), (4, False), (3, True), (8, True)])
def test_correlation_without_norm_follows_the_angle_between_the_signals(depth, residual):
    x = inputs(8, 2, count=120, width=150)
    _, gradient, _ = backward(x, depth, residual=residual, seed=9)
    predicted = theory.gradient_correlation(depth, residual, norm=None)
    assert measured_correlation(gradient) == pytest.approx(predicted, abs=0.04)


def test_the_first_arc_cosine_factors_are_those_of_a_double_integral():
    # two layers: p(0)·p(c₁) with c₁ = E[relu relu]/E[relu²] of independent inputs
    def density(z):
        return math.exp(-z * z / 2) / math.sqrt(2 * math.pi)

    one_side = scipy.integrate.quad(lambda z: z * density(z), 0, math.inf)[0]
    square = scipy.integrate.quad(lambda z: z * z * density(z), 0, math.inf)[0]
    alike = one_side**2 / square
    both_open = scipy.integrate.quad(  # P(v > 0 | u) for correlation c₁, given u > 0
        lambda u: 2 * density(u) * 0.5 * math.erfc(-alike * u / math.sqrt(2 - 2 * alike**2)),
        0,
        math.inf,
    )[0]
    expected = 0.5 * both_open
    assert theory.gradient_correlation(2, False, norm=None) == pytest.approx(expected, rel=1e-9)


def test_growth_with_batch_norm_is_a_power_law_and_without_it_exponential():
    doubling = theory.residual_growth(4000, norm="batch") / theory.residual_growth(
        2000, norm="batch"
    )
    assert doubling == pytest.approx(2 ** (math.pi / (math.pi - 1)), rel=2e-3)
    assert theory.residual_growth(40) == pytest.approx(2.0**40, rel=1e-12)
    assert theory.residual_growth(10**6, 1e-3) == pytest.approx(math.e, rel=1e-5)
    assert theory.residual_growth(2000) == math.inf


def test_identity_blocks_change_nothing():
    for norm in (None, "batch"):
        assert theory.residual_growth(50, 0.0, norm) == 1.0
        assert theory.gradient_correlation(50, True, norm, branch_scale=0.0) == 1.0
        assert theory.residual_growth(0, norm=norm) == 1.0
        assert theory.gradient_correlation(0, False, norm) == 1.0


@pytest.mark.parametrize(
    "call, named",
    [
        (lambda: theory.residual_growth(2, math.nan), "branch_scale"),
        (lambda: theory.residual_growth(2, norm="layer"), "norm"),
        (lambda: theory.gradient_correlation(3, True, "group"), "norm"),
        (lambda: theory.gradient_correlation(3, True, branch_scale="1"), "branch_scale"),
    ],
)
def test_bad_input_names_the_argument(call, named):
    with pytest.raises(ValueError, match=f"{named}="):
        call()


def test_residual_must_be_a_bool():
    with pytest.raises(TypeError, match="residual="):
        theory.gradient_correlation(3, "yes")
