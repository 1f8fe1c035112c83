"""Tell a forward pass from its repetition under activation checkpointing.

Both kinds of `torch.utils.checkpoint` call a module twice. The non-reentrant kind builds the
graph in the first call and throws its tensors away; the call during the backward pass only
restores them. The reentrant kind runs the first call without a graph, and the graph that
gradients flow through is built in the second call, during the backward pass. So the first
call counts in one kind and the second in the other.
"""

import sys
from types import FrameType

from ..measuring.torch_internals import current_backward

_FIRST = "CheckpointFunction.forward"
_SECOND = "CheckpointFunction.backward"


def _innermost(names: tuple[str, ...]) -> str | None:
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        qualified = frame.f_code.co_qualname
        for name in names:
            if qualified.endswith(name):
                return name
        frame = frame.f_back
    return None


def in_backward() -> bool:
    """Whether this thread is inside a backward pass."""
    return current_backward() != -1


def first_of_two() -> bool:
    """Whether a call without gradients is the first one of a reentrant checkpoint."""
    return _innermost((_FIRST,)) is not None


def builds_the_graph() -> bool:
    """Whether a call during a backward pass is the second one of a reentrant checkpoint."""
    return _innermost((_SECOND, "unpack_hook")) == _SECOND
