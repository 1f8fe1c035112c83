"""The hooks that a recorder hangs on a model, and how they vanish from copies of it."""

import contextlib
import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from .recompute import builds_the_graph, first_of_two, in_backward
from .reduce import rms_of, rms_on_device
from .selection import can_die, saturation_of, tensors_in, unsupported

if TYPE_CHECKING:
    from .row import Row

GRAD_RMS, GRAD_NAN, GRAD_INF, GRAD_ORDER, GRAD_MODE = 7, 8, 9, 10, 11
"""Places in the list of numbers of one output, after the seven of the output itself."""


class Traceless:
    """A hook that becomes a function without effect when its model is copied or pickled.

    The copy holds `contextlib.nullcontext().__exit__`, which takes any three arguments and
    returns None. So a checkpoint written while a recorder watches can be read by anyone.
    """

    def __deepcopy__(self, memo: dict) -> object:
        return contextlib.nullcontext().__exit__

    def __copy__(self) -> object:
        return contextlib.nullcontext().__exit__

    def __reduce_ex__(self, protocol: int) -> tuple:
        return getattr, (contextlib.nullcontext(), "__exit__")


class ForwardTap(Traceless):
    """Forward hook of one module: measures its outputs and hangs a hook on each gradient."""

    def __init__(self, recorder: object, name: str, module: nn.Module) -> None:
        self.recorder = recorder
        self.name = name
        self.saturation = saturation_of(module)
        self.dead = can_die(module)
        self.row: Row | None = None
        self.calls = 0

    def __call__(self, module: nn.Module, args: tuple, output: object) -> None:
        """Measure one output; called by torch after the module's forward pass."""
        recorder = self.recorder
        row = recorder.row
        if row is None:
            return
        graph = torch.is_grad_enabled()
        if not recorder.evaluation:
            if not recorder.model.training:
                recorder.skipped.add("the model was in eval mode")
                return
            if not graph:
                if first_of_two():
                    row.reserve(self, self._key(row))
                else:
                    recorder.skipped.add("gradients were disabled")
                return
        if in_backward():
            if graph and builds_the_graph():
                self._measure(output, row, graph, row.second_call(self))
            return
        self._measure(output, row, graph, row.first_call(self._key(row)))

    def _key(self, row: "Row") -> tuple[str, int]:
        if self.row is not row:
            self.row, self.calls = row, 0
        self.calls += 1
        return self.name, self.calls

    def _measure(self, output: object, row: "Row", graph: bool, outputs: list) -> None:
        if type(output) is Tensor and output.is_floating_point():
            found = (("", output),)
        else:
            found = tensors_in(output)
        reducer = self.recorder.reducer
        for path, tensor in found:
            reason = unsupported(tensor)
            if reason == "functorch":
                raise RuntimeError(
                    f"layer {self.name!r} runs under torch.func (vmap, grad, jvp), where its "
                    "output has no values of its own that a recorder could read. Record a plain "
                    "forward and backward pass, one model at a time."
                )
            if reason:
                continue
            detached = tensor.detach()
            if tensor.device.type == "cpu":
                numbers = reducer.on_cpu(detached, self.saturation, self.dead)
            else:
                row.on_device = True
                numbers = reducer.on_device(detached, self.saturation, self.dead)
            numbers += (math.nan, 0.0, 0.0, math.nan, 0)
            outputs.append((path, numbers))
            if graph and tensor.requires_grad:
                handle = tensor.register_hook(_gradient_hook(self.recorder, row, numbers))
                row.handles.append(handle)


def _gradient_hook(recorder: object, row: "Row", numbers: list) -> object:
    """A tensor hook that writes the size of the gradient into the numbers of its output."""
    current_task = torch._C._current_graph_task_id
    passes = row.passes

    def hook(grad: Tensor | None) -> None:
        if row.closed:
            row.late()
            return
        row.second_calls_open = False
        task = current_task()
        mode = passes.get(task)
        if mode is None:
            mode = recorder.new_backward_pass(task)
        if grad is None or not row.takes(numbers, mode):
            return
        detached = grad.detach()
        measure = rms_of if grad.device.type == "cpu" else rms_on_device
        numbers[GRAD_RMS], numbers[GRAD_NAN], numbers[GRAD_INF] = measure(detached)
        numbers[GRAD_ORDER] = float(row.arrivals)
        numbers[GRAD_MODE] = mode
        row.arrivals += 1

    return hook
