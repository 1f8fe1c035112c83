"""Weights in a model's own code, `h @ self.U`: products that no hook on a module sees."""

import math

from torch import Tensor, nn

from ..measuring import has_weight, is_layer
from .graph import PRODUCTS, walk
from .probe import Bare, Call, rms

_FORMED = ("T", "Transpose", "Permute", "View", "Reshape", "UnsafeView", "Unsqueeze", "Squeeze")
OFTEN = 4
"""A module called so often is watched as a whole: its calls are the steps of a recurrence."""


def bare_products(model: nn.Module, root: object, calls: list[Call]) -> list[Call]:
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
    if not weights or root is None:
        return calls
    found = _products(root, weights)
    if not found:
        return calls
    kept = [call for call in calls if call.module not in replaced]
    return sorted(kept + found, key=lambda call: _moment(call.out_node))


def _weights(model: nn.Module, calls: list[Call]) -> tuple[dict[int, tuple[str, Bare]], set]:
    """Bare weights by the id of the parameter, and modules whose own call they replace."""
    weights: dict[int, tuple[str, Bare]] = {}
    replaced = set()
    for name, module in model.named_modules():
        containers = nn.ParameterList | nn.ParameterDict
        stock = type(module).__module__.startswith("torch.") and not isinstance(module, containers)
        if stock or "parametrizations" in name.split("."):
            continue
        own = {n: p for n, p in module._parameters.items() if p is not None and p.dim() >= 2}
        if is_layer(name, module) and has_weight(module) and not isinstance(module, containers):
            if len(own) < 2 or sum(call.module is module for call in calls) >= OFTEN:
                continue
            replaced.add(module)
        for last, parameter in own.items():
            full = f"{name}.{last}" if name else last
            weights.setdefault(id(parameter), (full, Bare(parameter)))
    return weights, replaced


def _products(root: object, weights: dict[int, tuple[str, Bare]]) -> list[Call]:
    consumers: dict[object, list] = {}
    ends = []
    for node in walk(root):
        for after, _ in node.next_functions:
            if after is not None:
                consumers.setdefault(after, []).append(node)
        if id(getattr(node, "variable", None)) in weights:
            ends.append(node)
    found = []
    for end in ends:
        name, bare = weights[id(end.variable)]
        for product, source in sorted(_uses(end, consumers), key=lambda use: _moment(use[0])):
            call = Call(name, bare, in_node=None, out_node=product)
            _watch(call, product, source)
            found.append(call)
    found.sort(key=lambda call: _moment(call.out_node))
    counts: dict[str, int] = {}
    for call in found:
        counts[call.name] = count = counts.get(call.name, 0) + 1
        call.name += f"#{count}" if count > 1 else ""
    return found


def _uses(end: object, consumers: dict[object, list]) -> list[tuple[object, object]]:
    """Products with this weight as a factor, and the node through which it arrives there."""
    uses, queue = [], [end]
    while queue:
        node = queue.pop()
        for user in consumers.get(node, []):
            stem = user.name().split("Backward")[0]
            if any(product in user.name() for product in PRODUCTS):
                uses.append((user, node))
            elif stem in _FORMED:
                queue.append(user)
    return uses


def _watch(call: Call, product: object, source: object) -> None:
    """Measure both sides of a product while the backward pass goes through it."""
    others = [
        (i, node)
        for i, (node, _) in enumerate(product.next_functions)
        if node is not None and node is not source and getattr(node, "variable", None) is None
    ]
    other, call.in_node = others[0] if others else (None, None)

    def hook(grads_in: tuple, grads_out: tuple) -> None:
        if call.arrived_out or not isinstance(grads_out[0], Tensor):
            return
        call.arrived_out = True
        call.out_shape, call.grad_out = tuple(grads_out[0].shape), rms(grads_out[0].detach())
        if other is not None and isinstance(grads_in[other], Tensor):
            grad = grads_in[other]
            call.arrived_in = True
            call.in_shape, call.grad_in = tuple(grad.shape), rms(grad.detach())

    product.register_hook(hook)


def _moment(node: object) -> float:
    """When in the forward pass a node was made."""
    try:
        return float(node._sequence_nr())
    except (AttributeError, RuntimeError):
        return math.inf
