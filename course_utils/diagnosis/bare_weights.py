"""Weights in a model's own code, `h @ self.U`: products that no hook on a module sees."""

import itertools
import math

from torch import Tensor, nn

from ..measuring import has_weight, is_layer
from ..measuring.torch_internals import Node, moment_of
from .graph import PRODUCTS, stem, users_of, walk
from .layer_calls import BareWeight, LayerCall, rms

_FORMED = ("T", "Transpose", "Permute", "View", "Reshape", "UnsafeView", "Unsqueeze", "Squeeze")
_NEAR = 12  # nodes from the output of a layer to its product
OFTEN = 4
"""A module called so often is watched as a whole: its calls are the steps of a recurrence."""


def with_bare_products(
    model: nn.Module, root: Node | None, calls: list[LayerCall]
) -> list[LayerCall]:
    """Calls for all layers, in forward order, with a product by a bare weight as one of them.

    Without such weights the calls come back as they are. Hooks on the nodes of the graph measure
    the gradient at both sides of each product; they go with the graph.

    Args:
        model: The model that ran.
        root: Autograd node of the loss.
        calls: What the hooks on modules have seen.

    Returns:
        The calls. A module that is replaced by the products in it has none any more.
    """
    weights, replaced = _weights(model, calls)
    products = _products(root, weights) if weights and root is not None else []
    if not products:
        return calls
    kept = [call for call in calls if call.module not in replaced]
    return in_order(kept, products)


def in_order(calls: list[LayerCall], products: list[LayerCall]) -> list[LayerCall]:
    """Calls and products in forward order; frozen layers on data, which no node tells, included."""
    moments: dict[LayerCall, float] = {call: _made(call) for call in products}
    later = math.inf
    for call in reversed(calls):
        later = _made(call) if call.out_node is not None else later
        moments[call] = later
    return sorted([*calls, *products], key=lambda call: moments[call])


def _weights(
    model: nn.Module, calls: list[LayerCall]
) -> tuple[dict[int, tuple[str, BareWeight]], set]:
    """Bare weights by the id of the parameter, and modules whose own call they replace."""
    weights: dict[int, tuple[str, BareWeight]] = {}
    replaced: set[nn.Module] = set()
    containers = (nn.ParameterList, nn.ParameterDict)
    for name, module in model.named_modules():
        stock = type(module).__module__.startswith("torch.") and not isinstance(module, containers)
        if stock or "parametrizations" in name.split("."):
            continue
        own = {n: p for n, p in module.named_parameters(recurse=False) if p.dim() >= 2}
        if is_layer(name, module) and has_weight(module) and not isinstance(module, containers):
            if len(own) < 2 or sum(call.module is module for call in calls) >= OFTEN:
                continue
            replaced.add(module)
        for last, parameter in own.items():
            full = f"{name}.{last}" if name else last
            weights.setdefault(id(parameter), (full, BareWeight(parameter)))
    return weights, replaced


def _products(root: Node, weights: dict[int, tuple[str, BareWeight]]) -> list[LayerCall]:
    nodes = list(walk(root))
    named = ((node, weights.get(id(getattr(node, "variable", None)))) for node in nodes)
    leaves = [(node, *weight) for node, weight in named if weight is not None]
    consumers = users_of(nodes) if leaves else {}
    products = []
    for leaf, name, weight in leaves:
        for product, source in _uses(leaf, consumers):
            call = LayerCall(name, weight, out_node=product)
            watch(call, product, source)
            products.append(call)
    products.sort(key=_made)
    counts: dict[str, int] = {}
    for call in products:
        counts[call.name] = count = counts.get(call.name, 0) + 1
        call.name += f"#{count}" if count > 1 else ""
    return products


def _made(call: LayerCall) -> float:
    """When in the forward pass a call's output was made."""
    return math.inf if call.out_node is None else moment_of(call.out_node)


def _uses(leaf: Node, consumers: dict[Node, list[Node]]) -> list[tuple[Node, Node]]:
    """Products with this weight as a factor, and the node through which it arrives there."""
    uses, queue = [], [leaf]
    while queue:
        node = queue.pop()
        for user in consumers.get(node, []):
            if any(product in user.name() for product in PRODUCTS):
                uses.append((user, node))
            elif stem(user) in _FORMED:
                queue.append(user)
    return uses


def unit_axis(call: LayerCall, weight: Tensor) -> int | None:
    """The axis of a matrix along which its units lie: 1 in x @ W, 0 in x @ W.T and W @ x.

    Args:
        call: A layer in whose own code the product stands.
        weight: The matrix.

    Returns:
        The axis; None where no product of two matrices with it is near.
    """
    if call.out_node is None or weight.dim() != 2:
        return None
    for product in itertools.islice(walk(call.out_node), _NEAR):
        factors = product.next_functions if stem(product) in ("Mm", "Addmm") else ()
        for place, (node, _) in enumerate(factors):
            flips = 0
            while node is not None and stem(node) in ("T", "Transpose", "Permute"):
                flips, node = flips + 1, node.next_functions[0][0]
            if getattr(node, "variable", None) is weight:
                return int(place == len(factors) - 1) ^ flips % 2
    return None


def watch(call: LayerCall, product: Node, source: Node) -> None:
    """Measure both sides of a product while the backward pass goes through it."""
    others = [
        (i, node)
        for i, (node, _) in enumerate(product.next_functions)
        if node is not None and node is not source and getattr(node, "variable", None) is None
    ]
    other, call.in_node = others[0] if others else (None, None)

    def hook(grads_in: tuple, grads_out: tuple) -> None:
        if call.arrived or not isinstance(grads_out[0], Tensor):
            return
        call.arrived.add("grad_out")
        call.grad_out = rms(grads_out[0].detach())
        if other is not None and isinstance(grads_in[other], Tensor):
            grad = grads_in[other]
            call.in_shape, call.grad_in = tuple(grad.shape), rms(grad.detach())

    product.register_hook(hook)
