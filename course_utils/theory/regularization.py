"""What regularization does to a step and to what is learned (notebook 10)."""

import math
from collections.abc import Callable

import numpy as np

from ..arguments import integer, number
from .mean_field import mean_square_output
from .normalization import output_variance
from .quadrature import Nonlinearity, gauss_legendre

_DECAY = "Decay above 1/lr would turn the weight around."


def batch_noise(trace: float, batch_size: int, samples: int) -> float:
    """Mean squared error of the gradient of a batch drawn without replacement.

    trΣ/B · (N − B)/(N − 1), and 0 for the whole data set.

    Args:
        trace: trΣ, variance over samples (divided by N), summed over the entries, at least 0.
        batch_size: B, from 1 to `samples`.
        samples: N, at least 2.

    Returns:
        E‖g_B − g‖².

    Raises:
        ValueError: If an argument lies outside its range.
        TypeError: If a count is not an integer.

    >>> batch_noise(1.0, 100, 100), batch_noise(1.0, 1, 100)
    (0.0, 1.0)
    """
    samples = integer("samples", samples, 2)
    batch = integer("batch_size", batch_size, 1, samples)
    return number("trace", trace, least=0) / batch * (samples - batch) / (samples - 1)


def batch_efficiency(batch_size: float, noise_scale: float) -> float:
    """What the best step of a batch gains, over that of the exact gradient: 1/(1 + B_n/B).

    The best learning rate carries the same factor, for a Hessian that is a multiple of I.

    Args:
        batch_size: B, positive.
        noise_scale: B_n = trΣ/‖g‖², at least 0.

    Returns:
        A share between 0 and 1: ½ where the batch has the size of the noise scale.

    Raises:
        ValueError: If an argument lies outside its range.

    References:
        S. McCandlish, J. Kaplan, D. Amodei and the OpenAI Dota Team, "An Empirical Model of
        Large-Batch Training", arXiv:1812.06162, 2018.

    >>> [round(batch_efficiency(b, 32), 3) for b in (8, 32, 128)]
    [0.2, 0.5, 0.8]
    """
    noise = number("noise_scale", noise_scale, least=0)
    return 1 / (1 + noise / number("batch_size", batch_size, above=0))


def l2_adam_shrink(lr: float, weight_decay: float, noise_std: float, steps: int) -> float:
    """What Adam leaves of a weight whose L2 penalty is part of the loss: exp(−ηλT/s).

    Adam divides ξ + λw by the size s of the noise ξ, and the decay with it. It holds while λw is
    small beside s; without noise the step is η whatever λ.

    Args:
        lr: η, positive.
        weight_decay: λ, at least 0.
        noise_std: s, root mean square of the gradient, positive.
        steps: T, at least 0.

    Returns:
        The share of the weight that is left.

    Raises:
        ValueError: If an argument lies outside its range.
        TypeError: If `steps` is not an integer.

    References:
        I. Loshchilov and F. Hutter, "Decoupled Weight Decay Regularization", ICLR 2019.

    >>> round(l2_adam_shrink(1e-3, 0.1, 0.1, 1000), 3)
    0.368
    """
    rate = number("lr", lr, above=0) * number("weight_decay", weight_decay, least=0)
    return math.exp(-rate * integer("steps", steps, 0) / number("noise_std", noise_std, above=0))


def decoupled_shrink(lr: float, weight_decay: float, steps: int) -> float:
    """What decoupled weight decay leaves of a weight after T steps: (1 − ηλ)ᵀ.

    Args:
        lr: η, positive.
        weight_decay: λ, from 0 to 1/η.
        steps: T, at least 0.

    Returns:
        The share of the weight that is left, whatever the gradient's noise.

    Raises:
        ValueError: If an argument lies outside its range.
        TypeError: If `steps` is not an integer.

    References:
        I. Loshchilov and F. Hutter, "Decoupled Weight Decay Regularization", ICLR 2019.

    >>> round(decoupled_shrink(1e-3, 0.1, 1000), 3)
    0.905
    """
    lr = number("lr", lr, above=0)
    decay = number("weight_decay", weight_decay, least=0, most=1 / lr, hint=_DECAY)
    return (1 - lr * decay) ** integer("steps", steps, 0)


def l1_zero_share(threshold: float) -> float:
    """Share of pure-noise weights that a soft threshold sets to exactly 0: erf(c/√2).

    Args:
        threshold: c, in standard deviations of the noise, at least 0.

    Returns:
        A share between 0 and 1.

    Raises:
        ValueError: If the argument is negative or not finite.

    >>> round(l1_zero_share(1), 3), round(l1_zero_share(2), 3)
    (0.683, 0.954)
    """
    return math.erf(number("threshold", threshold, least=0) / math.sqrt(2))


def dropout_shrink(p: float) -> float:
    """Factor by which dropout at the input shrinks linear least squares on white inputs: 1 − p.

    The mean loss gains p/(1−p)·Σ w_j² E x_j², an L2 penalty.

    Args:
        p: Share that is dropped, from 0 up to but without 1.

    Returns:
        The factor.

    Raises:
        ValueError: If the argument lies outside its range.

    References:
        S. Wager, S. Wang and P. Liang, "Dropout Training as Adaptive Regularization", NeurIPS 2013.

    >>> dropout_shrink(0.2)
    0.8
    """
    return 1 - _dropped(p)


def dropout_batchnorm_variance(p: float, activation: Nonlinearity = "relu") -> float:
    """Variance behind a batch norm in evaluation, where dropout stands in front of it.

    Var h/(E[h²]/(1−p) − (E h)²), h = φ(z), z ~ N(0, 1): the running variance was taken with dropout
    on, the input of the evaluation has it off.

    Args:
        p: Share that is dropped, from 0 up to but without 1.
        activation: φ, as in `mean_square_output`.

    Returns:
        The variance, 1 without dropout.

    Raises:
        ValueError: If `p` lies outside its range, or as in `batchnorm_gradient_factor`.

    References:
        X. Li, S. Chen, X. Hu and J. Yang, "Understanding the Disharmony between Dropout and Batch
        Normalization by Variance Shift", CVPR 2019.

    >>> round(dropout_batchnorm_variance(0.5), 3)
    0.405
    """
    p = _dropped(p)
    variance, square = output_variance(activation), mean_square_output(activation)
    return variance / (square * p / (1 - p) + variance)


def early_stopping_gap() -> float:
    """Largest difference between early stopping and ridge with λ = 1/(ηt), in learned share.

    max over x of 1/(1 + x) − e^(−x), x = ηts for an eigenvalue s; at eˣ = (1 + x)².

    Returns:
        The gap, 0.2036.

    References:
        A. Ali, J. Z. Kolter and R. J. Tibshirani, "A Continuous-Time View of Early Stopping for
        Least Squares Regression", AISTATS 2019.

    >>> round(early_stopping_gap(), 4)
    0.2036
    """
    x = 2.5
    for _ in range(60):
        x = 2 * math.log1p(x)
    return 1 / (1 + x) - math.exp(-x)


def early_stopping_risk(time: float, aspect_ratio: float, snr: float) -> float:
    """Error of gradient flow on least squares, stopped at a time, over the signal.

    ∫ [e^(−2ts) + (γ/SNR)(1 − e^(−ts))²/s] dMP(s), Marchenko-Pastur's law of the eigenvalues of the
    inputs' covariance: what is not yet learned, and the noise that is.

    Args:
        time: t, learning rate times steps, at least 0.
        aspect_ratio: γ = d/n, positive.
        snr: ‖w‖² over the variance of the noise, positive.

    Returns:
        E‖ŵ − w‖²/‖w‖², 1 at time 0.

    Raises:
        ValueError: If an argument lies outside its range.

    References:
        A. Ali, J. Z. Kolter and R. J. Tibshirani, AISTATS 2019, as in `early_stopping_gap`.

    >>> round(early_stopping_risk(1.237, 0.5, 1.0) / ridge_risk(0.5, 0.5, 1.0), 3)
    1.022
    """
    time, ratio = number("time", time, least=0), _noise_per_signal(aspect_ratio, snr)

    def error(s: np.ndarray) -> np.ndarray:
        learned = -np.expm1(-time * s)
        return (1 - learned) ** 2 + ratio * learned**2 / s

    return _spectral_mean(error, aspect_ratio)


def ridge_risk(penalty: float, aspect_ratio: float, snr: float) -> float:
    """Error of ridge regression, over the signal.

    ∫ [λ² + (γ/SNR) s]/(s + λ)² dMP(s); smallest at λ = γ/SNR.

    Args:
        penalty: λ, positive, in units of the mean eigenvalue.
        aspect_ratio: γ = d/n, positive.
        snr: ‖w‖² over the variance of the noise, positive.

    Returns:
        E‖ŵ − w‖²/‖w‖².

    Raises:
        ValueError: If an argument lies outside its range.

    References:
        E. Dobriban and S. Wager, "High-Dimensional Asymptotics of Prediction: Ridge Regression and
        Classification", Annals of Statistics 46(1), 2018.

    >>> round(ridge_risk(1e9, 0.5, 1.0), 6)
    1.0
    """
    penalty, ratio = number("penalty", penalty, above=0), _noise_per_signal(aspect_ratio, snr)
    return _spectral_mean(lambda s: (penalty**2 + ratio * s) / (s + penalty) ** 2, aspect_ratio)


def label_smoothing_gap(classes: int, smoothing: float) -> float:
    """Gap of the logits at which label smoothing is satisfied: ln(K(1−ε)/ε + 1).

    The softmax then equals the target, 1 − ε + ε/K for the label and ε/K for the others.

    Args:
        classes: K, at least 2.
        smoothing: ε, above 0, up to 1.

    Returns:
        Logit of the label minus that of another class.

    Raises:
        ValueError: If an argument lies outside its range.
        TypeError: If `classes` is not an integer.

    References:
        C. Szegedy et al., "Rethinking the Inception Architecture for Computer Vision", CVPR 2016.

    >>> round(label_smoothing_gap(10, 0.1), 3)
    4.511
    """
    classes, smoothing = integer("classes", classes, 2), _smoothed(smoothing)
    return math.log(classes * (1 - smoothing) / smoothing + 1)


def label_smoothing_floor(classes: int, smoothing: float) -> float:
    """Least cross-entropy with label smoothing: the entropy of the target.

    Args:
        classes: K, at least 2.
        smoothing: ε, above 0, up to 1.

    Returns:
        The loss in nats.

    Raises:
        ValueError: If an argument lies outside its range.
        TypeError: If `classes` is not an integer.

    References:
        As in `label_smoothing_gap`.

    >>> round(label_smoothing_floor(10, 0.1), 4)
    0.5003
    """
    classes, smoothing = integer("classes", classes, 2), _smoothed(smoothing)
    other = smoothing / classes
    label = 1 - smoothing + other
    return -label * math.log(label) - (classes - 1) * other * math.log(other)


def angular_update(
    lr: float, weight_decay: float, momentum: float = 0.0, beta1: float | None = None
) -> float:
    """Angle per step at which weights in front of a norm settle under decoupled weight decay.

    √(2ηλ) for SGD, √(2ηλ/(1+β)) with momentum, √(2ηλ(1−β₁)/(1+β₁)) for AdamW: neither the size of
    the gradient matters nor that of the weights.

    Args:
        lr: η, positive.
        weight_decay: λ, from 0 to 1/η.
        momentum: β of SGD, from 0 up to but without 1.
        beta1: β₁ of AdamW, which is meant where it is given.

    Returns:
        The root mean square angle in radians, for ηλ far below 1.

    Raises:
        ValueError: If an argument lies outside its range, or momentum and beta1 are both given.

    References:
        R. Wan, Z. Zhu, X. Zhang and J. Sun, "Spherical Motion Dynamics", NeurIPS 2021; A. Kosson,
        B. Messmer and M. Jaggi, "Rotational Equilibrium", ICML 2024.

    >>> round(angular_update(0.1, 5e-4), 4), round(angular_update(1e-3, 0.1, beta1=0.9), 5)
    (0.01, 0.00324)
    """
    lr = number("lr", lr, above=0)
    decay = number("weight_decay", weight_decay, least=0, most=1 / lr, hint=_DECAY)
    beta = number("momentum", momentum, least=0, below=1)
    share = 1 / (1 + beta)
    if beta1 is not None:
        if beta:
            raise ValueError(f"momentum={beta:g} is of SGD and beta1={beta1!r} of Adam: give one.")
        average = number("beta1", beta1, least=0, below=1)
        share = (1 - average) / (1 + average)
    return math.sqrt(2 * lr * decay * share)


def equilibrium_norm(lr: float, weight_decay: float, gradient_norm: float) -> float:
    """Norm at which weights in front of a norm settle under SGD with weight decay.

    ‖w‖⁴ = η G²/(2λ): decay takes 2ηλ‖w‖², the step, at right angles, adds η²G²/‖w‖².

    Args:
        lr: η, positive.
        weight_decay: λ, positive.
        gradient_norm: G, root mean square norm of the gradient at ‖w‖ = 1, at least 0.

    Returns:
        ‖w‖.

    Raises:
        ValueError: If an argument lies outside its range.

    References:
        As in `angular_update`.

    >>> equilibrium_norm(0.2, 0.1, 4.0)
    2.0
    """
    lr, decay = number("lr", lr, above=0), number("weight_decay", weight_decay, above=0)
    gradient = number("gradient_norm", gradient_norm, least=0)
    return (lr * gradient**2 / (2 * decay)) ** 0.25


def _spectral_mean(function: Callable[[np.ndarray], np.ndarray], aspect_ratio: float) -> float:
    """∫ f(s) dMP(s) with mean eigenvalue 1; where an eigenvalue is 0 nothing is learned: f = 1."""
    root = math.sqrt(aspect_ratio)
    low, high = (1 - root) ** 2, (1 + root) ** 2
    angle, weight = gauss_legendre(np.linspace(0, math.pi, 65), 16)
    s = (low + high) / 2 - (high - low) / 2 * np.cos(angle)
    density = ((high - low) / 2 * np.sin(angle)) ** 2 / (2 * math.pi * aspect_ratio * s)
    return float(weight @ (density * function(s))) + max(0.0, 1 - 1 / aspect_ratio)


def _noise_per_signal(aspect_ratio: float, snr: float) -> float:
    return number("aspect_ratio", aspect_ratio, above=0) / number("snr", snr, above=0)


def _dropped(p: float) -> float:
    return number("p", p, least=0, below=1, hint="With p = 1 nothing is left.")


def _smoothed(value: float) -> float:
    return number("smoothing", value, above=0, most=1, hint="At 0 the logits grow for ever.")
