"""The warm-up of notebook 00."""

import math

import numpy as np
import pytest

import course_utils as cu

WARM_UP = cu.exercises.start_here.what_arrives


@pytest.mark.parametrize(
    "answer",
    [
        lambda factor, depth: math.prod([factor] * depth),
        lambda factor, depth: math.exp(depth * math.log(factor)),
        lambda factor, depth: np.float64(factor) ** depth,
    ],
)
def test_right_answers_are_accepted(answer):
    assert WARM_UP.check(answer)


@pytest.mark.parametrize(
    "answer",
    [
        lambda factor, depth: factor * depth,
        lambda factor, depth: factor ** (depth - 1),
        lambda factor, depth: depth**factor,
        lambda factor, depth: factor,
        lambda factor, depth: 1 - factor**depth,
        lambda factor, depth: [factor**depth],
        lambda factor, depth: round(factor**depth, 6),
        lambda factor, depth: float("nan"),
        lambda factor, depth: 0.25**10,
        lambda depth, factor: factor**depth,
    ],
)
def test_wrong_answers_are_rejected(answer):
    verdict = WARM_UP.check(answer)
    assert verdict.status == "wrong"
    assert "expected" in str(verdict)
