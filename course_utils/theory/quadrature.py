"""Integrals over an activation in float64.

Expectations under a Gaussian are computed by Gauss-Lobatto quadrature on panels that are split
at the kinks of φ and halved until two estimates agree, so a kink that nobody announced costs
time and not digits.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from ..activations import Activation, lookup

Nonlinearity = str | Activation | Callable[[Tensor], Tensor]

_REACH = 39.0  # in standard deviations: beyond it the Gaussian weight is 0 in float64
_MAX_PANELS = 60_000


def gauss_legendre(edges: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Nodes and weights of Gauss-Legendre quadrature on every panel, `count` on each."""
    nodes, weights = np.polynomial.legendre.leggauss(count)
    half = np.diff(edges)[:, None] / 2
    return (edges[:-1, None] + half * (1 + nodes)).ravel(), (half * weights).ravel()


class Integrand(NamedTuple):
    """What is squared and integrated.

    Attributes:
        function: φ or φ′ on float64 arrays.
        kinks: Where φ is not differentiable.
        name: Name of the activation, for messages.
    """

    function: Callable[[np.ndarray], np.ndarray]
    kinks: tuple[float, ...]
    name: str


def output_of(activation: Nonlinearity) -> Integrand:
    """φ on arrays."""
    entry = lookup(activation)
    return Integrand(_on_arrays(entry, entry.function), entry.kinks, entry.name)


def slope_of(activation: Nonlinearity) -> Integrand:
    """φ′ on arrays."""
    entry = lookup(activation)
    return Integrand(_on_arrays(entry, entry.slope), entry.kinks, entry.name)


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
    inner = np.asarray(polynomial.deriv().roots(), dtype=np.float64)
    nodes = np.concatenate([[-1.0], (inner - inner[::-1]) / 2, [1.0]])
    weights = 2 / (count * (count - 1) * polynomial(nodes) ** 2)
    return nodes.clip(-1 + 2e-13, 1 - 2e-13), weights


_NODES, _WEIGHTS = _lobatto(17)


def mean_squares(integrand: Integrand, variances: ArrayLike) -> np.ndarray:
    """E[f(z)²], z ~ N(0, q), for every q, as ∫ (f(σu) e^(−u²/4))² du/√(2π).

    The panels of one q are geometric on either side of 0, from the smaller of the two scales of
    the integrand (1 and σ) up to 39σ, and split at the kinks. A panel is halved until its
    integral and that of its halves differ by less than 1e-13 of the whole.
    """
    function, kinks, name = integrand
    std = np.sqrt(np.asarray(variances, dtype=np.float64))
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
    return total


def _edges(std: float, kinks: tuple[float, ...]) -> np.ndarray:
    """Edges of the first panels, in units of the standard deviation."""
    if std == 0:
        return np.zeros(1)
    first = min(1.0, 1 / std) / 2
    side = first * np.exp2(np.arange(math.ceil(math.log2(_REACH / first))))
    own = np.array([k / std for k in kinks if abs(k) < _REACH * std])
    return np.unique(np.concatenate([-side, [-_REACH, 0.0, _REACH], side, own]))
