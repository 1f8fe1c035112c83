"""Which layers stand beside the way that the depth is counted along."""

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations, permutations

from ..measuring.torch_internals import Node, outputs_of
from .graph import Path, inputs_of, is_plumbing, stem
from .layer_calls import LayerCall

_SHORT = 3
"""Layers of a branch that is no depth of its own: a bottleneck has three."""


def beside(
    calls: Sequence[LayerCall], paths: Mapping[LayerCall, Path], last: Iterable[Path]
) -> set[LayerCall]:
    """Layers of a product or a bottleneck that is added to fewer layers which read the same.

    Such as the two matrices of a low-rank adapter beside a layer: the gradient goes past them. A
    branch around an identity counts: of such branches the depth of a residual network consists;
    but not around the data themselves, which carry no gradient to compare with.

    Args:
        calls: All layers.
        paths: What stands before each layer.
        last: What stands behind the last layers.
    """

    def way(call: LayerCall) -> list[LayerCall]:
        calls = [call]
        while len(calls) < _SHORT and len(before := read(calls[-1])) == 1:
            calls += before
        return calls

    def read(call: LayerCall) -> frozenset[LayerCall]:
        return frozenset(paths[call].parents if call in paths else ())

    found: set[LayerCall] = set()
    frozen = {call.in_shape for call in calls if call.out_node is None}  # layers that read data
    for path in (*paths.values(), *last):
        if len(path.parents) == 1 and any(map(_adds_a_constant, path.nodes)):
            (branch,) = map(way, path.parents)
            node, first = branch[0].out_node, branch[-1]
            around = node is not None and tuple(outputs_of(node)[0].shape) == first.in_shape
            to_data = (around or first.in_shape in frozen) and not read(first)
            if len(branch) > 1 and to_data and _is_aside(branch, paths):
                found.update(branch)
        added = [parent for parent in path.parents if parent not in path.gated]
        ways = [way(parent) for parent in added] if path.skip else []
        for short, long in permutations(ways, 2):
            for i, j in combinations(range(len(long)), 2):
                branch, other = long[: j + 1], short[: i + 1]
                same = i < len(short) and read(branch[-1]) == read(other[-1])
                if same and set(branch).isdisjoint(other) and _is_aside(branch, paths):
                    found.update(branch)
    return found


def _adds_a_constant(node: Node) -> bool:
    return stem(node) == "Add" and any(after is None for after, _ in node.next_functions)


def _is_aside(branch: Sequence[LayerCall], paths: Mapping[LayerCall, Path]) -> bool:
    """Whether layers, the last one first, are one matrix in factors, or narrow between the ends."""
    if not any(paths[call].activations for call in branch[:-1]):
        return True
    node = branch[0].out_node
    *inside, first = (math.prod(call.in_shape) for call in branch)
    return node is not None and max(inside) <= min(first, math.prod(outputs_of(node)[0].shape))


def in_branches(
    paths: Mapping[LayerCall, Path], places: Mapping[LayerCall, int], nodes: Iterable[Node]
) -> set[LayerCall]:
    """Layers inside a residual branch whose input is not what the skip carries too.

    The gradient there is that of the branch alone, which may be as small as the branch is.

    Args:
        paths: What stands before each layer.
        places: Place of each layer in the depth.
        nodes: Nodes of the graph below the output.
    """
    ends = set()
    for path in paths.values():
        if path.skip:
            first = min((places[parent] for parent in path.parents), default=0)
            ends |= {parent for parent in path.parents if places[parent] > first}
    inside, queue = set(ends), list(ends)
    while queue:
        path = paths.get(queue.pop(), Path())
        if not path.skip and len(path.parents) == 1 and path.parents[0] not in inside:
            inside.add(path.parents[0])
            queue.append(path.parents[0])
    added = _added(nodes)
    return {call for call in inside if call.in_node not in added}


def _added(nodes: Iterable[Node]) -> set[Node]:
    """Nodes whose result is added to another, as it is or times a constant."""
    found = set()
    for node in nodes:
        ways = inputs_of(node)
        if stem(node) != "Add" or len(ways) != 2:
            continue
        for way in ways:
            found.add(way)
            onward = inputs_of(way)
            if is_plumbing(way) and stem(way) in ("Mul", "NativeDropout") and len(onward) == 1:
                found.add(onward[0])
    return found
