"""Exercises of notebook 09, "Gate the memory"."""

import copy
import math

import numpy as np
import torch
from torch import nn

from ..theory import lstm_gradient_factor
from .base import Cases, WrongAnswer, call, exercise, expect_close, finite_array, parts


@exercise(
    "The derivative of h_T²/2 by w for h_t = tanh(w h_(t−1) + x_t), with one loop backward.",
    minutes=15,
    difficulty=2,
    hints=(
        "Go forward once and keep all states. Going backward, δ is the gradient of the state you "
        "stand at.",
        "At each step: first through tanh, whose slope is 1 − h_t². Then w gets δ times the state "
        "before, and the state before gets δ times w.",
        "delta = states[-1]; for t from T down to 1: delta *= 1 - h_t**2; total += delta * "
        "h_(t−1); delta *= w.",
    ),
    reason="The shared weight gets δ_t h_{t−1} from each step, and one step back δ passes the "
    "slope 1 − h² and the weight w.",
)
def bptt_gradient(w, x):
    """dL/dw of L = h_T²/2 by backpropagation through time."""
    states = [0.0]
    for x_t in x:
        states.append(np.tanh(w * states[-1] + x_t))
    delta, total = states[-1], 0.0
    for before, after in zip(states[-2::-1], states[:0:-1], strict=True):
        delta = delta * (1 - after**2)
        total = total + delta * before
        delta = delta * w
    return total


@bptt_gradient.cases(
    "At each step back: through the slope 1 − h_t², then w gets δ h_(t−1), then δ passes on to "
    "h_(t−1) through w. Every step adds to the gradient of w."
)
def _() -> Cases:
    rng = np.random.default_rng(0)
    inputs = ((0.5, [1.0]), (0.5, [1.0, 0.0]), (0.8, [0.5, -0.3, 0.2]), (-1.3, rng.normal(size=12)))
    for w, x in inputs:
        weight = torch.tensor(w, dtype=torch.float64, requires_grad=True)
        h = torch.zeros((), dtype=torch.float64)
        for value in x:
            h = torch.tanh(weight * h + float(value))
        (expected,) = torch.autograd.grad(h**2 / 2, weight)
        given = f"w = {w:g} and an x of {len(x)} numbers"
        yield (w, np.array(x, dtype=np.float64)), float(expected), given


@bptt_gradient.inputs
def _(rng: np.random.Generator) -> tuple[float, np.ndarray]:
    return float(rng.uniform(-2, 2)), rng.normal(size=int(rng.integers(1, 15)))


@exercise(
    "The bias b of a gate for which σ(b)^T is exactly 1/e, T = steps.",
    minutes=5,
    difficulty=1,
    hints=(
        "Take the logarithm: T log σ(b) = −1. What is log σ(b)?",
        "log σ(b) = −log(1 + e^(−b)), so log(1 + e^(−b)) = 1/T.",
        "e^(−b) = e^(1/T) − 1.",
    ),
    reason="log(1 + e^{−b}) = 1/T gives e^{−b} = e^{1/T} − 1. For long memories b is about "
    "log T − 1/(2T), which is why log T does as a rule of thumb.",
)
def forget_bias(steps):
    """The b with σ(b)^steps = 1/e."""
    return -np.log(np.expm1(1 / steps))


@forget_bias.cases(
    "Put your b into σ(b)^T: is it 0.3679? T log(1 + e^(−b)) = 1 has to be solved for b.",
)
def _() -> Cases:
    for steps in (1, 2, 5, 100, 10**4):
        # halving the interval, without the formula
        low, high = -5.0, 30.0
        while high - low > 1e-12:
            middle = (low + high) / 2
            too_short = steps * math.log1p(math.exp(-middle)) > 1
            low, high = (middle, high) if too_short else (low, middle)
        yield (steps,), middle, f"steps = {steps}"


@forget_bias.inputs
def _(rng: np.random.Generator) -> tuple[int]:
    return (int(rng.integers(1, 3000)),)


@exercise(
    "Set the forget gate of every layer of an nn.LSTM to σ(bias) at zero input and state.",
    minutes=10,
    difficulty=2,
    hints=(
        "PyTorch adds bias_ih and bias_hh, and they start at random numbers.",
        "The blocks of each stand in the order i, f, g, o; there is one pair for each layer: "
        "bias_ih_l0, bias_ih_l1, …",
        "getattr(lstm, f'bias_ih_l{layer}')[n:2*n] = bias inside of torch.no_grad(), and the same "
        "rows of bias_hh to 0.",
    ),
    reason="The gate reads the sum of two biases, so one of them gets the value and the other 0, "
    "in the second of four blocks of each layer.",
)
def open_forget_gate(lstm, bias):
    """The LSTM with the forget gates of all layers at σ(bias), nothing else changed."""
    n = lstm.hidden_size
    with torch.no_grad():
        for layer in range(lstm.num_layers):
            getattr(lstm, f"bias_ih_l{layer}")[n : 2 * n] = bias
            getattr(lstm, f"bias_hh_l{layer}")[n : 2 * n] = 0.0
    return lstm


@open_forget_gate.judge
def _(answer: object) -> None:
    for seed, (n, layers, bias) in enumerate(((3, 1, 2.0), (4, 3, -1.5), (2, 2, 0.0))):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            lstm = nn.LSTM(2, n, num_layers=layers)
        before = copy.deepcopy(lstm.state_dict())
        given = f"an nn.LSTM of {layers} layer{'s' * (layers > 1)} and bias = {bias:g}"
        result = call(answer, lstm, bias, copied=False)
        if not isinstance(result, nn.LSTM):
            raise WrongAnswer(
                f"For {given} you returned a {type(result).__name__}: return the LSTM."
            )
        after = result.state_dict()
        if {k: v.shape for k, v in before.items()} != {k: v.shape for k, v in after.items()}:
            raise WrongAnswer(f"For {given} parameters or their shapes have changed.")
        forget = slice(n, 2 * n)
        for layer in range(layers):
            total = after[f"bias_ih_l{layer}"] + after[f"bias_hh_l{layer}"]
            expect_close(
                total[forget].numpy(),
                np.full(n, bias),
                f"{given}: the two biases of layer {layer}'s forget gate together",
                hint="The gate reads their sum. Every layer has its own, and the blocks stand in "
                "the order i, f, g, o.",
            )
        for name, values in after.items():
            kept = torch.ones(len(values), dtype=torch.bool)
            if "bias" in name:
                kept[forget] = False
            if not torch.equal(values[kept], before[name][kept]):
                raise WrongAnswer(
                    f"For {given} something else has changed too, in {name}. The forget gate is "
                    f"rows n to 2n of the biases, here {n} to {2 * n - 1}, and no other."
                )


@exercise(
    "∂h_T/∂a of h_t = a h_(t−1) + x_t, cut after a window of steps: the state goes on.",
    minutes=10,
    difficulty=2,
    hints=(
        "Without a cut, ∂h_T/∂a is the sum of a^j h_(T−1−j) over j = 0, 1, …",
        "Cut after K steps, the sum has the terms j = 0 … K−1. The states are those of the whole "
        "sequence.",
        "All states first, then: sum(a**j * states[T - 1 - j] for j in range(min(K, T))), with "
        "states[0] = 0.",
    ),
    reason="Each step adds the state before it, multiplied by a once for every later step. The cut "
    "leaves out the steps further back than K; the states know nothing of it.",
)
def truncated_gradient(a, x, window):
    """The gradient of the last `window` steps; the state is that of all steps."""
    states = [0.0]
    for x_t in x:
        states.append(a * states[-1] + x_t)
    last = states[-2::-1][:window]  # h_{T−1}, h_{T−2}, …
    return sum(a**j * h for j, h in enumerate(last))


@truncated_gradient.cases(
    "The state runs through all steps; only the sum over j stops after `window` terms, "
    "a^j h_(T−1−j) for j = 0 … window − 1."
)
def _() -> Cases:
    rng = np.random.default_rng(1)
    for a, steps, window in ((0.5, 3, 1), (0.5, 3, 2), (0.9, 20, 5), (-0.8, 12, 12), (0.7, 4, 9)):
        x = np.ones(3) if steps == 3 else rng.normal(size=steps)
        factor = torch.tensor(a, dtype=torch.float64, requires_grad=True)
        h = torch.zeros((), dtype=torch.float64)
        for t, value in enumerate(x.tolist()):
            h = h.detach() if t == steps - window else h
            h = factor * h + value
        (expected,) = torch.autograd.grad(h, factor)
        given = f"a = {a:g}, an x of {steps} numbers and window = {window}"
        yield (a, x, window), float(expected), given


@truncated_gradient.inputs
def _(rng: np.random.Generator) -> tuple[float, np.ndarray, int]:
    steps = int(rng.integers(2, 12))
    return float(rng.uniform(-1.2, 1.2)), rng.normal(size=steps), int(rng.integers(1, steps + 3))


@exercise(
    "Biases of forget, input and output gate within ±3 at which an LSTM grows 1.3-fold per step.",
    minutes=10,
    difficulty=3,
    hints=(
        "The factor is σ_f + σ_i σ_o √v, and √v = 0.577.",
        "Each of the three gates only helps when it opens.",
        "All three at 3: 0.953 + 0.953² · 0.577 = 1.476.",
    ),
    value=(3.0, 3.0, 3.0),
    reason="σ_f + σ_iσ_o√v grows with each of the three gates; with all of them wide open it is "
    "0.953 + 0.524.",
)
def exploding_gates(answer: object) -> None:
    """The predicted factor per step at rest."""
    given = parts(answer, "forget", "input", "output")
    forget, into, out = finite_array("biases", list(given), (3,))
    if max(abs(forget), abs(into), abs(out)) > 3:
        raise WrongAnswer(
            f"One of the biases {forget:g}, {into:g}, {out:g} lies outside −3 … 3: all three gates "
            "have to stand within that range."
        )
    factor = lstm_gradient_factor(forget, input_bias=into, output_bias=out)
    if factor < 1.3:
        kept = 1 / (1 + math.exp(-forget))
        raise WrongAnswer(
            f"The factor is {kept:.3f} + {factor - kept:.3f} = {factor:.3f} per step; 1.3 is asked "
            "for. The first part is the forget gate, the second the input gate times the output "
            "gate times 0.577."
        )


@exercise(
    "All h_t = a_t h_(t−1) + b_t, h_0 = 0, in ⌈log₂T⌉ passes over the whole arrays.",
    minutes=20,
    difficulty=3,
    hints=(
        "First step (a, b), then step (a′, b′) is one step (a′a, a′b + b′). Join each step with "
        "the one before it: now each entry covers two steps.",
        "In the next pass join with the entry 2 places before, then 4, 8, … The first entries "
        "have no partner and stay as they are.",
        "new_b = b.copy(); new_b[k:] = a[k:] * b[:-k] + b[k:]; the same for a with "
        "a[k:] * a[:-k]; then both at once, and k doubles.",
    ),
    reason="After the pass with distance k each entry holds the last 2k steps as one, (a, b). Once "
    "2k reaches T, b is the state itself.",
)
def scan(a, b):
    """All states at once."""
    reach = 1
    while reach < len(b):
        late, early = slice(reach, None), slice(None, -reach)
        b = np.concatenate([b[:reach], a[late] * b[early] + b[late]])
        a = np.concatenate([a[:reach], a[late] * a[early]])
        reach = 2 * reach
    return b


@scan.cases(
    "Join each step with the one 1, 2, 4, … places before: (a′a, a′b + b′). Use the b of before "
    "this pass, and the a that belongs to it."
)
def _() -> Cases:
    rng = np.random.default_rng(2)
    for steps in (1, 2, 3, 5, 8, 13, 100):
        a, b = rng.uniform(-1.1, 1.1, steps), rng.normal(size=steps)
        a[rng.random(steps) < 0.2] = 0.0
        states = [0.0]
        for factor, term in zip(a, b, strict=True):
            states.append(factor * states[-1] + term)
        yield (a, b), np.array(states[1:]), f"T = {steps}, some a_t = 0"


@scan.inputs
def _(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    steps = int(rng.integers(1, 40))
    a = rng.uniform(-1.2, 1.2, steps)
    a[rng.random(steps) < 0.1] = 0.0
    return a, rng.normal(size=steps)
