"""What skip connections do to a gradient at initialization, in a wide network.

A block is x_l = x_(l−1) + α·W_l φ(norm(x_(l−1))), φ = ReLU, with He weights N(0, 2/fan_in): the
pre-activation order, L blocks. Its derivative is I + αJ. The branch J has independent weights of
mean 0, so the terms mixed of I and J cancel on average, and squared lengths add up.

What batch norm puts into the branch is a matter of the variance of x_l over the batch, s_l. It
starts at s_0 = 1. The branch puts out mean square 1, but a share 1/π of that is the same for the
whole batch (the mean of a ReLU is not 0), and the next norm subtracts it. So

    s_l = 1 + α²·l·(1 − 1/π)        and the norm divides the branch's gradient by √s_(l−1).
"""

import math

from ..arguments import boolean, integer, number, one_of

_VARYING = 1 - 1 / math.pi
"""Share of the mean square of a ReLU's output, input N(0, 1), that is variance."""


def residual_growth(depth: int, branch_scale: float = 1.0, norm: str | None = None) -> float:
    """Factor by which L residual blocks multiply the squared gradient, at initialization.

        norm=None:     (1 + α²)^L             exponential; (1 + 1/L)^L < e with α = 1/√L
        norm="batch":  ∏_(l=1…L) (1 + α²/s_(l−1))     a power law: about L^(π/(π−1))

    The same product without batch norm is the growth of E x² on the way forward. With it, E x²
    after l blocks is 1 + α²·l.

    Args:
        depth: L, number of blocks, at least 0.
        branch_scale: α, the factor on the branch; 1/√L for "scaled", 0 for ReZero and SkipInit
            before the first step. Finite.
        norm: None, or "batch" for batch norm in front of the activation of each branch.

    Returns:
        The factor of g², at least 1; its square root is that of the norm g.

    Raises:
        TypeError: If `depth` is no integer.
        ValueError: If an argument is out of range or `norm` is unknown.

    References:
        S. De and S. Smith, "Batch Normalization Biases Residual Blocks Towards the Identity
        Function in Deep Networks", NeurIPS 2020, section 3 (variance of the skip path). G. Yang
        and S. Schoenholz, "Mean Field Residual Networks: On the Edge of Chaos", NeurIPS 2017.

    >>> residual_growth(3), round(residual_growth(50, 50**-0.5), 3)
    (8.0, 2.692)
    >>> round(residual_growth(40, norm="batch"), 1)
    111.9
    """
    depth, square = integer("depth", depth, 0), number("branch_scale", branch_scale) ** 2
    one_of("norm", norm, (None, "batch"))
    growth = 1.0
    for level in range(depth):
        growth *= 1 + square * _gradient_share(norm, level, square)
    return growth


def gradient_correlation(
    depth: int, residual: bool, norm: str | None = "batch", branch_scale: float = 1.0
) -> float:
    """Correlation of the gradients at two unlike inputs, L layers below a common loss gradient.

    With p the chance that a ReLU open for one input is open for the other too,

        plain:     ∏_(l=1…L) p_l                                ½^L where inputs stay unlike
        residual:  ∏_(l=1…L) (1 + α²p_l/s_(l−1)) / (1 + α²/s_(l−1))

    Batch norm, its statistics held fixed, keeps two inputs unlike: p = ½. So plain gradients
    look like white noise from about 7 layers on ("shattered"), and residual ones decay as a power
    of L. Without norm (s = 1) all inputs grow alike on the way up, p = 1 − arccos(c)/π with the
    correlation c of the two signals, c_0 = 0, and the gradients shatter more slowly.

    Args:
        depth: L, number of layers or blocks, at least 0.
        residual: Whether there is a skip connection around each layer.
        norm: "batch" or None.
        branch_scale: α of the residual blocks.

    Returns:
        The correlation, from 0 to 1.

    Raises:
        ValueError: If an argument is out of range or `norm` is unknown.
        TypeError: If `depth` is no integer, or `residual` not a bool.

    References:
        D. Balduzzi et al., "The Shattered Gradients Problem: If resnets are the answer, then what
        is the question?", ICML 2017, theorems 1 to 3. Y. Cho and L. Saul, "Kernel Methods for
        Deep Learning", NeurIPS 2009, eq. 6 (the arc-cosine kernel).

    >>> gradient_correlation(4, residual=False)
    0.0625
    >>> round(gradient_correlation(64, residual=True), 3)
    0.079
    """
    depth, square = integer("depth", depth, 0), number("branch_scale", branch_scale) ** 2
    boolean("residual", residual)
    one_of("norm", norm, (None, "batch"))
    correlation, alike = 1.0, 0.0  # of the gradients, of the signals
    for level in range(depth):
        angle = math.acos(min(1.0, alike))
        both_open = 0.5 if norm == "batch" else 1 - angle / math.pi
        weight = square * _gradient_share(norm, level, square)
        passed = (math.sin(angle) + (math.pi - angle) * alike) / math.pi  # arc-cosine kernel
        if residual:
            correlation *= (1 + weight * both_open) / (1 + weight)
            alike = (alike + square * passed) / (1 + square)
        else:
            correlation *= both_open
            alike = passed
    return correlation


def _gradient_share(norm: str | None, level: int, square: float) -> float:
    """1/s_level: what the norm of the next branch leaves of its squared gradient."""
    return 1 / (1 + level * square * _VARYING) if norm == "batch" else 1.0
