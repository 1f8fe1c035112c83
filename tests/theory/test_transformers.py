"""Attention and width against sampled softmaxes, stacks of attention, and torch's Adam."""

import math

import numpy as np
import pytest
import torch

from course_utils import theory
from course_utils.runtime import seeded


def jacobian_squares(std, keys, count=60_000):
    p = (std * torch.randn(count, keys, generator=seeded(0), dtype=torch.float64)).softmax(1)
    two, three = p.square().sum(1), p.pow(3).sum(1)
    return two - 2 * three + two**2


@pytest.mark.parametrize("keys", [2, 10, 64])
@pytest.mark.parametrize("std", [0.3, 1.0, 2.5, 8.0, 32.0])
def test_the_jacobian_of_a_softmax_has_the_predicted_mean_square(keys, std):
    found = jacobian_squares(std, keys)
    error = float(found.std() / len(found) ** 0.5)
    predicted = theory.softmax_jacobian_mean_square(keys, std)
    assert float(found.mean()) == pytest.approx(predicted, abs=4 * error)


def test_the_formula_of_the_jacobian_is_its_frobenius_norm():
    p = torch.randn(7, generator=seeded(1), dtype=torch.float64).softmax(0)
    exact = (torch.diag(p) - torch.outer(p, p)).square().sum()
    two = p.square().sum()
    assert exact == pytest.approx(float(two - 2 * p.pow(3).sum() + two**2))


@pytest.mark.parametrize("keys", [2, 8, 64, 1000])
def test_gaps_between_the_two_largest_are_counted(keys):
    x = torch.randn(40_000, keys, generator=seeded(2))
    top = x.topk(2, dim=1).values
    gap = (top[:, 0] - top[:, 1]).double()
    assert gap.median().item() == pytest.approx(theory.top_gap_median(keys), rel=0.03)
    near = (gap < 0.05).double().mean() / 0.05
    assert near.item() == pytest.approx(theory.top_gap_density(keys), rel=0.12)


def test_far_out_the_mean_square_is_a_matter_of_near_ties():
    tail = theory.top_gap_density(64) / (3 * 1000)
    assert theory.softmax_jacobian_mean_square(64, 1000.0) == pytest.approx(tail, rel=0.01)


def normed(x):
    return x / x.square().mean(-1, keepdim=True).sqrt()


def stack(layers, tokens, layout, correlation, seeds=8, d=128):
    """Mean correlation of the tokens, and mean log g² over the top, of simulated attention."""
    rho, squares = [], []
    for seed in range(seeds):
        g = seeded(seed)

        def draw(*shape, g=g):
            return torch.randn(*shape, generator=g, dtype=torch.float64)

        shared = correlation**0.5 * draw(1, d) + (1 - correlation) ** 0.5 * draw(tokens, d)
        states = [normed(shared).requires_grad_()]
        for _ in range(layers):
            x = states[-1]
            h = normed(x) if layout.startswith("pre") else x
            q, k, v = (h @ draw(d, d) / d**0.5 for _ in range(3))
            out = (q @ k.T / d**0.5).softmax(-1) @ v
            if layout == "none":
                states.append(normed(out))
            elif layout == "post":
                states.append(normed(x + out))
            else:
                states.append(x + (out if layout == "pre" else out / (2 * layers) ** 0.5))
        gradients = torch.autograd.grad((states[-1] * draw(tokens, d)).sum(), states)
        sizes = torch.stack([gradient.square().mean() for gradient in gradients])
        squares.append((sizes / sizes[-1]).log())
        flat = [normed(state.detach()) for state in states]
        gram = torch.stack([h @ h.T / d for h in flat])
        rho.append((gram.sum((1, 2)) / tokens - 1) / (tokens - 1))
    return torch.stack(rho).mean(0), torch.stack(squares).mean(0)


@pytest.mark.parametrize(
    ("layout", "layers", "tokens", "correlation"),
    [
        ("post", 12, 64, 0.0),
        ("post", 10, 16, 0.5),
        ("pre", 12, 64, 0.0),
        ("pre", 10, 16, 0.5),
        ("pre_scaled", 12, 32, 0.0),
        ("none", 1, 32, 0.5),
    ],
)
def test_a_stack_of_attention_follows_its_profile(layout, layers, tokens, correlation):
    rho, squares = theory.attention_profile(layers, tokens, layout, correlation)
    found, logs = stack(layers, tokens, layout, correlation)
    apart = np.log((1 - found.numpy()) / (1 - np.array(rho)))
    assert np.abs(apart[: layers + 1]).max() < (0.45 if layout == "post" else 0.25)
    assert np.abs(logs.numpy() - np.log(squares)).max() < 0.6
    assert squares[-1] == 1 and rho[0] == correlation and len(rho) == layers + 1


def test_one_layer_of_attention_is_the_first_step_of_the_profile():
    rho, _ = theory.attention_profile(1, 20, "none", 0.3)
    assert rho[1] == theory.attention_correlation(0.3, 20)
    assert theory.attention_correlation(1.0, 20) == 1


def test_the_blocks_of_a_pre_norm_stack_get_what_is_predicted():
    n, depth, found = 256, 12, []
    for seed in range(6):
        g = seeded(seed)
        x = torch.randn(64, n, generator=g, dtype=torch.float64)
        weights = [
            (torch.randn(n, n, generator=g, dtype=torch.float64) / n**0.5).requires_grad_()
            for _ in range(depth)
        ]
        for W in weights:
            x = x + normed(x) @ W
        up = torch.randn(x.shape, generator=g, dtype=torch.float64)
        grads = torch.autograd.grad((normed(x) * up).sum(), weights)
        found.append([float(grad.norm()) for grad in grads])
    measured = np.exp(np.log(found).mean(0))
    predicted = np.array([1 / math.sqrt(1 + layer) for layer in range(depth)])
    shift = [theory.preln_gradient(layer) for layer in range(depth)]
    assert np.abs(np.log(measured / measured[0] / (predicted / predicted[0]))).max() < 0.35
    assert np.all(np.diff(shift) < 0)


@pytest.mark.parametrize("layers", [6, 24])
def test_a_deepnorm_stack_starts_near_the_identity(layers):
    n, g = 512, seeded(3)
    x = start = torch.randn(64, n, generator=g, dtype=torch.float64)
    beta = (8 * layers) ** -0.25
    for _ in range(2 * layers):
        W = beta * torch.randn(n, n, generator=g, dtype=torch.float64) / n**0.5
        V = beta * torch.randn(n, n, generator=g, dtype=torch.float64) / n**0.5
        x = normed((2 * layers) ** 0.25 * x + x @ W @ V)
    cosine = torch.cosine_similarity(x, start).mean()
    assert cosine.item() == pytest.approx(theory.deepnorm_correlation(layers), abs=0.01)


@pytest.mark.parametrize(("width", "batch"), [(64, 1), (1024, 1), (512, 8)])
def test_a_step_of_adam_moves_a_preactivation_as_predicted(width, batch):
    g, moved = seeded(4), []
    for _ in range(10):
        h = torch.randn(batch, width, generator=g)
        layer = torch.nn.Parameter(torch.zeros(200, width))
        layer.grad = torch.randn(batch, 200, generator=g).T @ h
        torch.optim.Adam([layer], lr=1e-3, eps=0.0).step()
        moved.append((h @ layer.detach().T).square().mean())
    found = torch.stack(moved).mean().sqrt()
    assert found.item() == pytest.approx(theory.adam_feature_step(1e-3, width, batch), rel=0.05)


@pytest.mark.parametrize(
    ("name", "arguments", "error", "said"),
    [
        ("softmax_jacobian_mean_square", (1, 1.0), ValueError, "keys=1"),
        ("softmax_jacobian_mean_square", (4, 0.0), ValueError, "std=0.0"),
        ("top_gap_density", (1,), ValueError, "keys=1"),
        ("top_gap_median", (2.5,), TypeError, "keys=2.5"),
        ("attention_correlation", (1.1, 4), ValueError, "correlation=1.1"),
        ("attention_correlation", (0.1, 1), ValueError, "tokens=1"),
        ("attention_profile", (0, 4, "pre"), ValueError, "layers=0"),
        ("attention_profile", (3, 4, "prenorm"), ValueError, "layout='prenorm'"),
        ("preln_gradient", (-1,), ValueError, "layer=-1"),
        ("deepnorm_correlation", (0,), ValueError, "layers=0"),
        ("adam_feature_step", (0, 4), ValueError, "lr=0"),
        ("adam_lr_ratio", ([], [4]), ValueError, "fan_ins is empty"),
        ("adam_lr_ratio", ([4], [0]), ValueError, "base_fan_ins"),
    ],
)
def test_values_out_of_range_are_refused_by_name(name, arguments, error, said):
    with pytest.raises(error, match=said):
        getattr(theory, name)(*arguments)
