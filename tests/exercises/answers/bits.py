"""Right and wrong answers to the exercises of notebook 11."""

import math

import numpy as np
import torch


def facts(exponent, mantissa):
    return (
        (2 - 2.0**-mantissa) * 2.0 ** (2 ** (exponent - 1) - 1),
        2.0 ** (2 - 2 ** (exponent - 1)),
        2.0 ** (2 - 2 ** (exponent - 1) - mantissa),
        2.0**-mantissa,
    )


def changed(place, change):
    def answer(exponent, mantissa):
        result = list(facts(exponent, mantissa))
        result[place] = change(exponent, mantissa, result[place])
        return tuple(result)

    return answer


def shifted(z, constant, back=True):
    c = constant(z)
    return (c if back else 0.0) + np.log(np.exp(z - c).sum())


def scaler(log2_largest, start, interval, **wrong):
    scales, log2_scale, run = [], start, 0
    for step, largest in enumerate(log2_largest):
        if not wrong.get("after"):
            scales.append(log2_scale)
        over = 2.0 ** (largest + log2_scale) >= wrong.get("limit", 65520)
        if over:
            log2_scale -= wrong.get("down", 1)
            run = run if wrong.get("survives") else 0
        else:
            run += 1
            due = (step + 1) % interval == 0 if wrong.get("clock") else run >= interval
            if due:
                log2_scale += wrong.get("up", 1)
                run = run if wrong.get("runs_on") else 0
        if wrong.get("after"):
            scales.append(log2_scale)
    return scales


def kahan(x, sign=1.0, of_v=False):
    s = c = torch.zeros_like(x[0])
    for v in x:
        y = v - sign * c
        t = s + y
        c = (t - s) - (v if of_v else y)
        s = t
    return s


def pairwise(x):
    while len(x) > 1:
        if len(x) % 2:
            x = torch.cat([x, torch.zeros_like(x[:1])])
        x = x[0::2] + x[1::2]
    return x[0]


def loop(x):
    s = torch.zeros_like(x[0])
    for v in x:
        s = s + v
    return s


def neumaier(x):
    s, c = torch.zeros_like(x[0]), torch.zeros_like(x[0])
    for v in x:
        t = s + v
        c = c + torch.where(s.abs() >= v.abs(), (s - t) + v, (v - t) + s)
        s = t
    return s + c


RIGHT = {
    "format_facts": [
        facts,
        lambda e, m: tuple(np.float32(value) for value in facts(e, m)),
        lambda e, m: list(facts(e, m)),
        lambda e, m: (
            math.ldexp(2 ** (m + 1) - 1, 2 ** (e - 1) - 1 - m),
            math.ldexp(1, 2 - 2 ** (e - 1)),
            math.ldexp(1, 2 - 2 ** (e - 1) - m),
            math.ldexp(1, -m),
        ),
    ],
    "logsumexp": [
        np.logaddexp.reduce,
        lambda z: torch.logsumexp(torch.tensor(z), 0),
        lambda z: torch.logsumexp(torch.tensor(z).float(), 0).numpy(),
    ],
    "loss_scales": [
        scaler,
        lambda *given: np.array(scaler(*given)),
        lambda *given: torch.tensor(scaler(*given), dtype=torch.float32),
    ],
    "stochastic_round": [
        lambda x, step, u: step * np.floor(x / step + u),
        lambda x, step, u: step * (np.floor(x / step) + (u < x / step - np.floor(x / step))),
        lambda x, step, u: (step * np.floor(x / step + u)).astype(np.float32),
        lambda x, step, u: step * np.ceil(x / step - u),
    ],
    "bfloat16_sum": [kahan, pairwise],
    "order_matters": [
        (40000, 30000, -30000),
        np.array([65504.0, 65504.0, -65504.0]),
        torch.tensor([-50000.0, -50000.0, 40000.0]),
        (65504.0, 16.0, -16.0),
    ],
}

WRONG = {
    "format_facts": {
        "largest without its mantissa": changed(0, lambda e, m, _: 2.0 ** (2 ** (e - 1) - 1)),
        "largest is the next power of two": changed(0, lambda e, m, _: 2.0**2 ** (e - 1)),
        "exponent one too high": changed(0, lambda e, m, x: 2 * x),
        "exponent one too low": changed(0, lambda e, m, x: x / 2),
        "subnormal is the normal one": changed(2, lambda e, m, x: x * 2**m),
        "subnormal halved": changed(2, lambda e, m, x: x / 2),
        "half of epsilon": changed(3, lambda e, m, x: x / 2),
        "twice epsilon": changed(3, lambda e, m, x: 2 * x),
        "normal one too low": changed(1, lambda e, m, x: x / 2),
        "normal one too high": changed(1, lambda e, m, x: 2 * x),
        "mantissa for exponent": lambda e, m: facts(min(m, 10) or 1, e),
        "one exponent bit less": lambda e, m: facts(e - 1, m),
        "another order": lambda e, m: facts(e, m)[::-1],
        "logarithms": lambda e, m: tuple(math.log2(value) for value in facts(e, m)),
    },
    "logsumexp": {
        "naive": lambda z: np.log(np.exp(z).sum()),
        "minus the mean": lambda z: shifted(z, np.mean),
        "minus the minimum": lambda z: shifted(z, np.min),
        "NaN where all are −∞": lambda z: shifted(z, np.max),
        "the maximum not added back": lambda z: z.max() * 0 + shifted(z, np.max, back=False),
        "clipped to ±700": lambda z: np.log(np.exp(np.clip(z, -700, 700)).sum()),
        "the maximum": np.max,
        "first entry subtracted": lambda z: shifted(z, lambda z: z[0]),
        "−∞ left out": lambda z: (
            shifted(z[np.isfinite(z)], np.max) if np.isfinite(z).any() else 0.0
        ),
        "0 where all are −∞": lambda z: 0.0 if z.max() == -np.inf else shifted(z, np.max),
        "log of 1 plus": lambda z: (
            z.max() if z.max() == -np.inf else z.max() + np.log1p(np.exp(z - z.max()).sum())
        ),
        "mean instead of sum": lambda z: (
            z.max() if z.max() == -np.inf else z.max() + np.log(np.exp(z - z.max()).mean())
        ),
        "base 2": lambda z: np.logaddexp.reduce(z) / math.log(2),
        "a small number added": lambda z: np.log(np.exp(z).sum() + 1e-300),
        "no logarithm": lambda z: np.exp(z - z.max()).sum() if z.max() > -np.inf else -np.inf,
    },
    "loss_scales": {
        "run survives an overflow": lambda *given: scaler(*given, survives=True),
        "N + 1": lambda largest, start, interval: scaler(largest, start, interval + 1),
        "run not reset": lambda *given: scaler(*given, runs_on=True),
        "every N steps of the clock": lambda *given: scaler(*given, clock=True),
        "the scale after the step": lambda *given: scaler(*given, after=True),
        "the scale, not its logarithm": lambda *given: [2.0**s for s in scaler(*given)],
        "quartered": lambda *given: scaler(*given, down=2),
        "quadrupled": lambda *given: scaler(*given, up=2),
        "never raised": lambda *given: scaler(*given, up=0),
        "never lowered": lambda *given: scaler(*given, down=0),
        "limit of bfloat16": lambda *given: scaler(*given, limit=3e38),
        "half the limit": lambda *given: scaler(*given, limit=32768),
        "one entry too many": lambda *given: [*scaler(*given), given[1]],
        "one long number": lambda *given: sum(scaler(*given)),
    },
    "stochastic_round": {
        "nearest": lambda x, step, u: np.round(x / step) * step,
        "up": lambda x, step, u: np.ceil(x / step) * step,
        "down": lambda x, step, u: np.floor(x / step) * step,
        "u above the rest": lambda x, step, u: (
            step * (np.floor(x / step) + (u > x / step - np.floor(x / step)))
        ),
        "int for floor": lambda x, step, u: (x / step + u).astype(int) * step,
        "symmetric noise": lambda x, step, u: np.round(x / step + 2 * (u - 0.5)) * step,
        "noise without rounding": lambda x, step, u: x + step * (u - 0.5),
        "forgotten step": lambda x, step, u: np.floor(x + u),
        "not multiplied back": lambda x, step, u: np.floor(x / step + u),
        "even chance": lambda x, step, u: (np.floor(x / step) + (u < 0.5)) * step,
        "floor of x, then u": lambda x, step, u: (np.floor(x / step) + u) * step,
        "signs apart, by the rest of x": lambda x, step, u: (
            np.sign(x) * np.floor(np.abs(x) / step + 0.5) * step
        ),
        "draws of its own": lambda x, step, u: (
            np.floor(x / step + np.random.default_rng(0).permutation(len(x)) / len(x)) * step
        ),
        "rounded after half the noise": lambda x, step, u: np.floor(x / step + u / 2) * step,
    },
    "bfloat16_sum": {
        "loop": loop,
        "c with the wrong sign": lambda x: kahan(x, sign=-1.0),
        "c from v": lambda x: kahan(x, of_v=True),
        "float64 result": lambda x: x.double().sum(),
        "n times the smallest": lambda x: x.min() * len(x),
        "torch's own sum": lambda x: x.sum(),
        "mean times n": lambda x: x.mean() * len(x),
        "float32 in between": lambda x: kahan(x.float()).bfloat16(),
        "Python numbers": lambda x: torch.tensor(math.fsum(x.tolist())).bfloat16(),
        "sorted loop": lambda x: loop(x.sort().values),
        "last running sum": lambda x: x.cumsum(0)[-1],
        "correction added at the end only": neumaier,
        "backward loop": lambda x: loop(x.flip(0)),
        "n times the first": lambda x: x[0] * len(x),
        "matrix product": lambda x: torch.ones_like(x) @ x,
    },
    "order_matters": {
        "small": (1.0, 2.0, 3.0),
        "overflow in every order": (60000.0, 60000.0, 60000.0),
        "infinite": (math.inf, 1.0, -1.0),
        "cancels at once": (60000.0, -60000.0, 60000.0),
        "beyond float16": (1e5, 1.0, -1e5),
        "wrong way round": (-60000.0, 60000.0, 60000.0),
        "underflow": (1e-8, 1e-8, -1e-8),
        "rounding only": (2048.0, 1.0, 1.0),
        "half the limit": (32000.0, 32000.0, -32000.0),
        "the last number brings it over": (60000.0, 0.0, 60000.0),
        "NaN": (math.nan, 60000.0, -60000.0),
        "two numbers": (60000.0, 60000.0),
        "arrays": ([60000.0], [60000.0], [-60000.0]),
        "text": ("a", "b", "c"),
    },
}

SAID = [
    ("order_matters", "beyond float16", "inf in float16"),
    ("order_matters", "overflow in every order", "is inf too"),
    ("bfloat16_sum", "torch's own sum", "calls sum"),
    ("bfloat16_sum", "float32 in between", "float32"),
    ("stochastic_round", "nearest", "mean of the results"),
    ("stochastic_round", "not multiplied back", "0.5"),
]
