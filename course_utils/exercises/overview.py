"""Where a learner stands: which exercises of which chapter are solved."""

import html
from dataclasses import dataclass
from importlib import import_module

from . import memory
from .base import Exercise


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
        for chapter, exercises in self.chapters.items():
            done = sum(self._is_solved(exercise) for exercise in exercises)
            lines.append(f"{chapter}: {done} of {len(exercises)} solved")
            lines += [f"  {self._mark(e)} {e.name} ({e.minutes} min)" for e in exercises]
        return "\n".join(lines)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        left = "style='text-align:left'"
        rows = ""
        for chapter, exercises in self.chapters.items():
            done = sum(self._is_solved(exercise) for exercise in exercises)
            names = " &nbsp; ".join(
                f"{self._mark(e)}&nbsp;{html.escape(e.name)}" for e in exercises
            )
            rows += f"<tr><td {left}>{html.escape(chapter)}</td>"
            rows += f"<td>{done} of {len(exercises)}</td><td {left}>{names}</td></tr>"
        said = f"<p>{html.escape(self.problem)}</p>" if self.problem else ""
        head = f"<th {left}>chapter</th><th>solved</th><th {left}>exercises</th>"
        return f"{said}<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"

    def _is_solved(self, exercise: Exercise) -> bool:
        return (exercise.chapter, exercise.name) in self.solved

    def _mark(self, exercise: Exercise) -> str:
        return "✓" if self._is_solved(exercise) else "○"


def progress() -> Progress:
    """Show which exercises you have solved, chapter by chapter.

    Returns:
        An object that shows itself as a table in a notebook, and as lines of text by `print`.
        Where the file that remembers is damaged or cannot be written, it says so.

    >>> list(progress().chapters)[:2]
    ['start_here', 'gradient_descent']
    """
    from . import CHAPTERS

    chapters = {}
    for chapter in CHAPTERS:
        values = vars(import_module(f"{__package__}.{chapter}")).values()
        chapters[chapter] = tuple(value for value in values if isinstance(value, Exercise))
    solved = {(chapter, name) for chapter, names in memory.solved().items() for name in names}
    return Progress(chapters, frozenset(solved), memory.problem())
