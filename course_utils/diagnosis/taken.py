"""Where a gradient that arrives becomes exactly 0: the operations that take all of it."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..measuring.torch_internals import Node, saved_dimension, saved_tensor, saved_text
from .graph import handed_on, hooked, stem, users_of, walk
from .running import gradients, unrecorded

STEPS = ("Round", "Floor", "Ceil", "Trunc", "Sign", "Sgn", "Bernoulli", "Zero", "Fill")
"""Flat almost everywhere."""

CLAMPS = (
    *("Clamp", "ClampMin", "ClampMax", "Relu", "Threshold", "Hardtanh", "Hardsigmoid"),
    *("Hardswish", "Hardshrink", "Softshrink", "Maximum", "Minimum", "MultiMarginLoss"),
)
"""Flat in a part of their range."""

SATURATING = (
    *("Sigmoid", "Tanh", "Softmax", "LogSoftmax", "LogSigmoid", "Exp", "Elu", "Gelu", "Silu"),
    *("Mish", "Softplus", "Erf", "Atan", "Logsumexp", "BinaryCrossEntropyWithLogits"),
)
"""Their slope falls below the smallest number, or they are sure."""

SINGLE = ("Softmax", "LogSoftmax", "SafeSoftmax")
"""Give the same to every input where they run over a single entry."""

_FACTORS = {
    **dict.fromkeys(("Mul", "Mm", "Bmm", "Mv", "Dot"), (0, 1)),
    **dict.fromkeys(("Addmm", "Baddbmm", "Addbmm", "Addmv"), (1, 2)),
    **dict.fromkeys(("Convolution", "Linear"), (0, 1)),
}
"""Edges that lead to the factors of a product."""


@dataclass(eq=False, frozen=True)
class Taker:
    """An operation that receives a gradient and hands on exactly 0 toward some parameters.

    Attributes:
        node: The operation.
        why: "step", "clamp", "single" (a softmax over one entry), "stuck" (a product of two
            factors that are both 0 and both trainable), "moves" (a product whose zero factor gets
            a gradient), "saturated", "product" (a factor that is 0), "other" (a selection, or a
            loss at its least), or "cancels": it does not take every gradient.
        reach: Number of entries at which a gradient arrived.
        parameters: Ids of the parameters without a gradient behind it.
        fixed: Of a product, where the numbers of a factor that is 0 lie.
        whole: Whether it hands on nothing anywhere else either.
    """

    node: Node
    why: str
    reach: int
    parameters: frozenset[int]
    fixed: int | None = None
    whole: bool = True

    @property
    def operation(self) -> str:
        """What it is called in torch's functions."""
        name = stem(self.node)
        small = "".join(f"_{c.lower()}" if c.isupper() else c for c in name).strip("_")
        return "relu" if small == "threshold" else small


@dataclass(eq=False)
class _Arrived:
    """A gradient at a node that hands on nothing along some edges."""

    node: Node
    received: tuple[Tensor | None, ...]
    lost: list[int]
    kept: list[int]


def takers(
    value: Tensor, seed: float, parameters: list[nn.Parameter]
) -> tuple[list[Tensor | None], list[Taker]]:
    """The gradients of `parameters`, and what took those that are 0 everywhere.

    One backward pass with a look at every node on the way; two where it is not known beforehand
    which gradients are 0.

    Args:
        value: The loss.
        seed: What to start from.
        parameters: All that are trained.

    Returns:
        (the gradients, the operations).
    """
    assert value.grad_fn is not None
    start = torch.full_like(value, seed)
    above, ends = _above(value.grad_fn, {id(p) for p in parameters})
    arrived: list[_Arrived] = []

    def look(node: Node, handed: tuple, received: tuple) -> None:
        edges = [i for i, (after, _) in enumerate(node.next_functions) if after in above]
        lost = [i for i in edges if is_zero(handed[i])]
        if lost and not all(map(is_zero, received)):
            kept = [i for i in edges if i not in lost]
            arrived.append(_Arrived(node, received, lost, kept))

    with unrecorded(), hooked(above, look):
        grads = gradients(value, parameters, start)
    zero = {
        id(p)
        for p, grad in zip(parameters, grads, strict=True)
        if grad is not None and is_zero(grad)
    }
    found = []
    for one in arrived:
        for edge in one.lost:
            after = one.node.next_functions[edge][0]
            assert after is not None
            behind = frozenset(ends[node] for node in walk(after) if node in ends) & zero
            if behind:
                reach = sum(int((g != 0).sum()) for g in one.received if g is not None)
                why = _why(one, edge)
                if why == "moves" and not _moved(one, ends, zero):
                    why = "product"
                fixed = _zero_factor(one.node) if why == "product" else None
                found.append(Taker(one.node, why, reach, behind, fixed, not one.kept))
    return grads, found


def is_zero(grad: Tensor | None) -> bool:
    """Whether nothing arrives, or exactly 0 everywhere."""
    if grad is None:
        return True
    if grad.layout is not torch.strided:
        grad = grad.coalesce().values()
    few = grad[(slice(0, 8),) * grad.dim()]  # which mostly decides
    return not bool(few.any()) and not bool(grad.any())


def nodes_above(root: Node, wanted: set[int]) -> set[Node]:
    """Operations on a way from the loss to parameters with these ids."""
    return {node for node in _above(root, wanted)[0] if "AccumulateGrad" not in node.name()}


def _above(root: Node, wanted: set[int]) -> tuple[set[Node], dict[Node, int]]:
    """Nodes on a way from the loss to a parameter, and ids of parameters by their last node."""
    nodes = list(walk(root))
    ends = {n: key for n in nodes if (key := id(getattr(n, "variable", None))) in wanted}
    users = users_of(nodes)
    queue, above = list(ends), set(ends)
    while queue:
        for node in users.get(queue.pop(), []):
            if node not in above:
                above.add(node)
                queue.append(node)
    return above, ends


def _why(one: _Arrived, edge: int) -> str:
    """Why it hands on 0 along an edge."""
    node, name = one.node, stem(one.node)
    if name in SINGLE and _over_one_entry(node):
        return "single"
    lost = _takes_all(one)
    if edge not in lost:
        return "cancels"
    if name in STEPS or saved_text(node, "rounding_mode"):
        return "step"
    if name in CLAMPS:
        return "other" if one.kept else "clamp"
    if name in SATURATING:
        return "saturated"
    factors = [i for i in _FACTORS.get(name, ()) if node.next_functions[i][0] is not None]
    if any(i in one.kept for i in factors):
        return "moves"
    if len(factors) == 2 and all(i in lost for i in factors):
        return "stuck"
    return "product" if name in (*_FACTORS, "Div", "Pow", "Prod") else "other"


def _moved(one: _Arrived, ends: dict[Node, int], zero: set[int]) -> bool:
    """Whether a parameter with a gradient lies behind a factor that gets one."""
    onward = [one.node.next_functions[edge][0] for edge in one.kept]
    return any(ends[n] not in zero for a in onward if a is not None for n in walk(a) if n in ends)


def _zero_factor(node: Node) -> int | None:
    """Where the numbers of a factor lie that a product keeps and that is 0 everywhere."""
    for name in ("self", "other", "weight", "mat1", "mat2", "input", "batch1", "batch2"):
        value = saved_tensor(node, name)
        strided = value is not None and value.layout is torch.strided and not value.is_meta
        if value is not None and strided and value.numel() and is_zero(value.detach()):
            return value.untyped_storage().data_ptr()
    return None


def _takes_all(one: _Arrived) -> set[int]:
    """Edges along which nothing would go on whatever arrived in the same places.

    Tells a slope of 0 from a sum that cancels and from a gradient too small for its format.
    """
    generator = torch.Generator().manual_seed(0)
    drawn = [
        None
        if g is None or g.layout is not torch.strided
        else (torch.rand(g.shape, generator=generator) + 0.5).to(g) * (g != 0)
        for g in one.received
    ]
    handed = handed_on(one.node, *drawn)
    return set() if handed is None else {i for i in one.lost if is_zero(handed[i])}


def _over_one_entry(node: Node) -> bool:
    """Whether a softmax runs over a single entry."""
    result = saved_tensor(node, "result")
    return result is not None and result.dim() > 0 and result.shape[saved_dimension(node)] == 1
