"""The first weights: how a signal's size changes from layer to layer, and where chaos begins.

Three questions that `mean_field` leaves open. Which size does the signal have *before* it has
settled? Which pairs (σ_w², σ_b²) lie on the edge of chaos? How far apart are the singular values
of a product of random matrices, whose mean square is 1?
"""

import math
from collections.abc import Iterable

from ..arguments import integer, number
from .mean_field import mean_square_output, mean_square_slope
from .quadrature import Nonlinearity


def preactivation_variances(
    activation: Nonlinearity,
    weight_variance: float,
    bias_variance: float = 0.0,
    *,
    depth: int,
    start: float,
) -> list[float]:
    """q₁ … q_L, layer by layer: q_(l+1) = σ_w² E[φ(z)²] + σ_b² with z ~ N(0, q_l).

    Where `fixed_point` says where this ends, this says how it gets there. For tanh at σ_w² = 1,
    σ_b² = 0 it does not end: q_(l+1) = q_l − 2q_l² + 17q_l³/3 − …, so q_l falls like 1/(2l).

    Args:
        activation: A name in `ACTIVATIONS`, an `Activation`, or an elementwise function.
        weight_variance: σ_w², fan_in times the variance of a weight, at least 0.
        bias_variance: σ_b², at least 0.
        depth: L, at least 1.
        start: q₁, the variance in layer 1, at least 0: σ_w² times the mean square of the input,
            plus σ_b².

    Returns:
        A list of L numbers, the first of which is `start`. inf from where it leaves float64.

    Raises:
        ValueError: If an argument lies outside its range, or the activation cannot be integrated.
        TypeError: If `activation` is no activation, or `depth` no integer.

    References:
        B. Poole et al., "Exponential expressivity in deep neural networks through transient
        chaos", NeurIPS 2016, eq. 3.

    >>> [round(q, 9) for q in preactivation_variances("relu", 1.0, depth=4, start=1.0)]
    [1.0, 0.5, 0.25, 0.125]
    """
    weight_variance = number("weight_variance", weight_variance, least=0)
    bias_variance = number("bias_variance", bias_variance, least=0)
    depth = integer("depth", depth, 1)
    variances = [number("start", start, least=0)]
    while len(variances) < depth:
        q = variances[-1]
        if math.isinf(q):
            variances.append(q)
            continue
        squares = mean_square_output(activation, q)
        variances.append((weight_variance * squares if weight_variance else 0.0) + bias_variance)
    return variances


def edge_of_chaos(
    activation: Nonlinearity, variances: Iterable[float]
) -> list[tuple[float, float]]:
    """Points (σ_w², σ_b²) at which χ₁ = 1, one for each fixed point q* that is asked for.

    Both conditions are solved at once, without a search: χ₁ = 1 says σ_w² = 1/E[φ′²], and q* is a
    fixed point if σ_b² = q* − σ_w² E[φ²]. A q* for which that σ_b² is negative belongs to no
    network and is left out. Whether q* is stable, and the one that a signal reaches, is not
    checked: `critical_weight_variance` does that.

    Args:
        activation: A name in `ACTIVATIONS`, an `Activation`, or an elementwise function.
        variances: Values of q*, at least 0, finite; 0 stands for the limit q* → 0.

    Returns:
        The pairs, in the order of `variances`. Infinitely many q* share ReLU's only one, (2, 0).

    Raises:
        ValueError: If a variance is out of range, or the slope is 0 everywhere.
        TypeError: If `activation` is no activation, or `variances` cannot be iterated over.

    References:
        S. Schoenholz et al., "Deep Information Propagation", ICLR 2017, section 3.

    >>> [(round(w, 9), round(b, 9)) for w, b in edge_of_chaos("tanh", [0.0, 0.5])]
    [(1.0, 0.0), (1.687975121, 0.038041201)]
    """
    points = []
    for q in variances:
        q = number("variances", q, least=0)
        slopes = mean_square_slope(activation, q)
        if slopes == 0:
            raise ValueError(
                f"activation={activation!r} has slope 0 at every z ~ N(0, {q:g}): no weights carry "
                "a gradient through it."
            )
        weight_variance = 1 / slopes
        bias_variance = q - weight_variance * mean_square_output(activation, q)
        if bias_variance >= -1e-12 * max(q, 1.0):
            points.append((weight_variance, max(bias_variance, 0.0)))
    return points


def largest_singular_value_squared(depth: int) -> float:
    """Largest s² of a product of L independent Gaussian n×n matrices N(0, 1/n), as n → ∞.

    (L+1)^(L+1) / L^L, about e(L + ½) for large L, while the mean of all s² stays at 1. The k-th
    moments of s² are the Fuss-Catalan numbers, whose generating function solves M = 1 + zM^(L+1);
    the largest s² is the inverse of its radius of convergence. At finite n the largest s² lies
    below on average, by a relative amount of order n^(−2/3) for L = 1.

    Args:
        depth: L, number of factors, at least 0; 0 factors are the identity.

    Returns:
        The largest s², dimensionless.

    Raises:
        TypeError: If `depth` is no integer.
        ValueError: If `depth` is below 0.

    References:
        K. A. Penson and K. Życzkowski, "Product of Ginibre matrices: Fuss-Catalan and Raney
        distributions", Physical Review E 83, 061118, 2011.

    >>> [round(largest_singular_value_squared(depth), 9) for depth in (0, 1, 2)]
    [1.0, 4.0, 6.75]
    """
    depth = integer("depth", depth, 0)
    if depth == 0:
        return 1.0
    return (depth + 1) * math.exp(depth * math.log1p(1 / depth))
