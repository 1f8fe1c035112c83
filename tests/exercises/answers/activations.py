"""Right and wrong answers to the exercises of notebook 04."""

import math
from statistics import NormalDist

import numpy as np

from course_utils.exercises import activations


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def hermite(slope, variance, nodes=60):
    z, weights = np.polynomial.hermite_e.hermegauss(nodes)
    return np.sum(weights * slope(np.sqrt(variance) * z) ** 2) / math.sqrt(2 * math.pi)


def on_grid(slope, variance, reach=10.0, points=200_001, power=2, density=True):
    std = math.sqrt(variance)
    z = np.linspace(-reach * std, reach * std, points)
    weight = np.exp(-(z**2) / (2 * variance)) if density else np.ones_like(z)
    return np.sum(np.abs(slope(z)) ** power * weight) / np.sum(weight)


def sampled(slope, variance):
    z = np.random.default_rng(0).normal(size=1000) * math.sqrt(variance)
    return np.mean(slope(z) ** 2)


quantile = NormalDist().inv_cdf


def one_by_one(z):
    slopes = [
        float(v > 0) if abs(v) > 700 else sigmoid(v) * (1 + v * (1 - sigmoid(v))) for v in z.ravel()
    ]
    return np.array(slopes).reshape(z.shape)


RIGHT = {
    "dead_share": [lambda h: float((h.sum(axis=0) == 0).mean())],
    "critical_weight_variance": [lambda left, right: 1 / np.mean([left**2, right**2])],
    "maxout_backward": [lambda d, z: d[:, :, None] * np.eye(z.shape[2])[z.argmax(2)]],
    "mean_square_slope": [lambda slope, variance: on_grid(slope, variance, 8.0, 500_000)],
    "silu_slope": [one_by_one, lambda z: activations.silu_slope.reference(z.astype(np.float32))],
    "fatal_bias": [
        lambda share, samples: np.float32(quantile(math.exp(math.log(share) / samples)))
    ],
}

WRONG = {
    "silu_slope": {
        "the slope of sigmoid": lambda z: sigmoid(z) * (1 - sigmoid(z)),
        "the function itself": lambda z: z * sigmoid(z),
        "factor z forgotten": lambda z: sigmoid(z) + sigmoid(z) * (1 - sigmoid(z)),
        "first term forgotten": lambda z: z * sigmoid(z) * (1 - sigmoid(z)),
        "overflows at −1000": lambda z: sigmoid(z) + z * np.exp(-z) / (1 + np.exp(-z)) ** 2,
        "flattened": lambda z: activations.silu_slope.reference(z.ravel()),
        "sum over the batch": lambda z: activations.silu_slope.reference(z).sum(),
        "GELU's gate": lambda z: sigmoid(1.702 * z) * (1 + z * 1.702 * (1 - sigmoid(1.702 * z))),
        "a minus": lambda z: sigmoid(z) - z * sigmoid(z) * (1 - sigmoid(z)),
        "clipped at ±20": lambda z: activations.silu_slope.reference(np.clip(z, -2, 2)),
        "s′ = 1 − s": lambda z: sigmoid(z) + z * (1 - sigmoid(z)),
    },
    "dead_share": {
        "share of zeros": lambda h: np.mean(h == 0),
        "samples instead of units": lambda h: np.mean(np.all(h == 0, axis=1)),
        "silent on one sample": lambda h: np.mean(np.any(h == 0, axis=0)),
        "number instead of share": lambda h: np.sum(np.all(h == 0, axis=0)),
        "which instead of how many": lambda h: np.all(h == 0, axis=0),
        "alive instead of dead": lambda h: np.mean(np.any(h > 0, axis=0)),
        "rounded to zero": lambda h: np.mean(np.all(h < 1e-6, axis=0)),
        "of all entries and units": lambda h: np.sum(np.all(h == 0, axis=0)) / h.size,
        "per sample count": lambda h: np.sum(np.all(h == 0, axis=0)) / h.shape[0],
        "first sample": lambda h: np.mean(h[0] == 0),
        "mean output": lambda h: float(np.mean(np.isclose(h.mean(axis=0), 0.0))),
    },
    "critical_weight_variance": {
        "He for everything": lambda left, right: 2.0,
        "slopes not squared": lambda left, right: 2 / (abs(left) + abs(right)),
        "square of the mean slope": lambda left, right: (
            4 / (left + right) ** 2 if left + right else math.inf
        ),
        "half forgotten": lambda left, right: 1 / (left**2 + right**2),
        "its inverse": lambda left, right: (left**2 + right**2) / 2,
        "standard deviation": lambda left, right: math.sqrt(2 / (left**2 + right**2)),
        "right slope taken as 1": lambda left, right: 2 / (1 + left**2),
        "right slope only": lambda left, right: 2 / right**2,
        "larger slope": lambda left, right: 1 / max(left**2, right**2),
        "difference": lambda left, right: (
            2 / (right**2 - left**2) if right**2 != left**2 else math.inf
        ),
        "product": lambda left, right: 2 / (left**2 + right**2 + 2 * left * right + 1e-12),
    },
    "maxout_backward": {
        "to every piece": lambda d, z: d[:, :, None] * np.ones_like(z),
        "shared out": lambda d, z: d[:, :, None] * np.ones_like(z) / z.shape[2],
        "the mask without the gradient": lambda d, z: (z == z.max(2, keepdims=True)) * 1.0,
        "relu's slope": lambda d, z: d[:, :, None] * (z > 0),
        "only if positive": lambda d, z: d[:, :, None] * (z == z.max(2, keepdims=True)) * (z > 0),
        "smallest piece": lambda d, z: d[:, :, None] * (z == z.min(2, keepdims=True)),
        "largest in size": lambda d, z: d[:, :, None] * (abs(z) == abs(z).max(2, keepdims=True)),
        "largest of the layer": lambda d, z: d[:, :, None] * (z == z.max((1, 2), keepdims=True)),
        "times the value": lambda d, z: d[:, :, None] * z * (z == z.max(2, keepdims=True)),
        "summed over the pieces": lambda d, z: d.copy(),
    },
    "fatal_bias": {
        "samples forgotten": lambda share, samples: quantile(share),
        "divided instead of rooted": lambda share, samples: quantile(share / samples),
        "alive instead of dead": lambda share, samples: quantile((1 - share) ** (1 / samples)),
        "sign": lambda share, samples: -quantile(share ** (1 / samples)),
        "no inverse": lambda share, samples: NormalDist().cdf(share) ** samples,
        "power instead of root": lambda share, samples: quantile(max(share**samples, 1e-300)),
        "one sample too few": lambda share, samples: quantile(share ** (1 / max(samples - 1, 1))),
        "one sample too many": lambda share, samples: quantile(share ** (1 / (samples + 1))),
        "square root": lambda share, samples: quantile(share ** (1 / samples**0.5)),
        "twice as far": lambda share, samples: 2 * quantile(share ** (1 / samples)),
        "on some sample": lambda share, samples: quantile(1 - (1 - share) ** (1 / samples)),
    },
    "mean_square_slope": {
        "mean slope squared": lambda slope, variance: on_grid(slope, variance, power=1) ** 2,
        "mean slope": lambda slope, variance: on_grid(slope, variance, power=1),
        "root mean square": lambda slope, variance: math.sqrt(on_grid(slope, variance)),
        "variance for deviation": lambda slope, variance: on_grid(slope, variance**2),
        "always variance 1": lambda slope, variance: on_grid(slope, 1.0),
        "Gauss-Hermite": hermite,
        "a thousand samples": sampled,
        "too short a range": lambda slope, variance: on_grid(slope, variance, reach=1.0),
        "no density": lambda slope, variance: on_grid(slope, variance, density=False),
        "coarse grid": lambda slope, variance: on_grid(slope, variance, points=41),
        "right half only": lambda slope, variance: on_grid(
            lambda z: slope(np.abs(z)), variance, 10.0
        ),
        "density of the standard Gaussian": lambda slope, variance: on_grid(
            lambda z: slope(z / math.sqrt(variance)), variance
        ),
    },
}

SAID = [
    ("dead_share", "share of zeros", "[[0, 1, 0], [2, 0, 0]]", "column"),
    ("mean_square_slope", "Gauss-Hermite", "sigmoid at variance 400"),
    ("maxout_backward", "only if positive", "[[2, -3]]", "whatever its sign"),
    ("silu_slope", "overflows at −1000", "±1000", "NaN"),
]
