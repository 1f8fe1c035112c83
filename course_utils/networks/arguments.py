"""Checks of what a builder is given, and the state in which it builds."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from ..arguments import unknown


def at_least(least: int, argument: str, value: object) -> None:
    """Refuse what is not an integer, or too small a one.

    Args:
        least: Smallest value allowed.
        argument: Name of the argument.
        value: What was given.

    Raises:
        TypeError: If it is no integer.
        ValueError: If it is below `least`.

    >>> at_least(1, "width", 8)
    """
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{argument}={value!r} must be an integer, at least {least}.")
    if value < least:
        raise ValueError(f"{argument}={value} must be at least {least}.")


def one_of(argument: str, value: object, known: tuple[str | None, ...]) -> None:
    """Refuse a name that is not known, with the closest one that is.

    Args:
        argument: Name of the argument.
        value: What was given.
        known: What could have been given.

    Raises:
        ValueError: If `value` is not among them.

    >>> one_of("norm", None, (None, "batch"))
    """
    if not (value is None or isinstance(value, str)) or value not in known:
        raise ValueError(unknown(argument, value, [str(name) for name in known]))


def true_or_false(argument: str, value: object) -> None:
    """Refuse what is not True or False.

    Args:
        argument: Name of the argument.
        value: What was given.

    Raises:
        TypeError: If it is neither.

    >>> true_or_false("last_norm", True)
    """
    if not isinstance(value, bool):
        raise TypeError(f"{argument}={value!r} must be True or False.")


@contextmanager
def building() -> Iterator[None]:
    """Modules made inside leave the global random state as it was, which they draw from.

    >>> before = torch.random.get_rng_state()
    >>> with building():
    ...     layer = torch.nn.Linear(3, 3)
    >>> bool((torch.random.get_rng_state() == before).all())
    True
    """
    with torch.random.fork_rng(devices=[]):
        yield
