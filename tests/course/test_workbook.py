"""workbook/, the learner's own copy: what it holds, and that nothing in it is ever lost."""

import importlib.util
import json
import subprocess
import sys
import tomllib
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
spec = importlib.util.spec_from_file_location("workbook", ROOT / "tools" / "make_workbook.py")
workbook = importlib.util.module_from_spec(spec)
spec.loader.exec_module(workbook)


def chapter(text="Guess.", shown="1\n"):
    output = [new_output("stream", name="stdout", text=shown)]
    code = dict(outputs=output, execution_count=1)
    return new_notebook(
        cells=[
            new_markdown_cell(f"# {text}", id="title"),
            new_code_cell("print(1)", id="seen", metadata={"tags": ["x"]}, **code),
            new_code_cell(
                "print(1)", id="guess", metadata={"jupyter": {"outputs_hidden": True}}, **code
            ),
        ]
    )


@pytest.fixture
def course(tmp_path):
    """Two chapters, and the folder of a learner."""
    source, target = tmp_path / "notebooks", tmp_path / "workbook"
    source.mkdir()
    for name in ("01_a", "02_b"):
        nbformat.write(chapter(), source / f"{name}.ipynb")
    return source, target


def change(source, text="Another question.", name="01_a"):
    nbformat.write(chapter(text), source / f"{name}.ipynb")


def write_into(path):
    """What a learner who runs a cell leaves behind."""
    notebook = nbformat.read(path, as_version=4)
    notebook.cells.append(new_markdown_cell("my own thought"))
    nbformat.write(notebook, path)
    return path.read_bytes()


def names(target):
    return sorted(path.name for path in target.glob("*.ipynb"))


def test_of_a_prediction_the_output_is_left_out_and_what_the_learner_runs_is_shown():
    stored = chapter()
    own = workbook.for_a_learner(stored)
    assert [len(cell.get("outputs", [])) for cell in own.cells] == [0, 1, 0]
    assert own.cells[2].metadata == {} and own.cells[2].execution_count is None
    assert own.cells[1].metadata == {"tags": ["x"]} and own.cells[1].execution_count == 1
    assert stored == chapter()  # left as it was
    nbformat.validate(own)


def test_the_copies_are_made_once_and_a_second_call_says_nothing(course):
    source, target = course
    assert workbook.renew(*course) == [
        "2 chapters copied to workbook/, which is yours to write in."
    ]
    before = {path.name: path.read_bytes() for path in target.iterdir()}
    assert names(target) == ["01_a.ipynb", "02_b.ipynb"]
    assert workbook.renew(*course) == []
    assert {path.name: path.read_bytes() for path in target.iterdir()} == before
    assert nbformat.read(source / "01_a.ipynb", 4) == chapter()


def test_what_a_learner_wrote_stays_while_the_chapter_does(course):
    source, target = course
    workbook.renew(*course)
    mine = write_into(target / "01_a.ipynb")
    nbformat.write(chapter(shown="2\n"), source / "01_a.ipynb")  # outputs are no change
    assert workbook.renew(*course) == []
    assert (target / "01_a.ipynb").read_bytes() == mine


def test_a_chapter_that_changed_comes_beside_the_old_one_and_a_line_says_so(course):
    source, target = course
    workbook.renew(*course)
    mine = write_into(target / "01_a.ipynb")
    change(source)
    (said,) = workbook.renew(*course)
    assert said == (
        "01_a.ipynb has changed since you began it. The new one is 01_a_2.ipynb; yours, "
        "01_a.ipynb, is as you left it."
    )
    assert (target / "01_a.ipynb").read_bytes() == mine
    title, line, *_ = nbformat.read(target / "01_a_2.ipynb", 4).cells
    assert title.source == "# Another question."
    assert "has changed since" in line.source and "(01_a.ipynb)" in line.source
    assert workbook.renew(*course) == []
    again = write_into(target / "01_a_2.ipynb")
    change(source, "A third one.")
    assert "01_a_3.ipynb; yours, 01_a_2.ipynb," in workbook.renew(*course)[0]
    assert (target / "01_a_2.ipynb").read_bytes() == again
    assert names(target) == ["01_a.ipynb", "01_a_2.ipynb", "01_a_3.ipynb", "02_b.ipynb"]


def test_a_copy_that_nobody_touched_is_renewed(course):
    source, target = course
    workbook.renew(*course)
    change(source)
    assert workbook.renew(*course) == ["1 chapter copied to workbook/, which is yours to write in."]
    assert names(target) == ["01_a.ipynb", "02_b.ipynb"]
    assert nbformat.read(target / "01_a.ipynb", 4).cells[0].source == "# Another question."


def test_an_untouched_second_copy_is_renewed_and_keeps_its_line(course):
    source, target = course
    workbook.renew(*course)
    mine = write_into(target / "01_a.ipynb")
    change(source)
    workbook.renew(*course)
    change(source, "A third one.")
    workbook.renew(*course)
    title, line, *_ = nbformat.read(target / "01_a_2.ipynb", 4).cells
    assert title.source == "# A third one." and "(01_a.ipynb)" in line.source
    assert (target / "01_a.ipynb").read_bytes() == mine


def test_a_copy_that_was_removed_comes_back(course):
    _, target = course
    workbook.renew(*course)
    (target / "01_a.ipynb").unlink()
    workbook.renew(*course)
    assert names(target) == ["01_a.ipynb", "02_b.ipynb"]


@pytest.mark.parametrize("notes", [None, "", "{", "[]", '{"01_a.ipynb": {}}', '{"01_a.ipynb": 1}'])
def test_where_the_notes_are_lost_every_copy_counts_as_the_learners(course, notes):
    source, target = course
    workbook.renew(*course)
    file = target / workbook.NOTES
    file.unlink() if notes is None else file.write_text(notes)
    mine = {path: write_into(path) for path in target.glob("*.ipynb")}
    workbook.renew(*course)
    assert {path: path.read_bytes() for path in target.glob("*.ipynb")} == mine
    change(source)
    workbook.renew(*course)
    assert names(target) == ["01_a.ipynb", "01_a_2.ipynb", "02_b.ipynb"]
    assert {path: path.read_bytes() for path in mine} == mine
    assert set(json.loads(file.read_text())) == {"01_a.ipynb", "02_b.ipynb"}


def test_a_file_of_the_learner_with_the_name_of_a_new_one_is_left_alone(course):
    source, target = course
    workbook.renew(*course)
    write_into(target / "01_a.ipynb")
    (target / "01_a_2.ipynb").write_text("mine")
    change(source)
    workbook.renew(*course)
    assert (target / "01_a_2.ipynb").read_text() == "mine"
    assert "01_a_3.ipynb" in names(target)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_chapter_of_the_course_makes_a_valid_copy_without_hidden_outputs(path):
    own = workbook.for_a_learner(nbformat.read(path, as_version=4))
    nbformat.validate(own)
    assert not [cell for cell in own.cells if "outputs_hidden" in str(cell.metadata)]


def test_git_and_the_tests_leave_the_learners_copy_alone():
    ignored = (ROOT / ".gitignore").read_text().splitlines()
    options = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]
    assert "workbook/" in ignored
    assert "workbook" in options["pytest"]["ini_options"]["norecursedirs"]
    assert "workbook" in options["ruff"]["extend-exclude"]


def command(source, target):
    return subprocess.run(
        [sys.executable, "tools/make_workbook.py", "--from", str(source), "--to", str(target)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_command_copies_what_it_is_told_and_prints_what_there_is_to_say(course):
    done = command(*course)
    assert done.returncode == 0 and done.stdout.startswith("2 chapters copied")
    assert names(course[1]) == ["01_a.ipynb", "02_b.ipynb"]


def test_a_folder_that_cannot_be_made_is_said_so_with_a_way_out(course):
    source, target = course
    target.write_text("a file is in the way")
    done = command(source, target)
    assert done.returncode == 1 and "FOLDER=notebooks" in done.stderr
    assert "Traceback" not in done.stderr
