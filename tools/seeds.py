"""Do the claims of the notebooks hold for other random numbers? For `make seeds`.

    python tools/seeds.py [--offsets 5] [notebook ...]    all of notebooks/ when none is named

Runs each notebook once per offset, two at a time, with `COURSE_SEED_OFFSET` = 1000, 2000, …, so
that no two runs share a seed. Claims are compared, outputs are not: a claim that fails is noted
and its cell goes on. Prints row × offset with the share of the tolerance that is used, then the
rows outside and the rows that come close. 1 if a claim or a cell failed.
"""

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellTimeoutError, DeadKernelError

ROOT = Path(__file__).resolve().parent.parent
APART = 1000  # between offsets: notebooks count seeds up from small numbers
TIMEOUT = 300  # seconds per cell
CLOSE = 0.8  # share of a tolerance above which a row is listed
CLOSE_TO_BOUND = 0.9  # of a bound, which a figure may well approach
BOUNDS = ("at most", "at least", "below", "above")


@dataclass
class Run:
    """What one run of a notebook said.

    Attributes:
        rows: Statement → the row of the claim; of one that was compared twice, the worse.
        errors: The cells that raised, in words.
        seconds: How long it took.
    """

    rows: dict[str, dict] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)
    seconds: float = 0.0


def run_cells(path: Path) -> list[str]:
    """Run a notebook to its end, whatever its cells raise, and say which ones did."""
    notebook = nbformat.read(path, as_version=4)
    client = NotebookClient(
        notebook,
        timeout=TIMEOUT,
        kernel_name="python3",
        allow_errors=True,
        resources={"metadata": {"path": str(path.parent)}},
    )
    said = []
    try:
        client.execute()
    except (CellTimeoutError, DeadKernelError) as error:
        said.append(" ".join(str(error).split())[:300])
    for number, cell in enumerate(notebook.cells):
        for output in cell.get("outputs", []):
            if output.output_type == "error":
                value = output.evalue.strip().partition("\n")[0]
                said.append(f"cell {number} ({cell.id}): {output.ename}: {value[:200]}")
    return said


def read_rows(file: Path) -> dict[str, dict]:
    """The rows of a file that `COURSE_CLAIMS` named, by statement."""
    rows: dict[str, dict] = {}
    for line in file.read_text(encoding="utf-8").splitlines() if file.exists() else []:
        row = json.loads(line)
        before = rows.get(row["statement"])
        if before is None or row["used"] >= before["used"]:
            rows[row["statement"]] = row
    return rows


def run(path: Path, offset: int) -> Run:
    """Run one notebook with one offset, in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        claims, errors = Path(folder) / "claims.jsonl", Path(folder) / "errors.json"
        environment = os.environ | {
            "COURSE_SEED_OFFSET": str(APART * offset),
            "COURSE_CLAIMS": str(claims),
            "COURSE_PROGRESS": str(Path(folder) / "progress.json"),
            "OMP_NUM_THREADS": "1",
        }
        environment.setdefault("COURSE_DEVICE", "cpu")
        start = time.perf_counter()
        done = subprocess.run(
            [sys.executable, __file__, "--errors-to", str(errors), str(path)],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        seconds = time.perf_counter() - start
        if done.returncode or not errors.exists():
            return Run(
                read_rows(claims), [f"the run failed: {done.stderr.strip()[-300:]}"], seconds
            )
        return Run(read_rows(claims), json.loads(errors.read_text(encoding="utf-8")), seconds)


def share(used: float) -> str:
    """A share of the tolerance for the table; what is outside carries a mark."""
    if used > 1 or not math.isfinite(used):
        return "✗" if used == math.inf or used > 99 else f"✗ {100 * used:.0f} %"
    return f"{100 * used:.0f} %"


def failed(row: dict) -> bool:
    """Whether a row is outside."""
    return not row["holds"]


def close(row: dict) -> bool:
    """Whether a row that holds comes close to its tolerance."""
    limit = CLOSE_TO_BOUND if row["tolerance"] in BOUNDS else CLOSE
    return row["holds"] and row["used"] > limit


def described(row: dict, offset: int) -> str:
    """A row in a line, with its figures."""
    figures = f"theory {row['theory']:.6g}, measured {row['measured']:.6g}, {row['tolerance']}"
    return f"{row['statement']} | offset {offset}: {figures}, {share(row['used'])}"


def report(name: str, runs: dict[int, Run]) -> tuple[str, bool]:
    """The table of one notebook and what is to say of it, and whether all is well."""
    statements = list(dict.fromkeys(s for one in runs.values() for s in one.rows))
    seconds = ", ".join(f"{one.seconds:.0f} s" for one in runs.values())
    lines = [f"{name}: {len(statements)} rows, {len(runs)} offsets ({seconds})"]
    table = [["claim", *map(str, runs), "most"]]
    outside, near, missing = [], [], []
    for statement in statements:
        rows = {offset: one.rows.get(statement) for offset, one in runs.items()}
        there = {offset: row for offset, row in rows.items() if row is not None}
        if len(there) < len(runs):
            missing.append(
                f"{statement} | not compared with offset {sorted(set(runs) - set(there))}"
            )
        most = max(there.values(), key=lambda row: row["used"])
        shares = [share(row["used"]) if row else "–" for row in rows.values()]
        table.append([statement, *shares, share(most["used"])])
        outside += [described(row, offset) for offset, row in there.items() if failed(row)]
        near += [described(row, offset) for offset, row in there.items() if close(row)]
    widths = [max(len(line[i]) for line in table) for i in range(len(table[0]))]
    for statement, *shares in table:
        numbers = (text.rjust(width) for text, width in zip(shares, widths[1:], strict=True))
        lines.append("  " + "  ".join([statement.ljust(widths[0]), *numbers]))
    errors = [f"offset {offset}, {e}" for offset, one in runs.items() for e in one.errors]
    for title, found in (
        ("outside the tolerance", outside),
        ("cells that raised", errors),
        ("not compared in every run", missing),
        (f"above {CLOSE:.0%} of the tolerance, {CLOSE_TO_BOUND:.0%} of a bound", near),
    ):
        lines.append(f"  {title}: {len(found) or 'none'}")
        lines += [f"    {said}" for said in found]
    return "\n".join(lines) + "\n", not outside and not errors


def main() -> int:
    """Run and report; 1 if something failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("notebooks", nargs="*", type=Path, help="all of notebooks/ when omitted")
    parser.add_argument("--offsets", type=int, default=5, help="how many (5)")
    parser.add_argument("--errors-to", type=Path, help=argparse.SUPPRESS)  # one run, see `run`
    asked = parser.parse_args()
    if asked.errors_to:
        said = run_cells(asked.notebooks[0].resolve())
        asked.errors_to.write_text(json.dumps(said), encoding="utf-8")
        return 0
    if asked.offsets < 1:
        parser.error(f"--offsets {asked.offsets}: 1 or more")
    paths = asked.notebooks or sorted((ROOT / "notebooks").glob("[0-9]*.ipynb"))
    well = True
    with ThreadPoolExecutor(max_workers=2) as pool:
        offsets = range(1, asked.offsets + 1)
        jobs = {path: [pool.submit(run, path.resolve(), k) for k in offsets] for path in paths}
        for path, runs in jobs.items():
            done = {k: job.result() for k, job in zip(offsets, runs, strict=True)}
            text, good = report(path.name, done)
            print(text, flush=True)
            well = well and good
    return 0 if well else 1


if __name__ == "__main__":
    sys.exit(main())
