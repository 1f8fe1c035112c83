"""Sizes of steps and floors against torch's own optimizers, simulation and quadrature."""

import math

import numpy as np
import pytest
import torch
from scipy import integrate, special

from course_utils import theory
from course_utils.runtime import seeded


def adam_steps(gradients, lr=1.0, eps=0.0, **options):
    """Steps of torch's Adam, in units of the rate, for gradients of shape (steps, copies)."""
    p = torch.nn.Parameter(torch.zeros(gradients.shape[1], dtype=torch.float64))
    optimizer = torch.optim.Adam([p], lr=lr, eps=eps, foreach=False, **options)
    steps = []
    for gradient in gradients:
        before = p.detach().clone()
        p.grad = gradient.double()
        optimizer.step()
        steps.append((before - p.detach()) / lr)
    return torch.stack(steps)


@pytest.mark.parametrize(("beta1", "beta2"), [(0.9, 0.999), (0.5, 0.99), (0.0, 0.9)])
def test_without_correction_a_step_is_longer_by_what_is_predicted(beta1, beta2):
    gradients = torch.randn(60, 3, generator=seeded(0), dtype=torch.float64)
    m = v = torch.zeros(3, dtype=torch.float64)
    corrected = adam_steps(gradients, betas=(beta1, beta2))
    for t, g in enumerate(gradients, 1):
        m, v = beta1 * m + (1 - beta1) * g, beta2 * v + (1 - beta2) * g**2
        factor = theory.adam_uncorrected_step(t, beta1, beta2)
        assert torch.allclose(m / v.sqrt(), factor * corrected[t - 1], rtol=1e-9)


@pytest.mark.parametrize("scale", [1e-9, 1.0, 1e3])
def test_in_noise_adam_steps_by_what_is_predicted_at_any_scale(scale):
    noise = scale * torch.randn(200, 4000, generator=seeded(1), dtype=torch.float64)
    steps = adam_steps(noise, betas=(0.9, 0.99999)).square().mean(1).sqrt()
    for t in (1, 3, 10, 200):
        predicted = theory.adam_noise_step(t if t < 200 else math.inf)
        assert steps[t - 1] == pytest.approx(predicted, rel=0.03)


def test_a_signal_in_noise_moves_adam_by_its_share():
    for ratio in (-2.0, 0.1, 1.0):
        gradients = ratio + torch.randn(400, 2000, generator=seeded(2), dtype=torch.float64)
        steps = adam_steps(gradients, betas=(0.9, 0.99999))[200:].mean()
        assert steps == pytest.approx(theory.adam_signal_step(ratio), abs=0.01)


@pytest.mark.parametrize("steps", [300, 501])
def test_a_spike_and_what_adam_remembers_of_it(steps):
    spike, after = 1e6, 4000
    gradients = torch.ones(steps + after, 1)
    gradients[steps - 1] = spike
    moved = adam_steps(gradients)[:, 0]
    assert moved[steps - 1] == pytest.approx(theory.adam_spike_step(steps=steps), rel=1e-3)
    assert theory.adam_spike_step(steps=10**6) == pytest.approx(theory.adam_spike_step())
    gradients = torch.ones(3000 + 700, 1)
    gradients[2999] = 30.0
    moved = adam_steps(gradients, betas=(0.9, 0.99))[:, 0]
    for k in (150, 400, 700):
        predicted = theory.adam_step_after_spike(30.0, k, beta2=0.99)
        assert moved[2999 + k] == pytest.approx(predicted, rel=1e-3)


@pytest.mark.parametrize("gradient", [1e-10, -1e-8, 1e-3])
def test_epsilon_shortens_a_step(gradient):
    steps = adam_steps(torch.full((5, 1), gradient, dtype=torch.float64), eps=1e-8)
    assert steps[-1].item() == pytest.approx(theory.adam_epsilon_step(gradient), rel=1e-6)


@pytest.mark.parametrize(("factor", "stable"), [(0.98, True), (1.02, False)])
def test_adam_with_frozen_v_is_stable_up_to_the_largest_curvature(factor, stable):
    curvature = factor * theory.adam_largest_curvature(0.01, 0.8)
    theta, m = 1.0, 0.0
    for _ in range(4000):
        m = 0.8 * m + 0.2 * curvature * theta
        theta -= 0.01 * m
    assert (abs(theta) < 1) == stable


@pytest.mark.parametrize("batch", [1, 16])
def test_adam_settles_at_its_floor(batch):
    g, lr = seeded(3), 0.02
    p = torch.nn.Parameter(torch.zeros(4000, dtype=torch.float64))
    optimizer = torch.optim.Adam([p], lr=lr, betas=(0.9, 0.999), eps=0.0)
    found = []
    for step in range(1500):
        noise = torch.randn(p.shape, generator=g, dtype=torch.float64) / batch**0.5
        p.grad = 1.5 * p.detach() + 2.0 * noise
        optimizer.step()
        if step > 800:
            found.append(float(p.detach().square().mean()))
    predicted = theory.adam_variance(lr, 1.5, 4.0, batch)
    assert np.mean(found) == pytest.approx(predicted, rel=0.04)


@pytest.mark.parametrize(("lr", "momentum"), [(0.3, 0.9), (1.5, 0.5), (0.4, 0.0)])
def test_momentum_settles_at_its_floor(lr, momentum):
    g = seeded(4)
    theta, velocity, found = torch.zeros(4000), torch.zeros(4000), []
    for step in range(900):
        velocity = momentum * velocity + theta + torch.randn(4000, generator=g) / 2
        theta = theta - lr * velocity
        if step > 200:
            found.append(float(theta.square().mean()))
    predicted = theory.sgd_variance(lr, 1.0, 1.0, 4, momentum)
    assert np.mean(found) == pytest.approx(predicted, rel=0.03)


def test_adagrad_travels_as_far_as_torch_does():
    p = torch.nn.Parameter(torch.zeros(2, dtype=torch.float64))
    optimizer = torch.optim.Adagrad([p], lr=1.0, eps=0.0)
    for _ in range(100):
        p.grad = torch.tensor([1e-5, 7.0], dtype=torch.float64)
        optimizer.step()
    assert torch.allclose(-p.detach(), torch.full((2,), theory.adagrad_distance(100)).double())
    assert theory.adagrad_distance(10**5) == pytest.approx(
        2 * 10**2.5 + special.zeta(0.5), abs=0.01
    )


def test_random_search_succeeds_as_often_as_counted():
    rng = np.random.default_rng(5)
    hits = (rng.random((20_000, 20)) < 0.1).any(1).mean()
    assert hits == pytest.approx(theory.random_search_success(0.1, 20), abs=0.01)


@pytest.mark.parametrize("shape", [(6, 6), (5, 40), (40, 5)])
def test_an_orthogonalized_update_has_the_predicted_entries(shape):
    U, _, V = torch.linalg.svd(torch.randn(shape, generator=seeded(6)), full_matrices=False)
    assert (U @ V).square().mean().sqrt() == pytest.approx(theory.muon_update_rms(*shape), rel=1e-5)


def test_the_finder_is_back_where_the_dilogarithm_is_0():
    x = theory.lr_finder_return()

    def slope(u):
        return math.log(abs(1 - u)) / u

    whole = integrate.quad(slope, 0, x, points=[1.0], limit=200)[0]
    assert whole == pytest.approx(0, abs=1e-6)
    rate, error, growth = 0.01, 0.0, 1.001  # in logarithms
    while error < 0 or rate < 3:
        error += math.log(abs(1 - rate))
        rate *= growth
    assert rate == pytest.approx(x, rel=0.01)


def test_float32_is_blind_where_the_difference_meets_its_rounding():
    layer = theory.float32_blind_layer(0.25, 1.0, 4.0**-10)
    assert layer == pytest.approx(11)


@pytest.mark.parametrize(
    ("name", "arguments", "said"),
    [
        ("adam_uncorrected_step", (0,), "step=0"),
        ("adam_noise_step", (1, 1.0), "beta1=1.0"),
        ("adam_signal_step", (math.nan,), "signal_to_noise=nan"),
        ("adam_spike_step", (0.9, 1.0), "beta2=1.0"),
        ("adam_step_after_spike", (3, -1), "steps=-1"),
        ("adam_epsilon_step", (1, 0), "eps=0"),
        ("adam_largest_curvature", (0,), "lr=0"),
        ("adam_variance", (0.1, 1, 0), "noise_variance=0"),
        ("sgd_variance", (4.0, 1.0, 1.0, 1, 0.9), "2(1 + momentum)/curvature=3.8"),
        ("sgd_variance", (0.1, 1.0, 1.0, 1, 1.0), "momentum=1.0"),
        ("adagrad_distance", (-1,), "steps=-1"),
        ("random_search_success", (1.1, 3), "share=1.1"),
        ("muon_update_rms", (0, 3), "rows=0"),
        ("float32_blind_layer", (1.0, 1.0), "factor=1.0"),
    ],
)
def test_values_out_of_range_are_refused_by_name(name, arguments, said):
    with pytest.raises(ValueError) as error:
        getattr(theory, name)(*arguments)
    assert said in str(error.value)
