"""The grid of notebook 09's explorer: figures against PyTorch's cells, powers and theory."""

import math

import numpy as np
import pytest
import torch
from explorer_readings import mark, readouts
from torch import nn

from course_utils import theory
from course_utils.explorers import gate


def logistic(b):
    return 1 / (1 + math.exp(-b))


def expected_center_and_radius(kind, bias, variance):
    f = logistic(bias)
    opening = 0.25 if kind == "LSTM" else (1 - f) / 2
    return f, opening * math.sqrt(variance)


SETTINGS = [("LSTM", 3.0, 1 / 3, 10), ("GRU", 2.0, 0.75, 100), (gate.KINDS[1], 0.0, 1.5, 50)]
SETTINGS += [(gate.KINDS[3], 1.0, 1 / 3, 300), ("LSTM", -2.0, 0.0, 1000)]


def stand(explorer, kind, bias, variance, lag):
    explorer.kind, explorer.bias, explorer.variance, explorer.lag = kind, bias, variance, lag


@pytest.mark.parametrize(("kind", "bias", "variance", "lag"), SETTINGS)
def test_the_disc_and_the_lines_are_those_of_the_theory(explorer, kind, bias, variance, lag):
    stand(explorer, kind, bias, variance, lag)
    center, radius = expected_center_and_radius(kind, bias, variance)
    x, y = mark(explorer, 0, "predicted disc")
    np.testing.assert_allclose(np.hypot(x - center, y), radius, atol=1e-6)
    k, thick = mark(explorer, 1, "the same matrix again")
    _, thin = mark(explorer, 1, "gates alone")
    near = k <= 40
    if kind != gate.KINDS[3]:
        theirs = [theory.tied_growth(int(t), center, radius**2) for t in k[near]]
        np.testing.assert_allclose(thick[near], theirs, rtol=1e-5, atol=1e-13)
    np.testing.assert_allclose(thin[near], center ** k[near], rtol=1e-4, atol=1e-13)
    place, _ = mark(explorer, 1, "lag T")
    assert place.tolist() == [lag, lag]


def test_the_diagonal_line_is_a_mean_over_the_disc():
    kept, radius = np.full((4, 1), 0.7), np.full((4, 1, 1), 0.25)
    rng = np.random.default_rng(0)
    size, turn = np.sqrt(rng.random(400_000)), 2 * np.pi * rng.random(400_000)
    values = 0.7 + 0.25 * size * np.exp(1j * turn)
    for steps in (1, 3, 12):
        found = gate.growth(steps, kept, radius)[gate.DIAGONAL, 0, 0]
        assert found == pytest.approx(np.sqrt((np.abs(values) ** (2 * steps)).mean()), rel=0.01)


@pytest.mark.parametrize(("kind", "bias", "variance", "lag"), SETTINGS)
def test_the_dots_are_powers_of_a_matrix_with_those_eigenvalues(
    explorer, kind, bias, variance, lag
):
    stand(explorer, kind, bias, variance, lag)
    x, y = mark(explorer, 0, "64 eigenvalues")
    center, radius = expected_center_and_radius(kind, bias, variance)
    generator = gate.seeded(900)
    U = torch.randn(64, 64, generator=generator, dtype=torch.float64).numpy() / 8
    probes = torch.randn(64, 32, generator=generator, dtype=torch.float64).numpy()
    J = center * np.eye(64) + radius * U
    found = np.sort_complex(np.round(x + 1j * y, 4))
    np.testing.assert_allclose(np.sort(found.real), np.sort(np.linalg.eigvals(J).real), atol=2e-4)
    k, g = mark(explorer, 1, "measured")
    for lag_, dot in zip(k.astype(int), g, strict=True):
        if lag_ > 30 or np.isnan(dot):
            continue
        if kind == gate.KINDS[3]:
            values = np.abs(np.linalg.eigvals(J)) ** (2 * lag_)
            expected = np.sqrt(values.mean())
        else:
            passed = np.linalg.matrix_power(J, lag_) @ probes
            expected = np.sqrt((passed**2).sum() / (probes**2).sum())
        assert dot == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize(("kind", "cell"), [("LSTM", nn.LSTMCell), ("GRU", nn.GRUCell)])
def test_one_step_of_the_explorer_is_one_step_of_pytorch_at_rest(kind, cell):
    n, bias, v = 6, 1.0, 0.7
    U = torch.randn(n, n, generator=gate.seeded(3), dtype=torch.float64) * (v / n) ** 0.5
    made = cell(1, n).double()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.zero_()
        made.bias_ih[n : 2 * n] = bias
        made.weight_hh[2 * n : 3 * n] = U
    x = torch.zeros(1, 1, dtype=torch.float64)

    def step(c):
        return (
            made(x, (c[None].tanh() / 2, c[None]))[1][0] if kind == "LSTM" else made(x, c[None])[0]
        )

    J = torch.autograd.functional.jacobian(step, torch.zeros(n, dtype=torch.float64))
    kept, opening, _, _ = gate.measure()
    where = gate.KINDS.index(kind), gate.BIASES.index(bias)
    expected = kept[where] * torch.eye(n, dtype=torch.float64) + opening[where] * U
    torch.testing.assert_close(J, expected)


def test_opening_the_forget_gate_carries_the_disc_out_and_a_tied_gate_keeps_it_in(explorer):
    for kind, outside in (("LSTM", True), (gate.KINDS[1], False)):
        stand(explorer, kind, 3.0, 1 / 3, 50)
        x, y = mark(explorer, 0, "64 eigenvalues")
        assert (np.hypot(x, y) > 1).any() == outside
        factor, horizon, *_ = readouts(explorer)
        assert (factor > 1) == outside == math.isinf(horizon)


@pytest.mark.parametrize(("kind", "bias", "variance", "lag"), SETTINGS)
def test_the_figures_are_those_of_the_theory(explorer, kind, bias, variance, lag):
    stand(explorer, kind, bias, variance, lag)
    factor, horizon, at_lag, peak = readouts(explorer)
    center, radius = expected_center_and_radius(kind, bias, variance)
    if kind == "LSTM":
        assert factor == pytest.approx(theory.lstm_gradient_factor(bias, variance))
    if kind == "GRU":
        assert factor == pytest.approx(theory.gru_gradient_factor(bias, variance))
    if kind != gate.KINDS[3]:
        assert at_lag == pytest.approx(theory.tied_growth(lag, center, radius**2), rel=1e-6)
    if factor < 1:
        assert factor**horizon == pytest.approx(1 / math.e)
    assert peak == pytest.approx(theory.largest_gate_gradient(lag))


def test_the_slope_peaks_at_log_T_where_the_marker_stands(explorer):
    for lag in gate.LAGS:
        explorer.lag = lag
        b, slope = mark(explorer, 2, "slope")
        place, _ = mark(explorer, 2, "log T")
        assert place[0] == pytest.approx(math.log(lag), abs=1e-6)
        assert abs(b[slope.argmax()] - place[0]) <= 0.051
        x, y = mark(explorer, 2, "bias of the slider")
        assert x[0] == explorer.bias
        assert y[0] == pytest.approx(lag * logistic(x[0]) ** lag * (1 - logistic(x[0])), abs=1e-6)
