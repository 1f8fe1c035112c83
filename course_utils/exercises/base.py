"""What an exercise is: a statement, a check, hints and a reference solution.

A check calls the learner's function on inputs that tell right from almost right. It answers
with a `Verdict`, never with a traceback, so a notebook runs through whatever the learner wrote.
"""

import html
import inspect
import math
import textwrap
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

import numpy as np
import torch

from . import memory

T = TypeVar("T")
Cases = Iterator[tuple[Any, ...]]
Generator = Callable[[np.random.Generator], tuple[Any, ...]]

RTOL = 1e-5  # what float32 keeps after a few hundred operations, with room to spare
DRAWS = 8  # random inputs of a check


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


@dataclass(eq=False)
class Exercise:
    """One exercise with its check, its hints and its reference solution; see `exercise`.

    Attributes:
        chapter: Module it lives in, "gradient_descent" for instance.
        name: Its name there; `exercises.<chapter>.<name>`.
        statement: What to do, in one or two sentences.
        minutes: How long it takes a first-time reader.
        difficulty: 1 (warm-up) to 3 (hard).
        hints: From a nudge to nearly the answer.
        reference: The right answer: a function, or a plain value.
        reason: Why it is the right one, in a sentence; shown beside the solution.
        code: The code that makes a plain value, where it is shorter than the value.
    """

    chapter: str
    name: str
    statement: str
    minutes: int
    difficulty: int
    hints: tuple[str, ...]
    reference: Any
    reason: str = ""
    code: str = ""
    _judge: Callable[[Any], None] | None = None
    _draw: Generator | None = None
    _compared: dict[str, Any] = field(default_factory=dict)
    _shown: int = 0

    def judge(self, function: Callable[[Any], None]) -> Callable[[Any], None]:
        """Decorate what judges an answer: it raises `WrongAnswer` if the answer is not right."""
        self._judge = function
        return function

    def cases(
        self,
        hint: str = "",
        *,
        results: dict[str, str] | None = None,
        rtol: float = RTOL,
        atol: float | None = None,
    ) -> Callable[[Callable[[], Cases]], Callable[[], Cases]]:
        """Decorate what yields the cases to judge a function by, in place of a judge.

        Hint, results and tolerances also hold for the random inputs of `inputs`.

        Args:
            hint: Said when a value is wrong.
            results: Where several things are returned: the name of each, and its hint.
            rtol: Relative tolerance, see `expect_close`.
            atol: Absolute tolerance, in units of the result, see `expect_close`.

        Returns:
            A decorator for a generator of tuples: the inputs, what is expected, the inputs in
            words, and a hint where it is another one than `hint`.
        """
        self._compared = {"results": results, "rtol": rtol, "atol": atol, "hint": hint}

        def judge(cases: Callable[[], Cases], answer: object) -> None:
            for inputs, expected, given, *own in cases():
                hints = {"hint": own[0]} if own else {}
                self.compare(call(answer, *inputs), expected, given, **hints)

        def make(cases: Callable[[], Cases]) -> Callable[[], Cases]:
            self.judge(partial(judge, cases))
            return cases

        return make

    def inputs(self, function: Generator) -> Generator:
        """Decorate what draws the inputs of one call from `rng`: `(rng) -> (first, second, …)`.

        The reference is called with the same inputs as the answer, and the two are compared as
        `cases` compares (with the default tolerance where there are no cases). Each call of the
        generator makes its inputs anew, so an answer may write into them.
        """
        self._draw = function
        return function

    @property
    def has_inputs(self) -> bool:
        """Whether random inputs can be drawn."""
        return self._draw is not None

    def draw(self, number: int) -> tuple[Any, ...]:
        """The random inputs with this number, made anew at each call.

        Raises:
            TypeError: If the generator returns no tuple.
        """
        assert self._draw is not None, f"{self.name} has no generator of inputs"
        inputs = self._draw(np.random.default_rng([15, number]))
        if not isinstance(inputs, tuple):
            raise TypeError(f"The inputs of {self.name} must be a tuple, also where it is one.")
        return inputs

    def compare(self, result: Any, expected: Any, given: str, **options: Any) -> None:
        """Hold a result of the answer against the expected one, as `cases` was told to.

        Args:
            result: What the learner's function returned.
            expected: What the reference returned, or an oracle.
            given: The input in words or code.
            **options: `hint`, `rtol` or `atol`, in place of those of `cases`.

        Raises:
            WrongAnswer: If they differ.
        """
        options = self._compared | options
        results = options.pop("results", None)
        if results is None:
            expect_close(result, expected, given, **options)
            return
        asked = f"For {given} return {len(results)} things: {', '.join(results)}."
        found = several(result, len(results), asked)
        for part, want, (name, said) in zip(found, expected, results.items(), strict=True):
            expect_close(part, want, f"{given}, {name}", **options | {"hint": said})

    def _judge_random(self, answer: object) -> None:
        """Hold the answer against the reference on random inputs."""
        for number in range(DRAWS):
            with np.errstate(all="ignore"):
                expected = self.reference(*self.draw(number))
            inputs = self.draw(number)
            given = self._in_short(inputs)
            self.compare(call(answer, *inputs, copied=False), expected, given)

    def _in_short(self, inputs: tuple[Any, ...]) -> str:
        """The inputs of one call in words: name by name, of an array that is not tiny the shape."""
        names = list(inspect.signature(self.reference).parameters)
        said = [
            f"{name} {'is' if text.startswith('an array') else '='} {text}"
            for name, text in zip(names, map(_describe, inputs), strict=False)
        ]
        return "random input (" + ", ".join(said) + ")"

    def check(self, answer: Any = ...) -> Verdict:
        """Judge an answer and remember a right one.

        Args:
            answer: Your function, or your number where the exercise asks for one. `...`, and a
                function whose body is still empty, count as not attempted.

        Returns:
            A verdict, true only if the answer is right.
        """
        judge = self._judge
        assert judge is not None, f"{self.name} has no judge"
        try:
            if answer is ... or answer is None:
                raise NotAttempted
            judge(answer)
            if self.has_inputs:
                self._judge_random(answer)
        except NotAttempted:
            return self._not_right("not attempted", "not attempted yet. ")
        except WrongAnswer as wrong:
            return self._not_right("wrong", f"not yet. {wrong}\n")
        except (Exception, SystemExit) as error:  # the learner's code may raise anything
            return self._not_right("wrong", f"your code raised {type(error).__name__}: {error}\n")
        memory.remember(self.chapter, self.name)
        return Verdict("right", f"{self.name}: right.")

    def _not_right(self, status: str, said: str) -> Verdict:
        help_ = f"Stuck? cu.exercises.{self.chapter}.{self.name}.hint() helps."
        return Verdict(status, f"{self.name}: {said}{help_}")

    def hint(self) -> str:
        """The next hint; the first again after the last."""
        index = self._shown % len(self.hints)
        self._shown += 1
        return _Text(f"Hint {index + 1} of {len(self.hints)}: {self.hints[index]}")

    def solution(self) -> str:
        """The reference solution as code, to be pasted, with its reason as a comment."""
        if callable(self.reference):
            source = "\n" + textwrap.dedent(inspect.getsource(self.reference))
            code = "def " + source.partition("\ndef ")[2].rstrip()  # without its decorators
        else:
            code = self.code or repr(self.reference)
        why = textwrap.wrap(f"Why: {self.reason}", 86) if self.reason else []
        return _Text("\n".join([code, *(f"# {line}" for line in why)]))

    def __repr__(self) -> str:
        stars = "★" * self.difficulty + "☆" * (3 - self.difficulty)
        return f"{self.name} ({self.minutes} min, {stars}): {self.statement}"


def exercise(
    statement: str,
    *,
    minutes: int,
    difficulty: int,
    hints: tuple[str, ...],
    reason: str = "",
    value: Any = ...,
    code: str = "",
) -> Callable[[Callable], Exercise]:
    """Make an exercise of the reference solution it decorates, with the name of that function.

    What judges an answer follows, decorated with `@<name>.judge` or `@<name>.cases(...)`. Where a
    plain value is asked for there is no function to write: the right one is handed over as `value`,
    and the judge itself is decorated. `@<name>.inputs` decorates what draws random inputs: the
    answer is then also held against the reference on those.

    Args:
        statement: What to do, in one or two sentences.
        minutes: How long it takes a first-time reader.
        difficulty: 1 (warm-up) to 3 (hard).
        hints: From a nudge to nearly the answer.
        reason: Why the reference is right, in a sentence; shown beside the solution.
        value: The right answer where it is no function.
        code: An expression that makes `value`, for the solution of one that is long to print.

    Returns:
        A decorator that puts an `Exercise` in place of the function.
    """

    def make(function: Callable) -> Exercise:
        chapter = function.__module__.rpartition(".")[2]
        plan = partial(
            Exercise,
            chapter,
            function.__name__,
            statement,
            minutes,
            difficulty,
            hints,
            reason=reason,
            code=code,
        )
        names = function.__globals__
        if names["__package__"] == __package__:  # tab completion in a chapter finds exercises only
            names["__dir__"] = partial(offered, names)
        if value is ...:
            return plan(reference=function)
        return plan(reference=value, _judge=function)

    return make


def offered(names: dict[str, Any]) -> dict[str, Exercise]:
    """The exercises among the names of a chapter, in the order in which they stand there."""
    return {name: value for name, value in names.items() if isinstance(value, Exercise)}


class _Text(str):
    """A string that a notebook shows as lines, not as a quoted literal."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


def call(function: object, *inputs: Any, copied: bool = True) -> Any:
    """Call the learner's function, with NumPy's warnings off.

    Args:
        function: What the learner handed over.
        *inputs: What it is called with.
        copied: Whether it gets copies of the inputs, so that it cannot change them. A copy of a
            tensor is cut off from the graph.

    Returns:
        What it returns.

    Raises:
        NotAttempted: If it returns `...`, or None because its body is still empty.
        WrongAnswer: If `function` cannot be called, raises, or forgets to return.
    """
    if not callable(function):
        raise WrongAnswer(
            f"A function is expected, you gave {_show(function)}. Hand over its name, without ()."
        )
    try:
        with np.errstate(all="ignore"):
            result = function(*map(_copy, inputs) if copied else inputs)
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
    rtol: float = RTOL,
    atol: float | None = None,
    hint: str = "",
) -> None:
    """Hold the learner's result against the expected one: type, shape, NaN, then value.

    With `atol` a figure passes within atol + rtol·|expected|. Without, within rtol times the
    largest figure of its array, for the round-off of small entries is that of the large ones; and
    within rtol/10 where all of them are 0, which takes the 1e-8 of a bisection.

    Args:
        result: What the learner's function returned.
        expected: A number, array or tensor, a text or a truth value, or a tuple or list of them.
        given: The input in words or code, for the message.
        rtol: Relative tolerance. The default lets float32 pass.
        atol: Absolute tolerance, in units of the result; see above.
        hint: Said when the value is wrong, or no real number.

    Raises:
        WrongAnswer: With input, result, expectation and hint.
    """
    if isinstance(expected, tuple | list):
        asked = f"For {given} you returned {_show(result)}; a list of {len(expected)} is expected."
        for part, target in zip(several(result, len(expected), asked), expected, strict=True):
            expect_close(part, target, given, rtol=rtol, atol=atol, hint=hint)
        return
    said = f"For {given} you returned {_show(result)}; expected {_show(expected)}."
    if expected is None or isinstance(expected, str):
        if type(result) not in (type(expected), np.str_) or result != expected:
            raise WrongAnswer(f"{said} {hint}".rstrip())
        return
    try:
        got = _array(result)
    except (TypeError, ValueError, RuntimeError):
        raise WrongAnswer(
            f"For {given} you returned {_show(result)}, a {type(result).__name__}; "
            f"a number or an array is expected."
        ) from None
    want = _array(expected)
    kinds, kind = ("b", "truth value") if want.dtype.kind == "b" else ("fiu", "real number")
    if got.dtype.kind not in kinds or isinstance(result, str):
        raise WrongAnswer(f"{said} The type {got.dtype} is not a {kind}. {hint}".rstrip())
    if got.shape != want.shape:
        raise WrongAnswer(f"{said} The shape is {got.shape}, it should be {want.shape}.")
    if isinstance(expected, torch.Tensor) and not isinstance(result, torch.Tensor):
        raise WrongAnswer(f"{said} A torch tensor is expected, you gave {type(result).__name__}.")
    if kinds == "b":
        if (got != want).any():
            raise WrongAnswer(f"{said} {hint}".rstrip())
        return
    if not np.isfinite(got).all() and np.isfinite(want).all():
        raise WrongAnswer(f"{said} There is a NaN or Inf in it. {hint}".rstrip())
    if atol is None:
        largest = float(np.abs(want[np.isfinite(want)]).max(initial=0.0))
        atol, rtol = rtol * (largest or 0.1), 0.0
    if not np.isclose(got, want, rtol=rtol, atol=atol, equal_nan=True).all():
        raise WrongAnswer(f"{_mismatch(result, expected, given)} {hint}".rstrip())


def several(value: object, count: int, otherwise: str) -> Sequence[Any]:
    """A list or tuple of `count` things, or one array with so many along its first axis.

    Raises:
        WrongAnswer: With the text `otherwise`, if it is anything else.
    """
    if isinstance(value, np.ndarray | torch.Tensor) and value.ndim:
        value = list(value)  # made by np.stack, for instance
    if not isinstance(value, tuple | list) or len(value) != count:
        raise WrongAnswer(otherwise)
    return value


def parts(answer: object, *names: str) -> Sequence[Any]:
    """The parts of an answer such as (W, v).

    Raises:
        NotAttempted: While one of them is `...`.
        WrongAnswer: If there are not as many as `names`.
    """
    asked = f"Hand over {len(names)} things: check(({', '.join(names)}))."
    found = several(answer, len(names), asked)
    if any(part is ... or part is None for part in found):
        raise NotAttempted
    return found


def finite_array(name: str, value: object, shape: tuple[int, ...] | None = None) -> np.ndarray:
    """A part of an answer as an array of real numbers, of this shape if one is asked for.

    Raises:
        WrongAnswer: If it is none, or holds a number that is not finite, or beyond 1e100.
    """
    try:
        array = _array(value)
    except (TypeError, ValueError):  # no numbers, or rows of different length
        array = np.empty(0, dtype=object)
    said = f"{name} = {_cut(repr(value))}"
    if array.dtype != np.float64 or shape not in (None, array.shape):
        if shape is None:
            raise WrongAnswer(f"{said} is not made of real numbers.")
        example = "[[1, 0], [0, 1]]" if len(shape) == 2 else "[1, 0]"
        raise WrongAnswer(
            f"{said} is not an array of {shape} real numbers. Write it like {example}."
        )
    if not (np.abs(array) <= 1e100).all():
        raise WrongAnswer(f"{said} holds a number that is not finite, or beyond 1e100.")
    return array


def valid(check: Callable[..., T], name: str, value: object, *limits: Any, **options: Any) -> T:
    """What a check from `arguments` makes of a part of an answer.

    Raises:
        WrongAnswer: If it refuses the value.
    """
    try:
        return check(name, value, *limits, **options)
    except (TypeError, ValueError) as error:
        raise WrongAnswer(str(error)) from None


def _mismatch(result: Any, expected: Any, given: str) -> str:
    """The two figures in words: of a large array one entry, of equal digits their difference."""
    got, want = _array(result), _array(expected)
    with np.errstate(all="ignore"):
        apart = np.where(got == want, 0.0, np.abs(got - want))
    single = _is_single(result, got, want)
    where = ""
    if got.size > 8:  # too many figures to compare by eye: the entry that is farthest off
        index = np.unravel_index(np.nanargmax(apart), got.shape)
        result, expected = got[index].item(), want[index].item()
        where = f" at {[int(i) for i in index]}"
    said = f"For {given} you returned {_show(result)}{where}; expected {_show(expected)}."
    if _show(result) == _show(expected):
        said += f" The two are {np.nanmax(apart):.1e} apart."
    if single:
        said += " That looks like float32, which keeps 7 digits: compute in float64 here."
    return said


def _is_single(result: Any, got: np.ndarray, want: np.ndarray) -> bool:
    """Whether the result is right but for its precision, and that is float32's."""
    largest = float(np.abs(want[np.isfinite(want)]).max(initial=0.0))
    if not np.allclose(got, want, rtol=1e-3, atol=1e-3 * largest):
        return False
    if "float32" in str(getattr(result, "dtype", "")):
        return True
    with np.errstate(over="ignore"):
        rounded = got.astype(np.float32) == got
        return bool(rounded.all() and not (want.astype(np.float32) == want).all())


def _array(value: Any) -> np.ndarray:
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu()
        value = (value.float() if value.dtype == torch.bfloat16 else value).numpy()
    if isinstance(value, list | tuple):  # of arrays, tensors or numbers
        value = [_array(part) for part in value]
    array = np.asarray(value)
    if array.dtype.kind == "O":
        raise TypeError("not numeric")
    return array.astype(np.float64) if array.dtype.kind in "fiu" else array


def _copy(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return value.detach().clone()
    if isinstance(value, list | tuple):
        return type(value)(map(_copy, value))
    return value.copy() if hasattr(value, "copy") else value


def _describe(value: Any) -> str:
    """An input in a few words: of an array that is not tiny its shape, which is what matters."""
    if isinstance(value, torch.Tensor | np.ndarray) and _array(value).size > 4:
        return f"an array of shape {tuple(value.shape)}"
    if isinstance(value, list | tuple):
        if len(value) > 8:
            return f"a list of {len(value)}"
        return "(" + ", ".join(map(_describe, value)) + ")"
    if not isinstance(value, int | float | complex | str | dict | np.generic | np.ndarray):
        return str(value.tolist()) if isinstance(value, torch.Tensor) else _named(value)
    return _show(value)


def _named(value: object) -> str:
    """What an object is, for one that has no short text of its own."""
    return "None" if value is None else f"a {type(value).__name__}"


def _show(value: Any, digits: int = 5) -> str:
    """A short text for a result, for messages."""
    if isinstance(value, torch.Tensor | np.ndarray):
        array = _array(value)
        if array.ndim == 0:
            return _show(array.item())
        text = np.array2string(array, precision=digits, threshold=8, separator=", ")
        return text if len(text) < 200 else f"an array of shape {array.shape}"
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and math.isfinite(value):
        return f"{value:.{digits + 1}g}"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "(" + ", ".join(_show(item) for item in value) + ")"
    return _cut(repr(value))


def _cut(text: str) -> str:
    return text if len(text) < 200 else text[:197] + "..."
