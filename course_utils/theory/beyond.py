"""What can be learned without a backward pass, and at what price (notebook 15)."""

import math

from ..arguments import boolean, integer, number
from .roots import root


def forward_gradient_error(dimension: int, directions: int, signs: bool = False) -> float:
    """Relative error of a mean of forward gradients (g·v)v: √((d+1)/n).

    √((d−1)/n) for directions of random signs ±1. The estimate is right on average.

    Args:
        dimension: d, number of parameters, at least 1.
        directions: n, at least 1.
        signs: Whether directions are ±1 in place of Gaussian.

    Returns:
        Root mean square error over ‖g‖.

    Raises:
        ValueError: If an argument is below 1.
        TypeError: If one is of another type.

    References:
        A. G. Baydin, B. A. Pearlmutter, D. Syme, F. Wood and P. Torr, "Gradients without
        Backpropagation", arXiv:2202.08587, 2022.

    >>> forward_gradient_error(99, 100), forward_gradient_error(1, 1, signs=True)
    (1.0, 0.0)
    """
    extra = -1 if boolean("signs", signs) else 1
    dimension, directions = _counts(dimension, directions)
    return math.sqrt((dimension + extra) / directions)


def forward_gradient_cosine(dimension: int, directions: int) -> float:
    """Cosine between the gradient and a mean of n Gaussian forward gradients: √(n/(n+d+1)).

    ‖g‖ over the root mean square length of the estimate, which is right on average.

    Args:
        dimension: d, number of parameters, at least 1.
        directions: n, at least 1.

    Returns:
        A number between 0 and 1.

    Raises:
        ValueError: If an argument is below 1.
        TypeError: If one is not an integer.

    References:
        As in `forward_gradient_error`.

    >>> forward_gradient_cosine(2, 1)
    0.5
    """
    dimension, directions = _counts(dimension, directions)
    return math.sqrt(directions / (directions + dimension + 1))


def forward_gradient_rate(dimension: int) -> float:
    """Factor of the loss per step of descent along one forward gradient, at the best rate.

    1 − 1/(d + 2) on a loss that is equally curved in all directions, where one exact step ends at
    the minimum.

    Args:
        dimension: d, number of parameters, at least 1.

    Returns:
        The mean factor.

    Raises:
        ValueError: If the argument is below 1.
        TypeError: If it is not an integer.

    >>> forward_gradient_rate(2)
    0.75
    """
    return 1 - 1 / (integer("dimension", dimension, 1) + 2)


def evolution_mean_square(dimension: int, value: float, sigma: float) -> float:
    """Mean squared length of a one-sided evolution-strategies estimate of a unit gradient.

    d f₀²/σ² + d + 2 for f(θ + σv)v/σ with Gaussian v and a loss that is f₀ at θ and linear around
    it: the value of the loss is paid for, too. Subtract it first, and d + 2 is left.

    Args:
        dimension: d, number of parameters, at least 1.
        value: f₀.
        sigma: σ, positive.

    Returns:
        E‖ĝ‖², of which 1 is the gradient.

    Raises:
        ValueError: If an argument lies outside its range.
        TypeError: If `dimension` is not an integer.

    References:
        T. Salimans, J. Ho, X. Chen, S. Sidor and I. Sutskever, "Evolution Strategies as a Scalable
        Alternative to Reinforcement Learning", arXiv:1703.03864, 2017.

    >>> evolution_mean_square(10, 0.0, 0.1), evolution_mean_square(10, 0.5, 0.5)
    (12.0, 22.0)
    """
    dimension = integer("dimension", dimension, 1)
    ratio = number("value", value) / number("sigma", sigma, above=0)
    return dimension * ratio**2 + dimension + 2


def feedback_alignment_cosine(
    width: int, first_std: float, second_std: float, target_norm: float, feedback_norm: float
) -> float:
    """Cosine of the output weights with the fixed feedback, when feedback alignment has learned.

    A linear network w₂W₁ with one output and n hidden units learns y = β·x from white x, with B in
    place of w₂ in the backward pass. Along the flow W₁ = W₁(0) + BᵀS and
    w₂ = w₂(0) + S W₁(0)ᵀ + ½‖S‖²B. With a₁² = nσ₁² the end solves s(a₁² + ½s²‖B‖²) = ‖β‖ for
    s = ‖S‖, and the cosine is ½s²‖B‖/√(nσ₂² + s²a₁² + ¼s⁴‖B‖²).

    Args:
        width: n, hidden units, at least 1; the formula is for many.
        first_std: σ₁, of the entries of W₁ at the start, at least 0.
        second_std: σ₂, of those of w₂, at least 0.
        target_norm: ‖β‖, positive.
        feedback_norm: ‖B‖, positive.

    Returns:
        A number between 0 and 1; 0 before training.

    Raises:
        ValueError: If an argument lies outside its range.
        TypeError: If `width` is not an integer.

    References:
        The rule: T. P. Lillicrap, D. Cownden, D. B. Tweed and C. J. Akerman, "Random synaptic
        feedback weights support error backpropagation for deep learning", Nature Communications 7,
        2016.

    >>> round(feedback_alignment_cosine(1000, 0.3 / 1000**0.5, 0.3 / 1000**0.5, 2.0, 1.0), 2)
    0.91
    """
    width = integer("width", width, 1)
    first = width * number("first_std", first_std, least=0) ** 2
    second = width * number("second_std", second_std, least=0) ** 2
    target = number("target_norm", target_norm, above=0)
    half = number("feedback_norm", feedback_norm, above=0) ** 2 / 2
    most = (target / half) ** (1 / 3)
    s = root(lambda s: s * (first + half * s * s) - target, 0.0, most)
    turned = s**2 * math.sqrt(half / 2)
    return turned / math.sqrt(second + s**2 * first + turned**2)


def _counts(dimension: int, directions: int) -> tuple[int, int]:
    return integer("dimension", dimension, 1), integer("directions", directions, 1)
