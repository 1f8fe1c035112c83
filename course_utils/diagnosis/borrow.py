"""Borrow a model: run it, and give it back as it was."""

import contextlib
import copy
import random
from collections.abc import Iterator

import numpy as np
import torch
from torch import nn


@contextlib.contextmanager
def borrowed(model: nn.Module) -> Iterator[None]:
    """Inside the block the model may run in any mode; afterwards nothing of it has changed.

    Put back: training flags of every module, buffers (running statistics, and the very tensor
    objects), the momentum of batch norms, `.grad` of every parameter, and the random states of
    torch (CPU and every GPU in use), Python and NumPy. Gradients are enabled inside.

    Args:
        model: Any module.

    Yields:
        None.
    """
    modules = list(model.modules())
    modes = [module.training for module in modules]
    buffers = [
        (module, name, buffer, None if buffer is None else buffer.detach().clone())
        for module in modules
        for name, buffer in module._buffers.items()
    ]
    norms = [m for m in modules if isinstance(m, nn.modules.batchnorm._NormBase)]
    momenta = [norm.momentum for norm in norms]
    grads = [(parameter, parameter.grad) for parameter in model.parameters()]
    with _random_states(), torch.inference_mode(False), torch.enable_grad():
        try:
            yield
        finally:
            for module, mode in zip(modules, modes, strict=True):
                module.training = mode
            for norm, momentum in zip(norms, momenta, strict=True):
                norm.momentum = momentum
            with torch.no_grad():
                for module, name, buffer, value in buffers:
                    if buffer is not None and not torch.equal(buffer, value):
                        buffer.copy_(value)
                    module._buffers[name] = buffer
                for parameter, grad in grads:
                    if parameter.grad is not grad:
                        parameter.grad = grad


def runnable(model: nn.Module) -> nn.Module:
    """The model itself, or a copy where running it would give its lazy layers their shapes."""
    lazy = any(isinstance(p, nn.parameter.UninitializedParameter) for p in model.parameters())
    return copy.deepcopy(model) if lazy else model


@contextlib.contextmanager
def _random_states() -> Iterator[None]:
    python, numpy, cpu = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002
    gpus = torch.cuda.is_available() and torch.cuda.is_initialized()
    on_gpus = torch.cuda.get_rng_state_all() if gpus else None
    on_mps = torch.mps.get_rng_state() if torch.backends.mps.is_available() else None
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)  # noqa: NPY002
        torch.set_rng_state(cpu)
        if on_gpus is not None:
            torch.cuda.set_rng_state_all(on_gpus)
        if on_mps is not None:
            torch.mps.set_rng_state(on_mps)
