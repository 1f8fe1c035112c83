"""Write the table of chapters into README.md, from the notebooks that are there.

    python tools/write_chapter_table.py

Title, question and minutes are read from the first cell of each notebook. `make notebooks` runs
this too, and a test holds that README and notebooks agree.
"""

import os
import re
from pathlib import Path

import nbformat

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
START, STOP = "<!-- chapters -->\n", "<!-- end of chapters -->\n"
HEAD = (
    "| chapter | question | minutes to read and run | minutes of exercises |\n|---|---|---|---|\n"
)


def chapter(path: Path) -> str:
    """One row: title as a link, question, minutes.

    Raises:
        ValueError: If the first cell does not say all of it.
    """
    text = " ".join(nbformat.read(path, as_version=4).cells[0].source.split())
    title = re.match(r"# (.+?) \*", text)
    question = re.search(r"\*\*(?:Question\.\*\* )?([^*]+?\?)", text)
    minutes = re.search(r"Time[.:]\*+ (\d+) minutes to read and run, (\d+) minutes", text)
    if not (title and question and minutes):
        raise ValueError(
            f"The first cell of {path.name} must read like '# 05 · Title', '**Question.** …?' and "
            "'**Time.** 60 minutes to read and run, 40 minutes for the exercises.'"
        )
    link = f"[{title[1]}](notebooks/{path.name})"
    return f"| {link} | {question[1]} | {minutes[1]} | {minutes[2]} |\n"


def table() -> str:
    """The whole table."""
    paths = sorted((ROOT / "notebooks").glob("[0-9]*.ipynb"))
    return HEAD + "".join(chapter(path) for path in paths)


def replaced(text: str) -> str:
    """README.md with the table between its two marks."""
    before, rest = text.split(START)
    _, after = rest.split(STOP)
    return f"{before}{START}{table()}{STOP}{after}"


if __name__ == "__main__":
    before = README.read_text(encoding="utf-8")
    after = replaced(before)
    if after != before:
        half = README.with_name(".README.half")
        half.write_text(after, encoding="utf-8", newline="\n")
        os.replace(half, README)
    print("README.md: unchanged" if after == before else "README.md: chapters written")
