"""Run notebooks from top to bottom and store them with their outputs, for `make notebooks`.

    python tools/store_notebooks.py [notebook ...]    all of notebooks/ when none is named

Nothing but outputs changes. What is stored does not depend on the machine: no execution times, no
widget state, no path, no version of Python. A second run writes nothing.
"""

import argparse
import os
import re
import sys
import tempfile
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError

ROOT = Path(__file__).resolve().parent.parent
TIMEOUT = 120  # seconds per cell
TAG = "nbval-check-output"
WIDGET = "application/vnd.jupyter.widget-view+json"
METADATA = {
    "kernelspec": {
        "display_name": "Python 3 (ipykernel)",
        "language": "python",
        "name": "python3",
    },
    "language_info": {"name": "python", "pygments_lexer": "ipython3"},
}
# A cell that announces a prediction: its stored output is shown when the reader asks for it.
FOLDED = {"outputs_hidden": True}
# What reads differently on another machine: folders, and addresses in memory.
MACHINE = re.compile(
    r"(?<![\w./:])/(?:home|root|tmp|work|Users|usr|opt|mnt|private|var)/[\w.]"
    r"|\b[A-Za-z]:\\(?:Users|Windows|Program)"
    r"|\bat 0x[0-9a-f]{6,}"
)


def merged(outputs: list) -> list:
    """Streams of one name as one output: how a kernel splits them depends on the moment."""
    kept, streams = [], {}
    for output in outputs:
        if output.output_type == "stream" and output.name in streams:
            streams[output.name]["text"] += output.text
            continue
        if output.output_type == "stream":
            streams[output.name] = output
        kept.append(output)
    return kept


def without_widgets(outputs: list) -> list:
    """Outputs without widget views, whose state is not stored; a picture beside one stays."""
    kept = []
    for output in outputs:
        data = output.get("data", {})
        if data.pop(WIDGET, None) is not None and set(data) <= {"text/plain"}:
            continue
        kept.append(output)
    return kept


def texts(outputs: list) -> list[str]:
    """Everything in the outputs that a reader sees as text."""
    found = []
    for output in outputs:
        found.append(output.get("text", ""))
        found += [v for k, v in output.get("data", {}).items() if k.startswith("text/")]
    return found


def complaints(cell, outputs: list) -> list[str]:
    """What keeps these outputs from being stored, in words."""
    said = []
    kept = without_widgets([nbformat.from_dict(output) for output in outputs])
    if len(kept) < len(outputs) and TAG in cell.metadata.get("tags", []):
        said.append(f"shows a widget or progress bar and is tagged {TAG}: split it in two")
    for output in outputs:
        if output.get("name") == "stderr":
            said.append(f"writes to stderr: {output.text.strip()[:300]}")
    for text in texts(kept):
        if found := MACHINE.search(text):
            line = text[max(0, found.start() - 60) : found.end() + 60]
            said.append(f"shows something of this machine: …{line}…")
    return said


def store(path: Path) -> tuple[bool, list[str]]:
    """Run one notebook and store it.

    Returns:
        Whether the file changed, and what is wrong (then nothing is written).
    """
    before = path.read_text(encoding="utf-8")
    notebook = nbformat.reads(before, as_version=4)
    for cell in notebook.cells:
        tags = sorted(set(cell.metadata.get("tags", [])))
        folded = cell.metadata.get("jupyter", {}).get("outputs_hidden") is True
        kept = {"tags": tags} if tags else {}
        cell.metadata = nbformat.from_dict(kept | ({"jupyter": FOLDED} if folded else {}))
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    notebook.metadata = nbformat.from_dict(METADATA)
    client = NotebookClient(
        notebook,
        timeout=TIMEOUT,
        kernel_name="python3",
        record_timing=False,
        store_widget_state=False,
        resources={"metadata": {"path": str(path.parent)}},
    )
    try:
        client.execute()
    except (CellExecutionError, CellTimeoutError, DeadKernelError) as error:
        return False, [str(error)]
    wrong = []
    for number, cell in enumerate(notebook.cells):
        if cell.cell_type != "code":
            continue
        cell.metadata.pop("execution", None)
        cell.outputs = merged(cell.outputs)
        wrong += [f"cell {number} {said}" for said in complaints(cell, cell.outputs)]
        cell.outputs = without_widgets(cell.outputs)
    notebook.metadata = nbformat.from_dict(METADATA)
    if wrong:
        return False, wrong
    nbformat.validate(notebook)
    after = nbformat.writes(notebook).rstrip("\n") + "\n"
    if after == before:
        return False, []
    half = path.with_name(f".{path.name}.half")
    half.write_text(after, encoding="utf-8", newline="\n")
    os.replace(half, path)
    return True, []


def main() -> int:
    """Store the notebooks named on the command line; 1 if one of them could not be stored."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("notebooks", nargs="*", type=Path, help="all of notebooks/ when omitted")
    asked = parser.parse_args().notebooks
    paths = asked or sorted((ROOT / "notebooks").glob("[0-9]*.ipynb"))
    failed = False
    with tempfile.TemporaryDirectory() as folder:
        os.environ["COURSE_PROGRESS"] = str(Path(folder) / "progress.json")
        os.environ["OMP_NUM_THREADS"] = "1"
        os.environ.setdefault("COURSE_DEVICE", "cpu")
        for path in paths:
            Path(os.environ["COURSE_PROGRESS"]).unlink(missing_ok=True)
            start = time.perf_counter()
            changed, wrong = store(path.resolve())
            verdict = "NOT STORED" if wrong else "stored" if changed else "unchanged"
            print(f"{path.name}: {verdict}, {time.perf_counter() - start:.1f} s", flush=True)
            for said in wrong:
                print(f"  {said}", file=sys.stderr)
            failed = failed or bool(wrong)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
