"""The runner of the benchmarks: verdicts, the table, the exit status. No speed is measured here."""

import ast
import math
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import nbformat
import numpy as np
import pytest
import torch

import course_utils as cu

ROOT = Path(__file__).resolve().parents[2]
MODULES = sorted((ROOT / "benchmarks").glob("[a-z]*.py"))


@pytest.fixture
def runner(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT))
    return import_module("benchmarks.__main__")


@pytest.fixture
def pretend(runner, monkeypatch):
    """Run the command line with benchmarks that yield the rows given, by name."""

    def run(arguments=(), **benchmarks):
        def load(name):
            found = benchmarks[name.removeprefix("benchmarks.")]
            return type("Module", (), {"rows": staticmethod(lambda quick: found(quick))})

        monkeypatch.setattr(runner, "names", lambda: sorted(benchmarks))
        monkeypatch.setattr(runner, "import_module", load)
        return runner.main(list(arguments))

    return run


@pytest.mark.parametrize(
    ("measured", "floors", "holds"),
    [
        (1.0, {}, None),
        (1.0, {"at_most": 1.0}, True),
        (1.001, {"at_most": 1.0}, False),
        (1.0, {"at_least": 1.0}, True),
        (0.999, {"at_least": 1.0}, False),
        (5.0, {"at_least": 1.0, "at_most": 4.0}, False),
        (0.5, {"at_least": 1.0, "at_most": 4.0}, False),
        (2.0, {"at_least": 1.0, "at_most": 4.0}, True),
        (math.nan, {"at_most": 1.0}, False),
        (math.nan, {"at_least": 1.0}, False),
    ],
)
def test_a_floor_is_kept_on_its_own_side_of_the_figure(runner, measured, floors, holds):
    assert runner.Row("x", measured, **floors).holds is holds


def test_a_line_has_figure_unit_floor_verdict_and_note(runner):
    said = runner.line(runner.Row("time of x", 12.3456, "s", at_most=20, note="of three"))
    assert said.split() == "time of x 12.35 s ≤ 20 holds of three".split()
    said = runner.line(runner.Row("y", 2.0, at_least=3))
    assert said.split() == "y 2 ≥ 3 DOES NOT HOLD".split()
    assert runner.line(runner.Row("z", 1.0)).split() == ["z", "1"]


def broken(row):
    yield row("before", 1.0)
    raise OSError("no such disk")


@pytest.mark.parametrize(
    ("rows", "status", "said"),
    [
        (lambda row: [row("x", 1.0, at_most=2)], 0, ["Every floor holds"]),
        (
            lambda row: [row("slow", 3.0, at_most=2), row("fast", 1.0, at_most=2)],
            1,
            ["1 missed\n  a: slow", "fast"],
        ),
        (broken, 1, ["before", "a: OSError: no such disk"]),
        (lambda row: [], 1, ["1 missed"]),
    ],
)
def test_the_status_is_0_where_every_floor_holds_and_the_others_run_in_any_case(
    runner, pretend, capsys, rows, status, said
):
    other = [runner.Row("other", 1.0, at_most=2)]
    assert pretend(a=lambda quick: rows(runner.Row), b=lambda quick: other) == status
    table = capsys.readouterr().out
    assert all(text in table for text in [*said, "other"])


def test_only_what_is_named_runs_and_quick_is_handed_on(runner, pretend, capsys):
    seen = []

    def rows(quick):
        seen.append(quick)
        return [runner.Row("x", 1.0)]

    assert pretend(["b", "--quick"], a=lambda quick: 1 / 0, b=rows) == 0
    assert seen == [True]


def test_an_unknown_name_is_an_error_that_lists_the_known_ones(pretend, capsys):
    with pytest.raises(SystemExit) as stopped:
        pretend(["c"], a=lambda quick: [])
    assert stopped.value.code == 2
    assert "unknown: c. Known: a" in capsys.readouterr().err


def test_threads_and_dtype_are_put_back_after_each_benchmark(runner, pretend):
    before = torch.get_num_threads(), torch.get_default_dtype()

    def rows(quick):
        torch.set_num_threads(before[0] + 1)
        torch.set_default_dtype(torch.float64)
        yield runner.Row("x", 1.0)

    pretend(a=rows)
    assert (torch.get_num_threads(), torch.get_default_dtype()) == before


def test_the_modules_with_rows_are_found(runner):
    found = {
        path.stem
        for path in MODULES
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.FunctionDef) and node.name == "rows"
    }
    assert set(runner.names()) == found
    assert {"import_time", "notebook_time", "recording_overhead"} <= found


def test_a_tool_that_is_missing_or_fails_has_a_note_in_the_table_and_the_others_run(
    runner, monkeypatch, capsys
):
    overhead = import_module("benchmarks.recording_overhead")

    def missing(work):
        raise ImportError("No module named 'tool'")

    def broken(work):
        raise RuntimeError("first line\nsecond line")

    arms = {"bare": overhead.bare, "hooks": overhead.empty_hooks}
    arms |= {"missing": missing, "broken": broken, "recorder": overhead.ours(update=True)}
    monkeypatch.setattr(overhead, "ARMS", arms)
    net = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 10))
    batch = torch.ones(8, 4)
    monkeypatch.setattr(overhead, "narrow_rows", lambda rounds: ())
    monkeypatch.setattr(overhead, "latest_row", lambda rounds: overhead.Row("newest row", 1.0))
    monkeypatch.setattr(overhead, "WORKLOADS", (("small", lambda: (net, batch), 4, 1),))
    before = [p.detach().clone() for p in net.parameters()]
    threads = torch.get_num_threads()
    try:
        rows = list(overhead.rows())
    finally:
        torch.set_num_threads(threads)
    table = capsys.readouterr().out
    usual = ["small: bare step", "small: hooks", "small: recorder"]
    assert [row.what for row in rows] == [*usual, "newest row"]
    assert all(row.measured > 0 for row in rows)
    assert "not installed (No module named 'tool')" in table
    assert "RuntimeError: first line" in table and "second line" not in table
    assert all(torch.equal(a, b) for a, b in zip(before, net.parameters(), strict=True))
    assert not any(module._forward_hooks for module in net.modules())


def test_a_notebook_may_take_20_seconds_and_some_that_are_named_more(runner):
    times = import_module("benchmarks.notebook_time")
    assert times.CEILING == 20 and times.CEILINGS == {"08": 60, "09": 40, "11": 40, "12": 60}


@pytest.fixture
def latency(runner):
    return import_module("benchmarks.explorer_latency")


def test_every_explorer_of_the_course_is_measured_and_shown_in_a_cell(latency):
    room = ROOT / "course_utils" / "explorers"
    defined = {
        node.name
        for path in room.glob("*.py")
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.FunctionDef) and node.name.endswith("_explorer")
    }
    assert set(latency.names()) == defined and len(defined) == len(latency.names())
    notebook = nbformat.from_dict(latency.notebook())
    nbformat.validate(notebook)
    assert [cell.source.splitlines()[-1] for cell in notebook.cells] == [
        f"{name}()" for name in latency.names()
    ]


def test_a_grid_has_its_seconds_and_megabytes_beside_their_floors(latency, monkeypatch):
    monkeypatch.setattr(latency, "names", lambda: ["gradient_descent_explorer"])
    seconds, megabytes = latency.grids(quick=True)
    assert (seconds.unit, seconds.at_most) == ("s", 2) and seconds.measured > 0
    arrays = cu.explorers.gradient_descent_explorer().get_state()["_data"]
    assert (megabytes.measured, megabytes.at_most) == (len(arrays) / 1e6, 1)


@pytest.mark.parametrize("count", [20, 8, 1])
def test_median_and_95th_percentile_are_those_of_numpy(latency, count):
    times = np.random.default_rng(count).exponential(size=count).tolist()
    expected = np.median(times), np.percentile(times, 95, method="lower")
    assert latency.summary(times) == pytest.approx(expected)


def test_without_a_browser_the_table_says_why_and_no_floor_is_missed(
    runner, latency, monkeypatch, pretend, capsys
):
    monkeypatch.setenv("COURSE_CHROMIUM", "/nowhere/chromium")
    monkeypatch.setattr(latency, "grids", lambda quick: [])
    assert pretend(latency=lambda quick: latency.rows(quick)) == 0
    assert "not measured: COURSE_CHROMIUM='/nowhere/chromium'" in capsys.readouterr().out


@pytest.mark.skipif(sys.platform not in ("linux", "darwin"), reason="no such count elsewhere")
def test_the_peak_of_memory_grows_by_what_a_kernel_allocates():
    code = import_module("benchmarks.notebook_time").PEAK
    programs = [f"kept = b'x' * {size}\n{code}" for size in (0, 100_000_000)]
    peaks = [float(subprocess.check_output([sys.executable, "-c", one])) for one in programs]
    assert peaks[1] - peaks[0] == pytest.approx(100, abs=10)
