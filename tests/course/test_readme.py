"""What README.md and notebook 00 say is so: chapters, minutes, links, commands, symbols."""

import ast
import functools
import importlib.util
import inspect
import re
import unicodedata
from pathlib import Path

import nbformat
import pytest
from torch.nn.functional import cross_entropy

import course_utils as cu

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
NOTEBOOKS = {path.name[:2]: path for path in sorted((ROOT / "notebooks").glob("[0-9]*.ipynb"))}
START_HERE = nbformat.read(NOTEBOOKS["00"], as_version=4)

spec = importlib.util.spec_from_file_location("table", ROOT / "tools" / "write_chapter_table.py")
table = importlib.util.module_from_spec(spec)
spec.loader.exec_module(table)


def prose(notebook):
    return "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")


# README.md


def test_the_first_screen_has_the_promise_both_commands_and_a_picture():
    screen = "\n".join(README.splitlines()[:30])
    assert "*before training*" in screen
    assert screen.index("make lab") < screen.index("make test") < screen.index("](gradients.png)")


def test_the_chapter_table_has_every_notebook_that_is_there_and_no_other():
    linked = re.findall(r"(?m)^\| \[.+?\]\(notebooks/(.+?)\)", README)
    assert linked == [path.name for path in NOTEBOOKS.values()], (
        "run .venv/bin/python tools/write_chapter_table.py"
    )


@pytest.mark.parametrize("path", NOTEBOOKS.values(), ids=lambda path: path.stem)
def test_a_row_says_what_the_first_cell_of_the_notebook_says(path):
    row = next(line for line in README.splitlines() if f"(notebooks/{path.name})" in line)
    title, question, *minutes = (cell.strip() for cell in row.strip("|").split("|"))
    first = " ".join(nbformat.read(path, as_version=4).cells[0].source.split())
    assert first.startswith("# " + title[1 : title.index("]")])
    assert question in first
    assert re.findall(r"(\d+) minutes", first)[:2] == minutes


def test_a_first_cell_without_minutes_is_an_error_that_shows_the_form(tmp_path):
    notebook = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_markdown_cell("# 05 · Title\n\n**Question.** Why?")]
    )
    path = tmp_path / "05_x.ipynb"
    nbformat.write(notebook, path)
    with pytest.raises(ValueError, match=r"05_x\.ipynb.*60 minutes"):
        table.chapter(path)


def test_the_table_is_replaced_and_nothing_else():
    before, rest = README.split(table.START)
    after = rest.split(table.STOP)[1]
    outdated = f"{before}{table.START}| an old row |\n{table.STOP}{after}"
    new = table.replaced(outdated)
    assert new.startswith(before + table.START + table.HEAD) and new.endswith(table.STOP + after)
    assert "an old row" not in new and new.count("](notebooks/") >= len(NOTEBOOKS)
    assert table.replaced(new) == new


def test_links_lead_to_files_and_to_headings():
    headings = re.findall(r"(?m)^#+ (.+)$", README)
    anchors = {re.sub(r"[^\w -]", "", h).lower().replace(" ", "-") for h in headings}
    for target in re.findall(r"\]\(([^)\s]+)\)", README):
        if target.startswith("#"):
            assert target[1:] in anchors, target
        elif "://" not in target:
            assert (ROOT / target).is_file(), target


def test_every_environment_variable_named_is_read_somewhere():
    named = set(re.findall(r"COURSE_[A-Z]+", README + prose(START_HERE)))
    files = [*(ROOT / "course_utils").rglob("*.py"), *(ROOT / "tests").rglob("conftest.py")]
    source = "".join(path.read_text(encoding="utf-8") for path in files)
    assert named and all(f'"{name}"' in source for name in named)


@pytest.mark.parametrize("variable", ["LAB", "FOLDER", "NB", "OFFSETS", "BENCH"])
def test_every_variable_of_make_that_is_named_is_used(variable):
    assert f"{variable}=" in README
    assert f"$({variable})" in (ROOT / "Makefile").read_text(encoding="utf-8")


@pytest.mark.parametrize("file", ["tools/install.sh", "course_utils/runtime.py"])
def test_a_quoted_message_is_one_that_is_said(file):
    said = " ".join((ROOT / file).read_text(encoding="utf-8").split())
    quoted = {
        "tools/install.sh": [
            "The course needs Python 3.11, 3.12 or 3.13",
            "without venv",
            "The installation did not finish",
        ],
        "course_utils/runtime.py": ["was asked for, but torch", "sees no such"],
    }[file]
    for message in quoted:
        assert message in said and message in README


def test_the_example_of_the_readme_runs():
    code = re.search(r"```python\n(.*?)```", README, re.DOTALL)[1]
    names = {
        "model": cu.mlp(3, 8, generator=cu.seeded(0)),
        "x": cu.load_digits(n=20).train_x,
        "y": cu.load_digits(n=20).train_y,
        "loss_function": cross_entropy,
    }
    exec(code, names)
    assert names["recorder"].record.factor_per_layer() > 0


# The symbol table of notebook 00


def symbols():
    text = next(cell.source for cell in START_HERE.cells if "| symbol |" in cell.source)
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    return [
        tuple(c.strip() for c in line.strip().strip("|").split(" | "))
        for line in lines[1:]
        if not line.startswith("| symbol")
    ]


ROWS = symbols()
by_symbol = pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])


def spellings(symbol):
    """How a symbol may stand in a notebook: as LaTeX, or as a letter."""
    stem = symbol.split("^")[0].split("'")[0]
    if stem == r"\mathcal{L}":
        return [r"\\mathcal ?\{?L", "𝓛"]
    if stem.startswith("\\"):
        name, _, index = stem[1:].partition("_")
        spoken = {"lambda": "lamda"}.get(name, name.removeprefix("var"))  # Unicode spells it so
        letter = unicodedata.lookup(f"GREEK SMALL LETTER {spoken.upper()}")
        return [re.escape(stem), letter + (f"_{index}" if index else "")]
    return [rf"(?<![A-Za-z]){re.escape(stem)}(?![A-Za-z])"]


def test_the_table_is_full_and_has_no_symbol_twice_in_one_chapter():
    assert len(ROWS) > 30
    assert len({(row[0], row[3]) for row in ROWS}) == len(ROWS)
    assert all(len(row) == 4 for row in ROWS)


@by_symbol
def test_a_symbol_stands_in_the_chapter_that_introduces_it(row):
    if row[3] not in NOTEBOOKS:
        pytest.skip(f"chapter {row[3]} is not there")
    text = NOTEBOOKS[row[3]].read_text(encoding="utf-8").replace("\\\\", "\\")
    symbols = re.findall(r"\$(.+?)\$", row[0]) or re.findall(r"\w+", row[0])
    for symbol in symbols:
        assert any(re.search(form, text) for form in spellings(symbol)), symbol


@functools.cache
def arguments():
    """Every name of an argument in the package."""
    found = set()
    for path in (ROOT / "course_utils").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.arg):
                found.add(node.arg)
    return found


@functools.cache
def code():
    """All code of the notebooks."""
    return "\n".join(
        cell.source
        for path in NOTEBOOKS.values()
        for cell in nbformat.read(path, as_version=4).cells
        if cell.cell_type == "code"
    )


@by_symbol
def test_a_name_in_code_exists(row):
    names = re.findall(r"`([^`]+)`", row[2])
    assert names
    record = cu.GradientRecord
    for name in names:
        if name.startswith("cu."):
            assert eval(name, {"cu": cu}) is not None
        elif name.startswith("record."):
            attribute = name.removeprefix("record.").rstrip("()")
            assert attribute in inspect.get_annotations(record) or hasattr(record, attribute)
        else:
            plain = name.strip(".()")
            assert plain in arguments() or re.search(rf"\b{plain}\b", code()), name
