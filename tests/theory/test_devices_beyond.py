"""Many devices, and no backward pass, against simulated shards, delays, sums and directions."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint_sequential

from course_utils import theory
from course_utils.runtime import seeded


# ------------------------------------------------------------------ devices
@pytest.mark.parametrize(("batch", "shards"), [(32, 8), (16, 4), (64, 2)])
def test_batch_norm_per_shard_is_off_by_what_is_predicted(batch, shards):
    x = torch.randn(shards * batch, 3000, generator=seeded(0), dtype=torch.float64)
    whole = F.batch_norm(x, None, None, training=True, eps=1e-12)
    parts = [F.batch_norm(part, None, None, training=True, eps=1e-12) for part in x.split(batch)]
    error = (torch.cat(parts) - whole).square().mean().sqrt()
    assert error == pytest.approx(theory.shard_norm_error(batch, shards), rel=0.08)
    assert theory.shard_norm_error(batch, 1) == 0


@pytest.mark.parametrize(("count", "mantissa"), [(16, 7), (128, 7), (64, 10), (1, 7)])
def test_a_sum_in_low_precision_is_off_by_what_is_predicted(count, mantissa):
    dtype = {7: torch.bfloat16, 10: torch.float16}[mantissa]
    x = torch.randn(count, 40_000, generator=seeded(1)).to(dtype)
    total = torch.zeros(40_000, dtype=dtype)
    for part in x:
        total = total + part
    error = (total.double() - x.double().sum(0)).square().mean().sqrt() / math.sqrt(count)
    assert error == pytest.approx(theory.rounded_sum_error(count, mantissa), rel=0.09, abs=1e-12)


@pytest.mark.parametrize("delay", [0, 1, 4, 10])
def test_stale_gradients_are_stable_up_to_the_limit(delay):
    for factor, stable in ((0.98, True), (1.02, False)):
        lr = factor * theory.stale_stable_lr(2.0, delay)
        roots = np.roots([1, -1, *[0] * (delay - 1), 2 * lr] if delay else [1, 2 * lr - 1])
        assert (np.abs(roots).max() < 1) == stable


@pytest.mark.parametrize(("stages", "micro"), [(4, 8), (1, 3), (7, 2)])
def test_the_bubble_is_counted_in_a_schedule(stages, micro):
    busy = np.zeros((stages, micro + stages - 1), dtype=bool)
    for stage in range(stages):
        busy[stage, stage : stage + micro] = True
    assert theory.pipeline_bubble(stages, micro) == pytest.approx(1 - busy.mean())


class Counted(nn.Linear):
    calls = 0

    def forward(self, x):
        Counted.calls += 1
        return super().forward(x)


@pytest.mark.parametrize(("layers", "segments"), [(16, 4), (10, 3), (6, 1), (7, 7)])
def test_checkpointing_runs_the_layers_as_often_as_torch_does(layers, segments):
    model = nn.Sequential(*[Counted(3, 3) for _ in range(layers)])
    Counted.calls = 0
    x = torch.randn(2, 3, requires_grad=True)
    checkpoint_sequential(model, segments, x, use_reentrant=False).sum().backward()
    assert theory.checkpoint_evaluations(layers, segments) == Counted.calls
    last = layers - (segments - 1) * (layers // segments)
    assert theory.checkpoint_states(layers, segments) == segments + last


# ------------------------------------------------------------------ beyond backpropagation
@pytest.mark.parametrize("signs", [False, True])
@pytest.mark.parametrize(("dimension", "directions"), [(10, 1), (100, 50), (1, 3)])
def test_forward_gradients_are_noisy_as_predicted(dimension, directions, signs):
    rng = np.random.default_rng(2)
    shape = (4000, directions, dimension)
    v = rng.choice([-1.0, 1.0], shape) if signs else rng.normal(size=shape)
    g = rng.normal(size=dimension)
    g /= np.linalg.norm(g)
    estimate = ((v @ g)[..., None] * v).mean(1)
    error = math.sqrt(((estimate - g) ** 2).sum(1).mean())
    predicted = theory.forward_gradient_error(dimension, directions, signs)
    assert error == pytest.approx(predicted, rel=0.06, abs=1e-9)
    if not signs:
        cosine = 1 / math.sqrt((estimate**2).sum(1).mean())
        expected = theory.forward_gradient_cosine(dimension, directions)
        assert cosine == pytest.approx(expected, rel=0.06)


@pytest.mark.parametrize("dimension", [3, 30])
def test_descent_along_forward_gradients_goes_at_the_predicted_rate(dimension):
    rng = np.random.default_rng(3)
    theta = np.tile(np.eye(dimension)[0], (30_000, 1))
    v = rng.normal(size=theta.shape)
    step = (theta * v).sum(1, keepdims=True) * v
    best = min(((theta - lr * step) ** 2).sum(1).mean() for lr in np.linspace(0, 0.3, 61))
    assert best == pytest.approx(theory.forward_gradient_rate(dimension), rel=0.01)


@pytest.mark.parametrize(("value", "sigma"), [(0.0, 0.1), (0.5, 0.2), (-2.0, 1.0)])
def test_evolution_strategies_pay_for_the_value(value, sigma):
    rng = np.random.default_rng(4)
    v = rng.normal(size=(60_000, 20))
    estimate = ((value + sigma * v[:, :1]) / sigma) * v  # f = f₀ + θ₁, gradient e₁
    found = (estimate**2).sum(1).mean()
    assert found == pytest.approx(theory.evolution_mean_square(20, value, sigma), rel=0.04)


@pytest.mark.parametrize(("first", "second"), [(0.3, 0.3), (1.0, 0.3), (1.0, 1.0)])
def test_feedback_alignment_turns_the_weights_as_far_as_predicted(first, second):
    n, d, g = 1000, 20, seeded(5)
    W1 = torch.randn(n, d, generator=g, dtype=torch.float64) * first / n**0.5
    w2 = torch.randn(1, n, generator=g, dtype=torch.float64) * second / n**0.5
    B = torch.randn(1, n, generator=g, dtype=torch.float64)
    B /= B.norm()
    target = torch.zeros(1, d, dtype=torch.float64)
    target[0, 0] = 2.0
    for _ in range(6000):
        error = target - w2 @ W1  # white inputs
        W1, w2 = W1 + 0.01 * B.T @ error, w2 + 0.01 * error @ W1.T
    assert (target - w2 @ W1).norm() < 1e-3
    cosine = torch.cosine_similarity(w2, B).item()
    predicted = theory.feedback_alignment_cosine(n, first / n**0.5, second / n**0.5, 2.0, 1.0)
    assert cosine == pytest.approx(predicted, abs=0.06)


@pytest.mark.parametrize(
    ("name", "arguments", "error", "said"),
    [
        ("shard_norm_error", (1, 2), ValueError, "batch_size=1"),
        ("rounded_sum_error", (0,), ValueError, "count=0"),
        ("stale_stable_lr", (1.0, -1), ValueError, "delay=-1"),
        ("stale_stable_lr", (0.0, 1), ValueError, "curvature=0.0"),
        ("pipeline_bubble", (0, 1), ValueError, "stages=0"),
        ("checkpoint_states", (4, 5), ValueError, "segments=5"),
        ("checkpoint_evaluations", (0, 1), ValueError, "layers=0"),
        ("forward_gradient_error", (0, 1), ValueError, "dimension=0"),
        ("forward_gradient_error", (1, 1, 2), TypeError, "signs=2"),
        ("forward_gradient_cosine", (1, 0), ValueError, "directions=0"),
        ("forward_gradient_rate", (1.5,), TypeError, "dimension=1.5"),
        ("evolution_mean_square", (1, 1, 0), ValueError, "sigma=0"),
        ("feedback_alignment_cosine", (1, 1, 1, 0, 1), ValueError, "target_norm=0"),
    ],
)
def test_values_out_of_range_are_refused_by_name(name, arguments, error, said):
    with pytest.raises(error, match=said):
        getattr(theory, name)(*arguments)
