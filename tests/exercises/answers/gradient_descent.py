"""Right and wrong answers to the exercises of notebook 01."""

import math

import numpy as np


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


RIGHT = {"momentum_step": [in_place]}

WRONG = {
    "momentum_step": {
        "no lr": lambda p, v, g, lr, m: (p - (m * v + g), m * v + g),
        "old velocity": lambda p, v, g, lr, m: (p - lr * v, m * v + g),
        "averaged": lambda p, v, g, lr, m: (p - lr * (m * v + (1 - m) * g), m * v + (1 - m) * g),
        "uphill": lambda p, v, g, lr, m: in_place(p, v, g, -lr, m),
        "lr in the velocity": lambda p, v, g, lr, m: (p - (m * v + lr * g), m * v + lr * g),
        "swapped": lambda p, v, g, lr, m: (m * v + g, p - lr * (m * v + g)),
        "parameters only": lambda p, v, g, lr, m: p - lr * (m * v + g),
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
        "peak forgotten": lambda t, n, w, p: (t + 1) / w if t < w else cosine(t, n, w, 1.0),
    },
    "sharpness": {
        "too few products": lambda f, v: power(f, v, 5, np.linalg.norm),
        "not scaled": unscaled,
        "largest entry": lambda f, v: power(f, v, 500, np.max),
        "its inverse": lambda f, v: 1 / power(f, v, 500, np.linalg.norm),
        "the learning rate": lambda f, v: 2 / power(f, v, 500, np.linalg.norm),
        "the vector": lambda f, v: power(f, v, 500, lambda u: u),
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
        "one per weight": lambda w: 2 / (np.prod(w) / w) ** 2,
    },
}
