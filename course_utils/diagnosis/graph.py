"""Read the autograd graph: what stands between two layers, whether written as modules or not."""

import math
from collections.abc import Callable, Container, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

from ..measuring.torch_internals import Node, outputs_of, saved
from .layer_calls import LayerCall, rms

_NORMS = ("BatchNorm", "LayerNorm", "GroupNorm", "InstanceNorm", "RmsNorm", "RMSNorm")
_MOST = 400  # nodes between two layers; beyond it the path counts as unknown
PRODUCTS = ("Addmm", "MmBackward", "Bmm", "Baddbmm", "Einsum", "Convolution", "MvBackward")
"""Nodes that multiply two tensors, of which one can be a weight."""

_SPELLED_ALIKE = (
    *("relu", "tanh", "sigmoid", "gelu", "silu", "mish", "softplus", "hardswish", "leaky_relu"),
    *("elu", "hardtanh", "hardsigmoid"),
)
_ACTIVATIONS = {name.title().replace("_", ""): name for name in _SPELLED_ALIKE} | {
    "PreluKernel": "prelu",
    "Threshold": "relu",
    "LogSigmoid": "logsigmoid",
}
LARGEST_SLOPE = {"tanh": 1.0, "sigmoid": 0.25, "hardtanh": 1.0, "hardsigmoid": 1 / 6}
"""Activations that saturate on both sides, and sup |φ′|."""


@dataclass(eq=False)
class Path:
    """What stands between the input of a layer and the layers before it.

    Attributes:
        parents: Calls whose outputs reach the input with no layer in between.
        gated: Those of them that are a factor of a product on the way, as a gate is.
        nodes: Nodes on the way, nearest to the input first, when the way is a single chain.
        activations: Activation nodes, nearest first; not those that gate something.
        norms: Names of the norms on the way: "batch", "layer", ….
        skip: Whether two branches are added on the way.
        unknown: Whether there is something else: a product with other weights, a gate, a split.
    """

    parents: list[LayerCall] = field(default_factory=list)
    gated: list[LayerCall] = field(default_factory=list)
    nodes: list[Node] = field(default_factory=list)
    activations: list[Node] = field(default_factory=list)
    norms: list[str] = field(default_factory=list)
    skip: bool = False
    unknown: bool = False

    @property
    def chain(self) -> bool:
        """One parent and no branch."""
        return len(self.parents) == 1 and not self.skip and not self.unknown

    @property
    def pools(self) -> bool:
        """Whether a pooling or a mean stands on the way, which thins the gradient out once."""
        return any("Pool" in n.name() or n.name().startswith("Mean") for n in self.nodes)


def follow(start: Node | None, ends: dict[Node, LayerCall]) -> Path:
    """Walk from a node toward the input until outputs of layers are met.

    Args:
        start: The node that made a layer's input; None for data.
        ends: Nodes that made the outputs of layers.

    Returns:
        The path.
    """
    path, seen = Path(), set()
    queue = [] if start is None else [(start, False)]
    while queue:
        node, gated = queue.pop(0)
        if node in seen:
            continue
        seen.add(node)
        if node in ends:
            path.parents.append(ends[node])
            path.gated += [ends[node]] * gated
            continue
        if len(seen) > _MOST:
            path.unknown = True
            break
        path.nodes.append(node)
        name = node.name()
        further = [after for _, after in _onward(node)]
        forks = len(further) > 1
        if kind := norm_kind(name):
            path.norms.append(kind)
        elif activation_name(node) and not gated:
            path.activations.append(node)
        elif any(product in name for product in PRODUCTS):
            path.unknown = True
        if forks and name.startswith(("Add", "Sub")):
            path.skip = True
        elif forks:
            path.unknown = True
        gates = gated or (forks and name.startswith(("Mul", "Div")))
        queue += [(after, gates) for after in further]
    return path


def _onward(node: Node) -> list[tuple[int, Node]]:
    """Nodes further toward the input, with their place, without parameters and constants."""
    return [
        (i, after)
        for i, (after, _) in enumerate(node.next_functions)
        if after is not None and "AccumulateGrad" not in after.name()
    ]


def norm_kind(name: str) -> str | None:
    """The kind of norm a node is, "batch", "layer", "group", …, or None."""
    kinds = (norm.lower().removesuffix("norm") for norm in _NORMS if norm in name)
    return next(kinds, None)


def stem(node: Node) -> str:
    """Name of the operation that a node differentiates; "TanhBackward" for that of a derivative."""
    return node.name().rpartition("Backward")[0] or node.name()


def activation_name(node: Node) -> str | None:
    """Name of the activation a node differentiates, as in `cu.ACTIVATIONS` where it is there."""
    name = _ACTIVATIONS.get(stem(node))
    if name == "elu" and abs(saved(node, "scale", 1.0) - 1.0) > 1e-6:
        return "selu"
    if name == "hardtanh" and saved(node, "min_val", -1) == 0:
        return "relu6"
    return name


_PLUMBING = (
    *("View", "UnsafeView", "Reshape", "Squeeze", "Unsqueeze", "Transpose", "Permute", "T", "T0"),
    *("ToCopy", "Clone", "Alias", "Slice", "Select", "Expand", "NativeDropout", "Mul", "Div"),
    *("Add", "Sub", "Neg", "Mean", "Sum", "Cat", "Stack", "Split", "Chunk", "Unbind"),
)


def is_plumbing(node: Node) -> bool:
    """Whether a node moves or scales numbers, so that no activation is hidden in it."""
    name = stem(node)
    moves = name in _PLUMBING or "Pool" in name
    return moves or activation_name(node) is not None or norm_kind(name) is not None


Function = Callable[[Tensor], Tensor] | str
"""An activation for `cu.theory`: a name, or a function with its parameters."""


def as_function(node: Node) -> Function | None:
    """The activation of a node for `cu.theory`; None if it is not known there."""
    name = activation_name(node)
    slope, alpha = saved(node, "negative_slope", 0.01), saved(node, "alpha", 1.0)
    if name == "leaky_relu" and abs(slope - 0.01) > 1e-9:
        return lambda z: F.leaky_relu(z, slope)
    if name == "elu" and abs(alpha - 1) > 1e-9:
        return lambda z: F.elu(z, alpha)
    if name == "hardtanh":
        low, high = saved(node, "min_val", -1.0), saved(node, "max_val", 1.0)
        return lambda z: F.hardtanh(z, low, high)
    if name == "hardsigmoid":
        return F.hardsigmoid
    return None if name in ("prelu", "logsigmoid") else name


def handed_on(node: Node, *grads: Tensor | None) -> tuple[Tensor | None, ...] | None:
    """What an operation makes of gradients, by its own backward function; None if it refuses."""
    try:
        with torch.no_grad():
            handed = node(*grads)  # type: ignore[operator]  # a node can be called
    except (RuntimeError, AttributeError, IndexError, TypeError):
        return None
    return handed if isinstance(handed, tuple) else (handed,)


def pull_back(node: Node, gradient: Tensor) -> Tensor | None:
    """Jᵀv of one operation: what it hands on toward the layers; None where it refuses."""
    handed = handed_on(node, gradient, *[None] * (len(outputs_of(node)) - 1))
    onward = _onward(node)
    return None if handed is None else handed[onward[0][0] if onward else 0]


def ones_at(node: Node) -> Tensor:
    """Ones in the shape and format of what an operation gives."""
    output = outputs_of(node)[0]
    return torch.ones(tuple(output.shape), dtype=output.dtype, device=output.device)


def slopes(node: Node) -> Tensor | None:
    """φ′ at every entry: the activation's own backward, applied to ones."""
    return pull_back(node, ones_at(node)) if outputs_of(node) else None


def transmitted(path: Path, generator: torch.Generator) -> float:
    """Factor of the RMS of a random gradient along a chain, from the layer's input to its parent.

    J^T v for one vector v of random signs, through the nodes' own backward functions. E‖Jᵀv‖² =
    ‖J‖_F², and for elementwise activations the value is rms φ′ for every v.

    Returns:
        The factor, NaN where a node cannot be called.
    """
    if not path.nodes:
        return 1.0
    ones = ones_at(path.nodes[0])
    signs = torch.randint(0, 2, ones.shape, generator=generator) * 2 - 1
    value: Tensor | None = signs.to(ones)
    for node in path.nodes:
        value = None if value is None else pull_back(node, value)
    return math.nan if value is None else rms(value)


def walk(*starts: Node, ends: Container[Node] = ()) -> Iterator[Node]:
    """Every node from `starts` toward the input, each once, and none behind one of `ends`."""
    queue, seen = list(starts), set(starts)
    while queue:
        node = queue.pop()
        yield node
        if node in ends:
            continue
        for after, _ in node.next_functions:
            if after is not None and after not in seen:
                seen.add(after)
                queue.append(after)


def inputs_of(node: Node) -> list[Node]:
    """Nodes that made what an operation reads; none for data and numbers."""
    return [after for after, _ in node.next_functions if after is not None]


def users_of(nodes: Iterable[Node]) -> dict[Node, list[Node]]:
    """For each node that one of `nodes` reads from, those of them that do."""
    users: dict[Node, list[Node]] = {}
    for node in nodes:
        for after in inputs_of(node):
            users.setdefault(after, []).append(node)
    return users


@contextmanager
def hooked(nodes: Iterable[Node], hook: Callable[[Node, tuple, tuple], None]) -> Iterator[None]:
    """Call `hook(node, handed, received)` at each of `nodes` in the backward passes in here."""
    handles = [
        node.register_hook(partial(hook, node))
        for node in nodes
        if "AccumulateGrad" not in node.name()
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def past(node: Node | None, kinds: Container[str]) -> Node | None:
    """The first node of another kind, along the first input of each."""
    while node is not None and stem(node) in kinds:
        node = node.next_functions[0][0]
    return node


def reaches(node: Node | None, target: Node | None) -> bool:
    """Whether `target` lies on a way from `node` toward the input."""
    return node is not None and any(n is target for n in walk(node))


_CARRIES = (
    *("View", "UnsafeView", "Reshape", "ReshapeAlias", "Unsqueeze", "Squeeze", "ToCopy", "Clone"),
    *("Transpose", "Permute"),
)


def squashed_twice(loss_node: Node) -> tuple[Node, str] | None:
    """A softmax or sigmoid whose output goes into another one, with nothing in between.

    Returns:
        (the inner node, "softmax" or "sigmoid"), or None.
    """
    outer = ("LogSoftmax", "Softmax", "BinaryCrossEntropyWithLogits")
    for node in walk(loss_node):
        if stem(node) not in outer:
            continue
        inner = past(node.next_functions[0][0], _CARRIES)
        if inner is not None and stem(inner) in ("Softmax", "SafeSoftmax"):
            return inner, "softmax"
        binary = node.name().startswith("BinaryCrossEntropyWithLogits")
        if binary and inner is not None and stem(inner) == "Sigmoid":
            return inner, "sigmoid"
    return None
