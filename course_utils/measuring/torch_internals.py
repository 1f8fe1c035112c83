"""Every name of torch that is not documented, with what happens where it is missing.

None of them has a public twin that does the same. A version of torch that lacks one fails here, at
import, and says so; `tests/measuring/test_torch_internals.py` looks at each.
"""

import sys
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import Node
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map as tree_map

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


def hang(tensor: Tensor, hook: Callable[[Tensor | None], None]) -> tuple[dict, object]:
    """Have `hook` called with the gradient of a tensor.

    This is `Tensor.register_hook` without its handle, which costs more than the rest: the graph of
    a tensor that is no leaf dies with the step and takes the hook along.

    Returns:
        The dict that holds the hook, and its key there, to take it off.
    """
    if tensor.is_leaf:
        handle = tensor.register_hook(hook)
        return handle.hooks_dict_ref() or {}, handle.id
    hooks: Any = tensor._backward_hooks
    if hooks is None:
        tensor._backward_hooks = hooks = OrderedDict()
        node: Any = tensor.grad_fn
        node._register_hook_dict(tensor)
    hooks[hook] = hook
    return hooks, hook


def uncompiled(model: nn.Module) -> nn.Module:
    """The model that torch.compile wrapped, or the model itself."""
    return getattr(model, "_orig_mod", model)


def is_compiled(model: nn.Module) -> bool:
    """Whether the model, or a module in it, goes through torch.compile."""
    frames = sys.modules.get("torch._dynamo.eval_frame")
    wrapper = getattr(frames, "OptimizedModule", ())
    return any(
        isinstance(module, wrapper) or getattr(module, "_compiled_call_impl", None) is not None
        for module in model.modules()
    )


# Kinds of modules, and what the graph keeps.

LossModule = nn.modules.loss._Loss
BatchNorms = nn.modules.batchnorm._BatchNorm
RunningNorms = nn.modules.batchnorm._NormBase  # those and instance norms
Dropouts = nn.modules.dropout._DropoutNd
Pools = (nn.modules.pooling._MaxPoolNd, nn.modules.pooling._AvgPoolNd)


class OperationWatcher(TorchDispatchMode):
    """Base of a mode whose `__torch_dispatch__` sees every operation."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """False: the wrapper imports torch._dynamo, two seconds, and serves compiled code only."""
        return False


def own_buffers(module: nn.Module) -> dict[str, Tensor | None]:
    """The dict of buffers of a module without its children; who writes into it replaces them."""
    return module._buffers


def child_modules(module: nn.Module) -> dict[str, nn.Module | None]:
    """The dict of the modules that a module holds itself."""
    return module._modules


def own_parameters(module: nn.Module) -> dict[str, nn.Parameter | None]:
    """The dict of parameters of a module without its children."""
    return module._parameters


def after_accumulation(parameter: Tensor) -> dict | None:
    """What `register_post_accumulate_grad_hook` has hung on a parameter; None if nothing."""
    return getattr(parameter, "_post_accumulate_grad_hooks", None) or None


def outputs_of(node: Node) -> Sequence[Any]:
    """Shape, dtype and device of each tensor whose gradient a node of the graph takes."""
    return node._input_metadata


def moment_of(node: Node) -> int:
    """When in the forward pass a node was made; counts up."""
    return node._sequence_nr()


def saved_tensor(node: Node, name: str) -> Tensor | None:
    """A tensor that the operation kept for its backward pass; None where it kept none."""
    try:
        value = getattr(node, f"_saved_{name}", None)
    except RuntimeError:  # freed, or changed in place since
        return None
    return value if isinstance(value, Tensor) else None


def saved_input(product: Node) -> Tensor | None:
    """What a linear or convolution kept of its input to have the gradient of its weight.

    None where it kept nothing (a frozen weight), or something that was changed in place since.
    """
    values = (saved_tensor(product, name) for name in ("mat1", "self", "input"))
    return next((value for value in values if value is not None), None)


def saved(node: Node, name: str, default: float) -> float:
    """A number that the operation kept for its backward pass, such as the slope of a LeakyReLU."""
    return float(getattr(node, f"_saved_{name}", default))


def kept(node: Node, name: str) -> Any:
    """What an operation kept for its backward pass under this name; None if it kept no such thing.

    Raises:
        RuntimeError: If the graph has been freed.
    """
    return getattr(node, f"_saved_{name}", None)


def saved_text(node: Node, name: str) -> str:
    """A word that the operation kept, such as how a division rounds."""
    value = getattr(node, f"_saved_{name}", "")
    return value if isinstance(value, str) else ""


def saved_dimension(node: Node) -> int:
    """The dimension an operation runs along, negative where it counts from the end."""
    dim = int(getattr(node, "_saved_dim", -1))
    return dim - 2**64 if dim >= 2**63 else dim


def saved_dimensions(node: Node) -> tuple[int, ...]:
    """The dimensions a reduction runs along, negative where they count from the end."""
    dims = getattr(node, "_saved_dim", ())
    dims = dims if isinstance(dims, tuple | list) else (dims,)
    return tuple(dim - 2**64 if dim >= 2**63 else dim for dim in map(int, dims))


def saved_number(node: Node, name: str) -> float | None:
    """A number, or a tensor of one, that the operation kept; None where it kept none."""
    value = getattr(node, f"_saved_{name}", None)
    if isinstance(value, Tensor):
        return float(value) if value.numel() == 1 else None
    return None if value is None else float(value)


def saved_tensors(node: Node) -> dict[str, Tensor]:
    """Floating tensors that the operation kept for its backward pass, by name.

    Those that were written to since, or that hooks have packed away and cannot give back, are
    left out.
    """
    tensors = {}
    for name in dir(node):
        if name.startswith("_saved_"):
            try:
                value = getattr(node, name)
            except RuntimeError:
                continue
            if isinstance(value, Tensor) and value.is_floating_point():
                tensors[name.removeprefix("_saved_")] = value.detach()
    return tensors
