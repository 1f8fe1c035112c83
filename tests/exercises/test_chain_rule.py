"""Exercises of notebook 02: the reference passes, plausible wrong answers do not."""

import itertools

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from course_utils.exercises import chain_rule

NAMES = (
    "reverse_sweep",
    "layer_backward",
    "cross_entropy_gradient",
    "central_difference",
    "accumulated_gradient",
)


@pytest.fixture(autouse=True)
def _own_progress(tmp_path, monkeypatch):
    monkeypatch.setenv("COURSE_PROGRESS", str(tmp_path / "progress.json"))


def softmax(z, axis=1):
    p = np.exp(z - z.max(axis=axis, keepdims=True))
    return p / p.sum(axis=axis, keepdims=True)


def one_hot(z, labels):
    return np.eye(z.shape[1])[labels]


def slope(z):
    return 1 - np.tanh(z) ** 2


def difference(f, x, s, central=True, factor=None):
    gradient = np.zeros_like(x)
    for i in np.ndindex(x.shape):
        up, down = x.copy(), x.copy()
        up[i] += s
        if central:
            down[i] -= s
        gradient[i] = (f(up) - f(down)) / ((2 * s if central else s) if factor is None else factor)
    return gradient


def leaking_difference(f, x, s=6e-6):
    """Moves x and does not move it back."""
    gradient = np.zeros_like(x)
    for i in np.ndindex(x.shape):
        x[i] += s
        up = f(x)
        x[i] -= 2 * s
        gradient[i] = (up - f(x)) / (2 * s)
    return gradient


def backward_over(net, chunks, zero_first=True, zero_each=False, weight=lambda x, total: 1.0):
    total = sum(len(x) for x, _ in chunks)
    if zero_first:
        net.zero_grad()
    for x, y in chunks:
        if zero_each:
            net.zero_grad()
        (F.cross_entropy(net(x), y) * weight(x, total)).backward()
    return [p.grad for p in net.parameters()]


def one_graph(net, chunks):
    """Right figures, but every chunk's graph is kept until the end."""
    net.zero_grad()
    total = sum(len(x) for x, _ in chunks)
    sum(F.cross_entropy(net(x), y) * len(x) / total for x, y in chunks).backward()
    return [p.grad for p in net.parameters()]


def share(x, total):
    return len(x) / total


def one_path(J):
    path = [j[0, 0] for j in J]
    return np.full(J[0].shape[1], np.prod(path))


def forward_order(J):
    delta = np.ones(1)
    for local in J:
        delta = local.T @ delta
    return delta


WRONG = {
    "reverse_sweep": {
        "only one path": one_path,
        "input side first": forward_order,
        "row instead of vector": lambda J: np.linalg.multi_dot(J[::-1]),
        "absolute values": lambda J: np.linalg.multi_dot([abs(j) for j in J[::-1]])[0],
        "last layer forgotten": lambda J: chain_rule.reverse_sweep.reference(
            [*J[:-1], np.ones((1, J[-1].shape[1]))]
        ),
        "sum of the whole matrix": lambda J: float(np.sum(np.linalg.multi_dot(J[::-1]))),
        "nan": lambda J: np.full(J[0].shape[1], np.nan),
    },
    "layer_backward": {
        "slope forgotten": lambda d, W, h, z: (d.T @ h, d.sum(0), d @ W),
        "transposed where it is square": lambda d, W, h, z: (
            d.T @ h,
            d.sum(0),
            (d @ (W.T if W.shape[0] == W.shape[1] else W)) * slope(z),
        ),
        "slope of h": lambda d, W, h, z: (d.T @ h, d.sum(0), (d @ W) * slope(h)),
        "averaged twice": lambda d, W, h, z: (d.T @ h / len(d), d.mean(0), (d @ W) * slope(z)),
        "weight gradient transposed": lambda d, W, h, z: (h.T @ d, d.sum(0), (d @ W) * slope(z)),
        "z in place of h": lambda d, W, h, z: (d.T @ z, d.sum(0), (d @ W) * slope(z)),
        "bias summed over units": lambda d, W, h, z: (d.T @ h, d.sum(1), (d @ W) * slope(z)),
        "bias kept two-dimensional": lambda d, W, h, z: (
            d.T @ h,
            d.sum(0, keepdims=True),
            (d @ W) * slope(z),
        ),
        "only two results": lambda d, W, h, z: (d.T @ h, d.sum(0)),
    },
    "cross_entropy_gradient": {
        "sum instead of mean": lambda z, t: softmax(z) - one_hot(z, t),
        "softmax over the batch": lambda z, t: (softmax(z, 0) - one_hot(z, t)) / len(z),
        "wrong sign": lambda z, t: (one_hot(z, t) - softmax(z)) / len(z),
        "overflow": lambda z, t: (
            (np.exp(z) / np.exp(z).sum(1, keepdims=True) - one_hot(z, t)) / len(z)
        ),
        "clipped logits": lambda z, t: (softmax(np.clip(z, -3, 3)) - one_hot(z, t)) / len(z),
        "divided by classes": lambda z, t: (softmax(z) - one_hot(z, t)) / z.size,
        "softmax twice": lambda z, t: (softmax(softmax(z)) - one_hot(z, t)) / len(z),
        "only the true class": lambda z, t: one_hot(z, t) * (softmax(z) - 1) / len(z),
    },
    "central_difference": {
        "forward difference": lambda f, x: difference(f, x, 1.5e-8, central=False),
        "step too small": lambda f, x: difference(f, x, 1e-10),
        "step too large": lambda f, x: difference(f, x, 1e-2),
        "divided by s": lambda f, x: difference(f, x, 6e-6, factor=6e-6),
        "step never taken back": leaking_difference,
        "all entries at once": lambda f, x: np.full_like(x, (f(x + 6e-6) - f(x - 6e-6)) / 1.2e-5),
        "flattened": lambda f, x: difference(f, x, 6e-6).ravel().tolist(),
    },
    "accumulated_gradient": {
        "the whole batch at once": lambda n, c: backward_over(
            n, [tuple(torch.cat(parts) for parts in zip(*c, strict=True))]
        ),
        "one graph over all chunks": one_graph,
        "old gradients kept": lambda n, c: backward_over(n, c, zero_first=False, weight=share),
        "overwritten": lambda n, c: backward_over(n, c, zero_each=True, weight=share),
        "mean of means": lambda n, c: backward_over(n, c, weight=lambda x, t: 1 / len(c)),
        "not averaged": lambda n, c: backward_over(n, c),
        "sum over samples": lambda n, c: backward_over(n, c, weight=lambda x, t: len(x)),
        "no backward": lambda n, c: n.zero_grad() or [p.grad for p in n.parameters()],
        "first parameter only": lambda n, c: backward_over(n, c, weight=share)[:1],
        "parameters returned": lambda n, c: (
            backward_over(n, c, weight=share) and list(n.parameters())
        ),
    },
}


@pytest.mark.parametrize("name", NAMES)
def test_the_reference_is_right(name):
    exercise = getattr(chain_rule, name)
    verdict = exercise.check(exercise.reference)
    assert verdict, verdict


@pytest.mark.parametrize(
    ("name", "mistake"), [(name, mistake) for name in NAMES for mistake in WRONG[name]]
)
def test_a_plausible_mistake_is_wrong(name, mistake):
    verdict = getattr(chain_rule, name).check(WRONG[name][mistake])
    assert verdict.status == "wrong", verdict


@pytest.mark.parametrize("name", NAMES)
def test_what_is_not_attempted_is_said_to_be(name):
    exercise = getattr(chain_rule, name)
    for answer in (..., None, lambda *inputs: ..., lambda *inputs: None):
        assert exercise.check(answer).status == "not attempted"


@pytest.mark.parametrize("name", NAMES)
def test_a_raising_answer_gets_a_verdict(name):
    verdict = getattr(chain_rule, name).check(lambda *inputs: 1 / 0)
    assert verdict.status == "wrong"
    assert "ZeroDivisionError" in verdict.message


@pytest.mark.parametrize("name", NAMES)
def test_hints_and_solution_can_be_read(name):
    exercise = getattr(chain_rule, name)
    hints = {exercise.hint() for _ in exercise.hints}
    assert len(hints) == len(exercise.hints) >= 2
    assert exercise.solution().startswith(f"def {name}(")
    assert exercise.chapter == "chain_rule" and exercise.name == name


def test_another_right_reverse_sweep_is_right():
    def every_path(J):
        gradient = np.zeros(J[0].shape[1])
        for nodes in itertools.product(*(range(j.shape[1]) for j in J), range(1)):
            factors = [j[b, a] for j, a, b in zip(J, nodes, nodes[1:], strict=False)]
            gradient[nodes[0]] += np.prod(factors)
        return gradient

    assert chain_rule.reverse_sweep.check(every_path)
    assert chain_rule.reverse_sweep.check(lambda J: np.linalg.multi_dot(J[::-1])[0])


@pytest.mark.parametrize("s", [1e-6, 6e-6, 5e-5])
def test_any_sensible_step_is_right(s):
    assert chain_rule.central_difference.check(lambda f, x: difference(f, x, s))


def test_another_right_accumulation_is_right():
    def by_hand(net, chunks):
        total = sum(len(x) for x, _ in chunks)
        parts = [
            torch.autograd.grad(
                F.cross_entropy(net(x), y, reduction="sum") / total, tuple(net.parameters())
            )
            for x, y in chunks
        ]
        return [sum(part) for part in zip(*parts, strict=True)]

    assert chain_rule.accumulated_gradient.check(by_hand)


def test_more_than_one_chunk_in_memory_is_told_apart_from_a_wrong_figure():
    mistakes = WRONG["accumulated_gradient"]
    at_once = chain_rule.accumulated_gradient.check(mistakes["the whole batch at once"])
    assert "6 samples at once" in str(at_once) and "largest chunk has 3" in str(at_once)
    assert "still in memory" in str(chain_rule.accumulated_gradient.check(one_graph))


def test_a_look_at_the_loss_without_a_graph_is_allowed():
    def looks_twice(net, chunks):
        with torch.no_grad():
            for x, _ in chunks:
                net(x)
        return backward_over(net, chunks, weight=share)

    assert chain_rule.accumulated_gradient.check(looks_twice)
