"""One open step: what has been measured of it so far."""

import math
import warnings
from array import array

import torch

from .hooks import GRAD_MODE

QUANTITIES = 11
"""Numbers kept per output: seven of the output, three of its gradient, order of arrival."""

MEASURED, ACCUMULATED = 1, 2
"""A gradient asked for by `torch.autograd.grad`, and one that also went into `.grad`."""


class Row:
    """The measurements of one step while it is open."""

    def __init__(self, step: int, remember: set[str], later: set[tuple[str, int]]) -> None:
        self.step = step
        self.closed = False
        self.on_device = False
        self.outputs: list[tuple[tuple[str, int], list]] = []
        self.forward_passes = 0
        self.has_grad: tuple[bool, ...] = ()
        self.passes: dict[int, int] = {}
        self.arrivals = 0
        self.handles: list = []
        self.parameter_rms: list | None = None
        self.parameter_grad_rms: list | None = None
        self.scale: object = 1.0
        self.grad_scale_applies = True
        self.second_calls_open = False
        self._warned = remember
        self._later = later
        self._reserved: dict[object, list[list]] = {}
        self._second_calls: list[tuple[object, list]] = []

    @property
    def accumulated(self) -> bool:
        """Whether a backward pass has added to `.grad` in this step."""
        return ACCUMULATED in self.passes.values()

    def first_call(self, key: tuple[str, int]) -> list:
        """A place for the outputs of a call, in the order of the forward pass."""
        place: list = []
        if self.forward_passes > 1:
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
        if not self.second_calls_open:
            self.match_second_calls()
            self.second_calls_open = True
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

    def takes(self, numbers: list, mode: int) -> bool:
        """Whether the gradient of a pass is the one to keep for this output.

        A pass that adds to `.grad` beats one of `torch.autograd.grad`; of two that add, the
        last one stays, with a warning; of two that do not, the first.
        """
        if mode == ACCUMULATED:
            if numbers[GRAD_MODE] == ACCUMULATED:
                self.warn(
                    "Two backward passes went through the same output in one step. The row "
                    "keeps the gradient of the last pass, not of their sum: add the losses and "
                    "call backward() once, or close a step after each pass."
                )
            return True
        return numbers[GRAD_MODE] == 0

    def late(self) -> None:
        """Say that a gradient came after its step was closed."""
        self.warn(
            "A backward pass reached outputs of a step that was closed before, so its gradients "
            "are not in the record: call recorder.step() after backward()."
        )

    def warn(self, message: str) -> None:
        """Warn once per recorder."""
        if message not in self._warned:
            self._warned.add(message)
            warnings.warn(message, RuntimeWarning, stacklevel=2)

    def release(self) -> None:
        """Take the gradient hooks off, also from graphs and leaf tensors that live on."""
        self.closed = True
        for handle in self.handles:
            handle.remove()
        self.handles = []

    def close(self) -> tuple[tuple[tuple[str, int, str], ...], "Packed"]:
        """Release the hooks, and pack the numbers of the outputs.

        Returns:
            Module, call and path of the outputs in forward order, and `QUANTITIES` numbers of each.
        """
        self.release()
        self.match_second_calls()
        keys, numbers = [], []
        for key, outputs in self.outputs:
            for path, values in outputs:
                keys.append((*key, path))
                numbers.extend(values[:QUANTITIES])
        return tuple(keys), Packed(numbers, self.on_device)


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
        return torch.tensor(self._values, dtype=torch.float64)
