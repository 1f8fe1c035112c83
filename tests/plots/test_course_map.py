"""The map of the course, by the data of its artists."""

import re
from pathlib import Path

import matplotlib.pyplot as plt
import nbformat
import numpy as np
import pytest
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

import course_utils as cu
from course_utils.plots.course_map import CHAPTERS, MINUTES, PATHS, _center

NOTEBOOKS = Path(__file__).resolve().parents[2] / "notebooks"
NUMBERS = [chapter.number for chapter in CHAPTERS]


@pytest.fixture
def ax():
    figure, axes = plt.subplots(figsize=(10, 5))
    yield axes
    plt.close(figure)


def patches(ax, kind):
    return {patch.get_gid(): patch for patch in ax.patches if isinstance(patch, kind)}


def test_there_is_one_box_per_chapter_and_one_arrow_per_need(ax):
    assert cu.plots.course_map({"00"}, ax) is ax
    assert list(patches(ax, FancyBboxPatch)) == NUMBERS
    needs = {f"{needed}-{c.number}" for c in CHAPTERS for needed in c.needs}
    assert set(patches(ax, FancyArrowPatch)) == needs


@pytest.mark.parametrize("ready", [set(), {"00"}, {"03", "12"}, set(NUMBERS)])
def test_chapters_that_are_there_have_a_solid_frame_and_the_others_a_dashed_one(ax, ready):
    cu.plots.course_map(ready, ax)
    solid = {n for n, box in patches(ax, FancyBboxPatch).items() if box.get_linestyle() == "-"}
    tinted = {
        n for n, box in patches(ax, FancyBboxPatch).items() if box.get_facecolor()[:3] != (1, 1, 1)
    }
    assert solid == tinted == ready


def test_every_text_lies_in_its_box_and_no_box_on_another(ax):
    cu.plots.course_map(NUMBERS, ax)
    ax.figure.canvas.draw()
    boxes = [box.get_window_extent() for box in patches(ax, FancyBboxPatch).values()]
    for i, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[:i])
    assert len(ax.texts) == 3 * len(boxes)
    for text in ax.texts:
        inside = text.get_window_extent()
        corners = inside.min, inside.max
        assert any(all(box.contains(*c) for c in corners) for box in boxes), text.get_text()


def test_an_arrow_leads_from_the_chapter_needed_to_the_one_that_needs_it(ax):
    cu.plots.course_map([], ax)
    boxes = patches(ax, FancyBboxPatch)
    for name, arrow in patches(ax, FancyArrowPatch).items():
        start, stop = name.split("-")
        assert (arrow.patchA, arrow.patchB) == (boxes[start], boxes[stop])


def reached(number, needs):
    """All chapters that one builds on, also through others."""
    return {m for n in needs[number] for m in {n} | reached(n, needs)}


def test_the_arrows_are_the_lines_you_need_of_the_notebooks():
    """One that another arrow leads to already is left out, and 00 stands before what needs none."""
    needs = {}
    for path in sorted(NOTEBOOKS.glob("[0-9]*.ipynb")):
        first = " ".join(nbformat.read(path, as_version=4).cells[0].source.split())
        line = re.search(r"\*\*You need\.\*\*(.*?)(\*\*|$)", first)[1]
        number = path.name[:2]
        named = set(re.findall(r"(?<![\d.−-])(\d\d)(?![\d.]*\d)", line))
        named = {n for n in named & set(NUMBERS) if NUMBERS.index(n) < NUMBERS.index(number)}
        needs[number] = named or ({"00"} - {number})
    for chapter in CHAPTERS:
        if chapter.number in needs:
            named = needs[chapter.number]
            direct = {n for n in named if not any(n in reached(m, needs) for m in named)}
            assert set(chapter.needs) == direct, chapter.number


def test_a_chapter_that_is_there_says_its_minutes(ax):
    cu.plots.course_map({"00", "03"}, ax)
    said = [text.get_text() for text in ax.texts if "min" in text.get_text()]
    assert said == [f"00 · {MINUTES['00']} min", f"03 · {MINUTES['03']} min"]
    assert set(MINUTES) == set(NUMBERS)


def test_no_arrow_runs_through_a_box(ax):
    cu.plots.course_map(NUMBERS, ax)
    boxes = patches(ax, FancyBboxPatch)
    for name in patches(ax, FancyArrowPatch):
        ends = [np.array(_center(boxes[number])) for number in name.split("-")]
        points = [ends[0] + share * (ends[1] - ends[0]) for share in np.linspace(0, 1, 50)]
        for number, box in boxes.items():
            if number not in name.split("-"):
                extent = box.get_bbox()
                assert not any(extent.contains(*point) for point in points), (name, number)


def test_a_path_holds_what_its_chapters_need_or_is_the_short_way():
    needs = {chapter.number: chapter.needs for chapter in CHAPTERS}
    for name, numbers in PATHS:
        assert numbers is None or list(numbers) == sorted(set(numbers)), name
        if numbers is None or name == "the short way" or not set(numbers) <= set(NUMBERS):
            continue
        missing = {n for number in numbers for n in reached(number, needs)} - set(numbers)
        assert missing <= {"06"}, name  # of which 12 needs the first section only


def test_nobody_needs_a_chapter_that_comes_later():
    for i, chapter in enumerate(CHAPTERS):
        assert set(chapter.needs) <= set(NUMBERS[:i])
        assert chapter.needs or i == 0


def test_the_map_has_every_notebook_that_is_there_under_its_title():
    for path in NOTEBOOKS.glob("[0-9]*.ipynb"):
        chapter = CHAPTERS[NUMBERS.index(path.name[:2])]
        title = " ".join(chapter.title.replace("-\n", "").split())
        assert f"# {chapter.number} · {title}" in path.read_text(encoding="utf-8")


def test_without_axes_it_draws_on_the_current_ones(ax):
    plt.sca(ax)
    assert cu.plots.course_map([]) is ax
    assert not ax.axison
    assert not re.search(r"\S", ax.get_title())
