"""Count how long a chapter takes a first-time reader, and write it where it is said.

    python tools/count_minutes.py            print the figures beside those that are written
    python tools/count_minutes.py --write    write them, for `make minutes`

A minute holds 100 words of prose, 20 formulas in a line, 10 lines of code, one displayed formula or
one stored picture. The exercises have minutes of their own, and what is folded is left out. The
figure, to five minutes, is written into the first cell of each notebook, into the map and the paths
of notebook 00, and into README.md.
"""

import argparse
import importlib.util
import os
import re
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import nbformat

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
MAP = ROOT / "course_utils" / "plots" / "course_map.py"
WORDS, FORMULAS, LINES = 100, 20, 10  # in a minute
LINE = re.compile(r"(\*\*Time\.?:?\*\*:?) \d+ minutes to read and run, \d+ minutes for")
START, STOP = "<!-- paths -->\n", "<!-- end of paths -->"


@dataclass(frozen=True)
class Count:
    """What a reader of a chapter meets, without its exercises and what is folded."""

    words: int = 0
    formulas: int = 0
    displayed: int = 0
    lines: int = 0
    pictures: int = 0

    def __add__(self, other: "Count") -> "Count":
        return Count(
            *(a + b for a, b in zip(vars(self).values(), vars(other).values(), strict=True))
        )

    @property
    def minutes(self) -> float:
        """The minutes of all of it."""
        read = self.words / WORDS + self.formulas / FORMULAS + self.lines / LINES
        return read + self.displayed + self.pictures


def of_prose(text: str) -> Count:
    """What a piece of Markdown holds."""
    text = re.sub(r"<details.*?</details>", "", text, flags=re.DOTALL)
    blocks = re.findall(r"^```.*?\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE)
    text = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    lines = sum(bool(line.strip()) for block in blocks for line in block.splitlines())
    text, displayed = re.subn(r"\$\$.+?\$\$", " ", text, flags=re.DOTALL)
    text, pictures = re.subn(r"!\[[^\]]*\]\([^)]*\)|<img [^>]*>", " ", text)
    text, formulas = re.subn(r"(?<!\\)\$[^$\n]+\$", " ", text)
    text = re.sub(r"\]\([^)]*\)|<[^>]+>", " ", text)  # addresses and tags are not read
    words = sum(bool(re.search(r"\w", word)) for word in text.split())
    return Count(words, formulas, displayed, lines, pictures)


def without_exercises(notebook: nbformat.NotebookNode) -> list:
    """The cells, as (type, text, outputs), that are not below the heading of the exercises."""
    kept, skipping = [], False
    for cell in notebook.cells:
        if cell.cell_type != "markdown":
            if not skipping:
                kept.append((cell.cell_type, cell.source, cell.get("outputs", [])))
            continue
        lines = []
        for line in cell.source.splitlines():
            if re.match(r"##? ", line):
                skipping = bool(re.match(r"## [\d. ]*Exercises?\b", line))
            if not skipping:
                lines.append(line)
        kept.append(("markdown", "\n".join(lines), []))
    return kept


def count(notebook: nbformat.NotebookNode) -> Count:
    """All that a reader of this notebook meets."""
    total = Count()
    for kind, text, outputs in without_exercises(notebook):
        if kind == "markdown":
            total += of_prose(text)
            continue
        pictures = sum("image/png" in output.get("data", {}) for output in outputs)
        lines = sum(bool(line.strip()) for line in text.splitlines())
        total += Count(lines=lines, pictures=pictures)
    return total


def to_five(minutes: float) -> int:
    """The figure that is said: to five minutes."""
    return max(5, 5 * round(minutes / 5))


def exercise_minutes(notebook: nbformat.NotebookNode) -> int:
    """The minutes of the exercises that this notebook asks."""
    import course_utils as cu

    code = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "code")
    asked = dict.fromkeys(re.findall(r"exercises\.(\w+)\.(\w+)\.check\(", code))
    return sum(getattr(getattr(cu.exercises, chapter), name).minutes for chapter, name in asked)


def counted(folder: Path = ROOT / "notebooks") -> dict[str, tuple[int, int]]:
    """Number of each chapter that is there → minutes to read and run, and of its exercises."""
    found = {}
    for path in sorted(folder.glob("[0-9]*.ipynb")):
        notebook = nbformat.read(path, as_version=4)
        found[path.name[:2]] = to_five(count(notebook).minutes), exercise_minutes(notebook)
    return found


def said(folder: Path = ROOT / "notebooks") -> dict[str, tuple[int, int]]:
    """Number of each chapter that is there → the minutes that its first cell says."""
    found = {}
    for path in sorted(folder.glob("[0-9]*.ipynb")):
        first = nbformat.read(path, as_version=4).cells[0].source
        read, solve = re.findall(r"(\d+) minutes", " ".join(first.split()))[:2]
        found[path.name[:2]] = int(read), int(solve)
    return found


def paths_table(minutes: dict[str, tuple[int, int]]) -> str:
    """The paths through the chapters that are there, with their minutes."""
    from course_utils.plots.course_map import PATHS

    rows = "| path | chapters | hours to read and run | hours of exercises |\n|---|---|---|---|\n"
    for name, numbers in PATHS:
        numbers = tuple(minutes) if numbers is None else numbers
        if set(numbers) <= set(minutes):
            read, solve = (sum(minutes[n][i] for n in numbers) for i in (0, 1))
            rows += f"| **{name}** | {_ranges(numbers)} | {_hours(read)} | {_hours(solve)} |\n"
    return rows


def _hours(minutes: int) -> str:
    return f"{minutes // 60}:{minutes % 60:02d}"


def _ranges(numbers: tuple[str, ...]) -> str:
    """00–05, 07, 08, 12"""
    runs: list[list[str]] = []
    for number in numbers:
        if runs and int(number) == int(runs[-1][-1]) + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ", ".join(f"{r[0]}–{r[-1]}" if len(r) > 2 else ", ".join(r) for r in runs)


def with_paths(text: str, minutes: dict[str, tuple[int, int]]) -> str:
    """The text with the table of paths between its two marks."""
    before, rest = text.split(START)
    _, after = rest.split(STOP)
    return f"{before}{START}\n{paths_table(minutes)}\n{STOP}{after}"


def with_minutes(text: str, minutes: tuple[int, int]) -> str:
    """The first cell of a notebook with its line of minutes.

    Raises:
        ValueError: If there is no such line.
    """
    line = rf"\1 {minutes[0]} minutes to read and run, {minutes[1]} minutes for"
    text, found = LINE.subn(line, text)
    if found != 1:
        raise ValueError(f"no line like '**Time.** 60 minutes to read and run, …' in {text[:80]!r}")
    return text


def on_the_map(source: str, minutes: dict[str, tuple[int, int]]) -> str:
    """The source of the map with the minutes to read of each chapter that is there."""
    for number, (read, _) in minutes.items():
        source = re.sub(rf'(\n    "{number}": )\d+', rf"\g<1>{read}", source)
    return source


def write(path: Path, text: str) -> bool:
    """Write a file if it changes, at once or not at all."""
    if path.read_text(encoding="utf-8") == text:
        return False
    half = path.with_name(f".{path.name}.half")
    half.write_text(text, encoding="utf-8", newline="\n")
    os.replace(half, path)
    return True


def write_notebooks(minutes: dict[str, tuple[int, int]], folder: Path = ROOT / "notebooks") -> None:
    """Write the minutes into the first cell of each notebook, and the paths into notebook 00."""
    for path in sorted(folder.glob("[0-9]*.ipynb")):
        notebook = nbformat.read(path, as_version=4)
        first = notebook.cells[0]
        first.source = with_minutes(first.source, minutes[path.name[:2]])
        for cell in notebook.cells:
            if cell.cell_type == "markdown" and START in cell.source:
                cell.source = with_paths(cell.source, minutes)
        if write(path, nbformat.writes(notebook).rstrip("\n") + "\n"):
            print(f"{path.name}: {minutes[path.name[:2]][0]} minutes written")


def tool(name: str) -> ModuleType:
    """Another file of this folder."""
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def main() -> int:
    """Print the figures, or write them everywhere."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", help="write them, not only print")
    asked = parser.parse_args()
    minutes, before = counted(), said()
    for path in sorted((ROOT / "notebooks").glob("[0-9]*.ipynb")):
        notebook = nbformat.read(path, as_version=4)
        parts = ", ".join(f"{value} {name}" for name, value in vars(count(notebook)).items())
        number = path.name[:2]
        print(f"{path.name}: {minutes[number][0]} (says {before[number][0]}; {parts})")
    if not asked.write:
        return 0
    write_notebooks(minutes)
    text = tool("write_chapter_table").replaced(README.read_text(encoding="utf-8"))
    if write(README, with_paths(text, minutes)):
        print("README.md: written")
    if write(MAP, on_the_map(MAP.read_text(encoding="utf-8"), minutes)):
        print("the map: written; notebook 00 runs again, which draws it")
        with tempfile.TemporaryDirectory() as folder:
            os.environ["COURSE_PROGRESS"] = str(Path(folder) / "progress.json")
            changed, wrong = tool("store_notebooks").store(
                next((ROOT / "notebooks").glob("00_*.ipynb"))
            )
        print("\n".join(wrong) if wrong else f"notebook 00: {'stored' if changed else 'unchanged'}")
        return int(bool(wrong))
    return 0


if __name__ == "__main__":
    sys.exit(main())
