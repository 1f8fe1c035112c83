"""What attention does to a signal and to a gradient at the start of training (notebook 13).

T tokens of unit variance with the correlation ρ between any two; weights N(0, 1/d), so the logits
q·k/√d have variance 1, of which 1 − ρ tells keys apart. Averages over wide random networks.
"""

import math

import numpy as np
import torch

from ..arguments import integer, number, one_of
from .quadrature import gauss_legendre
from .roots import root

LAYOUTS = ("none", "post", "pre", "pre_scaled")
"""Attention alone; norm behind the sum; norm in the branch; the same with branches × 1/√(2L)."""

_ONE = "Attention among fewer than two keys has no choice to make."
_PHI = math.sqrt(2 * math.pi)


def softmax_jacobian_mean_square(keys: int, std: float) -> float:
    """Mean squared Frobenius norm of the Jacobian of a softmax over T logits N(0, s²).

    E‖diag p − ppᵀ‖² = E[Σp² − 2Σp³ + (Σp²)²]. With 1/Zᵏ = ∫ u^{k−1}e^{−uZ} du/Γ(k) each moment is
    one integral over ln u of one-dimensional Gaussian means. For large s it falls only like 1/s:
    (1/3s) times `top_gap_density`, from near-ties of the two largest logits.

    Args:
        keys: T, at least 2.
        std: s, positive, up to 1000.

    Returns:
        The mean square, below ½.

    Raises:
        ValueError: If an argument lies outside its range.
        TypeError: If `keys` is not an integer.

    >>> [round(softmax_jacobian_mean_square(64, s), 4) for s in (1.0, 8.0, 32.0)]
    [0.0341, 0.0731, 0.0229]
    """
    keys, std = integer("keys", keys, 2, hint=_ONE), number("std", std, above=0, most=1000)
    reach = 9 * std + math.log(keys) + 12  # of ln u, on either side of 0
    a, da = gauss_legendre(np.linspace(-reach, reach, 161), 8)
    m0, m2, m3, m4 = _moments(a, std)
    others = m0 ** (keys - 2)
    one = m2 * m0 * others - m3 * m0 * others + (m4 * m0 / 6) * others  # Γ(2), 2/Γ(3), 1/Γ(4)
    pairs = (keys - 1) * m2**2 / 6 * others
    return float(keys * (one + pairs) @ da)


def top_gap_density(keys: int) -> float:
    """Density at 0 of the gap between the two largest of T standard normals.

    T(T−1) ∫ φ(x)² Φ(x)^{T−2} dx.

    Args:
        keys: T, at least 2.

    Returns:
        The density, per standard deviation.

    Raises:
        ValueError: If the argument is below 2.
        TypeError: If it is not an integer.

    >>> round(top_gap_density(64), 3), round(top_gap_density(2) * math.sqrt(math.pi), 9)
    (2.344, 1.0)
    """
    keys = integer("keys", keys, 2, hint=_ONE)
    x, weight, density = _normal()
    return float(keys * (keys - 1) * (density**2 * _normal_share(x) ** (keys - 2)) @ weight)


def top_gap_median(keys: int) -> float:
    """Median gap between the two largest of T standard normals.

    T ∫ φ(x) Φ(x − Δ)^{T−1} dx = ½. At logits of standard deviation s the Jacobian of the softmax
    has the median norm 2e^{−sΔ}, for large s: the typical one does saturate.

    Args:
        keys: T, at least 2.

    Returns:
        Δ, in standard deviations.

    Raises:
        ValueError: If the argument is below 2.
        TypeError: If it is not an integer.

    >>> round(top_gap_median(64), 3)
    0.282
    """
    keys = integer("keys", keys, 2, hint=_ONE)
    x, weight, density = _normal()

    def below(gap: float) -> float:
        return 0.5 - keys * float((density * _normal_share(x - gap) ** (keys - 1)) @ weight)

    return root(below, 0.0, 8.0)


def attention_correlation(correlation: float, tokens: int, logit_variance: float = 1.0) -> float:
    """Correlation of the tokens behind one layer of attention without a skip.

    m/n with v = V(1−ρ), n = ρ + (1−ρ)e^v/T and m = ρ + (1−ρ)e^{ρv}/T: two queries that read the
    same keys with nearly the same weights get nearly the same mean. From ρ = 0 it is about 1/e at
    V = 1.

    Args:
        correlation: ρ, from 0 to 1.
        tokens: T, at least 2.
        logit_variance: V, variance of q·k/√d, at least 0; for a moderate V, up to about 2.

    Returns:
        The next ρ.

    Raises:
        ValueError: If an argument lies outside its range.
        TypeError: If `tokens` is not an integer.

    References:
        The collapse: Y. Dong, J.-B. Cordonnier and A. Loukas, "Attention is Not All You Need: Pure
        Attention Loses Rank Doubly Exponentially with Depth", ICML 2021.

    >>> round(1 - attention_correlation(0.0, 64), 3)
    0.632
    """
    rho = number("correlation", correlation, least=0, most=1)
    tokens = integer("tokens", tokens, 2, hint=_ONE)
    _, size, shared, _ = _mixing(rho, tokens, number("logit_variance", logit_variance, least=0))
    return shared / size


def attention_profile(
    layers: int, tokens: int, layout: str, correlation: float = 0.0
) -> tuple[list[float], list[float]]:
    """Correlation of the tokens, and squared gradient per token, through a stack of attention.

    Forward, with n and m of `attention_correlation`: "none" ρ ← m/n; "post" ρ ← (ρ+m)/(1+n); "pre"
    ρ ← (sρ+cm)/(s+cn), s ← s+cn from s = 1, with c = 1, and "pre_scaled" with c = 1/(2L).
    Backward, with γ the correlation of the tokens' gradients, 0 at the top, a = γ+(1−γ)e^v/T and
    b = γ+(1−γ)e^{ρv}/T: "none" g² ← g²a/n, γ ← b/a; "post" g² ← g²(1+a)/(1+n), γ ← (γ+b)/(1+a);
    "pre" g² ← g²(1+ca/s), γ ← (γ+cb/s)/(1+ca/s). Only the way through the values is counted.
    "none" and "post" have a norm behind each layer.

    Args:
        layers: L, layers of attention without feed-forward parts, at least 1.
        tokens: T, at least 2.
        layout: One of `LAYOUTS`.
        correlation: ρ of the input, from 0 to 1.

    Returns:
        Two lists of L + 1 numbers, input first: ρ, and g² over that of the top.

    Raises:
        ValueError: If an argument lies outside its range.
        TypeError: If a count is not an integer.

    References:
        Derived in notebook 13.

    >>> rho, g2 = attention_profile(16, 64, "post")
    >>> [round(g2[layer], 3) for layer in (14, 12, 8)]
    [0.263, 0.078, 0.025]
    """
    layers, tokens = integer("layers", layers, 1), integer("tokens", tokens, 2, hint=_ONE)
    layout = one_of("layout", layout, LAYOUTS)
    rho = [number("correlation", correlation, least=0, most=1)]
    branch = 1 / (2 * layers) if layout == "pre_scaled" else 1.0
    stream, seen = 1.0, []
    for _ in range(layers):
        v, size, shared, same = _mixing(rho[-1], tokens, 1.0)
        seen.append((v, size, same, stream))
        if layout == "none":
            rho.append(shared / size)
        elif layout == "post":
            rho.append((rho[-1] + shared) / (1 + size))
        else:
            after = stream + branch * size
            rho.append((stream * rho[-1] + branch * shared) / after)
            stream = after
    squares, gamma = [1.0], 0.0
    for v, size, same, stream in reversed(seen):
        a = gamma + (1 - gamma) * math.exp(v) / tokens
        b = gamma + (1 - gamma) * same / tokens
        if layout == "none":
            factor, gamma = a / size, b / a
        else:
            share = branch / stream if layout.startswith("pre") else 1.0
            passed = 1 + share * a
            factor, gamma = passed, (gamma + share * b) / passed
            if layout == "post":
                factor /= 1 + size
        squares.append(squares[-1] * factor)
    return rho, squares[::-1]


def preln_gradient(layer: int) -> float:
    """Size of the weight gradient of a block of a pre-norm stack, over √2 of the last: 1/√(2 + l).

    Block l, counted from 0 at the input side, reads a stream of variance 1 + l, and g² there is
    1/(1 + l): the product telescopes, so no number of blocks behind it matters.

    Args:
        layer: l, at least 0.

    Returns:
        The relative size: 1/√2 for the first block.

    Raises:
        ValueError: If the argument is negative.
        TypeError: If it is not an integer.

    References:
        R. Xiong et al., "On Layer Normalization in the Transformer Architecture", ICML 2020.

    >>> round(preln_gradient(0) / preln_gradient(23), 2)
    3.54
    """
    return 1 / math.sqrt(2 + integer("layer", layer, 0))


def deepnorm_correlation(layers: int) -> float:
    """Cosine of output and input of a DeepNorm stack at its start: (1 + 1/(8L√(2L)))^−L.

    An encoder of L layers multiplies the skip by (2L)^¼ and the weights of its branches by (8L)^−¼,
    so each of its 2L branches adds 1/(8L√(2L)) times the variance.

    Args:
        layers: L, at least 1.

    Returns:
        A number near 1: it starts as nearly the identity.

    Raises:
        ValueError: If the argument is below 1.
        TypeError: If it is not an integer.

    References:
        H. Wang et al., "DeepNet: Scaling Transformers to 1,000 Layers", arXiv:2203.00555, 2022.

    >>> round(deepnorm_correlation(6), 3), round(deepnorm_correlation(24), 3)
    (0.965, 0.982)
    """
    layers = integer("layers", layers, 1)
    return (1 + 1 / (8 * layers * math.sqrt(2 * layers))) ** -layers


def _mixing(rho: float, tokens: int, variance: float) -> tuple[float, float, float, float]:
    """v, n, m and e^{ρv} of `attention_correlation`."""
    v = variance * (1 - rho)
    same = math.exp(rho * v)
    return (
        v,
        rho + (1 - rho) * math.exp(v) / tokens,
        rho + (1 - rho) * same / tokens,
        same,
    )


def _normal() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Nodes and weights over ±12 standard deviations, and the density there."""
    x, weight = gauss_legendre(np.linspace(-12, 12, 97), 12)
    return x, weight, np.exp(-x * x / 2) / _PHI


def _normal_share(z: np.ndarray) -> np.ndarray:
    """Φ(z)."""
    return torch.special.ndtr(torch.from_numpy(z)).numpy()


def _moments(a: np.ndarray, std: float) -> list[np.ndarray]:
    """E[yᵏ e^−y], y = e^{a + s z}, z ~ N(0, 1), for k = 0, 2, 3, 4 and every a."""
    if std < 1:
        z, weight, density = _normal()
        w = a[:, None] + std * z
        weights = np.broadcast_to(weight * density, w.shape)
        below = np.zeros_like(a)
    else:  # e^−y is sharp in z: integrate over w = ln y
        w, weight = gauss_legendre(np.linspace(-40, 6, 93), 8)
        z = (w - a[:, None]) / std
        weights = weight * np.exp(-z * z / 2) / (_PHI * std)
        below = _normal_share((-40 - a) / std)
    gone = np.exp(-np.exp(np.minimum(w, 7)))
    powers = [np.exp(k * np.minimum(w, 7)) for k in (0, 2, 3, 4)]
    zeroth, *others = ((power * gone * weights).sum(-1) for power in powers)
    return [zeroth + below, *others]
