"""Where gradients that arrive add up to nothing but rounding."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ..measuring.torch_internals import (
    Node,
    outputs_of,
    saved,
    saved_dimension,
    saved_dimensions,
    saved_tensor,
)
from .graph import handed_on, hooked, norm_kind, stem
from .running import gradients, unrecorded

_DIGITS = 64
"""Units in the last place below which a sum is rounding."""

_FINE = 1e-6  # in formats with fewer digits only what cancels exactly can be told


_SIZES = ("LinalgVectorNorm", "Norm", "Mean", "Std", "Var")
"""Reductions that a norm divides by."""

_ON_THE_WAY = ("Expand", "ClampMin", "Clone", "Sqrt", "Rsqrt", "Reciprocal", "Add", "Pow", "View")


def is_invariant(node: Node) -> bool:
    """Whether an operation gives the same for inputs that differ by a shift or a factor."""
    return stem(node) in ("Softmax", "SafeSoftmax") or norm_kind(node.name()) is not None


def norms_one_entry(node: Node) -> bool:
    """Whether an operation normalizes each entry by itself alone."""
    name = stem(node)
    if norm_kind(node.name()) in ("layer", "rms"):
        return math.prod(getattr(node, "_saved_normalized_shape", (0,))) == 1
    if name == "NativeGroupNorm":
        return saved(node, "C", 0) * saved(node, "HxW", 0) == saved(node, "group", 1)
    if name not in ("Div", "Mul") or len(node.next_functions) != 2:
        return False
    (read, _), (size, _) = node.next_functions
    inverted = name == "Div"
    while size is not None and stem(size) in _ON_THE_WAY:
        inverted |= stem(size) in ("Rsqrt", "Reciprocal")
        size = size.next_functions[0][0]
    if not inverted or size is None or read is None or stem(size) not in _SIZES:
        return False
    below = size.next_functions[0][0]
    while below is not None and below is not read and stem(below) in ("Pow", "Abs"):
        below = below.next_functions[0][0]
    dims = saved_dimensions(size)
    whole, rest = (math.prod(outputs_of(n)[0].shape) for n in (read, size))
    return below is read and whole == rest and bool(dims) and 0 not in dims


def cancelled(
    value: Tensor, seed: float, wanted: Sequence[Tensor], nodes: set[Node], within: bool
) -> set[Node]:
    """Those of `nodes` at which, or in which, a gradient cancels to the last digits.

    Either what several operations hand to a node adds up to rounding, as in h - h; or one that is
    invariant hands on rounding where a random gradient of this size would come through, as in the
    sum of a softmax.

    Args:
        value: The loss.
        seed: What to start from.
        wanted: Tensors to differentiate by.
        nodes: Nodes to look at.
        within: Whether to look for what cancels within an invariant operation, too.

    Returns:
        The nodes behind which nothing is left.
    """
    found: set[Node] = set()
    sent: dict[Node, float] = {}
    times: dict[Node, int] = {}

    def look(node: Node, handed: tuple, received: tuple) -> None:
        got, limit = _norm(received), _rounding(received)
        if _adds_up_to_nothing(node, got, limit):
            found.add(node)
        if within and got > 0 and is_invariant(node):
            if _swallowed(node, handed, received, limit) if limit else _alike(node, received):
                found.add(node)
        for (after, _), grad in zip(node.next_functions, handed, strict=False):
            if after is not None and grad is not None:
                sent[after] = sent.get(after, 0.0) + _norm((grad,)) ** 2
                times[after] = times.get(after, 0) + 1

    def _adds_up_to_nothing(node: Node, got: float, limit: float) -> bool:
        return times.get(node, 0) > 1 and got <= limit * math.sqrt(sent[node]) and sent[node] > 0

    with unrecorded(), hooked(nodes, look):
        grads = gradients(value, wanted, torch.full_like(value, seed))
    for tensor, grad in zip(wanted, grads, strict=True):  # nodes at which the pass has ended
        node = tensor.grad_fn
        if node is not None and grad is not None:
            if _adds_up_to_nothing(node, _norm((grad,)), _rounding((grad,))):
                found.add(node)
    return found


def _swallowed(node: Node, handed: tuple, received: tuple, limit: float) -> bool:
    """Whether a random gradient of the same size would come through, and this one does not."""
    passed, got = _norm(handed[:1]), _norm(received)
    if passed > 1e-3 * got:
        return False
    generator = torch.Generator().manual_seed(0)
    drawn = [
        None if g is None else torch.randn(g.shape, generator=generator).to(g) for g in received
    ]
    other = handed_on(node, *drawn)
    if other is None:
        return False
    return passed / got < limit * _norm(other[:1]) / _norm(tuple(drawn))


def _alike(node: Node, received: tuple) -> bool:
    """Whether all that a softmax or a layer norm runs over gets one and the same gradient."""
    weight, size = saved_tensor(node, "weight"), getattr(node, "_saved_normalized_shape", ())
    dims = tuple(range(-len(size), 0)) or (saved_dimension(node),)
    if (not size and "Softmax" not in stem(node)) or received[0] is None:
        return False
    plain = weight is None or bool((weight == weight.flatten()[0]).all())
    return plain and torch.equal(received[0].amin(dims), received[0].amax(dims))


def _norm(grads: tuple) -> float:
    squares = [
        float(torch.linalg.vector_norm(g.detach().to_dense() if g.is_sparse else g.detach())) ** 2
        for g in grads
        if isinstance(g, Tensor)
    ]
    return math.sqrt(sum(squares))


def _rounding(grads: tuple) -> float:
    """A share that counts as rounding in the coarsest format; 0 where it has too few digits."""
    formats = [g.dtype for g in grads if isinstance(g, Tensor) and g.dtype.is_floating_point]
    eps = max((torch.finfo(one).eps for one in formats), default=1.0)
    return _DIGITS * eps if eps < _FINE else 0.0
