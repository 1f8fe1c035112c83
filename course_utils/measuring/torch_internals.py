"""Every name of torch that is not documented, with what happens where it is missing.

None of them has a public twin that does the same. A version of torch that lacks one fails here, at
import, and says so; `tests/measuring/test_torch_internals.py` looks at each.
"""

import torch
from torch import Tensor
from torch.nn.modules.loss import _Loss as LossModule
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map

__all__ = [
    "LossModule",
    "TorchDispatchMode",
    "backward_hooks",
    "current_backward",
    "foreach_copy_",
    "foreach_norm",
    "foreach_sub_",
    "is_functorch_wrapped",
    "queue_callback",
    "sequence_number",
    "set_grad_enabled",
    "tree_map",
    "will_execute",
]

try:
    # Number of the backward pass this thread is in, -1 outside of one.
    current_backward = torch._C._current_graph_task_id
    # torch.set_grad_enabled without its context manager, which costs more than the switch.
    set_grad_enabled = torch._C._set_grad_enabled
    # Whether a tensor stands for a batch of them under vmap, or for a traced one.
    is_functorch_wrapped = torch._C._functorch.is_functorch_wrapped_tensor
    # Whether the backward pass that is running will run this node.
    will_execute = torch._C._will_engine_execute_node
    # Calls a function when the backward pass that is running has ended.
    queue_callback = torch.autograd.Variable._execution_engine.queue_callback
    # Number that the next node of the graph gets; nodes made inside a module lie between two.
    sequence_number = torch.autograd._get_sequence_nr
    # The same operation on a list of tensors in one call.
    foreach_norm = torch._foreach_norm
    foreach_copy_ = torch._foreach_copy_
    foreach_sub_ = torch._foreach_sub_
except AttributeError as missing:
    raise ImportError(
        f"torch {torch.__version__} has no {missing.name}: install a version that pyproject.toml "
        "names."
    ) from missing


def backward_hooks(tensor: Tensor) -> dict | None:
    """The dict of hooks on a tensor's gradient, None before the first.

    `Tensor.register_hook` writes into it; a hook put there costs no handle.
    """
    return tensor._backward_hooks
