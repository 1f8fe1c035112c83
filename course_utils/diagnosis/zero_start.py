"""Factors that are zero and about to move: layers, norms and gates that start so on purpose.

The last layer of a residual branch, the output of a diffusion network, the second matrix of a
LoRA, the scale of a norm or the gate before a branch. What stands before such a factor gets a
gradient of exactly 0 until it has moved, and it moves at the first step: ∂L/∂W = δ xᵀ needs no W.
"""

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from ..measuring.torch_internals import Node
from .graph import PRODUCTS, inputs_of, norm_kind, stem

_KEEPS_ZERO = (
    *("Tanh", "View", "UnsafeView", "Reshape", "Squeeze", "Unsqueeze", "Transpose", "Permute"),
    *("T", "ToCopy", "Clone", "Alias", "Slice", "Select", "Expand", "Neg", "Mul", "Div"),
)


def is_zero(value: Tensor) -> bool:
    """Whether every entry is exactly 0; looks at one first."""
    value = value.detach()
    if not value.numel() or value.is_meta or bool(value[(0,) * value.dim()] != 0):
        return False
    return not bool(torch.count_nonzero(value))


def zero_factors(
    named: Mapping[str, nn.Parameter],
    grads: Mapping[str, Tensor | None],
    weights: set[int],
    nodes: Iterable[Node],
) -> list[str]:
    """Parameters that are 0, that something is multiplied by, and that the first step moves.

    Args:
        named: Parameters by name.
        grads: Their gradients.
        weights: Ids of those that are the weights of layers.
        nodes: Nodes of the graph below the output; asked only where it must be.

    Returns:
        Names.
    """
    zero = {
        id(p): name
        for name, p in named.items()
        if p.requires_grad and is_zero(p) and (grad := grads[name]) is not None and grad.any()
    }
    factors = set(zero) & weights
    rest = set(zero) - weights
    if rest:
        factors |= _multiplied(rest, nodes)
    return [name for key, name in zero.items() if key in factors]


def _multiplied(wanted: set[int], nodes: Iterable[Node]) -> set[int]:
    """Ids of the parameters whose zero makes a product zero."""
    users: dict[Node, list[tuple[Node, int]]] = {}
    leaves: dict[Node, int] = {}
    for node in nodes:
        for place, (after, _) in enumerate(node.next_functions):
            if after is not None:
                users.setdefault(after, []).append((node, place))
                key = id(getattr(after, "variable", None))
                if key in wanted:
                    leaves[after] = key
    found = set()
    for leaf, key in leaves.items():
        queue = [leaf]
        while queue:
            for user, place in users.get(queue.pop(), []):
                both = len(inputs_of(user)) > 1
                if norm_kind(user.name()):
                    found |= {key} if place == 1 else set()
                elif any(product in user.name() for product in PRODUCTS):
                    found |= set() if place == _bias_place(user) else {key}
                elif both and stem(user) == "Mul":
                    found.add(key)
                elif stem(user) in _KEEPS_ZERO and not both:
                    queue.append(user)
    return found


def _bias_place(product: Node) -> int | None:
    """Where a product takes what it adds."""
    name = stem(product)
    return 0 if name in ("Addmm", "Baddbmm") else 2 if "Convolution" in name else None
