"""Blocks whose norm stands behind the addition, LayerNorm(x + f(x)), read from the graph."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

from ..measuring.torch_internals import Node, moment_of, saved_tensor
from .graph import inputs_of, is_plumbing, norm_kind, stem
from .layer_calls import rms

_MOST = 8  # nodes between an addition and the norms at both sides of it


@dataclass(frozen=True)
class PostNorm:
    """A stack of post-norm blocks.

    Attributes:
        factors: What the skip of each block multiplies the gradient by: 1/σ of what the norm
            behind the addition divides by, 1/√(1 + a²) for a branch a times as large.
    """

    factors: tuple[float, ...]

    @property
    def through(self) -> float:
        """What the skips of all blocks together leave of a gradient."""
        return math.prod(self.factors)

    @property
    def branch(self) -> float:
        """The usual a: how large a branch is beside its skip."""
        middle = sorted(self.factors)[len(self.factors) // 2]
        return math.sqrt(max(middle**-2 - 1, 0.0)) if middle > 0 else math.inf


def post_norm(nodes: Iterable[Node]) -> PostNorm:
    """Find the blocks LayerNorm(x + f(x)) whose x comes out of the norm of the block before.

    Args:
        nodes: Nodes of the graph below the output.
    """
    factors = [_skip_factor(node) for node in nodes if _is_norm(node)]
    return PostNorm(tuple(factor for factor in factors if factor is not None))


def _is_norm(node: Node) -> bool:
    return norm_kind(node.name()) in ("layer", "rms")


def _skip_factor(norm: Node) -> float | None:
    """What the skip that enters a norm multiplies the gradient by; None in other places."""
    added, _ = _upward(norm.next_functions[0][0])
    inverse = saved_tensor(norm, "result2")
    if added is None or stem(added) != "Add" or inverse is None:
        return None
    ways = inputs_of(added)
    if len(ways) != 2:
        return None
    skip, scale = _upward(min(ways, key=moment_of))  # made before the branch was
    weight = saved_tensor(norm, "weight")
    if skip is None or not _is_norm(skip):
        return None
    return rms(inverse.detach()) * scale * (1.0 if weight is None else rms(weight.detach()))


def _upward(node: Node | None) -> tuple[Node | None, float]:
    """The next addition or norm toward the input, and the factor of the gradient to there."""
    scale = 1.0
    for _ in range(_MOST):
        onward = [] if node is None else [n for n, _ in node.next_functions if n is not None]
        if node is None or norm_kind(node.name()) or len(onward) != 1 or not is_plumbing(node):
            break
        if stem(node) in ("Mul", "Div"):
            scale *= _scale_of(node)
        node = onward[0]
    return node, scale


def _scale_of(node: Node) -> float:
    """What a multiplication by a constant multiplies a gradient by."""
    other = saved_tensor(node, "other")
    if other is None:
        return 1.0
    size = rms(other.detach())
    return 1 / size if stem(node) == "Div" and size else size
