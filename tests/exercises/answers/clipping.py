"""Right and wrong answers to the exercises of notebook 06."""

import math

import numpy as np
import torch


def by_torch(gradients, max_norm):
    parameters = [torch.zeros(g.shape, dtype=torch.from_numpy(g).dtype) for g in gradients]
    for p, g in zip(parameters, gradients, strict=True):
        p.grad = torch.from_numpy(g.copy())
    torch.nn.utils.clip_grad_norm_(parameters, max_norm)
    return [p.grad.numpy() for p in parameters]


def in_single(gradients, max_norm):
    return by_torch([g.astype(np.float32) for g in gradients], max_norm)


def overwriting(gradients, max_norm):
    factor = min(1, max_norm / max(total(gradients), 1e-300))
    for g in gradients:
        g *= factor
    return gradients


def total(gradients):
    return math.sqrt(sum((g**2).sum() for g in gradients))


def finite(norms):
    return np.sort(norms[np.isfinite(norms)])


def above(norms, share):
    return min(math.floor(share * len(finite(norms)) + 1e-9), len(finite(norms)) - 1)


def two_wheres(x):
    square = (x**2).sum(1)
    return torch.where(square > 0, torch.where(square > 0, square, 1).sqrt(), 0)


RIGHT = {
    "clip_by_norm": [by_torch, in_single, lambda g, c: tuple(x / max(1, total(g) / c) for x in g)],
    "turned_by_80": [
        ([1e9] + [-3.0] * 50, 2.0),
        (np.append(np.full(999, 1e-3), 1.0), 1e-3),
        (torch.cat([torch.full((99,), 0.1), torch.tensor([1e5])]), np.float64(0.1)),
    ],
    "max_norm_from_record": [
        lambda n, s: np.sort(-finite(n))[above(n, s)] * -1,
        lambda n, s: torch.tensor(min(c for c in finite(n) if np.mean(finite(n) > c) <= s + 1e-9)),
    ],
    "row_norms": [two_wheres, lambda x: torch.linalg.vector_norm(x, dim=1)],
}

WRONG = {
    "clip_by_norm": {
        "each array by itself": lambda g, c: [x * min(1, c / max(total([x]), 1e-300)) for x in g],
        "always scaled": lambda g, c: [x * c / max(total(g), 1e-300) for x in g],
        "by value": lambda g, c: [np.clip(x, -c, c) for x in g],
        "forgotten root": lambda g, c: [x * min(1, c / max(total(g) ** 2, 1e-300)) for x in g],
        "sum of norms": lambda g, c: [
            x * min(1, c / max(sum(np.linalg.norm(y) for y in g), 1e-300)) for x in g
        ],
        "NaN for zeros": lambda g, c: [x / total(g) * min(c, total(g)) for x in g],
        "one long vector": lambda g, c: np.concatenate([x.ravel() for x in by_torch(g, c)]),
        "first array only": lambda g, c: by_torch(g, c)[:1],
        "overwrites its input": overwriting,
        "first two arrays": lambda g, c: [x * min(1, c / max(total(g[:2]), 1e-300)) for x in g],
        "signs lost": lambda g, c: [np.abs(x) for x in by_torch(g, c)],
        "largest entry": lambda g, c: [
            x * min(1, c / max(max(np.abs(y).max() for y in g), 1e-300)) for x in g
        ],
    },
    "turned_by_80": {
        "two entries": ([100.0, 1.0], 1.0),
        "too few": ([1e9] + [1.0] * 20, 1.0),
        "nothing is clipped": ([1e9] + [1.0] * 99, 1e9),
        "all equal": ([5.0] * 100, 1.0),
        "spike too low": ([20.0] + [1.0] * 99, 1.0),
        "zero": ([0.0] * 100, 1.0),
        "negative threshold": ([1e6] + [1.0] * 99, -1.0),
        "infinite spike": ([math.inf] + [1.0] * 99, 1.0),
        "NaN": ([math.nan] + [1.0] * 99, 1.0),
        "a matrix": (np.ones((10, 10)), 1.0),
        "too long": ([1e9] + [1.0] * 1000, 1.0),
        "text": ("g", "c"),
        "not a pair": [1.0, 2.0, 3.0],
    },
    "max_norm_from_record": {
        "mean": lambda n, s: finite(n).mean(),
        "NaN left in": lambda n, s: np.quantile(n, 1 - s),
        "interpolated": lambda n, s: np.quantile(finite(n), 1 - s),
        "share that stays": lambda n, s: finite(n)[math.floor(s * len(finite(n)))],
        "one too many": lambda n, s: finite(n)[max(0, len(finite(n)) - 2 - above(n, s))],
        "rounded up": lambda n, s: finite(n)[-1 - math.ceil(s * len(finite(n)))],
        "the largest": lambda n, s: finite(n)[-1],
        "not sorted": lambda n, s: n[np.isfinite(n)][-1 - math.floor(s * len(finite(n)))],
        "median": lambda n, s: np.median(finite(n)),
        "the smallest": lambda n, s: finite(n)[0],
        "all clipped ones": lambda n, s: finite(n)[-max(1, above(n, s)) :],
    },
    "row_norms": {
        "plain root": lambda x: (x**2).sum(1).sqrt(),
        "where after the root": lambda x: torch.where(
            (x**2).sum(1) > 0, (x**2).sum(1).sqrt(), torch.zeros(len(x), dtype=x.dtype)
        ),
        "epsilon under the root": lambda x: ((x**2).sum(1) + 1e-12).sqrt(),
        "clamped": lambda x: (x**2).sum(1).clamp(min=1e-12).sqrt(),
        "NaN to number": lambda x: (x**2).sum(1).sqrt().nan_to_num(),
        "columns": lambda x: two_wheres(x.T),
        "squares": lambda x: (x**2).sum(1),
        "detached": lambda x: two_wheres(x).detach(),
        "sum of sizes": lambda x: x.abs().sum(1),
        "numpy": lambda x: np.linalg.norm(x.detach().numpy(), axis=1),
        "kept axis": lambda x: two_wheres(x)[:, None],
    },
}

SAID = [("turned_by_80", "text", "g = 'g' is not made of real numbers")]
