"""What an operation was given, and what that was made by."""

from typing import Any

from torch import Tensor

from ...measuring import tensors_in
from ...measuring.torch_internals import Node
from ..graph import stem
from ..nonfinite import Origin


def operands(origin: Origin) -> list[Tensor]:
    """Floating tensors that the operation was given."""
    return [tensor for _, tensor in tensors_in(list(origin.args))]


def wide(value: Any) -> Any:
    """The same arguments in float64."""
    if isinstance(value, Tensor):
        return value.detach().double() if value.is_floating_point() else value
    if isinstance(value, dict):
        return {key: wide(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return type(value)(wide(item) for item in value)
    return value


_STOPS = 60


_WALKED = {
    *("Sum", "Mean", "Mul", "Add", "Sub", "Rsub", "Neg", "Div", "Pow", "Sqrt", "Clamp", "ClampMin"),
    *("ClampMax", "Gather", "Index", "IndexSelect", "Select", "Slice", "View", "UnsafeView"),
    *("Reshape", "Squeeze", "Unsqueeze", "Expand", "Transpose", "Permute", "T", "Cat", "Stack"),
    *("ToCopy", "Clone", "Amax", "Max", "Maximum", "Minimum", "Where", "MaskedFill", "Split"),
}


def made_by(start: Node | None) -> tuple[set[str], set[str]]:
    """Operations that the output of a node goes back to, and the sums and products on the way."""
    ends: set[str] = set()
    ways: set[str] = set()
    queue = [start]
    seen: set[Node] = set()
    while queue and len(seen) < _STOPS:
        node = queue.pop(0)
        if node is None or node in seen:
            continue
        seen.add(node)
        name = stem(node)
        if name not in _WALKED:
            ends.add(name)
            continue
        ways.add(name)
        queue += [after for after, _ in node.next_functions]
    return ends, ways
