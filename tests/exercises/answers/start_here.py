"""Right and wrong answers to the exercise of notebook 00."""

import math

import numpy as np

RIGHT = {
    "what_arrives": [
        lambda factor, depth: math.prod([factor] * depth),
        lambda factor, depth: math.exp(depth * math.log(factor)),
        lambda factor, depth: np.float64(factor) ** depth,
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
    }
}
