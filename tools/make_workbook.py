"""Make or renew workbook/, the learner's own copy of the notebooks, for `make lab`.

    python tools/make_workbook.py [--from notebooks] [--to workbook]

What a learner wrote is never overwritten. A copy that nobody touched is renewed with the course; of
a chapter that changed after a learner began it, the new one is put beside the old one, and a line
says so.
"""

import argparse
import copy
import hashlib
import json
import os
import sys
from pathlib import Path

import nbformat
from nbformat.v4 import new_markdown_cell

ROOT = Path(__file__).resolve().parent.parent
NOTES = ".made.json"  # what was copied from what, in the folder of the copies


def for_a_learner(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """A copy in which nothing tells the result of a prediction: its cell has no output yet.

    The cells are those that are stored with their output hidden. All other outputs stay, so that a
    chapter can be read before it is run.
    """
    own = copy.deepcopy(notebook)
    for cell in own.cells:
        if cell.metadata.get("jupyter", {}).get("outputs_hidden") is not True:
            continue
        del cell.metadata["jupyter"]["outputs_hidden"]  # what the learner runs is shown
        if not cell.metadata["jupyter"]:
            del cell.metadata["jupyter"]
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    return own


def renew(source: Path, target: Path) -> list[str]:
    """Bring the learner's folder up to date, and say in lines what was done.

    Args:
        source: The folder with the chapters as they are stored.
        target: The learner's folder; made where there is none.

    Returns:
        A line for each chapter that is new beside an old one, and one for all that were copied.
    """
    target.mkdir(parents=True, exist_ok=True)
    notes = _read(target / NOTES)
    said, copied = [], 0
    for path in sorted(source.glob("*.ipynb")):
        chapter = nbformat.read(path, as_version=4)
        content = _content(chapter)
        new = {"file": path.name, "content": content, "copy": "", "before": ""}
        note = notes.get(path.name, new)
        file = target / note["file"]
        there = file.read_bytes() if file.exists() else None
        touched = there is not None and note["copy"] != _hash(there)
        if touched and note["content"] == content:
            notes[path.name] = note  # the learner's own, of this chapter as it is
            continue
        before = note["before"]
        if touched:
            before, file = file.name, _free(target, path.stem)
            said.append(
                f"{path.name} has changed since you began it. The new one is {file.name}; yours, "
                f"{before}, is as you left it."
            )
        own = _bytes(_with_a_line(for_a_learner(chapter), before))
        if own != there:
            _write(file, own)
            copied += not touched
        notes[path.name] = new | {"file": file.name, "copy": _hash(own), "before": before}
    _write(target / NOTES, json.dumps(notes, indent=1, sort_keys=True).encode())
    if copied:
        chapters = "1 chapter" if copied == 1 else f"{copied} chapters"
        said.insert(0, f"{chapters} copied to {target.name}/, which is yours to write in.")
    return said


def _with_a_line(notebook: nbformat.NotebookNode, before: str) -> nbformat.NotebookNode:
    """The notebook, with a line on the copy that it stands beside, if there is one."""
    if not before:
        return notebook
    text = (
        f"> This chapter has changed since you began it. What you wrote is in [{before}]({before})."
    )
    notebook.cells.insert(1, new_markdown_cell(text, id="changed-since"))
    return notebook


def _free(folder: Path, stem: str) -> Path:
    """The first name that is not taken: 05_x_2.ipynb, 05_x_3.ipynb, …"""
    number = 2
    while (path := folder / f"{stem}_{number}.ipynb").exists():
        number += 1
    return path


def _content(notebook: nbformat.NotebookNode) -> str:
    """A fingerprint of what a learner reads and runs, without its outputs."""
    cells = [[cell.id, cell.cell_type, cell.source] for cell in notebook.cells]
    return _hash(json.dumps(cells).encode())


def _bytes(notebook: nbformat.NotebookNode) -> bytes:
    return (nbformat.writes(notebook).rstrip("\n") + "\n").encode()


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _read(file: Path) -> dict:
    """The notes; none where they are missing or damaged: then all copies count as the learner's."""
    try:
        notes = json.loads(file.read_text(encoding="utf-8"))
        return {
            name: {key: str(note[key]) for key in ("file", "content", "copy", "before")}
            for name, note in notes.items()
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def _write(file: Path, content: bytes) -> None:
    half = file.with_name(f".{file.name}.half")
    half.write_bytes(content)
    os.replace(half, file)


def main() -> int:
    """Renew the folder and print what there is to say."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--from", dest="source", type=Path, default=ROOT / "notebooks")
    parser.add_argument("--to", dest="target", type=Path, default=ROOT / "workbook")
    asked = parser.parse_args()
    try:
        for line in renew(asked.source, asked.target):
            print(line)
    except OSError as error:
        print(f"{asked.target} cannot be written: {error.strerror}.", file=sys.stderr)
        print("make lab FOLDER=notebooks opens the chapters as they are stored.", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
