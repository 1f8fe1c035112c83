"""Every check of an argument, once: each names the argument, its value and the way out.

What is of the wrong kind where an integer, a truth value, a generator is asked for is a TypeError;
what is out of range, or no number at all, is a ValueError.
"""

import difflib
import math
import operator
from collections.abc import Iterable
from contextlib import suppress
from typing import Any, TypeVar

import torch

T = TypeVar("T")


def integer(
    argument: str,
    value: object,
    least: int | None = None,
    most: int | None = None,
    *,
    hint: str = "",
) -> int:
    """An integer in range, as an int. NumPy's integers are integers, truth values are none.

    Args:
        argument: Name of the argument.
        value: What was given.
        least: Smallest value allowed.
        most: Largest value allowed.
        hint: What to do instead, a sentence that ends the message.

    Returns:
        The value as an int.

    Raises:
        TypeError: If it is no integer.
        ValueError: If it is out of range.

    >>> import numpy as np
    >>> integer("width", np.int64(3), 1)
    3
    """
    limits = _limits(least, most)
    hint = hint and " " + hint
    result = None
    if not _is_truth(value) and hasattr(value, "__index__"):
        with suppress(TypeError):  # of a tensor of floats, or of several elements
            result = operator.index(value)
    if result is None:
        raise TypeError(f"{argument}={value!r} must be an integer{limits and ','}{limits}.{hint}")
    if (least is not None and result < least) or (most is not None and result > most):
        raise ValueError(f"{argument}={result} must be{limits}.{hint}")
    return result


def _limits(least: int | None, most: int | None) -> str:
    if least is None:
        return "" if most is None else f" at most {most}"
    return f" at least {least}" if most is None else f" from {least} to {most}"


def _is_truth(value: object) -> bool:
    """Whether it is a truth value: Python's, NumPy's, or a tensor of them."""
    return isinstance(value, bool) or str(getattr(value, "dtype", "")) in ("bool", "torch.bool")


def number(
    argument: str,
    value: object,
    *,
    least: float = -math.inf,
    above: float = -math.inf,
    below: float = math.inf,
    most: float = math.inf,
    hint: str = "",
) -> float:
    """A finite real number in range, as a float. A tensor or an array of one element is one.

    Args:
        argument: Name of the argument.
        value: What was given.
        least: Smallest value allowed.
        above: The value must be larger than this.
        below: The value must be smaller than this.
        most: Largest value allowed.
        hint: What to do instead, a sentence that ends the message.

    Returns:
        The value as a float.

    Raises:
        ValueError: If it is no number, NaN, infinite, or out of range.

    >>> number("momentum", 0.9, least=0, below=1)
    0.9
    """
    result = real(value)
    if (
        result is None
        or not math.isfinite(result)
        or not (least <= result <= most and above < result < below)
    ):
        limits = {"at least": least, "above": above, "below": below, "at most": most}
        parts = [f"{word} {limit:g}" for word, limit in limits.items() if math.isfinite(limit)]
        asked = "must be a finite number" + (f", {' and '.join(parts)}" if parts else "")
        raise ValueError(f"{argument}={value!r} {asked}.{hint and ' ' + hint}")
    return result


def real(value: object) -> float | None:
    """The value as a float where it is one real number, else None. Truth values are none.

    Args:
        value: What was given.

    >>> real(torch.tensor(2.0)), real("2"), real(True)
    (2.0, None, None)
    """
    if _is_truth(value) or not hasattr(value, "__float__"):
        return None
    try:
        return float(value)
    except (TypeError, ValueError, RuntimeError):  # a tensor of several elements, or complex
        return None


def boolean(argument: str, value: object) -> bool:
    """True or False, and nothing else.

    Args:
        argument: Name of the argument.
        value: What was given.

    Raises:
        TypeError: If it is neither.

    >>> boolean("last_norm", True)
    True
    """
    if not isinstance(value, bool):
        raise TypeError(f"{argument}={value!r} must be True or False.")
    return value


def one_of(argument: str, value: T, known: Iterable[Any], *, hint: str = "") -> T:
    """A name that is known.

    Args:
        argument: Name of the argument.
        value: What was given.
        known: What could have been given: names, and None where that is one.
        hint: What else would do, a sentence that ends the message.

    Returns:
        The value.

    Raises:
        ValueError: If `value` is not among them, with the closest one that is.

    >>> one_of("norm", None, (None, "batch"))
    """
    names = list(known)
    if not (value is None or isinstance(value, str)) or value not in names:
        message = unknown(argument, value, [str(name) for name in names])
        raise ValueError(message + (hint and " " + hint))
    return value


def unknown(argument: str, value: object, known: Iterable[str]) -> str:
    """The message for a name that is not among the known ones.

    Args:
        argument: Name of the argument.
        value: What was given.
        known: What could have been given.

    Returns:
        One line: argument, value, the closest known name if one is close, all known names.

    >>> unknown("init", "hee", ("he", "xavier"))
    "init='hee' is unknown: did you mean 'he'? Known: he, xavier."
    """
    names = list(known)
    folded = {name.lower().replace("_", ""): name for name in names}
    text = str(value).lower().replace("_", "").replace("-", "").replace(" ", "")
    close = difflib.get_close_matches(text, folded, n=1)
    guess = f" did you mean {folded[close[0]]!r}?" if close else ""
    return f"{argument}={value!r} is unknown:{guess} Known: {', '.join(names)}."


def check_generator(value: object) -> torch.Generator:
    """A generator on the CPU, for functions that draw.

    Args:
        value: What the caller handed over as `generator`.

    Raises:
        TypeError: If it is no `torch.Generator`.
        ValueError: If it lives on another device than the CPU.

    >>> check_generator(torch.Generator()).device
    device(type='cpu')
    """
    if not isinstance(value, torch.Generator):
        raise TypeError(f"generator={value!r} must be a torch.Generator, for example cu.seeded(0).")
    if value.device.type != "cpu":
        raise ValueError(
            f"generator lives on {value.device}: numbers are drawn on the CPU, so that they are "
            "the same everywhere. Use cu.seeded(0)."
        )
    return value
