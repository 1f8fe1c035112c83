"""Exercises of notebook 01: the reference passes, plausible wrong answers do not."""

import math
import warnings

import numpy as np
import pytest
import torch

from course_utils.exercises import gradient_descent

NAMES = ("momentum_step", "steps_needed", "warmup_cosine", "sharpness", "chain_limit")


@pytest.fixture(autouse=True)
def _own_progress(tmp_path, monkeypatch):
    monkeypatch.setenv("COURSE_PROGRESS", str(tmp_path / "progress.json"))


def _in_place(theta, velocity, gradient, lr, momentum):
    velocity *= momentum
    velocity += gradient
    theta += lr * velocity  # uphill
    return theta, velocity


def _rate(k):
    return (k - 1) / (k + 1)


def _steps(k, d, rate=_rate, rounding=math.ceil):
    return 1 if k == 1 else rounding(d * math.log(10) / -math.log(rate(k)))


def _cosine(t, total, warm, peak):
    return peak * (1 + math.cos(math.pi * (t - warm) / (total - warm))) / 2


def _power(product, v, times, value):
    for _ in range(times):
        v = v / np.linalg.norm(v)
        v = product(v)
    return value(v)


def _unscaled(product, v):
    for _ in range(500):
        last, v = v, product(v)
    return np.linalg.norm(v) / np.linalg.norm(last)


WRONG = {
    "momentum_step": {
        "no lr": lambda p, v, g, lr, m: (p - (m * v + g), m * v + g),
        "old velocity": lambda p, v, g, lr, m: (p - lr * v, m * v + g),
        "averaged": lambda p, v, g, lr, m: (
            p - lr * (m * v + (1 - m) * g),
            m * v + (1 - m) * g,
        ),
        "uphill": _in_place,
        "lr in the velocity": lambda p, v, g, lr, m: (p - (m * v + lr * g), m * v + lr * g),
        "swapped": lambda p, v, g, lr, m: (m * v + g, p - lr * (m * v + g)),
        "parameters only": lambda p, v, g, lr, m: p - lr * (m * v + g),
        "nan": lambda p, v, g, lr, m: (p * math.nan, v),
    },
    "steps_needed": {
        "not rounded": lambda k, d: _steps(k, d, rounding=float),
        "rounded down": lambda k, d: _steps(k, d, rounding=math.floor),
        "heavy ball": lambda k, d: _steps(k, d, rate=lambda k: _rate(math.sqrt(k))),
        "rule of thumb": lambda k, d: math.ceil(1.15 * k * d),
        "rate 1 − 1/κ": lambda k, d: _steps(k, d, rate=lambda k: 1 - 1 / k),
        "log10 missing": lambda k, d: 1 if k == 1 else math.ceil(d / -math.log(_rate(k))),
        "fails at κ = 1": lambda k, d: math.ceil(d * math.log(10) / -math.log(_rate(k))),
        "zero steps at κ = 1": lambda k, d: 0 if k == 1 else _steps(k, d),
    },
    "warmup_cosine": {
        "no warm-up": lambda t, n, w, p: p * (1 + math.cos(math.pi * t / n)) / 2,
        "starts at 0": lambda t, n, w, p: p * t / w if t < w else _cosine(t, n, w, p),
        "cosine of all steps": lambda t, n, w, p: (
            p * (t + 1) / w if t < w else p * (1 + math.cos(math.pi * t / n)) / 2
        ),
        "reaches 0 in the last step": lambda t, n, w, p: (
            p * (t + 1) / w if t < w else _cosine(t, n - 1, w, p)
        ),
        "quarter period": lambda t, n, w, p: (
            p * (t + 1) / w if t < w else p * math.cos(math.pi / 2 * (t - w) / (n - w))
        ),
        "one step too long": lambda t, n, w, p: p * (t + 1) / w if t <= w else _cosine(t, n, w, p),
        "peak forgotten": lambda t, n, w, p: (t + 1) / w if t < w else _cosine(t, n, w, 1.0),
    },
    "sharpness": {
        "too few products": lambda f, v: _power(f, v, 5, np.linalg.norm),
        "not scaled": _unscaled,
        "largest entry": lambda f, v: _power(f, v, 500, np.max),
        "its inverse": lambda f, v: 1 / _power(f, v, 500, np.linalg.norm),
        "the learning rate": lambda f, v: 2 / _power(f, v, 500, np.linalg.norm),
        "the vector": lambda f, v: _power(f, v, 500, lambda u: u),
        "trace": lambda f, v: sum(f(e)[i] for i, e in enumerate(np.eye(len(v)))),
    },
    "chain_limit": {
        "2/L": lambda w: 2 / len(w),
        "target 1 only": lambda w: 2 / np.sum(1 / w**2),
        "sum of squares": lambda w: 2 / np.sum(w**2),
        "not squared": lambda w: 2 / np.sum(np.prod(w) / w),
        "steepest weight": lambda w: 2 / np.max((np.prod(w) / w) ** 2),
        "without the 2": lambda w: 1 / np.sum((np.prod(w) / w) ** 2),
        "the curvature": lambda w: np.sum((np.prod(w) / w) ** 2),
        "one per weight": lambda w: 2 / (np.prod(w) / w) ** 2,
    },
}


@pytest.mark.parametrize("name", NAMES)
def test_the_reference_is_right(name):
    exercise = getattr(gradient_descent, name)
    verdict = exercise.check(exercise.reference)
    assert verdict and verdict.status == "right", verdict


@pytest.mark.parametrize(("name", "wrong"), [(n, w) for n in NAMES for w in WRONG[n]])
def test_a_plausible_wrong_answer_is_rejected_with_a_reason(name, wrong):
    verdict = getattr(gradient_descent, name).check(WRONG[name][wrong])
    assert verdict.status == "wrong"
    assert len(verdict.message) > 40


@pytest.mark.parametrize("name", NAMES)
def test_an_unattempted_exercise_says_so(name):
    exercise = getattr(gradient_descent, name)

    def stub(*_): ...

    for answer in (..., None, stub):
        assert exercise.check(answer).status == "not attempted"


@pytest.mark.parametrize("name", NAMES)
def test_every_exercise_has_hints_minutes_difficulty_and_a_solution(name):
    exercise = getattr(gradient_descent, name)
    assert exercise.name == name and exercise.chapter == "gradient_descent"
    assert len(exercise.hints) >= 2 and 1 <= exercise.difficulty <= 3 and exercise.minutes >= 5
    assert f"def {name}" in exercise.solution()


def test_four_wrong_answers_at_least_for_every_exercise():
    assert set(WRONG) == set(NAMES) and all(len(wrong) >= 4 for wrong in WRONG.values())


def test_an_answer_that_changes_its_inputs_but_returns_right_values_is_right():
    def in_place(theta, velocity, gradient, lr, momentum):
        velocity *= momentum
        velocity += gradient
        theta -= lr * velocity
        return theta, velocity

    assert gradient_descent.momentum_step.check(in_place)


@pytest.mark.parametrize(("lr", "momentum"), [(0.3, 0.0), (0.05, 0.9)])
def test_momentum_step_is_the_step_that_torch_takes(lr, momentum):
    generator = torch.Generator().manual_seed(3)
    leaf = torch.randn(4, generator=generator, dtype=torch.float64, requires_grad=True)
    theta, velocity = leaf.detach().numpy().copy(), np.zeros(4)
    optimizer = torch.optim.SGD([leaf], lr=lr, momentum=momentum)
    for _ in range(5):
        leaf.grad = torch.randn(4, generator=generator, dtype=torch.float64)
        optimizer.step()
        step = gradient_descent.momentum_step.reference
        theta, velocity = step(theta, velocity, leaf.grad.numpy(), lr, momentum)
        assert np.allclose(theta, leaf.detach().numpy(), rtol=1e-12)


@pytest.mark.parametrize(("total", "warmup"), [(10, 0), (12, 4), (30, 10)])
def test_warmup_cosine_is_the_schedule_that_torch_composes(total, warmup):
    leaf = torch.zeros(1, requires_grad=True)
    optimizer = torch.optim.SGD([leaf], lr=0.3)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, total - warmup)
    schedule = cosine
    if warmup:
        optimizer = torch.optim.SGD([leaf], lr=0.3)
        rise = torch.optim.lr_scheduler.LinearLR(optimizer, 1 / warmup, 1, warmup - 1)
        cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, total - warmup)
        schedule = torch.optim.lr_scheduler.SequentialLR(optimizer, [rise, cosine], [warmup])
    for step in range(total):
        expected = optimizer.param_groups[0]["lr"]
        got = gradient_descent.warmup_cosine.reference(step, total, warmup, 0.3)
        assert got == pytest.approx(expected, abs=1e-9)
        optimizer.step()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            schedule.step()


def test_the_flattest_minimum_of_a_chain_has_equal_weights():
    rng = np.random.default_rng(0)
    for _ in range(50):
        w = np.exp(rng.normal(size=5))
        w /= np.prod(w) ** (1 / 5)
        assert gradient_descent.chain_limit.reference(w) <= 2 / 5 + 1e-12
