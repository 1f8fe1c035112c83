"""Exercises of the course: `exercises.<chapter>.<name>` with `.check()`, `.hint()`, `.solution()`."""

from importlib import import_module

from .base import Exercise, Verdict

CHAPTERS = ("gradient_descent", "chain_rule", "eigenvalues")

__all__ = ["CHAPTERS", "Exercise", "Verdict"]


def __getattr__(name: str):
    """Load a chapter's exercises when they are first asked for."""
    if name in CHAPTERS:
        return import_module(f"{__name__}.{name}")
    raise AttributeError(f"no exercises called {name!r}: the chapters are {', '.join(CHAPTERS)}")
