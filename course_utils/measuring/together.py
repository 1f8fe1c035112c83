"""Measure many small tensors of one shape together.

A call of torch costs as much as reading some ten thousand numbers, so small outputs are copied
when they appear and measured some hundred at a time. As with a single tensor, a sum of squares
that float32 cannot hold is taken again, in float64.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from .reductions import careful
from .torch_internals import set_grad_enabled

_STRIDED = torch.strided
SMALL = 1 << 12
"""Entries up to which tensors are measured together."""

ENTRIES = 1 << 18
"""Entries of outputs of one kind that wait at most: 1 MB, still in the cache."""


def is_small(value: Tensor) -> bool:
    """Whether a CPU tensor is one of those that are measured together."""
    return (
        value.dtype is torch.float32
        and 0 < value.numel() <= SMALL
        and value.layout is _STRIDED
        and value.is_contiguous()
    )


def rms_together(values: Sequence[Tensor]) -> list[tuple[float, float, float]]:
    """RMS and numbers of NaN and Inf of each of some small tensors of one shape."""
    rows = _rows(values)
    sizes = _sizes(rows)
    if None not in sizes:
        return [(size, 0.0, 0.0) for size in sizes]  # type: ignore[misc]
    return [
        (size, 0.0, 0.0) if size is not None else _without_mean(careful(row, len(row)))
        for size, row in zip(sizes, torch.from_numpy(rows), strict=True)
    ]


def outputs_together(
    values: Sequence[Tensor] | Tensor, saturation: tuple[float, float] | None, dead: bool
) -> list[list[float]]:
    """The seven numbers of `OutputNumbers.on_cpu` for each of some small tensors of one shape.

    Args:
        values: Outputs, as a list or as one tensor with one more dimension in front.
        saturation: As in `on_cpu`.
        dead: As there; no output is negative where it is set.
    """
    rows = _rows(values)
    n, count = rows.shape
    result = np.full((n, 7), math.nan)
    with np.errstate(invalid="ignore", over="ignore", under="ignore"):
        result[:, 1] = rows @ np.full(count, 1.0 / count, np.float32)
    there = rows != 0
    result[:, 2] = 0.0 if there.all() else [1 - np.count_nonzero(row) / count for row in there]
    if saturation is not None:
        center, distance = saturation
        signs = np.sign(np.abs(rows - np.float32(center)) - np.float32(distance))
        result[:, 3] = 0.5 + 0.5 * signs.mean(1, dtype=np.float64)
    if dead and values[0].dim() > 1:
        largest = torch.from_numpy(rows).view(n, len(values[0]), -1).amax(1).numpy()
        result[:, 4] = [1 - np.count_nonzero(row) / len(row) for row in largest]
    result[:, 5:] = 0.0
    numbers = result.tolist()
    for i, size in enumerate(_sizes(rows)):
        if size is not None:
            numbers[i][0] = size
            continue
        row = torch.from_numpy(rows[i])
        numbers[i][0], numbers[i][1], numbers[i][5], numbers[i][6] = careful(row, count)
        if numbers[i][5] or numbers[i][6]:
            numbers[i][3] = math.nan
    return numbers


class Alike:
    """Small outputs of one kind: copied as they come, in memory that is reused, until measured.

    Args:
        shape: Of the outputs.
        saturation: As in `OutputNumbers.on_cpu`.
        dead: As there.
        begun: Where to put this, as soon as something waits here.
    """

    def __init__(
        self,
        shape: torch.Size,
        saturation: tuple[float, float] | None,
        dead: bool,
        begun: list["Alike"],
    ) -> None:
        self.shape = shape
        self._how = saturation, dead
        self._begun = begun
        self._most = max(1, ENTRIES // shape.numel())
        self._copies = torch.empty(0)
        self._places: list[Tensor] = []
        self._waiting: list[list] = []

    def add(self, output: Tensor, numbers: list) -> None:
        """Copy an output; its seven numbers will be written into `numbers`.

        Gradients are disabled by the caller.
        """
        n = len(self._waiting)
        if n == len(self._places):
            n = self._make_room()
        if not n:
            self._begun.append(self)
        self._places[n].copy_(output)
        self._waiting.append(numbers)

    def measure(self) -> None:
        """Write the numbers of what waits."""
        waiting, self._waiting = self._waiting, []
        if waiting:
            measured = outputs_together(self._copies[: len(waiting)], *self._how)
            for numbers, seven in zip(waiting, measured, strict=True):
                numbers[:7] = seven

    def _make_room(self) -> int:
        """Double the memory, or measure what is in it; returns how many wait then."""
        n = len(self._places)
        if n >= self._most:
            self.measure()
            return 0
        copies = torch.empty((min(max(8, 2 * n), self._most), *self.shape))
        copies[:n] = self._copies[:n] if n else copies[:0]
        self._copies, self._places = copies, list(copies.unbind(0))
        return n


class SmallOutputs:
    """The small outputs of a model that wait to be measured, those of one kind together."""

    KINDS = 64
    """Kinds whose memory is kept; an older one that comes back gets new memory."""

    def __init__(self) -> None:
        self._kinds: dict[tuple, Alike] = {}
        self._shapes: dict[torch.Size, torch.Size] = {}  # one object each: cheap to compare
        self._begun: list[Alike] = []

    def alike(self, shape: torch.Size, saturation: tuple[float, float] | None, dead: bool) -> Alike:
        """Where outputs of this kind wait."""
        kind = shape, saturation, dead
        found = self._kinds.get(kind)
        if found is None:
            if len(self._kinds) >= self.KINDS:
                self._kinds.clear()
                self._shapes.clear()
            shape = self._shapes.setdefault(shape, shape)
            found = self._kinds[kind] = Alike(shape, saturation, dead, self._begun)
        return found

    def measure(self) -> None:
        """Write the numbers of all that wait."""
        while self._begun:
            self._begun.pop().measure()


def _rows(values: Sequence[Tensor] | Tensor) -> np.ndarray:
    graph_is_built = torch.is_grad_enabled()
    set_grad_enabled(False)
    try:
        stacked = values if isinstance(values, Tensor) else torch.stack(list(values))
        return stacked.view(len(stacked), -1).numpy()
    finally:
        set_grad_enabled(graph_is_built)


def _sizes(rows: np.ndarray) -> list[float | None]:
    """RMS of each row; None where its sum of squares cannot be trusted in float32."""
    count = rows.shape[1]
    with np.errstate(invalid="ignore", over="ignore", under="ignore"):
        squares = np.matmul(rows[:, None, :], rows[:, :, None]).ravel().tolist()
    least = count * 1e-32
    return [math.sqrt(s / count) if least < s < 1e37 else None for s in squares]


def _without_mean(numbers: tuple[float, float, float, float]) -> tuple[float, float, float]:
    rms, _, nan, inf = numbers
    return rms, nan, inf
