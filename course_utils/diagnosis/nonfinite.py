"""Who made the first NaN or Inf: the operation and its layer, not those that pass it on."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from ..measuring import ROOT, is_layer, tensors_in
from ..measuring.torch_internals import Node, OperationWatcher, moment_of, sequence_number
from .batch import Batch, Loss, loss_of, split_batch
from .graph import stem, walk
from .running import borrowed, explained, gradients, run, runnable, to_training, tried_outside


class NonFiniteSource(NamedTuple):
    """Where the first NaN or Inf was made.

    Attributes:
        layer: Name of the module, "(model)" for its own code, "(loss)", "(input)" or "(target)".
        pass_name: "forward" or "backward".
        operation: What made it: an operation ("log", "exp"), or the name of a parameter that
            already held it.
        value: "NaN" or "Inf".
    """

    layer: str
    pass_name: str
    operation: str
    value: str


def first_nonfinite(model: nn.Module, batch: object, loss: Loss = None) -> NonFiniteSource | None:
    """Name the producer of the first NaN or Inf of a training step.

    Forward, the producer is the operation whose inputs are finite and whose output, handed on,
    makes the output of a layer or the loss non-finite; an Inf that stays inside a layer on
    purpose, such as the mask of an attention, is none. Backward, it is the first operation that
    gets finite gradients and hands on others, as √ does at 0.

    Args:
        model: Any module; it is left as it was.
        batch: (x, y), a dict, or x alone, as for `diagnose`.
        loss: Function of output and target; None for a model that returns its loss.

    Returns:
        The source, or None where everything is finite.

    Raises:
        Exception: What the model itself raises, with a note on what was being run.

    >>> from torch.nn.functional import mse_loss
    >>> class Root(nn.Module):
    ...     def forward(self, x):
    ...         return x.sqrt()
    >>> model = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), Root())
    >>> _ = nn.init.zeros_(model[0].weight), nn.init.zeros_(model[0].bias)
    >>> first_nonfinite(model, (torch.ones(3, 2), torch.ones(3, 2)), mse_loss)
    NonFiniteSource(layer='2', pass_name='backward', operation='sqrt', value='Inf')
    """
    model = runnable(model)
    parts = split_batch(model, batch, loss)
    with borrowed(model):
        to_training(model)
        with tried_outside(model, parts, loss):
            return trace_nonfinite(model, parts, loss)


def trace_nonfinite(model: nn.Module, batch: Batch, loss: Loss) -> NonFiniteSource | None:
    """The same for a borrowed model in training mode and a batch that has been split."""
    tracer = _Tracer(model)
    for place, values in (
        ("(input)", [*batch.args, *batch.kwargs.values()]),
        ("(target)", [batch.target]),
    ):
        for _, tensor in tensors_in(values):
            tracer.comes_from(place, tensor)
    try:
        with explained("the forward pass of", model, batch), tracer:
            output = run(model, batch)
        if tracer.source is not None:
            return tracer.source
        tracer.stack.append("(loss)")
        with explained("the loss of", model, batch), tracer:
            value = loss_of(output, batch, loss)
        tracer.check(value)
    finally:
        tracer.close()
    if tracer.source is not None or value.grad_fn is None:
        return tracer.source
    return _trace_backward(model, value, value.grad_fn, tracer.spans)


Span = tuple[int, int, str]
"""First and last moment of a module's forward pass, and its name."""


def _trace_backward(
    model: nn.Module, value: Tensor, root: Node, spans: list[Span]
) -> NonFiniteSource | None:
    sources: list[NonFiniteSource] = []

    def watch(node: Node) -> RemovableHandle:
        def hook(grads_in: tuple, grads_out: tuple) -> None:
            if sources:
                return
            bad = [g for g in grads_in if g is not None and not bool(g.isfinite().all())]
            if bad and all(g is None or bool(g.isfinite().all()) for g in grads_out):
                layer, operation = _owner(node, spans), _plain_name(stem(node))
                sources.append(NonFiniteSource(layer, "backward", operation, _value(bad[0])))

        return node.register_hook(hook)

    handles = [watch(node) for node in walk(root) if "AccumulateGrad" not in node.name()]
    try:
        gradients(value.sum(), list(model.parameters()))
    finally:
        for handle in handles:
            handle.remove()
    return sources[0] if sources else None


class _Tracer(OperationWatcher):
    """Follows every operation of a forward pass and remembers who made what is not finite."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.source: NonFiniteSource | None = None
        self.stack: list[str] = [ROOT]
        self.spans: list[Span] = []
        self._origin: dict[int, tuple[Tensor, NonFiniteSource]] = {}
        self._broken = {
            id(tensor): name
            for name, tensor in [*model.named_parameters(), *model.named_buffers()]
            if tensor.is_floating_point() and not bool(tensor.detach().isfinite().all())
        }
        self._handles: list[RemovableHandle] = []
        for name, module in model.named_modules():
            self._watch(name or ROOT, module)

    def comes_from(self, place: str, tensor: Tensor) -> None:
        """Note a tensor of the batch that is not finite; a mask of −Inf may be, on purpose."""
        if not bool(tensor.isfinite().all()):
            source = NonFiniteSource(place, "forward", "data", _value(tensor))
            self._origin[id(tensor)] = tensor, source

    def close(self) -> None:
        """Take the hooks off."""
        for handle in self._handles:
            handle.remove()

    def _watch(self, name: str, module: nn.Module) -> None:
        starts: list[int] = []
        layer = is_layer(name, module)

        def before(module: nn.Module, args: tuple) -> None:
            self.stack.append(name)
            starts.append(sequence_number())

        def after(module: nn.Module, args: tuple, output: object) -> None:
            self.spans.append((starts.pop(), sequence_number(), name))
            if layer or len(self.stack) == 2:
                self.check(output)
            self.stack.pop()

        self._handles.append(module.register_forward_pre_hook(before))
        self._handles.append(module.register_forward_hook(after))

    def check(self, output: object) -> None:
        """See whether what a layer hands on is finite, and whose doing it is if not."""
        if self.source is not None:
            return
        for _, tensor in tensors_in(output):
            plain = tensor.detach()
            if not bool(torch.isfinite(plain).all()):
                entry = self._origin.get(id(tensor))
                here = NonFiniteSource(self.stack[-1], "forward", "unknown", _value(plain))
                self.source = entry[1] if entry else here
                return

    def __torch_dispatch__(
        self, function: Callable, types: tuple, args: tuple = (), kwargs: dict | None = None
    ) -> object:
        result = function(*args, **(kwargs or {}))
        if self.source is not None:
            return result
        for _, out in tensors_in(result):
            if out.is_meta or bool(torch.isfinite(out).all()):
                continue
            self._origin[id(out)] = out, self._source(function, args, kwargs or {}, out)
        return result

    def _source(
        self, function: Callable, args: tuple, kwargs: dict, out: Tensor
    ) -> NonFiniteSource:
        """The source of a bad input, else this operation.

        A softmax that makes NaN from a row of −Inf is the producer, not the mask behind it.
        """
        own = "softmax" in function.__name__ or "attention" in function.__name__
        for _, tensor in tensors_in([*args, *kwargs.values()]):
            name = self._broken.get(id(tensor))
            if name is not None:
                layer = name.rpartition(".")[0] or ROOT
                return NonFiniteSource(layer, "forward", f"parameter {name}", _value(tensor))
            entry = self._origin.get(id(tensor))
            if entry is not None and (not own or bool(tensor.isnan().any())):
                return entry[1]
        operation = _plain_name(function.__name__.split(".")[0])
        return NonFiniteSource(self.stack[-1], "forward", operation, _value(out))


def _owner(node: Node, spans: list[Span]) -> str:
    """Innermost module in whose forward pass a node was made; "(loss)" outside of all."""
    number = moment_of(node)
    inside = [(stop - start, name) for start, stop, name in spans if start <= number < stop]
    return min(inside)[1] if inside else "(loss)"


def _value(tensor: Tensor) -> str:
    return "NaN" if bool(tensor.detach().isnan().any()) else "Inf"


def _plain_name(name: str) -> str:
    return name.strip("_").lower()
