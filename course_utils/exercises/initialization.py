"""Exercises of notebook 05, "Start from the right scale"."""

import math
from collections.abc import Callable
from functools import cache
from itertools import pairwise

import numpy as np

from .base import Cases, WrongAnswer, call, exercise, several


@exercise(
    "He's standard deviation for any weight shape, in front of a leaky ReLU.",
    minutes=10,
    difficulty=1,
    hints=(
        "fan_in is how many numbers one unit adds up: all of shape but the first entry.",
        "Leaky ReLU keeps ½ of E[z²] from the positive side and a²/2 from the negative one.",
        "√(2 / ((1 + a²) · fan_in)).",
    ),
    reason="A unit adds up fan_in numbers, and a leaky ReLU of slope a keeps (1 + a²)/2 of the "
    "mean square: the variance of a weight makes up for both.",
)
def he_std(shape, negative_slope):
    """Standard deviation of He's weights in front of a leaky ReLU."""
    fan_in = 1
    for size in shape[1:]:
        fan_in *= size
    return (2 / ((1 + negative_slope**2) * fan_in)) ** 0.5


@he_std.cases()
def _() -> Cases:
    for shape, slope, hint in (
        ((64, 256), 0.0, "A linear layer after ReLU: √(2/fan_in), and fan_in is 256."),
        ((256, 64), 0.0, "shape is (out, in, …): fan_in is the second number, 64."),
        ((32, 16, 3, 3), 0.0, "Each unit of a 3×3 convolution adds up 16·3·3 numbers."),
        ((8, 4, 5), 0.0, "A one-dimensional convolution: 4·5 numbers."),
        ((10, 100), 0.5, "Both halves count: E[φ²] is (1 + a²)/2 times E[z²]."),
        ((10, 100), 5**0.5, "With a = √5 it should be √(1/300), a third of Xavier's variance."),
        ((7, 3, 2, 2), 1.0, "Slope 1 on both sides is a linear layer: √(1/fan_in)."),
    ):
        # Oracle: of E[φ(z)²] for z ~ N(0, 1), by quadrature, with weights counted one by one
        z, w = np.polynomial.hermite_e.hermegauss(64)
        kept = (w * np.where(z > 0, z, slope * z) ** 2).sum() / w.sum()
        expected = float(1 / math.sqrt(kept * np.zeros(shape)[0].size))
        yield (shape, slope), expected, f"shape {shape}, slope {slope:.4g}", hint


@he_std.inputs
def _(rng: np.random.Generator) -> tuple:
    shape = tuple(int(size) for size in rng.integers(2, 40, size=rng.integers(2, 5)))
    return shape, float(rng.uniform(0, 2))


@exercise(
    "The σ_w that keeps preactivations at variance 1, for any activation.",
    minutes=10,
    difficulty=2,
    hints=(
        "Equation 1 without bias: 1 = σ_w² E[φ(z)²] with z ~ N(0, 1).",
        "Take the mean as a weighted sum over a grid from −8 to 8. The weights are e^(−z²/2), "
        "divided by their sum.",
        "(bell.sum() / (bell * phi(z)**2).sum()) ** 0.5",
    ),
    reason="Without biases equation 1 at q = 1 reads 1 = σ_w² E[φ(z)²] with z ~ N(0, 1), so σ_w "
    "is one over the root of that mean.",
)
def gain(phi):
    """The σ_w that keeps preactivations at variance 1, as a sum over a fine grid."""
    z = np.linspace(-8, 8, 4001)
    bell = np.exp(-(z**2) / 2)
    return (bell.sum() / (bell * phi(z) ** 2).sum()) ** 0.5


@gain.cases(rtol=1e-3)
def _() -> Cases:
    z, density = _gauss_legendre()
    phis: tuple[tuple[str, Callable, str], ...] = (
        ("φ(z) = z", lambda z: z * 1.0, "A linear layer needs no correction: 1."),
        ("ReLU", _relu, "E[φ²] is ½, so the gain is √2."),
        ("tanh", np.tanh, "E[tanh²] is 0.394 at variance 1. The gain is 1/√0.394 = 1.593."),
        ("φ = |z| − 1", lambda z: np.abs(z) - 1, "The mean square counts, not the variance of φ."),
        ("sigmoid", _sigmoid, "The mean of φ counts too: E[φ²], not Var φ."),
        ("sin(3z)", lambda z: np.sin(3 * z), "E[sin²(3z)] = (1 − e^(−18))/2."),
        ("φ = 0.001·z", lambda z: 0.001 * z, "A weak activation needs large weights: 1000."),
    )
    for given, phi, hint in phis:
        expected = float((density * phi(z) ** 2).sum() ** -0.5)
        hint = f"{hint} (A sample is too coarse for three digits: sum over a grid.)"
        yield (phi,), expected, given, hint


@gain.inputs
def _(rng: np.random.Generator) -> tuple:
    shift, stretch, lift = rng.normal(), np.exp(rng.normal()), rng.normal()
    return (lambda z: lift + np.tanh(stretch * z + shift),)


@cache
def _gauss_legendre() -> tuple[np.ndarray, np.ndarray]:
    """Nodes of Gauss-Legendre quadrature on ±12, and weights that contain the normal density."""
    nodes, weights = np.polynomial.legendre.leggauss(400)
    z = 12 * nodes
    return z, 12 * weights * np.exp(-(z**2) / 2) / math.sqrt(2 * math.pi)


def _relu(z: np.ndarray) -> np.ndarray:
    return np.maximum(z, 0.0)


def _sigmoid(z: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-z))


@exercise(
    "Layer-sequential unit variance for a list of weight matrices.",
    minutes=15,
    difficulty=2,
    hints=(
        "Walk through the layers with h, which is x at first.",
        "z = h @ W.T is linear in W: dividing W by z.std() divides z by it.",
        "Only then go on: h = phi(h @ W.T) with the new W.",
    ),
    reason="z is linear in W, so dividing W by the standard deviation of z makes the variance 1; "
    "the next layer has to see what the new weights make of the batch.",
)
def lsuv(weights, x, phi):
    """Each layer's weights divided by the standard deviation of its preactivations."""
    scaled, h = [], x
    for W in weights:
        W = W / (h @ W.T).std()
        scaled.append(W)
        h = phi(h @ W.T)
    return scaled


@lsuv.judge
def _(answer: object) -> None:
    rng = np.random.default_rng(0)
    cases: list[tuple[str, tuple[int, ...], Callable, float, float]] = [
        ("one layer", (20, 30), np.tanh, 1.0, 0.0),
        ("four tanh layers", (20, 40, 40, 40, 10), np.tanh, 3.0, 0.0),
        ("six ReLU layers, weights 100 times too small", (20,) + (30,) * 6, _relu, 0.01, 0.0),
        ("three layers of φ = sigmoid", (20, 30, 30, 30), _sigmoid, 1.0, 0.0),
        ("two linear layers, inputs of mean 5", (20, 30, 30), lambda z: z * 1.0, 1.0, 5.0),
    ]
    for name, widths, phi, scale, mean in cases:
        x = mean + rng.normal(size=(200, widths[0]))
        weights = [scale * rng.normal(size=(b, a)) for a, b in pairwise(widths)]
        asked = f"For {name}: return a list of {len(weights)} matrices, one a layer."
        result = several(call(answer, weights, x, phi), len(weights), asked)
        h = x
        for layer, (W, before) in enumerate(zip(result, weights, strict=True), start=1):
            W = np.asarray(W)
            if W.dtype.kind != "f" or W.shape != before.shape or not np.isfinite(W).all():
                raise WrongAnswer(
                    f"For {name}: W_{layer} should be a finite array of shape {before.shape}."
                )
            factor = np.vdot(W, before) / np.vdot(before, before)
            if factor <= 0 or not np.allclose(W, factor * before, rtol=1e-5):
                raise WrongAnswer(
                    f"For {name}: W_{layer} is not a positive multiple of the matrix it came from. "
                    "Divide the whole matrix by one number."
                )
            z = h @ W.T
            if not math.isclose(float(z.var()), 1, rel_tol=1e-5):
                raise WrongAnswer(
                    f"For {name}: the preactivations of layer {layer} have the variance "
                    f"{z.var():.5g}. Divide by the standard deviation of z = h @ W.T, and send on "
                    "what the *new* weights make of it."
                )
            h = phi(z)


@lsuv.inputs
def _(rng: np.random.Generator) -> tuple:
    widths = rng.integers(3, 12, size=rng.integers(2, 6))
    weights = [rng.normal(size=(b, a)) for a, b in pairwise(widths)]
    return weights, rng.normal(size=(30, widths[0])) + rng.normal(), np.tanh


@exercise(
    "The point (σ_w², σ_b²) on tanh's edge of chaos whose signal settles at q.",
    minutes=15,
    difficulty=3,
    hints=(
        "Two conditions: χ₁ = 1 and V(q) = q. The first contains only one unknown.",
        "σ_w² = 1/E[(1 − tanh²(z))²] with z ~ N(0, q), that is z = √q · x with x ~ N(0, 1).",
        "σ_b² = q − σ_w² E[tanh²(z)].",
    ),
    reason="χ₁ = 1 fixes σ_w² = 1/E[φ′²] at the given q, and V(q) = q then fixes σ_b².",
)
def edge_point(q):
    """The network on tanh's edge of chaos whose signal settles at q."""
    z = np.linspace(-8, 8, 4001)
    bell = np.exp(-(z**2) / 2)
    bell = bell / bell.sum()
    outputs = np.tanh(q**0.5 * z)
    weight_variance = 1 / (bell * (1 - outputs**2) ** 2).sum()
    return weight_variance, q - weight_variance * (bell * outputs**2).sum()


@edge_point.cases(
    rtol=1e-4,
    results={
        "σ_w²": "χ₁ = σ_w² E[φ′²] has to be 1. The slope of tanh is 1 − tanh², and z = √q · x.",
        "σ_b²": "V(q) = σ_w² E[φ²] + σ_b² has to be q, so that q is a fixed point.",
    },
)
def _() -> Cases:
    z, density = _gauss_legendre()
    for q in (0.5, 1.0, 0.1, 4.0):
        weight = 1 / float((density / np.cosh(math.sqrt(q) * z) ** 4).sum())
        kept = float((density * np.tanh(math.sqrt(q) * z) ** 2).sum())
        yield (q,), (weight, q - weight * kept), f"q = {q}"


@edge_point.inputs
def _(rng: np.random.Generator) -> tuple:
    return (float(rng.uniform(0.2, 5)),)
