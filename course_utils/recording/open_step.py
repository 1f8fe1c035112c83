"""What a recorder and its hooks share: the model, and the step that is open."""

import math
import warnings
from array import array
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.autograd.graph import Node

from ..measuring import OutputNumbers, SmallOutputs, rms_of, rms_together
from ..measuring.torch_internals import moment_of
from .parameters import TOGETHER

GRAD_RMS, GRAD_NAN, GRAD_INF, GRAD_ORDER, COUNT, GRAD_MODE = 7, 8, 9, 10, 11, 12
"""Places in the list of numbers of one output, after the seven of the output itself."""

Key = tuple[str, int, str]
"""Module, number of the call in its step, path of the tensor in the output."""

QUANTITIES = 12
"""Kept per output: seven of it, three of its gradient, order of arrival, number of entries."""

PENDING = 1 << 18
"""Entries of gradients that wait to be measured together.

1 MB, still in the cache.
"""

MEASURED, ACCUMULATED = 1, 2
"""A gradient asked for by `torch.autograd.grad`, and one that also went into `.grad`."""


class Watch:
    """What the hooks on a model and their recorder both look at.

    Attributes:
        model: The watched model; None when the block is over.
        evaluation: Whether passes in eval mode or without gradients are recorded too.
        row: The open step, None while a step is left out.
        inside: Whether the model's own forward pass is running.
        pass_begins: Called where a pass begins without the model's own forward pass.
        skipped: Why passes were not recorded, in words.
        reducer: What measures outputs.
        small: Where small outputs wait to be measured.
    """

    def __init__(self, model: nn.Module, evaluation: bool) -> None:
        self.model: nn.Module | None = model
        self.evaluation = evaluation
        self.row: OpenStep | None = None
        self.inside = False
        self.pass_begins: Callable[[], None] = lambda: None
        self.skipped: set[str] = set()
        self.reducer = OutputNumbers()
        self.small = SmallOutputs()


class OpenStep:
    """The measurements of one step while it is open."""

    def __init__(
        self,
        step: int,
        small: SmallOutputs,
        begin_pass: Callable[["OpenStep"], int],
        remember: set[str],
        later: set[tuple[str, int]],
    ) -> None:
        self.step = step
        self.closed = False
        self.paused = False
        self.on_device = False
        self.outputs: list[tuple[tuple[str, int], list]] = []
        self.forward_passes = 0
        self.second_pass = False
        self.outside = PassesByGraph()
        self.closes_after_backward = False
        self.lr = math.nan
        self.loss: torch.Tensor | float | None = None
        self.kept: dict[int, tuple[float | torch.Tensor, bool]] = {}
        self.before: dict[int, float | torch.Tensor] = {}
        self.change: dict[int, float | torch.Tensor] = {}
        self.has_grad: tuple[bool, ...] = ()
        self.passes: dict[int, int] = {}
        self.task = -2
        self.mode = 0
        self.arrivals = 0.0
        self.hooks: list[tuple[dict, object]] = []
        self.leaf_hooks: list[tuple[dict, object]] = []
        self.gradients: list[tuple[torch.Tensor, list, torch.Size | None]] = []
        self.pending = 0
        self.parameter_rms: list | None = None
        self.parameter_grad_rms: list | None = None
        self.scale: torch.Tensor | float = 1.0
        self.grad_scale_applies = True
        self._small = small
        self._begin_pass = begin_pass
        self._warned = remember
        self._later = later
        self._reserved: dict[object, list[list]] = {}
        self._second_calls: list[tuple[object, list]] = []
        self._arrivals_before_segment = -1.0

    @property
    def accumulated(self) -> bool:
        """Whether a backward pass has added to `.grad` in this step."""
        return ACCUMULATED in self.passes.values()

    def first_call(self, key: tuple[str, int]) -> list:
        """A place for the outputs of a call, in the order of the forward pass."""
        place: list = []
        if self.second_pass:
            self._later.add(key)
        self.outputs.append((key, place))
        return place

    def reserve(self, tap: object, key: tuple[str, int]) -> None:
        """Keep a place for a call whose graph a reentrant checkpoint builds later."""
        self._reserved.setdefault(tap, []).append(self.first_call(key))

    def second_call(self, tap: object) -> list:
        """Outputs of a call inside a reentrant checkpoint's backward pass.

        The segments come last to first, but inside a segment calls come in forward order. A
        segment is over when a gradient has arrived.
        """
        if self.arrivals != self._arrivals_before_segment:
            self.match_second_calls()
            self._arrivals_before_segment = self.arrivals
        outputs: list = []
        self._second_calls.append((tap, outputs))
        return outputs

    def match_second_calls(self) -> None:
        """Give the calls of the last segment to the last reserved places of their modules."""
        for tap, outputs in reversed(self._second_calls):
            places = self._reserved.get(tap)
            if places:
                places.pop().extend(outputs)
        self._second_calls = []

    def takes(self, numbers: list, task: int) -> bool:
        """Whether the gradient that a backward pass brings is the one to keep for this output.

        A pass that adds to `.grad` beats one of `torch.autograd.grad`; of two that add, the
        last one stays, with a warning; of two that do not, the first.

        Args:
            numbers: Of the output.
            task: The pass, as torch numbers it.
        """
        if self.paused:
            return False
        if self.closed:
            self.warn(
                "A backward pass reached outputs of a step that was closed before, so its "
                "gradients are not in the record: call recorder.step() after backward()."
            )
            return False
        if task != self.task:
            if task not in self.passes:
                self.passes[task] = self._begin_pass(self)
            self.task, self.mode = task, self.passes[task]
        if numbers[GRAD_MODE] == 0:
            return True
        if self.mode == ACCUMULATED and numbers[GRAD_MODE] == ACCUMULATED:
            self.warn(
                "Two backward passes went through the same output in one step. The row keeps "
                "the gradient of the last pass, not of their sum: add the losses and call "
                "backward() once, or close a step after each pass."
            )
        return self.mode == ACCUMULATED

    def warn(self, message: str) -> None:
        """Warn once per recorder."""
        if message not in self._warned:
            self._warned.add(message)
            warnings.warn(message, RuntimeWarning, stacklevel=2)

    def release(self) -> None:
        """Take the gradient hooks off."""
        self.closed, self.task = True, -2
        for hooks, key in (*self.hooks, *self.leaf_hooks):
            hooks.pop(key, None)
        self.hooks, self.leaf_hooks = [], []

    def measure_gradients(self) -> None:
        """Write the sizes of the gradients that wait, and the numbers of the outputs that do.

        Several in a row take half the time of one after the other between other work.
        """
        self._small.measure()
        gradients, self.gradients, self.pending = self.gradients, [], 0
        small: dict[int, tuple[list[torch.Tensor], list[list]]] = {}
        for grad, numbers, shape in gradients:
            if shape is None:
                numbers[GRAD_RMS : GRAD_RMS + 3] = rms_of(grad)
                continue
            held = small.get(id(shape))
            if held is None:
                held = small[id(shape)] = [], []
            held[0].append(grad)
            held[1].append(numbers)
        for grads, places in small.values():
            try:
                sizes = rms_together(grads) if len(grads) >= TOGETHER else map(rms_of, grads)
            except RuntimeError:  # a sparse one among them
                sizes = map(rms_of, grads)
            for numbers, size in zip(places, sizes, strict=True):
                numbers[GRAD_RMS : GRAD_RMS + 3] = size

    def close(self) -> tuple[tuple[Key, ...], "Packed"]:
        """Pack the numbers of the outputs.

        Hooks on tensors that outlive the step are taken off. The others die with the graph; one
        that fires after this only warns.

        Returns:
            Module, call and path of the outputs in forward order, and `QUANTITIES` numbers of each.
        """
        self.hooks = []
        self.release()
        self.measure_gradients()
        self.match_second_calls()
        keys, numbers = [], []
        for key, outputs in self.outputs:
            for path, values in outputs:
                keys.append((*key, path))
                numbers.extend(values[:QUANTITIES])
        return tuple(keys), Packed(numbers, self.on_device)


class PassesByGraph:
    """Tells the first pass from later ones where the model's own forward pass is not called.

    Layers that are called one by one (`model.encoder(x)`, a `training_step`) belong to one pass
    where the output of one leads to that of the other. A call that leads back to no other, of a
    module that ran before, begins another pass.
    """

    LIMIT = 10_000

    def __init__(self) -> None:
        self._known: dict[int, bool] = {}

    def is_second(self, nodes: list[Node], called: bool) -> bool:
        """Whether an output belongs to a later pass than the first.

        Args:
            nodes: Those that made its tensors.
            called: Whether its module has run in this step.
        """
        second = called
        if self._known:
            reached = self._reached(nodes)
            second = all(reached) if reached else called
        for node in nodes:
            self._known.setdefault(moment_of(node), second)
        return second

    def _reached(self, nodes: list[Node]) -> list[bool]:
        """What is known of the outputs that these nodes lead back to."""
        oldest, stack = min(self._known), list(nodes)
        found: list[bool] = []
        seen: set[Node] = set()
        while stack and len(seen) < self.LIMIT:
            node = stack.pop()
            moment = moment_of(node)
            if moment in self._known:
                found.append(self._known[moment])
            elif moment >= oldest and node not in seen:
                seen.add(node)
                stack += [before for before, _ in node.next_functions if before is not None]
        return found


def in_order(values: dict, count: int) -> list:
    """The value of each column, NaN where there is none."""
    return [values.get(i, math.nan) for i in range(count)]


class Packed:
    """Numbers as float64, some of which may still wait on a device."""

    __slots__ = ("_values", "_waiting")

    def __init__(self, numbers: list, on_device: bool) -> None:
        self._waiting: list[tuple[list[int], torch.Tensor]] = []
        self._values = array("d", self._split(numbers) if on_device else numbers)

    def _split(self, numbers: list) -> list[float]:
        places: dict[torch.device, list[int]] = {}
        for i, number in enumerate(numbers):
            if isinstance(number, torch.Tensor):
                places.setdefault(number.device, []).append(i)
        for device, indices in places.items():
            wide = torch.float32 if device.type == "mps" else torch.float64
            waiting = torch.stack([numbers[i].to(wide) for i in indices])
            self._waiting.append((indices, waiting))
        return [math.nan if isinstance(n, torch.Tensor) else n for n in numbers]

    def read(self) -> torch.Tensor:
        """All numbers as a float64 CPU tensor; waits for the device if it has to."""
        for indices, waiting in self._waiting:
            for i, number in zip(indices, waiting.cpu().tolist(), strict=True):
                self._values[i] = number
        self._waiting = []
        return torch.from_numpy(np.array(self._values))


@dataclass
class ClosedStep:
    """What is kept of a step.

    Attributes:
        step: Its index.
        keys: Names of its outputs, in forward order.
        outputs: `QUANTITIES` numbers of each.
        parameters: RMS of each parameter, then of each of their gradients.
        has_grad: Which parameters had one.
        scale: Factor in the gradients.
        scale_applies: Whether it is in those of the parameters too.
        update: RMS of each parameter before the optimizer's step, then of its change.
        loss: As it was handed over.
        lr: Learning rate of the optimizer's first group, when it stepped.
    """

    step: int
    keys: tuple[Key, ...]
    outputs: Packed
    parameters: Packed
    has_grad: tuple[bool, ...]
    scale: torch.Tensor | float = 1.0
    scale_applies: bool = False
    update: Packed | None = None
    loss: torch.Tensor | float | None = None
    lr: float = math.nan
