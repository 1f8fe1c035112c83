"""Right and wrong answers to the exercises of notebook 05."""

import math

import numpy as np
import torch
from scipy import integrate


def by_torch(shape, negative_slope):
    """PyTorch's own initializer, measured: fan and gain are its, not ours."""
    fan = torch.nn.init._calculate_correct_fan(torch.empty(shape), "fan_in")
    return torch.nn.init.calculate_gain("leaky_relu", negative_slope) / math.sqrt(fan)


def bell_mean(function):
    return integrate.quad(
        lambda x: function(x) * math.exp(-x * x / 2) / math.sqrt(2 * math.pi), -12, 12, limit=400
    )[0]


def gain_by_scipy(phi):
    return bell_mean(lambda x: float(phi(np.array([x]))[0]) ** 2) ** -0.5


def edge_by_scipy(q):
    weight = 1 / bell_mean(lambda x: math.cosh(math.sqrt(q) * x) ** -4)
    return [weight, q - weight * bell_mean(lambda x: math.tanh(math.sqrt(q) * x) ** 2)]


def sampled_gain(phi):
    z = np.random.default_rng(0).normal(size=1000)
    return 1 / np.sqrt((phi(z) ** 2).mean())


Z = np.linspace(-8, 8, 4001)
BELL = np.exp(-(Z**2) / 2) / np.exp(-(Z**2) / 2).sum()


def edge(q, slope=lambda h: 1 - h**2, root=True, square=True, bias=True, minus=True):
    h = np.tanh((q**0.5 if root else q) * Z)
    weight = 1 / (BELL * (slope(h) ** 2 if square else slope(h))).sum()
    kept = (BELL * h**2).sum()
    return weight, (q - (weight * kept if minus else kept)) if bias else 0.0


def lsuv(weights, x, phi, *, carry="new", divide="std", where="z", whole=True):
    scaled, h = [], x
    for W in weights:
        z = h @ W.T if where == "z" else phi(h @ W.T)
        size = {
            "std": z.std(),
            "variance": z.var(),
            "rms": np.sqrt((z**2).mean()),
            "columns": z.std(0)[:, None],
            "samples": z.std(1).mean(),
            "sum": z.std() * len(z),
            "largest": np.abs(z).max(),
        }[divide]
        new = W / size
        scaled.append(new)
        h = phi(h @ (new if carry == "new" else W).T)
    return scaled if whole else scaled[-1]


def divided_in_place(weights, x, phi):
    h = x
    for W in weights:
        W /= (h @ W.T).std()
        h = phi(h @ W.T)
    return weights


def in_single(weights, x, phi):
    return lsuv([W.astype(np.float32) for W in weights], x.astype(np.float32), phi)


RIGHT = {
    "he_std": [by_torch, lambda s, a: np.float32(by_torch(s, a))],
    "gain": [gain_by_scipy, lambda phi: torch.tensor(gain_by_scipy(phi))],
    "edge_point": [edge_by_scipy, lambda q: torch.tensor(edge_by_scipy(q)).tolist()],
    "lsuv": [lambda w, x, phi: tuple(lsuv(w, x, phi)), divided_in_place, in_single],
}

WRONG = {
    "he_std": {
        "fan_out": lambda s, a: (2 / ((1 + a**2) * s[0] * math.prod(s[2:]))) ** 0.5,
        "kernel forgotten": lambda s, a: (2 / ((1 + a**2) * s[1])) ** 0.5,
        "slope forgotten": lambda s, a: (2 / math.prod(s[1:])) ** 0.5,
        "slope not squared": lambda s, a: (2 / ((1 + a) * math.prod(s[1:]))) ** 0.5,
        "variance": lambda s, a: 2 / ((1 + a**2) * math.prod(s[1:])),
        "Xavier": lambda s, a: (2 / (s[0] + s[1])) ** 0.5,
        "the gain alone": lambda s, a: (2 / (1 + a**2)) ** 0.5,
        "minus": lambda s, a: abs(2 / ((1 - a**2 + 1e-9) * math.prod(s[1:]))) ** 0.5,
        "all sizes": lambda s, a: (2 / ((1 + a**2) * math.prod(s))) ** 0.5,
        "sum of sizes": lambda s, a: (2 / ((1 + a**2) * sum(s[1:]))) ** 0.5,
        "bound of the uniform": lambda s, a: (6 / ((1 + a**2) * math.prod(s[1:]))) ** 0.5,
    },
    "gain": {
        "standard deviation": lambda phi: 1 / np.sqrt((BELL * (phi(Z) - BELL @ phi(Z)) ** 2).sum()),
        "no root": lambda phi: 1 / (BELL * phi(Z) ** 2).sum(),
        "upside down": lambda phi: np.sqrt((BELL * phi(Z) ** 2).sum()),
        "mean absolute value": lambda phi: 1 / (BELL * np.abs(phi(Z))).sum(),
        "a sample": sampled_gain,
        "He for all": lambda phi: 2**0.5,
        "bell not normalized": lambda phi: (np.exp(-(Z**2) / 2) * phi(Z) ** 2).sum() ** -0.5,
        "variance 1 of φ(z), without 0": lambda phi: 1 / phi(Z).std(),
        "fourth power": lambda phi: (BELL * phi(Z) ** 4).sum() ** -0.25,
        "half of the grid": lambda phi: (2 * BELL[2000:] * phi(Z[2000:]) ** 2).sum() ** -0.5,
        "array": lambda phi: np.full(3, (BELL * phi(Z) ** 2).sum() ** -0.5),
    },
    "edge_point": {
        "slope not squared": lambda q: edge(q, square=False),
        "slope is 1 − tanh": lambda q: edge(q, slope=lambda h: 1 - h),
        "z ~ N(0, q²)": lambda q: edge(q, root=False),
        "no bias": lambda q: edge(q, bias=False),
        "σ_w² forgotten": lambda q: edge(q, minus=False),
        "swapped": lambda q: edge(q)[::-1],
        "standard deviations": lambda q: tuple(math.sqrt(v) for v in edge(q)),
        "σ_b² is NaN": lambda q: (edge(q)[0], math.nan),
        "one number": lambda q: edge(q)[0],
        "bias added": lambda q: (edge(q)[0], 2 * q - edge(q)[1]),
        "Xavier": lambda q: (1.0, 0.0),
    },
    "lsuv": {
        "old weights carried on": lambda w, x, phi: lsuv(w, x, phi, carry="old"),
        "by the variance": lambda w, x, phi: lsuv(w, x, phi, divide="variance"),
        "by the root mean square": lambda w, x, phi: lsuv(w, x, phi, divide="rms"),
        "each unit by its own": lambda w, x, phi: lsuv(w, x, phi, divide="columns"),
        "by the size of h": lambda w, x, phi: lsuv(w, x, phi, where="h"),
        "the last one only": lambda w, x, phi: lsuv(w, x, phi, whole=False),
        "unchanged": lambda w, x, phi: w,
        "zero": lambda w, x, phi: [0 * W for W in w],
        "negative": lambda w, x, phi: [-W for W in lsuv(w, x, phi)],
        "by the samples": lambda w, x, phi: lsuv(w, x, phi, divide="samples"),
        "by the sum": lambda w, x, phi: lsuv(w, x, phi, divide="sum"),
        "by the largest": lambda w, x, phi: lsuv(w, x, phi, divide="largest"),
    },
}
