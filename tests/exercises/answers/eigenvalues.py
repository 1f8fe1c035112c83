"""Right and wrong answers to the exercises of notebook 03."""

import math

import numpy as np
import torch


def roots(a, b, c, d):
    return np.linalg.eigvals([[a, b], [c, d]])


def real_roots_only(a, b, c, d):
    trace, determinant = a + d, a * d - b * c
    return abs(trace) / 2 + max(trace**2 / 4 - determinant, 0) ** 0.5


def step_by_step(matrices, v, start=1.0, order=1, log=np.log, divide=True):
    total, v = 0.0, v / np.linalg.norm(v) if start else v
    for W in matrices[::order]:
        v = W @ v
        size = np.linalg.norm(v)
        total, v = total + log(size), v / size
    return total / (len(matrices) if divide else 1)


def all_at_once(matrices, v):
    product = np.eye(len(v))
    for W in matrices:
        product = W @ product
    return np.log(np.linalg.norm(product @ v) / np.linalg.norm(v)) / len(matrices)


SAFE, GROWS = [[0.5, 30.0], [0.0, 0.5]], [0.0, 1.0]
DOWN, UP = [[0.0, 0.0], [2.0, 0.0]], [[0.0, 2.0], [0.0, 0.0]]
CANCELS = [[2.0, 2.0], [-2.0, -2.0]]

RIGHT = {
    "spectral_radius_2x2": [
        lambda *abcd: np.abs(roots(*abcd)).max(),
        lambda a, b, c, d: torch.linalg.eigvals(torch.tensor([[a, b], [c, d]])).abs().max(),
    ],
    "small_eigenvalues_grow": [
        ([[0, 20], [0, 0]], [0, 1]),
        (np.array([[0.4, 0.0], [-99.0, -0.5]]), np.array([3.0, 0.0])),
        (torch.tensor([[10.0, 20.0], [-5.0, -10.0]]), torch.tensor([[1.0], [2.0]])),  # ρ = 0
        ([[0.5, 30.0], [0.0, 0.5]], (0.2, -1.0)),
    ],
    "small_layers_explode": [
        (UP, DOWN),
        ([[0.0, 3.0], [0.0, 0.0]], [[0.0, 0.0], [1.0, 0.0]]),
        ([[0.5, 0.0], [9.0, 0.5]], [[0.5, 9.0], [0.0, 0.5]]),
        (torch.tensor([[0.0, -3.0], [0.0, 0.0]]), np.array([[0, 0], [3, 0]])),
    ],
    "relu_explodes": [
        (CANCELS, [3.0, -1.0]),
        ([[-2.0, -2.0], [2.0, 2.0]], [0.0, 1.0]),
        (torch.tensor([[2.0, 1.9], [-2.0, -1.8]]), np.array([[1.0], [0.0]])),
    ],
    "growth_rate": [
        lambda matrices, v: np.float64(step_by_step(matrices, v)),
        lambda matrices, v: torch.tensor(step_by_step(matrices, v)),
        lambda matrices, v: step_by_step(
            [W.astype(np.float32) for W in matrices], v.astype(np.float32)
        ),
    ],
}

WRONG = {
    "spectral_radius_2x2": {
        "largest instead of largest in size": lambda *abcd: roots(*abcd).real.max(),
        "complex pair without its imaginary part": lambda *abcd: np.abs(roots(*abcd).real).max(),
        "discriminant clipped at 0": real_roots_only,
        "operator norm": lambda a, b, c, d: np.linalg.norm([[a, b], [c, d]], 2),
        "the eigenvalue itself": lambda *abcd: roots(*abcd)[0] + 0j,
        "forgotten root": lambda a, b, c, d: abs(a + d) / 2,
        "both of them": lambda *abcd: np.abs(roots(*abcd)),
        "diagonal": lambda a, b, c, d: max(abs(a), abs(d)),
        "sign of the trace kept": lambda a, b, c, d: (
            (a + d) / 2 + abs((a + d) ** 2 / 4 - (a * d - b * c)) ** 0.5
        ),
        "determinant with a plus": lambda a, b, c, d: np.abs(roots(a, b, -c, d)).max(),
        "smaller one": lambda *abcd: np.abs(roots(*abcd)).min(),
        "discriminant forgotten to divide": lambda a, b, c, d: (
            abs(a + d) / 2 + abs((a + d) ** 2 - (a * d - b * c)) ** 0.5
        ),
    },
    "small_eigenvalues_grow": {
        "the eigenvector does not grow": (SAFE, [1.0, 0.0]),
        "grows too little": ([[0.5, 10.0], [0.0, 0.5]], [0.0, 1.0]),
        "eigenvalue too large": ([[20.0, 0.0], [0.0, 0.5]], [1.0, 0.0]),
        "negative eigenvalue too large": ([[-20.0, 0.0], [0.0, 0.5]], [1.0, 0.0]),
        "complex eigenvalues too large": ([[0.0, -20.0], [20.0, 0.0]], [1.0, 0.0]),
        "eigenvalue a little too large": ([[0.51, 30.0], [0.0, 0.5]], [0.0, 1.0]),
        "zero vector": (SAFE, [0.0, 0.0]),
        "3×3": (np.eye(3).tolist(), GROWS),
        "ragged": ([[1.0], [1.0, 2.0]], GROWS),
        "NaN": ([[0.5, math.nan], [0.0, 0.5]], GROWS),
        "infinite": ([[0.5, math.inf], [0.0, 0.5]], GROWS),
        "overflows": ([[0.5, 1e200], [0.0, 0.5]], GROWS),
        "complex": ([[0.5, 30j], [0.0, 0.5]], GROWS),
        "text": ("W", "v"),
        "only W": (SAFE,),
        "not a pair": 0.5,
    },
    "small_layers_explode": {
        "the same matrix twice": (UP, UP),
        "product too small": ([[0.0, 0.0], [1.0, 0.0]], [[0.0, 1.0], [0.0, 0.0]]),
        "A has a large eigenvalue": ([[9.0, 0.0], [0.0, 0.5]], [[0.5, 0.0], [0.0, 0.5]]),
        "B has a large eigenvalue": ([[0.5, 0.0], [0.0, 0.5]], [[5.0, 0.0], [0.0, 0.5]]),
        "large norm of the product alone": ([[0.5, 99.0], [0.0, 0.5]], [[0.5, 99.0], [0.0, 0.5]]),
        "vectors": ([1.0, 0.0], [0.0, 1.0]),
        "one matrix": UP,
        "NaN": (UP, [[0.0, math.nan], [0.0, 0.0]]),
        "eigenvalue a little too large": ([[0.51, 0.0], [9.0, 0.5]], UP),
        "symmetric": ([[0.5, 0.0], [0.0, 0.5]], [[0.5, 0.0], [0.0, 0.5]]),
        "three matrices": (DOWN, UP, DOWN),
    },
    "relu_explodes": {
        "the notebook's W": ([[2.0, 4.0], [-1.0, -2.0]], [1.0, 0.0]),
        "explodes without ReLU too": ([[2.0, 0.0], [0.0, 2.0]], [1.0, 1.0]),
        "vanishes with ReLU too": ([[0.5, 2.0], [0.0, 0.5]], [0.0, 1.0]),
        "both units stay active": ([[0.25, 0.25], [0.25, 0.25]], [1.0, 1.0]),
        "no unit is ever active": ([[-0.5, 0.0], [0.0, -0.5]], [1.0, 1.0]),
        "starts on the line that W sends to 0": (CANCELS, [1.0, -1.0]),
        "grows too slowly": ([[1.5, 1.5], [-1.5, -1.5]], [1.0, 0.0]),
        "1.5 per step": ([[1.5, 2.0], [-1.125, -1.5]], [1.0, 0.0]),
        "zero start": (CANCELS, [0.0, 0.0]),
        "start of the wrong length": (CANCELS, [1.0, 0.0, 0.0]),
        "text": (CANCELS, "h0"),
    },
    "growth_rate": {
        "product first, logarithm after": all_at_once,
        "forgot the length of v": lambda m, v: (
            step_by_step(m, v) + np.log(np.linalg.norm(v)) / len(m)
        ),
        "last matrix first": lambda m, v: step_by_step(m, v, order=-1),
        "sum instead of mean": lambda m, v: step_by_step(m, v, divide=False),
        "logarithm to base 10": lambda m, v: step_by_step(m, v, log=np.log10),
        "squared norm": lambda m, v: 2 * step_by_step(m, v),
        "mean log operator norm": lambda m, v: np.log(np.linalg.norm(m, 2, axis=(1, 2))).mean(),
        "spectral radius of each": lambda m, v: np.mean(
            np.log(np.abs(np.linalg.eigvals(m)).max(1) + 1e-12)
        ),
        "the factor, not its logarithm": lambda m, v: np.exp(step_by_step(m, v)),
        "one matrix too many": lambda m, v: step_by_step(m, v) * len(m) / (len(m) + 1),
        "without the first matrix": lambda m, v: (
            step_by_step(m[1:], m[0] @ v) if len(m) > 1 else 0.0
        ),
        "transposed": lambda m, v: step_by_step([W.T for W in m], v),
        "largest entry for the length": lambda m, v: (
            np.log(np.abs(np.linalg.multi_dot([*m[::-1], v]) if len(m) > 1 else m[0] @ v).max())
            / len(m)
        ),
        "one per step": lambda m, v: np.full(len(m), step_by_step(m, v)),
    },
}

SAID = [
    ("small_eigenvalues_grow", "3×3", "not an array of (2, 2) real numbers. Write it like"),
    ("small_eigenvalues_grow", "infinite", "not finite, or beyond 1e100"),
    ("small_layers_explode", "one matrix", "A = [0.0, 2.0] is not an array"),
    ("relu_explodes", "1.5 per step", "too slowly"),
    ("relu_explodes", "starts on the line that W sends to 0", "Which unit is active"),
    ("growth_rate", "mean log operator norm", "of your v"),
]
