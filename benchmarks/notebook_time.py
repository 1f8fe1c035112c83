"""How long each notebook takes from top to bottom, the start of its kernel included, and how much
memory its kernel needs.

One thread for OpenMP, as in `make test`, and the learner's progress is left alone. Wall time: what
a reader waits for, so it ends with the last cell, not with the kernel a second later. Other
programs on the machine count too, so the best of two runs is taken where the first one misses its
ceiling; the processor time beside it, kernel's end included, says how much of it was waiting.
Memory is the largest resident size of the kernel, as the operating system tells at the end.
"""

import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import nbformat
from nbclient import NotebookClient

from benchmarks import Row

FOLDER = Path(__file__).resolve().parent.parent / "notebooks"
CEILINGS = {"08": 60, "09": 40, "11": 40, "12": 60}
CEILING = 20  # of any other notebook, seconds
MEMORY = 1500  # megabytes
CELL_TIMEOUT = 120
# Prints megabytes, and nothing where the system does not tell. Not by ru_maxrss on Linux: a process
# inherits that of the one that started it.
PEAK = """
import sys
if sys.platform == "linux":
    lines = open("/proc/self/status").read().splitlines()
    print(next(1024e-6 * float(line.split()[1]) for line in lines if line.startswith("VmHWM")))
elif sys.platform == "darwin":
    import resource
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6)
"""


def run(path: Path) -> tuple[float, float, float]:
    """Seconds, seconds of the processor and megabytes (NaN if unknown) of a run in a new kernel."""
    notebook = nbformat.read(path, as_version=4)
    notebook.cells.append(nbformat.v4.new_code_cell(PEAK))
    resources = {"metadata": {"path": str(path.parent)}}
    client = NotebookClient(
        notebook, timeout=CELL_TIMEOUT, kernel_name="python3", resources=resources
    )
    start, before = time.perf_counter(), os.times()
    with client.setup_kernel():
        for index, cell in enumerate(notebook.cells):
            client.execute_cell(cell, index)
        wall = time.perf_counter() - start
    after = os.times()  # the kernel has ended, so that its time counts as a child's
    used = after.children_user + after.children_system
    used -= before.children_user + before.children_system
    said = "".join(output.get("text", "") for output in notebook.cells[-1].outputs)
    return wall, used, float(said or "nan")


def rows(quick: bool = False) -> Iterator[Row]:
    """Two rows per notebook that is there."""
    with tempfile.TemporaryDirectory() as folder:
        progress = str(Path(folder) / "progress.json")
        with mock.patch.dict(os.environ, COURSE_PROGRESS=progress, OMP_NUM_THREADS="1"):
            for path in sorted(FOLDER.glob("[0-9]*.ipynb")):
                ceiling = CEILINGS.get(path.name[:2], CEILING)
                took = run(path)
                if took[0] > ceiling and not quick:
                    took = min(took, run(path))
                wall, used, peak = took
                note = f"processor {used:.1f} s"
                yield Row(path.stem, wall, "s", at_most=ceiling, note=note)
                if peak == peak:  # not NaN
                    yield Row(f"{path.stem}: memory", peak, "MB", at_most=MEMORY)
