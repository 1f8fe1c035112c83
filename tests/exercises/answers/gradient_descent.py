"""Right and wrong answers to the exercises of notebook 01."""

import math

import numpy as np
import torch


def rate(k):
    return (k - 1) / (k + 1)


def steps(k, d, rate=rate, rounding=math.ceil):
    return 1 if k == 1 else rounding(d * math.log(10) / -math.log(rate(k)))


def cosine(t, total, warm, peak):
    return peak * (1 + math.cos(math.pi * (t - warm) / (total - warm))) / 2


def warmed(t, warm, peak, after):
    return peak * (t + 1) / warm if t < warm else after


def power(product, v, times, value):
    for _ in range(times):
        v = v / np.linalg.norm(v)
        v = product(v)
    return value(v)


def unscaled(product, v):
    for _ in range(500):
        last, v = v, product(v)
    return np.linalg.norm(v) / np.linalg.norm(last)


def in_place(theta, velocity, gradient, lr, momentum):
    velocity *= momentum
    velocity += gradient
    theta -= lr * velocity
    return theta, velocity


def stacked(theta, velocity, gradient, lr, momentum):
    velocity = momentum * velocity + gradient
    return np.stack([theta - lr * velocity, velocity])


def in_float32(theta, velocity, gradient, lr, momentum):
    theta, velocity, gradient = (
        torch.tensor(a, dtype=torch.float32) for a in (theta, velocity, gradient)
    )
    velocity = momentum * velocity + gradient
    return [theta - lr * velocity, velocity]


def counted(k, d):
    error, t = 1.0, 0
    while error > 10.0**-d:
        error, t = error * rate(k), t + 1
    return t


def rayleigh(product, v):
    for _ in range(300):
        v = product(v / np.linalg.norm(v))
    v = v / np.linalg.norm(v)
    return v @ product(v)


RIGHT = {
    "momentum_step": [in_place, stacked, in_float32],
    "steps_needed": [counted, lambda k, d: np.int64(steps(k, d)), lambda k, d: float(steps(k, d))],
    "warmup_cosine": [
        lambda t, n, w, p: np.float32(p * (t + 1) / w if t < w else cosine(t, n, w, p)),
        lambda t, n, w, p: (
            torch.tensor(p * (t + 1) / w) if t < w else torch.tensor(cosine(t, n, w, p))
        ),
    ],
    "sharpness": [rayleigh],
    "chain_limit": [
        lambda w: 2 / sum(np.prod(np.delete(w, i)) ** 2 for i in range(len(w))),
        lambda w: 2 / ((w.astype(np.float32).prod() / w.astype(np.float32)) ** 2).sum(),
    ],
}

WRONG = {
    "momentum_step": {
        "no lr": lambda p, v, g, lr, m: (p - (m * v + g), m * v + g),
        "old velocity": lambda p, v, g, lr, m: (p - lr * v, m * v + g),
        "averaged": lambda p, v, g, lr, m: (p - lr * (m * v + (1 - m) * g), m * v + (1 - m) * g),
        "uphill": lambda p, v, g, lr, m: in_place(p, v, g, -lr, m),
        "lr in the velocity": lambda p, v, g, lr, m: (p - (m * v + lr * g), m * v + lr * g),
        "swapped": lambda p, v, g, lr, m: (m * v + g, p - lr * (m * v + g)),
        "parameters only": lambda p, v, g, lr, m: p - lr * (m * v + g),
        "share of the gradient": lambda p, v, g, lr, m: (p - lr * (v + m * g), v + m * g),
        "Nesterov": lambda p, v, g, lr, m: (p - lr * (m * (m * v + g) + g), m * v + g),
        "dampened": lambda p, v, g, lr, m: (p - lr * (m * v + (1 - m) * g), m * v + g),
        "no momentum": lambda p, v, g, lr, m: (p - lr * g, g),
        "old velocity kept": lambda p, v, g, lr, m: (p - lr * (m * v + g), v),
    },
    "steps_needed": {
        "not rounded": lambda k, d: steps(k, d, rounding=float),
        "rounded down": lambda k, d: steps(k, d, rounding=math.floor),
        "heavy ball": lambda k, d: steps(k, d, rate=lambda k: rate(math.sqrt(k))),
        "rule of thumb": lambda k, d: math.ceil(1.15 * k * d),
        "rate 1 − 1/κ": lambda k, d: steps(k, d, rate=lambda k: 1 - 1 / k),
        "log10 missing": lambda k, d: 1 if k == 1 else math.ceil(d / -math.log(rate(k))),
        "fails at κ = 1": lambda k, d: math.ceil(d * math.log(10) / -math.log(rate(k))),
        "zero steps at κ = 1": lambda k, d: 0 if k == 1 else steps(k, d),
        "one step more": lambda k, d: 1 if k == 1 else steps(k, d) + 1,
        "rounded to nearest": lambda k, d: max(1, steps(k, d, rounding=round)),
        "rate of the loss": lambda k, d: max(1, steps(k, d, rate=lambda k: rate(k) ** 2)),
        "rate 1 − 2/κ": lambda k, d: steps(k, d, rate=lambda k: max(1 - 2 / k, 1e-9)),
        "one digit": lambda k, d: steps(k, 1),
    },
    "warmup_cosine": {
        "no warm-up": lambda t, n, w, p: cosine(t, n, 0, p),
        "starts at 0": lambda t, n, w, p: p * t / w if t < w else cosine(t, n, w, p),
        "cosine of all steps": lambda t, n, w, p: warmed(t, w, p, cosine(t, n, 0, p)),
        "reaches 0 in the last step": lambda t, n, w, p: warmed(t, w, p, cosine(t, n - 1, w, p)),
        "quarter period": lambda t, n, w, p: warmed(
            t, w, p, p * math.cos(math.pi / 2 * (t - w) / (n - w))
        ),
        "one step too long": lambda t, n, w, p: p * (t + 1) / w if t <= w else cosine(t, n, w, p),
        "cosine of degrees": lambda t, n, w, p: warmed(
            t, w, p, p * (1 + math.cos(180 * (t - w) / (n - w))) / 2
        ),
        "sine": lambda t, n, w, p: warmed(
            t, w, p, p * (1 - math.sin(math.pi / 2 * (t - w) / (n - w)))
        ),
        "linear decay": lambda t, n, w, p: warmed(t, w, p, p * (n - t) / (n - w)),
        "half the peak": lambda t, n, w, p: warmed(t, w, p, cosine(t, n, w, p) / 2),
        "peak forgotten": lambda t, n, w, p: (t + 1) / w if t < w else cosine(t, n, w, 1.0),
    },
    "sharpness": {
        "too few products": lambda f, v: power(f, v, 5, np.linalg.norm),
        "not scaled": unscaled,
        "largest entry": lambda f, v: power(f, v, 500, np.max),
        "its inverse": lambda f, v: 1 / power(f, v, 500, np.linalg.norm),
        "the learning rate": lambda f, v: 2 / power(f, v, 500, np.linalg.norm),
        "the vector": lambda f, v: power(f, v, 500, lambda u: u),
        "squared": lambda f, v: power(f, v, 500, np.linalg.norm) ** 2,
        "one product": lambda f, v: power(f, v, 1, np.linalg.norm),
        "sum of entries": lambda f, v: power(f, v, 500, np.sum),
        "root": lambda f, v: power(f, v, 500, np.linalg.norm) ** 0.5,
        "three digits": lambda f, v: float(f"{power(f, v, 500, np.linalg.norm):.2e}") * 1.0004,
        "trace": lambda f, v: sum(f(e)[i] for i, e in enumerate(np.eye(len(v)))),
    },
    "chain_limit": {
        "2/L": lambda w: 2 / len(w),
        "target 1 only": lambda w: 2 / np.sum(1 / w**2),
        "sum of squares": lambda w: 2 / np.sum(w**2),
        "not squared": lambda w: 2 / np.sum(np.prod(w) / w),
        "steepest weight": lambda w: 2 / np.max((np.prod(w) / w) ** 2),
        "without the 2": lambda w: 1 / np.sum((np.prod(w) / w) ** 2),
        "the curvature": lambda w: np.sum((np.prod(w) / w) ** 2),
        "flattest weight": lambda w: 2 / np.min((np.prod(w) / w) ** 2),
        "mean, not sum": lambda w: 2 / np.mean((np.prod(w) / w) ** 2),
        "absolute slopes": lambda w: 2 / np.sum(np.abs(np.prod(w) / w)),
        "one per weight": lambda w: 2 / (np.prod(w) / w) ** 2,
    },
}
