"""Exercises: `exercises.<chapter>.<name>` with `.check()`, `.hint()`, `.solution()`.

`exercises.progress()` shows which of them you have solved.
"""

from importlib import import_module
from typing import Any

from .base import Exercise, Verdict
from .overview import Progress, progress

CHAPTERS = (
    "start_here",
    "gradient_descent",
    "chain_rule",
    "eigenvalues",
    "activations",
    "initialization",
    "clipping",
    "normalization",
    "residual",
    "clinic",
)

__all__ = ["CHAPTERS", "Exercise", "Progress", "Verdict", "progress"]


def __getattr__(name: str) -> Any:
    """Load a chapter's exercises when they are first asked for."""
    if name in CHAPTERS:
        return import_module(f"{__name__}.{name}")
    raise AttributeError(f"no exercises called {name!r}: the chapters are {', '.join(CHAPTERS)}")


def __dir__() -> list[str]:
    """What tab completion offers a learner: the chapters, loaded or not, and `progress`."""
    return [*CHAPTERS, "progress"]
