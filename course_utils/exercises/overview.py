"""Where a learner stands: which exercises of which chapter are solved."""

import html
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module

from . import memory
from .base import Exercise, offered


@dataclass(frozen=True)
class Progress:
    """Solved and open exercises of every chapter, in the order of the course.

    Attributes:
        chapters: Chapter → exercises, in the order in which the notebook asks them.
        solved: (chapter, name) of the solved ones.
        problem: Why progress is not remembered; "" where all is well.
    """

    chapters: dict[str, tuple[Exercise, ...]]
    solved: frozenset[tuple[str, str]]
    problem: str = ""

    def __str__(self) -> str:
        lines = [self.problem] if self.problem else []
        for chapter, done, marked in self._rows():
            lines.append(f"{chapter}: {done} solved")
            lines += [f"  {mark} {e.name} ({e.minutes} min)" for mark, e in marked]
        return "\n".join(lines)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        left = "style='text-align:left'"
        rows = ""
        for chapter, done, marked in self._rows():
            names = " &nbsp; ".join(f"{mark}&nbsp;{html.escape(e.name)}" for mark, e in marked)
            rows += f"<tr><td {left}>{html.escape(chapter)}</td>"
            rows += f"<td>{done}</td><td {left}>{names}</td></tr>"
        said = f"<p>{html.escape(self.problem)}</p>" if self.problem else ""
        head = f"<th {left}>chapter</th><th>solved</th><th {left}>exercises</th>"
        return f"{said}<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"

    def _rows(self) -> Iterator[tuple[str, str, list[tuple[str, Exercise]]]]:
        """Chapter, how many of its exercises are solved, and each exercise with its mark."""
        for chapter, exercises in self.chapters.items():
            marks = ["✓" if (e.chapter, e.name) in self.solved else "○" for e in exercises]
            done = f"{marks.count('✓')} of {len(exercises)}"
            yield chapter, done, list(zip(marks, exercises, strict=True))


def progress() -> Progress:
    """Show which exercises you have solved, chapter by chapter.

    Returns:
        An object that shows itself as a table in a notebook, and as lines of text by `print`.
        Where the file that remembers is damaged or cannot be written, it says so.

    >>> list(progress().chapters)[:2]
    ['start_here', 'gradient_descent']
    """
    from . import CHAPTERS

    chapters = {
        chapter: tuple(offered(vars(import_module(f"{__package__}.{chapter}"))).values())
        for chapter in CHAPTERS
    }
    solved = {(chapter, name) for chapter, names in memory.solved().items() for name in names}
    return Progress(chapters, frozenset(solved), memory.problem())
