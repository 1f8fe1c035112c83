"""Right and wrong answers to the exercises of notebook 08."""

import math

import numpy as np

from course_utils import theory
from course_utils.exercises import residual


def backward(delta, x, W, alpha, skip=True, mask=True, transposed=False, in_W=True, in_alpha=True):
    h = np.maximum(x, 0)
    through = delta @ (W.T if transposed else W) * ((x > 0) if mask else 1)
    d_x = (delta if skip else 0) + alpha * through
    d_W = (alpha if in_W else 1) * delta.T @ h
    d_alpha = (delta * (h @ W.T)).sum() * (1 if in_alpha else alpha)
    return d_x, d_W, d_alpha


def path_share(depth, length, alpha):
    return residual.path_share.reference(depth, length, alpha)


def growth(depth, a, start=1.0, varying=1 - 1 / math.pi, square=True, late=False):
    total, s = 1.0, start
    weight = a**2 if square else a
    for _ in range(depth):
        after = weight * s + varying
        total *= weight + 1 / (after if late else s)
        s = after
    return total


def bisected(L, growth):
    """The branch scale, found by halving an interval."""
    low, high = 0.0, 10.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (low, middle) if (1 + middle**2) ** L > growth else (middle, high)
    return high


RIGHT = {
    "block_backward": [
        lambda *a: list(backward(*a)),
        lambda *a: backward(*(np.float32(v) for v in a)),
    ],
    "branch_scale": [
        lambda L, growth: np.sqrt(np.exp(np.log(growth) / L) - 1),
        lambda L, growth: bisected(L, growth),
    ],
    "weak_skip_growth": [
        lambda L, a: theory.residual_growth(L, norm="batch") if a == 1 else growth(L, a)
    ],
    "path_share": [
        lambda L, k, a: math.comb(L, k) * (a**2 / (1 + a**2)) ** k / (1 + a**2) ** (L - k)
    ],
    "fixup_scale": [lambda L, m: L ** (-0.5 / (m - 1))],
    "shattering_depth": [lambda c: next(L for L in range(99) if 2.0**-L < c)],
}

WRONG = {
    "block_backward": {
        "skip forgotten": lambda *a: backward(*a, skip=False),
        "slope of ReLU forgotten": lambda *a: backward(*a, mask=False),
        "W transposed": lambda *a: backward(*a, transposed=True),
        "α forgotten in ∂W": lambda *a: backward(*a, in_W=False),
        "α left in ∂α": lambda *a: backward(*a, in_alpha=False),
        "∂W transposed": lambda *a: (backward(*a)[0], backward(*a)[1].T, backward(*a)[2]),
        "∂α per sample": lambda d, x, W, a: (
            *backward(d, x, W, a)[:2],
            (d * (np.maximum(x, 0) @ W.T)).sum(1),
        ),
        "only ∂x": lambda *a: backward(*a)[0],
        "α forgotten in ∂x": lambda d, x, W, a: (
            backward(d, x, W, 1.0)[0],
            *backward(d, x, W, a)[1:],
        ),
        "α on the skip": lambda d, x, W, a: (
            backward(d, x, W, a)[0] + (a - 1) * d,
            *backward(d, x, W, a)[1:],
        ),
        "x in place of ReLU(x)": lambda d, x, W, a: (
            backward(d, x, W, a)[0],
            a * d.T @ x,
            backward(d, x, W, a)[2],
        ),
        "mean for ∂α": lambda d, x, W, a: (
            *backward(d, x, W, a)[:2],
            backward(d, x, W, a)[2] / len(d),
        ),
    },
    "branch_scale": {
        "1/√L": lambda L, g: L**-0.5,
        "root forgotten": lambda L, g: g ** (1 / L) - 1,
        "of the norm": lambda L, g: math.sqrt(g ** (2 / L) - 1),
        "1 not subtracted": lambda L, g: math.sqrt(g ** (1 / L)),
        "shared out": lambda L, g: math.sqrt(g / L),
        "log": lambda L, g: math.sqrt(math.log(g) / L),
        "upside down": lambda L, g: 1 / (math.sqrt(g ** (1 / L) - 1) + 1e-9),
        "depth for growth": lambda L, g: math.sqrt(abs(L ** (1 / g) - 1)),
        "one block more": lambda L, g: math.sqrt(g ** (1 / (L + 1)) - 1),
        "1 added": lambda L, g: math.sqrt(g ** (1 / L) + 1),
    },
    "weak_skip_growth": {
        "mean square, not variance": lambda L, a: growth(L, a, varying=1.0),
        "a not squared": lambda L, a: growth(L, a, square=False),
        "variance behind the block": lambda L, a: growth(L, a, late=True),
        "plain": lambda L, a: (math.pi / (math.pi - 1)) ** L,
        "no norm": lambda L, a: (1 + a * a) ** L,
        "norm, not its square": lambda L, a: growth(L, a) ** 0.5,
        "starts at 0.68": lambda L, a: growth(L, a, start=1 - 1 / math.pi),
        "always residual": lambda L, a: growth(L, 1.0),
        "one block more": lambda L, a: growth(L + 1, a),
        "share π/(π−1)": lambda L, a: growth(L, a, varying=math.pi / (math.pi - 1)),
    },
    "path_share": {
        "number of paths": lambda L, k, a: math.comb(L, k),
        "α not squared": lambda L, k, a: math.comb(L, k) * a**k / (1 + a) ** L,
        "all paths alike": lambda L, k, a: math.comb(L, k) / 2**L,
        "choice forgotten": lambda L, k, a: a ** (2 * k) / (1 + a * a) ** L,
        "not a share": lambda L, k, a: math.comb(L, k) * a ** (2 * k),
        "the others": lambda L, k, a: math.comb(L, k) * a ** (2 * (L - k)) / (1 + a * a) ** L,
        "half of α": lambda L, k, a: path_share(L, k, a / 2),
        "one block more": lambda L, k, a: path_share(L + 1, k, a),
        "one branch more": lambda L, k, a: path_share(L, k, a) * a * a,
        "in percent": lambda L, k, a: 100 * path_share(L, k, a),
    },
    "fixup_scale": {
        "1/L": lambda L, m: 1 / L,
        "1/√L whatever m": lambda L, m: L**-0.5,
        "m layers scaled": lambda L, m: L ** (-1 / (2 * m)),
        "the square": lambda L, m: L ** (-1 / (m - 1)),
        "upside down": lambda L, m: L ** (1 / (2 * m - 2)),
        "layers too many": lambda L, m: L ** (-1 / (2 * m - 1)),
        "m for m − 1": lambda L, m: L ** (-1 / (m + 1)),
        "always 1/√L for 3": lambda L, m: L ** (-1 / 4),
        "one block more": lambda L, m: (L + 1) ** (-1 / (2 * m - 2)),
        "divided by m": lambda L, m: L**-0.5 / (m - 1),
    },
    "shattering_depth": {
        "not strictly": lambda c: max(0, math.ceil(math.log2(1 / c))),
        "natural logarithm": lambda c: max(0, math.floor(math.log(1 / c)) + 1),
        "one too many": lambda c: residual.shattering_depth.reference(c) + 1,
        "at least 2": lambda c: max(2, residual.shattering_depth.reference(c)),
        "0 layers at 1": lambda c: 0 if c == 1 else residual.shattering_depth.reference(c),
        "not whole": lambda c: math.log2(1 / c),
        "square root": lambda c: max(0, math.floor(2 * math.log2(1 / c)) + 1),
        "base 10": lambda c: max(0, math.floor(math.log10(1 / c)) + 1),
        "one too few": lambda c: max(0, residual.shattering_depth.reference(c) - 1),
        "rounded": lambda c: round(math.log2(1 / c)),
    },
}
