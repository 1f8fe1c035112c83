"""What the end of a number format does to a gradient: ranges, rounding, lost updates (notebook 11).

A binary format has e exponent and m mantissa bits; its ε is 2^−m, the gap above 1. Halfway values
round to the even neighbor, as IEEE 754 asks.
"""

import math
from statistics import NormalDist

import numpy as np

from ..arguments import integer, number, one_of
from .mean_field import gradient_factor

FORMATS = {
    "float64": (11, 52),
    "float32": (8, 23),
    "float16": (5, 10),
    "bfloat16": (8, 7),
    "float8_e5m2": (5, 2),
}
"""Exponent and mantissa bits of the formats that keep their largest exponent for Inf and NaN."""

_IEEE = "Formats: float64 has 11 and 52 bits, float32 8 and 23, float16 5 and 10, bfloat16 8 and 7."
_LN2 = math.log(2)


def machine_epsilon(mantissa: int) -> float:
    """ε = 2^−m, the gap between 1 and the next number of a format.

    Args:
        mantissa: m, mantissa bits without the leading 1.

    Returns:
        ε, relative.

    Raises:
        ValueError: If `mantissa` is not from 0 to 52.
        TypeError: If it is not an integer.

    >>> import torch
    >>> machine_epsilon(7), machine_epsilon(23) == torch.finfo(torch.float32).eps
    (0.0078125, True)
    """
    return 2.0 ** -_mantissa(mantissa)


def largest_number(exponent: int, mantissa: int) -> float:
    """Largest finite number of a format: (2 − 2^−m) · 2^(2^(e−1) − 1).

    Args:
        exponent: e, exponent bits.
        mantissa: m, mantissa bits.

    Returns:
        The number. A format without an Inf, as float8 e4m3fn, reaches further: 448 there.

    Raises:
        ValueError: If an argument lies outside its range.
        TypeError: If one is not an integer.

    >>> import torch
    >>> largest_number(5, 10), largest_number(8, 7) == torch.finfo(torch.bfloat16).max
    (65504.0, True)
    """
    top = 2 ** (_exponent(exponent) - 1) - 1
    return math.ldexp(2 - machine_epsilon(mantissa), top)


def smallest_normal(exponent: int) -> float:
    """Smallest number with all its digits: 2^(2 − 2^(e−1)).

    Args:
        exponent: e, exponent bits.

    Returns:
        The number.

    Raises:
        ValueError: If the argument lies outside its range.
        TypeError: If it is not an integer.

    >>> import torch
    >>> smallest_normal(8) == torch.finfo(torch.float32).tiny
    True
    """
    return math.ldexp(1.0, 2 - 2 ** (_exponent(exponent) - 1))


def smallest_subnormal(exponent: int, mantissa: int) -> float:
    """Smallest number above 0: `smallest_normal` times 2^−m. Half of it rounds to 0.

    Args:
        exponent: e, exponent bits.
        mantissa: m, mantissa bits.

    Returns:
        The number.

    Raises:
        ValueError: If an argument lies outside its range.
        TypeError: If one is not an integer.

    >>> smallest_subnormal(5, 10) == 2**-24
    True
    """
    return math.ldexp(smallest_normal(exponent), -_mantissa(mantissa))


def rounding_error(mantissa: int) -> float:
    """Root mean square relative error of rounding: ε/√(32 ln 2) ≈ 0.2123 ε.

    For values whose logarithm is spread evenly over octaves. An error is uniform within half a gap
    on each side, ulp²/12, and ulp is ε times the power of two below.

    Args:
        mantissa: m, mantissa bits.

    Returns:
        The error, relative.

    Raises:
        ValueError: If the argument lies outside its range.
        TypeError: If it is not an integer.

    >>> f"{rounding_error(7):.3%}"
    '0.166%'
    """
    return machine_epsilon(mantissa) / math.sqrt(32 * _LN2)


def gaussian_rounding_error(mantissa: int, std: float = 1.0) -> float:
    """Root mean square error of rounding a Gaussian tensor, over its standard deviation.

    ε′ = ε √(E[4^⌊log₂|x|⌋]/12)/std with x ~ N(0, std²), about 0.213 ε: large values, which count
    most, have the wide gaps. Where std lies between two powers of two moves it by a few percent.

    Args:
        mantissa: m, mantissa bits.
        std: Standard deviation, positive.

    Returns:
        ε′, relative.

    Raises:
        ValueError: If an argument lies outside its range.
        TypeError: If `mantissa` is not an integer.

    >>> f"{math.sqrt(3) * gaussian_rounding_error(7):.3%}"
    '0.288%'
    """
    std = number("std", std, above=0)
    std = 2 ** (math.log2(std) % 1)  # only the place within its octave counts
    octaves = range(-60, 7)
    square = sum(
        4.0**k * (math.erf(2.0 ** (k + 1) / std / _ROOT2) - math.erf(2.0**k / std / _ROOT2))
        for k in octaves
    )
    return machine_epsilon(mantissa) * math.sqrt(square / 12) / std


def flushed_share(
    mean_log2: float, std_log2: float, scale: float = 1.0, format: str = "float16"
) -> float:
    """Share of a gradient's entries that a format rounds to 0.

    Φ((log₂(half the smallest subnormal) − μ − log₂S)/s) for log₂|g| ~ N(μ, s²) and a loss that is
    multiplied by S.

    Args:
        mean_log2: μ, mean of log₂|g|.
        std_log2: s, its standard deviation in octaves, positive.
        scale: S, the loss scale, positive.
        format: A name in `FORMATS`.

    Returns:
        A share between 0 and 1.

    Raises:
        ValueError: If an argument lies outside its range.

    References:
        P. Micikevicius et al., "Mixed Precision Training", ICLR 2018.

    >>> round(flushed_share(-26, 3), 4), round(flushed_share(-26, 3, scale=1024), 4)
    (0.6306, 0.0013)
    """
    mean, std = number("mean_log2", mean_log2), number("std_log2", std_log2, above=0)
    scale = number("scale", scale, above=0)
    border = math.log2(smallest_subnormal(*_bits(format))) - 1
    return _normal_share((border - mean - math.log2(scale)) / std)


def last_finite_layer(weight_std: float, width: int, format: str) -> float:
    """Last layer of a ReLU network whose preactivations a format still holds.

    Layer l has a root mean square of √2 (σ√(n/2))^l for inputs of size 1, and the largest of n
    units is z_n = Φ⁻¹(1 − 1/n) times that. The first layer beyond the largest number is
    ⌈ln(limit/(√2 z_n))/ln(σ√(n/2))⌉; this is the one before.

    Args:
        weight_std: σ of one weight, positive.
        width: n, units per layer, at least 3.
        format: A name in `FORMATS`.

    Returns:
        A number of layers, inf where the signal does not grow.

    Raises:
        ValueError: If an argument lies outside its range.
        TypeError: If `width` is not an integer.

    >>> last_finite_layer(1.0, 256, "float16"), last_finite_layer(1.0, 256, "bfloat16")
    (4, 36)
    """
    growth, largest = _signal(weight_std, width)
    exponent, mantissa = _bits(format)
    limit = math.log(largest_number(exponent, mantissa))  # + half a gap: less than 0.1 layers
    return _layers_before(limit - largest, growth) if growth > 0 else math.inf


def last_nonzero_layer(weight_std: float, width: int, format: str) -> float:
    """Last layer of a ReLU network whose preactivations are not all rounded to 0.

    As `last_finite_layer`, with half the smallest subnormal as the limit.

    Args:
        weight_std: σ of one weight, positive.
        width: n, units per layer, at least 3.
        format: A name in `FORMATS`.

    Returns:
        A number of layers, inf where the signal does not shrink.

    Raises:
        ValueError: If an argument lies outside its range.
        TypeError: If `width` is not an integer.

    >>> last_nonzero_layer(0.01, 256, "float16"), last_nonzero_layer(0.01, 256, "float32")
    (8, 48)
    """
    growth, largest = _signal(weight_std, width)
    exponent, mantissa = _bits(format)
    limit = math.log(smallest_normal(exponent)) - (mantissa + 1) * _LN2
    return _layers_before(limit - largest, growth) if growth < 0 else math.inf


def tanh_saturation(mantissa: int) -> float:
    """Z from which tanh is rounded to exactly 1, and its slope 1 − h² is exactly 0.

    (m + 3) ln 2/2: 1 − tanh z ≈ 2e^(−2z), and the last number below 1 is ε/2 away.

    Args:
        mantissa: m, mantissa bits.

    Returns:
        z.

    Raises:
        ValueError: If the argument lies outside its range.
        TypeError: If it is not an integer.

    >>> [round(tanh_saturation(m), 2) for m in (52, 23, 10, 7)]
    [19.06, 9.01, 4.51, 3.47]
    """
    return (_mantissa(mantissa) + 3) * _LN2 / 2


def sigmoid_saturation(mantissa: int, wider: bool = False) -> float:
    """Z from which the sigmoid is exactly 1, and its slope h(1 − h) is exactly 0.

    (m + 1) ln 2 where 1 + e^(−z) is formed in the format itself and rounds to 1; (m + 2) ln 2 where
    the sigmoid is computed in a wider format and then rounded. Toward −∞ there is no such border.

    Args:
        mantissa: m, mantissa bits.
        wider: Whether it is computed in a wider format, as torch does for 16 bits on a CPU.

    Returns:
        z.

    Raises:
        ValueError: If the argument lies outside its range.
        TypeError: If it is not an integer.

    >>> round(sigmoid_saturation(23), 1), round(sigmoid_saturation(7, wider=True), 2)
    (16.6, 6.24)
    """
    return (_mantissa(mantissa) + (2 if wider else 1)) * _LN2


def loop_sum_error(n: int, mantissa: int = 23) -> float:
    """Root mean square relative error of a sum of n uniforms on [0, 1], added one by one.

    √(Σ_k ulp(k/2)²/12)/(n/2), about ε′√(n/3): each addition rounds the running sum, which is near
    k/2.

    Args:
        n: How many numbers, at least 1.
        mantissa: m, mantissa bits.

    Returns:
        The error, relative.

    Raises:
        ValueError: If an argument lies outside its range.
        TypeError: If one is not an integer.

    References:
        N. J. Higham, "The Accuracy of Floating Point Summation", SIAM Journal on Scientific
        Computing 14(4), 1993 (bounds; the mean square is derived in notebook 11).

    >>> f"{loop_sum_error(1024):.2e}, {loop_sum_error(16384):.2e}"
    '4.18e-07, 1.67e-06'
    """
    n = integer("n", n, 1)
    gaps = np.exp2(np.floor(np.log2(np.arange(1, n + 1) / 2))) * machine_epsilon(mantissa)
    return float(np.sqrt((gaps**2).sum() / 12) / (n / 2))


def stored_depth_error(depth: int, mantissa: int) -> float:
    """Relative error after L layers of a ReLU network with He's weights stored in a format.

    ε′√(2L + 1): each layer rounds its weights and its output, and the input is rounded once. He's
    weights pass an error on as they pass the signal.

    Args:
        depth: L, at least 0.
        mantissa: m, mantissa bits.

    Returns:
        The root mean square error, relative.

    Raises:
        ValueError: If an argument lies outside its range.
        TypeError: If one is not an integer.

    >>> f"{stored_depth_error(10, 7):.2%}"
    '0.76%'
    """
    return gaussian_rounding_error(mantissa) * math.sqrt(2 * integer("depth", depth, 0) + 1)


def reproducible_depth(weight_variance: float, mantissa: int = 23) -> float:
    """Layer at which a chaotic tanh network has lost all but one digit to rounding.

    ln(0.1/(ε′√(3/(1 − 1/χ))))/ln√χ: rounding errors of input, weights and output of each layer
    grow by √χ per layer, and the earliest have grown most.

    Args:
        weight_variance: σ_w², above 1: in the chaotic phase.
        mantissa: m, mantissa bits.

    Returns:
        The layer at which the error is 10 %, not rounded.

    Raises:
        ValueError: If an argument lies outside its range.
        TypeError: If `mantissa` is not an integer.

    >>> round(reproducible_depth(3.0)), round(reproducible_depth(6.0))
    (129, 62)
    """
    chaotic = "Up to 1 a tanh network without biases loses what tells inputs apart, errors too."
    factor = gradient_factor(
        "tanh", number("weight_variance", weight_variance, above=1, hint=chaotic)
    )
    start = gaussian_rounding_error(mantissa) * math.sqrt(3 / (1 - factor**-2))
    return math.log(0.1 / start) / math.log(factor)


def lost_update_share(lr: float, std: float, mantissa: int) -> float:
    """Share of weights that a step of one size does not move.

    2Φ(−2^(⌊log₂η⌋ + m + 2)/σ): a step of η is lost where it is below half the gap at the weight,
    for weights N(0, σ²). Gaps are powers of two, so η counts by its octave.

    Args:
        lr: η, size of the step: Adam's learning rate, for example. Positive.
        std: σ of the weights, positive.
        mantissa: m, mantissa bits.

    Returns:
        A share between 0 and 1.

    Raises:
        ValueError: If an argument lies outside its range.
        TypeError: If `mantissa` is not an integer.

    >>> [round(lost_update_share(lr, 0.02, 7), 3) for lr in (1e-3, 1e-4, 1e-5)]
    [0.0, 0.118, 0.845]
    """
    lr, std = number("lr", lr, above=0), number("std", std, above=0)
    border = math.ldexp(1.0, math.floor(math.log2(lr)) + _mantissa(mantissa) + 2)
    return 2 * _normal_share(-border / std)


def stall_distance(lr: float, mantissa: int) -> float:
    """How far from 1 descent on (θ − 1)²/2 stops, coming from below: 2^−(m+2)/η.

    A step η(1 − θ) is lost below half the gap under 1, and that gap is ε/2.

    Args:
        lr: η, positive.
        mantissa: m, mantissa bits.

    Returns:
        1 − θ, for a start and an answer between ½ and 1.

    Raises:
        ValueError: If an argument lies outside its range.
        TypeError: If `mantissa` is not an integer.

    >>> round(stall_distance(0.03, 7), 3), round(stall_distance(0.007, 7), 3)
    (0.065, 0.279)
    """
    return machine_epsilon(mantissa) / 4 / number("lr", lr, above=0)


def adam_underflow(beta2: float) -> float:
    """Gradient below which Adam's v is 0 after a first step in float16: √(2⁻²⁵/(1 − β₂)).

    v = (1 − β₂)g² is rounded to 0 below half the smallest subnormal, ε = 1e-8 is rounded to 0 too,
    and the step divides by 0.

    Args:
        beta2: β₂, from 0 up to but without 1.

    Returns:
        |g|.

    Raises:
        ValueError: If the argument lies outside its range.

    >>> f"{adam_underflow(0.999):.2e}, {adam_underflow(0.99):.2e}"
    '5.46e-03, 1.73e-03'
    """
    beta2 = number("beta2", beta2, least=0, below=1)
    return math.sqrt(smallest_subnormal(*FORMATS["float16"]) / 2 / (1 - beta2))


def adam_stall(beta2: float, mantissa: int) -> float:
    """Where Adam's v stops rising toward 1 under gradients of 1: 2^⌈log₂(2^(m+1)(1 − β₂))⌉.

    v is a ratchet where 1 − β₂ is at most 2^−(m+2): multiplying by β₂ is rounded away at every v,
    so v never falls, and adding (1 − β₂) is rounded away from this v on.

    Args:
        beta2: β₂, from 0 up to but without 1.
        mantissa: m, mantissa bits.

    Returns:
        v where it stops, at most 1.

    Raises:
        ValueError: If an argument lies outside its range, or β₂ is so small that v does decay.
        TypeError: If `mantissa` is not an integer.

    >>> adam_stall(0.999, 7)
    0.5
    """
    bits = _mantissa(mantissa)
    decays = f"With {bits} mantissa bits v decays below 1 − 2^−{bits + 2}: there is no ratchet."
    beta2 = number("beta2", beta2, least=1 - 2.0 ** -(bits + 2), below=1, hint=decays)
    return 2.0 ** math.ceil(bits + 1 + math.log2(1 - beta2))


def accumulation_limit(gradient: float, mantissa: int) -> float:
    """Where a sum of equal gradients stops growing: 2^(m + 1 + ⌈log₂g⌉).

    From there on g is at most half the gap, and is rounded away.

    Args:
        gradient: g, positive.
        mantissa: m, mantissa bits.

    Returns:
        The sum.

    Raises:
        ValueError: If an argument lies outside its range.
        TypeError: If `mantissa` is not an integer.

    >>> accumulation_limit(1.0, 7), accumulation_limit(1.5, 7), accumulation_limit(1.0, 10)
    (256.0, 512.0, 2048.0)
    """
    octave = math.ceil(math.log2(number("gradient", gradient, above=0)))
    return math.ldexp(1.0, _mantissa(mantissa) + 1 + octave)


def scaler_equilibrium(interval: int, std_log2: float) -> tuple[float, float]:
    """Where dynamic loss scaling settles: the share of skipped steps, and the mean of log₂S.

    A step is skipped where S times the largest gradient overflows float16; then S is halved. After
    `interval` steps in a row without one it is doubled. The largest gradient has log₂|g| ~
    N(0, std_log2²), anew in each step. Levels of S form a chain with neighbors only, so its
    stationary law is a product: flux up equals flux down between any two levels.

    Args:
        interval: N, `growth_interval` of `torch.amp.GradScaler`, at least 1.
        std_log2: Standard deviation of log₂|g| in octaves, at least 0.

    Returns:
        Share of skipped steps, 1/(N+1) where nothing scatters, and the mean of log₂S. Gradients of
        size 2^μ shift the latter by −μ.

    Raises:
        ValueError: If an argument lies outside its range.
        TypeError: If `interval` is not an integer.

    References:
        The rule: P. Micikevicius et al., "Mixed Precision Training", ICLR 2018.

    >>> [round(scaler_equilibrium(20, s)[0], 4) for s in (0, 0.25, 1, 3)]
    [0.0476, 0.0454, 0.0369, 0.0349]
    """
    interval, std = integer("interval", interval, 1), number("std_log2", std_log2, least=0)
    limit = math.log2(65520)  # from here on float16 rounds to Inf
    reach = math.ceil(12 * std) + 2
    levels = np.arange(math.floor(limit) - reach, math.ceil(limit) + reach + 1)
    skip = np.array(
        [_normal_share((level - limit) / std) if std else float(level > limit) for level in levels]
    )
    lowest = max(np.flatnonzero(skip == 0), default=0)  # it is never left downward
    levels, skip = levels[lowest:], skip[lowest:]
    log_pass = interval * np.log1p(-np.minimum(skip, 1 - 1e-16))  # of N steps in a row
    down = -np.expm1(log_pass)
    steps = np.where(skip > 0, down / np.where(skip > 0, skip, 1), interval)  # per visit
    log_visits = np.append(0.0, np.cumsum(log_pass[:-1] - np.log(down[1:])))
    weight = steps * np.exp(log_visits - log_visits.max())
    weight /= weight.sum()
    return float(weight @ skip), float(weight @ levels)


_ROOT2 = math.sqrt(2)


def _normal_share(z: float) -> float:
    """Φ(z)."""
    return math.erfc(-z / _ROOT2) / 2


def _bits(format: str) -> tuple[int, int]:
    return FORMATS[one_of("format", format, FORMATS)]


def _exponent(value: int) -> int:
    return integer("exponent", value, 2, 11, hint=_IEEE)


def _mantissa(value: int) -> int:
    return integer("mantissa", value, 0, 52, hint=_IEEE)


def _layers_before(room: float, growth: float) -> int:
    """Layers before the one at which `growth` per layer, in logarithms, has used up the room."""
    return max(0, math.ceil(room / growth) - 1)


def _signal(weight_std: float, width: int) -> tuple[float, float]:
    """Ln σ√(n/2), and ln √2 z_n."""
    width = integer("width", width, 3)
    growth = number("weight_std", weight_std, above=0) * math.sqrt(width / 2)
    largest = NormalDist().inv_cdf(1 - 1 / width)
    return math.log(growth), math.log(_ROOT2 * largest)
