"""Right and wrong answers to the exercises of notebook 02."""

import itertools
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F

from course_utils.exercises import chain_rule


def softmax(z, axis=1):
    p = np.exp(z - z.max(axis=axis, keepdims=True))
    return p / p.sum(axis=axis, keepdims=True)


def one_hot(z, labels):
    return np.eye(z.shape[1])[labels]


def back(delta, W, z):
    return (delta @ W) * (1 - np.tanh(z) ** 2)


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


def every_path(J):
    gradient = np.zeros(J[0].shape[1])
    for nodes in itertools.product(*(range(j.shape[1]) for j in J), range(1)):
        factors = [j[b, a] for j, a, b in zip(J, nodes, nodes[1:], strict=False)]
        gradient[nodes[0]] += np.prod(factors)
    return gradient


def by_hand(net, chunks):
    total = sum(len(x) for x, _ in chunks)
    losses = (F.cross_entropy(net(x), y, reduction="sum") / total for x, y in chunks)
    grads = [torch.autograd.grad(loss, tuple(net.parameters())) for loss in losses]
    return [sum(parts) for parts in zip(*grads, strict=True)]


def looks_twice(net, chunks):
    with torch.no_grad():
        for x, _ in chunks:
            net(x)
    return backward_over(net, chunks, weight=share)


def sweep_in_float32(J):
    delta = np.ones(1, dtype=np.float32)
    for local in J[::-1]:
        delta = delta @ local.astype(np.float32)
    return delta


def backward_in_torch(delta, W, h, z):
    delta, W, h, z = (torch.tensor(a, dtype=torch.float32) for a in (delta, W, h, z))
    return [delta.T @ h, delta.sum(0), (delta @ W) * (1 - torch.tanh(z) ** 2)]


def from_autograd(z, labels):
    leaf = torch.tensor(z, requires_grad=True)
    F.cross_entropy(leaf, torch.tensor(labels)).backward()
    return leaf.grad


def flat_difference(f, x, s=6e-6):
    """Over the entries one after the other, as lists."""
    found = []
    for i in range(x.size):
        e = np.zeros(x.size)
        e[i] = s
        e = e.reshape(x.shape)
        found.append((f(x + e) - f(x - e)) / (2 * s))
    return np.reshape(found, x.shape).tolist()


def through_forward(net, chunks, together):
    """Calls net.forward, past the hooks of the net."""
    net.zero_grad()
    total = sum(len(x) for x, _ in chunks)
    if together:
        chunks = [tuple(torch.cat(parts) for parts in zip(*chunks, strict=True))]
    for x, y in chunks:
        (F.cross_entropy(net.forward(x), y) * len(x) / total).backward()
    return [p.grad for p in net.parameters()]


RIGHT = {
    "reverse_sweep": [
        every_path,
        lambda J: np.linalg.multi_dot(J[::-1])[0],
        sweep_in_float32,
        lambda J: sweep_in_float32(J).tolist(),
    ],
    "layer_backward": [
        backward_in_torch,
        lambda d, W, h, z: (np.einsum("ai,aj->ij", d, h), d.sum(0), back(d, W, z)),
        lambda d, W, h, z: (d.T @ h, np.ones(len(d)) @ d, (d @ W) / np.cosh(z) ** 2),
    ],
    "cross_entropy_gradient": [
        from_autograd,
        lambda z, t: ((softmax(z) - one_hot(z, t)) / len(z)).astype(np.float32),
        lambda z, t: ((softmax(z) - one_hot(z, t)) / len(z)).tolist(),
    ],
    "central_difference": [
        *(partial(difference, s=s) for s in (1e-6, 6e-6, 5e-5)),
        flat_difference,
    ],
    "accumulated_gradient": [
        by_hand,
        looks_twice,
        lambda n, c: through_forward(n, c, together=False),
        lambda n, c: tuple(backward_over(n, c, weight=share)),
    ],
}

WRONG = {
    "reverse_sweep": {
        "only one path": lambda J: np.full(J[0].shape[1], np.prod([j[0, 0] for j in J])),
        "input side first": lambda J: chain_rule.reverse_sweep.reference(J[::-1]),
        "row instead of vector": lambda J: np.linalg.multi_dot(J[::-1]),
        "absolute values": lambda J: np.linalg.multi_dot([abs(j) for j in J[::-1]])[0],
        "last layer forgotten": lambda J: chain_rule.reverse_sweep.reference(
            [*J[:-1], np.ones((1, J[-1].shape[1]))]
        ),
        "one layer too few": lambda J: np.ones(J[0].shape[0]) @ J[0],
        "last row only": lambda J: J[-1][0] if len(J[-1][0]) == J[0].shape[1] else J[0].sum(0),
        "wrong sign": lambda J: -np.linalg.multi_dot(J[::-1])[0],
        "averaged": lambda J: np.linalg.multi_dot(J[::-1])[0] / len(J),
        "sum of the whole matrix": lambda J: float(np.sum(np.linalg.multi_dot(J[::-1]))),
    },
    "layer_backward": {
        "slope forgotten": lambda d, W, h, z: (d.T @ h, d.sum(0), d @ W),
        "transposed where it is square": lambda d, W, h, z: (
            (d.T @ h, d.sum(0), back(d, W.T if W.shape[0] == W.shape[1] else W, z))
        ),
        "slope of h": lambda d, W, h, z: (d.T @ h, d.sum(0), back(d, W, h)),
        "averaged twice": lambda d, W, h, z: (d.T @ h / len(d), d.mean(0), back(d, W, z)),
        "weight gradient transposed": lambda d, W, h, z: (h.T @ d, d.sum(0), back(d, W, z)),
        "z in place of h": lambda d, W, h, z: (d.T @ z, d.sum(0), back(d, W, z)),
        "bias summed over units": lambda d, W, h, z: (d.T @ h, d.sum(1), back(d, W, z)),
        "bias two-dimensional": lambda d, W, h, z: (d.T @ h, d.sum(0)[None], back(d, W, z)),
        "slope added": lambda d, W, h, z: (d.T @ h, d.sum(0), d @ W + 1 - np.tanh(z) ** 2),
        "slope not squared": lambda d, W, h, z: (d.T @ h, d.sum(0), (d @ W) * (1 - np.tanh(z))),
        "slope of a sigmoid": lambda d, W, h, z: (d.T @ h, d.sum(0), (d @ W) * h * (1 - h)),
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
        "the global maximum": lambda z, t: (
            (np.exp(z - z.max()) / np.exp(z - z.max()).sum(1, keepdims=True) - one_hot(z, t))
            / len(z)
        ),
        "clipped at 500": lambda z, t: (softmax(np.clip(z, -500, 500)) - one_hot(z, t)) / len(z),
        "nan_to_num": lambda z, t: (
            (np.nan_to_num(np.exp(z) / np.exp(z).sum(1, keepdims=True)) - one_hot(z, t)) / len(z)
        ),
        "the largest class": lambda z, t: (softmax(z) - one_hot(z, z.argmax(1))) / len(z),
        "one-hot not subtracted": lambda z, t: softmax(z) / len(z),
        "only the true class": lambda z, t: one_hot(z, t) * (softmax(z) - 1) / len(z),
    },
    "central_difference": {
        "forward difference": lambda f, x: difference(f, x, 1.5e-8, central=False),
        "step too small": lambda f, x: difference(f, x, 1e-10),
        "step too large": lambda f, x: difference(f, x, 1e-2),
        "divided by s": lambda f, x: difference(f, x, 6e-6, factor=6e-6),
        "step never taken back": leaking_difference,
        "all entries at once": lambda f, x: np.full_like(x, (f(x + 6e-6) - f(x - 6e-6)) / 1.2e-5),
        "wrong sign": lambda f, x: -difference(f, x, 6e-6),
        "backward difference": lambda f, x: difference(f, x, -1.5e-8, central=False),
        "divided by 4s": lambda f, x: difference(f, x, 6e-6, factor=2.4e-5),
        "summed": lambda f, x: float(difference(f, x, 6e-6).sum()),
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
        "the whole batch, past the hooks": lambda n, c: through_forward(n, c, together=True),
        "first parameter only": lambda n, c: backward_over(n, c, weight=share)[:1],
        "parameters returned": lambda n, c: (
            backward_over(n, c, weight=share) and list(n.parameters())
        ),
    },
}

SAID = [
    ("accumulated_gradient", "the whole batch at once", "6 samples at once", "chunk has 3"),
    ("accumulated_gradient", "one graph over all chunks", "still in memory"),
]
