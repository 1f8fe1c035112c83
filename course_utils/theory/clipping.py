"""What clipping does to a gradient, and how steep the ground is that calls for it."""

import math

from ..arguments import integer, number

_SMALL = 1e-2  # below it, a power series is more exact than the difference of two terms


def value_clip_cosine(threshold: float) -> float:
    """Cosine of the angle by which clipping by value turns a Gaussian gradient.

    Clipping by value sets every entry to clip(g) = max(−c, min(c, g)). Let the entries be
    independent N(0, 1) and many. Then the cosine between g and clip(g) is

        E[g clip(g)] / √(E[g²] E[clip(g)²]) = P / √(P − 2c φ(c) + c² (1 − P)),

    with P = erf(c/√2), the share of entries that are not clipped, and φ the density of N(0, 1).
    For c → 0 only the signs are left, and it is √(2/π) = 0.798; for c → ∞ it is 1.

    Args:
        threshold: c in units of σ, the standard deviation of an entry; above 0, inf allowed.

    Returns:
        The cosine, from √(2/π) to 1.

    Raises:
        ValueError: If `threshold` is not above 0: at 0 nothing is left that has a direction.

    References:
        C. M. Stein, "Estimation of the mean of a multivariate normal distribution", Annals of
        Statistics 9(6), 1981, lemma 1: E[g clip(g)] = E[clip′(g)] = P.

    >>> round(value_clip_cosine(1.0), 4)
    0.9503
    """
    if isinstance(threshold, float) and threshold == math.inf:
        return 1.0
    c = number("threshold", threshold, above=0, hint="Clipping at 0 leaves no direction.")
    kept = math.erf(c / math.sqrt(2))
    clipped = math.erfc(c / math.sqrt(2))
    if c < _SMALL:
        # (P − 2cφ(c))/c², by the series of the density; the next term is below 1e-14
        inside = 2 / math.sqrt(2 * math.pi) * c * (1 / 3 - c * c / 10 + c**4 / 56)
        return (kept / c) / math.sqrt(inside + clipped)
    inside = kept - 2 * c * math.exp(-c * c / 2) / math.sqrt(2 * math.pi)
    return kept / math.sqrt(inside + c * c * clipped)


def quartic_stable_lr(start: float) -> float:
    """Learning rate above which gradient descent on x⁴ runs away from its start.

    1/(2x₀²). A step is x ← x − η·4x³ = (1 − 4ηx²) x. It brings x nearer to 0 exactly if
    4ηx² < 2, and then all later ones do; otherwise every step goes farther out than the last.

    Args:
        start: x₀, not 0.

    Returns:
        The learning rate.

    Raises:
        ValueError: If `start` is 0 or not finite.

    References:
        J. Zhang, T. He, S. Sra and A. Jadbabaie, "Why Gradient Clipping Accelerates Training: A
        Theoretical Justification for Adaptivity", ICLR 2020, treat polynomials as examples.

    >>> quartic_stable_lr(10.0)
    0.005
    """
    x = number("start", start)
    if x == 0:
        raise ValueError("start=0 is the minimum already: every learning rate stays there.")
    return 1 / (2 * x * x)


def pinned_gradient_factor(bound: float, width: int) -> float:
    """Factor of the gradient norm per ReLU layer whose weights are pinned at ±c by clipping.

    c√(n/2): with random signs each weight has the variance c², so one layer multiplies the
    squared norm by n c², and ReLU lets half of it pass. Signs that agree with each other, as
    training makes them, give up to c·n.

    Args:
        bound: c, the bound at which weights are clipped, above 0.
        width: n, units of the layer, at least 1.

    Returns:
        The factor per layer, dimensionless.

    Raises:
        TypeError: If `width` is no integer.
        ValueError: If an argument lies outside its range.

    References:
        I. Gulrajani et al., "Improved Training of Wasserstein GANs", NeurIPS 2017, section 3,
        observe both explosion and vanishing under weight clipping.

    >>> pinned_gradient_factor(0.01, 200)
    0.1
    """
    c = number("bound", bound, above=0, hint="Clipping at 0 deletes the network.")
    return c * math.sqrt(integer("width", width, 1) / 2)


def cliff_bias(weight: float, start: float) -> float:
    """Bias at which the error surface of a one-unit sigmoid RNN has its cliff.

    b* = x₀ − w σ(x₀), for x_t = w σ(x_(t−1)) + b. There the start x₀ is a fixed point. Where it is
    unstable, w σ′(x₀) > 1, a little more bias sends x up to one attractor and a little less sends
    it down to the other.

    Args:
        weight: w, the recurrent weight, finite.
        start: x₀, the state before the first step, finite.

    Returns:
        The bias b*.

    Raises:
        ValueError: If an argument is not finite.

    References:
        R. Pascanu, T. Mikolov and Y. Bengio, "On the difficulty of training recurrent neural
        networks", ICML 2013, draw such a surface and its wall.

    >>> cliff_bias(5.0, 0.0)
    -2.5
    """
    w, x = number("weight", weight), number("start", start)
    return x - w * _sigmoid(x)


def cliff_slope(weight: float, start: float, steps: int) -> float:
    """How fast x_T changes with the bias on the cliff of a one-unit sigmoid RNN.

    ∂x_T/∂b = (aᵀ − 1)/(a − 1) at b = b* of `cliff_bias`, with a = w σ′(x₀). There the state stays
    at x₀, so each of the T steps adds 1 and multiplies what came before by a.
    The derivative by w is σ(x₀) times as large.

    Args:
        weight: w, the recurrent weight, finite.
        start: x₀, the state before the first step.
        steps: T, at least 1.

    Returns:
        The derivative; inf where it exceeds the largest float64.

    Raises:
        TypeError: If `steps` is no integer.
        ValueError: If an argument lies outside its range.

    >>> cliff_slope(8.0, 0.0, 4)
    15.0
    """
    w, x = number("weight", weight), number("start", start)
    steps = integer("steps", steps, 1)
    s = _sigmoid(x)
    a = w * s * (1 - s)
    if abs(a - 1) < 1e-4:
        return math.fsum(a**k for k in range(steps))
    try:
        return (a**steps - 1) / (a - 1)
    except OverflowError:
        return math.inf


def _sigmoid(x: float) -> float:
    """σ(x) without overflow."""
    if x >= 0:
        return 1 / (1 + math.exp(-x))
    return math.exp(x) / (1 + math.exp(x))
