"""Exercises of notebook 08, "Skip ahead"."""

import math
from typing import Any

import numpy as np
import torch

from .base import Cases, exercise


@exercise(
    "The backward pass of one residual block in NumPy, with the gradient of its factor.",
    minutes=15,
    difficulty=2,
    hints=(
        "Write the block as x + α·h Wᵀ with h = ReLU(x). x appears twice, so two terms add up.",
        "Through the branch: δ @ W, then the slope of ReLU, then α.",
        "d_x = δ + α (δ @ W) * (x > 0); d_W = α δᵀ @ h; d_alpha = (δ * (h @ W.T)).sum().",
    ),
    reason="The derivative of a block is I + αJ, so δ arrives once as it is and once through the "
    "branch; α multiplies the whole branch, so its derivative is the branch itself.",
)
def block_backward(delta, x, W, alpha):
    """∂𝓛/∂x, ∂𝓛/∂W and ∂𝓛/∂α of the block x + α·ReLU(x) Wᵀ, samples in rows."""
    h = np.maximum(x, 0)
    d_x = delta + alpha * (delta @ W) * (x > 0)
    d_W = alpha * delta.T @ h
    d_alpha = (delta * (h @ W.T)).sum()
    return d_x, d_W, d_alpha


@block_backward.cases(
    results={
        "∂𝓛/∂x": "δ arrives by two roads: through the skip as it is, and through the branch.",
        "∂𝓛/∂W": "The branch is α·h Wᵀ with h = ReLU(x); sum over the samples.",
        "∂𝓛/∂α": "α multiplies every entry of the branch: sum δ times the branch without α.",
    },
)
def _() -> Cases:
    rng = np.random.default_rng(0)
    for B, n, alpha in ((1, 3, 1.0), (4, 5, 0.5), (6, 2, -2.0), (5, 4, 0.0)):
        x, delta, W = rng.normal(size=(B, n)), rng.normal(size=(B, n)), rng.normal(size=(n, n))
        # The oracle is autograd.
        leaves = [torch.tensor(v, dtype=torch.float64, requires_grad=True) for v in (x, W, alpha)]
        out = leaves[0] + leaves[2] * torch.relu(leaves[0]) @ leaves[1].T
        grads = torch.autograd.grad(out, leaves, torch.tensor(delta))
        given = f"{B} samples of {n} units, α = {alpha:g}"
        yield (delta, x, W, alpha), [grad.numpy() for grad in grads], given


@block_backward.inputs
def _(rng: np.random.Generator) -> tuple[Any, ...]:
    B, n = rng.integers(2, 6), rng.integers(2, 6)
    x, delta = rng.normal(size=(2, B, n))
    return delta, x, rng.normal(size=(n, n)), rng.uniform(-1.5, 1.5)


@exercise(
    "The factor α on all branches that gives the network a chosen total growth of g².",
    minutes=10,
    difficulty=1,
    hints=(
        "What does one block x + α·branch(x) multiply g² by?",
        "(1 + α²)^L = growth. Solve for α.",
        "α = √(growth^(1/L) − 1).",
    ),
    reason="Mixed terms cancel, so each block multiplies g² by 1 + α² and L of them by its power.",
)
def branch_scale(depth, growth):
    """α for which L blocks x + α·branch(x), He branches, multiply g² by `growth` in all."""
    return math.sqrt(growth ** (1 / depth) - 1)


@branch_scale.cases("One block multiplies g² by 1 + α², so L of them by (1 + α²)^L.")
def _() -> Cases:
    for depth, growth in ((1, 2.0), (10, 1024.0), (50, math.e), (4, 1.0), (100, 7.0)):
        expected = float(np.sqrt(np.expm1(np.log(growth) / depth)))
        yield (depth, growth), expected, f"L = {depth}, growth {growth:.4g}"


@branch_scale.inputs
def _(rng: np.random.Generator) -> tuple[Any, ...]:
    return int(rng.integers(1, 120)), rng.uniform(1.1, 40)


@exercise(
    "The growth of g² over L blocks a·x + branch(x) with batch norm in the branch.",
    minutes=15,
    difficulty=3,
    hints=(
        "Follow the variance s of x over the batch, block by block, and start at 1.",
        "s becomes a²·s + (1 − 1/π). The norm divides the gradient of the branch by √s.",
        "g² is multiplied by a² + 1/s, with the s in front of that block.",
    ),
    reason="Skip and branch are independent, so their squares add up: a² s + 1 − 1/π forward (the "
    "norm subtracts the share 1/π that all samples have in common), a² + 1/s backward.",
)
def weak_skip_growth(depth, a):
    """Factor of g² over L blocks a·x + branch(x), batch norm and ReLU in the branch, x_0 ~ N(0, 1).

    Wide network, large batch.
    """
    growth, variance = 1.0, 1.0
    for _ in range(depth):
        growth *= a**2 + 1 / variance
        variance = a**2 * variance + 1 - 1 / math.pi
    return growth


@weak_skip_growth.cases()
def _() -> Cases:
    hints = {
        1.0: "a = 1 is a residual network: s_l = 1 + l(1 − 1/π).",
        0.0: "a = 0 is a plain network: 1 for the first block, π/(π−1) for the others.",
    }
    default = "s_l = a² s_(l−1) + 1 − 1/π, and block l multiplies g² by a² + 1/s_(l−1)."
    for depth, a in ((1, 1.0), (3, 1.0), (40, 1.0), (1, 0.0), (5, 0.0), (7, 0.5), (20, 0.9)):
        # The variances in closed form, a geometric sum, instead of step by step.
        level = np.arange(depth)
        square, varying = a * a, 1 - 1 / math.pi
        fresh = level if a == 1 else (1 - square**level) / (1 - square)
        variance = square**level + varying * fresh
        expected = float(np.prod(square + 1 / variance))
        yield (depth, a), expected, f"L = {depth}, a = {a:g}", hints.get(a, default)


@weak_skip_growth.inputs
def _(rng: np.random.Generator) -> tuple[Any, ...]:
    return int(rng.integers(1, 40)), rng.uniform(0, 1.2)


@exercise(
    "The share of the squared gradient that came through exactly k of L branches.",
    minutes=10,
    difficulty=2,
    hints=(
        "There are 2^L paths. How many of them go through exactly k branches?",
        "Each branch on the path multiplies the mean square by α². Divide by the sum over all k.",
        "math.comb(L, k) α^(2k) / (1 + α²)^L.",
    ),
    reason="Different paths have mean product 0, so their squares add up: comb(L, k) paths of "
    "α^(2k) each, and by the binomial theorem (1 + α²)^L in all.",
)
def path_share(depth, length, alpha):
    """Share of the squared gradient that came through exactly `length` branches, no norm."""
    return math.comb(depth, length) * alpha ** (2 * length) / (1 + alpha**2) ** depth


@path_share.cases("Choose the k blocks whose branch is taken; each multiplies the square by α².")
def _() -> Cases:
    cases = [(1, 0, 1.0), (4, 2, 1.0), (10, 1, 0.5), (50, 25, 1.0), (50, 1, 50**-0.5), (6, 6, 2.0)]
    for depth, length, alpha in cases:
        # The coefficient of t^k in ∏(1 + α² t), by multiplying polynomials.
        product = np.array([1.0])
        for _ in range(depth):
            product = np.convolve(product, [1.0, alpha**2])
        expected = product[length] / product.sum()
        yield (depth, length, alpha), expected, f"L = {depth}, k = {length}, α = {alpha:.4g}"


@path_share.inputs
def _(rng: np.random.Generator) -> tuple[Any, ...]:
    depth = int(rng.integers(2, 12))
    return depth, int(rng.integers(0, depth + 1)), rng.uniform(0.4, 1.5)


@exercise(
    "Fixup's factor on the weights of a branch with m layers, in a network of L blocks.",
    minutes=10,
    difficulty=2,
    hints=(
        "Section 5 has m = 2: one layer is scaled, and its squared output enters the first step.",
        "The last layer is 0; each of the other m − 1 times c, the squared output times c^(2m−2).",
        "c^(2m−2) = 1/L.",
    ),
    reason="L blocks move the output together, each by the squared output of its m − 1 scaled "
    "layers: L·c^(2m−2) = 1 makes the first step independent of the depth.",
)
def fixup_scale(depth, layers):
    """Factor on He's weights, all layers of the branch but its last, for L blocks of m layers."""
    return depth ** (-1 / (2 * layers - 2))


@fixup_scale.cases("The squared output of the m − 1 scaled layers must be 1/L of its old size.")
def _() -> Cases:
    for depth, layers in ((1, 2), (16, 2), (16, 3), (100, 2), (64, 4), (7, 2), (50, 3), (33, 5)):
        # With m − 1 scaled layers, the change of a block after a step is scaled by scale^(2m − 2).
        expected = math.exp(-math.log(depth) / (2 * layers - 2))
        yield (depth, layers), expected, f"L = {depth} blocks of m = {layers} layers"


@fixup_scale.inputs
def _(rng: np.random.Generator) -> tuple[Any, ...]:
    return int(rng.integers(2, 200)), int(rng.integers(2, 7))


@exercise(
    "From which depth are plain gradients less correlated than this?",
    minutes=5,
    difficulty=1,
    hints=(
        "Batch norm, plain, ReLU: each layer halves the correlation.",
        "The smallest whole L with ½^L < correlation. 0 layers have the correlation 1.",
        "A loop that counts up is enough; with logarithms mind 0.25: 2 layers do not do.",
    ),
    reason="Each plain layer halves the correlation, since half of the units open for one sample "
    "are open for the other; at ½^L itself it is equal and not yet below.",
)
def shattering_depth(correlation):
    """The smallest depth L of a plain ReLU net with batch norm that is below this correlation."""
    depth = 0
    while 0.5**depth >= correlation:
        depth += 1
    return depth


@shattering_depth.cases(
    "It is ½^L after L layers, and at ½^L itself it is not yet below.", rtol=0, atol=0
)
def _() -> Cases:
    for correlation in (1.0, 0.9, 0.5, 0.4, 0.25, 0.1, 0.01, 1e-6):
        expected = next(depth for depth in range(100) if 1 / 2**depth < correlation)
        yield (correlation,), expected, f"correlation {correlation:g}"


@shattering_depth.inputs
def _(rng: np.random.Generator) -> tuple[Any, ...]:
    return (float(2.0 ** -rng.uniform(0, 14)),)
