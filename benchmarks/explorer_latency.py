"""How fast every explorer is: its grid in Python, and its picture in JupyterLab.

Grid: wall time of the call, the better of two, with the processor time beside it, and what it sends
to the browser. Picture: in headless Chromium, from the event of the key press to the changed
drawing, 20 moves to and fro of each slider; the worst slider of an explorer counts. Other programs
on the machine count too, so what misses a floor is measured again, at most three times in all.
Chromium is found as in the browser tests; where there is none, the rows of the picture are left
out, and one says so.
"""

import importlib.util
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import course_utils as cu
from benchmarks import Row

DRIVER = Path(__file__).resolve().parent.parent / "tests" / "browser" / "conftest.py"
MEDIAN_MS, P95_MS, GRID_S, GRID_MB = 16.0, 50.0, 2.0, 1.0
MOVES, QUICK_MOVES, ROUNDS = 20, 8, 3
NOTEBOOK = "explorers.ipynb"


def names() -> list[str]:
    """Every explorer of the course."""
    return [name for name in cu.explorers.__all__ if name.endswith("_explorer")]


def grids(quick: bool) -> Iterator[Row]:
    """Seconds and megabytes of each grid."""
    for name in names():
        took, size = (float("inf"), 0.0), 0
        for attempt in range(1 if quick else 3):
            if attempt == 2 and took[0] <= GRID_S:
                break
            start, used = time.perf_counter(), time.process_time()
            size = getattr(cu.explorers, name)().nbytes
            took = min(took, (time.perf_counter() - start, time.process_time() - used))
        note = f"processor {took[1]:.2f} s"
        yield Row(f"{name}: grid", took[0], "s", at_most=GRID_S, note=note)
        yield Row(f"{name}: sent to the browser", size / 1e6, "MB", at_most=GRID_MB)


def notebook() -> dict:
    """A notebook that shows every explorer, one in each cell."""
    cells = [
        {
            "cell_type": "code",
            "id": name.replace("_", "-"),
            "source": f"from course_utils.explorers import {name}\n{name}()",
            "metadata": {},
            "outputs": [],
            "execution_count": None,
        }
        for name in names()
    ]
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    return {"cells": cells, "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 5}


def driver() -> ModuleType:
    """What the browser tests start JupyterLab and Chromium with."""
    if "browser_driver" not in sys.modules:
        spec = importlib.util.spec_from_file_location("browser_driver", DRIVER)
        sys.modules["browser_driver"] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules["browser_driver"])
    return sys.modules["browser_driver"]


def summary(times: list[float]) -> tuple[float, float]:
    """Median and 95th percentile (of 20, the largest but one)."""
    return statistics.median(times), sorted(times)[int(0.95 * (len(times) - 1))]


def slowest(explorer, moves: int) -> tuple[tuple[float, str], tuple[float, str]]:
    """Largest median and largest 95th percentile of its sliders, with the slider's name."""
    medians, tails = [], []
    for slider in explorer.sliders:
        best = (float("inf"), float("inf"))
        for _ in range(ROUNDS):
            best = min(best, summary(explorer.latencies(slider, moves)), key=lambda pair: pair[1])
            if best[0] <= MEDIAN_MS and best[1] <= P95_MS:
                break
        name = slider.get_attribute("name")
        medians.append((best[0], name))
        tails.append((best[1], name))
    return max(medians), max(tails)


def pictures(quick: bool) -> Iterator[Row]:
    """Milliseconds from key press to changed picture."""
    browser = driver()
    with (
        tempfile.TemporaryDirectory() as folder,
        browser.jupyter_lab(Path(folder)) as lab,
        browser.chromium() as chromium,
    ):
        (lab.folder / NOTEBOOK).write_text(json.dumps(notebook()), encoding="utf-8")
        with browser.opened(chromium, lab, NOTEBOOK) as page:
            page.run_all()
            if wrong := page.errors() + page.problems:
                raise RuntimeError("; ".join(wrong))
            for cell, name in enumerate(names()):
                explorer = page.explorer(cell)
                median, tail = slowest(explorer, QUICK_MOVES if quick else MOVES)
                count = f"slowest of {len(explorer.sliders)} sliders: "
                yield Row(f"{name}: median", median[0], "ms", MEDIAN_MS, note=count + median[1])
                yield Row(f"{name}: p95", tail[0], "ms", P95_MS, note=count + tail[1])


def no_browser() -> str:
    """Why the pictures cannot be measured here; empty where they can."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        return "playwright is not installed"
    try:
        with sync_playwright() as playwright:
            driver().find_chromium(playwright)
    except RuntimeError as error:
        return str(error)
    return ""


def rows(quick: bool = False) -> Iterator[Row]:
    """Grids first, then pictures where there is a browser."""
    yield from grids(quick)
    if why := no_browser():
        yield Row("key press to changed picture", float("nan"), "ms", note=f"not measured: {why}")
        return
    load = f"load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    yield Row("cores", os.cpu_count() or 1, note=load)
    yield from pictures(quick)
