"""The map of the course: its chapters, and which of them build on which."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

from .style import COLORS

_GREY = "#707070"  # darker than that of the other pictures: it is text here


@dataclass(frozen=True)
class Chapter:
    """One notebook on the map.

    Attributes:
        number: Its number, "01" for instance.
        title: Its title, in lines.
        question: What it answers, in lines.
        place: Column and row on the map.
        needs: Numbers of the chapters it builds on, without those that these build on themselves.
    """

    number: str
    title: str
    question: str
    place: tuple[int, int]
    needs: tuple[str, ...]


CHAPTERS = (
    Chapter("00", "Start here", "does it run?", (0, 0), ()),
    Chapter("01", "Descend\na gradient", "how far may\none step go?", (0, 1), ("00",)),
    Chapter(
        "02",
        "Follow the chain\nrule backwards",
        "where do the\nfactors come from?",
        (0, 2),
        ("01",),
    ),
    Chapter("03", "Watch eigen-\nvalues explode", "what do 100\nmatrices do?", (1, 2), ("02",)),
    Chapter("04", "Differentiate\nthe activations", "what does\nbending cost?", (1, 1), ("02",)),
    Chapter(
        "05",
        "Start from the\nright scale",
        "how large are\nthe first weights?",
        (2, 1),
        ("03", "04"),
    ),
    Chapter("06", "Clip the\nexplosion", "what if it is\ntoo long?", (2, 2), ("05",)),
    Chapter("07", "Normalize\nthe batch", "does batch norm\ntame it?", (3, 1), ("05",)),
    Chapter("08", "Skip ahead", "why does adding x\nhelp at depth?", (4, 1), ("07",)),
    Chapter("09", "Gate the\nmemory", "how does a gradient\nlive 1000 steps?", (2, 3), ("03",)),
    Chapter("11", "Count\nthe bits", "when does the\nnumber format end?", (3, 0), ("05",)),
    Chapter(
        "12", "Run a gradient\nclinic", "my network does\nnot learn: why?", (4, 2), ("06", "08")
    ),
)
"""The chapters in the order of the course."""

MINUTES = {
    "00": 30,
    "01": 135,
    "02": 140,
    "03": 100,
    "04": 130,
    "05": 110,
    "06": 135,
    "07": 120,
    "08": 110,
    "09": 130,
    "11": 145,
    "12": 130,
}
"""Minutes to read and run, counted and written by `make minutes`."""

_CORE = ("00", "01", "02", "03", "04", "05", "07", "08", "12")
PATHS: tuple[tuple[str, tuple[str, ...] | None], ...] = (
    ("the short way", ("00", "02", "05", "12")),
    ("core", _CORE),
    ("sequences", (*_CORE[:-1], "09", "12")),
    ("transformers", (*_CORE[:-1], "11", "12", "13")),
    ("large scale", (*_CORE[:-1], "10", "11", "12", "13", "14")),
    ("everything", None),
)
"""Ways through the course: a name and the chapters, or None for all that are there."""


def course_map(ready: Collection[str], ax: Axes | None = None) -> Axes:
    """Draw the chapters as boxes, and an arrow from each to those that build on it.

    A chapter that is there has a solid frame, a tinted box and its minutes to read and run, one
    that is to come a dashed frame and grey text. The map wants a figure of about 10 × 5 inches.

    Args:
        ready: Numbers of the chapters that are there, for example {"00", "01"}.
        ax: Axes to draw on; the current ones when None. They are switched off.

    Returns:
        The Axes.

    Raises:
        ValueError: If `ready` names a chapter that is not on the map.
    """
    numbers = [chapter.number for chapter in CHAPTERS]
    if unknown := {str(number) for number in ready} - set(numbers):
        raise ValueError(
            f"ready names {', '.join(sorted(unknown))}, but the map has only {', '.join(numbers)}."
        )
    ax = ax or plt.gca()
    boxes = {}
    for chapter in CHAPTERS:
        there = chapter.number in ready
        column, row = chapter.place
        boxes[chapter.number] = box = FancyBboxPatch(
            (column - 0.42, -row - 0.34),
            0.84,
            0.68,
            boxstyle="round,pad=0,rounding_size=0.06",
            facecolor="#dbeaf5" if there else "white",
            edgecolor=COLORS[0] if there else _GREY,
            linestyle="-" if there else "--",
            linewidth=1.5,
            gid=chapter.number,
        )
        ax.add_patch(box)
        color = COLORS[6] if there else _GREY
        style: dict[str, Any] = {
            "ha": "center",
            "va": "center",
            "color": color,
            "linespacing": 1.15,
        }
        minutes = f" · {MINUTES[chapter.number]} min" if there else ""
        ax.text(column, -row + 0.25, chapter.number + minutes, fontsize=8, **style)
        ax.text(column, -row + 0.07, chapter.title, fontsize=9.5, weight="bold", **style)
        ax.text(column, -row - 0.19, chapter.question, fontsize=8.5, style="italic", **style)
    for chapter in CHAPTERS:
        for needed in chapter.needs:
            start, stop = boxes[needed], boxes[chapter.number]
            ax.add_patch(
                FancyArrowPatch(
                    _center(start),
                    _center(stop),
                    patchA=start,
                    patchB=stop,
                    shrinkA=1,
                    shrinkB=1,
                    arrowstyle="-|>",
                    mutation_scale=13,
                    color=_GREY,
                    gid=f"{needed}-{chapter.number}",
                )
            )
    columns, rows = zip(*(chapter.place for chapter in CHAPTERS), strict=True)
    ax.set(xlim=(-0.46, max(columns) + 0.46), ylim=(-max(rows) - 0.4, 0.4))
    ax.axis("off")
    return ax


def _center(box: FancyBboxPatch) -> tuple[float, float]:
    return box.get_x() + box.get_width() / 2, box.get_y() + box.get_height() / 2
