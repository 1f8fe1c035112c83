"""Recurrences without a matrix, `h = decay * h + x`: a product entry by entry at every step."""

import itertools
import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from ..measuring.torch_internals import Node, moment_of, saved_tensor
from .bare_weights import in_order, watch
from .graph import PRODUCTS, activation_name, inputs_of, slopes, stem, users_of, walk
from .layer_calls import BareWeight, LayerCall

OFTEN = 4
"""A product that follows on itself so often is a recurrence."""

_NEAR = 8  # nodes from one step to the last
_CARRIES = ("Add", "Sub", "Neg", "Mul", "Div", "View", "Unsqueeze", "Squeeze", "Clone", "ToCopy")


def with_decays(model: nn.Module, root: Node | None, calls: list[LayerCall]) -> list[LayerCall]:
    """The calls, with those products by a parameter that carry a state from step to step.

    Without such products the calls come back as they are. Of a decay that is computed from its
    parameter (a sigmoid, an exponential) the products with what comes out count.

    Args:
        model: The model that ran.
        root: Autograd node of the loss.
        calls: Calls of all layers.
    """
    names = {
        id(parameter): f"{name}.{last}" if name else last
        for name, module in model.named_modules()
        if not type(module).__module__.startswith("torch.")
        or isinstance(module, nn.ParameterList | nn.ParameterDict)
        for last, parameter in module.named_parameters(recurse=False)
        if parameter.requires_grad
    }
    if not names or root is None:
        return calls
    nodes = list(walk(root))
    leaves = [node for node in nodes if id(getattr(node, "variable", None)) in names]
    consumers = users_of(nodes) if leaves else {}
    found = []
    for leaf in leaves:
        uses = dict(_products(leaf, consumers))
        chain = _chain(uses) if len(uses) >= OFTEN else []
        weight = BareWeight(leaf.variable)  # type: ignore[attr-defined]  # of AccumulateGrad
        for count, product in enumerate(chain, 1):
            name = names[id(leaf.variable)] + (f"#{count}" if count > 1 else "")  # type: ignore[attr-defined]
            call = LayerCall(name, weight, out_node=product)
            watch(call, product, uses[product])
            found.append(call)
    return in_order(calls, found) if found else calls


def _products(leaf: Node, consumers: dict[Node, list[Node]]) -> Iterable[tuple[Node, Node]]:
    """Products of what comes of a parameter alone with something else, and where it enters."""
    queue, seen = [leaf], {leaf}
    while queue:
        node = queue.pop()
        for user in consumers.get(node, []):
            if len(inputs_of(user)) == 1 and user not in seen:
                seen.add(user)
                queue.append(user)
            elif len(inputs_of(user)) == 2 and stem(user) == "Mul":
                yield user, node


def _chain(uses: dict[Node, Node]) -> list[Node]:
    """The longest chain of products each of which takes what came of the last, first one first."""
    before: dict[Node, Node] = {}
    for product, source in uses.items():
        others = [node for node in inputs_of(product) if node is not source]
        last = _step_before(others[0], uses) if len(others) == 1 else None
        if last is not None:
            before[product] = last
    chain: list[Node] = []
    node = max(before, key=moment_of, default=None)
    while node is not None and node in before:
        chain.append(node)
        node = before[node]
    return chain[::-1] if len(chain) >= OFTEN else []


def _step_before(node: Node, uses: dict[Node, Node]) -> Node | None:
    """The product of the step before, if sums and activations alone lie between."""
    queue, count = [node], 0
    while queue and count < _NEAR:
        node, count = queue.pop(0), count + 1
        if node in uses:
            return node
        if stem(node) in _CARRIES or activation_name(node):
            queue += [
                after
                for after in inputs_of(node)
                if not any(product in after.name() for product in PRODUCTS)
            ]
    return None


def kept_per_step(calls: list[LayerCall], nodes: Iterable[Node]) -> tuple[float, str]:
    """What the units keep of their state per step, and a sentence on it.

    Args:
        calls: The steps.
        nodes: Activations between them.
    """
    weight, product = calls[-1].module.weight, calls[-1].out_node
    sides = [] if product is None else [saved_tensor(product, n) for n in ("self", "other")]
    factors = [s.detach() for s in sides if s is not None and s.numel() == weight.numel()]
    if len(factors) != 1 or not factors[0].numel():
        return math.nan, "Each step multiplies the state by the same numbers, entry by entry."
    sizes = factors[0].double().abs().flatten()
    named = list(itertools.islice(nodes, 1))
    slope: Tensor | None = slopes(named[0]) if named else None
    each = torch.ones_like(sizes)
    if slope is not None and slope.shape[-1] == len(sizes):
        each = slope.double().square().flatten(0, -2).mean(0).sqrt()
    low, high = f"{float(sizes.min()):.3g}", f"{float(sizes.max()):.3g}"
    span = high if low == high else f"{low} … {high}"
    text = f"Each step multiplies the state by {span}, entry by entry"
    if named:
        text += f", and by the slope of {activation_name(named[0])}, rms up to "
        text += f"{float(each.max()):.3g}"
    return float((sizes * each).max()), f"{text}."
