"""The grid of notebook 08's explorer: sizes, and figures against a network built another way."""

import math

import numpy as np
import pytest
import torch
from explorer_readings import mark, readouts

from course_utils import theory
from course_utils.explorers import residual
from course_utils.runtime import seeded

PLACES = {name: i for i, name in enumerate(residual.NORMS)}


def by_autograd(norm, strength, depth):
    """The same networks, one seed at a time, samples in rows; autograd goes back."""
    n, layers, seeds, B = residual.WIDTH, residual.LAYERS, residual.SEEDS, residual.SAMPLES
    generator = seeded(8)
    weights = torch.randn(layers, seeds, n, n, generator=generator) * math.sqrt(2 / n)
    inputs = torch.randn(seeds, n, B, generator=generator)
    delta = torch.randn(seeds, n, 1, generator=generator)
    profiles, alike = [], []
    for seed in range(seeds):
        states = [inputs[seed].T.clone().requires_grad_()]
        for layer in range(depth):
            x = states[-1]
            mean, std = 0.0, 1.0
            if norm == "batch":
                mean, std = x.mean(0).detach(), x.std(0, unbiased=False).detach()
            branch = torch.relu((x - mean) / std) @ weights[layer, seed].T
            states.append(strength * x + branch)
        gradients = torch.autograd.grad((states[-1] * delta[seed].T).sum(), states)
        sizes = torch.stack([g.double().norm() for g in gradients])
        profiles.append((sizes / sizes[-1]).log())
        unit = [(g @ g.T).double().numpy() for g in gradients]
        off = ~np.eye(B, dtype=bool)
        alike.append([table[off].mean() / np.diag(table).mean() for table in unit])
    return torch.stack(profiles).mean(0).exp().numpy(), np.mean(alike, 0)


@pytest.mark.parametrize(
    ("norm", "strength", "depth"),
    [("batch", 1.0, 10), ("none", 0.5, 20), ("batch", 0.0, 5), ("none", 1.0, 5)],
)
def test_curves_are_those_of_networks_taken_back_by_autograd(explorer, norm, strength, depth):
    explorer.norm, explorer.strength, explorer.depth = norm, strength, depth
    profile, alike = by_autograd(norm, strength, depth)
    layer, g = mark(explorer, 0, "measured")
    np.testing.assert_array_equal(layer, np.arange(residual.LAYERS + 1))
    np.testing.assert_allclose(g[: depth + 1], profile, rtol=2e-3)
    assert np.isnan(g[depth + 1 :]).all()
    _, correlation = mark(explorer, 1, "measured")
    np.testing.assert_allclose(correlation[: depth + 1], alike, atol=2e-3)
    assert readouts(explorer)[0] == pytest.approx(profile[0], rel=2e-3)
    assert readouts(explorer)[2] == pytest.approx(alike[0], abs=2e-3)


@pytest.mark.parametrize("depth", [5, 20, 50])
def test_predictions_without_norm_are_those_of_theory(explorer, depth):
    for strength, residual_net in ((0.0, False), (1.0, True)):
        explorer.norm, explorer.strength, explorer.depth = "none", strength, depth
        growth = theory.residual_growth(depth) if residual_net else 1.0
        assert readouts(explorer)[1] == pytest.approx(math.sqrt(growth), rel=1e-5)
        want = theory.gradient_correlation(depth, residual_net, norm=None)
        assert readouts(explorer)[3] == pytest.approx(want, rel=1e-5)


def test_predictions_with_batch_norm_are_those_of_theory_for_an_infinite_batch(monkeypatch):
    monkeypatch.setattr(residual, "_FEW", 1.0)
    line, alike = residual.predicted()
    batch, end = PLACES["batch"], -1
    for j, depth in enumerate(residual.DEPTHS):
        whole = math.sqrt(theory.residual_growth(depth, norm="batch"))
        assert line[batch, end, j, 0] == pytest.approx(whole)
        assert alike[batch, end, j, 0] == pytest.approx(theory.gradient_correlation(depth, True))
        plain = theory.batchnorm_gradient_factor("relu") ** (depth - 1)
        assert line[batch, 0, j, 0] == pytest.approx(plain)
        assert alike[batch, 0, j, 0] == pytest.approx(theory.gradient_correlation(depth, False))


def test_a_small_batch_pays_b_over_b_minus_3():
    values = torch.randn(200_000, residual.SAMPLES, generator=seeded(0))
    mean = (1 / values.var(1, unbiased=False)).mean()
    assert float(mean) == pytest.approx(residual._FEW, rel=0.005)


def test_measured_gradients_with_batch_norm_follow_the_prediction(measured):
    g, correlation = measured
    line, alike = residual.predicted()
    batch = PLACES["batch"]
    off = np.abs(np.log(g[batch, :, -1, 0] / line[batch, :, -1, 0]))
    assert (off < 0.35 * np.log(line[batch, :, -1, 0])).all() and off[-1] < 0.2
    assert np.nanmax(np.abs(correlation[batch] - alike[batch])) < 0.08


def test_a_full_skip_keeps_the_gradients_alike_and_a_weak_one_does_not(measured):
    _, correlation = measured
    ends = correlation[PLACES["batch"], :, -1, 0]
    assert ends[-1] > 0.05 and (np.abs(ends[:5]) < 0.03).all()


def test_every_curve_starts_at_one_at_its_last_layer(measured):
    for values in (*measured, *residual.predicted()):
        for j, depth in enumerate(residual.DEPTHS):
            np.testing.assert_allclose(values[:, :, j, depth], 1, rtol=1e-5)
            assert np.isnan(values[:, :, j, depth + 1 :]).all()


def test_it_starts_at_a_residual_network_whose_gradient_grows_little(explorer):
    assert readouts(explorer)[0] < 30
