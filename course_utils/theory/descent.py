"""How far and how fast gradient descent goes: stable learning rates, best rates, training times.

All of it concerns one direction of curvature λ, where the loss is ½λe² and e is the distance
from the minimum. A quadratic loss of many parameters falls apart into such directions, one per
eigenvector of its Hessian. Momentum is written as `torch.optim.SGD` has it: v ← βv + ∇, θ ← θ − ηv.
"""

import math

import numpy as np

from ..arguments import integer, number
from .quadrature import gauss_legendre

_MINIMUM = "At a minimum every curvature is above 0."
_DESCENT = "A step of 0 or backwards does not descend."


def largest_stable_lr(curvature: float, momentum: float = 0.0) -> float:
    """Learning rate above which gradient descent leaves a minimum of this curvature.

    2(1+β)/λ. The error in this direction is multiplied by 1 − ηλ in each step; with momentum the
    root r = −1 of r² − (1+β−ηλ)r + β = 0 marks the limit.

    Args:
        curvature: λ, eigenvalue of the Hessian, positive; the largest one where there are many.
            Unit: loss per squared parameter.
        momentum: β, from 0 up to but without 1.

    Returns:
        The largest stable learning rate.

    Raises:
        ValueError: If an argument lies outside its range.

    References:
        B. T. Polyak, "Some methods of speeding up the convergence of iteration methods", USSR
        Computational Mathematics and Mathematical Physics 4(5), 1964.

    >>> largest_stable_lr(4.0), largest_stable_lr(4.0, momentum=0.5)
    (0.5, 0.75)
    """
    curvature = number("curvature", curvature, above=0, hint=_MINIMUM)
    return 2 * (1 + _momentum(momentum)) / curvature


def convergence_factor(lr: float, curvature: float, momentum: float = 0.0) -> float:
    """Factor per step that the error approaches in a direction of this curvature.

    The spectral radius of [[1+β−ηλ, −β], [1, 0]], which maps (e_t, e_{t−1}) to (e_{t+1}, e_t). Its
    eigenvalues solve r² − (1+β−ηλ)r + β = 0. Without momentum it is |1 − ηλ|; where the roots are
    complex it is √β. Below 1 the error dies out, above 1 it grows.

    Args:
        lr: η, positive.
        curvature: λ; negative at a saddle, where the rate is above 1.
        momentum: β, from 0 up to but without 1.

    Returns:
        The rate, dimensionless, at least 0.

    Raises:
        ValueError: If an argument lies outside its range.

    References:
        G. Goh, "Why Momentum Really Works", Distill, 2017.

    >>> convergence_factor(lr=1.5, curvature=1.0)
    0.5
    >>> convergence_factor(lr=1.0, curvature=1.0, momentum=0.25)
    0.5
    """
    lr = number("lr", lr, above=0, hint=_DESCENT)
    momentum = _momentum(momentum)
    half = (1 + momentum - lr * number("curvature", curvature)) / 2
    discriminant = half * half - momentum
    if discriminant <= 0:
        return math.sqrt(momentum)
    return abs(half) + math.sqrt(discriminant)


def best_lr(smallest_curvature: float, largest_curvature: float) -> float:
    """Learning rate at which plain gradient descent is fastest on a quadratic.

    2/(μ + λ_max): there the flattest and the steepest direction shrink equally fast.

    Args:
        smallest_curvature: μ, smallest eigenvalue of the Hessian, positive.
        largest_curvature: λ_max, at least μ.

    Returns:
        The learning rate.

    Raises:
        ValueError: If a curvature is not positive, or the two stand in the wrong order.

    >>> best_lr(1.0, 3.0)
    0.5
    """
    small, large = _curvatures(smallest_curvature, largest_curvature)
    return 2 / (small + large)


def best_heavy_ball(smallest_curvature: float, largest_curvature: float) -> tuple[float, float]:
    """Learning rate and momentum at which heavy-ball descent is fastest on a quadratic.

    η = 4/(√λ_max + √μ)² and β = ((√λ_max − √μ)/(√λ_max + √μ))²: both ends of the spectrum then
    have a double root, and everything between them shrinks by √β per step.

    Args:
        smallest_curvature: μ, smallest eigenvalue of the Hessian, positive.
        largest_curvature: λ_max, at least μ.

    Returns:
        The learning rate η and the momentum β.

    Raises:
        ValueError: If a curvature is not positive, or the two stand in the wrong order.

    References:
        B. T. Polyak, "Some methods of speeding up the convergence of iteration methods", USSR
        Computational Mathematics and Mathematical Physics 4(5), 1964.

    >>> lr, momentum = best_heavy_ball(1.0, 9.0)
    >>> lr, momentum
    (0.25, 0.25)
    """
    small, large = _curvatures(smallest_curvature, largest_curvature)
    total = math.sqrt(large) + math.sqrt(small)
    # (√a − √b) as (a − b)/(√a + √b): exact where the curvatures are close
    return 4 / total**2, ((large - small) / total**2) ** 2


def gd_convergence_rate(condition_number: float) -> float:
    """Best factor per step of plain gradient descent on a quadratic.

    (κ−1)/(κ+1), reached at the learning rate `best_lr`.

    Args:
        condition_number: κ = λ_max/μ, at least 1.

    Returns:
        The factor by which the error shrinks per step, from 0 to 1.

    Raises:
        ValueError: If `condition_number` is below 1 or not finite.

    References:
        L. Bottou, F. E. Curtis, J. Nocedal, "Optimization Methods for Large-Scale Machine
        Learning", SIAM Review 60(2), 2018.

    >>> gd_convergence_rate(3.0)
    0.5
    """
    kappa = _condition_number(condition_number)
    return (kappa - 1) / (kappa + 1)


def heavy_ball_convergence_rate(condition_number: float) -> float:
    """Best factor per step of gradient descent with (heavy-ball) momentum on a quadratic.

    (√κ−1)/(√κ+1), reached at `best_heavy_ball`. It is approached from above: both ends of the
    spectrum have a double root r, and the error falls like t·rᵗ.

    Args:
        condition_number: κ = λ_max/μ, at least 1.

    Returns:
        The factor by which the error shrinks per step after many steps, from 0 to 1.

    Raises:
        ValueError: If `condition_number` is below 1 or not finite.

    References:
        B. T. Polyak, "Some methods of speeding up the convergence of iteration methods", USSR
        Computational Mathematics and Mathematical Physics 4(5), 1964.

    >>> heavy_ball_convergence_rate(9.0)
    0.5
    """
    root = math.sqrt(_condition_number(condition_number))
    return (root - 1) / (root + 1)


def chain_training_steps(depth: int, lr: float, start: float, stop: float) -> float:
    """Steps in which gradient descent takes a chain of scalar weights from `start` to `stop`.

    The chain is ŷ = w₁w₂…w_L·x with x = 1, target 1, loss ½(1−ŷ)² and equal weights w. Each weight
    has the gradient −(1−wᴸ)wᴸ⁻¹, and for small steps dw/dt = η(1−wᴸ)wᴸ⁻¹. The number of steps is

        (1/η) ∫ dw / ((1−wᴸ) wᴸ⁻¹) = (1/η) [ ∫ w^(1−L) dw + ∫ w/(1−wᴸ) dw ],  start to stop.

    The first part is the wait on the plateau near 0, in closed form. The second part is the
    approach to 1, by Gauss-Legendre quadrature in −log(1−w), in which it is smooth.

    Args:
        depth: L, number of weights in the chain, at least 1.
        lr: η, positive.
        start: First value of every weight, above 0.
        stop: Last value, above `start` and below 1, which is reached only after infinitely many.

    Returns:
        The number of steps, not rounded; inf where it exceeds the largest float64.

    Raises:
        TypeError: If `depth` is no integer.
        ValueError: If an argument lies outside its range.

    References:
        A. M. Saxe, J. L. McClelland, S. Ganguli, "Exact solutions to the nonlinear dynamics of
        learning in deep linear neural networks", ICLR 2014, treats such chains.

    >>> round(chain_training_steps(2, lr=0.02, start=0.5, stop=0.9))
    64
    >>> round(chain_training_steps(12, lr=0.02, start=0.5, stop=0.9))
    5121
    """
    depth = integer("depth", depth, 1)
    lr = number("lr", lr, above=0, hint=_DESCENT)
    start, stop = number("start", start), number("stop", stop)
    if not 0 < start < stop < 1:
        raise ValueError(
            f"start={start:g}, stop={stop:g} must satisfy 0 < start < stop < 1: at 0 the gradient "
            "of a deep chain is 0, and at 1 the loss is."
        )
    return (_plateau(depth, start, stop) + _approach(depth, start, stop)) / lr


def sgd_variance(
    lr: float,
    curvature: float,
    noise_variance: float,
    batch_size: int = 1,
    momentum: float = 0.0,
) -> float:
    """Variance at which SGD with a constant learning rate ends up around a minimum.

    ησ²/(Bλ(2−ηλ)), the fixed point of Var ← (1−ηλ)² Var + η²σ²/B; with momentum
    ησ²(1+β)/(Bλ(1−β)(2(1+β)−ηλ)). The loss then lies λ/2 times this variance above its minimum,
    however long the training.

    Args:
        lr: η, positive and below 2(1+β)/λ.
        curvature: λ, positive.
        noise_variance: σ², variance of the gradient of a single sample, at least 0.
        batch_size: B, samples per step, drawn independently, at least 1.
        momentum: β, from 0 up to but without 1.

    Returns:
        The variance of the parameter in this direction.

    Raises:
        TypeError: If `batch_size` is no integer.
        ValueError: If an argument lies outside its range; above 2(1+β)/λ there is no such variance.

    References:
        L. Bottou, F. E. Curtis, J. Nocedal, "Optimization Methods for Large-Scale Machine
        Learning", SIAM Review 60(2), 2018, section 4, on the noise floor of a fixed step size.

    >>> sgd_variance(lr=1.0, curvature=1.0, noise_variance=3.0, batch_size=3)
    1.0
    """
    lr = number("lr", lr, above=0, hint=_DESCENT)
    limit, beta = largest_stable_lr(curvature, momentum), _momentum(momentum)
    noise_variance = number("noise_variance", noise_variance, least=0)
    batch_size = integer("batch_size", batch_size, 1)
    if lr >= limit:
        raise ValueError(
            f"lr={lr:g} must be below 2(1 + momentum)/curvature={limit:g}: beyond it the variance "
            "has no limit."
        )
    room = (1 - beta) * (2 * (1 + beta) - lr * curvature)
    return lr * noise_variance * (1 + beta) / (batch_size * curvature * room)


def _plateau(depth: int, start: float, stop: float) -> float:
    """∫ w^(1−L) dw from `start` to `stop`."""
    if depth == 2:
        return math.log(stop / start)
    try:
        # (start^(2−L) − stop^(2−L)) / (L−2), without cancellation where the two are close
        return stop ** (2 - depth) * math.expm1((depth - 2) * math.log(stop / start)) / (depth - 2)
    except OverflowError:
        return math.inf


def _approach(depth: int, start: float, stop: float) -> float:
    """∫ w/(1−wᴸ) dw from `start` to `stop`, as ∫ w(1−w)/(1−wᴸ) ds with s = −log(1−w)."""
    first, last = -math.log1p(-start), -math.log1p(-stop)
    edges = np.linspace(first, last, 2 + int(2 * (last - first)))
    s, weights = gauss_legendre(edges, 20)
    w = -np.expm1(-s)
    slope = w * np.exp(-s) / -np.expm1(depth * np.log1p(-np.exp(-s)))
    return float(slope @ weights)


def _momentum(value: float) -> float:
    return number("momentum", value, least=0, below=1, hint="For example 0.9.")


def _condition_number(value: float) -> float:
    hint = "It is the largest curvature divided by the smallest."
    return number("condition_number", value, least=1, hint=hint)


def _curvatures(smallest: float, largest: float) -> tuple[float, float]:
    small = number("smallest_curvature", smallest, above=0, hint=_MINIMUM)
    large = number("largest_curvature", largest, above=0, hint=_MINIMUM)
    if small > large:
        raise ValueError(
            f"smallest_curvature={small:g} exceeds largest_curvature={large:g}: swap them."
        )
    return small, large
