"""Exercises of notebook 04, "Differentiate the activations"."""

import math
from collections.abc import Callable
from functools import partial
from statistics import NormalDist

import numpy as np
import torch
from torch import nn

from .. import theory
from .base import Cases, exercise


@exercise(
    "The slope of SiLU, z·sigmoid(z), for any z up to ±1000.",
    minutes=5,
    difficulty=1,
    hints=(
        "Differentiate z·s(z) by the product rule.",
        "s′ = s(1 − s), so the slope is s + z·s·(1 − s).",
        "For z < 0 write s as e/(1 + e) with e = exp(z); for z ≥ 0 as 1/(1 + e) with e = exp(−z).",
    ),
    reason="The product rule gives s + z·s′ with s′ = s(1 − s); exp(−|z|) never exceeds 1, so "
    "nothing overflows.",
)
def silu_slope(z):
    """Slope of z·sigmoid(z), for any z."""
    e = np.exp(-np.abs(z))
    s = np.where(z >= 0, 1, e) / (1 + e)
    return s + z * s * (1 - s)


@silu_slope.cases("Product rule: sigmoid(z) + z·sigmoid′(z), for every entry of z.", atol=1e-7)
def _() -> Cases:
    rule = "Product rule: sigmoid(z) + z·sigmoid′(z), and sigmoid′ = s(1 − s)."
    large = "exp(1000) is Inf, and Inf/Inf is NaN. Use exp(−|z|), which never overflows."
    for z, given, hint in (
        (np.array([0.0, 1.0, -1.0, 2.3993572805]), "z = 0, 1, −1, 2.399", rule),
        (np.linspace(-30, 30, 61).reshape(1, 61), "61 values from −30 to 30 in one row", rule),
        (np.array([-1000.0, -800.0, 800.0, 1000.0]), "z = ±800 and ±1000", large),
    ):
        yield (z,), _slope(lambda leaf: leaf * torch.sigmoid(leaf), z), given, hint


@silu_slope.inputs
def _(rng: np.random.Generator) -> tuple[np.ndarray]:
    shape = tuple(rng.integers(1, 6, size=int(rng.integers(1, 4))))
    return (rng.choice([1.0, 4.0, 300.0]) * rng.normal(size=shape),)


def _slope(function: Callable[[torch.Tensor], torch.Tensor], z: np.ndarray) -> np.ndarray:
    """φ′(z) of a torch function by autograd, arrays in and out."""
    leaf = torch.as_tensor(z, dtype=torch.float64).detach().clone().requires_grad_()
    return torch.autograd.grad(function(leaf).sum(), leaf)[0].numpy()


@exercise(
    "The share of ReLU units that are silent on a whole batch.",
    minutes=5,
    difficulty=1,
    hints=(
        "h has one row per sample and one column per unit.",
        "A unit is dead if all entries of its column are 0: np.all along one axis.",
        "np.mean of the booleans np.all(h == 0, axis=0).",
    ),
    reason="One column is one unit, and it is dead if it is 0 for all samples; the mean of truth "
    "values is the share that is true.",
)
def dead_share(h):
    """Share of the units that are silent on every sample of the batch."""
    return np.mean(np.all(h == 0, axis=0))


@dead_share.cases(
    "A unit is dead if its whole column is 0. One 0 is no death: the unit may fire on another "
    "sample."
)
def _() -> Cases:
    rng = np.random.default_rng(0)
    h = np.maximum(rng.normal(size=(50, 8)), 0)
    h[:, [1, 4]] = 0
    wide = np.maximum(rng.normal(size=(3, 40)) - 0.5, 0)
    for values, given in (
        (np.array([[0.0, 1.0, 0.0], [2.0, 0.0, 0.0]]), "[[0, 1, 0], [2, 0, 0]]"),
        (h, "50 samples of 8 units, two of which never fire"),
        (wide, "3 samples of 40 units"),
        (np.zeros((4, 2)), "4 samples of 2 units, all zero"),
        (np.array([[0.0, 3.0], [1e-20, 3.0]]), "a unit that fires very weakly"),
    ):
        dead = sum(not any(column) for column in values.T.tolist())
        yield (values,), dead / values.shape[1], given


@dead_share.inputs
def _(rng: np.random.Generator) -> tuple[np.ndarray]:
    samples, units = rng.integers(2, 9), rng.integers(3, 30)
    h = np.maximum(rng.normal(size=(samples, units)) - rng.uniform(-0.5, 1.0, units), 0)
    h[:, : rng.integers(1, 3)] = 0
    return (rng.permutation(h, axis=1),)


@exercise(
    "The weight variance σ_w² at which a net of two-slope units keeps its gradient.",
    minutes=5,
    difficulty=2,
    hints=(
        "χ = σ_w² E[φ′²] has to be 1.",
        "φ′ takes two values, each on half of the units.",
        "E[φ′²] = (left² + right²)/2.",
    ),
    reason="z is on either side with probability ½, so E[φ′²] = (left² + right²)/2, and χ = σ_w² "
    "E[φ′²] is to be 1.",
)
def critical_weight_variance(left, right):
    """σ_w² at which neither signal nor gradient changes, slope `left` for z < 0, else `right`."""
    return 2 / (left**2 + right**2)


@critical_weight_variance.cases(
    "Half of the units are on each side: E[φ′²] is the mean of the squared slopes."
)
def _() -> Cases:
    for left, right in ((0.0, 1.0), (0.01, 1.0), (0.25, 1.0), (1.0, 1.0), (-1.0, 1.0), (0.5, 2.0)):

        def phi(z, left=left, right=right):
            return torch.where(z > 0, right * z, left * z)

        expected = theory.critical_weight_variance(phi)  # looks for χ₁ = 1 by quadrature
        yield (left, right), expected, f"slope {left:g} on the left and {right:g} on the right"


@critical_weight_variance.inputs
def _(rng: np.random.Generator) -> tuple[float, float]:
    return float(rng.uniform(-1.5, 1.5)), float(rng.uniform(0.2, 2))


@exercise(
    "Take the gradient back through maxout: from ∂𝓛/∂h to ∂𝓛/∂z.",
    minutes=10,
    difficulty=2,
    hints=(
        "By how much does h = max(z₁, z₂, z₃) change when a piece that is not the largest grows "
        "a little?",
        "Make a mask of the shape of z that is 1 at the largest piece of each unit.",
        "delta has one axis less than z: delta[:, :, None] lets it multiply the mask.",
    ),
    reason="h moves with its largest piece and with no other, so that piece has slope 1 and the "
    "others 0. argmax names one winner, also where two pieces tie.",
)
def maxout_backward(delta, z):
    """∂𝓛/∂z of a maxout layer from ∂𝓛/∂h."""
    winner = np.arange(z.shape[2]) == z.argmax(axis=2)[:, :, None]
    return delta[:, :, None] * winner


@maxout_backward.cases(
    "Only the largest piece of each unit moves h. It gets the whole of ∂𝓛/∂h, the others get 0."
)
def _() -> Cases:
    delta, z = np.array([[2.0, -3.0]]), np.array([[[-1.0, -2.0], [-5.0, -4.0]]])
    hint = (
        "Maxout takes the largest piece, whatever its sign. That piece gets the whole of ∂𝓛/∂h, "
        "the others get 0."
    )
    expected = np.array([[[2.0, 0.0], [0.0, -3.0]]])
    yield (delta, z), expected, "delta = [[2, -3]], z = [[[-1, -2], [-5, -4]]]", hint
    for seed, (batch, n, k) in enumerate(((1, 1, 2), (4, 3, 2), (2, 5, 3), (3, 3, 3))):
        rng = np.random.default_rng(seed)
        delta, z = rng.normal(size=(batch, n)), rng.normal(size=(batch, n, k))
        leaf = torch.tensor(z, requires_grad=True)
        (grad,) = torch.autograd.grad(leaf.amax(dim=-1), leaf, torch.tensor(delta))
        yield (delta, z), grad.numpy(), f"batch {batch}, {n} units of {k} pieces"


@maxout_backward.inputs
def _(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    batch, n, k = rng.integers(1, 5, 3) + np.array([0, 0, 1])
    return rng.normal(size=(batch, n)), rng.normal(size=(batch, n, k)) + rng.uniform(-2, 2)


@exercise(
    "The shift b at which a given share of the ReLU units is silent on a data set.",
    minutes=10,
    difficulty=2,
    hints=(
        "The preactivation is N(−b, 1). With which probability is it below 0?",
        "Φ(b)^samples = share. Take that root of the share first.",
        "NormalDist().inv_cdf from the module statistics is Φ⁻¹.",
    ),
    reason="Silent on one sample has the probability Φ(b), on all of them its power, and Φ⁻¹ of "
    "the root undoes both.",
)
def fatal_bias(share, samples):
    """Shift b at which this share of the units is silent on all samples."""
    return NormalDist().inv_cdf(share ** (1 / samples))


@fatal_bias.cases(
    "One unit is silent on one sample with probability Φ(b), on N samples with Φ(b)^N. Solve for b."
)
def _() -> Cases:
    for share, samples in ((0.5, 1), (0.1, 1), (0.5, 100), (0.9, 1000), (0.01, 60_000)):
        expected = NormalDist().inv_cdf(math.exp(math.log(share) / samples))
        yield (share, samples), expected, f"share {share:g} on {samples} samples"


@fatal_bias.inputs
def _(rng: np.random.Generator) -> tuple[float, int]:
    return float(rng.uniform(0.01, 0.99)), int(10 ** rng.uniform(0, 5))


@exercise(
    "E[φ′(z)²] for z ~ N(0, variance), to 0.2 %, for any slope and variance.",
    minutes=15,
    difficulty=3,
    hints=(
        "It is the integral of slope(z)² times the density of N(0, variance).",
        "A fine grid over ±10 standard deviations is enough: sum the integrand, times the step.",
        "At variance 400 the sigmoid's slope lives in |z| < 10, half a standard deviation, and the "
        "grid has to reach ±200: np.linspace(-10, 10, 200_001) times the standard deviation.",
    ),
    reason="The sum of f(z)·weight over the sum of the weights is the mean of f. The grid reaches "
    "ten standard deviations, where the density is 1e-22, and its step is far below 1, where φ′ "
    "changes.",
)
def mean_square_slope(slope, variance):
    """E[φ′(z)²] for z ~ N(0, variance)."""
    std = np.sqrt(variance)
    z = np.linspace(-10 * std, 10 * std, 2_000_001)
    weight = np.exp(-(z**2) / (2 * variance))
    return np.sum(slope(z) ** 2 * weight) / np.sum(weight)


@mean_square_slope.cases(
    "The integrand is φ′(z)² times the density of N(0, variance). It must be sampled finely where "
    "φ′ changes (near 0) and reach as far as the density does.",
    rtol=2e-3,
)
def _() -> Cases:
    for name, variance in (
        ("relu", 1.0),
        ("tanh", 1.0),
        ("sigmoid", 0.01),
        ("sigmoid", 400.0),
        ("relu6", 100.0),
        ("selu", 4.0),
    ):
        slope = partial(_slope, getattr(nn.functional, name))
        expected = theory.mean_square_slope(name, variance)
        yield (slope, variance), expected, f"the slope of {name} at variance {variance:g}"


@mean_square_slope.inputs
def _(rng: np.random.Generator) -> tuple[Callable[[np.ndarray], np.ndarray], float]:
    height, width, left, right = rng.uniform(0.3, 1.5, 4)

    def slope(z):
        return height * np.exp(-((z / width) ** 2)) + np.where(z > 0, right, -left)

    return slope, float(10 ** rng.uniform(-2, 2.6))
