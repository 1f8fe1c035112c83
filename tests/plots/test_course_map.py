"""The map of the course, by the data of its artists."""

import re
from pathlib import Path

import matplotlib.pyplot as plt
import pytest
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

import course_utils as cu
from course_utils.plots.course_map import CHAPTERS

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
