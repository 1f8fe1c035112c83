"""Run again the step that a flight recorder has kept, and name the operation that failed."""

import contextlib
import copy
import os
from typing import Any

import torch
from torch import nn

from ..measuring.torch_internals import uncompiled
from ..recording import (
    NotKept,
    SavedStep,
    decoded,
    named_buffers,
    named_parameters,
    plain_names,
    read_folder,
    set_generators,
)
from .batch import Batch, Loss, check_loss, needs_target, split_batch
from .nonfinite import NonFiniteSource, trace_nonfinite
from .running import borrowed, tried_outside


def replay(
    folder: str | os.PathLike, model: nn.Module, loss: Loss = None
) -> NonFiniteSource | None:
    """Run again the step that `record(..., on_nonfinite="raise", save=folder)` has kept.

    Parameters, buffers, training modes, autocast and torch's random state are those with which the
    step began, and the model is called as it was then: with the same weights and the same dropout
    masks. All of this happens in a copy; model and random state of the caller stay as they are.

    What it cannot repeat: batches that were accumulated behind the first one, what another
    device draws or rounds differently, and numbers drawn by Python's or NumPy's own generators.

    Args:
        folder: What `save=` named, or `recorder.folder`; of several processes, that of one:
            `folder/rank1`.
        model: A model of the same structure, its weights do not matter.
        loss: Function of output and target; of the output alone, which then needs no targets in
            the folder; None for a model that returns its loss.

    Returns:
        What `first_nonfinite` returns for that step: layer, pass, operation, and NaN or Inf. None
        if everything is finite this time; then it arose in something that is not repeated.

    Raises:
        TypeError: If an argument is of the wrong type.
        FileNotFoundError: If there is no such folder.
        ValueError: If the folder holds no step, the model does not fit it, or batch or targets are
            missing in it.
        Exception: What the model itself raises, with a note on what was being run.

    >>> import tempfile
    >>> from course_utils import record
    >>> class Log(nn.Module):
    ...     def forward(self, x):
    ...         return x.log()
    >>> model = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), Log())
    >>> _ = nn.init.zeros_(model[0].weight), nn.init.zeros_(model[0].bias)
    >>> folder = tempfile.mkdtemp() + "/crash"
    >>> with record(model, on_nonfinite="raise", save=folder) as recorder:
    ...     loss = model(torch.ones(3, 2)).square().sum()
    ...     loss.backward()
    ...     recorder.step(loss=loss)
    Traceback (most recent call last):
    FloatingPointError: The first NaN or Inf is ...
    >>> replay(folder, model, lambda output: output.square().sum())
    NonFiniteSource(layer='2', pass_name='forward', operation='log', value='Inf')
    """
    check_loss(loss)
    if not isinstance(model, nn.Module):
        raise TypeError(f"model={model!r} must be an nn.Module, of the structure that was trained.")
    saved = read_folder(folder)
    twin = copy.deepcopy(_inner(model))
    _load(saved, twin)
    device = next((p.device for p in twin.parameters()), torch.device("cpu"))
    try:
        batch = _batch(saved, twin, loss, device)
        generators = decoded(saved.words["generators"], saved.arrays)
    except NotKept as error:
        raise ValueError(
            f"folder={str(folder)!r} does not have the whole batch: {error}."
        ) from None
    with borrowed(twin), _autocast(saved.words["autocast"], device):
        set_generators(generators)
        with tried_outside(twin, batch, loss):
            origin = trace_nonfinite(twin, batch, loss)
    return None if origin is None else origin.source


def _inner(model: nn.Module) -> nn.Module:
    """The model inside wrappers that spread it over processes, or compile it."""
    model = uncompiled(model)
    if isinstance(model, nn.DataParallel | nn.parallel.DistributedDataParallel):
        return _inner(model.module)
    return model


def _load(saved: SavedStep, twin: nn.Module) -> None:
    """Parameters, buffers, modes and what is trained.

    Raises:
        ValueError: If names, shapes or number formats differ.
    """
    names = plain_names(twin)
    kinds: tuple[tuple[str, dict[str, Any]], ...] = (
        ("parameter", named_parameters(twin, names)),
        ("buffer", named_buffers(twin, names)),
    )
    for kind, here in kinds:
        there = saved.state(f"{kind}s")
        for name in dict.fromkeys((*there, *here)):
            if name not in here or name not in there:
                place = "folder" if name in there else "model"
                raise ValueError(
                    f"model is not the one that was trained: only the {place} has a {kind} "
                    f"{name!r}. Build it as it was built for training."
                )
            stored, tensor = there[name], here[name]
            if stored["kind"] != "tensor":
                raise ValueError(
                    f"the {kind} {name!r} could not be kept: it was {stored['value']}."
                )
            theirs = f"{tuple(stored['shape'])} {stored['dtype']}"
            mine = f"{tuple(tensor.shape)} {str(tensor.dtype).removeprefix('torch.')}"
            if theirs != mine:
                raise ValueError(
                    f"model is not the one that was trained: the {kind} {name!r} is {mine}, in "
                    f"the folder {theirs}. Build it as it was built for training."
                )
    with torch.no_grad():
        for kind, here in kinds:
            for name, tensor in here.items():
                tensor.copy_(decoded(saved.state(f"{kind}s")[name], saved.arrays))
    trainable = set(saved.words["trainable"])
    for name, parameter in kinds[0][1].items():
        parameter.requires_grad_(name in trainable)
    for name, module in twin.named_modules():
        module.training = saved.words["training"].get(names[name], module.training)


def _batch(saved: SavedStep, twin: nn.Module, loss: Loss, device: torch.device) -> Batch:
    """What the model was called with, and the targets."""
    call, batch = saved.words["call"], saved.words["batch"]
    whole = f"folder={str(saved.folder)!r} has no"
    if call is None and batch is None:
        raise ValueError(
            f"{whole} batch: the model was not called itself. Hand it to recorder.note(batch=...) "
            "while it is recorded."
        )
    parts = Batch(())
    if batch is not None:
        parts = split_batch(twin, decoded(batch, saved.arrays, device), loss)
    if call is not None and not parts.by_step:
        args, kwargs = decoded(call, saved.arrays, device)
        parts = Batch(args, kwargs, parts.target, parts.has_target)
    if loss is not None and not parts.has_target and needs_target(loss):
        raise ValueError(
            f"{whole} targets, and this loss needs them. Record with recorder.note(batch=(x, y)), "
            "or with recorder.step(loss, batch=(x, y)) where there is no optimizer=; or hand over "
            "a loss of the output alone: lambda output: loss(output, y)."
        )
    return parts


@contextlib.contextmanager
def _autocast(formats: dict[str, str], device: torch.device) -> Any:
    """Mixed precision as it was on."""
    with contextlib.ExitStack() as stack:
        for kind, dtype in formats.items():
            if kind == "cpu" or device.type == kind:
                stack.enter_context(torch.autocast(kind, dtype=getattr(torch, dtype)))
        yield
