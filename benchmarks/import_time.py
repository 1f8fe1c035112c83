"""What `import course_utils` costs on top of `import torch`.

Fresh processes, interleaved, each timing its own imports in process time: first torch, then
course_utils. A control imports torch and then a module of the standard library that is loaded
already, so it shows what the clock itself adds.
"""

import statistics
import subprocess
import sys
from collections.abc import Iterator

from benchmarks import Row

ROUNDS, QUICK_ROUNDS = 15, 5
# The last argument is imported after torch; prints seconds for torch and for it.
PROGRAM = """
import sys, time
from importlib import import_module
start = time.process_time()
import torch
between = time.process_time()
import_module(sys.argv[1])
print(between - start, time.process_time() - between)
"""


def once(name: str) -> tuple[float, float]:
    """Seconds of process time for torch, and for the module `name` after it."""
    run = subprocess.run(
        [sys.executable, "-c", PROGRAM, name], capture_output=True, text=True, check=True
    )
    torch, after = run.stdout.split()
    return float(torch), float(after)


def rows(quick: bool = False) -> Iterator[Row]:
    """Medians over interleaved rounds, after one that fills the caches of the file system."""
    names = ("course_utils", "importlib")
    torch, after = [], {name: [] for name in names}
    for i in range(1 + (QUICK_ROUNDS if quick else ROUNDS)):
        for name in names if i % 2 else reversed(names):
            seconds, more = once(name)
            if i > 0:
                torch.append(seconds)
                after[name].append(more)
    base = statistics.median(torch)
    yield Row("import torch", base, "s", note=f"{min(torch):.2f} to {max(torch):.2f}")
    shares = {name: statistics.median(seconds) / base for name, seconds in after.items()}
    yield Row("import course_utils after it, share of that", shares["course_utils"], at_most=0.05)
    yield Row("a module that is loaded already (control)", shares["importlib"])
