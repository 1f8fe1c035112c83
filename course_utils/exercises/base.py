"""What an exercise is: a statement, a check, hints and a reference solution.

A check calls the learner's function on inputs that tell right from almost right. It answers
with a `Verdict`, never with a traceback, so a notebook runs through whatever the learner wrote.
"""

import html
import inspect
import math
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from . import memory


class WrongAnswer(Exception):
    """Raised inside a check: the input, what came back, what was expected."""


class NotAttempted(Exception):
    """Raised inside a check: the answer is still the `...` it started as."""


@dataclass(frozen=True)
class Verdict:
    """What a check says. True only if the answer is right."""

    status: str  # "right", "wrong" or "not attempted"
    message: str

    def __bool__(self) -> bool:
        return self.status == "right"

    def __str__(self) -> str:
        mark = {"right": "✓", "wrong": "✗"}.get(self.status, "…")
        return f"{mark} {self.message}"

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return f"<pre style='white-space:pre-wrap'>{html.escape(str(self))}</pre>"


@dataclass(frozen=True)
class Exercise:
    """One exercise with its check, its hints and its reference solution.

    Attributes:
        chapter: Module it lives in, "gradient_descent" for instance.
        name: Its name there; `exercises.<chapter>.<name>`.
        statement: What to do, in one or two sentences.
        minutes: How long it takes a first-time reader.
        difficulty: 1 (warm-up) to 3 (hard).
        reference: The right answer: a function, or a plain value.
        judge: Called with the learner's answer; raises `WrongAnswer` if it is not right.
        hints: From a nudge to nearly the answer.
    """

    chapter: str
    name: str
    statement: str
    minutes: int
    difficulty: int
    reference: Any
    judge: Callable[[Any], None]
    hints: tuple[str, ...]
    _shown: list[int] = field(default_factory=lambda: [0], repr=False, compare=False)

    def check(self, answer: Any = ...) -> Verdict:
        """Judge an answer and remember a right one.

        Args:
            answer: Your function, or your number where the exercise asks for one. `...`, and a
                function whose body is still empty, count as not attempted.

        Returns:
            A verdict, true only if the answer is right.
        """
        if answer is ... or answer is None:
            return Verdict("not attempted", f"{self.name}: not attempted yet. {self._help()}")
        try:
            self.judge(answer)
        except NotAttempted:
            return Verdict("not attempted", f"{self.name}: not attempted yet. {self._help()}")
        except WrongAnswer as wrong:
            return Verdict("wrong", f"{self.name}: not yet. {wrong}\n{self._help()}")
        except (Exception, SystemExit) as error:  # the learner's code may raise anything
            return Verdict(
                "wrong",
                f"{self.name}: your code raised {type(error).__name__}: {error}\n{self._help()}",
            )
        memory.remember(self.chapter, self.name)
        return Verdict("right", f"{self.name}: right.")

    def hint(self) -> str:
        """The next hint; the first again after the last."""
        index = self._shown[0] % len(self.hints)
        self._shown[0] += 1
        return _Text(f"Hint {index + 1} of {len(self.hints)}: {self.hints[index]}")

    def solution(self) -> str:
        """The reference solution as code."""
        if callable(self.reference):
            return _Text(textwrap.dedent(inspect.getsource(self.reference)).rstrip())
        return _Text(repr(self.reference))

    def _help(self) -> str:
        return f"Stuck? cu.exercises.{self.chapter}.{self.name}.hint() helps."

    def __repr__(self) -> str:
        stars = "★" * self.difficulty + "☆" * (3 - self.difficulty)
        return f"{self.name} ({self.minutes} min, {stars}): {self.statement}"


class _Text(str):
    """A string that a notebook shows as lines, not as a quoted literal."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


def call(function: Callable, *inputs: Any) -> Any:
    """Call the learner's function on copies of `inputs`, so that it cannot change them.

    Raises:
        NotAttempted: If it returns `...`, or None because its body is still empty.
        WrongAnswer: If `function` cannot be called, raises, or forgets to return.
    """
    if not callable(function):
        raise WrongAnswer(
            f"A function is expected, you gave {_show(function)}. Hand over its name, without ()."
        )
    try:
        result = function(*(_copy(value) for value in inputs))
    except WrongAnswer:  # an input that watches how it is used
        raise
    except (Exception, SystemExit) as error:  # the learner's code may raise anything
        raise WrongAnswer(
            f"Called with {', '.join(map(_describe, inputs))}, your code raised "
            f"{type(error).__name__}: {error}"
        ) from error
    if result is ... or (result is None and _is_empty(function)):
        raise NotAttempted
    if result is None:
        raise WrongAnswer("Your function returned nothing (None). Hand the result back: return …")
    return result


def _blank(): ...


def _is_empty(function: Callable) -> bool:
    """Whether the body does nothing: `...`, `pass` or a docstring."""
    code = getattr(function, "__code__", None)
    return code is not None and len(code.co_code) <= len(_blank.__code__.co_code)


def expect_close(
    result: Any,
    expected: Any,
    given: str,
    *,
    rtol: float = 1e-6,
    atol: float = 1e-9,
    hint: str = "",
) -> None:
    """Hold the learner's result against the expected one: type, shape, NaN, then value.

    Args:
        result: What the learner's function returned.
        expected: A number, array or tensor (or a tuple of them).
        given: The input in words or code, for the message.
        rtol: Relative tolerance.
        atol: Absolute tolerance, in units of the result.
        hint: Said when the value is wrong.

    Raises:
        WrongAnswer: With input, result, expectation and hint.
    """
    if isinstance(expected, tuple):
        if not isinstance(result, tuple | list) or len(result) != len(expected):
            raise WrongAnswer(
                f"For {given} you returned {_show(result)}; {len(expected)} values are expected."
            )
        for part, target in zip(result, expected, strict=True):
            expect_close(part, target, given, rtol=rtol, atol=atol, hint=hint)
        return
    try:
        got = _array(result)
    except (TypeError, ValueError):
        raise WrongAnswer(
            f"For {given} you returned {_show(result)}, a {type(result).__name__}; "
            f"a number or an array is expected."
        ) from None
    want = _array(expected)
    said = f"For {given} you returned {_show(result)}; expected {_show(expected)}."
    if got.dtype.kind not in "fiu" or isinstance(result, str):
        raise WrongAnswer(f"{said} The type {got.dtype} is not a real number.")
    if got.shape != want.shape:
        raise WrongAnswer(f"{said} The shape is {got.shape}, it should be {want.shape}.")
    if isinstance(expected, torch.Tensor) and not isinstance(result, torch.Tensor):
        raise WrongAnswer(f"{said} A torch tensor is expected, you gave {type(result).__name__}.")
    if not np.isfinite(got).all() and np.isfinite(want).all():
        raise WrongAnswer(f"{said} There is a NaN or Inf in it. {hint}".rstrip())
    if not np.allclose(got, want, rtol=rtol, atol=atol, equal_nan=True):
        raise WrongAnswer(f"{_mismatch(result, expected, given)} {hint}".rstrip())


def _mismatch(result: Any, expected: Any, given: str) -> str:
    """The two figures in words: of a large array one entry, of equal digits their difference."""
    got, want = _array(result), _array(expected)
    where = ""
    if got.size > 8:  # too many figures to compare by eye: the entry that is farthest off
        index = np.unravel_index(np.nanargmax(np.abs(got - want)), got.shape)
        result, expected = got[index].item(), want[index].item()
        where = f" at {[int(i) for i in index]}"
    said = f"For {given} you returned {_show(result)}{where}; expected {_show(expected)}."
    if _show(result) == _show(expected):
        said += f" The two are {np.nanmax(np.abs(got - want)):.1e} apart."
    return said


def _array(value: Any) -> np.ndarray:
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu().numpy()
    array = np.asarray(value)
    if array.dtype.kind == "O":
        raise TypeError("not numeric")
    return array.astype(np.float64) if array.dtype.kind in "fiu" else array


def _copy(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return value.detach().clone()
    return value.copy() if hasattr(value, "copy") else value


def _describe(value: Any) -> str:
    """An input in a few words: of an array that is not tiny its shape, which is what matters."""
    if isinstance(value, torch.Tensor | np.ndarray) and _array(value).size > 4:
        return f"an array of shape {tuple(value.shape)}"
    if isinstance(value, list | tuple):
        return "(" + ", ".join(map(_describe, value)) + ")"
    return _show(value)


def _show(value: Any, digits: int = 5) -> str:
    """A short text for a result, for messages."""
    if isinstance(value, torch.Tensor | np.ndarray):
        array = _array(value)
        if array.ndim == 0:
            return _show(array.item())
        text = np.array2string(array, precision=digits, threshold=8, separator=", ")
        return text if len(text) < 200 else f"an array of shape {array.shape}"
    if isinstance(value, float) and math.isfinite(value):
        return f"{value:.{digits + 1}g}"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "(" + ", ".join(_show(item) for item in value) + ")"
    text = repr(value)
    return text if len(text) < 200 else text[:197] + "..."
