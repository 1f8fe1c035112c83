"""Run the benchmarks and print one table: `python -m benchmarks [--quick] [name ...]`."""

import argparse
import sys
import time
import traceback
from collections.abc import Callable, Iterable
from importlib import import_module
from pathlib import Path

import torch

from benchmarks import Row

VERDICTS = {None: "", True: "holds", False: "DOES NOT HOLD"}


def names() -> list[str]:
    """The benchmarks of this folder, by name."""
    files = Path(__file__).parent.glob("[a-z]*.py")
    return sorted(file.stem for file in files if "\ndef rows(" in file.read_text(encoding="utf-8"))


def line(row: Row) -> str:
    """One row of the table."""
    figure = f"{row.measured:.4g} {row.unit}".strip()
    said = f"{row.what:58} {figure:>12}  {row.floor:10} {VERDICTS[row.holds]:13} {row.note}"
    return said.rstrip()


def run(benchmarks: Iterable[tuple[str, Callable[..., Iterable[Row]]]], quick: bool) -> list[str]:
    """Print every row of the benchmarks as it comes.

    Returns:
        What does not hold, in words: floors missed and benchmarks that raised.
    """
    missed = []
    for name, rows in benchmarks:
        print(f"\n{name}", flush=True)
        threads, dtype = torch.get_num_threads(), torch.get_default_dtype()
        start = time.perf_counter()
        count = 0
        try:
            for row in rows(quick=quick):
                count += 1
                print("  " + line(row), flush=True)
                if row.holds is False:
                    missed.append(f"{name}: {row.what}")
            if count == 0:
                missed.append(f"{name}: no row")
        except Exception as error:
            traceback.print_exc()
            missed.append(f"{name}: {type(error).__name__}: {error}")
        finally:
            torch.set_num_threads(threads)
            torch.set_default_dtype(dtype)
        print(f"  ({time.perf_counter() - start:.0f} s)", flush=True)
    return missed


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmarks named, or all; 1 if a floor is missed or a benchmark raises."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="name", help=", ".join(names()))
    parser.add_argument("--quick", action="store_true", help="fewer rounds")
    options = parser.parse_args(arguments)
    if unknown := set(options.names) - set(names()):
        parser.error(f"unknown: {', '.join(sorted(unknown))}. Known: {', '.join(names())}")
    chosen = [(name, import_module(f"benchmarks.{name}").rows) for name in options.names or names()]
    missed = run(chosen, options.quick)
    print(f"\n{len(missed)} missed" if missed else "\nEvery floor holds.")
    for said in missed:
        print(f"  {said}")
    return int(bool(missed))


if __name__ == "__main__":
    sys.exit(main())
