"""How long a chapter takes: how it is counted, and that all places say the same."""

import importlib.util
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from course_utils.plots.course_map import MINUTES

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
NOTEBOOKS = sorted((ROOT / "notebooks").glob("[0-9]*.ipynb"))
spec = importlib.util.spec_from_file_location("minutes", ROOT / "tools" / "count_minutes.py")
minutes = importlib.util.module_from_spec(spec)
spec.loader.exec_module(minutes)

# How it is counted


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Two words.", dict(words=2)),
        ("# A heading — and a dash", dict(words=5)),
        ("see [the paper](https://x.org/a b) now", dict(words=4)),
        ("so $a + b$ is $c$, costs \\$5", dict(words=4, formulas=2)),
        ("it is\n$$a\n= b$$\nthen", dict(words=3, displayed=1)),
        ("| a | b |\n|---|---|\n| one | two |", dict(words=4)),
        ("use `net.fit(x)` here", dict(words=3)),
        ("![a picture](x.png) and <b>bold</b>", dict(words=2, pictures=1)),
        ("so:\n```python\nx = 1\n\ny = 2\n```\ndone", dict(words=2, lines=2)),
        ("a\n<details><summary>proof</summary>\n\n$x$ words\n</details>\nb", dict(words=2)),
    ],
)
def test_what_a_piece_of_prose_holds(text, expected):
    assert minutes.of_prose(text) == minutes.Count(**expected)


def picture():
    return new_output("display_data", {"image/png": "x", "text/plain": "figure"})


def chapter(words=100):
    return new_notebook(
        cells=[
            new_markdown_cell(
                "# 05 · T\n\n**Time.** 60 minutes to read and run, 9 minutes for it."
            ),
            new_code_cell("x = 1\n\n# say it\nx", outputs=[picture()]),
            new_markdown_cell("word " * words),
            new_markdown_cell("tail\n## 3. Exercises\n\nnot counted"),
            new_code_cell("not_counted = 1", outputs=[picture()]),
            new_markdown_cell("### 3.1 neither\n\nnot this\n## References\n\none two"),
            new_code_cell("y"),
        ]
    )


def test_exercises_have_minutes_of_their_own():
    count = minutes.count(chapter())
    assert (count.lines, count.pictures) == (4, 1)
    first = 13  # of the title and the line of minutes
    assert count.words == first + 100 + 1 + 3


def test_a_minute_holds_a_hundred_words_twenty_formulas_ten_lines_or_one_picture():
    assert minutes.Count(100, 20, 1, 10, 1).minutes == 5
    assert [minutes.to_five(m) for m in (1, 7.4, 7.6, 112)] == [5, 5, 10, 110]


def test_the_minutes_of_exercises_are_those_of_the_package():
    code = "cu.exercises.start_here.what_arrives.check(...)\n" * 2
    assert minutes.exercise_minutes(new_notebook(cells=[new_code_cell(code)])) == 2


# Where it is written


def test_the_first_cell_of_a_notebook_gets_its_minutes_and_nothing_else_changes(tmp_path):
    path = tmp_path / "05_x.ipynb"
    nbformat.write(chapter(), path)
    minutes.write_notebooks({"05": (115, 40)}, tmp_path)
    after = nbformat.read(path, as_version=4)
    assert "**Time.** 115 minutes to read and run, 40 minutes for it." in after.cells[0].source
    assert [c.source for c in after.cells[1:]] == [c.source for c in chapter().cells[1:]]
    assert after.cells[1].outputs == chapter().cells[1].outputs
    assert minutes.said(tmp_path) == {"05": (115, 40)}


def test_a_first_cell_without_the_line_is_an_error_that_shows_it():
    with pytest.raises(ValueError, match=r"no line like '\*\*Time\.\*\* 60 minutes"):
        minutes.with_minutes("# 05 · Title", (1, 2))


def test_only_the_paths_are_shown_whose_chapters_stand():
    some = {number: (60, 30) for number in ("00", "02", "05", "12")}
    table = minutes.paths_table(some)
    assert "| **the short way** | 00, 02, 05, 12 | 4:00 | 2:00 |" in table
    assert "| **everything** | 00, 02, 05, 12 |" in table and "core" not in table
    more = {f"{number:02d}": (60, 0) for number in range(9)} | {"12": (65, 0)}
    assert "| **core** | 00–05, 07, 08, 12 | 9:05 | 0:00 |" in minutes.paths_table(more)


def test_the_paths_are_replaced_and_nothing_else():
    text = f"before\n{minutes.START}old\n{minutes.STOP}\nafter"
    new = minutes.with_paths(text, {"00": (5, 5)})
    assert new.startswith(f"before\n{minutes.START}") and new.endswith(f"{minutes.STOP}\nafter")
    assert "old" not in new and minutes.with_paths(new, {"00": (5, 5)}) == new


def test_the_map_gets_the_minutes_of_the_chapters_that_are_there():
    source = 'MINUTES = {\n    "00": 15,\n    "01": 80,\n}'
    assert minutes.on_the_map(source, {"01": (115, 50)}) == source.replace("80", "115")


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_chapter_says_the_minutes_that_are_counted(path):
    number, notebook = path.name[:2], nbformat.read(path, as_version=4)
    read, solve = minutes.said()[number]
    assert abs(read - minutes.count(notebook).minutes) <= 5, "run make minutes"
    assert solve == minutes.exercise_minutes(notebook), "run make minutes"


def test_the_map_and_the_paths_say_what_the_chapters_say():
    said = minutes.said()
    assert {number: MINUTES[number] for number in said} == {n: m[0] for n, m in said.items()}
    table = minutes.paths_table(said)
    assert table in README
    assert any(table in cell.source for cell in nbformat.read(NOTEBOOKS[0], 4).cells)
