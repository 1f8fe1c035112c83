"""Who made the first NaN or Inf: the operation and its layer, not those that pass it on."""

import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from ..measuring import ROOT, is_layer, tensors_in
from ..measuring.torch_internals import Node, OperationWatcher, moment_of, sequence_number
from .batch import Batch, Loss, loss_of, split_batch
from .graph import hooked, stem, users_of, walk
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

    >>> import torch
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
            origin = trace_nonfinite(model, parts, loss)
    return None if origin is None else origin.source


@dataclass(eq=False)
class Origin:
    """Where the first NaN or Inf was made, with what the operation was given.

    Attributes:
        source: The place.
        function: The operation of the forward pass; None for data, parameters and the backward
            pass.
        args: What it was called with.
        kwargs: What it was called with by name.
        out: What came out of it; for data and parameters, these.
        written: Whether it is Inf that was written, such as the mask of an attention.
        held: Whether an operand that came from elsewhere was not finite already.
        readers: Operations that read it while it was not finite; "ratio" where both sides of a
            division were.
        labels: What the one of them that looks labels up was called with.
        node: The operation of the backward pass.
        arriving: ∂L/∂(output) that this got.
        leaving: What it made of it.
        behind: Operations between it and the loss, nearest first.
        data: The tensors of the batch that are not finite, by name.
    """

    source: NonFiniteSource
    function: Callable | None = None
    args: tuple = ()
    kwargs: dict = field(default_factory=dict)
    out: Tensor | None = None
    written: bool = False
    held: bool = False
    readers: list[str] = field(default_factory=list)
    labels: tuple | None = None
    node: Node | None = None
    arriving: Tensor | None = None
    leaving: Tensor | None = None
    behind: list[str] = field(default_factory=list)
    data: dict[str, Tensor] = field(default_factory=dict)


_NEAR = 20  # operations between a NaN and the loss that are looked at


class _Found(BaseException):
    """Ends a forward pass of which no more has to be known; no error that a model would catch."""


def trace_nonfinite(model: nn.Module, batch: Batch, loss: Loss) -> Origin | None:
    """The same for a borrowed model in training mode and a batch that has been split."""
    tracer = _Tracer(model)
    for place, what, values in _named(batch):
        for path, tensor in tensors_in(values):
            tracer.comes_from(place, what + path, tensor)
    try:
        try:
            with explained("the forward pass of", model, batch), tracer:
                output = run(model, batch)
        except _Found:
            return tracer.origin
        tracer.stack.append("(loss)")
        with explained("the loss of", model, batch), tracer:
            value = loss_of(output, batch, loss)
        tracer.check(value, last=True)
    finally:
        tracer.close()
    if tracer.origin is None and value.grad_fn is not None:
        tracer.origin = _trace_backward(model, value, value.grad_fn, tracer.spans)
    if tracer.origin is not None:
        tracer.origin.data |= tracer.data
    return tracer.origin


def _named(batch: Batch) -> Iterator[tuple[str, str, object]]:
    """Place, name and values of each part of a batch."""
    for i, value in enumerate(batch.args):
        yield "(input)", "the input" if len(batch.args) == 1 else f"input {i + 1}", value
    for key, value in batch.kwargs.items():
        yield "(input)", f"the input {key!r}", value
    yield "(target)", "the target", batch.target


Span = tuple[int, int, str]
"""First and last moment of a module's forward pass, and its name."""


def _trace_backward(
    model: nn.Module, value: Tensor, root: Node, spans: list[Span]
) -> Origin | None:
    origins: list[Origin] = []
    nodes = list(walk(root))

    def watch(node: Node, handed: tuple, received: tuple) -> None:
        if origins:
            return
        bad = [g for g in handed if g is not None and not finite(g)]
        if bad and all(g is None or finite(g) for g in received):
            layer, operation = _owner(node, spans), _plain_name(stem(node))
            source = NonFiniteSource(layer, "backward", operation, _value(bad[0]))
            arriving = next((g for g in received if g is not None), None)
            origins.append(Origin(source, node=node, arriving=arriving, leaving=bad[0]))

    with hooked(nodes, watch):
        gradients(value.sum(), list(model.parameters()))
    if not origins:
        return None
    assert origins[0].node is not None
    origins[0].behind = _behind(origins[0].node, nodes)
    return origins[0]


def _behind(node: Node, nodes: list[Node]) -> list[str]:
    """Names of the operations on the way from `node` to the loss, nearest first."""
    users, way = users_of(nodes), [node]
    for one in way:  # which grows meanwhile
        if len(way) > _NEAR:
            break
        way += [user for user in dict.fromkeys(users.get(one, [])) if user not in way]
    return [_plain_name(stem(user)) for user in way[1:]]


class _Tracer(OperationWatcher):
    """Follows every operation of a forward pass and remembers who made what is not finite."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.origin: Origin | None = None
        self.stack: list[str] = [ROOT]
        self.spans: list[Span] = []
        self.data: dict[str, Tensor] = {}
        self._origins: dict[int, tuple[Tensor, Origin]] = {}
        self._memory: dict[int, Origin] = {}
        buffers = {id(tensor) for tensor in model.buffers()}
        for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
            if tensor.is_floating_point() and not finite(tensor):
                source = NonFiniteSource(
                    name.rpartition(".")[0] or ROOT,
                    "forward",
                    f"parameter {name}",
                    _value(tensor),
                )
                mask = id(tensor) in buffers and _only_masks(tensor)
                self._note(tensor, Origin(source, out=tensor, written=mask))
        self._handles: list[RemovableHandle] = []
        for name, module in model.named_modules():
            self._watch(name or ROOT, module)

    def comes_from(self, place: str, what: str, tensor: Tensor) -> None:
        """Note a tensor of the batch that is not finite; a mask of −Inf may be, on purpose."""
        if not finite(tensor):
            source = NonFiniteSource(place, "forward", "data", _value(tensor))
            self.data[what] = tensor
            origin = Origin(source, out=tensor, written=_only_masks(tensor), data={what: tensor})
            self._note(tensor, origin)

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
                if self.origin is not None:
                    raise _Found
            self.stack.pop()

        self._handles.append(module.register_forward_pre_hook(before))
        self._handles.append(module.register_forward_hook(after))

    def check(self, output: object, *, last: bool = False) -> None:
        """See whether what a layer hands on is finite, and whose doing it is if not.

        −Inf alone may be a mask, and is let through until the loss, which is `last`; not so where
        a product of matrices has overflowed, on whichever side.
        """
        if self.origin is not None or not (self._origins or last):
            return
        for _, tensor in tensors_in(output):
            plain = tensor.detach()
            if finite(plain):
                continue
            known = self._known(tensor)
            overflow = known is not None and _multiplies(known.source.operation)
            if _only_masks(plain) and not (last or overflow):
                continue
            here = NonFiniteSource(self.stack[-1], "forward", "unknown", _value(plain))
            self.origin = known or Origin(here, out=plain)
            return

    def __torch_dispatch__(
        self, function: Callable, types: tuple, args: tuple = (), kwargs: dict | None = None
    ) -> object:
        given, named = args, kwargs or {}
        if self.origin is None and function._schema.is_mutable:  # type: ignore[attr-defined]
            given = tuple(a.clone() if isinstance(a, Tensor) else a for a in args)
        result = function(*args, **named)
        if self.origin is not None or "empty" in function.__name__:
            return result
        for _, out in tensors_in(result):
            if out.is_meta or finite(out):
                continue
            self._note(out, self._origin_of(function, (args, given), named, out))
        return result

    def _note(self, tensor: Tensor, origin: Origin) -> None:
        self._origins[id(tensor)] = tensor, origin
        self._memory[_address(tensor)] = origin

    def _known(self, tensor: Tensor) -> Origin | None:
        """Whose doing a tensor is; one that was written to through a view goes by its memory."""
        entry = self._origins.get(id(tensor))
        return entry[1] if entry else self._memory.get(_address(tensor))

    def _origin_of(
        self, function: Callable, args: tuple[tuple, tuple], kwargs: dict, out: Tensor
    ) -> Origin:
        """The origin of a bad input, else this operation.

        What makes NaN of Inf that was written on purpose, as a softmax does of a row of −Inf, is
        the producer, not the mask behind it.
        """
        name = _plain_name(function.__name__.split(".")[0])
        tensors = list(zip(*map(_floating, args), strict=True))
        bad = [tensor for tensor, given in tensors if not finite(given)]
        bad += [t for _, t in tensors_in(kwargs) if not finite(t)]
        here = NonFiniteSource(self.stack[-1], "forward", name, _value(out))
        own = Origin(here, function, args[1], kwargs, out)
        own.written = _only_masks(out) and _writes(name, [*args[1], *kwargs.values()])
        blamed: Origin | None = None
        for tensor in bad:
            origin = self._known(tensor)
            if origin is None:
                origin = Origin(here, function, args[1], kwargs, tensor, held=True)
                origin.written = _only_masks(tensor)
                self._note(tensor, origin)
            if name.startswith("nll_loss"):
                origin.labels = args[1]
            origin.readers.append("ratio" if name == "div" and len(bad) > 1 else name)
            on_purpose = origin.written or origin.source.operation.startswith("log")
            makes = not origin.written and not (_attends(name, tensor) and on_purpose)
            if blamed is None and (makes or not bool(out.isnan().any()) or _multiplies(name)):
                blamed = origin
        return blamed or own


def finite(tensor: Tensor) -> bool:
    """Whether every entry is finite: a sum that is finite says so in half the time."""
    plain = tensor.detach()
    if plain.is_nested:
        plain = plain.values()
    if plain.is_sparse:
        plain = plain.coalesce().values()
    return bool(plain.sum().isfinite()) or bool(plain.isfinite().all())


def _floating(args: tuple) -> list[Tensor]:
    return [tensor for _, tensor in tensors_in(list(args))]


def _attends(name: str, tensor: Tensor) -> bool:
    """Whether this is a softmax that gets −Inf, and nothing worse."""
    return ("softmax" in name or "attention" in name) and _only_masks(tensor)


def _multiplies(name: str) -> bool:
    """Whether an operation is a product of matrices, which spreads an Inf."""
    return name.endswith(("mm", "mv", "dot", "convolution", "linear"))


def _only_masks(tensor: Tensor) -> bool:
    """Whether what is not finite is −Inf throughout."""
    plain = tensor.detach()
    return not plain.is_complex() and not bool((plain.isnan() | plain.isposinf()).any())


def _writes(name: str, args: list) -> bool:
    """Whether an operation puts an Inf there that stands in the code."""
    return name == "lift_fresh" or any(isinstance(a, float) and math.isinf(a) for a in args)


def _address(tensor: Tensor) -> int:
    """Where the memory of a tensor begins; views of it have the same. Wrappers have none."""
    try:
        return tensor.untyped_storage().data_ptr() or -id(tensor)
    except RuntimeError:
        return -id(tensor)


def _owner(node: Node, spans: list[Span]) -> str:
    """Innermost module in whose forward pass a node was made; "(loss)" outside of all."""
    number = moment_of(node)
    inside = [(stop - start, name) for start, stop, name in spans if start <= number < stop]
    return min(inside)[1] if inside else "(loss)"


def _value(tensor: Tensor) -> str:
    return "NaN" if bool(tensor.detach().isnan().any()) else "Inf"


def _plain_name(name: str) -> str:
    """The name of an operation as one writes it.

    >>> [_plain_name(name) for name in ("_log_softmax", "nll_loss_forward", "LinalgSvd")]
    ['log_softmax', 'nll_loss', 'linalg_svd']
    """
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name.strip("_")).lower()
    return {"to_copy": "to", "rsub": "sub"}.get(words, words.removesuffix("_forward"))
