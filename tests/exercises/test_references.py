"""What the references say is confirmed by other means: torch, theory, closed forms."""

import math
import warnings

import numpy as np
import pytest
import torch

from course_utils import theory
from course_utils.exercises import eigenvalues, gradient_descent, normalization, residual


@pytest.mark.parametrize(("lr", "momentum"), [(0.3, 0.0), (0.05, 0.9)])
def test_momentum_step_is_the_step_that_torch_takes(lr, momentum):
    generator = torch.Generator().manual_seed(3)
    leaf = torch.randn(4, generator=generator, dtype=torch.float64, requires_grad=True)
    theta, velocity = leaf.detach().numpy().copy(), np.zeros(4)
    optimizer = torch.optim.SGD([leaf], lr=lr, momentum=momentum)
    for _ in range(5):
        leaf.grad = torch.randn(4, generator=generator, dtype=torch.float64)
        optimizer.step()
        step = gradient_descent.momentum_step.reference
        theta, velocity = step(theta, velocity, leaf.grad.numpy(), lr, momentum)
        assert np.allclose(theta, leaf.detach().numpy(), rtol=1e-12)


@pytest.mark.parametrize(("total", "warmup"), [(10, 0), (12, 4), (30, 10)])
def test_warmup_cosine_is_the_schedule_that_torch_composes(total, warmup):
    leaf = torch.zeros(1, requires_grad=True)
    optimizer = torch.optim.SGD([leaf], lr=0.3)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, total - warmup)
    schedule = cosine
    if warmup:
        optimizer = torch.optim.SGD([leaf], lr=0.3)
        rise = torch.optim.lr_scheduler.LinearLR(optimizer, 1 / warmup, 1, warmup - 1)
        cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, total - warmup)
        schedule = torch.optim.lr_scheduler.SequentialLR(optimizer, [rise, cosine], [warmup])
    for step in range(total):
        expected = optimizer.param_groups[0]["lr"]
        got = gradient_descent.warmup_cosine.reference(step, total, warmup, 0.3)
        assert got == pytest.approx(expected, abs=1e-9)
        optimizer.step()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            schedule.step()


def test_the_flattest_minimum_of_a_chain_has_equal_weights():
    rng = np.random.default_rng(0)
    for _ in range(50):
        w = np.exp(rng.normal(size=5))
        w /= np.prod(w) ** (1 / 5)
        assert gradient_descent.chain_limit.reference(w) <= 2 / 5 + 1e-12


def test_growth_rate_is_that_of_a_diagonal_product_in_closed_form():
    matrices = [np.diag([2.0, 3.0])] * 30 + [np.diag([5.0, 0.1])] * 10
    expected = math.log(math.hypot(2**30 * 5**10, 3**30 / 10**10) / math.sqrt(2)) / 40
    growth = eigenvalues.growth_rate.reference(matrices, np.array([1.0, 1.0]))
    assert growth == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("alpha", [0.25, 1.0, 7.0])
def test_the_judge_of_the_learning_rate_measures_alpha_squared(alpha):
    assert normalization._lr_ratio(alpha) == pytest.approx(alpha**2, rel=1e-9)


@pytest.mark.parametrize(("lr", "alpha"), [(0.1, 10.0), (0.3, 0.5), (1.0, 3.0)])
def test_with_the_rescaled_rate_descent_behind_batch_norm_takes_the_same_path(lr, alpha):
    generator = torch.Generator().manual_seed(0)
    x, y, start = (
        torch.randn(*shape, generator=generator, dtype=torch.float64)
        for shape in ((12, 5), (12, 3), (3, 5))
    )

    def descend(W, rate):
        for _ in range(5):
            W = W.detach().requires_grad_()
            z = x @ W.T
            z = (z - z.mean(0)) / z.std(0, unbiased=False)
            W = W - rate * torch.autograd.grad((z - y).square().mean(), W)[0]
        return W.detach()

    plain = descend(start, lr)
    scaled = descend(alpha * start, normalization.rescaled_lr.reference(lr, alpha))
    assert torch.allclose(scaled, alpha * plain, rtol=1e-6)
    assert not torch.allclose(plain, start, rtol=1e-2)


@pytest.mark.parametrize(("depth", "growth"), [(3, 5.0), (20, 2.0)])
def test_the_branch_scale_gives_the_growth_that_theory_predicts(depth, growth):
    alpha = residual.branch_scale.reference(depth, growth)
    assert theory.residual_growth(depth, alpha) == pytest.approx(growth)


@pytest.mark.parametrize("alpha", [0.3, 1.0])
def test_the_shares_of_all_paths_add_up_to_one(alpha):
    shares = [residual.path_share.reference(9, k, alpha) for k in range(10)]
    assert sum(shares) == pytest.approx(1)


def test_plain_and_residual_growth_are_the_two_ends_of_the_weak_skip():
    plain = residual.weak_skip_growth.reference(6, 0.0)
    factor = theory.batchnorm_gradient_factor("relu")
    assert plain == pytest.approx(factor**10)
    whole = residual.weak_skip_growth.reference(6, 1.0)
    assert whole == pytest.approx(theory.residual_growth(6, norm="batch"))
