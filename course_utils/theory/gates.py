"""How a gate, a recurrent matrix and a diagonal state carry a gradient through time (notebook 09).

σ is the logistic function. Weights are PyTorch's convention at n units: v = n·Var(U_ij) of the
recurrent block of one gate, which is 1/3 for the default U(±1/√n).
"""

import math

import numpy as np

from ..arguments import integer, number
from .mean_field import critical_weight_variance, fixed_point, gradient_factor
from .quadrature import gauss_legendre

_PYTORCH = 1 / 3
_TIME = "A gradient travels over at least one step."


def recurrent_state_variance(weight_variance: float, input_variance: float) -> float:
    """Variance q at which the preactivations of a tanh RNN with white input settle.

    q = σ_w² E[tanh(√q z)²] + σ_u², z ~ N(0, 1). Input that is drawn anew at each step acts like the
    bias of a deep network.

    Args:
        weight_variance: σ_w², n times the variance of a recurrent weight, at least 0.
        input_variance: σ_u², variance of the input's share of a preactivation, at least 0.

    Returns:
        q.

    Raises:
        ValueError: If an argument lies outside its range.

    References:
        B. Poole et al., "Exponential expressivity in deep neural networks through transient
        chaos", NeurIPS 2016, eq. 3, with the input in the place of the bias.

    >>> round(recurrent_state_variance(1.0, 0.25), 3)
    0.535
    """
    return fixed_point("tanh", weight_variance, number("input_variance", input_variance, least=0))


def recurrent_gradient_factor(weight_variance: float, input_variance: float) -> float:
    """Factor of the gradient's norm per step of a tanh RNN with white input.

    √χ with χ = σ_w² E[tanh′(√q z)²] and q of `recurrent_state_variance`.

    Args:
        weight_variance: σ_w², at least 0.
        input_variance: σ_u², at least 0.

    Returns:
        The factor, dimensionless.

    Raises:
        ValueError: If an argument lies outside its range.

    References:
        S. Schoenholz et al., "Deep Information Propagation", ICLR 2017, with the input in the
        place of the bias.

    >>> [round(recurrent_gradient_factor(s, 0.25), 4) for s in (1.0, 4.0)]
    [0.7615, 1.1279]
    """
    return gradient_factor(
        "tanh", weight_variance, number("input_variance", input_variance, least=0)
    )


def critical_recurrent_variance(input_variance: float) -> float:
    """Weight variance at which a tanh RNN with white input keeps its gradient.

    The σ_w² with `recurrent_gradient_factor` = 1: 1 without input, and larger with it, because
    input pushes the units to where tanh is flat.

    Args:
        input_variance: σ_u², at least 0.

    Returns:
        σ_w².

    Raises:
        ValueError: If the argument is negative or not finite.

    References:
        L. Molgedey, J. Schuchhardt and H. G. Schuster, "Suppressing chaos in neural networks by
        noise", Physical Review Letters 69, 1992.

    >>> round(critical_recurrent_variance(0.25), 4)
    2.4015
    """
    return critical_weight_variance("tanh", number("input_variance", input_variance, least=0))


def gate_horizon(bias: float) -> float:
    """Steps after which a gate at σ(b) has let a gradient fall to 1/e.

    T = −1/ln σ(b), for large b about e^b + ½.

    Args:
        bias: b, what the gate's sigmoid reads. PyTorch adds two biases, `bias_ih` and `bias_hh`.

    Returns:
        T in steps, not rounded.

    Raises:
        ValueError: If the argument is not finite.

    >>> [math.ceil(gate_horizon(b)) for b in (1, 3, 5)]
    [4, 21, 149]
    """
    return 1 / float(np.logaddexp(0, -number("bias", bias)))


def gate_bias(horizon: float) -> float:
    """Bias of a gate that lets a gradient fall to 1/e in so many steps.

    b = −ln(e^{1/T} − 1), the inverse of `gate_horizon`.

    Args:
        horizon: T in steps, positive.

    Returns:
        b.

    Raises:
        ValueError: If the argument is not positive and finite.

    >>> round(gate_bias(gate_horizon(3.0)), 12)
    3.0
    """
    rate = 1 / number("horizon", horizon, above=0, hint=_TIME)
    return -rate - math.log(-math.expm1(-rate))  # = −ln(e^rate − 1), which would overflow


def chrono_bias(steps: float) -> float:
    """Bias of a forget gate for memories of so many steps: log(T − 1).

    σ(log(T−1)) = 1 − 1/T. The input gate gets its negative.

    Args:
        steps: T, above 1.

    Returns:
        b.

    Raises:
        ValueError: If the argument is not above 1 and finite.

    References:
        C. Tallec and Y. Ollivier, "Can recurrent neural networks warp time?", ICLR 2018.

    >>> chrono_bias(2)
    0.0
    """
    return math.log(number("steps", steps, above=1) - 1)


def largest_gate_gradient(steps: float) -> float:
    """Largest |∂σ(b)^T/∂b| over all biases: how well a gate can feel what it keeps.

    T σ(b)^T (1 − σ(b)) is largest where σ = T/(T+1), at b = log T, and is (T/(T+1))^(T+1) there.

    Args:
        steps: T, positive.

    Returns:
        A number between 0 and 1/e, its limit for long memories.

    Raises:
        ValueError: If the argument is not positive and finite.

    >>> round(largest_gate_gradient(1), 12)
    0.25
    """
    steps = number("steps", steps, above=0, hint=_TIME)
    return math.exp(-(steps + 1) * math.log1p(1 / steps))


def lstm_gradient_factor(
    forget_bias: float,
    weight_variance: float = _PYTORCH,
    input_bias: float = 0.0,
    output_bias: float = 0.0,
) -> float:
    """Factor of the gradient per step of an LSTM's cell at rest: zero state, no input.

    σ_f + σ_i σ_o √v. One step multiplies by f·I + M, and M is the *same* matrix at every step: its
    disc of eigenvalues, of radius σ_iσ_o√v, has its center at σ_f. So the parts add.

    Args:
        forget_bias: b_f, both of PyTorch's biases together.
        weight_variance: v of the recurrent weights into the candidate, at least 0.
        input_bias: b_i.
        output_bias: b_o.

    Returns:
        The factor that many steps approach; above 1 the gradient explodes.

    Raises:
        ValueError: If an argument lies outside its range.

    >>> round(lstm_gradient_factor(0.0), 4), round(lstm_gradient_factor(3.0), 4)
    (0.6443, 1.0969)
    """
    variance = number("weight_variance", weight_variance, least=0)
    opening = _sigmoid("input_bias", input_bias) * _sigmoid("output_bias", output_bias)
    return _sigmoid("forget_bias", forget_bias) + opening * math.sqrt(variance)


def gru_gradient_factor(
    update_bias: float, weight_variance: float = _PYTORCH, reset_bias: float = 0.0
) -> float:
    """Factor of the gradient per step of a GRU at rest: zero state, no input.

    z + (1 − z) σ_r √v with z = σ(b_z), in PyTorch's convention h′ = (1 − z)·n + z·h.

    Args:
        update_bias: b_z, both of PyTorch's biases together.
        weight_variance: v of the recurrent weights into the candidate, at least 0.
        reset_bias: b_r.

    Returns:
        The factor that many steps approach. It stays below 1 while σ_r√v does.

    Raises:
        ValueError: If an argument lies outside its range.

    >>> round(gru_gradient_factor(0.0), 4), round(gru_gradient_factor(2.0), 4)
    (0.6443, 0.9152)
    """
    variance = number("weight_variance", weight_variance, least=0)
    kept = _sigmoid("update_bias", update_bias)
    return kept + (1 - kept) * _sigmoid("reset_bias", reset_bias) * math.sqrt(variance)


def tied_growth(steps: int, leak: float, variance: float) -> float:
    """RMS factor over T steps of (leak·I + M), one matrix M used at every step.

    √Σ_k C(T, k)² leak^(2T−2k) variance^k, M having independent entries of variance `variance`/n in
    n large. Powers of M point in unrelated directions, so the C(T, k) paths that take M k times
    add up *coherently*: with a new M at each step there would be C(T, k) in place of its square.

    Args:
        steps: T, at least 0.
        leak: What is kept without M, at least 0: a forget gate, or 1 for a skip through time.
        variance: n times the variance of an entry of M, at least 0.

    Returns:
        The root mean square factor of a gradient; inf where it exceeds the largest float64.

    Raises:
        ValueError: If an argument lies outside its range.
        TypeError: If `steps` is not an integer.

    >>> round(math.log10(tied_growth(50, 0.5, 1 / 48)), 2)
    -10.05
    """
    steps = integer("steps", steps, 0)
    leak, variance = number("leak", leak, least=0), number("variance", variance, least=0)
    if not leak or not variance:
        return _exp(steps * _log(leak or math.sqrt(variance))) if steps else 1.0
    k = np.arange(steps + 1)
    counts = np.array([_log_binomial(steps, int(i)) for i in k])
    logs = 2 * counts + 2 * (steps - k) * math.log(leak) + k * math.log(variance)
    return _exp((logs.max() + math.log(np.exp(logs - logs.max()).sum())) / 2)


def never_clipped(steps: int) -> float:
    """Share of the units of an identity ReLU RNN that pass a gradient back over T steps.

    C(2T, T)/4^T ≈ 1/√(πT): the share of random walks of T steps that never go below their start.
    It is the same for every symmetric distribution of the input, without a finite variance too.

    Args:
        steps: T, at least 0.

    Returns:
        A share between 0 and 1.

    Raises:
        ValueError: If the argument is negative.
        TypeError: If it is not an integer.

    References:
        E. Sparre Andersen, "On the fluctuations of sums of random variables", Mathematica
        Scandinavica 1, 1953. The network: Q. V. Le, N. Jaitly and G. E. Hinton, "A Simple Way to
        Initialize Recurrent Networks of Rectified Linear Units", arXiv:1504.00941, 2015.

    >>> round(never_clipped(100), 4)
    0.0563
    """
    steps = integer("steps", steps, 0)
    return math.exp(_log_binomial(2 * steps, steps) - 2 * steps * math.log(2))


def identity_survival(start: int, steps: int) -> float:
    """Share of the units of an identity ReLU RNN that pass a gradient from step T back to step t.

    Σ_{k≤t} u_k u_{T−k} with u_k of `never_clipped`, about (2/π) asin √(t/T): a state that is
    clipped at 0 is its walk above the lowest point so far, and is clipped whenever the walk
    reaches a new one. The unit is open from t to T if the lowest point of all T steps came by t.

    Args:
        start: t, from 0 to `steps`.
        steps: T, at least 0.

    Returns:
        A share between 0 and 1.

    Raises:
        ValueError: If an argument lies outside its range.
        TypeError: If one is not an integer.

    References:
        E. Sparre Andersen 1953, as in `never_clipped`: the arcsine law.

    >>> [round(identity_survival(t, 100), 3) for t in (10, 50)]
    [0.212, 0.503]
    """
    steps = integer("steps", steps, 0)
    start = integer("start", start, 0, steps)
    return sum(never_clipped(k) * never_clipped(steps - k) for k in range(start + 1))


def truncation_error(factor: float, window: int) -> float:
    """Share of a linear RNN's gradient that is missing if it is cut after K steps: |a|^K.

    The root mean square of g − g_K over that of g, for h_t = a h_{t−1} + x_t with white input,
    long sequences, g = ∂h_T/∂a and the state carried on.

    Args:
        factor: a, from above −1 to below 1.
        window: K, at least 0 steps.

    Returns:
        A share between 0 and 1.

    Raises:
        ValueError: If an argument lies outside its range.
        TypeError: If `window` is not an integer.

    >>> round(truncation_error(0.8, 5), 3)
    0.328
    """
    factor = abs(number("factor", factor, above=-1, below=1))
    return factor ** integer("window", window, 0)


def truncation_cosine(factor: float, window: int) -> float:
    """Correlation of a linear RNN's gradient with the one that is cut after K steps.

    (1 − ρ)/√(1 − 2ρ + a^{2K}) with ρ = a^{2K}(1 + K(1 − a²)/(1 + a²)), set up as in
    `truncation_error`.

    Args:
        factor: a, from above −1 to below 1.
        window: K, at least 1 step.

    Returns:
        A number between 0 and 1.

    Raises:
        ValueError: If an argument lies outside its range.
        TypeError: If `window` is not an integer.

    >>> round(truncation_cosine(0.8, 5), 3)
    0.956
    """
    square = number("factor", factor, above=-1, below=1) ** 2
    window = integer("window", window, 1)
    missing = square**window
    overlap = missing * (1 + window * (1 - square) / (1 + square))
    return (1 - overlap) / math.sqrt(1 - 2 * overlap + missing)


def integrator_variance(gate: float, steps: int, variance: float = 1.0) -> float:
    """Variance of a state c_t = f·c_{t−1} + x_t after T steps of white input, from c_0 = 0.

    s²(1 − f^{2T})/(1 − f²), and T s² at f = 1: a gate that forgets nothing adds up all noise.

    Args:
        gate: f, from 0 to 1.
        steps: T, at least 0.
        variance: s², variance of x_t, at least 0.

    Returns:
        E c_T².

    Raises:
        ValueError: If an argument lies outside its range.
        TypeError: If `steps` is not an integer.

    >>> integrator_variance(1.0, 100, 0.5)
    50.0
    """
    square = number("gate", gate, least=0, most=1) ** 2
    steps, variance = integer("steps", steps, 0), number("variance", variance, least=0)
    if square == 1:
        return steps * variance
    return variance * -math.expm1(steps * _log(square)) / (1 - square) if steps else 0.0


def ring_memory(steps: int, smallest: float = 0.0, largest: float = 1.0) -> float:
    """Mean squared gradient after T steps where eigenvalues lie evenly on a ring: E|λ|^{2T}.

    (R^{2T+2} − r^{2T+2})/((T + 1)(R² − r²)), λ uniform on the area r ≤ |λ| ≤ R of the complex
    plane and the recurrence diagonal. On the whole disc 1/(T + 1).

    Args:
        steps: T, at least 0.
        smallest: r, from 0 to `largest`.
        largest: R, positive.

    Returns:
        E|λ|^{2T}.

    Raises:
        ValueError: If an argument lies outside its range.
        TypeError: If `steps` is not an integer.

    References:
        A. Orvieto et al., "Resurrecting Recurrent Neural Networks for Long Sequences", ICML 2023.

    >>> ring_memory(10) == 1 / 11, round(ring_memory(500, 0.9, 0.999), 5)
    (True, 0.0039)
    """
    steps = integer("steps", steps, 0)
    outer = number("largest", largest, above=0) ** 2
    inner = number("smallest", smallest, least=0, most=largest) ** 2
    if inner == outer:
        return outer**steps
    return (outer ** (steps + 1) - inner ** (steps + 1)) / ((steps + 1) * (outer - inner))


def s4d_memory(steps: float, smallest_step: float = 1e-3, largest_step: float = 0.1) -> float:
    """Mean |λ|^T of a diagonal state-space layer as S4D starts it.

    |λ| = e^{−Δ/2}, Δ log-uniform between two step sizes a and b:
    (E₁(aT/2) − E₁(bT/2))/ln(b/a), with E₁ the exponential integral.

    Args:
        steps: T, at least 0.
        smallest_step: a, positive.
        largest_step: b, at least a.

    Returns:
        A share between 0 and 1.

    Raises:
        ValueError: If an argument lies outside its range.

    References:
        A. Gu, K. Goel, A. Gupta and C. Ré, "On the Parameterization and Initialization of Diagonal
        State Space Models", NeurIPS 2022.

    >>> round(s4d_memory(100), 3), round(s4d_memory(1000), 3)
    (0.536, 0.122)
    """
    steps = number("steps", steps, least=0)
    low = math.log(number("smallest_step", smallest_step, above=0))
    high = math.log(number("largest_step", largest_step, least=smallest_step))
    u, weights = gauss_legendre(np.linspace(0, 1, 65), 16)
    return float(weights @ np.exp(-np.exp(low + (high - low) * u) * steps / 2))


def selective_rate(mean: float, std: float) -> float:
    """Mean log of the gradient per step of a state whose forgetting the input selects.

    E[log σ(−z)], z ~ N(mean, std²): Mamba's step size Δ = softplus(z) makes its state forget by
    exp(−Δ) = σ(−z), which is a forget gate. The typical gradient over T steps is e to the power of
    T times this.

    Args:
        mean: Of z.
        std: Of z, at least 0.

    Returns:
        A negative number, in nats per step.

    Raises:
        ValueError: If an argument lies outside its range.

    References:
        A. Gu and T. Dao, "Mamba: Linear-Time Sequence Modeling with Selective State Spaces",
        COLM 2024, theorem 1.

    >>> round(selective_rate(-3.0, 1.0), 4), round(selective_rate(-5.0, 2.0), 4)
    (-0.075, -0.0378)
    """
    mean, std = number("mean", mean), number("std", std, least=0)
    u, weights = gauss_legendre(np.linspace(-12, 12, 97), 16)
    density = np.exp(-u * u / 2) / math.sqrt(2 * math.pi)
    return -float(weights @ (density * np.logaddexp(0, mean + std * u)))


def _sigmoid(name: str, value: float) -> float:
    return math.exp(-np.logaddexp(0, -number(name, value)))


def _log(x: float) -> float:
    return math.log(x) if x else -math.inf


def _exp(x: float) -> float:
    return math.exp(x) if x < 709 else math.inf


def _log_binomial(n: int, k: int) -> float:
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
