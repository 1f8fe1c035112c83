"""Count exact zeros and dead units of many outputs, cheaply: eight counters per integer.

Comparing floats and counting reads 8 GB/s. Converting to bool reads 50, and a bool is a byte
that is 0 or 1. Eight neighbouring units lie in one int64, so a sum of int64 over the batch adds
eight counters at once, exactly as long as the batch has at most 255 rows. What is left is one
byte per unit. Those of all layers are added up together when the step is closed.
"""

import math

import numpy as np
import torch
from torch import Tensor

LARGEST_BATCH = 255
LARGEST = 1 << 24
FIRST_SIZE = 1 << 14
ZEROS, DEAD = 2, 4
"""Places in the list of numbers of an output."""


class ZeroCounts:
    """Counts of nonzero entries per unit, of the outputs since the last `finish()`."""

    def __init__(self) -> None:
        self._bools: dict[tuple[int, int], tuple[Tensor, Tensor]] = {}
        self._storage = torch.empty(0, dtype=torch.bool, device="cpu")
        self._counters = torch.empty(FIRST_SIZE, dtype=torch.uint8, device="cpu")
        self._slots: list[tuple[int, int, Tensor]] = []
        self._waiting: list[tuple[list, int, int, bool]] = []
        self._layout: list[tuple[int, int, bool]] = []
        self._divide_by: tuple = ()
        self._used = 0

    @staticmethod
    def fits(rows: int, count: int) -> bool:
        """Whether a contiguous output of so many rows and entries can be counted this way."""
        return 0 < rows <= LARGEST_BATCH and count % (8 * rows) == 0 and count <= LARGEST

    def add(self, values: Tensor, rows: int, numbers: list, dead: bool) -> None:
        """Count the nonzero entries of an output.

        Args:
            values: The output, contiguous, as a 1-D float tensor.
            rows: Size of its first dimension.
            numbers: Where `finish()` writes the share of zeros, and of dead units.
            dead: Whether to write the share of dead units.
        """
        units = values.numel() // rows
        views = self._bools.get((rows, units))
        if views is None:
            views = self._views(rows, units)
        bools, packed = views
        bools.copy_(values)
        slots, place = self._slots, len(self._waiting)
        if place < len(slots) and slots[place][0] == self._used and slots[place][1] == units:
            slot = slots[place][2]
        else:
            slot = self._slot(units)
        used = self._used
        torch.sum(packed, 0, out=slot)
        self._waiting.append((numbers, rows, units, dead))
        self._used = used + units

    def finish(self) -> None:
        """Write the shares of all outputs that were added, and start again."""
        if not self._waiting:
            return
        layout = [entry[1:] for entry in self._waiting]
        if layout != self._layout:
            self._layout = layout
            offsets = np.cumsum([0, *(units for _, units, _ in layout)])[:-1]
            sizes = np.array([rows * units for rows, units, _ in layout], dtype=np.float64)
            units = np.array([float(u) if dead else math.nan for _, u, dead in layout])
            self._divide_by = offsets, sizes, units
        offsets, sizes, units = self._divide_by
        counters = self._counters.numpy()[: self._used]
        zeros = 1.0 - np.add.reduceat(counters, offsets, dtype=np.int64) / sizes
        dead = 1.0 - np.add.reduceat(counters != 0, offsets, dtype=np.int64) / units
        for entry, share, dead_share in zip(
            self._waiting, zeros.tolist(), dead.tolist(), strict=True
        ):
            numbers = entry[0]
            numbers[ZEROS], numbers[DEAD] = share, dead_share
        self._waiting, self._used = [], 0

    def _views(self, rows: int, units: int) -> tuple[Tensor, Tensor]:
        """The scratch bools for one shape, flat and as (rows, units/8) int64."""
        if self._storage.numel() < rows * units:
            self._storage = torch.empty(rows * units, dtype=torch.bool, device="cpu")
            self._bools = {}
        bools = self._storage[: rows * units]
        views = bools, bools.view(torch.int64).view(rows, units // 8)
        self._bools[rows, units] = views
        return views

    def _slot(self, units: int) -> Tensor:
        """The counters of the next output, as int64."""
        if self._used + units > self._counters.numel():
            self.finish()
            if units > self._counters.numel() or self._counters.numel() < LARGEST // 8:
                size = max(units, 2 * self._counters.numel())
                self._counters = torch.empty(size, dtype=torch.uint8, device="cpu")
                self._slots = []
        del self._slots[len(self._waiting) :]
        slot = self._counters[self._used : self._used + units].view(torch.int64)
        self._slots.append((self._used, units, slot))
        return slot
