"""Regularization against drawn batches, torch's optimizers, least squares and random matrices."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy import optimize

from course_utils import theory
from course_utils.runtime import seeded


def test_the_noise_of_a_batch_is_that_of_all_batches():
    rng = np.random.default_rng(0)
    g = rng.normal(size=(12, 5))
    trace = g.var(0).sum()
    for batch in (1, 5, 12):
        drawn = [g[rng.permutation(12)[:batch]].mean(0) for _ in range(4000)]
        error = ((np.array(drawn) - g.mean(0)) ** 2).sum(1).mean()
        assert error == pytest.approx(theory.batch_noise(trace, batch, 12), rel=0.05, abs=1e-12)


@pytest.mark.parametrize("batch", [8, 32, 128])
def test_the_best_step_of_a_batch_gains_its_share(batch):
    def gain(lr, noise=32 / batch):  # of ½‖θ‖² with ‖g‖² = 1
        return lr - lr**2 / 2 * (1 + noise)

    best = optimize.minimize_scalar(lambda lr: -gain(lr), bounds=(0, 2), method="bounded")
    share = theory.batch_efficiency(batch, 32)
    assert best.x == pytest.approx(share, rel=1e-4)
    assert -best.fun / gain(1.0, 0) == pytest.approx(share, rel=1e-6)


@pytest.mark.parametrize("decoupled", [False, True])
def test_decay_shrinks_as_torch_shrinks(decoupled):
    lr, decay, noise, steps = 1e-3, 0.05, 0.5, 400
    p = torch.nn.Parameter(torch.full((4000,), 0.3, dtype=torch.float64))
    kind = torch.optim.AdamW if decoupled else torch.optim.Adam
    optimizer, g = kind([p], lr=lr, weight_decay=decay), seeded(1)
    for _ in range(steps):
        p.grad = noise * torch.randn(p.shape, generator=g, dtype=torch.float64)
        optimizer.step()
    left = float(p.detach().mean()) / 0.3
    if decoupled:
        assert left == pytest.approx(theory.decoupled_shrink(lr, decay, steps), rel=2e-3)
    else:
        assert left == pytest.approx(theory.l2_adam_shrink(lr, decay, noise, steps), rel=2e-3)


def test_a_soft_threshold_zeroes_its_share():
    noise = torch.randn(100_000, generator=seeded(2))
    for threshold in (0.5, 1.0, 2.0):
        share = (F.softshrink(noise, threshold) == 0).double().mean()
        assert share == pytest.approx(theory.l1_zero_share(threshold), abs=0.005)


@pytest.mark.parametrize("p", [0.2, 0.5])
def test_dropout_shrinks_least_squares(p):
    g = seeded(3)
    x = torch.randn(20_000, 4, generator=g, dtype=torch.float64)
    w = torch.tensor([1.0, -2.0, 0.5, 3.0], dtype=torch.float64)
    keep = (torch.rand(x.shape, generator=g) >= p).double() / (1 - p)
    found = torch.linalg.lstsq(x * keep, (x @ w)[:, None]).solution[:, 0]
    assert torch.allclose(found, theory.dropout_shrink(p) * w, atol=0.05)


@pytest.mark.parametrize("name", ["relu", "tanh", "sigmoid"])
def test_dropout_in_front_of_batch_norm_breaks_its_evaluation(name):
    p, g = 0.4, seeded(4)
    h = getattr(torch, name)(torch.randn(400_000, generator=g))
    keep = (torch.rand(h.shape, generator=g) >= p).float() / (1 - p)
    found = h.var() / (h * keep).var()
    assert found == pytest.approx(theory.dropout_batchnorm_variance(p, name), rel=0.02)
    assert theory.dropout_batchnorm_variance(0.0, name) == pytest.approx(1)


def test_the_gap_of_early_stopping_is_the_largest():
    x = np.linspace(0.01, 20, 200_000)
    gap = (1 / (1 + x) - np.exp(-x)).max()
    assert theory.early_stopping_gap() == pytest.approx(gap, abs=1e-8)


@pytest.mark.parametrize(("ratio", "snr"), [(0.5, 1.0), (2.0, 4.0), (1.0, 0.3)])
def test_risks_are_those_of_random_least_squares(ratio, snr):
    rng, n = np.random.default_rng(5), 400
    d = int(ratio * n)
    flow, ridge = [], []
    for _ in range(6):
        X = rng.normal(size=(n, d))
        s, V = np.linalg.eigh(X.T @ X / n)
        w = rng.normal(size=d)
        w /= np.linalg.norm(w)
        y = X @ w + rng.normal(size=n) / math.sqrt(snr)
        target = V.T @ (X.T @ y) / n
        learned = np.where(s > 1e-10, -np.expm1(-1.3 * s) / np.maximum(s, 1e-10), 1.3)
        flow.append(((learned * target - V.T @ w) ** 2).sum())
        ridge.append(((target / (s + 0.7) - V.T @ w) ** 2).sum())
    assert np.mean(flow) == pytest.approx(theory.early_stopping_risk(1.3, ratio, snr), rel=0.06)
    assert np.mean(ridge) == pytest.approx(theory.ridge_risk(0.7, ratio, snr), rel=0.06)


def test_ridge_is_best_at_noise_over_signal():
    found = optimize.minimize_scalar(
        lambda p: theory.ridge_risk(p, 0.5, 2.0), bounds=(0.01, 2), method="bounded"
    )
    assert found.x == pytest.approx(0.25, rel=1e-3)
    assert theory.early_stopping_risk(0.0, 0.5, 2.0) == pytest.approx(1)


@pytest.mark.parametrize(("classes", "smoothing"), [(2, 0.3), (10, 0.1), (1000, 0.01)])
def test_label_smoothing_ends_at_its_gap_and_floor(classes, smoothing):
    logits = torch.zeros(1, classes, dtype=torch.float64)
    logits[0, 0] = theory.label_smoothing_gap(classes, smoothing)
    logits.requires_grad_()
    loss = F.cross_entropy(logits, torch.zeros(1, dtype=torch.long), label_smoothing=smoothing)
    loss.backward()
    assert logits.grad.abs().max() < 1e-12
    assert loss.item() == pytest.approx(theory.label_smoothing_floor(classes, smoothing))


@pytest.mark.parametrize(
    ("lr", "decay", "options"),
    [(0.5, 0.01, {}), (0.2, 0.005, {"momentum": 0.9}), (0.02, 0.2, {"beta1": 0.9})],
)
def test_weights_before_a_norm_turn_and_settle(lr, decay, options):
    """Gradient noise at right angles to w, of size 1/‖w‖: what a norm makes of it."""
    g, n = seeded(6), 400
    p = torch.nn.Parameter(torch.randn(n, generator=g, dtype=torch.float64))
    if "beta1" in options:
        optimizer = torch.optim.AdamW([p], lr=lr, weight_decay=decay)
    else:  # decoupled: the decay does not pass through the momentum
        optimizer = torch.optim.SGD([p], lr=lr, momentum=options.get("momentum", 0.0))
    angles, norms = [], []
    for step in range(3000):
        before = p.detach().clone()
        noise = torch.randn(n, generator=g, dtype=torch.float64)
        p.grad = (noise - before * (noise @ before) / before.square().sum()) / before.norm()
        if "beta1" not in options:
            with torch.no_grad():
                p.mul_(1 - lr * decay)
        optimizer.step()
        if step > 1500:
            cosine = torch.cosine_similarity(before, p.detach(), dim=0).clamp(max=1)
            angles.append(float(cosine.acos()) ** 2)
            norms.append(float(p.detach().norm()))
    if "momentum" not in options:
        predicted = theory.angular_update(lr, decay, **options)
        assert math.sqrt(np.mean(angles)) == pytest.approx(predicted, rel=0.05)
    if not options:
        expected = theory.equilibrium_norm(lr, decay, math.sqrt(n - 1))
        assert np.mean(norms) == pytest.approx(expected, rel=0.03)


@pytest.mark.parametrize(
    ("name", "arguments", "said"),
    [
        ("batch_noise", (1.0, 11, 10), "batch_size=11"),
        ("batch_efficiency", (0, 1), "batch_size=0"),
        ("l2_adam_shrink", (0.1, 0.1, 0, 3), "noise_std=0"),
        ("decoupled_shrink", (0.1, 11, 3), "weight_decay=11"),
        ("l1_zero_share", (-1,), "threshold=-1"),
        ("dropout_shrink", (1.0,), "p=1.0"),
        ("dropout_batchnorm_variance", (-0.1,), "p=-0.1"),
        ("early_stopping_risk", (-1, 1, 1), "time=-1"),
        ("ridge_risk", (1, 0, 1), "aspect_ratio=0"),
        ("ridge_risk", (0, 1, 1), "penalty=0"),
        ("label_smoothing_gap", (1, 0.1), "classes=1"),
        ("label_smoothing_floor", (10, 0), "smoothing=0"),
        ("angular_update", (0.1, 0.1, 0.9, 0.9), "give one"),
        ("equilibrium_norm", (0.1, 0, 1), "weight_decay=0"),
    ],
)
def test_values_out_of_range_are_refused_by_name(name, arguments, said):
    with pytest.raises(ValueError, match=said):
        getattr(theory, name)(*arguments)
