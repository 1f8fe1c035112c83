"""Closed forms of clipping against quadrature, exact fractions, autograd and simulation."""

import math
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.stats import norm

from course_utils import theory
from course_utils.runtime import seeded


# ---------------------------------------------------------------------- clipping by value
def cosine_by_quadrature(c):
    dot = 2 * (
        quad(lambda g: g * g * norm.pdf(g), 0, c, epsabs=0)[0]
        + c * quad(lambda g: g * norm.pdf(g), c, 40, epsabs=0)[0]
    )
    square = 2 * (quad(lambda g: g * g * norm.pdf(g), 0, c, epsabs=0)[0] + c * c * norm.sf(c))
    return dot / math.sqrt(square)


@pytest.mark.parametrize("c", [1e-4, 3e-3, 0.0099, 0.0101, 0.05, 0.3, 0.8, 1.7, 2.5, 4.0])
def test_the_cosine_of_value_clipping_is_that_of_quadrature(c):
    assert theory.value_clip_cosine(c) == pytest.approx(cosine_by_quadrature(c), rel=1e-9)


def test_the_figures_of_the_course_come_out():
    found = [round(theory.value_clip_cosine(c), 4) for c in (0.1, 0.5, 1)]
    assert found == [0.8186, 0.8900, 0.9503]


def test_small_thresholds_leave_the_signs_and_large_ones_everything():
    signs = math.sqrt(2 / math.pi)
    for c in (1e-300, 1e-200, 1e-30, 1e-9):
        assert theory.value_clip_cosine(c) == pytest.approx(signs, rel=1e-8)
    assert theory.value_clip_cosine(40.0) == pytest.approx(1, abs=1e-14)
    assert theory.value_clip_cosine(math.inf) == 1.0


@settings(deadline=None)
@given(c=st.floats(1e-6, 30), more=st.floats(1.001, 3))
def test_a_higher_threshold_turns_less(c, more):
    assert theory.value_clip_cosine(c) <= theory.value_clip_cosine(more * c) + 1e-12
    assert 0.797 < theory.value_clip_cosine(c) <= 1 + 1e-12


def test_the_cosine_is_that_of_a_long_random_vector():
    g = torch.randn(8, 200_000, generator=seeded(5), dtype=torch.float64)
    for c in (0.02, 0.7, 1.4):
        clipped = g.clamp(-c, c)
        cosines = (g * clipped).sum(1) / g.norm(dim=1) / clipped.norm(dim=1)
        error = cosines.std().item() / math.sqrt(8)
        assert abs(cosines.mean().item() - theory.value_clip_cosine(c)) < 5 * error


# ---------------------------------------------------------------------- x⁴
@pytest.mark.parametrize("start", [Fraction(1, 3), Fraction(-2), Fraction(7)])
@pytest.mark.parametrize("share", [Fraction(99, 100), Fraction(101, 100)])
def test_x4_shrinks_below_the_limit_and_grows_above_it_in_exact_arithmetic(start, share):
    limit = Fraction(theory.quartic_stable_lr(float(start))).limit_denominator(10**6)
    sizes, x = [abs(start)], start
    for _ in range(4):
        x = x - share * limit * 4 * x**3
        sizes.append(abs(x))
    grows = [after > before for before, after in pairwise(sizes)]
    assert grows == [share > 1] * 4


# ---------------------------------------------------------------------- weights pinned at ±c
@pytest.mark.parametrize(("bound", "width"), [(0.03, 300), (0.2, 120)])
def test_the_factor_of_pinned_weights_is_that_of_autograd(bound, width):
    generator, layers = seeded(3), 5
    logs = []
    for _ in range(12):
        x = torch.randn(16, width, generator=generator, dtype=torch.float64)
        h = first = x.requires_grad_()
        for _ in range(layers):
            signs = 2 * torch.randint(2, (width, width), generator=generator) - 1
            h = torch.relu(h @ (bound * signs.double()))
        delta = torch.randn(16, width, generator=generator, dtype=torch.float64)
        (g,) = torch.autograd.grad((h * delta).sum(), first)
        logs.append(math.log(g.norm() / delta.norm()) / layers)
    measured = math.exp(np.mean(logs))
    assert measured == pytest.approx(theory.pinned_gradient_factor(bound, width), rel=0.03)


def test_he_weights_pinned_at_their_own_size_keep_the_gradient():
    assert theory.pinned_gradient_factor(math.sqrt(2 / 77), 77) == pytest.approx(1)


# ---------------------------------------------------------------------- the cliff
def last_state(w, b, start, steps):
    x = torch.full_like(w, start)
    for _ in range(steps):
        x = w * torch.sigmoid(x) + b
    return x


@settings(deadline=None, max_examples=50)
@given(w=st.floats(-6, 7), start=st.floats(-1.5, 1.5), steps=st.integers(1, 30))
def test_the_slope_on_the_cliff_is_that_of_autograd(w, start, steps):
    weight = torch.tensor(w, dtype=torch.float64, requires_grad=True)
    b = torch.tensor(theory.cliff_bias(w, start), dtype=torch.float64, requires_grad=True)
    x = last_state(weight, b, start, steps)
    by_b, by_w = torch.autograd.grad(x, (b, weight))
    slope = theory.cliff_slope(w, start, steps)
    assert by_b.item() == pytest.approx(slope, rel=1e-5, abs=1e-9)
    s = 1 / (1 + math.exp(-start))
    assert by_w.item() == pytest.approx(s * slope, rel=1e-5, abs=1e-9)


@pytest.mark.parametrize(("w", "start"), [(5.0, 0.5), (6.5, 0.3), (7.0, -0.4)])
def test_the_two_sides_of_the_cliff_end_far_apart(w, start):
    b = theory.cliff_bias(w, start)
    sides = last_state(
        torch.tensor([w, w], dtype=torch.float64),
        torch.tensor([b - 1e-3, b + 1e-3], dtype=torch.float64),
        start,
        200,
    )
    assert sides[1] - sides[0] > 2


def test_a_neutral_step_adds_one_per_time_step():
    assert theory.cliff_slope(4.0, 0.0, 50) == pytest.approx(50)
    assert theory.cliff_slope(4 * (1 + 1e-9), 0.0, 50) == pytest.approx(50, rel=1e-6)
    assert theory.cliff_slope(1e6, 0.0, 100) == math.inf


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda: theory.value_clip_cosine(0.0), "threshold=0"),
        (lambda: theory.value_clip_cosine(-math.inf), "threshold=-inf"),
        (lambda: theory.value_clip_cosine(math.nan), "threshold=nan"),
        (lambda: theory.value_clip_cosine("1"), "threshold='1'"),
        (lambda: theory.quartic_stable_lr(0.0), "start=0"),
        (lambda: theory.quartic_stable_lr(math.inf), "start=inf"),
        (lambda: theory.pinned_gradient_factor(-1.0, 10), "bound=-1"),
        (lambda: theory.cliff_bias(math.nan, 0.0), "weight=nan"),
        (lambda: theory.cliff_bias(1.0, math.inf), "start=inf"),
    ],
)
def test_an_argument_out_of_range_is_named(call, name):
    with pytest.raises(ValueError, match=name):
        call()
