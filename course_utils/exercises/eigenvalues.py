"""Exercises of notebook 03, "Watch eigenvalues explode"."""

import math

import numpy as np
import torch

from .base import Cases, WrongAnswer, exercise, finite_array, parts


@exercise(
    "The spectral radius of [[a, b], [c, d]] from its trace and determinant.",
    minutes=10,
    difficulty=1,
    hints=(
        "The eigenvalues solve λ² − trace·λ + determinant = 0.",
        "With a negative discriminant they are complex conjugates. Their product is the "
        "determinant, and it is also |λ|².",
        "Real: |trace|/2 + √(trace²/4 − determinant). Complex: √determinant.",
    ),
    reason="The eigenvalues are trace/2 ± √(trace²/4 − determinant). If real, the larger in size "
    "is the one whose two terms have the same sign; if complex, both have the size "
    "√(x² + y²), and x² + y² is their product, the determinant.",
)
def spectral_radius_2x2(a, b, c, d):
    """Spectral radius of [[a, b], [c, d]] from its trace and its determinant."""
    trace, determinant = a + d, a * d - b * c
    discriminant = trace**2 / 4 - determinant
    if discriminant < 0:  # a pair of complex conjugates, whose product is the determinant
        return determinant**0.5
    return abs(trace) / 2 + discriminant**0.5


@spectral_radius_2x2.cases(
    "Is trace²/4 − determinant negative here, or the trace? Then the formula is another one.",
    atol=2e-4,  # a double eigenvalue is known to the root of the machine epsilon only
)
def _() -> Cases:
    for (a, b, c, d), hint in (
        ((2.0, 3.0, 4.0, 5.0), "Add the trace's half and the root of trace²/4 − determinant."),
        ((-2.0, -3.0, -4.0, -5.0), "The spectral radius is an absolute value: −7.27 counts too."),
        ((2.0, 4.0, -1.0, -2.0), "Trace and determinant are 0, so both eigenvalues are 0."),
        ((0.0, -3.0, 3.0, 0.0), "The eigenvalues are ±3i. What is the absolute value of 3i?"),
        ((1.0, -2.0, 2.0, 1.0), "The eigenvalues are 1 ± 2i, and |1 + 2i| is not 1."),
        ((0.5, 10.0, 0.0, 0.5), "A triangular matrix has its eigenvalues on the diagonal."),
        ((1.0, 0.0, 0.0, -4.0), "The eigenvalues are 1 and −4."),
    ):
        expected = _spectral_radius(np.array([[a, b], [c, d]]))
        yield (a, b, c, d), expected, f"[[{a:g}, {b:g}], [{c:g}, {d:g}]]", hint


@spectral_radius_2x2.inputs
def _(rng: np.random.Generator) -> tuple[float, ...]:
    return tuple(rng.uniform(-5, 5, 4).tolist())


_ROUNDING = 1e-6  # a double eigenvalue is known to the root of the machine epsilon only


@exercise(
    "A 2×2 matrix with both |λ| ≤ 0.5, and a vector that it makes 20 times as long.",
    minutes=5,
    difficulty=1,
    hints=(
        "It cannot be a symmetric matrix: for those, ρ is the operator norm.",
        "The eigenvalues of a triangular matrix are its diagonal entries. What is left to choose?",
        "W = [[0.5, 30], [0, 0.5]]. Which vector meets the 30?",
    ),
    value=([[0.5, 30.0], [0.0, 0.5]], [0.0, 1.0]),
    reason="A triangular matrix has its diagonal entries as eigenvalues, whatever the entry beside "
    "them; that entry is what the second axis meets.",
)
def small_eigenvalues_grow(answer: object) -> None:
    """The eigenvalues of W, and how much longer it makes v."""
    W, v = parts(answer, "W", "v")
    W, v = finite_array("W", W, (2, 2)), _vector("v", v)
    _eigenvalues_at_most("W", W, 0.5)
    gain = float(np.linalg.norm(W @ v) / np.linalg.norm(v))
    if gain < 20 * (1 - 1e-9):
        raise WrongAnswer(
            f"The eigenvalues are small, as they should be, but ‖Wv‖ is only {gain:.4g} ‖v‖; 20 is "
            "asked for. Which entry of a triangular matrix do its eigenvalues not see, and which "
            "vector meets it?"
        )


def _spectral_radius(matrix: np.ndarray) -> float:
    return float(np.abs(np.linalg.eigvals(matrix)).max())


def _eigenvalues_at_most(name: str, matrix: np.ndarray, limit: float) -> None:
    radius = _spectral_radius(matrix)
    if radius > limit + _ROUNDING * max(1.0, float(np.abs(matrix).max())):
        trace, determinant = float(np.trace(matrix)), float(np.linalg.det(matrix))
        raise WrongAnswer(
            f"{name} = {matrix.tolist()} has an eigenvalue of absolute value {radius:.4g}, above "
            f"{limit:g}: its trace is {trace:.4g} and its determinant {determinant:.4g}."
        )


def _vector(name: str, value: object) -> np.ndarray:
    """Two real numbers that are not both 0, in a row or as a column."""
    if isinstance(value, np.ndarray | torch.Tensor) and value.shape == (2, 1):
        value = value[:, 0]
    vector = finite_array(name, value, (2,))
    if not vector.any():
        raise WrongAnswer(f"{name} is the zero vector: no factor can be read off it.")
    return vector


@exercise(
    "Two 2×2 matrices with |λ| ≤ 0.5 whose product BA has spectral radius 2 or more.",
    minutes=10,
    difficulty=2,
    hints=(
        "A and B must not share their eigenvectors: otherwise the eigenvalues multiply.",
        "Use what you built in exercise 2: one off-diagonal entry, invisible to the eigenvalues. "
        "What if A has it below the diagonal, and B above?",
        "A = [[0, 0], [2, 0]] turns (1, 0) into (0, 2). Find the B that turns (0, 1) into (2, 0).",
    ),
    value=([[0.0, 0.0], [2.0, 0.0]], [[0.0, 2.0], [0.0, 0.0]]),
    reason="A alone sends its own output to 0, and so does B. In turn, A carries the first axis to "
    "the second and B carries it back: BA multiplies the first axis by 4.",
)
def small_layers_explode(answer: object) -> None:
    """The eigenvalues of A and of B, and the spectral radius of BA."""
    A, B = parts(answer, "A", "B")
    A, B = finite_array("A", A, (2, 2)), finite_array("B", B, (2, 2))
    _eigenvalues_at_most("A", A, 0.5)
    _eigenvalues_at_most("B", B, 0.5)
    radius = _spectral_radius(B @ A)
    if radius < 2 * (1 - _ROUNDING):
        raise WrongAnswer(
            f"Each matrix has small eigenvalues, as it should, but BA = {(B @ A).tolist()} has the "
            f"spectral radius {radius:.4g}; 2 is asked for. Let A carry a vector from the first "
            "axis to the second one and B carry it back."
        )


@exercise(
    "A 2×2 matrix with |λ| ≤ 0.5 and entries within ±2, and a start, from which a ReLU "
    "RNN explodes.",
    minutes=10,
    difficulty=3,
    hints=(
        "Choose W so that only the first unit is ever active, from h0 = (1, 0) on. Which sign "
        "must the lower left entry have?",
        "With the second row cut off, the Jacobian is [[a, b], [0, 0]], and its powers grow by a "
        "per step. So a must be well above 1.",
        "a = 2 needs d = −2 for the trace 0, and bc = −4 for the determinant 0, with c < 0.",
    ),
    value=([[2.0, 2.0], [-2.0, -2.0]], [1.0, 0.0]),
    reason="Trace and determinant are 0, so both eigenvalues are 0. From (1, 0) on only the first "
    "unit is active, and the row that is left, (2, 2), doubles the state at every step.",
)
def relu_explodes(answer: object) -> None:
    """The eigenvalues of W, and the Jacobian of 30 steps of ReLU from h0."""
    W, h = parts(answer, "W", "h0")
    W, h = finite_array("W", W, (2, 2)), _vector("h0", h)
    if np.abs(W).max() > 2:
        raise WrongAnswer(
            f"W = {W.tolist()} has an entry outside −2 … 2. The notebook's own W has a 4: find one "
            "with smaller entries whose trace and determinant are small too."
        )
    _eigenvalues_at_most("W", W, 0.5)
    jacobian = np.eye(2)
    for _ in range(30):
        z = W @ h
        jacobian = (z > 0)[:, None] * W @ jacobian
        h = np.maximum(z, 0)
    size = float(np.linalg.norm(jacobian, 2))
    if size < 1e6:
        question = (
            "It grows, but too slowly. Which entry of W is its factor per step?"
            if size > 1e3
            else "Which unit is active from your h0 on, and what is left of W when the other row "
            "is cut off?"
        )
        raise WrongAnswer(
            f"The eigenvalues are small, as they should be, but after 30 steps of ReLU the "
            f"Jacobian's norm is {size:.3g}; 1e6 is asked for. {question}"
        )


@exercise(
    "The mean growth of the logarithm of the norm per matrix of a long product.",
    minutes=15,
    difficulty=2,
    hints=(
        "The logarithm of a product is a sum of logarithms: one term per matrix.",
        "After each matrix, note the length of v and bring it back to 1.",
        "total += np.log(np.linalg.norm(v)); v = v / np.linalg.norm(v). Begin with v of length 1.",
    ),
    reason="The logarithm of a product of lengths is the sum of their logarithms, so v can be "
    "brought back to length 1 after each matrix, and no number grows too large or too small.",
)
def growth_rate(matrices, v):
    """Mean growth of the logarithm of the norm per matrix."""
    total, v = 0.0, v / np.linalg.norm(v)
    for W in matrices:
        v = W @ v
        size = np.linalg.norm(v)
        total, v = total + np.log(size), v / size
    return total / len(matrices)


@growth_rate.cases(
    "Add up the natural log of the growth of your v in each step, from v of length 1. The first "
    "matrix of the list acts first, and the result is the mean over the matrices."
)
def _() -> Cases:
    rng = np.random.default_rng(0)
    few = (
        "Add up the natural log of the growth of your v in each step, from v of length 1. The "
        "first matrix of the list acts first."
    )
    many = "Scale v back to length 1 after each matrix, and add up the logs of its lengths."
    for integers, scale, start, given, hint in (
        (2 * np.eye(2)[None].astype(int), 1, [3, 4], "one matrix 2I, v of length 5", few),
        (np.array([[[0, 3], [1, 0]], [[2, 0], [0, 1]]]), 1, [1, 0], "two matrices, in order", few),
        (rng.integers(-3, 4, (40, 3, 3)), 1, [2, -1, 5], "40 random 3×3 matrices", few),
        (rng.integers(-9, 10, (2000, 2, 2)), 1, [1, 2], "2000 matrices that overflow", many),
        (rng.integers(-9, 10, (2000, 2, 2)), 1 / 64, [1, 2], "2000 matrices that underflow", many),
    ):
        # The oracle multiplies whole numbers, which never overflow in Python.
        v, before = start, sum(x * x for x in start)
        for W in integers.tolist():
            v = [sum(w * x for w, x in zip(row, v, strict=True)) for row in W]
        squares = math.log(sum(x * x for x in v)) - math.log(before)
        expected = squares / 2 / len(integers) + math.log(scale)
        matrices = list(scale * integers.astype(np.float64))
        yield (matrices, np.array(start, dtype=np.float64)), expected, given, hint


@growth_rate.inputs
def _(rng: np.random.Generator) -> tuple[list[np.ndarray], np.ndarray]:
    depth, n = int(rng.integers(3, 30)), int(rng.integers(2, 6))
    return list(rng.uniform(0.2, 3) * rng.normal(size=(depth, n, n))), rng.normal(size=n)
