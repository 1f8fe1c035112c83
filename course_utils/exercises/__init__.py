"""Exercises: `exercises.<chapter>.<name>` with `.check()`, `.hint()`, `.solution()`.

`exercises.progress()` shows which of them you have solved.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .base import Exercise, Verdict
from .overview import Progress, progress

if TYPE_CHECKING:
    from . import activations as activations
    from . import bits as bits
    from . import chain_rule as chain_rule
    from . import clinic as clinic
    from . import clipping as clipping
    from . import eigenvalues as eigenvalues
    from . import gates as gates
    from . import gradient_descent as gradient_descent
    from . import initialization as initialization
    from . import normalization as normalization
    from . import residual as residual
    from . import start_here as start_here

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
    "gates",
    "bits",
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
