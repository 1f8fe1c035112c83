"""Exercises of notebook 12: the reference passes, plausible wrong answers do not."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

import course_utils as cu
from course_utils.diagnosis import KINDS
from course_utils.exercises import clinic

FUNCTIONS = ("layer_factor", "verdict", "treat_network")
NAMES = ("layer_factor", "verdict", "fool_the_gauge", "unknown_patients", "treat_network")


@pytest.fixture(autouse=True)
def _own_progress(tmp_path, monkeypatch):
    monkeypatch.setenv("COURSE_PROGRESS", str(tmp_path / "progress.json"))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def by_slope(sizes, limit=100.0, flip=False, per_layer=False, steps=-1):
    x = np.arange(len(sizes))
    slope = ((x - x.mean()) * np.log(sizes)).sum() / ((x - x.mean()) ** 2).sum()
    total = -slope * (1 if per_layer else len(sizes) + steps) * (-1 if flip else 1)
    if abs(total) <= np.log(limit):
        return "healthy"
    return "exploding" if total > 0 else "vanishing"


def by_ends(sizes):
    ratio = sizes[0] / sizes[-1]
    return "exploding" if ratio > 100 else "vanishing" if ratio < 0.01 else "healthy"


def by_range(sizes):
    return "vanishing" if sizes.max() / sizes.min() > 100 else "healthy"


def by_threshold(sizes):
    return "vanishing" if sizes.min() < 1e-7 else "exploding" if sizes.max() > 1e4 else "healthy"


def reset(model, gain, biases=True, only=None, constant=None):
    linear = [module for module in model if isinstance(module, nn.Linear)]
    relu = any(isinstance(module, nn.ReLU) for module in model)
    for layer in linear if only is None else [linear[only]]:
        std = (gain[0] if relu else gain[1]) / layer.in_features**0.5
        with torch.no_grad():
            if constant is None:
                layer.weight.normal_(0, std)
            else:
                layer.weight.fill_(constant)
            if biases:
                layer.bias.zero_()
    return model


def default(model):
    for module in model:
        if isinstance(module, nn.Linear):
            module.reset_parameters()
    return model


def orthogonal(model):
    relu = any(isinstance(module, nn.ReLU) for module in model)
    for module in model:
        if isinstance(module, nn.Linear):
            nn.init.orthogonal_(module.weight, gain=2**0.5 if relu else 1.0)
            nn.init.zeros_(module.bias)
    return model


RIGHT = {
    "layer_factor": [
        lambda W, s: np.linalg.norm(W) / W.shape[1] ** 0.5 * np.linalg.norm(s) / s.size**0.5
    ],
    "verdict": [by_slope],
    "fool_the_gauge": [
        [10, 256, 0.9],
        (30, 256, 0.2),
        (np.int64(30), np.int32(256), torch.tensor(0.2)),
        (30, 256, np.float32(0.2)),
    ],
    "unknown_patients": [
        {"A": {"not_connected"}, "B": {"double_softmax"}, "C": {"healthy"}, "D": {"dead"}}
    ],
    "treat_network": [lambda m: reset(m, (2**0.5, 1.0)), orthogonal],
}

ILL = {"A": "not_connected", "B": "double_softmax", "C": "healthy", "D": "dead"}

WRONG = {
    "layer_factor": {
        "fan_out": lambda W, s: np.sqrt((s**2).mean() * (W**2).sum() / W.shape[0]),
        "mean slope": lambda W, s: s.mean() * np.sqrt((W**2).sum() / W.shape[1]),
        "squared": lambda W, s: (s**2).mean() * (W**2).sum() / W.shape[1],
        "not divided": lambda W, s: np.sqrt((s**2).mean() * (W**2).sum()),
        "operator norm": lambda W, s: np.sqrt((s**2).mean()) * np.linalg.norm(W, 2),
        "standard deviation": lambda W, s: np.sqrt((s**2).mean()) * W.std() * W.shape[0] ** 0.5,
        "weights only": lambda W, s: np.sqrt((W**2).sum() / W.shape[1]),
        "NaN": lambda W, s: np.nan,
    },
    "verdict": {
        "a constant threshold": by_threshold,
        "first over last": by_ends,
        "largest over smallest": by_range,
        "directions swapped": lambda s: by_slope(s, flip=True),
        "per layer": lambda s: by_slope(s, per_layer=True),
        "per layer against 1": lambda s: "vanishing" if s[0] < s[-1] else "exploding",
        "limit 10": lambda s: by_slope(s, limit=10.0),
        "always healthy": lambda s: "healthy",
        "a number": lambda s: 0.5,
    },
    "fool_the_gauge": {
        "He": (20, 200, (2 / 200) ** 0.5),
        "it vanishes": (20, 256, 0.01),
        "too shallow": (5, 64, 0.3),
        "too narrow, the gauge scatters": (20, 16, 1.0),
        "PyTorch's default": (30, 256, (3 * 256) ** -0.5),
        "too deep": (40, 200, 0.3),
        "two layers": (2, 256, 3.0),
        "text": "20, 200, 0.3",
        "negative": (20, 200, -0.3),
        "NaN": (20, 200, float("nan")),
        "half a layer": (20.5, 200, 0.3),
    },
    "unknown_patients": {
        "all vanish": dict.fromkeys("ABCD", "vanishing"),
        "the small loss taken for an illness": ILL | {"C": "vanishing"},
        "dead taken for vanishing": ILL | {"D": "vanishing"},
        "two swapped": ILL | {"A": "dead", "D": "not_connected"},
        "two kinds": ILL | {"D": {"dead", "vanishing"}},
        "one forgotten": {"A": "not_connected", "B": "double_softmax", "D": "dead"},
        "unknown kind": ILL | {"B": "softmax twice"},
        "a list": list(ILL.values()),
    },
    "treat_network": {
        "nothing done": lambda m: m,
        "PyTorch's default": default,
        "Xavier for both": lambda m: reset(m, (1.0, 1.0)),
        "zeros": lambda m: reset(m, (0.0, 0.0)),
        "all alike": lambda m: reset(m, (1, 1), constant=0.01),
        "last layer only": lambda m: reset(m, (2**0.5, 1.0), only=-1),
        "standard deviation 1": lambda m: reset(m, (128**0.5, 128**0.5)),
        "other activation": lambda m: nn.Sequential(
            *(nn.LeakyReLU() if not isinstance(k, nn.Linear) else k for k in reset(m, (1.41, 1.41)))
        ),
        "shallower": lambda m: reset(m, (2**0.5, 1.0))[:1],
        "weights returned": lambda m: [p for p in m.parameters()],
    },
}


def exercise(name):
    return getattr(clinic, name)


@pytest.mark.parametrize("name", NAMES)
def test_the_reference_solution_is_right(name):
    verdict = exercise(name).check(exercise(name).reference)
    assert verdict and verdict.status == "right", str(verdict)


@pytest.mark.parametrize("name", NAMES)
def test_other_right_answers_are_right(name):
    for answer in RIGHT[name]:
        verdict = exercise(name).check(answer)
        assert verdict, str(verdict)


@pytest.mark.parametrize(
    ("name", "mistake"), [(name, mistake) for name in NAMES for mistake in WRONG[name]]
)
def test_a_plausible_wrong_answer_is_rejected_and_told_why(name, mistake):
    verdict = exercise(name).check(copy.deepcopy(WRONG[name][mistake]))
    assert verdict.status == "wrong", str(verdict)
    assert len(str(verdict)) > 60 and "your code raised" not in str(verdict)


@pytest.mark.parametrize(
    ("name", "answer", "said"),
    [
        ("layer_factor", WRONG["layer_factor"]["fan_out"], "fan_in is the number of columns"),
        ("layer_factor", WRONG["layer_factor"]["mean slope"], "root mean square"),
        ("layer_factor", WRONG["layer_factor"]["squared"], "the square of it"),
        ("layer_factor", WRONG["layer_factor"]["standard deviation"], "subtracts the mean"),
        (
            "layer_factor",
            lambda W, s: np.linalg.norm(W, 2) * np.sqrt((s**2).mean() / W.shape[1]),
            "operator norm",
        ),
        ("layer_factor", WRONG["layer_factor"]["weights only"], "Two factors"),
        ("layer_factor", lambda W, s: W, "expected"),
        ("verdict", WRONG["verdict"]["directions swapped"], "if layer 1 gets less"),
        ("verdict", WRONG["verdict"]["first over last"], "No single layer may decide"),
        ("verdict", lambda s: by_slope(s, steps=0), "there are L − 1 steps"),
        ("verdict", WRONG["verdict"]["per layer"], "by least squares"),
        ("verdict", lambda s: {by_slope(s)}, "one of the texts"),
        ("verdict", lambda s: by_slope(s).upper(), "one of the texts"),
    ],
)
def test_the_usual_slips_are_told_apart(name, answer, said):
    assert said in str(exercise(name).check(answer))


@pytest.mark.parametrize("name", NAMES)
def test_what_is_not_filled_in_counts_as_not_attempted(name):
    for answer in (..., None, *([lambda *inputs: ...] if name in FUNCTIONS else [])):
        assert exercise(name).check(answer).status == "not attempted"


def test_a_half_filled_answer_counts_as_not_attempted():
    assert clinic.fool_the_gauge.check((20, ..., 0.3)).status == "not attempted"
    assert clinic.unknown_patients.check(ILL | {"A": ...}).status == "not attempted"


@pytest.mark.parametrize("name", NAMES)
def test_every_exercise_has_three_hints_a_solution_and_a_time(name):
    one = exercise(name)
    assert one.chapter == "clinic" and one.name == name
    assert len({str(one.hint()) for _ in one.hints}) == len(one.hints) == 3
    assert name not in FUNCTIONS or str(one.solution()).startswith(f"def {name}(")
    assert 0 < one.minutes <= 20 and one.difficulty in (1, 2, 3)


@pytest.mark.parametrize("name", ILL)
def test_the_instrument_finds_what_each_patient_has(name):
    model, batch, loss = clinic.patients()[name]
    assert cu.diagnose(model, batch, loss=loss).kinds == {ILL[name]}


def test_autograd_confirms_the_four_patients():
    found = clinic.patients()
    model, (x, y), loss = found["A"]
    loss(model(x), y).backward()
    assert model.branch.weight.grad is None and model.trunk[0].weight.grad.abs().sum() > 0
    model, (x, y), loss = found["D"]
    assert not model[:6](x).any() and model[:4](x).any()
    model, (x, y), loss = found["B"]
    assert 0 <= model(x).min() and model(x).max() <= 1
    model, (x, y), loss = found["C"]
    grads = torch.autograd.grad(loss(model(x), y), [model[0].weight, model[-1].weight])
    assert all(0 < g.abs().mean() < 1e-8 for g in grads)
    assert 0.01 < grads[0].norm() / grads[1].norm() < 100


def test_patients_are_the_same_at_every_call_and_leave_the_random_state_alone():
    before = torch.get_rng_state()
    first, second = clinic.patients(), clinic.patients()
    for name in first:
        pairs = zip(first[name][0].parameters(), second[name][0].parameters(), strict=True)
        assert all(torch.equal(a, b) for a, b in pairs)
    assert torch.equal(torch.get_rng_state(), before)


def test_the_kinds_are_those_of_the_diagnosis():
    assert clinic._KINDS == KINDS


def test_random_gradients_confirm_the_factor_of_a_layer():
    rng = np.random.default_rng(1)
    W, slopes = rng.normal(size=(60, 40)) / 5, rng.uniform(0, 1, size=(4000, 60))
    delta = slopes * rng.normal(size=slopes.shape)
    measured = np.sqrt(np.square(delta @ W).mean())
    assert clinic.layer_factor.reference(W, slopes) == pytest.approx(measured, rel=0.02)


@pytest.mark.parametrize("seed", range(5))
def test_the_reference_remedy_passes_whatever_it_draws(seed):
    torch.manual_seed(100 + seed)
    assert clinic.treat_network.check(clinic.treat_network.reference)
