"""The grid of notebook 07's explorer: sizes, and figures against a network built another way."""

import math

import numpy as np
import pytest
import torch
from explorer_readings import mark, readouts
from torch import nn

from course_utils.explorers import normalization
from course_utils.runtime import seeded


def put(explorer, norm, depth, batch, scale):
    explorer.norm, explorer.depth, explorer.batch, explorer.scale = norm, depth, batch, scale


class Net(nn.Module):
    """The same network from PyTorch's modules, one sample per row, one seed, its own weights."""

    def __init__(self, weights, scale, norm):
        super().__init__()
        self.weights, self.norm = [scale * W for W in weights], norm

    def forward(self, x):
        states = [x.clone().requires_grad_()]
        n = x.shape[1]
        norm = {"none": nn.Identity(), "batch": nn.BatchNorm1d(n), "layer": nn.LayerNorm(n)}
        for W in self.weights:
            states.append(torch.relu(norm[self.norm](states[-1] @ W.T)))
        return states


@pytest.mark.parametrize(
    ("norm", "depth", "batch", "scale"),
    [("batch", 20, 16, 2.0), ("none", 10, 4, 0.5), ("layer", 30, 8, 1.25), ("batch", 5, 64, 1.0)],
)
def test_the_profile_is_that_of_a_network_of_pytorch_modules(explorer, norm, depth, batch, scale):
    n, layers, seeds = normalization.WIDTH, normalization.LAYERS, normalization.SEEDS
    generator = seeded(7)
    weights = torch.randn(layers, seeds, n, n, generator=generator) * math.sqrt(2 / n)
    x = torch.randn(seeds, n, 64, generator=generator)
    delta = torch.randn(seeds, n, 64, generator=generator)
    logs, cosines = [], []
    for seed in range(seeds):
        states = Net(weights[:depth, seed], scale, norm)(x[seed, :, :batch].T)
        gradients = torch.autograd.grad((delta[seed, :, :batch].T * states[-1]).sum(), states)
        size = torch.stack([gradient.double().norm() for gradient in gradients])
        logs.append((size / size[-1]).log())
        cosines.append(_likeness(states))
    put(explorer, norm, depth, batch, scale)
    layer, g = mark(explorer, 0, "measured")
    np.testing.assert_array_equal(layer, np.arange(layers + 1))
    expected = torch.stack(logs).mean(0).exp().numpy()
    np.testing.assert_allclose(g[: depth + 1], expected, rtol=2e-2)
    assert np.isnan(g[depth + 1 :]).all()
    _, alike = mark(explorer, 1, "mean cosine")
    np.testing.assert_allclose(alike[: depth + 1], np.mean(cosines, 0), atol=2e-3)
    assert readouts(explorer)[2] == pytest.approx(expected[0], rel=2e-2)
    inner = (expected[2] / expected[depth - 1]) ** (1 / (depth - 3))
    assert readouts(explorer)[0] == pytest.approx(inner, rel=2e-2)


def _likeness(states):
    found = []
    for h in states:
        rows = h.detach().double().numpy()
        rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        table = rows @ rows.T
        found.append(table[~np.eye(len(rows), dtype=bool)].mean())
    return found


@pytest.mark.parametrize(
    ("norm", "scale", "expected"),
    [("none", 0.8, 0.8), ("none", 2.0, 2.0), ("layer", 2.0, 1.0), ("layer", 0.5, 1.0)],
)
def test_the_prediction_is_the_scale_without_a_norm_and_1_with_layer_norm(
    explorer, norm, scale, expected
):
    put(explorer, norm, 20, 32, scale)
    assert readouts(explorer)[1] == pytest.approx(expected, rel=1e-9)
    layer, line = mark(explorer, 0, "predicted")
    np.testing.assert_allclose(line[:21], expected ** (20 - layer[:21]), rtol=1e-5)
    assert np.isnan(line[21:]).all()
    assert readouts(explorer)[0] == pytest.approx(expected, rel=0.03)


def test_batch_norm_at_a_large_batch_pays_nearly_the_root_of_pi_over_pi_minus_1(explorer):
    put(explorer, "batch", 50, 64, 0.5)
    measured, predicted, total = readouts(explorer)
    root = math.sqrt(math.pi / (math.pi - 1))
    assert root < predicted < 1.02 * root and measured == pytest.approx(predicted, rel=0.02)
    assert total > 3000


def test_measured_and_predicted_factors_agree_at_every_batch_of_six_and_more(measured):
    g, _ = measured
    table = normalization.predicted_factors()
    first = normalization.BATCHES.index(6)
    found = normalization._per_layer(g[1, -1, first:], normalization.DEPTHS[-1])
    np.testing.assert_allclose(found, table[1, first:, 0], rtol=0.03)


def test_two_samples_have_no_gradient_behind_batch_norm_and_three_no_prediction(explorer):
    put(explorer, "batch", 20, 2, 1.0)
    _, g = mark(explorer, 0, "measured")
    assert (g[:19] == 0).all() and g[20] == pytest.approx(1)
    assert readouts(explorer)[:2] == [0, 0]
    put(explorer, "batch", 20, 3, 1.0)
    _, line = mark(explorer, 0, "predicted")
    assert np.isnan(line[:20]).all() and math.isinf(readouts(explorer)[1])


def test_without_batch_norm_samples_become_alike_and_with_it_they_stay_apart(measured):
    _, cosine = measured
    assert (cosine[[0, 2], :, -1] > 0.95).all()
    np.testing.assert_allclose(cosine[1, -1, 5:], 1 / math.pi, rtol=0.06)


def test_round_off_counts_as_zero_and_slow_decay_does_not():
    sizes = np.array([[1e-9], [1e-5], [1.0], [2.0]])
    np.testing.assert_array_equal(normalization._mean_profile(sizes), [0, 0, 0.5, 1])
    slow = np.array([[1e-4], [1e-2], [1.0]])
    np.testing.assert_allclose(normalization._mean_profile(slow), slow[:, 0])


def test_it_starts_where_batch_norm_explodes(explorer):
    assert readouts(explorer)[2] > 1000
