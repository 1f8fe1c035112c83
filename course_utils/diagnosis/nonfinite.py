"""Who made the first NaN or Inf: the operation and its layer, not those that pass it on."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from ..measuring import is_layer, tensors_in
from .borrow import borrowed, runnable
from .calling import Loss, explained, gradients, loss_of, take_apart
from .graph import walk


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
    parts = take_apart(model, batch, loss)
    with borrowed(model):
        if not model.training:
            model.train()
        return _search(model, parts, loss)


def _search(model: nn.Module, parts: object, loss: Loss) -> NonFiniteSource | None:
    tracer = _Tracer(model)
    for place, values in (
        ("(input)", [*parts.args, *parts.kwargs.values()]),
        ("(target)", [parts.target]),
    ):
        for _, tensor in tensors_in(values):
            tracer.comes_from(place, tensor)
    try:
        with explained("the forward pass of", model, parts), tracer:
            output = model(*parts.args, **parts.kwargs)
        if tracer.found is None:
            tracer.stack.append("(loss)")
            with explained("the loss of", model, parts), tracer:
                value = loss_of(output, parts, loss)
            tracer.check(value)
    finally:
        tracer.close()
    if tracer.found is not None:
        return tracer.found
    if not value.requires_grad:
        return None
    return _search_backward(model, value, tracer.spans)


def _search_backward(
    model: nn.Module, value: Tensor, spans: list[tuple[int, int, str]]
) -> NonFiniteSource | None:
    events: list[NonFiniteSource] = []

    def watch(node: object) -> object:
        def hook(grads_in: tuple, grads_out: tuple) -> None:
            if events:
                return
            bad = [g for g in grads_in if g is not None and not bool(g.isfinite().all())]
            if bad and all(g is None or bool(g.isfinite().all()) for g in grads_out):
                operation = _plain_name(node.name().split("Backward")[0])
                events.append(
                    NonFiniteSource(_owner(node, spans), "backward", operation, _value(bad[0]))
                )

        return node.register_hook(hook)

    handles = [watch(n) for n in walk(value.grad_fn) if "AccumulateGrad" not in n.name()]
    try:
        gradients(value.sum(), list(model.parameters()))
    finally:
        for handle in handles:
            handle.remove()
    return events[0] if events else None


class _Tracer(TorchDispatchMode):
    """Follows every operation of a forward pass and remembers who made what is not finite."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.found: NonFiniteSource | None = None
        self.stack: list[str] = ["(model)"]
        self.spans: list[tuple[int, int, str]] = []
        self._origin: dict[int, tuple[Tensor, NonFiniteSource]] = {}
        self._parameters = {
            id(tensor): (name, tensor)
            for name, tensor in [*model.named_parameters(), *model.named_buffers()]
        }
        self._broken = {
            key: name
            for key, (name, tensor) in self._parameters.items()
            if tensor.is_floating_point() and not bool(tensor.detach().isfinite().all())
        }
        self._handles: list = []
        for name, module in model.named_modules():
            self._watch(name or "(model)", module)

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """False: the wrapper imports torch._dynamo, two seconds, and serves compiled code only."""
        return False

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
            starts.append(torch.autograd._get_sequence_nr())

        def after(module: nn.Module, args: tuple, output: object) -> None:
            self.spans.append((starts.pop(), torch.autograd._get_sequence_nr(), name))
            if layer or len(self.stack) == 2:
                self.check(output)
            self.stack.pop()

        self._handles.append(module.register_forward_pre_hook(before))
        self._handles.append(module.register_forward_hook(after))

    def check(self, output: object) -> None:
        """See whether what a layer hands on is finite, and whose doing it is if not."""
        if self.found is not None:
            return
        for _, tensor in tensors_in(output):
            plain = tensor.detach()
            if not bool(torch.isfinite(plain).all()):
                entry = self._origin.get(id(tensor))
                here = NonFiniteSource(self.stack[-1], "forward", "unknown", _value(plain))
                self.found = entry[1] if entry else here
                return

    def __torch_dispatch__(
        self, function: Callable, types: tuple, args: tuple = (), kwargs: dict | None = None
    ) -> object:
        result = function(*args, **(kwargs or {}))
        if self.found is not None:
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
                layer = name.rpartition(".")[0] or "(model)"
                return NonFiniteSource(layer, "forward", f"parameter {name}", _value(tensor))
            entry = self._origin.get(id(tensor))
            if entry is not None and (not own or bool(tensor.isnan().any())):
                return entry[1]
        operation = _plain_name(function.__name__.split(".")[0])
        return NonFiniteSource(self.stack[-1], "forward", operation, _value(out))


def _owner(node: object, spans: list[tuple[int, int, str]]) -> str:
    """Innermost module in whose forward pass a node was made; "(loss)" outside of all."""
    number = node._sequence_nr()
    inside = [(stop - start, name) for start, stop, name in spans if start <= number < stop]
    return min(inside)[1] if inside else "(loss)"


def _value(tensor: Tensor) -> str:
    return "NaN" if bool(tensor.detach().isnan().any()) else "Inf"


def _plain_name(name: str) -> str:
    return name.strip("_").lower()
