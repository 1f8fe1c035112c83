"""Right and wrong answers to the exercise of notebook 00."""

import math

import numpy as np

RIGHT = {
    "what_arrives": [
        lambda factor, depth: math.prod([factor] * depth),
        lambda factor, depth: math.exp(depth * math.log(factor)),
        lambda factor, depth: np.float64(factor) ** depth,
        lambda factor, depth: np.float32(factor) ** depth,
        lambda factor, depth: np.prod(np.full(depth, factor)),
    ]
}

WRONG = {
    "what_arrives": {
        "times the depth": lambda factor, depth: factor * depth,
        "one layer short": lambda factor, depth: factor ** (depth - 1),
        "power of the wrong one": lambda factor, depth: depth**factor,
        "one layer only": lambda factor, depth: factor,
        "what is lost": lambda factor, depth: 1 - factor**depth,
        "rounded": lambda factor, depth: round(factor**depth, 6),
        "one figure for all": lambda factor, depth: 0.25**10,
        "arguments swapped": lambda depth, factor: factor**depth,
        "one layer too many": lambda factor, depth: factor ** (depth + 1),
        "half precision": lambda factor, depth: float(np.float16(factor) ** depth),
        "never above one": lambda factor, depth: min(factor, 1.0) ** depth,
    }
}
