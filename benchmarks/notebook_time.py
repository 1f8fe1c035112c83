"""How long each notebook takes from top to bottom, the start of its kernel included.

One thread for OpenMP, as in `make test`, and the learner's progress is left alone. Wall time: what
a reader waits for. Other programs on the machine count too, so the best of two runs is taken where
the first one misses its ceiling; the processor time beside it says how much of it was waiting.
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
CEILINGS = {"08": 60, "12": 60}
CEILING = 20  # of any other notebook, seconds
CELL_TIMEOUT = 120


def seconds(path: Path) -> tuple[float, float]:
    """Wall time and processor time of one run in a fresh kernel."""
    notebook = nbformat.read(path, as_version=4)
    resources = {"metadata": {"path": str(path.parent)}}
    client = NotebookClient(
        notebook, timeout=CELL_TIMEOUT, kernel_name="python3", resources=resources
    )
    start, before = time.perf_counter(), os.times()
    client.execute()
    after = os.times()  # the kernel has ended, so that its time counts as a child's
    used = after.children_user + after.children_system
    used -= before.children_user + before.children_system
    return time.perf_counter() - start, used


def rows(quick: bool = False) -> Iterator[Row]:
    """One row per notebook that is there."""
    with tempfile.TemporaryDirectory() as folder:
        progress = str(Path(folder) / "progress.json")
        with mock.patch.dict(os.environ, COURSE_PROGRESS=progress, OMP_NUM_THREADS="1"):
            for path in sorted(FOLDER.glob("[0-9]*.ipynb")):
                ceiling = CEILINGS.get(path.name[:2], CEILING)
                took = seconds(path)
                if took[0] > ceiling and not quick:
                    took = min(took, seconds(path))
                wall, used = took
                note = f"processor {used:.1f} s"
                yield Row(path.stem, wall, "s", at_most=ceiling, note=note)
