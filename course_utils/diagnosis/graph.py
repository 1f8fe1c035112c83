"""Read the autograd graph: what stands between two layers, whether written as modules or not."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional as F

from .probe import Call, rms

NORMS = ("BatchNorm", "LayerNorm", "GroupNorm", "InstanceNorm", "RmsNorm", "RMSNorm")
_MOST = 400  # nodes between two layers; beyond it the path counts as unknown
PRODUCTS = ("Addmm", "MmBackward", "Bmm", "Baddbmm", "Einsum", "Convolution", "MvBackward")
"""Nodes that multiply two tensors, of which one can be a weight."""

_ACTIVATIONS = {
    "Relu": "relu",
    "Tanh": "tanh",
    "Sigmoid": "sigmoid",
    "Gelu": "gelu",
    "Silu": "silu",
    "Mish": "mish",
    "Softplus": "softplus",
    "Hardswish": "hardswish",
    "LeakyRelu": "leaky_relu",
    "Elu": "elu",
    "Hardtanh": "hardtanh",
    "Hardsigmoid": "hardsigmoid",
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
        nodes: Nodes on the way, nearest to the input first, when the way is a single chain.
        activations: Activation nodes, nearest first; not those that gate something.
        norms: Names of the norms on the way: "batch", "layer", ….
        skip: Whether two branches are added on the way.
        unknown: Whether there is something else: a product with other weights, a gate, a split.
    """

    parents: list[Call] = field(default_factory=list)
    nodes: list = field(default_factory=list)
    activations: list = field(default_factory=list)
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


def follow(node: object, ends: dict[object, Call]) -> Path:
    """Walk from a node toward the input until outputs of layers are met.

    Args:
        node: Where to start, the node that made a layer's input; may be None.
        ends: Nodes that made the outputs of layers.

    Returns:
        The path.
    """
    path, queue, seen = Path(), [(node, False)], set()
    if node is None:
        return path
    while queue:
        node, gated = queue.pop(0)
        if node in seen:
            continue
        seen.add(node)
        if node in ends:
            path.parents.append(ends[node])
            continue
        if len(seen) > _MOST:
            path.unknown = True
            break
        path.nodes.append(node)
        name = node.name()
        further = branches(node)
        kind = norm_kind(name)
        if kind:
            path.norms.append(kind)
        elif activation_name(node) and not gated:
            path.activations.append(node)
        elif any(product in name for product in PRODUCTS):
            path.unknown = True
        if len(further) > 1:
            if name.startswith(("Add", "Sub")):
                path.skip = True
            else:
                path.unknown = True
        gates = len(further) > 1 and name.startswith(("Mul", "Div"))
        queue += [(after, gated or gates) for after in further]
    return path


def branches(node: object) -> list:
    """Nodes further toward the input, without parameters and constants."""
    return [n for n, _ in node.next_functions if n is not None and "AccumulateGrad" not in n.name()]


def norm_kind(name: str) -> str | None:
    """The kind of norm a node is, "batch", "layer", "group", …, or None."""
    for norm in NORMS:
        if norm in name:
            return norm.lower().removesuffix("norm")
    return None


def activation_name(node: object) -> str | None:
    """Name of the activation a node differentiates, as in `cu.ACTIVATIONS` where it is there."""
    stem = node.name().split("Backward")[0]
    name = _ACTIVATIONS.get(stem)
    if name == "elu" and abs(getattr(node, "_saved_scale", 1.0) - 1.0) > 1e-6:
        return "selu"
    if name == "hardtanh" and getattr(node, "_saved_min_val", -1) == 0:
        return "relu6"
    return name


_PLUMBING = (
    *("View", "UnsafeView", "Reshape", "Squeeze", "Unsqueeze", "Transpose", "Permute", "T", "T0"),
    *("ToCopy", "Clone", "Alias", "Slice", "Select", "Expand", "NativeDropout", "Mul", "Div"),
    *("Add", "Sub", "Neg", "Mean", "Sum", "Cat", "Stack", "Split", "Chunk", "Unbind"),
)


def is_plumbing(node: object) -> bool:
    """Whether a node moves or scales numbers, so that no activation is hidden in it."""
    stem = node.name().split("Backward")[0]
    return (
        stem in _PLUMBING
        or "Pool" in stem
        or activation_name(node) is not None
        or norm_kind(stem) is not None
    )


def as_function(node: object) -> Callable[[Tensor], Tensor] | str | None:
    """The activation of a node for `cu.theory`: a name, or a function with its parameters."""
    name = activation_name(node)
    if name == "leaky_relu" and abs(node._saved_negative_slope - 0.01) > 1e-9:
        slope = float(node._saved_negative_slope)
        return lambda z: F.leaky_relu(z, slope)
    if name == "elu" and abs(node._saved_alpha - 1) > 1e-9:
        alpha = float(node._saved_alpha)
        return lambda z: F.elu(z, alpha)
    if name == "hardtanh":
        low, high = float(node._saved_min_val), float(node._saved_max_val)
        return lambda z: F.hardtanh(z, low, high)
    if name == "hardsigmoid":
        return F.hardsigmoid
    return None if name in ("prelu", "logsigmoid") else name


def slopes(node: object) -> Tensor | None:
    """φ′ at every entry: the activation's own backward, applied to ones."""
    try:
        meta = node._input_metadata[0]
        ones = torch.ones(tuple(meta.shape), dtype=meta.dtype, device=meta.device)
        found = node(ones)
    except (RuntimeError, AttributeError, IndexError, TypeError):
        return None
    found = found[0] if isinstance(found, tuple) else found
    return found.detach() if isinstance(found, Tensor) else None


def transmitted(path: Path, generator: torch.Generator) -> float:
    """Factor of the RMS of a random gradient along a chain, from the layer's input to its parent.

    J^T v for one vector v of random signs, through the nodes' own backward functions. E‖Jᵀv‖² =
    ‖J‖_F², and for elementwise activations the value is rms φ′ for every v.

    Returns:
        The factor, NaN where a node cannot be called.
    """
    if not path.nodes:
        return 1.0
    try:
        meta = path.nodes[0]._input_metadata[0]
        signs = torch.randint(0, 2, tuple(meta.shape), generator=generator) * 2 - 1
        value = signs.to(dtype=meta.dtype, device=meta.device)
        for node in path.nodes:
            rest = [None] * (len(node._input_metadata) - 1)
            found = node(value, *rest)
            found = found if isinstance(found, tuple) else (found,)
            onward = branches_with_index(node)
            value = found[onward]
        return rms(value.detach())
    except (RuntimeError, AttributeError, IndexError, TypeError, StopIteration):
        return math.nan


def branches_with_index(node: object) -> int:
    """Which of a node's gradients goes on toward the layers before."""
    return next(
        i
        for i, (n, _) in enumerate(node.next_functions)
        if n is not None and "AccumulateGrad" not in n.name()
    )


def walk(node: object) -> Iterator[object]:
    """Every node from `node` toward the input, each once."""
    queue, seen = [node], {node}
    while queue:
        node = queue.pop()
        yield node
        for after, _ in node.next_functions:
            if after is not None and after not in seen:
                seen.add(after)
                queue.append(after)


def reaches(node: object, target: object) -> bool:
    """Whether `target` lies on a way from `node` toward the input."""
    return node is not None and any(n is target for n in walk(node))


_CARRIES = ("View", "Reshape", "Unsqueeze", "Squeeze", "ToCopy", "Clone", "Transpose", "Permute")


def squashed_twice(loss_node: object) -> tuple[object, str] | None:
    """A softmax or sigmoid whose output goes into another one, with nothing in between.

    Returns:
        (the inner node, "softmax" or "sigmoid"), or None.
    """
    outer = ("LogSoftmax", "Softmax", "BinaryCrossEntropyWithLogits")
    for node in walk(loss_node):
        if not node.name().startswith(outer):
            continue
        inner = node.next_functions[0][0]
        while inner is not None and inner.name().startswith((*_CARRIES, "SafeSoftmax")):
            if not inner.name().startswith(_CARRIES):
                break
            inner = inner.next_functions[0][0]
        if inner is None:
            continue
        if inner.name().startswith(("SoftmaxBackward", "SafeSoftmax")):
            return inner, "softmax"
        if inner.name().startswith("SigmoidBackward"):
            return inner, "sigmoid"
    return None
