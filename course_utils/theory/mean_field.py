"""Mean-field theory: how a wide random network carries a signal forward and a gradient backward.

The network is h_l = φ(z_l), z_(l+1) = W h_l + b, with weights N(0, σ_w²/fan_in) and biases
N(0, σ_b²), all independent. In a wide layer each preactivation is a sum of many terms, so it is
Gaussian with mean 0; let q_l be its variance. Then

    q_(l+1) = σ_w² E[φ(z)²] + σ_b²          z ~ N(0, q_l)
    g² is multiplied by χ₁ = σ_w² E[φ′(z)²]   per layer on the way back.

Both expectations are computed by `quadrature`.
"""

import math

import numpy as np

from ..arguments import integer, number
from .quadrature import Integrand, Nonlinearity, mean_squares, output_of, slope_of
from .roots import root

_SAME = 1e-12  # two quadratures that differ by less are taken to be equal
_SCAN = np.concatenate([np.arange(1.0, 101.0), np.arange(108.0, 960.0, 8)])  # octaves from q = 1
_HUGE = 2.0**100


def mean_square_output(activation: Nonlinearity, variance: float = 1.0) -> float:
    """E[φ(z)²] with z ~ N(0, variance): what the activation leaves of the signal.

    Args:
        activation: A name in `ACTIVATIONS`, an `Activation`, or an elementwise function on
            float64 tensors. The kinks of such a function need not be known, they are found by
            halving panels. Only a feature far narrower than its distance from 0 can be missed:
            announce it in the `kinks` of an `Activation`.
        variance: q, at least 0, finite; 0 stands for the limit q → 0, which is φ(0)².

    Returns:
        The mean square; inf where it exceeds the largest float64.

    Raises:
        ValueError: If the activation is unknown, yields NaN, is not elementwise or cannot be
            integrated to 1e-7, or if `variance` is negative or not finite.
        TypeError: If `activation` is no activation.

    References:
        B. Poole et al., "Exponential expressivity in deep neural networks through transient
        chaos", NeurIPS 2016.

    >>> round(mean_square_output("relu", 3.0), 12)
    1.5
    """
    return _mean_square(output_of(activation), number("variance", variance, least=0))


def mean_square_slope(activation: Nonlinearity, variance: float = 1.0) -> float:
    """E[φ′(z)²] with z ~ N(0, variance): what the activation leaves of a squared gradient.

    Args:
        activation: As in `mean_square_output`. A function of yours is differentiated by autograd.
        variance: q, at least 0, finite; 0 stands for the limit q → 0, which is the mean of the
            squared slopes on both sides of 0.

    Returns:
        The mean square; inf where it exceeds the largest float64.

    Raises:
        ValueError: As in `mean_square_output`; also if autograd cannot differentiate.
        TypeError: If `activation` is no activation.

    References:
        S. Schoenholz et al., "Deep Information Propagation", ICLR 2017.

    >>> round(mean_square_slope("relu"), 12), round(mean_square_slope("sigmoid"), 6)
    (0.5, 0.044836)
    """
    return _mean_square(slope_of(activation), number("variance", variance, least=0))


def fixed_point(
    activation: Nonlinearity, weight_variance: float, bias_variance: float = 0.0
) -> float:
    """Variance q* at which the preactivations of a deep network settle, started at variance 1.

    q* = V(q*) with V(q) = σ_w² E[φ(z)²] + σ_b², z ~ N(0, q). It is found by bracketing, not by
    iterating, so the slow convergence at criticality costs nothing: where V(1) < 1 it is the
    first crossing below 1, where V(1) > 1 the first one above. For an increasing V (every
    activation of the course) that is where q_(l+1) = V(q_l) goes from q₀ = 1. Where every q is
    fixed (ReLU at σ_w² = 2, a linear net at 1, no bias) it is the 1 that it started from.

    Args:
        activation: As in `mean_square_output`.
        weight_variance: σ_w², fan_in times the variance of a weight, at least 0.
        bias_variance: σ_b², at least 0.

    Returns:
        q*; 0.0 where the signal dies, inf where it diverges. V(q)/q within 1e-12 of 1 counts as
        no change: at σ_w² = 1 + 1e-13 the signal of a tanh net is taken to die.

    Raises:
        ValueError: If an argument lies outside its range, or as in `mean_square_output`.
        TypeError: If `activation` is no activation.

    References:
        B. Poole et al., "Exponential expressivity in deep neural networks through transient
        chaos", NeurIPS 2016.

    >>> round(fixed_point("relu", 1.9, 0.1), 9), fixed_point("tanh", 0.9), fixed_point("relu", 2.1)
    (2.0, 0.0, inf)
    """
    weight_variance = number("weight_variance", weight_variance, least=0)
    bias_variance = number("bias_variance", bias_variance, least=0)
    return _settle(output_of(activation), weight_variance, bias_variance)


def gradient_factor(
    activation: Nonlinearity, weight_variance: float, bias_variance: float = 0.0
) -> float:
    """√χ₁, the factor by which one layer multiplies the norm of the gradient, at q*.

    χ₁ = σ_w² E[φ′(z)²] with z ~ N(0, q*). Below 1 the gradient vanishes with depth, above 1 it
    explodes.

    Args:
        activation: As in `mean_square_output`.
        weight_variance: σ_w², at least 0.
        bias_variance: σ_b², at least 0.

    Returns:
        √χ₁, dimensionless. Where q* is 0 or inf it is the limit of small or large variance.

    Raises:
        ValueError: If an argument lies outside its range, or as in `mean_square_output`.
        TypeError: If `activation` is no activation.

    References:
        S. Schoenholz et al., "Deep Information Propagation", ICLR 2017.

    >>> round(gradient_factor("sigmoid", 1.0), 4), round(gradient_factor("relu", 2.0), 12)
    (0.2361, 1.0)
    """
    weight_variance = number("weight_variance", weight_variance, least=0)
    q = fixed_point(activation, weight_variance, bias_variance)
    return (
        math.sqrt(weight_variance * _slope_at(slope_of(activation), q)) if weight_variance else 0.0
    )


def critical_weight_variance(activation: Nonlinearity, bias_variance: float = 0.0) -> float:
    """Weight variance at which χ₁ passes 1: the border between vanishing and exploding gradients.

    The smallest σ_w² with χ₁ ≥ 1. For gelu, silu, mish and hardswish with little or no bias there
    is none with χ₁ = 1: the fixed point jumps from 0 (or a small value) to a large one or to
    inf, and χ₁ jumps with it. Then the place of the jump is returned.

    Args:
        activation: As in `mean_square_output`.
        bias_variance: σ_b², at least 0.

    Returns:
        σ_w².

    Raises:
        ValueError: If χ₁ stays below 1 for every σ_w² up to 1e12, if an argument lies outside
            its range, or as in `mean_square_output`.
        TypeError: If `activation` is no activation.

    References:
        S. Schoenholz et al., "Deep Information Propagation", ICLR 2017.

    >>> round(critical_weight_variance("relu"), 9), round(critical_weight_variance("tanh"), 9)
    (2.0, 1.0)
    """
    bias_variance = number("bias_variance", bias_variance, least=0)
    output, slope = output_of(activation), slope_of(activation)

    def excess(log_weight_variance: float) -> float:
        weight_variance = math.exp(log_weight_variance)
        q = _settle(output, weight_variance, bias_variance)
        return min(weight_variance * _slope_at(slope, q), 2.0) - 1 + _SAME / 4

    lower, upper = _bracket_of_criticality(output, slope, bias_variance)
    step = math.log(upper / lower) + 1e-3
    low, high = math.log(lower), math.log(upper)
    while excess(low) >= 0 and low > -30:
        low -= step
    while excess(high) < 0:
        high += step
        if high > math.log(1e12):
            raise ValueError(
                f"activation={activation!r} has χ₁ < 1 at every weight_variance up to 1e12: no "
                "weights make its gradient explode, so there is no critical one."
            )
    return math.exp(root(excess, low, high)) * (1 + _SAME / 4)


def depth_scale(
    activation: Nonlinearity, weight_variance: float, bias_variance: float = 0.0
) -> float:
    """ξ = −1/ln χ₁: the number of layers over which the squared gradient falls by a factor e.

    Args:
        activation: As in `mean_square_output`.
        weight_variance: σ_w², at least 0.
        bias_variance: σ_b², at least 0.

    Returns:
        ξ, in layers. inf at criticality, |χ₁ − 1| < 1e-11. Negative where the gradient explodes:
        it then grows by a factor e over |ξ| layers.

    Raises:
        ValueError: If an argument lies outside its range, or as in `mean_square_output`.
        TypeError: If `activation` is no activation.

    References:
        S. Schoenholz et al., "Deep Information Propagation", ICLR 2017.

    >>> round(depth_scale("linear", 0.5), 6), depth_scale("relu", 2.0)
    (1.442695, inf)
    """
    chi = gradient_factor(activation, weight_variance, bias_variance) ** 2
    if abs(chi - 1) < 10 * _SAME:
        return math.inf
    if chi == 0 or math.isinf(chi):
        return 0.0
    return -1 / math.log(chi)


def dead_network_probability(width: int, depth: int) -> float:
    """Probability that some layer of a random ReLU network is silent for a given input.

    1 − (1 − 2^−N)^L. Weights symmetric about 0 and no bias: given a layer that is not silent,
    each unit of the next is positive with probability ½, independently of the others. So a layer
    falls silent with probability 2^−N, and a silent layer silences all that follow.

    Args:
        width: N, units per layer, at least 1.
        depth: L, number of ReLU layers, at least 0.

    Returns:
        The probability.

    Raises:
        TypeError: If a count is no integer.
        ValueError: If a count is out of range.

    References:
        L. Lu, Y. Shin, Y. Su and G. E. Karniadakis, "Dying ReLU and Initialization: Theory and
        Numerical Examples", Communications in Computational Physics 28(5), 2020.

    >>> dead_network_probability(1, 2), round(dead_network_probability(4, 20), 6)
    (0.75, 0.724941)
    """
    width, depth = integer("width", width, 1), integer("depth", depth, 0)
    if depth == 0:
        return 0.0
    return -math.expm1(depth * math.log1p(-(2.0**-width)))


# ---------------------------------------------------------------- fixed points


def _mean_square(integrand: Integrand, variance: float) -> float:
    return float(mean_squares(integrand, [variance])[0])


def _settle(output: Integrand, weight_variance: float, bias_variance: float) -> float:
    """Where q_(l+1) = V(q_l) goes from 1."""

    def growth(q: np.ndarray) -> np.ndarray:
        """V(q)/q − 1, with what is round-off set to 0."""
        found = weight_variance * mean_squares(output, q) + bias_variance
        found = found / q - 1
        return np.where(np.abs(found) < _SAME, 0.0, found)

    if weight_variance == 0:
        return bias_variance
    first = growth(np.ones(1))[0]
    if first == 0:
        return 1.0
    direction = 1 if first > 0 else -1
    grid = _SCAN[:100] if direction > 0 else _SCAN
    last = 1.0
    for part in np.split(grid, [8, 40, 100][: 2 + (grid.size > 100)]):
        q = np.exp2(direction * part)
        crossed = np.flatnonzero(direction * growth(q) < 0)
        if crossed.size:
            i = crossed[0]
            low, high = sorted((q[i], q[i - 1] if i else last))
            return math.exp(root(lambda x: -growth(np.exp([x]))[0], math.log(low), math.log(high)))
        last = q[-1]
    return math.inf if direction > 0 else 0.0


def _slope_at(slope: Integrand, q: float) -> float:
    """E[φ′²] at q*, at its limit where q* is inf."""
    if not math.isinf(q):
        return _mean_square(slope, q)
    near, far = mean_squares(slope, [_HUGE, _HUGE * 2**20])
    return far if far <= near * (1 + 1e-6) else math.inf


def _bracket_of_criticality(
    output: Integrand, slope: Integrand, bias_variance: float
) -> tuple[float, float]:
    """Two weight variances between which χ₁ passes 1, by tables instead of quadrature."""
    q = np.exp2(np.arange(-100.0, 101.0))
    start = 100  # q = 1
    squares = mean_squares(output, q)
    slopes = mean_squares(slope, q)
    variances = np.exp(np.linspace(math.log(1e-9), math.log(1e12), 700))
    before = variances[0]
    for weight_variance in variances:
        with np.errstate(over="ignore"):
            up = weight_variance * squares + bias_variance > q
        if up[start]:
            crossed = np.flatnonzero(~up[start:])
            i = start + crossed[0] if crossed.size else q.size - 1
        else:
            crossed = np.flatnonzero(up[:start])
            i = crossed[-1] if crossed.size else 0
        if weight_variance * slopes[i] >= 1:
            return before, weight_variance
        before = weight_variance
    return variances[-2], variances[-1]
