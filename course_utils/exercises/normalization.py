"""Exercises of notebook 07, "Normalize the batch"."""

import math
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from .base import Cases, exercise


@exercise(
    "The backward pass of layer norm in NumPy.",
    minutes=15,
    difficulty=2,
    hints=(
        "Layer norm is batch norm of the transpose: the sums run over the units of one sample.",
        "γ belongs to a unit, so it stands inside the means now: begin with d = δ ⊙ γ.",
        "(d − mean(d) − ẑ · mean(d ⊙ ẑ))/s, each mean over axis 1 with keepdims=True.",
    ),
    reason="The projection of batch norm, over units instead of samples; γ stands between ẑ and "
    "the output, so δ ⊙ γ is what arrives at ẑ.",
)
def layernorm_backward(delta, z, gamma, eps):
    """∂𝓛/∂z from δ = ∂𝓛/∂out of a layer norm over the units of each sample."""
    s = np.sqrt(z.var(axis=1, keepdims=True) + eps)
    z_hat = (z - z.mean(axis=1, keepdims=True)) / s
    d = delta * gamma
    along = (d * z_hat).mean(axis=1, keepdims=True)
    return (d - d.mean(axis=1, keepdims=True) - z_hat * along) / s


@layernorm_backward.cases()
def _() -> Cases:
    rng = np.random.default_rng(0)
    same = (
        "Take δ, subtract its mean, subtract its part along ẑ, divide by s: all over the units "
        "(axis 1, with keepdims=True) of each sample. ε stands inside the root, as in √(var + ε)."
    )
    other = (
        "With γ = 1 everywhere it was right. Here the units have different γ: multiply δ by γ "
        "first, before any mean over the units is taken."
    )
    for B, n, eps, hint in ((3, 5, 0.1, same), (3, 5, 0.1, other), (2, 4, 1e-5, other)):
        z, delta = 2 * rng.normal(size=(B, n)) + 1, rng.normal(size=(B, n))
        gamma = np.ones(n) if hint is same else rng.uniform(0.5, 2, size=n)
        # The oracle is autograd through PyTorch's own layer norm.
        leaf = torch.tensor(z, requires_grad=True)
        out = F.layer_norm(leaf, (n,), weight=torch.tensor(gamma), eps=eps)
        (expected,) = torch.autograd.grad(out, leaf, torch.tensor(delta))
        given = f"{B} samples of {n} units, ε = {eps}, γ = {np.round(gamma, 1).tolist()}"
        yield (delta, z, gamma, eps), expected.numpy(), given, hint


@layernorm_backward.inputs
def _(rng: np.random.Generator) -> tuple[Any, ...]:
    B, n = rng.integers(2, 6), rng.integers(3, 8)
    z = rng.normal(1, 2, size=(B, n))
    return rng.normal(size=(B, n)), z, rng.uniform(0.3, 2, size=n), rng.uniform(0.01, 1)


@exercise(
    "Running mean and variance after a list of batches, as PyTorch keeps them.",
    minutes=10,
    difficulty=1,
    hints=(
        "Start with mean 0 and variance 1 for every unit.",
        "new = (1 − m)·old + m·(what this batch says).",
        "The variance of the batch is z.var(axis=0, ddof=1): unbiased.",
    ),
    reason="An exponential mean: what was there keeps the share 1 − m, so the start 0 and 1 fades "
    "as (1 − m)^k. PyTorch feeds it the unbiased variance.",
)
def running_statistics(batches, m):
    """Running mean and variance of batch norm after these batches, as PyTorch keeps them."""
    mean, variance = np.zeros(batches[0].shape[1]), np.ones(batches[0].shape[1])
    for z in batches:
        mean = (1 - m) * mean + m * z.mean(axis=0)
        variance = (1 - m) * variance + m * z.var(axis=0, ddof=1)
    return mean, variance


@running_statistics.cases(
    results={
        "the running mean": "It starts at 0. Each batch adds the share m of its mean, the old "
        "value keeps 1 − m.",
        "the running variance": "It starts at 1. Each batch adds the share m of its variance: the "
        "unbiased one, with B − 1 in the denominator.",
    },
)
def _() -> Cases:
    rng = np.random.default_rng(0)
    for B, steps, m in ((4, 1, 0.1), (2, 3, 0.1), (3, 7, 0.5), (50, 5, 0.01)):
        batches = [rng.normal(3, 2, size=(B, 3)) for _ in range(steps)]
        layer = nn.BatchNorm1d(3, momentum=m, dtype=torch.float64)
        for z in batches:
            layer(torch.tensor(z))
        expected = [layer.get_buffer(f"running_{name}").numpy() for name in ("mean", "var")]
        given = f"{steps} {'batch' if steps == 1 else 'batches'} of {B} samples, m = {m}"
        yield (batches, m), expected, given


@running_statistics.inputs
def _(rng: np.random.Generator) -> tuple[Any, ...]:
    shape = rng.integers(2, 7), rng.integers(2, 5)
    spread = rng.uniform(0.5, 3)
    batches = [rng.normal(2, spread, size=shape) for _ in range(rng.integers(1, 6))]
    return batches, rng.uniform(0.02, 0.9)


@exercise(
    "Batch, layer, instance and group norm of images: which axes does each average over?",
    minutes=15,
    difficulty=2,
    hints=(
        "Only the axes differ. With keepdims=True the rest of the code is the same for all.",
        "batch: (0, 2, 3). layer: (1, 2, 3). instance: (2, 3).",
        "group: reshape to (B, groups, C//groups, H, W), normalize over the last three axes, "
        "reshape back.",
    ),
    reason="All four subtract a mean and divide by a standard deviation; which values share them "
    "is all that differs. Neighbors go into one group because reshape cuts in order.",
)
def normalize(x, kind, groups=2):
    """Batch, layer, instance or group norm of images x of shape (B, C, H, W), ε = 0."""
    B, C, H, W = x.shape
    axes = {"batch": (0, 2, 3), "layer": (1, 2, 3), "instance": (2, 3), "group": (2, 3, 4)}[kind]
    parts = x.reshape(B, groups, C // groups, H, W) if kind == "group" else x
    centered = parts - parts.mean(axis=axes, keepdims=True)
    return (centered / parts.std(axis=axes, keepdims=True)).reshape(x.shape)


@normalize.cases()
def _() -> Cases:
    rng = np.random.default_rng(0)
    norms = {
        "batch": lambda x: F.batch_norm(x, None, None, training=True, eps=1e-300),
        "layer": lambda x: F.layer_norm(x, x.shape[1:], eps=1e-300),
        "instance": lambda x: F.group_norm(x, x.shape[1], eps=1e-300),
    }
    hints = {
        "batch": "one mean per channel, over samples and pixels",
        "layer": "one mean per sample, over channels and pixels",
        "instance": "one mean per sample and channel, over pixels",
    }
    in_groups = "Expected: the channels of a sample in {} groups of neighbors, one mean per group; "
    for shape in ((3, 4, 2, 5), (4, 6, 3, 3), (2, 4, 2, 2)):
        x = rng.normal(size=shape) * rng.uniform(0.5, 2, size=(1, shape[1], 1, 1)) + 1
        for kind, norm in norms.items():
            hint = f"Expected: {hints[kind]}; biased variance."
            given = f"x of shape {shape}, kind={kind!r}"
            yield (x, kind), norm(torch.tensor(x)).numpy(), given, hint
        for groups in (2, shape[1] // 2, shape[1]):
            hint = f"{in_groups.format(groups)}biased variance."
            expected = F.group_norm(torch.tensor(x), groups, eps=1e-300).numpy()
            given = f"x of shape {shape}, kind='group', groups={groups}"
            yield (x, "group", groups), expected, given, hint


@normalize.inputs
def _(rng: np.random.Generator) -> tuple[Any, ...]:
    kind = rng.choice(["batch", "layer", "instance", "group", "group"])
    groups, size = rng.integers(1, 4), rng.integers(2, 4)
    shape = rng.integers(2, 5), groups * size, rng.integers(2, 4), rng.integers(2, 5)
    x = rng.normal(size=shape) * rng.uniform(0.5, 2, size=(1, shape[1], 1, 1)) + 1
    return x, str(kind), int(groups)


@exercise(
    "One linear layer that does what linear and batch norm do in eval mode.",
    minutes=10,
    difficulty=2,
    hints=(
        "In eval mode mean and variance are constants: batch norm is a·z + c for each unit.",
        "a = γ/√(variance + ε) and c = β − a·mean. Insert z = Wx + b.",
        "W′ = a[:, None] * W, b′ = a * (b − mean) + β.",
    ),
    reason="Two affine maps in a row are one: a(Wx + b) + c = (aW)x + (ab + c), unit by unit.",
)
def fold_batchnorm(W, b, gamma, beta, mean, variance, eps):
    """Weights and bias of one linear layer that does the work of linear and batch norm in eval."""
    scale = gamma / np.sqrt(variance + eps)
    return scale[:, None] * W, scale * (b - mean) + beta


@fold_batchnorm.cases(
    results={
        "the new W": "Row i of W is multiplied by γ_i/√(variance_i + ε).",
        "the new b": "The old b meets the same factor as W: insert z = Wx + b into "
        "γ(z − μ)/√(…) + β.",
    },
)
def _() -> Cases:
    rng = np.random.default_rng(0)
    for n_out, n_in, eps in ((4, 2, 0.5), (1, 3, 1e-5), (3, 3, 1e-3)):
        W, b = rng.normal(size=(n_out, n_in)), rng.normal(size=n_out)
        gamma, beta, mean = rng.normal(size=(3, n_out))
        variance = rng.uniform(0.1, 3, size=n_out)
        # The oracle is read off PyTorch's own layer in eval mode, at 0 and at the unit vectors.
        z = np.vstack([np.zeros(n_in), np.eye(n_in)]) @ W.T + b
        x, at, spread, scale, shift = map(torch.tensor, (z, mean, variance, gamma, beta))
        out = F.batch_norm(x, at, spread, scale, shift, eps=eps).numpy()
        inputs = W, b, gamma, beta, mean, variance, eps
        yield inputs, ((out[1:] - out[0]).T, out[0]), f"W of shape ({n_out}, {n_in}), ε = {eps}"


@fold_batchnorm.inputs
def _(rng: np.random.Generator) -> tuple[Any, ...]:
    n_out, n_in = rng.integers(2, 6), rng.integers(2, 6)
    W, b = rng.normal(size=(n_out, n_in)), rng.normal(size=n_out)
    gamma, beta, mean = rng.normal(size=(3, n_out))
    return W, b, gamma, beta, mean, rng.uniform(0.1, 3, size=n_out), rng.uniform(0.01, 1)


@exercise(
    "The factor of g² per layer for batch norm and leaky ReLU, in closed form.",
    minutes=10,
    difficulty=2,
    hints=(
        "It is E[φ′²]/Var φ with z ~ N(0, 1). Half of the z are negative.",
        "E φ′² = (1 + a²)/2, and because φ is linear on each side E φ² is the same.",
        "E φ = (1 − a)·E[z, z > 0] = (1 − a)/√(2π). Var φ = E φ² − (E φ)².",
    ),
    reason="Equation 4, E[φ′²]/Var φ. A leaky ReLU is linear on each side, so E φ′² and E φ² are "
    "both (1 + a²)/2, and only the mean makes a difference.",
)
def leaky_relu_factor(a):
    """Factor of g² per layer for batch norm before leaky ReLU of slope a, infinite batch."""
    mean_square = (1 + a**2) / 2
    return mean_square / (mean_square - (1 - a) ** 2 / (2 * math.pi))


@leaky_relu_factor.cases()
def _() -> Cases:
    z = np.linspace(-12, 12, 480_000)  # none of them 0
    bell = np.exp(-(z**2) / 2)
    bell /= bell.sum()
    hints = {0.0: "a = 0 is ReLU: π/(π−1).", 1.0: "a = 1 is linear, which costs nothing."}
    default = "Half of the z are negative: check E φ′², E φ² and E φ one by one."
    for a in (0.0, 1.0, 0.5, 0.01, -0.5, 2.0):
        h = np.where(z > 0, z, a * z)
        slope = np.where(z > 0, 1.0, a)
        mean = (bell * h).sum()
        expected = (bell * slope**2).sum() / (bell * (h - mean) ** 2).sum()
        yield (a,), expected, f"a = {a:g}", hints.get(a, default)


@leaky_relu_factor.inputs
def _(rng: np.random.Generator) -> tuple[Any, ...]:
    return (rng.uniform(-0.9, 1.9),)


@exercise(
    "The learning rate that makes SGD from αw follow the path of SGD from w.",
    minutes=10,
    difficulty=2,
    hints=(
        "Write down one step from w and one from αw. The second shall be α times the first.",
        "αw − η′·grad(αw) = α(w − η·grad(w)), and grad(αw) = grad(w)/α.",
        "η′/α = αη.",
    ),
    reason="The gradient at αw is α times smaller (equation 2), and the step must be α times "
    "longer: α in both places makes α².",
)
def rescaled_lr(lr, alpha):
    """Learning rate with which SGD from αw takes the same path as from w with `lr`, scaled by α."""
    return alpha**2 * lr


@rescaled_lr.cases(
    "The step from αw must be α times as long as the one from w. How long is the gradient at αw, "
    "by equation 2?"
)
def _() -> Cases:
    for lr, alpha in ((0.1, 1.0), (0.1, 10.0), (0.3, 0.5), (1.0, 3.0)):
        yield (lr, alpha), lr * _lr_ratio(alpha), f"lr = {lr:g}, α = {alpha:g}"


@rescaled_lr.inputs
def _(rng: np.random.Generator) -> tuple[Any, ...]:
    return rng.uniform(0.01, 1), rng.uniform(0.2, 5)


def _lr_ratio(alpha: float) -> float:
    """By how much the rate must grow: the step is to grow by α while the gradient falls by α."""
    x = torch.tensor([[1.0, 2.0], [0.5, -1.0], [3.0, 0.0]], dtype=torch.float64)

    def gradient(scale: float) -> torch.Tensor:
        w = (scale * torch.tensor([0.3, -0.7], dtype=torch.float64)).requires_grad_()
        z = x @ w
        z = (z - z.mean()) / z.std(unbiased=False)
        return torch.autograd.grad((z - torch.arange(3)).square().sum(), w)[0]

    return float(alpha * gradient(1.0).norm() / gradient(alpha).norm())
