"""The hooks that a recorder hangs on a model, and how they vanish from copies of it.

These functions run for every layer of every step, so they are written for few calls: the usual
case is a plain float32 CPU tensor in a forward pass that is recorded.
"""

import contextlib
import math
from collections.abc import Callable
from typing import SupportsIndex

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from ..measuring import Alike, is_small, rms_on_device, tensors_in
from ..measuring.torch_internals import (
    current_backward,
    hang,
    is_functorch_wrapped,
    set_grad_enabled,
)
from .open_step import COUNT, GRAD_MODE, GRAD_ORDER, GRAD_RMS, PENDING, OpenStep, Watch
from .recompute import builds_the_graph, first_of_two, in_backward
from .selection import can_die, saturation_of
from .whole import dense, is_odd

_NO_GRADIENT = (math.nan, 0.0, 0.0, math.nan, 0, 0)
_WAITS = (math.nan,) * 7
_STRIDED = torch.strided
_graph_is_built = torch.is_grad_enabled


class _Sweep:
    """Takes hooks out of a copy when `copy.deepcopy` is done and lets go of its memo."""

    def __init__(self) -> None:
        self.found: list[tuple[dict, int]] = []

    def __del__(self) -> None:
        for hooks, key in self.found:
            hooks.pop(key, None)


class Traceless:
    """A hook that a deepcopy of its model leaves out, and a pickle makes a function without effect.

    The pickle holds `contextlib.nullcontext().__exit__`, which takes any three arguments and
    returns None. So a checkpoint written while a recorder watches can be read by anyone.
    """

    _handle: RemovableHandle | None = None

    def hung(self, handle: RemovableHandle) -> RemovableHandle:
        """Remember where the hook hangs, to find its place in a copy."""
        self._handle = handle
        return handle

    def __deepcopy__(self, memo: dict) -> object:
        hooks = None if self._handle is None else memo.get(id(self._handle.hooks_dict_ref()))
        if self._handle is not None and hooks is not None:
            memo.setdefault(id(_Sweep), _Sweep()).found.append((hooks, self._handle.id))
        return contextlib.nullcontext().__exit__

    def __copy__(self) -> object:
        return contextlib.nullcontext().__exit__

    def __reduce_ex__(self, protocol: SupportsIndex) -> tuple:
        return getattr, (contextlib.nullcontext(), "__exit__")


class PassBegins(Traceless):
    """Forward pre-hook of the watched model: tells the recorder that a pass begins."""

    def __init__(self, begins: Callable[[], None]) -> None:
        self._begins = begins

    def __call__(self, module: nn.Module, args: tuple) -> None:
        """Called by torch before the model's forward pass."""
        self._begins()


class PassBeginsWith(Traceless):
    """The same for a recorder that wants to know what the model is called with."""

    def __init__(self, begins: Callable[[tuple, dict], None]) -> None:
        self._begins = begins

    def __call__(self, module: nn.Module, args: tuple, kwargs: dict) -> None:
        """Called by torch before the model's forward pass."""
        self._begins(args, kwargs)


class PassEnds(Traceless):
    """Forward hook of the watched model."""

    def __init__(self, watch: Watch) -> None:
        self._watch = watch

    def __call__(self, module: nn.Module, args: tuple, output: object) -> None:
        """Called by torch after the model's forward pass."""
        self._watch.inside = False


class AccumulatedTap(Traceless):
    """Hook on a parameter whose `.grad` other hooks use up during the backward pass."""

    def __init__(self, column: int, measure: Callable[[int, Tensor], None]) -> None:
        self._column = column
        self._measure = measure

    def __call__(self, parameter: Tensor) -> None:
        """Called by torch when the gradient has been added to `.grad`."""
        self._measure(self._column, parameter)


class ForwardTap(Traceless):
    """Forward hook of one module: measures its outputs and hangs a hook on each gradient."""

    def __init__(self, watch: Watch, name: str, module: nn.Module) -> None:
        self.name = name
        self._module = module
        self._watch = watch
        assert watch.model is not None
        self._model = watch.model
        self._reducer = watch.reducer
        self._saturation = saturation_of(module)
        self._dead = can_die(module)
        self._small = watch.small
        self._usual: Alike | None = None
        self._template: list = []
        self._row: OpenStep | None = None
        self._calls = 0

    def on(self) -> None:
        """Hang it on its module, if it does not hang there."""
        if self._handle is None:
            self.hung(self._module.register_forward_hook(self))

    def off(self) -> None:
        """Take it off; it keeps what it knows of the usual shape."""
        if self._handle is not None:
            self._handle.remove()
            self._handle = None

    def __call__(self, module: nn.Module, args: tuple, output: object) -> None:
        """Measure one output; called by torch after the module's forward pass."""
        watch, usual = self._watch, self._usual
        row = watch.row
        if row is None:
            return
        builds_graph = _graph_is_built()
        if (
            usual is not None
            and type(output) is Tensor
            and watch.inside
            and builds_graph
            and self._model.training
            and output.dtype is torch.float32
            and output.layout is _STRIDED
            and output.is_cpu
            and not output.is_nested
            and output.shape == usual.shape
            and output.is_contiguous()
            and output.requires_grad
            and not output.is_leaf
            and current_backward() == -1
            and not is_functorch_wrapped(output)
        ):
            self._measure_small(output, row, usual)
            return
        if builds_graph and self._model.training and current_backward() == -1:
            if not self._watch.inside:
                row = self._outside(row, output)
                if row is None:
                    return
            if self._row is not row:
                self._row, self._calls = row, 0
            self._calls += 1
            outputs = row.first_call((self.name, self._calls))
        else:
            place = self._unusual(row, output, builds_graph)
            if place is None:
                return
            outputs = place
        set_grad_enabled(False)
        try:
            if type(output) is Tensor and output.dtype is torch.float32:
                self._measure("", output, row, builds_graph, outputs)
            else:
                for path, tensor in tensors_in(output):
                    self._measure(path, tensor, row, builds_graph, outputs)
        finally:
            set_grad_enabled(builds_graph)

    def _measure_small(self, output: Tensor, row: OpenStep, usual: Alike) -> None:
        """Measure an output of the shape that the last one had, in as few calls as there can be."""
        if self._row is row:
            self._calls = call = self._calls + 1
        else:
            self._row, self._calls, call = row, 1, 1
        numbers = self._template.copy()
        key = self.name, call
        if row.second_pass:
            row.first_call(key).append(("", numbers))
        else:
            row.outputs.append((key, [("", numbers)]))
        set_grad_enabled(False)
        try:
            usual.add(output, numbers)
        finally:
            set_grad_enabled(True)
        row.hooks.append(hang(output, _gradient_hook(row, numbers, usual.shape)))

    def _unusual(self, row: OpenStep, output: object, builds_graph: bool) -> list | None:
        """A place for the outputs of a call that is not a plain training pass, or None."""
        watch = self._watch
        if not (watch.evaluation or self._model.training):
            watch.skipped.add("the model was in eval mode")
            return None
        if in_backward():
            if builds_graph and builds_the_graph():
                return row.second_call(self)
            return None
        if builds_graph or watch.evaluation:
            now = row if watch.inside else self._outside(row, output)
            return None if now is None else now.first_call(self._key(now))
        if first_of_two():
            row.reserve(self, self._key(row))
        else:
            watch.skipped.add("gradients were disabled")
        return None

    def _outside(self, row: OpenStep, output: object) -> OpenStep | None:
        """Find the pass of a call outside of the model's own forward pass; the step it is in."""
        called = self._row is row and self._calls > 0
        nodes = [t.grad_fn for _, t in tensors_in(output) if t.grad_fn is not None]
        row.second_pass = row.outside.is_second(nodes, called)
        if not row.outputs or (called and row.second_pass):
            self._watch.pass_begins()
            now = self._watch.row
            if now is not None and now is not row:
                now.outside.is_second(nodes, False)
            return now
        return row

    def _key(self, row: OpenStep) -> tuple[str, int]:
        if self._row is not row:
            self._row, self._calls = row, 0
        self._calls += 1
        return self.name, self._calls

    def _measure(
        self, path: str, tensor: Tensor, row: OpenStep, builds_graph: bool, outputs: list
    ) -> None:
        if is_functorch_wrapped(tensor):
            if row.paused:  # a loss that differentiates the model on its own
                return
            raise RuntimeError(
                f"layer {self.name!r} runs under torch.func (vmap, grad, jvp), where its output "
                "has no values of its own that a recorder could read. Record a plain forward and "
                "backward pass, one model at a time."
            )
        if tensor.is_meta:
            return
        odd = type(tensor) is not Tensor or tensor.is_nested
        value, small = dense(tensor) if odd else tensor, False
        if not value.is_cpu:
            row.on_device = True
            numbers = self._reducer.on_device(value, self._saturation, self._dead)
            numbers += _NO_GRADIENT
            numbers[COUNT] = value.numel()
        elif small := is_small(value):
            self._usual = self._small.alike(value.shape, self._saturation, self._dead)
            numbers = [*_WAITS, *_NO_GRADIENT]
            numbers[COUNT] = value.numel()
            self._template = numbers.copy()
            self._usual.add(value, numbers)
        else:
            numbers = self._reducer.on_cpu(value, self._saturation, self._dead)
            numbers += _NO_GRADIENT
            numbers[COUNT] = value.numel()
        outputs.append((path, numbers))
        if builds_graph and tensor.requires_grad:
            together = self._usual.shape if small and not odd and self._usual else None
            hook = _gradient_hook(row, numbers, together)
            hung = hang(tensor, _dense_first(hook) if odd else hook)
            (row.leaf_hooks if tensor.is_leaf else row.hooks).append(hung)


def _gradient_hook(
    row: OpenStep, numbers: list, shape: torch.Size | None = None
) -> Callable[[Tensor | None], None]:
    """A tensor hook that writes the size of the gradient into the numbers of its output.

    Args:
        row: The open step.
        numbers: Of the output.
        shape: Of the output, where gradients of that shape are measured together.
    """

    def hook(grad: Tensor | None) -> None:
        task = current_backward()
        if (task != row.task or numbers[GRAD_MODE]) and not row.takes(numbers, task):
            return
        if grad is None:
            return
        row.arrivals = arrivals = row.arrivals + 1.0
        numbers[GRAD_ORDER], numbers[GRAD_MODE] = arrivals, row.mode
        if grad.is_cpu:
            row.gradients.append((grad, numbers, shape))
            row.pending += numbers[COUNT]
            if row.pending > PENDING:
                row.measure_gradients()
        else:
            numbers[GRAD_RMS : GRAD_RMS + 3] = rms_on_device(grad.detach())

    return hook


def _dense_first(
    hook: Callable[[Tensor | None], None],
) -> Callable[[Tensor | None], None]:
    """The hook for the gradient of a ragged batch, or of a tensor that is spread over processes."""

    def with_dense(grad: Tensor | None) -> None:
        with torch.no_grad():
            hook(dense(grad) if grad is not None and is_odd(grad) else grad)

    return with_dense
