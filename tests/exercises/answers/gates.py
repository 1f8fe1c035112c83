"""Right and wrong answers to the exercises of notebook 09."""

import math

import numpy as np
import torch
from torch import nn


def forward(w, x):
    states = [0.0]
    for value in x:
        states.append(np.tanh(w * states[-1] + value))
    return states


def through_time(
    w, x, *, slope=True, back=True, own=False, last=None, start=1.0, squared=True, order=-1
):
    states = forward(w, x)
    delta, total = states[-1] if squared else 1.0, 0.0
    for count, t in enumerate(range(1, len(states))[::order]):
        if last is not None and count >= last:
            break
        delta = delta * ((1 - states[t] ** 2) if slope else 1.0)
        total += start * delta * states[t if own else t - 1]
        delta = delta * (w if back else 1.0)
    return total


def by_torch(w, x):
    weight = torch.tensor(float(w), dtype=torch.float64, requires_grad=True)
    h = torch.zeros((), dtype=torch.float64)
    for value in x.tolist():
        h = torch.tanh(weight * h + value)
    return torch.autograd.grad(h**2 / 2, weight)[0]


def halves(lstm, bias):
    n = lstm.hidden_size
    for layer in range(lstm.num_layers):
        for which in ("ih", "hh"):
            nn.init.constant_(getattr(lstm, f"bias_{which}_l{layer}").data[n : 2 * n], bias / 2)
    return lstm


def only_subtract(lstm, bias):
    n = lstm.hidden_size
    with torch.no_grad():
        for layer in range(lstm.num_layers):
            other = getattr(lstm, f"bias_hh_l{layer}")[n : 2 * n]
            getattr(lstm, f"bias_ih_l{layer}")[n : 2 * n] = bias - other
    return lstm


def set_rows(
    lstm, bias, *, block=(1, 2), layers=None, both=False, second=0.0, scale=1.0, add=False
):
    n = lstm.hidden_size
    rows = slice(block[0] * n, block[1] * n)
    with torch.no_grad():
        for layer in range(lstm.num_layers if layers is None else layers):
            first = getattr(lstm, f"bias_ih_l{layer}")
            other = getattr(lstm, f"bias_hh_l{layer}")
            first[rows] = scale * bias + (first[rows] if add else 0)
            if second is not None:
                other[rows] = bias if both else second
    return lstm


def zero_all(lstm, bias):
    for parameter in lstm.parameters():
        nn.init.zeros_(parameter)
    return set_rows(lstm, bias)


def scaled_weights(lstm, bias):
    with torch.no_grad():
        lstm.weight_hh_l0[:] = 0
    return set_rows(lstm, bias)


def cut(a, x, window, *, shift=0, reset=False, start=False, power=0, own=0):
    if reset:
        x = x[-window:]
    states = [0.0]
    for value in x:
        states.append(a * states[-1] + value)
    last = states[1:][::-1] if own else states[-2::-1]
    terms = [a ** (j + power) * h for j, h in enumerate(last)]
    return sum(terms[-window:] if start else terms[: max(0, window + shift)])


def full(a, x):
    return cut(a, x, len(x))


def by_detach(a, x, window):
    factor = torch.tensor(float(a), dtype=torch.float64, requires_grad=True)
    h = torch.zeros((), dtype=torch.float64)
    for t, value in enumerate(x.tolist()):
        h = h.detach() if t == len(x) - window else h
        h = factor * h + value
    return torch.autograd.grad(h, factor)[0]


def loop(a, b, *, start=0.0, shift=0, order=1):
    h, states = start, []
    for factor, term in zip(np.roll(a, shift)[::order], b[::order], strict=True):
        h = factor * h + term
        states.append(h)
    return np.array(states)


def levels(a, b, *, combine=True, inplace=False, most=99, use=1):
    a, b = a.copy(), b.copy()
    reach, passes = 1, 0
    while reach < len(b) and passes < most:
        if inplace:
            for t in range(reach, len(b)):
                b[t] = a[t] * b[t - reach] + b[t]
                a[t] = a[t] * a[t - reach]
        else:
            later = a[:-reach] if use == 0 else a[reach:]
            new = later * b[:-reach] + b[reach:]
            if combine:
                a = np.concatenate([a[:reach], a[reach:] * a[:-reach]])
            b = np.concatenate([b[:reach], new])
        reach, passes = 2 * reach, passes + 1
    return b


def powers_of_two(a, b):
    length = 2 ** int(math.log2(len(b)))
    return np.concatenate([levels(a[:length], b[:length]), b[length:]])


def logistic(b):
    return 1 / (1 + math.exp(-b))


RIGHT = {
    "bptt_gradient": [by_torch, lambda w, x: np.float32(through_time(np.float32(w), x))],
    "forget_bias": [
        lambda T: -math.log(math.exp(1 / T) - 1),
        lambda T: torch.logit(torch.exp(torch.tensor(-1 / T, dtype=torch.float64))),
        lambda T: np.float32(-np.log(np.expm1(1 / T))),
    ],
    "open_forget_gate": [halves, only_subtract],
    "truncated_gradient": [by_detach, lambda a, x, k: np.float32(cut(a, x, k))],
    "exploding_gates": [(3, 3, 2), [2.5, 3.0, 3.0], np.array([3.0, 2.0, 2.0]), torch.full((3,), 3)],
    "scan": [
        lambda a, b: torch.tensor(loop(a, b)),
        levels,
        lambda a, b: levels(a.astype(np.float32), b.astype(np.float32)),
    ],
}

WRONG = {
    "bptt_gradient": {
        "last step only": lambda w, x: through_time(w, x, last=1),
        "no slope of tanh": lambda w, x: through_time(w, x, slope=False),
        "h_t for h_(t−1)": lambda w, x: through_time(w, x, own=True),
        "no w on the way back": lambda w, x: through_time(w, x, back=False),
        "loop runs forward": lambda w, x: through_time(w, x, order=1),
        "loss forgotten": lambda w, x: through_time(w, x, squared=False),
        "twice": lambda w, x: through_time(w, x, start=2.0),
        "sign": lambda w, x: -through_time(w, x),
        "two steps only": lambda w, x: through_time(w, x, last=2),
        "slope of the state before": lambda w, x: through_time(w, x) * (1 - forward(w, x)[-2] ** 2),
        "an array": lambda w, x: np.array([through_time(w, x)]),
        "the loss": lambda w, x: forward(w, x)[-1] ** 2 / 2,
    },
    "forget_bias": {
        "log T": lambda T: math.log(T),
        "log(T − 1)": lambda T: math.log(max(T - 1, 0.5)),
        "the sign": lambda T: math.log(math.expm1(1 / T)),
        "the gate instead of the bias": lambda T: math.exp(-1 / T),
        "half of it": lambda T: -math.log(math.expm1(1 / T)) / 2,
        "base 10": lambda T: -math.log10(math.expm1(1 / T)),
        "without the 1": lambda T: -1 / T,
        "plus 1": lambda T: -math.log(math.exp(1 / T) + 1),
        "T in place of 1/T": lambda T: -T,
        "½": lambda T: -math.log(2 ** (1 / T) - 1),
        "log T − 1/(2T)": lambda T: math.log(T) - 1 / (2 * T),
        "text": lambda T: "b",
    },
    "open_forget_gate": {
        "b in both": lambda m, b: set_rows(m, b, both=True),
        "the input gate's quarter": lambda m, b: set_rows(m, b, block=(0, 1)),
        "the candidate's quarter": lambda m, b: set_rows(m, b, block=(2, 3)),
        "all four gates": lambda m, b: set_rows(m, b, block=(0, 4)),
        "first layer only": lambda m, b: set_rows(m, b, layers=1),
        "bias_hh left random": lambda m, b: set_rows(m, b, second=None),
        "added to what was there": lambda m, b: set_rows(m, b, add=True),
        "half of it": lambda m, b: set_rows(m, b, scale=0.5),
        "σ of the bias": lambda m, b: set_rows(m, logistic(b)),
        "everything else zero": zero_all,
        "recurrent weights zero too": scaled_weights,
        "a new LSTM": lambda m, b: set_rows(nn.LSTM(2, m.hidden_size + 1), b),
        "the bias": lambda m, b: set_rows(m, b).bias_ih_l0,
        "not even touched": lambda m, b: m,
    },
    "truncated_gradient": {
        "state reset too": lambda a, x, k: cut(a, x, k, reset=True),
        "full gradient": lambda a, x, k: full(a, x),
        "K − 1": lambda a, x, k: cut(a, x, k, shift=-1),
        "K + 1": lambda a, x, k: cut(a, x, k, shift=1),
        "window at the start": lambda a, x, k: cut(a, x, k, start=True),
        "a^K times the full gradient": lambda a, x, k: a**k * full(a, x),
        "what is missing": lambda a, x, k: full(a, x) - cut(a, x, k),
        "one power too many": lambda a, x, k: cut(a, x, k, power=1),
        "h_t for h_(t−1)": lambda a, x, k: cut(a, x, k, own=1),
        "sign": lambda a, x, k: -cut(a, x, k),
        "mean": lambda a, x, k: cut(a, x, k) / k,
        "the terms": lambda a, x, k: np.ones(k),
    },
    "exploding_gates": {
        "all closed": (0, 0, 0),
        "input closed": (3, -3, 0),
        "forget only": (3, 0, 0),
        "beyond the range": (9, 9, 9),
        "output closed": (3, 3, -3),
        "chrono": (math.log(19), -math.log(19), 0),
        "a little too small": (1, 2, 3),
        "a little outside": (3.01, 3, 3),
        "NaN": (3, math.nan, 3),
        "two": (3, 3),
        "text": ("open", "open", "open"),
        "below the range": (3, 3, -4),
        "one number": 3,
    },
    "scan": {
        "cumsum": lambda a, b: np.cumsum(b),
        "divides by 0": lambda a, b: np.cumsum(b / np.cumprod(a)) * np.cumprod(a),
        "a not combined": lambda a, b: levels(a, b, combine=False),
        "a of the wrong step": lambda a, b: levels(a, b, use=0),
        "powers of two only": powers_of_two,
        "written over while it is read": lambda a, b: levels(a, b, inplace=True),
        "one pass too few": lambda a, b: levels(
            a, b, most=max(0, math.ceil(math.log2(len(b))) - 1)
        ),
        "backward in time": lambda a, b: loop(a, b, order=-1)[::-1],
        "starts at 1": lambda a, b: loop(a, b, start=1.0),
        "a one step late": lambda a, b: loop(a, b, shift=1) if len(b) > 1 else b + 1,
        "last state only": lambda a, b: loop(a, b)[-1],
        "with h_0": lambda a, b: np.concatenate([[0.0], loop(a, b)]),
    },
}

SAID = [
    ("open_forget_gate", "first layer only", "layer 1's forget gate"),
    ("open_forget_gate", "all four gates", "something else has changed"),
    ("exploding_gates", "forget only", "0.953 + 0.144 = 1.097"),
    ("exploding_gates", "beyond the range", "outside −3 … 3"),
    ("truncated_gradient", "state reset too", "The state runs through all steps"),
]
