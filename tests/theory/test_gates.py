"""Gates, recurrences, diagonal states against PyTorch's cells, simulation, counting and SciPy."""

import itertools
import math

import numpy as np
import pytest
import torch
from scipy import integrate, optimize, special, stats
from torch import nn

from course_utils import theory
from course_utils.runtime import seeded


def logistic(b):
    return 1 / (1 + math.exp(-b))


# ------------------------------------------------------------------ tanh RNN with white input
@pytest.mark.parametrize(
    ("weight_variance", "input_variance"), [(1.0, 0.25), (2.5, 0.6), (4.0, 1.0)]
)
def test_a_simulated_rnn_settles_where_predicted_and_passes_on_what_is_predicted(
    weight_variance, input_variance
):
    n, steps, g = 1200, 60, seeded(3)
    W = torch.randn(n, n, generator=g, dtype=torch.float64) * (weight_variance / n) ** 0.5
    h = torch.zeros(n, dtype=torch.float64)
    slopes, states = [], []
    for _ in range(steps):
        z = W @ h + torch.randn(n, generator=g, dtype=torch.float64) * input_variance**0.5
        h = z.tanh()
        slopes.append(1 - h**2)
        states.append(float(z.square().mean()))
    q = theory.recurrent_state_variance(weight_variance, input_variance)
    assert np.mean(states[20:]) == pytest.approx(q, rel=0.03)
    delta = torch.randn(n, generator=g, dtype=torch.float64)
    sizes = [float(delta.norm())]
    for slope in slopes[:19:-1]:
        delta = W.T @ (slope * delta)
        sizes.append(float(delta.norm()))
    per_step = (sizes[-1] / sizes[0]) ** (1 / (len(sizes) - 1))
    factor = theory.recurrent_gradient_factor(weight_variance, input_variance)
    assert per_step == pytest.approx(factor, rel=0.02)


@pytest.mark.parametrize("input_variance", [0.0, 0.1, 0.25, 1.0])
def test_at_the_critical_variance_the_factor_is_one(input_variance):
    critical = theory.critical_recurrent_variance(input_variance)
    if input_variance == 0:
        assert critical == pytest.approx(1)
    assert theory.recurrent_gradient_factor(critical, input_variance) == pytest.approx(1, abs=1e-5)
    above = theory.recurrent_gradient_factor(critical * 1.1, input_variance)
    assert above > 1 > theory.recurrent_gradient_factor(critical * 0.9, input_variance)


# ------------------------------------------------------------------ a gate by itself
@pytest.mark.parametrize("bias", [-30.0, -2.0, 0.0, 1.0, 3.0, 5.0, 30.0])
def test_the_horizon_is_where_the_gate_has_fallen_to_1_over_e(bias):
    horizon = theory.gate_horizon(bias)
    assert horizon * math.log1p(math.exp(-bias)) == pytest.approx(1)
    assert theory.gate_bias(horizon) == pytest.approx(bias, abs=1e-6)


@pytest.mark.parametrize("horizon", [1e-3, 0.5, 10, 1e9])
def test_the_bias_for_a_horizon_is_the_root_of_its_equation(horizon):
    def excess(b):
        return -horizon * np.logaddexp(0, -b) + 1

    root = optimize.brentq(excess, -2000, 100, xtol=1e-13)
    assert theory.gate_bias(horizon) == pytest.approx(root, rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("steps", [1, 20, 200, 1000])
def test_a_gate_feels_most_at_the_bias_log_T(steps):
    def felt(b):
        return -steps * logistic(b) ** steps * (1 - logistic(b))

    best = optimize.minimize_scalar(
        felt, bounds=(-5, 15), method="bounded", options={"xatol": 1e-9}
    )
    assert -best.fun == pytest.approx(theory.largest_gate_gradient(steps), rel=1e-9)
    assert best.x == pytest.approx(math.log(steps), abs=1e-3)


def test_chrono_forgets_one_part_in_T_per_step():
    assert logistic(theory.chrono_bias(50)) == pytest.approx(1 - 1 / 50)


# ------------------------------------------------------------------ gates with recurrent weights
def step_radius(cell, state, size):
    """Largest |eigenvalue| of one step of a cell at rest."""
    (jacobian,) = torch.autograd.functional.jacobian(state, (torch.zeros(size),))
    return float(torch.linalg.eigvals(jacobian).abs().max())


@pytest.mark.parametrize(
    ("b_f", "b_i", "b_o"), [(0, 0, 0), (1, 0, 0), (3, 0, 0), (3, -3, 0), (3, 3, 3)]
)
def test_an_lstm_cell_at_rest_grows_as_predicted(b_f, b_i, b_o):
    n = 400
    with torch.random.fork_rng():
        torch.manual_seed(0)
        cell = nn.LSTMCell(1, n)
    with torch.no_grad():
        cell.bias_hh.zero_()
        cell.bias_ih.copy_(torch.tensor([b_i, b_f, 0, b_o]).float().repeat_interleave(n))

    def state(c):
        h = torch.sigmoid(torch.tensor(float(b_o))) * torch.tanh(c)
        return cell(torch.zeros(1, 1), (h[None], c[None]))[1][0]

    predicted = theory.lstm_gradient_factor(b_f, input_bias=b_i, output_bias=b_o)
    assert step_radius(cell, state, n) == pytest.approx(predicted, rel=0.04)


@pytest.mark.parametrize(("b_z", "b_r"), [(0, 0), (2, 0), (-2, 1)])
def test_a_gru_cell_at_rest_grows_as_predicted(b_z, b_r):
    n = 400
    with torch.random.fork_rng():
        torch.manual_seed(0)
        cell = nn.GRUCell(1, n)
    with torch.no_grad():
        cell.bias_hh.zero_()
        cell.bias_ih.copy_(torch.tensor([b_r, b_z, 0]).float().repeat_interleave(n))
    found = step_radius(cell, lambda h: cell(torch.zeros(1, 1), h[None])[0], n)
    assert found == pytest.approx(theory.gru_gradient_factor(b_z, reset_bias=b_r), rel=0.04)


@pytest.mark.parametrize(
    ("steps", "leak", "variance"), [(8, 0.5, 0.1), (12, 1.0, 0.02), (6, 0.0, 0.7)]
)
def test_one_matrix_at_every_step_adds_coherently(steps, leak, variance):
    n, g, found = 300, seeded(1), []
    for _ in range(8):
        M = torch.randn(n, n, generator=g, dtype=torch.float64) * (variance / n) ** 0.5
        v = torch.randn(n, 20, generator=g, dtype=torch.float64)
        start = v.square().mean()
        for _ in range(steps):
            v = leak * v + M @ v
        found.append(float(v.square().mean() / start))
    assert math.sqrt(np.mean(found)) == pytest.approx(
        theory.tied_growth(steps, leak, variance), rel=0.06
    )


def test_tied_growth_has_its_limits():
    assert theory.tied_growth(0, 0.3, 2.0) == 1
    assert theory.tied_growth(7, 0.3, 0.0) == pytest.approx(0.3**7)
    assert theory.tied_growth(3, 0.0, 0.0) == 0
    assert theory.tied_growth(2000, 1e-4, 1e-4) >= 0
    assert theory.tied_growth(100_000, 1.0, 1.0) == math.inf
    exact = math.sqrt(sum(math.comb(40, k) ** 2 * 0.7 ** (80 - 2 * k) * 0.2**k for k in range(41)))
    assert theory.tied_growth(40, 0.7, 0.2) == pytest.approx(exact, rel=1e-10)
    assert theory.tied_growth(4000, 1.0, 4000.0**-2) ** 2 == pytest.approx(
        special.iv(0, 2), rel=1e-3
    )


# ------------------------------------------------------------------ identity ReLU RNN
def test_never_clipped_is_a_coin_that_comes_out_even():
    for steps in (1, 2, 7):
        walks = np.array(list(itertools.product([-1, 1], repeat=2 * steps))).sum(1)
        assert theory.never_clipped(steps) == pytest.approx((walks == 0).mean(), rel=1e-12)
    assert theory.never_clipped(10**6) == pytest.approx(1 / math.sqrt(math.pi * 10**6), rel=1e-6)


@pytest.mark.parametrize("law", ["normal", "cauchy", "uniform"])
def test_units_of_an_identity_rnn_survive_as_counted_whatever_the_input(law):
    rng, steps, units = np.random.default_rng(5), 30, 40_000
    draw = {"normal": rng.standard_normal, "cauchy": rng.standard_cauchy}.get(
        law, lambda size: rng.uniform(-1, 1, size)
    )
    h, opened = np.zeros(units), []
    for _ in range(steps):
        z = h + draw(units)
        opened.append(z > 0)
        h = np.maximum(z, 0)
    opened = np.array(opened)
    assert opened.all(0).mean() == pytest.approx(theory.never_clipped(steps), abs=0.006)
    for start in (5, 15, 25):
        share = opened[start:].all(0).mean()
        assert share == pytest.approx(theory.identity_survival(start, steps), abs=0.012)


def test_survival_is_certain_at_the_end_and_near_the_arcsine_law():
    assert theory.identity_survival(40, 40) == pytest.approx(1)
    arcsine = 2 / math.pi * math.asin(math.sqrt(0.25))
    assert theory.identity_survival(1000, 4000) == pytest.approx(arcsine, rel=0.01)


# ------------------------------------------------------------------ truncation
@pytest.mark.parametrize(("a", "window"), [(0.8, 5), (0.95, 5), (-0.9, 12), (0.95, 20), (0.0, 1)])
def test_a_truncated_gradient_misses_what_is_summed_term_by_term(a, window):
    steps = 1500
    h = a ** np.arange(steps, dtype=float)  # weight of x_{t-k} in h_t

    def weights(cut):  # of x in Σ_{j<cut} a^j h_{T-1-j}
        total = np.zeros(steps + 1)
        for j in range(min(cut, steps)):
            total[j + 1 :] += a**j * h[: steps - j]
        return total

    full, part = weights(600), weights(window)
    missing = np.linalg.norm(full - part) / np.linalg.norm(full)
    assert missing == pytest.approx(theory.truncation_error(a, window), rel=1e-6, abs=1e-12)
    cosine = full @ part / np.linalg.norm(full) / np.linalg.norm(part)
    assert cosine == pytest.approx(theory.truncation_cosine(a, window), rel=1e-6)


# ------------------------------------------------------------------ diagonal states
@pytest.mark.parametrize(("gate", "steps"), [(0.0, 3), (0.6, 7), (0.999, 500), (1.0, 40)])
def test_an_integrator_adds_up_a_geometric_series(gate, steps):
    exact = 2.5 * sum(gate ** (2 * k) for k in range(steps))
    assert theory.integrator_variance(gate, steps, 2.5) == pytest.approx(exact, rel=1e-9)


@pytest.mark.parametrize(("r", "R", "steps"), [(0.0, 1.0, 10), (0.9, 0.999, 500), (0.5, 0.8, 0)])
def test_ring_memory_is_the_mean_over_the_area(r, R, steps):
    area = integrate.quad(lambda x: x ** (2 * steps) * 2 * x, r, R, epsabs=0)[0]
    assert theory.ring_memory(steps, r, R) == pytest.approx(area / (R**2 - r**2), rel=1e-7)


def test_a_ring_without_width_is_a_circle():
    assert theory.ring_memory(50, 0.9, 0.9) == pytest.approx(0.9**100)


@pytest.mark.parametrize("steps", [1e-3, 1, 100, 1000, 1e5])
def test_s4d_memory_is_a_difference_of_exponential_integrals(steps):
    expected = (special.exp1(steps / 2000) - special.exp1(steps / 20)) / math.log(100)
    assert theory.s4d_memory(steps) == pytest.approx(expected, rel=1e-9, abs=1e-14)


@pytest.mark.parametrize(("mean", "std"), [(-3, 1), (-5, 2), (2, 3)])
def test_selective_rate_is_a_gaussian_mean(mean, std):
    exact = stats.norm(mean, std).expect(lambda z: -np.logaddexp(0, z))
    assert theory.selective_rate(mean, std) == pytest.approx(exact, rel=1e-6)


def test_without_spread_the_rate_is_that_of_one_gate():
    assert theory.selective_rate(1.5, 0.0) == pytest.approx(-math.log1p(math.exp(1.5)))


# ------------------------------------------------------------------ refusals
@pytest.mark.parametrize(
    ("name", "arguments", "said"),
    [
        ("recurrent_state_variance", (1, -1), "input_variance=-1"),
        ("recurrent_gradient_factor", (-1, 0), "weight_variance=-1"),
        ("gate_horizon", (math.inf,), "bias=inf"),
        ("gate_bias", (0,), "horizon=0"),
        ("chrono_bias", (1,), "steps=1"),
        ("largest_gate_gradient", (0,), "steps=0"),
        ("lstm_gradient_factor", (0, -0.1), "weight_variance=-0.1"),
        ("gru_gradient_factor", ("x",), "update_bias='x'"),
        ("tied_growth", (-1, 1, 1), "steps=-1"),
        ("never_clipped", (-1,), "steps=-1"),
        ("identity_survival", (5, 4), "start=5"),
        ("truncation_error", (1.0, 3), "factor=1.0"),
        ("truncation_cosine", (0.5, 0), "window=0"),
        ("integrator_variance", (1.1, 3), "gate=1.1"),
        ("ring_memory", (3, 0.9, 0.8), "smallest=0.9"),
        ("s4d_memory", (3, 0.1, 0.01), "largest_step=0.01"),
        ("selective_rate", (0, -1), "std=-1"),
    ],
)
def test_values_out_of_range_are_refused_by_name(name, arguments, said):
    with pytest.raises(ValueError, match=said.replace("(", r"\(")):
        getattr(theory, name)(*arguments)
