"""Mean-field theory: how a wide random network carries a signal forward and a gradient backward.

The network is h_l = φ(z_l), z_(l+1) = W h_l + b, with weights N(0, σ_w²/fan_in) and biases
N(0, σ_b²), all independent. In a wide layer each preactivation is a sum of many terms, so it is
Gaussian with mean 0; let q_l be its variance. Then

    q_(l+1) = σ_w² E[φ(z)²] + σ_b²          z ~ N(0, q_l)
    g² is multiplied by χ₁ = σ_w² E[φ′(z)²]   per layer on the way back.

Both expectations are computed in float64 by Gauss-Lobatto quadrature on panels that are split
at the kinks of φ and halved until two estimates agree, so a kink that nobody announced costs
time and not digits.
"""

import math
from collections.abc import Callable
from numbers import Integral, Real

import numpy as np
import torch
from torch import Tensor

from ..activations import Activation, lookup

Nonlinearity = str | Activation | Callable[[Tensor], Tensor]

_REACH = 39.0  # in standard deviations: beyond it the Gaussian weight is 0 in float64
_SAME = 1e-12  # two quadratures that differ by less are taken to be equal
_MAX_PANELS = 60_000
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
    return _mean_squares(*_output(activation), [_at_least_zero("variance", variance)])[0]


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
    return _mean_squares(*_slope(activation), [_at_least_zero("variance", variance)])[0]


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
    weight_variance = _at_least_zero("weight_variance", weight_variance)
    bias_variance = _at_least_zero("bias_variance", bias_variance)
    return _settle(_output(activation), weight_variance, bias_variance)


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
    weight_variance = _at_least_zero("weight_variance", weight_variance)
    q = fixed_point(activation, weight_variance, bias_variance)
    return math.sqrt(weight_variance * _slope_at(_slope(activation), q)) if weight_variance else 0.0


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
    bias_variance = _at_least_zero("bias_variance", bias_variance)
    output, slope = _output(activation), _slope(activation)

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
    return math.exp(_root(excess, low, high)) * (1 + _SAME / 4)


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
        ValueError: If a count is out of range.

    References:
        L. Lu, Y. Shin, Y. Su and G. E. Karniadakis, "Dying ReLU and Initialization: Theory and
        Numerical Examples", Communications in Computational Physics 28(5), 2020.

    >>> dead_network_probability(1, 2), round(dead_network_probability(4, 20), 6)
    (0.75, 0.724941)
    """
    width, depth = _count("width", width, 1), _count("depth", depth, 0)
    if depth == 0:
        return 0.0
    return -math.expm1(depth * math.log1p(-(2.0**-width)))


# ---------------------------------------------------------------- fixed points


def _settle(output: tuple, weight_variance: float, bias_variance: float) -> float:
    """Where q_(l+1) = V(q_l) goes from 1."""

    def growth(q: np.ndarray) -> np.ndarray:
        """V(q)/q − 1, with what is round-off set to 0."""
        found = weight_variance * np.asarray(_mean_squares(*output, q)) + bias_variance
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
            return math.exp(_root(lambda x: -growth(np.exp([x]))[0], math.log(low), math.log(high)))
        last = q[-1]
    return math.inf if direction > 0 else 0.0


def _slope_at(slope: tuple, q: float) -> float:
    """E[φ′²] at q*, at its limit where q* is inf."""
    if not math.isinf(q):
        return _mean_squares(*slope, [q])[0]
    near, far = _mean_squares(*slope, [_HUGE, _HUGE * 2**20])
    return far if far <= near * (1 + 1e-6) else math.inf


def _bracket_of_criticality(
    output: tuple, slope: tuple, bias_variance: float
) -> tuple[float, float]:
    """Two weight variances between which χ₁ passes 1, by tables instead of quadrature."""
    q = np.exp2(np.arange(-100.0, 101.0))
    start = 100  # q = 1
    squares = np.asarray(_mean_squares(*output, q))
    slopes = np.asarray(_mean_squares(*slope, q))
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


def _root(function: Callable[[float], float], low: float, high: float) -> float:
    """Where an increasing-through-0 function passes 0 between `low` and `high`, by ITP.

    I. F. D. Oliveira and R. H. C. Takahashi, "An Enhancement of the Bisection Method Average
    Performance Preserving Minmax Optimality", ACM Transactions on Mathematical Software 47(1),
    2020. At most one evaluation more than bisection, also where the function jumps.
    """
    below, above = function(low), function(high)
    tolerance = 4e-16 * max(1.0, abs(low), abs(high))
    most = math.ceil(math.log2(max((high - low) / (2 * tolerance), 1))) + 1
    scale = 0.2 / (high - low)
    for step in range(most + 1):
        if high - low <= 2 * tolerance:
            break
        middle = (low + high) / 2
        secant = middle
        if above > below:
            secant = (above * low - below * high) / (above - below)
        sign = math.copysign(1, middle - secant)
        truncation = min(scale * (high - low) ** 2, abs(middle - secant))
        point = secant + sign * truncation
        radius = max(tolerance * 2.0 ** (most - step) - (high - low) / 2, 0.0)
        if abs(point - middle) > radius:
            point = middle - sign * radius
        value = function(point)
        if value == 0:
            return point
        if value > 0:
            high, above = point, value
        else:
            low, below = point, value
    return (low + high) / 2


# ---------------------------------------------------------------- quadrature


def _output(activation: Nonlinearity) -> tuple:
    """φ on arrays, its kinks, and its name."""
    entry = lookup(activation)
    return _on_arrays(entry, entry.function), entry.kinks, entry.name


def _slope(activation: Nonlinearity) -> tuple:
    """φ′ on arrays, the kinks of φ, and its name."""
    entry = lookup(activation)
    return _on_arrays(entry, entry.slope), entry.kinks, entry.name


def _on_arrays(
    entry: Activation, function: Callable[[Tensor], Tensor]
) -> Callable[[np.ndarray], np.ndarray]:
    """A function on tensors as a function on float64 arrays, with its output checked."""

    def evaluate(z: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            value = function(torch.from_numpy(z.copy()))
        shape = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
        if shape != z.shape:
            raise ValueError(
                f"activation {entry.name} returned {shape} for a tensor of shape {z.shape}: an "
                "elementwise function on tensors is expected, for example torch.tanh."
            )
        return value.detach().cpu().double().numpy()

    return evaluate


def _lobatto(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Nodes and weights of Gauss-Lobatto quadrature on [−1, 1], the ends moved in by 2e-13.

    With nodes at the ends of a panel, a kink between an end and the next node cannot hide. Moved
    in, they lie on the right side of a kink that a panel begins or ends with.
    """
    polynomial = np.polynomial.legendre.Legendre.basis(count - 1)
    inner = polynomial.deriv().roots()
    nodes = np.concatenate([[-1.0], (inner - inner[::-1]) / 2, [1.0]])
    weights = 2 / (count * (count - 1) * polynomial(nodes) ** 2)
    return nodes.clip(-1 + 2e-13, 1 - 2e-13), weights


_NODES, _WEIGHTS = _lobatto(17)


def _mean_squares(function: Callable, kinks: tuple, name: str, variances) -> list[float]:
    """E[f(z)²], z ~ N(0, q), for every q, as ∫ (f(σu) e^(−u²/4))² du/√(2π).

    The panels of one q are geometric on either side of 0, from the smaller of the two scales of
    the integrand (1 and σ) up to 39σ, and split at the kinks. A panel is halved until its
    integral and that of its halves differ by less than 1e-13 of the whole.
    """
    variances = np.asarray(variances, dtype=np.float64)
    std = np.sqrt(variances)
    total = np.zeros_like(std)
    edges = [_edges(s, kinks) for s in std]
    which = np.repeat(np.arange(std.size), [e.size - 1 for e in edges])
    low = np.concatenate([e[:-1] for e in edges])
    high = np.concatenate([e[1:] for e in edges])

    def integrate(low: np.ndarray, high: np.ndarray, which: np.ndarray) -> np.ndarray:
        half = (high - low)[:, None] / 2
        u = (low + high)[:, None] / 2 + half * _NODES
        value = function((u * std[which, None]).reshape(-1)).reshape(u.shape)
        if np.isnan(value).any():
            z = (u * std[which, None])[np.isnan(value)][0]
            raise ValueError(
                f"activation {name} yields NaN at z={z:.6g}: it, and its slope, must be defined "
                "for every real number."
            )
        with np.errstate(over="ignore"):
            squares = (value * np.exp(-u * u / 4)) ** 2
            return squares @ _WEIGHTS * half[:, 0] / math.sqrt(2 * math.pi)

    # std 0 is the limit of small variance: two points beside 0, half the weight each
    for i in np.flatnonzero(std == 0):
        sides = function(np.array([-1e-200, 1e-200]))
        if np.isnan(sides).any():
            raise ValueError(f"activation {name} yields NaN at z=0.")
        total[i] = (sides**2).mean()
    coarse = integrate(low, high, which)
    while which.size:
        middle = (low + high) / 2
        low, high = np.concatenate([low, middle]), np.concatenate([middle, high])
        which = np.concatenate([which, which])
        fine = integrate(low, high, which)
        halves = fine.reshape(2, -1)
        infinite = np.isinf(halves).any(axis=0)
        total[which[: infinite.size][infinite]] = np.inf
        with np.errstate(invalid="ignore"):
            error = np.abs(halves.sum(axis=0) - coarse)
        estimate = total + np.bincount(which, fine, std.size)
        open_panels = (error > 1e-13 * estimate[which[: error.size]]) & np.isfinite(
            estimate[which[: error.size]]
        )
        open_panels &= (high - low)[error.size :] > 1e-15 * np.abs(middle)
        if open_panels.sum() > _MAX_PANELS:
            rest = np.bincount(which[: error.size], error * open_panels, std.size)
            if (rest > 1e-7 * estimate).any():
                raise ValueError(
                    f"activation {name} cannot be integrated to 1e-7: it oscillates too fast or "
                    "has too many kinks for this variance."
                )
            open_panels[:] = False
        total += np.bincount(which[: error.size], halves.sum(axis=0) * ~open_panels, std.size)
        again = np.concatenate([open_panels, open_panels])
        low, high, which, coarse = low[again], high[again], which[again], fine[again]
    return total.tolist()


def _edges(std: float, kinks: tuple) -> np.ndarray:
    """Edges of the first panels, in units of the standard deviation."""
    if std == 0:
        return np.zeros(1)
    first = min(1.0, 1 / std) / 2
    side = first * np.exp2(np.arange(math.ceil(math.log2(_REACH / first))))
    own = np.array([k / std for k in kinks if abs(k) < _REACH * std])
    return np.unique(np.concatenate([-side, [-_REACH, 0.0, _REACH], side, own]))


def _at_least_zero(name: str, value: float) -> float:
    if isinstance(value, bool) or not isinstance(value, Real) or not 0 <= value < math.inf:
        raise ValueError(f"{name}={value!r} must be a finite number of at least 0.")
    return float(value)


def _count(name: str, value: int, least: int) -> int:
    if isinstance(value, bool) or not isinstance(value, Integral) or value < least:
        raise ValueError(f"{name}={value!r} must be an integer of at least {least}.")
    return int(value)
