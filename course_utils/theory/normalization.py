"""What batch norm does to the gradient of a wide random network, for any batch size.

The layer is h_l = φ(ẑ_l), ẑ_l = batch norm of W h_(l−1), weights N(0, σ_w²/fan_in). In a wide
network all samples of a batch become equally alike after a few layers. Then ẑ, the B values of
one unit over the batch, is spread evenly over a sphere: all vectors of length √B whose entries add
up to 0. Every expectation below is one over that sphere; for an infinite batch the entries of ẑ
are independent N(0, 1).
"""

import math
from dataclasses import replace

import numpy as np

from ..activations import Activation, lookup
from ..arguments import integer
from .mean_field import mean_square_output, mean_square_slope
from .quadrature import Nonlinearity, gauss_legendre, output_of, slope_of

_REACH = 40.0  # in standard deviations
_PANELS = 200
_MOST_TERMS = 1500  # of the series over polynomials: what 2400 nodes resolve
_CONSTANT = 1e-12  # a variance of the output below this share of its mean square is round-off


def batchnorm_gradient_factor(activation: Nonlinearity, batch_size: int | None = None) -> float:
    """Factor of the gradient norm per layer of a deep network with batch norm, at initialization.

    With an infinite batch √(E[φ′(z)²] / Var φ(z)), z ~ N(0, 1): √(π/(π−1)) for "relu". It does
    not depend on the scale of the weights, and is never below 1 (equal to 1 for "linear" only).

    With a batch of B samples the square of the factor is

        χ = B/((B−1)(B−3)) · E‖P D G‖² / (E[φ(ẑ₁)²] − E[φ(ẑ₁)φ(ẑ₂)]),

    with ẑ as in the head of this module, D = diag φ′(ẑ), G = 1 − 11ᵀ/B and P = G − ẑẑᵀ/B, the two
    projections of batch norm's backward pass (‖·‖ is the Frobenius norm). For "linear" that is
    (B−2)/(B−3). Weight matrices are square, ε is 0, and batch norm stands before the activation
    with γ = 1, β = 0.

    Args:
        activation: A name in `ACTIVATIONS`, an `Activation`, or an elementwise function on
            float64 tensors.
        batch_size: B, at least 2; None for an infinite batch. With 2 samples every ẑ is ±1 and
            the gradient exactly 0. With 3 the mean of g² is infinite: the variance of a batch of
            three comes too close to 0 too often.

    Returns:
        The factor √χ, dimensionless; 0.0 for a batch of 2, inf for 3.

    Raises:
        ValueError: If `batch_size` is below 2, or the activation is unknown, constant, not
            elementwise or yields NaN or Inf.
        TypeError: If `activation` is no activation, or `batch_size` no integer.

    References:
        G. Yang, J. Pennington, V. Rao, J. Sohl-Dickstein and S. S. Schoenholz, "A Mean Field
        Theory of Batch Normalization", ICLR 2019.

    >>> round(batchnorm_gradient_factor("relu") ** 2, 9), round(math.pi / (math.pi - 1), 9)
    (1.466942207, 1.466942207)
    >>> round(batchnorm_gradient_factor("linear", batch_size=8) ** 2, 9)
    1.2
    """
    entry = lookup(activation)
    if batch_size is None:
        return math.sqrt(mean_square_slope(entry) / output_variance(entry))
    hint = "One sample has no variance, None is an infinite batch; layer norm needs no batch."
    batch_size = integer("batch_size", batch_size, 2, hint=hint)
    if batch_size <= 3:
        return 0.0 if batch_size == 2 else math.inf
    return math.sqrt(_finite_batch(entry, batch_size))


def output_variance(activation: Nonlinearity) -> float:
    """Var φ(z), z ~ N(0, 1), from mean squares alone: E φ = (E(φ+r)² − E φ² − r²)/(2r)."""
    entry = lookup(activation)

    def shifted(by: float) -> float:
        return mean_square_output(replace(entry, function=lambda z: entry.function(z) + by))

    square = mean_square_output(entry)
    rms = math.sqrt(square)
    mean = (shifted(rms) / rms - 2 * rms) / 2 if rms else 0.0
    variance = shifted(-mean)
    _refuse_constant(entry, variance, square)
    return variance


def _finite_batch(entry: Activation, B: int) -> float:
    """χ of a batch of B ≥ 4; B is the batch size and m = B − 1 the dimension of the sphere."""
    m = B - 1
    t, weight = _coordinate(m, entry.kinks)
    z = math.sqrt(m) * t
    output, slope = output_of(entry).function(z), slope_of(entry).function(z)
    if not (np.isfinite(output).all() and np.isfinite(slope).all()):
        raise ValueError(f"activation {entry.name} or its slope is NaN or Inf on [−√B, √B].")
    functions = np.stack([output, slope, z * slope])
    square = functions**2 @ weight
    pair = _pair_means(functions, t, weight, m)  # E[f(ẑ₁) f(ẑ₂)], two samples of the batch
    _refuse_constant(entry, square[0] - pair[0], square[0])
    # ‖P D G‖² = tr(P D²) − 1ᵀDPD1/B, with the expectations of Σd² and of the squares of Σd, Σẑd
    sums = B * square[1:] + B * m * pair[1:]
    transmitted = B * square[1] * (1 - 2 / B) - square[2] + sums.sum() / B**2
    return B / (m * (B - 3)) * transmitted / (square[0] - pair[0])


def _refuse_constant(entry: Activation, variance: float, square: float) -> None:
    if variance <= _CONSTANT * square:
        raise ValueError(
            f"activation {entry.name} is constant on the values that batch norm hands it: there "
            "is no variance to normalize by."
        )


def _coordinate(m: int, kinks: tuple[float, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Quadrature for one coordinate t of a unit vector in m dimensions, panels split at kinks.

    t = cos θ has the density sin^(m−2) θ over θ. Kinks are given in units of √m t.
    """
    reach = min(math.pi / 2, _REACH / math.sqrt(m))
    edges = math.pi / 2 + reach * np.linspace(-1, 1, _PANELS + 1)
    inside = [math.acos(k / math.sqrt(m)) for k in kinks if abs(k) < math.sqrt(m)]
    edges = np.unique(np.concatenate([edges, [a for a in inside if edges[0] < a < edges[-1]]]))
    theta, weight = gauss_legendre(edges, 12)
    weight = weight * np.exp((m - 2) * np.log(np.sin(theta)))
    return np.cos(theta), weight / weight.sum()


def _pair_means(functions: np.ndarray, t: np.ndarray, weight: np.ndarray, m: int) -> np.ndarray:
    """E[f(ẑ₁) f(ẑ₂)] for two samples, whose directions on the sphere have the cosine c = −1/m.

    Expand f(√m t) = Σ a_k p_k(t) in the polynomials orthonormal under the law of t (Gegenbauer).
    By the Funk-Hecke theorem E[p_j(t₁) p_k(t₂)] = p_k(c)/p_k(1) where j = k, and 0 elsewhere. So a
    mean over two coordinates is a sum over one.
    """
    half = m / 2 - 1
    c, at_one, before = -1 / m, 1.0, 0.0
    p, p_before = np.ones_like(t), np.zeros_like(t)
    # p_k(c)/p_k(1) and its predecessor, so that nothing overflows for large m
    ratio, ratio_before, growth = 1.0, 0.0, 1.0
    total = np.zeros(len(functions))
    for k in range(_MOST_TERMS):
        total += (functions @ (weight * p)) ** 2 * ratio
        if max(abs(ratio), abs(ratio_before)) < 1e-17:
            break
        after = math.sqrt((k + 1) * (k + 2 * half) / (4 * (k + 1 + half) * (k + half)))
        p, p_before = (t * p - before * p_before) / after, p
        at_one = (1 - before / growth) / after  # p_(k+1)(1) / p_k(1)
        following = (c * ratio - before * ratio_before / growth) / (after * at_one)
        ratio, ratio_before, growth, before = following, ratio, at_one, after
    return total
