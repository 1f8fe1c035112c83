"""Exercises of notebook 02, "Follow the chain rule backwards"."""

import copy
import itertools
import weakref
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from .base import Cases, WrongAnswer, call, exercise, expect_close


@exercise(
    "Sweep a layered graph backward: from the matrices of local derivatives to the "
    "gradient of the output with respect to the nodes of layer 0.",
    minutes=5,
    difficulty=1,
    hints=(
        "What is the derivative of the output with respect to itself?",
        "A node of layer l−1 reaches the output through every node of layer l: add over them. "
        "That sum over i of J[i, j]·delta[i] is one product.",
        "delta = J[-1].T @ np.ones(1), then the same with J[-2], and so on to J[0].",
    ),
    reason="Equation 2: δ of a layer is Jᵀ times δ of the layer behind it, and δ of the output "
    "is 1.",
)
def reverse_sweep(J):
    """Gradient of the output with respect to the nodes of layer 0."""
    delta = np.ones(1)
    for local in reversed(J):
        delta = local.T @ delta
    return delta


@reverse_sweep.cases(
    "Start with 1 at the output. One step back is a product with the transpose of J."
)
def _() -> Cases:
    rng = np.random.default_rng(0)
    for widths in ([1, 1, 1], [3, 2, 1], [2, 4, 3, 1], [3, 3, 3, 3, 1]):
        J = [rng.normal(size=(rows, columns)) for columns, rows in itertools.pairwise(widths)]
        yield (J,), np.linalg.multi_dot(J[::-1])[0], f"a graph with {widths} nodes per layer"


@reverse_sweep.inputs
def _(rng: np.random.Generator) -> tuple:
    widths = [*rng.integers(1, 6, size=rng.integers(2, 6)), 1]
    return ([rng.normal(size=(rows, columns)) for columns, rows in itertools.pairwise(widths)],)


@exercise(
    "Take one layer of tanh units backward: from δ_l to ∂𝓛/∂W_l, ∂𝓛/∂b_l and δ_{l−1}.",
    minutes=10,
    difficulty=2,
    hints=(
        "Write down the shape of every array, and of every result. Few products fit.",
        "z_l = h_{l−1} W_lᵀ + b_l. What does z_l[a, i] change by when W_l[i, j] grows a little?",
        "delta.T @ h_previous, delta.sum(axis=0), and delta @ W times 1 − tanh(z_previous)².",
    ),
    reason="Samples are rows, so δhᵀ summed over them is delta.T @ h_previous, and Wᵀδ of every "
    "row is delta @ W.",
)
def layer_backward(delta, W, h_previous, z_previous):
    """∂𝓛/∂W_l, ∂𝓛/∂b_l and δ_{l−1} from δ_l."""
    slope = 1 - np.tanh(z_previous) ** 2
    return delta.T @ h_previous, delta.sum(axis=0), (delta @ W) * slope


@layer_backward.cases(
    results={
        "∂𝓛/∂W": "δ carries the 1/N of the mean already: sum over the batch, do not average.",
        "∂𝓛/∂b": "b is added to every row, so its gradient is the sum over the rows.",
        "δ_{l−1}": "Back through W, then times the slope tanh′(z_previous) of the layer before.",
    },
)
def _() -> Cases:
    for seed, (batch, n, before) in enumerate(((1, 1, 1), (5, 2, 3), (4, 3, 3))):
        rng = np.random.default_rng(seed)
        delta, W = rng.normal(size=(batch, n)), rng.normal(size=(n, before))
        z = rng.normal(size=(batch, before))
        # The oracle differentiates ⟨δ, z_l⟩, whose gradient at z_l is δ.
        leaves = [torch.tensor(v, requires_grad=True) for v in (W, np.zeros(n), z)]
        out = torch.tanh(leaves[2]) @ leaves[0].T + leaves[1]
        grads = torch.autograd.grad((out * torch.tensor(delta)).sum(), leaves)
        given = f"batch {batch}, {before} units before and {n} in this layer"
        yield (delta, W, np.tanh(z), z), [grad.numpy() for grad in grads], given


@layer_backward.inputs
def _(rng: np.random.Generator) -> tuple:
    batch, n, before = rng.integers(1, 6, size=3)
    z = rng.normal(size=(batch, before))
    return rng.normal(size=(batch, n)), rng.normal(size=(n, before)), np.tanh(z), z


@exercise(
    "The gradient of the mean cross-entropy with respect to the logits, for any logits.",
    minutes=10,
    difficulty=2,
    hints=(
        "For one sample it is softmax(z) − y, with y the one-hot target.",
        "The mean over N samples puts 1/N in front of every row.",
        "Subtract the maximum of each row before np.exp: nothing changes but the overflow.",
    ),
    reason="Softmax minus one-hot, over N for the mean. Subtracting the row's maximum cancels in"
    " the quotient, and then no exponent is above 0.",
)
def cross_entropy_gradient(z, labels):
    """Gradient of the mean cross-entropy with respect to the logits."""
    p = np.exp(z - z.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    p[np.arange(len(z)), labels] -= 1
    return p / len(z)


@cross_entropy_gradient.cases(
    "It is (softmax(z) − one-hot)/N. Each row has a softmax of its own, with its own maximum."
)
def _() -> Cases:
    rng = np.random.default_rng(0)
    usual = "It is (softmax(z) − one-hot)/N, softmax over the classes of each row."
    large = "exp(1000) is Inf. Softmax stays the same when you subtract the row's maximum."
    apart = "The rows lie far apart: subtract from each its own maximum."
    for z, given, hint in (
        (rng.normal(size=(1, 2)), "two classes, one sample", usual),
        (rng.normal(size=(4, 4)), "four classes, four samples", usual),
        (rng.normal(size=(6, 3)) * 3, "three classes, six samples", usual),
        (np.array([[1e3, 0, -1e3], [-900, -900, 900]]), "logits of ±1000", large),
        (np.array([[999.0, 998.0, 997.5], [-999.0, -998.0, -997.0]]), "rows 2000 apart", apart),
    ):
        labels = rng.integers(0, z.shape[1], len(z))
        leaf = torch.tensor(z, requires_grad=True)
        (expected,) = torch.autograd.grad(F.cross_entropy(leaf, torch.tensor(labels)), leaf)
        yield (z, labels), expected.numpy(), given, hint


@cross_entropy_gradient.inputs
def _(rng: np.random.Generator) -> tuple:
    samples, classes = rng.integers(1, 7), rng.integers(2, 6)
    z = 2 * rng.normal(size=(samples, classes)) + rng.uniform(-1000, 1000, size=(samples, 1))
    return z, rng.integers(0, classes, size=samples)


@exercise(
    "The gradient of any function by central differences, accurate to 4e-9.",
    minutes=10,
    difficulty=2,
    hints=(
        "One entry of x at a time: f a step above it, f a step below it.",
        "np.ndindex(x.shape) gives the index of every entry. Change a copy, not x itself.",
        "Divide by 2s, not s, and take s near ε^(1/3) = 6e-6.",
    ),
    reason="The terms of even order cancel between the two sides, and near ε^(1/3) truncation "
    "and round-off are equally small.",
)
def central_difference(f, x):
    """Gradient of f at x by central differences."""
    s, gradient = 6e-6, np.zeros_like(x)
    for i in np.ndindex(x.shape):
        up, down = x.copy(), x.copy()
        up[i] += s
        down[i] -= s
        gradient[i] = (f(up) - f(down)) / (2 * s)
    return gradient


@central_difference.cases(
    "Close is not enough here: two evaluations per entry, each side of x, with a step near "
    "ε^(1/3), bring the error below 4e-9. Move one entry at a time.",
    rtol=0,
    atol=4e-9,
)
def _() -> Cases:
    rng = np.random.default_rng(0)
    for shape in ((1,), (4,), (2, 3)):
        a, x = rng.uniform(0.5, 1, size=shape), rng.uniform(0.5, 1.5, size=shape)

        def f(v, a=a):
            return float(np.exp(np.sin(a * v)).sum() + np.prod(v))

        expected = a * np.cos(a * x) * np.exp(np.sin(a * x)) + np.prod(x) / x
        yield (f, x), expected, f"f(x) = Σ exp(sin(a x)) + Π x at an x of shape {shape}"


@central_difference.inputs
def _(rng: np.random.Generator) -> tuple:
    shape = tuple(rng.integers(1, 3, size=rng.integers(1, 3)))
    a, x = rng.uniform(0.5, 1, size=shape), rng.uniform(0.5, 1.5, size=shape)
    return lambda v: float(np.exp(np.sin(a * v)).sum() + np.prod(v)), x


@exercise(
    "The gradient over a batch that does not fit into memory, chunk by chunk.",
    minutes=10,
    difficulty=3,
    hints=(
        "What is in .grad before you begin, and what does backward() do to it?",
        "F.cross_entropy takes the mean over its chunk. The chunks differ in size.",
        "Weight each chunk's loss by len(x) / total before its backward().",
    ),
    reason="The mean over all is the sum of the chunks' means, each times its share of the "
    "samples, and backward() adds gradients up.",
)
def accumulated_gradient(net, chunks):
    """Gradient of the mean cross-entropy over all samples, one chunk at a time."""
    total = sum(len(x) for x, _ in chunks)
    net.zero_grad()
    for x, y in chunks:
        loss = F.cross_entropy(net(x), y)
        (loss * len(x) / total).backward()
    return [p.grad for p in net.parameters()]


@accumulated_gradient.judge
def _(answer: object) -> None:
    for seed, sizes in enumerate(((4,), (3, 3), (7, 2, 1), (1, 5, 3, 2))):
        net, chunks = _net_and_chunks(np.random.default_rng(seed), sizes)
        oracle = copy.deepcopy(net)
        x, y = (torch.cat(parts) for parts in zip(*chunks, strict=True))
        loss = F.cross_entropy(oracle(x), y)
        expected = torch.autograd.grad(loss, tuple(oracle.parameters()))
        result = _call_in_chunks(answer, net, chunks)
        if isinstance(result, tuple | list) and any(part is None for part in result):
            raise WrongAnswer(f"For chunks of {sizes} samples a gradient is None: call backward.")
        given = f"chunks of {sizes} samples, and old values in .grad"
        hint = (
            "backward() adds to .grad: start from zero once, then let the chunks add up, each with "
            "the weight of its share of the samples."
        )
        expect_close(result, tuple(expected), given, hint=hint)


@accumulated_gradient.inputs
def _(rng: np.random.Generator) -> tuple:
    return _net_and_chunks(rng, rng.integers(1, 8, size=rng.integers(1, 5)))


def _net_and_chunks(rng: np.random.Generator, sizes: Iterable[int]) -> tuple[nn.Module, list]:
    """A net with gradients left over from an earlier step, and chunks of these sizes."""
    net = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 4)).double()
    with torch.no_grad():
        for p in net.parameters():
            p.copy_(torch.from_numpy(rng.normal(size=p.shape)))
            p.grad = torch.from_numpy(rng.normal(size=p.shape))
    chunks = []
    for size in sizes:
        labels = torch.from_numpy(rng.integers(0, 4, size=size))
        chunks.append((torch.from_numpy(rng.normal(size=(size, 3))), labels))
    return net, chunks


@dataclass(eq=False)
class _Kept:
    """A tensor saved for the sweep; it lives as long as the graph holds it."""

    tensor: torch.Tensor


def _call_in_chunks(answer: object, net: nn.Module, chunks: list) -> object:
    """Call the answer, and refuse more than one chunk in memory at a time."""
    alive: weakref.WeakSet[_Kept] = weakref.WeakSet()
    largest = max(len(x) for x, _ in chunks)

    def keep(tensor: torch.Tensor) -> _Kept:
        kept = _Kept(tensor)
        alive.add(kept)
        return kept

    def watch(module: nn.Module, inputs: tuple[torch.Tensor]) -> None:
        if len(inputs[0]) > largest:
            raise WrongAnswer(
                f"The network was given {len(inputs[0])} samples at once, and the largest chunk "
                f"has {largest}: one chunk in memory at a time."
            )
        if alive and torch.is_grad_enabled():
            raise WrongAnswer(
                "The graph of one chunk was still in memory when the next one came: call "
                "backward() on each chunk before you go on."
            )

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda kept: kept.tensor):
        first = next(net.children())  # a call of net.forward(x) does not pass the hooks of net
        handle = first.register_forward_pre_hook(watch)
        try:
            return call(answer, net, chunks)
        finally:
            handle.remove()
