"""Which layers read what only a residual branch carries, beside the skip."""

from collections.abc import Iterable, Mapping

from ..measuring.torch_internals import Node
from .graph import Path, is_plumbing, stem
from .layer_calls import LayerCall


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
        ways = [after for after, _ in node.next_functions if after is not None]
        if stem(node) != "Add" or len(ways) != 2:
            continue
        for way in ways:
            found.add(way)
            onward = [after for after, _ in way.next_functions if after is not None]
            if is_plumbing(way) and stem(way) in ("Mul", "NativeDropout") and len(onward) == 1:
                found.add(onward[0])
    return found
