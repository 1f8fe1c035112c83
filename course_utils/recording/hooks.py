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

from ..measuring import rms_on_device, tensors_in
from ..measuring.torch_internals import (
    current_backward,
    hang,
    is_functorch_wrapped,
    set_grad_enabled,
)
from .open_step import GRAD_MODE, GRAD_ORDER, GRAD_RMS, PENDING, OpenStep, Watch
from .recompute import builds_the_graph, first_of_two, in_backward
from .selection import can_die, saturation_of

_NO_GRADIENT = (math.nan, 0.0, 0.0, math.nan, 0)
_graph_is_built = torch.is_grad_enabled


class Traceless:
    """A hook that becomes a function without effect when its model is copied or pickled.

    The copy holds `contextlib.nullcontext().__exit__`, which takes any three arguments and
    returns None. So a checkpoint written while a recorder watches can be read by anyone.
    """

    def __deepcopy__(self, memo: dict) -> object:
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


class ForwardTap(Traceless):
    """Forward hook of one module: measures its outputs and hangs a hook on each gradient."""

    def __init__(self, watch: Watch, name: str, module: nn.Module) -> None:
        self.name = name
        self._watch = watch
        assert watch.model is not None
        self._model = watch.model
        self._reducer = watch.reducer
        self._saturation = saturation_of(module)
        self._dead = can_die(module)
        self._row: OpenStep | None = None
        self._calls = 0

    def __call__(self, module: nn.Module, args: tuple, output: object) -> None:
        """Measure one output; called by torch after the module's forward pass."""
        row = self._watch.row
        if row is None:
            return
        builds_graph = _graph_is_built()
        if builds_graph and self._model.training and current_backward() == -1:
            if self._row is not row:
                self._row, self._calls = row, 0
            self._calls += 1
            outputs = row.first_call((self.name, self._calls))
        else:
            place = self._unusual(row, builds_graph)
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

    def _unusual(self, row: OpenStep, builds_graph: bool) -> list | None:
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
            return row.first_call(self._key(row))
        if first_of_two():
            row.reserve(self, self._key(row))
        else:
            watch.skipped.add("gradients were disabled")
        return None

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
        if tensor.is_meta or tensor.is_nested:
            return
        if tensor.is_cpu:
            numbers = self._reducer.on_cpu(tensor, self._saturation, self._dead)
        else:
            row.on_device = True
            numbers = self._reducer.on_device(tensor, self._saturation, self._dead)
        numbers += _NO_GRADIENT
        outputs.append((path, numbers))
        if builds_graph and tensor.requires_grad:
            hung = hang(tensor, _gradient_hook(row, numbers))
            (row.leaf_hooks if tensor.is_leaf else row.hooks).append(hung)


def _gradient_hook(row: OpenStep, numbers: list) -> Callable[[Tensor | None], None]:
    """A tensor hook that writes the size of the gradient into the numbers of its output."""

    def hook(grad: Tensor | None) -> None:
        task = current_backward()
        if (task != row.task or numbers[GRAD_MODE]) and not row.takes(numbers, task):
            return
        if grad is None:
            return
        row.arrivals = arrivals = row.arrivals + 1.0
        numbers[GRAD_ORDER], numbers[GRAD_MODE] = arrivals, row.mode
        if grad.is_cpu:
            row.gradients.append((grad, numbers))
            row.pending += grad.numel()
            if row.pending > PENDING:
                row.measure_gradients()
        else:
            numbers[GRAD_RMS : GRAD_RMS + 3] = rms_on_device(grad.detach())

    return hook
