"""Exercises of notebook 06, "Clip the explosion"."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from .base import Exercise, NotAttempted, WrongAnswer, call, expect_close

_CHAPTER = "clipping"


def clip_by_norm(gradients, max_norm):
    """Scale all arrays by one factor, so that together they are no longer than `max_norm`."""
    norm = math.sqrt(sum((g**2).sum() for g in gradients))
    factor = min(1.0, max_norm / norm) if norm > 0 else 1.0
    return [factor * g for g in gradients]


def max_norm_from_record(norms, share):
    """The smallest recorded norm that at most this share of the finite norms exceeds."""
    finite = np.sort(norms[np.isfinite(norms)])
    allowed = math.floor(share * len(finite) + 1e-9)  # so many may be clipped
    return finite[len(finite) - 1 - allowed]


def row_norms(x):
    """Euclidean norm of each row of x, with the gradient 0 for a row of zeros."""
    square = (x**2).sum(1)
    zero = square == 0
    return torch.where(zero, 1.0, square).sqrt() * ~zero  # the root never meets a 0


def _judge_clip_by_norm(answer: Callable) -> None:
    two = [np.array([3.0, 0.0]), np.array([[0.0], [4.0]])]
    cases = [
        ([np.array([3.0, 4.0])], 1.0, "One array [3, 4] has the norm 5."),
        (two, 1.0, "There is one norm, over all arrays together: √(3² + 4²) = 5. Clipping each "
         "array by itself would turn the gradient."),
        (two, 10.0, "The norm 5 is below the threshold: nothing is to change."),
        (two, 5.0, "The norm is exactly the threshold: nothing is to change."),
        ([np.array([-0.1, 0.2]), np.array(0.3)], 0.1, "Entries may be negative."),
        ([np.zeros(3), np.zeros((2, 2))], 1.0, "A gradient of zeros stays as it is: no NaN."),
    ]  # fmt: skip
    for gradients, max_norm, hint in cases:
        norm = float(np.linalg.norm(np.concatenate([g.ravel() for g in gradients])))
        scale = max_norm / norm if norm > max_norm else 1.0
        where = f"{[g.tolist() for g in gradients]} and max_norm={max_norm:g}"
        with np.errstate(all="ignore"):
            result = call(answer, [g.copy() for g in gradients], max_norm)
        if not isinstance(result, list | tuple) or len(result) != len(gradients):
            raise WrongAnswer(f"For {where}: return a list of {len(gradients)} arrays.")
        for part, g in zip(result, gradients, strict=True):
            expect_close(part, scale * g, where, rtol=1e-5, hint=hint)


def _judge_turned_by_80(answer: Any) -> None:
    if not isinstance(answer, tuple | list) or len(answer) != 2:
        raise WrongAnswer("Hand over two things: check((g, c)).")
    g, c = answer
    if g is ... or c is ... or g is None or c is None:
        raise NotAttempted
    try:
        g = np.asarray(g.detach() if hasattr(g, "detach") else g)
        c = np.asarray(c)
    except ValueError:
        g = np.empty(0)
    if g.dtype.kind not in "fiu" or g.ndim != 1 or not 0 < g.size <= 1000:
        raise WrongAnswer("g must be a list of 1 to 1000 real numbers.")
    if c.dtype.kind not in "fiu" or c.size != 1:
        raise WrongAnswer(f"c = {c!r} must be one real number.")
    g, c = g.astype(np.float64), float(c.reshape(()) if c.ndim == 0 else c.ravel()[0])
    if not np.isfinite(g).all() or not g.any() or np.abs(g).max() > 1e100:
        raise WrongAnswer("g must be finite, at most 1e100 in size, and not zero.")
    if not (0 < c < math.inf) or c < 1e-100:
        raise WrongAnswer(f"c = {c:g} must be a positive threshold.")
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


def _judge_max_norm_from_record(answer: Callable) -> None:
    rng = np.random.default_rng(0)
    spiky = np.exp(rng.normal(size=200))
    holes = spiky[:100].copy()
    holes[[3, 50, 77]] = [np.nan, np.inf, -np.inf]
    cases = [
        (np.array([5.0, 1.0, 4.0, 2.0, 3.0]), 0.2, "One of the five norms may be above: the 5. "
         "And c is to be one of the recorded norms."),
        (np.array([5.0, 1.0, 4.0, 2.0, 3.0]), 0.0, "No norm may be above: only the largest will "
         "do."),
        (np.array([5.0, 1.0, 4.0, 2.0, 3.0]), 0.39, "39 % of five are 1.95 norms: only one may be "
         "above."),
        (np.array([2.0, 2.0, 2.0, 9.0]), 0.25, "A norm equal to the threshold is not clipped."),
        (spiky, 0.1, "Sort the norms, and count from the top."),
        (holes, 0.05, "NaN and Inf are no norms to learn a threshold from: leave them out first."),
    ]  # fmt: skip
    for norms, share, hint in cases:
        finite = norms[np.isfinite(norms)]
        fits = [c for c in finite if (finite > c).sum() <= share * finite.size + 1e-9]
        shown = norms.tolist() if norms.size < 10 else f"{norms.size} norms"
        where = f"{shown} and share={share:g}"
        with np.errstate(all="ignore"):
            result = call(answer, norms, share)
        expect_close(result, min(fits), where, rtol=1e-9, hint=hint)


def _judge_row_norms(answer: Callable) -> None:
    cases = [
        ([[3.0, 4.0], [5.0, 12.0]], "Add up the squares along each row and take the root."),
        ([[3.0, 4.0], [0.0, 0.0]], "The row of zeros has the norm 0. Its gradient: the root has "
         "an infinite slope at 0, and Inf · 0 is NaN. The root must not see the 0 at all: replace "
         "it before the root, not after it."),
        ([[0.0, 0.0, 0.0]], "Only zeros: norm 0, gradient 0."),
        ([[1e-12, 0.0], [-2.0, 1.0]], "A tiny row is not a zero row: its norm is 1e-12 and its "
         "gradient has the length 1. Adding a small number under the root changes both."),
    ]  # fmt: skip
    for rows, hint in cases:
        x = torch.tensor(rows, dtype=torch.float64, requires_grad=True)
        result = answer(x) if callable(answer) else call(answer)
        if result is None or result is ...:
            raise NotAttempted
        length = np.linalg.norm(np.array(rows), axis=1)
        where = f"x = {rows}"
        if not isinstance(result, torch.Tensor):
            raise WrongAnswer(f"For {where} you returned {result!r}: a torch tensor is expected.")
        expect_close(result.detach(), torch.from_numpy(length), where, rtol=1e-9, atol=0, hint=hint)
        if not result.requires_grad:
            raise WrongAnswer(f"For {where} your result is cut off from x: use torch operations.")
        (gradient,) = torch.autograd.grad(result.sum(), x, allow_unused=True)
        if gradient is None:
            raise WrongAnswer(f"For {where} your result does not depend on x.")
        safe = np.where(length == 0, 1.0, length)[:, None]
        expect_close(
            gradient,
            torch.from_numpy(np.array(rows) / safe),
            f"the gradient at {where}",
            rtol=1e-9,
            atol=1e-12,
            hint=hint,
        )


clip_by_norm = Exercise(
    chapter=_CHAPTER,
    name="clip_by_norm",
    statement="Scale a list of arrays so that their common norm is at most max_norm.",
    minutes=10,
    difficulty=1,
    reference=clip_by_norm,
    judge=_judge_clip_by_norm,
    hints=(
        "How many norms are there: one per array, or one?",
        "The squares of all entries of all arrays add up to the square of the one norm.",
        "factor = min(1, max_norm / norm). Think of a norm of 0, too.",
    ),
)

turned_by_80 = Exercise(
    chapter=_CHAPTER,
    name="turned_by_80",
    statement="A gradient and a threshold such that clipping by value turns it by 80° or more.",
    minutes=10,
    difficulty=2,
    reference=([1e6] + [1.0] * 99, 1.0),
    judge=_judge_turned_by_80,
    hints=(
        "Two entries cannot turn by more than 45°. Why?",
        "The clipped vector should have nothing of the gradient's main direction: let one entry "
        "carry the gradient, and many small ones survive the clipping.",
        "With n entries the cosine is at least 1/√n, and cos 80° = 0.174.",
    ),
)

max_norm_from_record = Exercise(
    chapter=_CHAPTER,
    name="max_norm_from_record",
    statement="The smallest recorded norm that at most a given share of the finite norms exceeds.",
    minutes=10,
    difficulty=2,
    reference=max_norm_from_record,
    judge=_judge_max_norm_from_record,
    hints=(
        "Leave out what is not finite, then sort.",
        "Of n norms, floor(share · n) may lie above the threshold.",
        "finite[len(finite) - 1 - allowed] of the sorted norms.",
    ),
)

row_norms = Exercise(
    chapter=_CHAPTER,
    name="row_norms",
    statement="The Euclidean norm of each row in torch, with gradient 0 for a row of zeros.",
    minutes=15,
    difficulty=3,
    reference=row_norms,
    judge=_judge_row_norms,
    hints=(
        "The slope of √s at s = 0 is infinite, and the slope of s = x² at x = 0 is 0.",
        "torch.where(zero, 0, square.sqrt()) is right forward and NaN backward: both branches are "
        "differentiated. Replace the 0 before the root.",
        "torch.where(zero, 1.0, square).sqrt(), and then a 0 where the row was zero.",
    ),
)
