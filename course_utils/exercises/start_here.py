"""Exercise of notebook 00, "Start here": a warm-up that shows how exercises work."""

import numpy as np

from .base import Cases, exercise


@exercise(
    "A gradient of size 1 passes `depth` layers, and each of them multiplies it by "
    "`factor`. Return its size at the end.",
    minutes=2,
    difficulty=1,
    hints=(
        "After one layer it is factor. After two layers it is factor times factor.",
        "Python writes a power with two stars: factor ** depth.",
    ),
    reason="Each layer multiplies what the layer above it left over, so `depth` factors of the "
    "same size are multiplied: a power.",
)
def what_arrives(factor, depth):
    """What is left of a gradient of size 1 after `depth` layers."""
    return factor**depth


@what_arrives.cases("Every layer multiplies what the layer above it left over.")
def _() -> Cases:
    for factor, depth, expected in (
        (0.5, 1, 0.5),
        (0.25, 10, 9.5367431640625e-07),
        (1.5, 20, 3325.256730079651),
        (1.0, 100, 1.0),
        (0.9, 0, 1.0),
    ):
        yield (factor, depth), expected, f"factor={factor} and depth={depth}"


@what_arrives.inputs
def _(rng: np.random.Generator) -> tuple[float, int]:
    return float(rng.uniform(0.1, 2)), int(rng.integers(0, 60))
