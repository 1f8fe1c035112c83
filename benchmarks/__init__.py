"""What `make bench` measures: one module per question, one table of floors for all of them.

A module of this folder is a benchmark if it has a function `rows`:

    from benchmarks import Row

    def rows(quick: bool = False) -> Iterator[Row]:
        yield Row("import course_utils, on top of import torch", 0.021, "", at_most=0.05)

It yields one `Row` per figure. A row with `at_most` or `at_least` carries a floor and gets a
verdict; a row without is shown for information (a control, a bare time). `quick` asks for fewer
rounds where there is a choice. `python -m benchmarks` finds the modules by itself, runs them one
after the other, prints each row as it comes, and exits with status 1 if a floor does not hold or
a module raises. `python -m benchmarks import_time notebook_time` runs two of them, `--quick` all
with fewer rounds.

Figures are ratios, medians or counts that mean the same on another machine. Arms that are compared
run interleaved in one process (A B A B), with a control where chance could decide. A module leaves
torch as it found it: threads and default dtype are put back by the runner.
"""

from dataclasses import dataclass

__all__ = ["Row"]


@dataclass(frozen=True)
class Row:
    """One measured figure beside the floor it must keep.

    Attributes:
        what: The figure in words.
        measured: Its value.
        unit: "s", "ms", "MB" …; "" for a ratio or a count.
        at_most: The largest value allowed; None if there is no such floor.
        at_least: The smallest value allowed; None if there is no such floor.
        note: How it scatters or was taken, in a few words.
    """

    what: str
    measured: float
    unit: str = ""
    at_most: float | None = None
    at_least: float | None = None
    note: str = ""

    @property
    def holds(self) -> bool | None:
        """Whether the floor is kept; None where there is none. NaN keeps no floor."""
        if self.at_most is None and self.at_least is None:
            return None
        above = self.at_least is None or self.measured >= self.at_least
        return above and (self.at_most is None or self.measured <= self.at_most)

    @property
    def floor(self) -> str:
        """The floor in words, "" where there is none."""
        parts = [f"≥ {self.at_least:g}"] if self.at_least is not None else []
        parts += [f"≤ {self.at_most:g}"] if self.at_most is not None else []
        return " and ".join(parts)
