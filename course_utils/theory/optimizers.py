"""What an optimizer makes of a gradient: sizes of Adam's steps, noise floors, limits (notebook 10).

Adam keeps m ← β₁m + (1−β₁)g and v ← β₂v + (1−β₂)g², and steps by η m̂/(√v̂ + ε), where the hats
divide by 1 − β₁ᵗ and 1 − β₂ᵗ. Steps are counted from t = 1.
"""

import math

from ..arguments import integer, number
from .descent import largest_stable_lr, sgd_variance
from .roots import root

_STEP = "Steps are counted from 1; math.inf is the limit of many."


def adam_uncorrected_step(step: float, beta1: float = 0.9, beta2: float = 0.999) -> float:
    """How many times longer Adam's step is without its bias correction.

    (1 − β₁ᵗ)/√(1 − β₂ᵗ), whatever the gradients (ε = 0). v starts too small by more than m does, so
    the first steps are too *long*.

    Args:
        step: t, at least 1.
        beta1: β₁, from 0 up to but without 1.
        beta2: β₂, from 0 up to but without 1.

    Returns:
        The factor, dimensionless; 1 for many steps.

    Raises:
        ValueError: If an argument lies outside its range.

    References:
        The rule: D. P. Kingma and J. Ba, "Adam: A Method for Stochastic Optimization", ICLR 2015.

    >>> round(adam_uncorrected_step(1), 3), round(adam_uncorrected_step(12), 3)
    (3.162, 6.569)
    """
    step = _step(step)
    beta1, beta2 = _beta("beta1", beta1), _beta("beta2", beta2)
    return (1 - beta1**step) / math.sqrt(1 - beta2**step)


def adam_noise_step(step: float = math.inf, beta1: float = 0.9) -> float:
    """Root mean square step of Adam, over η, where the gradient is noise without a mean.

    √((1−β₁)(1+β₁ᵗ)/((1+β₁)(1−β₁ᵗ))), for β₂ → 1. m̂ is a weighted mean of t gradients, √v̂ their root
    mean square, and the direction (g₁ … g_t)/‖g‖ of independent Gaussians is uniform: the mean
    square is the sum of the squared weights, at any scale of the gradient.

    Args:
        step: t, at least 1; math.inf for the limit √((1−β₁)/(1+β₁)).
        beta1: β₁, from 0 up to but without 1.

    Returns:
        The step, in units of η.

    Raises:
        ValueError: If an argument lies outside its range.

    >>> [round(adam_noise_step(t), 3) for t in (1, 3, 10, math.inf)]
    [1.0, 0.579, 0.33, 0.229]
    """
    beta, power = _beta("beta1", beta1), _beta("beta1", beta1) ** _step(step)
    return math.sqrt((1 - beta) * (1 + power) / ((1 + beta) * (1 - power)))


def adam_signal_step(signal_to_noise: float) -> float:
    """Mean step of Adam, over η, where the gradient has a mean of r standard deviations.

    r/√(1 + r²): the mean over the root mean square, for β₂ → 1 and many steps.

    Args:
        signal_to_noise: r, mean over standard deviation of the gradient.

    Returns:
        The mean step in units of η, with the sign of r.

    Raises:
        ValueError: If the argument is not finite.

    >>> round(adam_signal_step(1.0), 3)
    0.707
    """
    ratio = number("signal_to_noise", signal_to_noise)
    return ratio / math.hypot(1, ratio)


def adam_spike_step(beta1: float = 0.9, beta2: float = 0.999, steps: float = math.inf) -> float:
    """Longest step of Adam, over η, in the step of a gradient far larger than all before it.

    (1−β₁)√(1−β₂ᵗ)/√(1−β₂): m takes (1−β₁) of the spike at once, √v only √(1−β₂).

    Args:
        beta1: β₁, from 0 up to but without 1.
        beta2: β₂, from 0 up to but without 1.
        steps: t, the step of the spike, at least 1; for few steps m̂'s own correction is left out,
            which 1 − β₁ᵗ ≈ 1 allows from about 50 on.

    Returns:
        The step, in units of η.

    Raises:
        ValueError: If an argument lies outside its range.

    >>> round(adam_spike_step(), 2), round(adam_spike_step(steps=501), 3)
    (3.16, 1.986)
    """
    beta1, beta2 = _beta("beta1", beta1), _beta("beta2", beta2)
    return (1 - beta1) * math.sqrt((1 - beta2 ** _step(steps)) / (1 - beta2))


def adam_step_after_spike(spike: float, steps: int, beta2: float = 0.999) -> float:
    """Step of Adam, over η, some steps after a spike in a long run of unit gradients.

    1/√(1 + (1−β₂)(S²−1)β₂ᵏ), once m has forgotten the spike: v remembers it for about
    ln((1−β₂)S²)/(1−β₂) steps.

    Args:
        spike: S, size of the one large gradient.
        steps: k, steps since then, at least 0.
        beta2: β₂, from 0 up to but without 1.

    Returns:
        The step, in units of η.

    Raises:
        ValueError: If an argument lies outside its range.
        TypeError: If `steps` is not an integer.

    >>> round(adam_step_after_spike(1e4, 0), 5), round(adam_step_after_spike(1e4, 12_000), 2)
    (0.00316, 0.79)
    """
    spike, beta2 = number("spike", spike), _beta("beta2", beta2)
    excess = (1 - beta2) * (spike**2 - 1) * beta2 ** integer("steps", steps, 0)
    return 1 / math.sqrt(1 + excess)


def adam_epsilon_step(gradient: float, eps: float = 1e-8) -> float:
    """Step of Adam, over η, where every gradient has one size: g/(|g| + ε).

    Args:
        gradient: g.
        eps: ε, positive.

    Returns:
        The step in units of η: 1 for large gradients, g/ε for small ones.

    Raises:
        ValueError: If an argument lies outside its range.

    >>> adam_epsilon_step(1e-8), round(adam_epsilon_step(1e-10), 4)
    (0.5, 0.0099)
    """
    gradient = number("gradient", gradient)
    return gradient / (abs(gradient) + number("eps", eps, above=0))


def adam_largest_curvature(lr: float, beta1: float = 0.9) -> float:
    """Largest eigenvalue of H/√v̂ at which Adam is stable: 2(1+β₁)/((1−β₁)η), 38/η by default.

    With v frozen Adam is momentum whose gradient enters with weight 1 − β₁, so its rate is
    η(1−β₁)/√v̂, and the limit is `largest_stable_lr` with β₁.

    Args:
        lr: η, positive.
        beta1: β₁, from 0 up to but without 1.

    Returns:
        The eigenvalue, in units of 1/η.

    Raises:
        ValueError: If an argument lies outside its range.

    References:
        J. Cohen et al., "Adaptive Gradient Methods at the Edge of Stability", arXiv:2207.14484,
        2022.

    >>> round(adam_largest_curvature(0.003))
    12667
    """
    lr, beta = number("lr", lr, above=0), _beta("beta1", beta1)
    return largest_stable_lr(lr * (1 - beta), beta)


def adam_variance(
    lr: float,
    curvature: float,
    noise_variance: float,
    batch_size: int = 1,
    beta1: float = 0.9,
) -> float:
    """Variance at which Adam with a constant learning rate ends up around a minimum.

    The V that solves V = `sgd_variance` at the rate η(1−β₁)/√(σ²/B + λ²V) with momentum β₁: √v̂ is
    the root mean square of the gradient. For small η about ησ/(2λ√B), so a batch of 16 times the
    size allows a learning rate of 4 times the size.

    Args:
        lr: η, positive.
        curvature: λ, positive.
        noise_variance: σ², variance of the gradient of a single sample, positive.
        batch_size: B, at least 1.
        beta1: β₁, from 0 up to but without 1.

    Returns:
        The variance of the parameter in this direction.

    Raises:
        ValueError: If an argument lies outside its range.
        TypeError: If `batch_size` is not an integer.

    References:
        For the square root: S. Malladi, K. Lyu, A. Panigrahi and S. Arora, "On the SDEs and Scaling
        Rules for Adaptive Gradient Algorithms", NeurIPS 2022.

    >>> round(adam_variance(1e-3, 1.0, 1.0), 5), round(adam_variance(4e-3, 1.0, 1.0, 16), 5)
    (0.0005, 0.0005)
    """
    lr, curvature = number("lr", lr, above=0), number("curvature", curvature, above=0)
    noise = number("noise_variance", noise_variance, above=0)
    beta, batch = _beta("beta1", beta1), integer("batch_size", batch_size, 1)
    limit = largest_stable_lr(curvature, beta)

    def excess(log_variance: float) -> float:
        variance = math.exp(log_variance)
        rate = lr * (1 - beta) / math.sqrt(noise / batch + curvature**2 * variance)
        if rate >= limit:
            return -1.0
        return variance - sgd_variance(rate, curvature, noise, batch, beta)

    high = math.log(lr) + math.log(noise / batch) / 2 - math.log(2 * curvature)
    low = high - 1
    while excess(low) > 0:
        low -= 1
    while excess(high) < 0:
        high += 1
    return math.exp(root(excess, low, high))


def adagrad_distance(steps: int) -> float:
    """How far Adagrad travels under a constant gradient, in units of η: Σ 1/√t ≈ 2√T − 1.46.

    Args:
        steps: T, at least 0.

    Returns:
        The distance over η, whatever the gradient.

    Raises:
        ValueError: If the argument is negative.
        TypeError: If it is not an integer.

    References:
        J. Duchi, E. Hazan and Y. Singer, "Adaptive Subgradient Methods for Online Learning and
        Stochastic Optimization", Journal of Machine Learning Research 12, 2011.

    >>> round(adagrad_distance(1000), 2)
    61.8
    """
    return math.fsum(t**-0.5 for t in range(1, integer("steps", steps, 0) + 1))


def random_search_success(share: float, trials: int) -> float:
    """Probability that random search finds a setting among the best `share`: 1 − (1−share)^trials.

    Args:
        share: From 0 to 1, for example 0.05 for the best twentieth.
        trials: Independent draws, at least 0.

    Returns:
        A probability.

    Raises:
        ValueError: If an argument lies outside its range.
        TypeError: If `trials` is not an integer.

    References:
        J. Bergstra and Y. Bengio, "Random Search for Hyper-Parameter Optimization", Journal of
        Machine Learning Research 13, 2012.

    >>> round(random_search_success(0.05, 60), 3)
    0.954
    """
    return 1 - (1 - number("share", share, least=0, most=1)) ** integer("trials", trials, 0)


def muon_update_rms(rows: int, columns: int) -> float:
    """Root mean square entry of an orthogonalized update, over its rate: 1/√max(rows, columns).

    All min(n, m) singular values are 1, so the squared entries add up to min(n, m).

    Args:
        rows: Of the weight matrix, at least 1.
        columns: Of the weight matrix, at least 1.

    Returns:
        The size of an entry, whatever the gradient.

    Raises:
        ValueError: If an argument is below 1.
        TypeError: If one is not an integer.

    References:
        K. Jordan et al., "Muon: An optimizer for hidden layers in neural networks", 2024.

    >>> muon_update_rms(16, 4)
    0.25
    """
    return 1 / math.sqrt(max(integer("rows", rows, 1), integer("columns", columns, 1)))


def lr_finder_return() -> float:
    """Where the loss of a learning-rate finder is back at its start, in units of 1/λ: 12.595.

    On a quadratic whose rate grows slowly, ln|e| changes in proportion to
    ∫₀ˣ ln|1−u| du/u = −Re Li₂(x) up to x = ηλ. It is lowest at x = 2, the stable limit, and 0 again
    where Re Li₂(x) = 0.

    Returns:
        x, whatever the factor by which the rate grows.

    References:
        The finder: L. N. Smith, "Cyclical Learning Rates for Training Neural Networks", WACV 2017.

    >>> round(lr_finder_return(), 3)
    12.595
    """

    def real_dilogarithm(x: float) -> float:  # for x ≥ 2, by inversion
        rest = math.fsum(x**-k / k**2 for k in range(1, 60))
        return math.pi**2 / 3 - math.log(x) ** 2 / 2 - rest

    return root(lambda x: -real_dilogarithm(x), 3.0, 30.0)


def float32_blind_layer(factor: float, first_difference: float, rounding: float = 1.92e-8) -> float:
    """Layer from which float32 no longer tells two inputs apart: 1 + ln(d₁/r)/ln(1/factor).

    The difference of two inputs falls by the same factor per layer as the gradient, down to the
    rounding of the activations.

    Args:
        factor: Per layer, above 0 and below 1: √χ.
        first_difference: d₁, root mean square difference of the outputs of layer 1, positive.
        rounding: r, root mean square rounding error of such a difference, positive.

    Returns:
        The layer, not rounded.

    Raises:
        ValueError: If an argument lies outside its range.

    >>> round(float32_blind_layer(0.236, 0.295), 1)
    12.5
    """
    factor = number("factor", factor, above=0, below=1)
    ratio = number("first_difference", first_difference, above=0) / number(
        "rounding", rounding, above=0
    )
    return 1 - math.log(ratio) / math.log(factor)


def _beta(name: str, value: float) -> float:
    return number(name, value, least=0, below=1, hint="For example 0.9.")


def _step(value: float) -> float:
    return math.inf if value == math.inf else number("step", value, least=1, hint=_STEP)
