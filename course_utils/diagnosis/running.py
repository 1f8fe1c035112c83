"""Run a model that is not ours: borrow it, give it back as it was, and say whose an error is."""

import contextlib
import copy
import random
import warnings
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from ..measuring import torch_internals
from .batch import Batch, Loss, evaluate


@contextlib.contextmanager
def borrowed(model: nn.Module) -> Iterator[None]:
    """Inside the block the model may run in any mode; afterwards nothing of it has changed.

    Wrappers that spread a model over processes or devices hand their call on to it alone, so that
    a pass on one rank waits for nobody.

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
        for name, buffer in torch_internals.own_buffers(module).items()
    ]
    norms = [m for m in modules if isinstance(m, torch_internals.RunningNorms)]
    momenta = [norm.momentum for norm in norms]
    grads = [(parameter, parameter.grad) for parameter in model.parameters()]
    with _random_states(), _alone(modules), torch.inference_mode(False), torch.enable_grad():
        try:
            yield
        finally:
            for module, mode in zip(modules, modes, strict=True):
                module.training = mode
            for norm, momentum in zip(norms, momenta, strict=True):
                norm.momentum = momentum
            with torch.no_grad():
                for module, name, buffer, value in buffers:
                    if buffer is not None and value is not None and not torch.equal(buffer, value):
                        buffer.copy_(value)
                    torch_internals.own_buffers(module)[name] = buffer
                for parameter, grad in grads:
                    if parameter.grad is not grad:
                        parameter.grad = grad


def to_training(model: nn.Module) -> None:
    """Training mode, in which the running statistics of norms become those of the next batch."""
    if not model.training:
        model.train()
    for module in model.modules():
        if isinstance(module, torch_internals.BatchNorms):
            module.momentum = 1.0


def runnable(model: nn.Module) -> nn.Module:
    """The model itself, or a copy where running it would give its lazy layers their shapes."""
    lazy = any(isinstance(p, nn.parameter.UninitializedParameter) for p in model.parameters())
    return copy.deepcopy(model) if lazy else model


def run(model: nn.Module, batch: Batch) -> object:
    """Call the model, or its `training_step`, with what the batch has for it."""
    if batch.by_step:
        return model.training_step(*batch.args, 0)  # type: ignore[operator]  # a LightningModule
    return model(*batch.args, **batch.kwargs)


@contextlib.contextmanager
def explained(what: str, model: nn.Module, batch: Batch) -> Iterator[None]:
    """Let an error of the model pass as it is, with a note on what was being done."""
    try:
        yield
    except Exception as error:
        shapes = ", ".join(f"{tuple(t.shape)} {t.dtype} on {t.device}" for t in batch.tensors())
        error.add_note(
            f"This error comes from {what} {type(model).__name__}, which was run with "
            f"{shapes or 'no tensor'}."
        )
        raise


@contextlib.contextmanager
def tried_outside(model: nn.Module, batch: Batch, loss: Loss) -> Iterator[None]:
    """If model or loss raises in the block, note whether it does so too without any hook."""
    try:
        yield
    except Exception as error:
        if not getattr(error, "__notes__", ()):
            raise  # not from `explained`
        try:
            value = evaluate(run(model, batch), batch, loss)
            if isinstance(value, Tensor) and value.requires_grad:
                gradients(value.sum(), list(model.parameters()))
        except Exception as own:
            same = type(own) is type(error)
            said = "raises it too" if same else f"raises {type(own).__name__} ({own})"
            error.add_note(
                f"Tried again without anything that this package puts on a model: the call {said}. "
                "Make one training step run first."
            )
        else:
            error.add_note(
                "Tried again without anything that this package puts on a model: the call runs. So "
                "the model does not bear the hooks by which it is watched, and its own training "
                "step may be in order."
            )
        raise


def gradients(
    value: Tensor, parameters: Sequence[Tensor], seed: Tensor | None = None
) -> list[Tensor | None]:
    """Gradient of `value` at each parameter, None where none arrives; the graph stays.

    `seed` is ∂𝓛/∂value, for a single number 1 unless told. Handing it over makes torch import sympy
    on the first call, half a second.

    Without touching `.grad` and the hooks on its accumulation, except for reentrant checkpoints,
    which torch only runs by `backward()`: there `.grad` is filled and emptied again.
    """
    wanted = [parameter for parameter in parameters if parameter.requires_grad]
    if not wanted:
        return [None] * len(parameters)
    seed = None if seed is None else seed.to(value)
    grads: list[Tensor | None]
    try:
        grads = list(torch.autograd.grad(value, wanted, seed, retain_graph=True, allow_unused=True))
    except RuntimeError as error:
        if not from_reentrant_checkpoint(error):
            raise
        before = [parameter.grad for parameter in wanted]
        try:
            for parameter in wanted:
                parameter.grad = None
            value.backward(seed, retain_graph=True)
            grads = [parameter.grad for parameter in wanted]
        finally:
            for parameter, grad in zip(wanted, before, strict=True):
                parameter.grad = grad
    by_id = {id(parameter): grad for parameter, grad in zip(wanted, grads, strict=True)}
    return [by_id.get(id(parameter)) for parameter in parameters]


@contextlib.contextmanager
def unrecorded() -> Iterator[None]:
    """A backward pass in here, after the recorded one, is no mistake of anybody."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="A backward pass reached outputs of a step")
        yield


def from_reentrant_checkpoint(error: RuntimeError) -> bool:
    """Whether torch says that a reentrant checkpoint has no autograd.grad."""
    return "heckpoint" in str(error)


@contextlib.contextmanager
def _alone(modules: list[nn.Module]) -> Iterator[None]:
    """Inside the block DistributedDataParallel and DataParallel only call their module."""
    distributed = [m for m in modules if isinstance(m, nn.parallel.DistributedDataParallel)]
    parallel = [(m, m.device_ids) for m in modules if isinstance(m, nn.DataParallel)]
    try:
        for wrapper in distributed:
            wrapper.__dict__["forward"] = wrapper.module.__call__
        for replicated, devices in parallel:
            replicated.device_ids = devices[:1]
        yield
    finally:
        for wrapper in distributed:
            wrapper.__dict__.pop("forward", None)
        for replicated, devices in parallel:
            replicated.device_ids = devices


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
