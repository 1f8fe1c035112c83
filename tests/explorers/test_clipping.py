"""The grid of notebook 06's explorer: gradients against autograd, steps against torch."""

import math

import numpy as np
import pytest
import torch
from explorer_readings import mark, readouts

from course_utils.explorers import clipping


def unrolled(theta):
    """States and loss by torch, one time step after the other."""
    w, b = theta
    states = [torch.tensor(0.5, dtype=torch.float64)]
    for _ in range(50):
        states.append(w * torch.sigmoid(states[-1]) + b)
    return torch.stack(states), (torch.sigmoid(states[-1]) - 0.7) ** 2


def one_step(theta, lr, max_norm=None):
    """A step of torch's SGD, with torch's clipping."""
    theta = theta.clone().requires_grad_()
    unrolled(theta)[1].backward()
    norm = torch.nn.utils.clip_grad_norm_([theta], math.inf if max_norm is None else max_norm)
    torch.optim.SGD([theta], lr=lr).step()
    return theta.detach(), norm.item()


SETTINGS = [
    (4.4, 0.0, 0.3, 1.0),
    (4.8, -0.003, 0.1, 0.3),
    (4.1, 0.3, 0.03, 10.0),
    (4.6, -0.3, 0.1, 0.1),
]


@pytest.mark.parametrize(("weight", "distance", "lr", "max_norm"), SETTINGS)
def test_both_steps_are_those_of_torch(explorer, weight, distance, lr, max_norm):
    explorer.weight, explorer.distance = weight, distance
    explorer.lr, explorer.max_norm = lr, max_norm
    start = torch.tensor(
        [weight, 0.5 - weight / (1 + math.exp(-0.5)) + distance], dtype=torch.float64
    )
    states, before = unrolled(start)
    plain, norm = one_step(start, lr)
    clipped, _ = one_step(start, lr, max_norm)
    for label, end in (("not clipped", plain), ("clipped", clipped)):
        x, y = mark(explorer, 0, label)
        assert (x[0], y[0]) == pytest.approx(start.tolist(), abs=1e-5)
        move = np.array([x[1] - x[0], y[1] - y[0]])
        true = (end - start).numpy()
        if np.linalg.norm(true) > 5:  # drawn shorter, in the same direction
            true *= 5 / np.linalg.norm(true)
        np.testing.assert_allclose(move, true, rtol=1e-4, atol=2e-6)
    states_of = {"start": states, "not clipped": unrolled(plain)[0]}
    states_of["clipped"] = unrolled(clipped)[0]
    for label, expected in states_of.items():
        t, x = mark(explorer, 2, label)
        np.testing.assert_allclose(x, expected[t.astype(int)].numpy(), rtol=1e-3, atol=1e-4)
    after = [unrolled(end)[1].item() for end in (plain, clipped)]
    g, far, near, *losses = readouts(explorer)
    assert g == pytest.approx(norm, rel=1e-5)
    assert far == pytest.approx((plain - start).norm().item(), rel=1e-5)
    assert near == pytest.approx((clipped - start).norm().item(), rel=1e-5)
    assert losses == pytest.approx([before.item(), *after], rel=1e-3, abs=1e-5)


def test_the_gradient_is_that_of_autograd():
    w, b = torch.tensor([4.3, 5.0, -2.0]).double(), torch.tensor([-2.1, -2.4, 0.7]).double()
    theta = torch.stack([w, b]).requires_grad_()
    loss = torch.stack([unrolled(theta[:, i])[1] for i in range(3)])
    (expected,) = torch.autograd.grad(loss.sum(), theta)
    _, gradient = clipping.run(w.numpy(), b.numpy())
    np.testing.assert_allclose(gradient, expected.numpy(), rtol=1e-9)


@pytest.mark.parametrize(("weight", "distance"), [(4.3, 0.01), (4.9, 0.3)])
def test_the_slice_runs_against_the_gradient(explorer, weight, distance):
    explorer.weight, explorer.distance = weight, distance
    start = torch.tensor(
        [weight, 0.5 - weight / (1 + math.exp(-0.5)) + distance], dtype=torch.float64
    )
    theta = start.clone().requires_grad_()
    (g,) = torch.autograd.grad(unrolled(theta)[1], theta)
    along, loss = mark(explorer, 1, "loss")
    for i in range(0, len(along), 11):
        expected = unrolled(start - float(along[i]) * g / g.norm())[1].item()
        assert loss[i] == pytest.approx(expected, rel=1e-3, abs=1e-4)


def test_a_clipped_step_is_never_longer_than_lr_times_max_norm(explorer):
    for weight in clipping.WEIGHTS:
        for distance in clipping.DISTANCES:
            explorer.weight, explorer.distance = weight, distance
            _, far, near, *_ = readouts(explorer)
            assert near <= explorer.lr * explorer.max_norm * (1 + 1e-6)
            assert near <= far * (1 + 1e-6)


def test_the_contours_are_where_the_loss_has_their_level(explorer):
    w, b = mark(explorer, 0, "equal loss")
    seen = np.isfinite(w)
    assert seen.sum() > 300
    states, _ = clipping.run(w[seen].astype(float), b[seen].astype(float))
    loss = (1 / (1 + np.exp(-states[-1])) - 0.7) ** 2
    levels = np.array([0.002, 0.01, 0.02, 0.03, 0.04, 0.05])
    off = np.abs(loss[:, None] - levels).min(axis=1)
    # exact where the surface is smooth; on the wall no grid can be
    assert np.median(off) < 1e-4


def test_it_starts_on_the_wall(explorer):
    g, far, near, before, plain, clipped = readouts(explorer)
    assert g > 10 and far > 10 * near and clipped < plain and before < plain
