"""Right and wrong answers to the exercises of notebook 07."""

import math

import numpy as np
import torch

from course_utils import theory
from course_utils.exercises import normalization


def layernorm(delta, z, gamma, eps, axis=1, center=True, along=True, divide=True, inside=True):
    var = z.var(axis=axis, keepdims=True)
    s = np.sqrt(var + eps) if inside else np.sqrt(var) + eps
    z_hat = (z - z.mean(axis=axis, keepdims=True)) / s
    d = delta * gamma
    out = d - (d.mean(axis=axis, keepdims=True) if center else 0)
    out = out - (z_hat * (d * z_hat).mean(axis=axis, keepdims=True) if along else 0)
    return out / s if divide else out


def running(batches, m, ddof=1, swap=False, start=1.0, last=False):
    mean, var = np.zeros(batches[0].shape[1]), np.full(batches[0].shape[1], start)
    keep, take = (m, 1 - m) if swap else (1 - m, m)
    for z in batches[-1:] if last else batches:
        mean = keep * mean + take * z.mean(0)
        var = keep * var + take * z.var(0, ddof=ddof)
    return mean, var


def axes_norm(x, kind, axes, groups=2, ddof=0, contiguous=True):
    if kind == "group":
        B, C, H, W = x.shape
        parts = x.reshape(B, groups, C // groups, H, W)
        if not contiguous:
            parts = x.reshape(B, C // groups, groups, H, W).swapaxes(1, 2)
        parts = axes_norm(parts, "parts", {"parts": (2, 3, 4)}, ddof=ddof)
        return (parts if contiguous else parts.swapaxes(1, 2)).reshape(x.shape)
    mean, std = x.mean(axes[kind], keepdims=True), x.std(axes[kind], ddof=ddof, keepdims=True)
    return (x - mean) / std


AXES = {"batch": (0, 2, 3), "layer": (1, 2, 3), "instance": (2, 3)}


def fold(W, b, gamma, beta, mean, variance, eps, old=True, root=True, rows=True):
    scale = gamma / (np.sqrt(variance + eps) if root else variance + eps)
    new = scale[:, None] * W if rows else W * np.resize(scale, W.shape[1])  # the other axis
    return new, scale * ((b if old else 0) - mean) + beta


RIGHT = {
    "layernorm_backward": [
        layernorm,
        lambda d, z, g, e: layernorm(*(np.float32(v) for v in (d, z, g)), np.float32(e)),
        lambda *a: torch.tensor(layernorm(*a)),
    ],
    "running_statistics": [
        lambda z, m: list(running(z, m)),
        lambda z, m: np.stack(running(z, m)),
        lambda z, m: running([np.float32(batch) for batch in z], np.float32(m)),
    ],
    "normalize": [
        lambda x, kind, groups=2: axes_norm(x, kind, AXES, groups),
        lambda x, kind, groups=2: axes_norm(np.float32(x), kind, AXES, groups),
    ],
    "fold_batchnorm": [
        lambda *a: list(fold(*a)),
        lambda *a: tuple(part.tolist() for part in fold(*a)),
        lambda *a: fold(*(np.float32(v) for v in a)),
    ],
    "leaky_relu_factor": [
        lambda a: theory.batchnorm_gradient_factor(lambda z: torch.where(z > 0, z, a * z)) ** 2
    ],
    "rescaled_lr": [lambda lr, alpha: torch.tensor(lr * alpha * alpha)],
}

WRONG = {
    "layernorm_backward": {
        "over the batch": lambda *a: layernorm(*a, axis=0),
        "mean treated as constant": lambda *a: layernorm(*a, center=False),
        "variance treated as constant": lambda *a: layernorm(*a, along=False),
        "both treated as constant": lambda *a: layernorm(*a, center=False, along=False),
        "not divided by s": lambda *a: layernorm(*a, divide=False),
        "ε outside of the root": lambda *a: layernorm(*a, inside=False),
        "γ after the means": lambda d, z, g, e: g * layernorm(d, z, np.ones_like(g), e),
        "γ forgotten": lambda d, z, g, e: layernorm(d, z, np.ones_like(g), e),
        "transposed": lambda *a: layernorm(*a).T,
        "one number": lambda *a: layernorm(*a).sum(),
        "unbiased variance": lambda d, z, g, e: layernorm(
            d, z * (z.shape[1] / (z.shape[1] - 1)) ** 0.5, g, e
        ),
    },
    "running_statistics": {
        "biased variance": lambda z, m: running(z, m, ddof=0),
        "shares swapped": lambda z, m: running(z, m, swap=True),
        "variance starts at 0": lambda z, m: running(z, m, start=0.0),
        "last batch only": lambda z, m: running(z, m, last=True),
        "standard deviation": lambda z, m: (running(z, m)[0], running(z, m)[1] ** 0.5),
        "order swapped": lambda z, m: running(z, m)[::-1],
        "mean only": lambda z, m: running(z, m)[0],
        "plain average": lambda z, m: (np.mean(z, (0, 1)), np.var(np.concatenate(z), 0)),
        "mean starts at 1": lambda z, m: (
            running(z, m)[0] + (1 - m) ** len(z),
            running(z, m)[1],
        ),
        "first batch as the start": lambda z, m: running(z[:1] + z, m),
        "over all units": lambda z, m: tuple(v.mean() + 0 * v for v in running(z, m)),
        "order of the batches turned around": lambda z, m: running(z[::-1], m),
        "one step too few": lambda z, m: running(z[:-1] or z * 2, m),
    },
    "normalize": {
        "pixels forgotten in batch norm": lambda x, k, g=2: axes_norm(
            x, k, AXES | {"batch": (0,)}, g
        ),
        "layer and instance swapped": lambda x, k, g=2: axes_norm(
            x, k, AXES | {"layer": (2, 3), "instance": (1, 2, 3)}, g
        ),
        "batch and layer swapped": lambda x, k, g=2: axes_norm(
            x, k, AXES | {"layer": (0, 2, 3), "batch": (1, 2, 3)}, g
        ),
        "unbiased variance": lambda x, k, g=2: axes_norm(x, k, AXES, g, ddof=1),
        "groups of every second channel": lambda x, k, g=2: axes_norm(
            x, k, AXES, g, contiguous=False
        ),
        "mean not subtracted": lambda x, k, g=2: x / x.std(AXES.get(k, (2, 3)), keepdims=True),
        "all over everything": lambda x, k, g=2: (x - x.mean()) / x.std(),
        "flattened": lambda x, k, g=2: axes_norm(x, k, AXES, g).ravel(),
        "always two groups": lambda x, k, g=2: axes_norm(x, k, AXES, 2 - x.shape[1] % 2),
        "so many channels in a group": lambda x, k, g=2: axes_norm(x, k, AXES, x.shape[1] // g),
        "variance for deviation": lambda x, k, g=2: (
            axes_norm(x, k, AXES, g) / (x.std(AXES.get(k, (1, 2, 3)), keepdims=True))
        ),
        "group as layer": lambda x, k, g=2: axes_norm(x, k, AXES, 1),
    },
    "fold_batchnorm": {
        "old bias forgotten": lambda *a: fold(*a, old=False),
        "variance without root": lambda *a: fold(*a, root=False),
        "columns scaled": lambda *a: fold(*a, rows=False),
        "bias not scaled": lambda W, b, g, be, m, v, e: (fold(W, b, g, be, m, v, e)[0], b - m + be),
        "ε forgotten": lambda W, b, g, be, m, v, e: fold(W, b, g, be, m, v, 0.0),
        "γ forgotten": lambda W, b, g, be, m, v, e: fold(W, b, np.ones_like(g), be, m, v, e),
        "only W": lambda *a: fold(*a)[0],
        "order swapped": lambda *a: fold(*a)[::-1],
        "mean not subtracted": lambda W, b, g, be, m, v, e: fold(W, b, g, be, 0 * m, v, e),
        "β forgotten": lambda W, b, g, be, m, v, e: fold(W, b, g, 0 * be, m, v, e),
        "mean added": lambda W, b, g, be, m, v, e: fold(W, b, g, be, -m, v, e),
        "ε outside of the root": lambda W, b, g, be, m, v, e: fold(
            W, b, g, be, m, (v**0.5 + e) ** 2, 0.0
        ),
    },
    "leaky_relu_factor": {
        "factor of the norm": lambda a: normalization.leaky_relu_factor.reference(a) ** 0.5,
        "mean not subtracted": lambda a: 1.0,
        "mean of both sides added": lambda a: (
            (1 + a * a) / (1 + a * a - (1 + a) ** 2 / math.pi + 1e-9)
        ),
        "ReLU whatever a": lambda a: math.pi / (math.pi - 1),
        "π forgotten": lambda a: (1 + a * a) / (1 + a * a - (1 - a) ** 2 / 4),
        "upside down": lambda a: 1 / normalization.leaky_relu_factor.reference(a),
        "slope squared twice": lambda a: (1 + a**4) / (1 + a * a - (1 - a) ** 2 / math.pi),
        "mean of the other sign of a": lambda a: (
            (1 + a * a) / (1 + a * a - (1 + a) ** 2 / math.pi) if abs(a - 1) > 0.2 else 9.0
        ),
        "half of the mean's square": lambda a: (
            (1 + a * a) / (1 + a * a - (1 - a) ** 2 / (2 * math.pi))
        ),
        "slope 1 everywhere": lambda a: 2 / (1 + a * a - (1 - a) ** 2 / math.pi),
    },
    "rescaled_lr": {
        "the same": lambda lr, alpha: lr,
        "once α": lambda lr, alpha: alpha * lr,
        "divided by α": lambda lr, alpha: lr / alpha,
        "divided by α²": lambda lr, alpha: lr / alpha**2,
        "α³": lambda lr, alpha: lr * alpha**3,
        "root of α": lambda lr, alpha: lr * alpha**0.5,
        "α² alone": lambda lr, alpha: alpha**2,
        "added": lambda lr, alpha: lr + alpha**2,
        "2α": lambda lr, alpha: 2 * alpha * lr,
        "lr squared": lambda lr, alpha: (lr * alpha) ** 2,
    },
}
