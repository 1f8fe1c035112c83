"""Exercises of notebook 06, "Clip the explosion"."""

import math

import numpy as np
import torch

from .base import Cases, WrongAnswer, call, exercise, expect_close, finite_array, parts


@exercise(
    "Scale a list of arrays so that their common norm is at most max_norm.",
    minutes=10,
    difficulty=1,
    hints=(
        "How many norms are there: one per array, or one?",
        "The squares of all entries of all arrays add up to the square of the one norm.",
        "factor = min(1, max_norm / norm). Think of a norm of 0, too.",
    ),
    reason="One factor for all arrays keeps the direction. Dividing by the largest entry first "
    "keeps the squares of huge entries finite.",
)
def clip_by_norm(gradients, max_norm):
    """Scale all arrays by one factor, so that together they are no longer than `max_norm`."""
    largest = max(np.abs(g).max(initial=0) for g in gradients)
    if largest == 0:
        return [g.copy() for g in gradients]
    norm = largest * math.sqrt(sum(((g / largest) ** 2).sum() for g in gradients))
    factor = min(1.0, max_norm / norm)
    return [factor * g for g in gradients]


@clip_by_norm.judge
def _(answer: object) -> None:
    for gradients, max_norm, expected, where, hint in _to_clip():
        before = [g.copy() for g in gradients]
        result = call(answer, gradients, max_norm, copied=False)
        clip_by_norm.compare(result, expected, where, hint=hint)
        if not all(map(np.array_equal, before, gradients)):
            raise WrongAnswer(
                f"For {where} your function changed the arrays it was given. Return a new list."
            )


@clip_by_norm.inputs
def _(rng: np.random.Generator) -> tuple:
    shapes = [tuple(rng.integers(1, 6, size=rng.integers(1, 4))) for _ in range(rng.integers(1, 5))]
    gradients = [np.exp(rng.normal()) * (2 + rng.normal(size=shape)) for shape in shapes]
    norm = math.sqrt(sum((g**2).sum() for g in gradients))
    return gradients, float(rng.uniform(0.3, 1.5) * norm)


def _to_clip() -> Cases:
    two = [np.array([3.0, 0.0]), np.array([[0.0], [4.0]])]
    cases = [
        ([np.array([3.0, 4.0])], 1.0, "One array [3, 4] has the norm 5."),
        (two, 1.0, "There is one norm, over all arrays together: √(3² + 4²) = 5. Clipping each "
         "array by itself would turn the gradient."),
        (two, 10.0, "The norm 5 is below the threshold: nothing is to change."),
        (two, 5.0, "The norm is exactly the threshold: nothing is to change."),
        ([np.array([-0.1, 0.2]), np.array(0.3)], 0.1, "Entries may be negative."),
        ([np.zeros(3), np.zeros((2, 2))], 1.0, "A gradient of zeros stays as it is: no NaN."),
        ([np.array([2.0, 1.0]), np.array([[4.0]]), np.array([-2.0])], 2.5,
         "Three arrays, one norm: √(4 + 1 + 16 + 4) = 5."),
        ([np.array([3e8, 0.0]), np.array([4e8])], 1.0, "Large entries: the norm is 5e8."),
    ]  # fmt: skip
    for gradients, max_norm, hint in cases:
        norm = float(np.linalg.norm(np.concatenate([g.ravel() for g in gradients])))
        scale = max_norm / norm if norm > max_norm else 1.0
        where = f"{[g.tolist() for g in gradients]} and max_norm={max_norm:g}"
        yield gradients, max_norm, tuple(scale * g for g in gradients), where, hint


@exercise(
    "A gradient and a threshold such that clipping by value turns it by 80° or more.",
    minutes=10,
    difficulty=2,
    hints=(
        "Two entries cannot turn by more than 45°. Why?",
        "The clipped vector should have nothing of the gradient's main direction: let one entry "
        "carry the gradient, and many small ones survive the clipping.",
        "With n entries the cosine is at least 1/√n, and cos 80° = 0.174.",
    ),
    reason="99 entries of the size c outweigh the one that was clipped to c; before, that one "
    "carried the gradient. The cosine is close to 1/√100, an angle of 84°.",
    value=([1e6] + [1.0] * 99, 1.0),
    code="([1e6] + [1.0] * 99, 1.0)  # g, c",
)
def turned_by_80(answer: object) -> None:
    """The angle between g and what clipping at c leaves of it."""
    g, c = parts(answer, "g", "c")
    g, c = finite_array("g", g), finite_array("c", c)
    if g.ndim != 1 or not g.size <= 1000 or not g.any():
        raise WrongAnswer("g must be a list of 1 to 1000 real numbers that are not all zero.")
    if c.size != 1 or c.item() < 1e-100:
        raise WrongAnswer(f"c = {c.tolist()} must be one number, a positive threshold.")
    c = c.item()
    clipped = np.clip(g, -c, c)
    a, b = g / np.abs(g).max(), clipped / np.abs(clipped).max()
    cosine = float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))
    angle = math.degrees(math.acos(min(1.0, cosine)))
    if angle < 80:
        raise WrongAnswer(
            f"Your {g.size} entries turn by {angle:.1f}° when they are clipped at {c:g}; 80° is "
            f"asked for. With n entries the cosine cannot be below 1/√n, so the angle of {g.size} "
            f"entries is at most {math.degrees(math.acos(g.size**-0.5)):.1f}°."
        )


@exercise(
    "The smallest recorded norm that at most a given share of the finite norms exceeds.",
    minutes=10,
    difficulty=2,
    hints=(
        "Leave out what is not finite, then sort.",
        "Of n norms, floor(share · n) may lie above the threshold.",
        "finite[len(finite) - 1 - allowed] of the sorted norms.",
    ),
    reason="Of n sorted norms, floor(share · n) may lie above the threshold; the next one below "
    "those is the smallest that will do. The 1e-9 is for products such as 0.29 · 100.",
)
def max_norm_from_record(norms, share):
    """The smallest recorded norm that at most this share of the finite norms exceeds."""
    finite = np.sort(norms[np.isfinite(norms)])
    if len(finite) == 0:
        return math.nan  # nothing to learn a threshold from
    allowed = min(math.floor(share * len(finite) + 1e-9), len(finite) - 1)
    return finite[len(finite) - 1 - allowed]


@max_norm_from_record.cases()
def _() -> Cases:
    rng = np.random.default_rng(0)
    spiky = np.exp(rng.normal(size=200))
    holes = spiky[:100].copy()
    holes[[3, 50, 77]] = [np.nan, np.inf, -np.inf]
    five = np.array([5.0, 1.0, 4.0, 2.0, 3.0])
    cases = [
        (five, 0.2, "One of the five norms may be above: the 5. And c is to be one of the recorded "
         "norms."),
        (five, 0.0, "No norm may be above: only the largest will do."),
        (five, 0.39, "39 % of five are 1.95 norms: only one may be above."),
        (np.array([2.0, 2.0, 2.0, 9.0]), 0.25, "A norm equal to the threshold is not clipped."),
        (spiky, 0.1, "Sort the norms, and count from the top."),
        (five, 1.0, "All may be above; the smallest recorded norm is 1."),
        (holes, 0.05, "NaN and Inf are no norms to learn a threshold from: leave them out first."),
    ]  # fmt: skip
    for norms, share, hint in cases:
        finite = norms[np.isfinite(norms)]
        fits = [c for c in finite if (finite > c).sum() <= share * finite.size + 1e-9]
        shown = norms.tolist() if norms.size < 10 else f"{norms.size} norms"
        yield (norms, share), min(fits), f"{shown} and share={share:g}", hint


@max_norm_from_record.inputs
def _(rng: np.random.Generator) -> tuple:
    norms = np.exp(rng.normal(size=rng.integers(5, 40)))
    norms[rng.integers(len(norms), size=rng.integers(0, 3))] = rng.choice([np.nan, np.inf])
    return norms, float(rng.uniform(0, 0.9))


@exercise(
    "The Euclidean norm of each row in torch, with gradient 0 for a row of zeros.",
    minutes=15,
    difficulty=3,
    hints=(
        "The slope of √s at s = 0 is infinite, and the slope of s = x² at x = 0 is 0.",
        "torch.where(zero, 0, square.sqrt()) is right forward and NaN backward: both branches are "
        "differentiated. Replace the 0 before the root.",
        "torch.where(zero, 1.0, square).sqrt(), and then a 0 where the row was zero.",
    ),
    reason="The root never sees a 0, so its infinite slope never meets the slope 0 of the square; "
    "a product with False puts the 0 back, forward and backward.",
)
def row_norms(x):
    """Euclidean norm of each row of x, with the gradient 0 for a row of zeros."""
    square = (x**2).sum(1)
    zero = square == 0
    return torch.where(zero, 1.0, square).sqrt() * ~zero  # the root never meets a 0


@row_norms.judge
def _(answer: object) -> None:
    cases = [
        ([[3.0, 4.0], [5.0, 12.0]], "Add up the squares along each row and take the root."),
        ([[3.0, 4.0], [0.0, 0.0]], "The row of zeros has the norm 0. Its gradient: the root has "
         "an infinite slope at 0, and Inf · 0 is NaN. The root must not see the 0 at all: replace "
         "it before the root, not after it."),
        ([[0.0, 0.0, 0.0]], "Only zeros: norm 0, gradient 0."),
        ([[1e-12, 0.0], [-2.0, 1.0]], "A tiny row is not a zero row: its norm is 1e-12 and its "
         "gradient has the length 1. Adding a small number under the root changes both."),
    ]  # fmt: skip
    rng = np.random.default_rng(0)
    for number in range(5):  # random ones, the first row of some of them empty
        rows = rng.normal(size=rng.integers(1, 6, size=2)) * np.exp(3 * rng.normal())
        rows[0] *= number % 2
        cases.append((rows.round(3).tolist(), "Each row by itself; rows of zeros have 0 twice."))
    for rows, hint in cases:
        x = torch.tensor(rows, dtype=torch.float64, requires_grad=True)
        result = call(answer, x, copied=False)
        length = np.linalg.norm(np.array(rows), axis=1)
        where = f"x = {rows}"
        if not isinstance(result, torch.Tensor):
            raise WrongAnswer(f"For {where} you returned {result!r}: a torch tensor is expected.")
        expect_close(result.detach(), torch.from_numpy(length), where, rtol=1e-5, atol=0, hint=hint)
        if not result.requires_grad:
            raise WrongAnswer(f"For {where} your result is cut off from x: use torch operations.")
        (gradient,) = torch.autograd.grad(result.sum(), x, allow_unused=True)
        if gradient is None:
            raise WrongAnswer(f"For {where} your result does not depend on x.")
        safe = np.where(length == 0, 1.0, length)[:, None]
        expected = torch.from_numpy(np.array(rows) / safe)
        where = f"the gradient at {where}"
        expect_close(gradient, expected, where, rtol=1e-5, atol=1e-9, hint=hint)


@row_norms.inputs
def _(rng: np.random.Generator) -> tuple:
    rows = rng.normal(size=(rng.integers(1, 6), rng.integers(1, 6)))
    rows[0] *= rng.integers(2)
    return (torch.from_numpy(rows),)
