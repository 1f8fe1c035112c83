"""Closed forms of `theory.descent` against quadrature, eigenvalues and simulated descent."""

import math

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy.integrate import quad

from course_utils import theory

curvatures = st.floats(1e-3, 1e3)
momenta = st.floats(0, 0.99)
condition_numbers = st.floats(1, 1e6)


def iteration_matrix(lr, curvature, momentum):
    """(θ, v) → (θ − η(βv + λθ), βv + λθ): torch.optim.SGD's own state, not (e_t, e_{t−1})."""
    return np.array([[1 - lr * curvature, -lr * momentum], [curvature, momentum]], dtype=np.float64)


def spectral_radius(matrix):
    return abs(np.linalg.eigvals(matrix)).max()


def descend(lr, curvature, momentum, steps, start=1.0):
    """The distance after `steps` of torch's own optimizer on ½λθ²."""
    theta = torch.tensor(start, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.SGD([theta], lr=lr, momentum=momentum)
    for _ in range(steps):
        optimizer.zero_grad()
        (curvature * theta**2 / 2).backward()
        optimizer.step()
    return abs(theta.item())


@given(curvature=curvatures, momentum=momenta)
def test_the_iteration_matrix_has_an_eigenvalue_on_the_unit_circle_at_the_stable_limit(
    curvature, momentum
):
    limit = theory.largest_stable_lr(curvature, momentum)
    assert spectral_radius(iteration_matrix(limit, curvature, momentum)) == pytest.approx(
        1, abs=1e-6
    )
    assert spectral_radius(iteration_matrix(0.99 * limit, curvature, momentum)) < 1
    assert spectral_radius(iteration_matrix(1.01 * limit, curvature, momentum)) > 1


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9])
def test_torch_sgd_converges_below_the_stable_limit_and_diverges_above(momentum):
    limit = theory.largest_stable_lr(7.0, momentum)
    assert descend(0.97 * limit, 7.0, momentum, 400) < 0.5
    assert descend(1.03 * limit, 7.0, momentum, 400) > 2


@given(lr=st.floats(1e-3, 10), curvature=st.floats(-10, 10), momentum=momenta)
def test_rate_per_step_is_the_spectral_radius_of_the_iteration_matrix(lr, curvature, momentum):
    expected = spectral_radius(iteration_matrix(lr, curvature, momentum))
    # a double root is known to √ε only, whoever computes it
    assert theory.convergence_factor(lr, curvature, momentum) == pytest.approx(expected, abs=1e-6)


@given(lr=st.floats(1e-3, 10), curvature=curvatures)
def test_without_momentum_the_rate_is_the_distance_of_lr_times_curvature_from_one(lr, curvature):
    assert theory.convergence_factor(lr, curvature) == pytest.approx(abs(1 - lr * curvature))


def test_torch_sgd_shrinks_by_rate_per_step():
    late, later = (descend(0.01, 2.0, 0.3, steps) for steps in (200, 210))
    assert (later / late) ** 0.1 == pytest.approx(
        theory.convergence_factor(0.01, 2.0, 0.3), rel=1e-9
    )


@given(small=curvatures, ratio=st.floats(1.001, 1e4), factor=st.floats(0.5, 2))
def test_best_lr_reaches_gd_rate_and_no_other_lr_beats_it(small, ratio, factor):
    large = small * ratio

    def worst(lr):
        return max(abs(1 - lr * small), abs(1 - lr * large))

    lr, rate = theory.best_lr(small, large), theory.gd_convergence_rate(large / small)
    assert worst(lr) == pytest.approx(rate, abs=1e-9)
    assert worst(lr * factor) >= rate - 1e-9


@given(small=curvatures, ratio=st.floats(1.01, 1e3))
def test_best_heavy_ball_reaches_heavy_ball_rate_over_the_whole_spectrum(small, ratio):
    lr, momentum = theory.best_heavy_ball(small, small * ratio)
    rate = theory.heavy_ball_convergence_rate(ratio)
    for curvature in np.linspace(small, small * ratio, 5):
        radius = spectral_radius(iteration_matrix(lr, curvature, momentum))
        assert radius == pytest.approx(rate, abs=1e-5)


@given(ratio=st.floats(1.5, 1e3), lr_factor=st.floats(0.3, 3), momentum=st.floats(0.0, 0.999))
def test_no_other_learning_rate_and_momentum_beat_heavy_ball_rate(ratio, lr_factor, momentum):
    lr = lr_factor * theory.best_heavy_ball(1.0, ratio)[0]
    worst = max(spectral_radius(iteration_matrix(lr, c, momentum)) for c in (1.0, ratio))
    assert worst >= theory.heavy_ball_convergence_rate(ratio) - 1e-5


def test_best_heavy_ball_at_condition_number_one_is_one_newton_step():
    assert theory.best_heavy_ball(4.0, 4.0) == (0.25, 0.0)
    assert theory.heavy_ball_convergence_rate(1) == 0 == theory.gd_convergence_rate(1)


@given(kappa=condition_numbers)
def test_heavy_ball_at_kappa_is_gd_at_the_root_of_kappa(kappa):
    assert theory.heavy_ball_convergence_rate(kappa) == pytest.approx(
        theory.gd_convergence_rate(math.sqrt(kappa))
    )


@given(
    depth=st.integers(1, 12),
    start=st.floats(0.05, 0.9),
    stop=st.floats(0.1, 0.999),
    lr=st.floats(1e-3, 1),
)
def test_chain_training_steps_is_the_integral_of_one_over_the_gradient(depth, start, stop, lr):
    assume(start < stop)
    expected, error = quad(
        lambda w: 1 / ((1 - w**depth) * w ** (depth - 1)),
        start,
        stop,
        epsrel=1e-11,
        epsabs=0,
        limit=400,
    )
    assume(error < 1e-9 * expected)
    got = theory.chain_training_steps(depth, lr, start, stop)
    assert got == pytest.approx(expected / lr, rel=1e-8)


@pytest.mark.parametrize("depth", [1, 2, 3, 7])
def test_gradient_descent_with_small_steps_takes_chain_training_steps(depth):
    weights = torch.full((depth,), 0.4, dtype=torch.float64, requires_grad=True)
    steps, lr = 0, 0.002
    while weights[0] < 0.95:
        (gradient,) = torch.autograd.grad((1 - weights.prod()) ** 2 / 2, weights)
        with torch.no_grad():
            weights -= lr * gradient
        steps += 1
    assert steps == pytest.approx(theory.chain_training_steps(depth, lr, 0.4, 0.95), rel=0.01)


def test_chain_training_steps_of_one_weight_is_exponential_decay():
    steps = theory.chain_training_steps(1, 0.1, 0.5, 1 - 1e-9)
    assert steps == pytest.approx(math.log(0.5 / 1e-9) / 0.1, rel=1e-7)


def test_chain_training_steps_survives_depths_whose_plateau_overflows():
    assert theory.chain_training_steps(5000, 0.1, 0.5, 0.9) == math.inf
    plateau = (0.5**-298 - 0.9**-298) / 298
    assert theory.chain_training_steps(300, 1.0, 0.5, 0.9) == pytest.approx(plateau, rel=1e-9)


@given(
    lr=st.floats(0.01, 1.9),
    curvature=st.floats(0.1, 10),
    noise=st.floats(0.1, 10),
    batch=st.integers(1, 64),
)
def test_sgd_variance_is_the_fixed_point_of_its_recursion(lr, curvature, noise, batch):
    lr = lr / curvature
    variance = 0.0
    for _ in range(3000):
        variance = (1 - lr * curvature) ** 2 * variance + lr**2 * noise / batch
    assert theory.sgd_variance(lr, curvature, noise, batch) == pytest.approx(variance, rel=1e-6)


def test_simulated_sgd_settles_at_sgd_variance():
    generator = torch.Generator().manual_seed(0)
    theta = torch.zeros(20_000, dtype=torch.float64)
    for _ in range(60):
        noise = torch.randn(4, 20_000, generator=generator, dtype=torch.float64).mean(0) * 3
        theta = theta - 0.4 * (0.5 * theta + noise)
    # 20 000 samples know a variance to 1 %
    assert theta.var().item() == pytest.approx(theory.sgd_variance(0.4, 0.5, 9.0, 4), rel=0.04)


@pytest.mark.parametrize(
    ("function", "arguments", "name"),
    [
        (theory.largest_stable_lr, (0.0,), "curvature"),
        (theory.largest_stable_lr, (-1.0,), "curvature"),
        (theory.largest_stable_lr, (math.nan,), "curvature"),
        (theory.largest_stable_lr, ("2",), "curvature"),
        (theory.largest_stable_lr, (True,), "curvature"),
        (theory.largest_stable_lr, (torch.ones(2),), "curvature"),
        (theory.largest_stable_lr, (1.0, 1.0), "momentum"),
        (theory.largest_stable_lr, (1.0, -0.1), "momentum"),
        (theory.convergence_factor, (0.0, 1.0), "lr"),
        (theory.convergence_factor, (1.0, math.inf), "curvature"),
        (theory.best_lr, (2.0, 1.0), "swap"),
        (theory.best_heavy_ball, (0.0, 1.0), "smallest_curvature"),
        (theory.gd_convergence_rate, (0.5,), "condition_number"),
        (theory.heavy_ball_convergence_rate, (math.inf,), "condition_number"),
        (theory.chain_training_steps, (2, -0.1, 0.5, 0.9), "lr"),
        (theory.chain_training_steps, (2, 0.1, 0.0, 0.9), "start"),
        (theory.chain_training_steps, (2, 0.1, 0.9, 0.5), "start"),
        (theory.chain_training_steps, (2, 0.1, 0.5, 1.0), "stop"),
        (theory.sgd_variance, (2.0, 1.0, 1.0), "lr"),
        (theory.sgd_variance, (0.1, 1.0, -1.0), "noise_variance"),
    ],
)
def test_an_argument_out_of_range_is_a_value_error_that_names_it(function, arguments, name):
    with pytest.raises(ValueError, match=name):
        function(*arguments)


def test_numpy_and_torch_scalars_are_numbers():
    assert theory.largest_stable_lr(np.float32(4)) == 0.5
    assert theory.largest_stable_lr(torch.tensor(4.0)) == 0.5
    assert type(theory.largest_stable_lr(np.float64(4))) is float
