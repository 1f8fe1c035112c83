"""`make seeds`: shifted draws, recorded claims, and the table of what came close."""

import importlib.util
import json
import math
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

ROOT = Path(__file__).resolve().parents[2]
spec = importlib.util.spec_from_file_location("seeds", ROOT / "tools" / "seeds.py")
seeds = importlib.util.module_from_spec(spec)
spec.loader.exec_module(seeds)


def row(statement="a", used=0.5, tolerance="±1", holds=None):
    holds = used <= 1 if holds is None else holds
    return dict(
        statement=statement, theory=1.0, measured=1.5, spread=0.0, count=1,
        tolerance=tolerance, holds=holds, used=used,
    )  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A notebook with a claim that fails, an assertion that fails, and cells after both."""
    cells = [
        "import torch\nimport course_utils as cu\ncu.seeded(1).initial_seed()",
        "cu.claims.compare('seed', theory=1, measured=cu.seeded(1).initial_seed(), tolerance='±2')",
        "assert cu.seeded(1).initial_seed() == 1, 'only without an offset'",
        "cu.claims.compare('half', theory=1, measured=1.5, tolerance='±1')",
    ]
    path = tmp_path_factory.mktemp("seeds") / "01_x.ipynb"
    nbformat.write(new_notebook(cells=[new_code_cell(cell, id=f"c{i}") for i, cell in
                                       enumerate(cells)]), path)  # fmt: skip
    before = path.read_bytes()
    found = seeds.run(path, 3)
    assert path.read_bytes() == before
    return found


def test_a_failed_claim_is_recorded_and_the_notebook_goes_on(run):
    assert list(run.rows) == ["seed", "half"]
    assert run.rows["seed"]["measured"] == 3001 and not run.rows["seed"]["holds"]
    assert run.rows["seed"]["used"] == 1500 and run.rows["half"]["used"] == 0.5


def test_other_assertions_that_fail_are_told_with_their_cell(run):
    assert run.errors == ["cell 2 (c2): AssertionError: only without an offset"]
    assert run.seconds > 0


def test_of_a_claim_compared_twice_the_worse_counts(tmp_path):
    file = tmp_path / "claims.jsonl"
    lines = [row("a", 0.2), row("a", 3.0), row("a", 0.1), row("b", math.inf)]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    found = seeds.read_rows(file)
    assert found["a"]["used"] == 3.0 and found["b"]["used"] == math.inf
    assert seeds.read_rows(tmp_path / "none") == {}


def test_the_table_has_a_row_a_claim_and_a_column_an_offset():
    runs = {
        1: seeds.Run({"a": row("a", 0.1), "b": row("b", 0.85)}, [], 2.0),
        2: seeds.Run({"a": row("a", 1.2)}, ["cell 3 (x): ValueError: odd"], 3.0),
    }
    text, well = seeds.report("01_x.ipynb", runs)
    lines = text.splitlines()
    assert lines[0] == "01_x.ipynb: 2 rows, 2 offsets (2 s, 3 s)"
    assert lines[1].split() == ["claim", "1", "2", "most"]
    assert lines[2].split() == ["a", "10", "%", "✗", "120", "%", "✗", "120", "%"]
    assert lines[3].split() == ["b", "85", "%", "–", "85", "%"]
    assert "outside the tolerance: 1" in text and "a | offset 2: theory 1, measured 1.5" in text
    assert "cells that raised: 1" in text and "offset 2, cell 3 (x): ValueError: odd" in text
    assert "b | not compared with offset [2]" in text
    assert "above 80% of the tolerance, 90% of a bound: 1" in text
    assert not well


@pytest.mark.parametrize(
    ("used", "tolerance", "listed"),
    [(0.81, "2 %", True), (0.79, "2 %", False), (0.85, "at most", False), (0.95, "below", True)],
)
def test_a_bound_may_be_approached_further_than_a_tolerance(used, tolerance, listed):
    runs = {1: seeds.Run({"a": row(used=used, tolerance=tolerance)}, [], 1.0)}
    text, well = seeds.report("01_x.ipynb", runs)
    assert ("a | offset 1" in text) == listed and well


@pytest.mark.parametrize(
    ("used", "said"),
    [(0.0, "0 %"), (0.994, "99 %"), (1.5, "✗ 150 %"), (2e5, "✗"), (math.inf, "✗")],
)
def test_a_share_is_said_in_percent_and_what_is_outside_is_marked(used, said):
    assert seeds.share(used) == said
