"""Where the first NaN or Inf of a network arose."""

from typing import Any

import torch
from torch import Tensor, nn

from ..measuring import tensors_in


def first_nonfinite_output(model: nn.Module, x: Tensor) -> tuple[str, str]:
    """Layer whose output holds the first NaN or Inf in a second forward pass, and advice."""
    found: list[str] = []
    names = {module: name or "the model" for name, module in model.named_modules()}

    def look(module: nn.Module, _inputs: Any, output: Any) -> None:
        if not found and not all(t.isfinite().all() for _, t in tensors_in(output)):
            found.append(names[module])

    buffers = {buffer: buffer.clone() for buffer in model.buffers()}
    hooks = [module.register_forward_hook(look) for module in model.modules()]
    devices = [x.device] if x.device.type == "cuda" else []
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=devices):
            if x.is_floating_point() and not x.isfinite().all():
                return "input", "The batch x itself holds NaN or Inf: clean the data."
            model(x)
    finally:
        for hook in hooks:
            hook.remove()
        with torch.no_grad():
            for buffer, value in buffers.items():
                buffer.copy_(value)
    if not found:
        return "loss", "All layers are finite, the loss is not: look at the loss function and y."
    layer = dict(model.named_modules()).get(found[0], model)
    weights = [p for p in layer.parameters(recurse=False) if not p.isfinite().all()]
    cause = ", whose weights were blown up by the step before" if weights else ""
    return (
        found[0],
        f"The first NaN or Inf is in the output of {found[0]}{cause}. Try a smaller lr, clip=1.0, "
        "or smaller first weights.",
    )


def first_nonfinite_gradient(model: nn.Module) -> tuple[str, str]:
    """Layer nearest to the loss whose weights have a gradient with NaN or Inf, and advice."""
    for name, parameter in reversed(list(model.named_parameters())):
        if parameter.grad is not None and not parameter.grad.isfinite().all():
            layer = name.rpartition(".")[0] or "the model"
            return (
                layer,
                f"On the way back it arose first in {layer}; the weights are as they were before "
                "this step. Try smaller first weights, or look for a division or a root of 0.",
            )
    return "the model", "No single gradient holds one: their squares overflow float64."
