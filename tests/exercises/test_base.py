"""Exercises in general: verdicts, hints, solutions, and the file that remembers what is solved."""

import errno
import json
import math
import os
import sys
import tempfile
import threading

import numpy as np
import pytest
import torch

import course_utils as cu
from course_utils.exercises import Progress, memory
from course_utils.exercises.base import WrongAnswer, call, exercise, expect_close


@exercise("Twice x.", minutes=1, difficulty=1, hints=("one", "two"))
def double(x):
    """Twice x."""
    return 2 * x


@double.judge
def judge_double(answer):
    for value in (1.0, 3.0):
        expect_close(call(answer, value), 2 * value, f"x={value}", hint="Add x to itself.")


# What the decorators make


def test_chapter_and_name_are_those_of_the_module_and_the_function():
    assert (double.chapter, double.name) == ("test_base", "double")
    assert double.statement == "Twice x." and double.reference(3) == 6
    assert judge_double is double._judge  # a judge is left as it is


def test_of_a_value_the_judge_is_decorated():
    @exercise("Name a half.", minutes=1, difficulty=1, hints=("1/4 is smaller.",), value=0.5)
    def half(answer):
        expect_close(answer, 0.5, "half")

    assert half.check(half.reference) and half.check(1 / 2)
    assert half.check(0.25).status == "wrong"
    assert half.name == "half" and half.solution() == "0.5"


@exercise("Quotient and rest.", minutes=1, difficulty=1, hints=("divmod",))
def divided(n, by):
    return n // by, n % by


@divided.cases(results={"quotient": "Round down.", "rest": "n − q·by."})
def _():
    yield (7, 2), (3, 1), "7 by 2"
    yield (6, 3), (2, 0), "6 by 3"


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (lambda n, by: n // by, "For 7 by 2 return 2 things: quotient, rest."),
        (lambda n, by: (n / by, n % by), "7 by 2, quotient you returned 3.5; expected 3. Round"),
        (lambda n, by: [n // by, 1], "6 by 3, rest you returned 1; expected 0. n − q·by."),
        (lambda n: n, "Called with 7, 2, your code raised TypeError"),
    ],
)
def test_cases_of_several_results_name_the_one_that_is_wrong(answer, said):
    assert divided.check(divided.reference) and divided.check(divmod)
    assert said in divided.check(answer).message


def test_a_case_may_have_a_hint_of_its_own():
    @exercise("x squared", minutes=1, difficulty=1, hints=("x·x",))
    def square(x):
        return x * x

    @square.cases("Multiply.", rtol=1e-9)
    def _():
        yield (2,), 4, "x=2"
        yield (-3,), 9, "x=-3", "Minus by minus."

    assert square.check(lambda x: x**2)
    assert "expected 4. Multiply." in str(square.check(lambda x: x))
    assert "expected 9. Minus by minus." in str(square.check(lambda x: x * abs(x)))
    assert square.check(lambda x: x * x * (1 + 1e-8)).status == "wrong"


# Random inputs


@exercise("Scale and shift.", minutes=1, difficulty=1, hints=("one",), reason="It is a line.")
def line(x, a, b):
    return a * x + b


@line.cases("Multiply first.")
def _():
    yield (np.ones(2), 2.0, 0.0), 2 * np.ones(2), "x = [1, 1], a = 2, b = 0"


@line.inputs
def draw_line(rng):
    return rng.normal(size=rng.integers(5, 9)), rng.normal(), rng.normal()


def writes(x, a, b):
    x *= a
    x += b
    return x


def test_an_answer_is_also_held_against_the_reference_on_random_inputs():
    assert line.check(lambda x, a, b: b + x * a) and line.check(writes)
    said = str(line.check(lambda x, a, b: a * x - b))
    shape = line.draw(0)[0].shape
    assert f"For random input (x is an array of shape {shape}, a = " in said
    assert "Multiply first." in said and draw_line is line._draw
    assert not double.has_inputs and line.has_inputs


def test_the_random_inputs_have_a_fixed_seed_that_no_offset_shifts(monkeypatch):
    before = line.draw(3)
    monkeypatch.setenv("COURSE_SEED_OFFSET", "7")
    again, other = line.draw(3), line.draw(4)
    assert np.array_equal(before[0], again[0]) and before[1:] == again[1:] != other[1:]


def test_of_several_results_random_inputs_name_the_one_that_is_wrong():
    @exercise("Quotient and rest.", minutes=1, difficulty=1, hints=("divmod",))
    def parts_of(n, by):
        return n // by, n % by

    @parts_of.judge
    def _(answer):
        assert call(answer, 6, 3) is not None

    @parts_of.inputs
    def _(rng):
        return int(rng.integers(100, 200)), int(rng.integers(2, 9))

    assert parts_of.check(divmod) and parts_of.check(lambda *pair: np.array(divmod(*pair)))
    assert parts_of.check(lambda n, by: (n // by, 0)).status == "wrong"
    parts_of.cases(results={"quotient": "Round.", "rest": "n − q·by."})(lambda: iter(()))
    assert ", rest you returned -1" in str(parts_of.check(lambda n, by: (n // by, -1)))


def test_inputs_that_are_no_tuple_are_an_error_of_the_author():
    @exercise("Twice x.", minutes=1, difficulty=1, hints=("one",))
    def twice(x):
        return 2 * x

    twice.inputs(lambda rng: rng.normal())
    with pytest.raises(TypeError, match="The inputs of twice must be a tuple"):
        twice.draw(0)


def test_inputs_are_said_in_short():
    @exercise("All kinds.", minutes=1, difficulty=1, hints=("one",))
    def kinds(f, x, many, net):
        return 0

    inputs = math.sin, np.ones((2, 3)), [1.0] * 9, torch.nn.ReLU()
    assert kinds._in_short(inputs) == (
        "random input (f = a builtin_function_or_method, x is an array of shape (2, 3), "
        "many = a list of 9, net = a ReLU)"
    )


# Verdicts


def test_the_right_answer_is_right_and_remembered():
    verdict = double.check(lambda x: x + x)
    assert verdict and verdict.status == "right"
    assert memory.solved() == {"test_base": ["double"]}


def documented(x):
    """Twice x."""


def passes(x):
    pass


@pytest.mark.parametrize("answer", [..., None, lambda x: ..., lambda x: None, documented, passes])
def test_an_unattempted_exercise_says_so_and_is_not_remembered(answer):
    verdict = double.check(answer)
    assert not verdict and verdict.status == "not attempted"
    assert "not attempted" in str(verdict) and ".hint()" in str(verdict)
    assert memory.solved() == {}


def recurs(x):
    return recurs(x)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (lambda x: x, "expected 2"),
        (lambda x: x**2 + 1, "For x=3.0 you returned 10; expected 6"),
        (lambda x: [2 * x], "shape"),
        (lambda x: str(2 * x), "not a real number"),
        (lambda x: "two", "two"),
        (lambda x: math.nan, "NaN"),
        (lambda x: 2j * x, "not a real number"),
        (lambda x: x > 0, "not a real number"),
        (lambda x: {"a": 1}, "dict"),
        (lambda x: 1 / 0, "ZeroDivisionError"),
        (lambda x: 1 / (x - 3), "For x=1.0"),  # wrong before it raises
        (lambda x: math.sqrt(2 - x) + 1, "Called with 3, your code raised ValueError"),
        (recurs, "RecursionError"),
        (lambda x: sys.exit(), "SystemExit"),
        (lambda x: print(2 * x), "returned nothing"),
        (lambda: 1, "TypeError"),
        (lambda x: undefined_name, "NameError"),  # noqa: F821
        (5, "function is expected"),
        ("double", "function is expected"),
    ],
)
def test_a_wrong_answer_is_told_what_is_wrong_and_never_raises(answer, said):
    verdict = double.check(answer)
    assert not verdict and verdict.status == "wrong"
    assert said in str(verdict)
    assert memory.solved() == {}


def test_a_verdict_shows_itself_with_its_text_escaped():
    verdict = double.check(lambda x: "<b>")
    assert "<b>" in str(verdict)
    assert "<b>" not in verdict._repr_html_() and "&lt;b&gt;" in verdict._repr_html_()


def test_of_a_large_input_the_shape_is_said_when_an_answer_raises():
    with pytest.raises(WrongAnswer, match=r"Called with \(an array of shape \(2, 3\), 1\), "):
        call(lambda pair: 1 / 0, [np.zeros((2, 3)), 1])


def test_help_can_be_pasted_into_a_cell():
    line = str(double.check()).split("Stuck? ")[1].removesuffix(" helps.")
    assert line == "cu.exercises.test_base.double.hint()"


# What is compared


@pytest.mark.parametrize(
    ("result", "expected"),
    [
        (np.float32(1), 1.0),
        (1, 1.0),
        (torch.tensor(1.0), 1.0),
        (np.array([1.0, 2.0]), torch.tensor([1.0, 2.0]).numpy()),
        ([1.0, 2.0], np.array([1.0, 2.0])),
        (torch.ones(2, requires_grad=True), torch.ones(2)),
        ((1.0, np.ones(2)), (1.0, np.ones(2))),
        (np.ones(2), (1.0, 1.0)),
        (np.ones((2, 3)), (np.ones(3), np.ones(3))),
        (torch.ones(2, 3), [np.ones(3), np.ones(3)]),
        ([[1, 2], [3, 4]], np.array([[1.0, 2.0], [3.0, 4.0]])),
        ([torch.tensor(1.0), 2.0], np.array([1.0, 2.0])),
        (np.float32(3325.25673), 3325.256730079651),
        (np.array([1e4, 1e-3 + 1e-5], dtype=np.float32), np.array([1e4, 1e-3])),
        (1e-8, 0.0),
        (1e-8, np.zeros(())),
        (np.str_("healthy"), "healthy"),
        (["a", "b"], ("a", "b")),
        (np.bool_(True), True),
        (np.array([True, False]), torch.tensor([True, False]).numpy()),
        (math.inf, math.inf),
    ],
)
def test_equal_values_pass(result, expected):
    expect_close(result, expected, "this")


@pytest.mark.parametrize(
    ("result", "expected", "said"),
    [
        (np.ones((2, 1)), np.ones(2), "shape"),
        (np.ones(2), torch.ones(2), "torch tensor"),
        (np.ones(3), (1.0, 1.0), "a list of 2"),
        (np.ones((1, 2)), (1.0, 1.0), "a list of 2"),
        (np.ones(()), (1.0, 1.0), "a list of 2"),
        (1.0, (1.0, 1.0), "a list of 2"),
        (1.0 + 2e-5, 1.0, "expected 1"),
        (9e-7, 1e-6, "expected 1e-06"),
        (2e-6, 0.0, "expected 0"),
        ("sick", "healthy", "expected 'healthy'"),
        (1.0, "healthy", "expected 'healthy'"),
        (1, True, "not a truth value"),
        (False, True, "expected True"),
        ([torch.ones(2), 1.0], np.ones(2), "a number or an array is expected"),
        (np.array([1.0, np.inf]), np.ones(2), "Inf"),
        (object(), 1.0, "object"),
    ],
)
def test_anything_else_is_a_wrong_answer(result, expected, said):
    with pytest.raises(WrongAnswer, match=said):
        expect_close(result, expected, "this")


def test_figures_that_read_the_same_are_told_apart_by_their_difference():
    with pytest.raises(WrongAnswer, match=r"you returned 1; expected 1\. The two are 3\.0e-08"):
        expect_close(1 + 3e-8, 1.0, "this", rtol=1e-9)


def test_what_looks_like_float32_is_called_so():
    third = 1 / 3
    for result in (np.float32(third), torch.tensor(third), float(np.float32(third))):
        with pytest.raises(WrongAnswer, match=r"apart\. That looks like float32"):
            expect_close(result, third, "this", rtol=1e-9)
    for result in (third * (1 + 1e-7), np.float32(0.4), 0.5):
        with pytest.raises(WrongAnswer) as caught:
            expect_close(result, third, "this", rtol=1e-9)
        assert "float32" not in str(caught.value)


def test_of_a_large_array_the_entry_farthest_off_is_said():
    want = np.zeros((3, 4))
    got = want.copy()
    got[0, 0], got[2, 1] = 1.0, -5.0
    with pytest.raises(WrongAnswer, match=r"you returned -5 at \[2, 1\]; expected 0\. Mind it\."):
        expect_close(got, want, "this", hint="Mind it.")


def test_an_answer_cannot_change_the_inputs_of_the_check():
    array, tensor = np.ones(2), torch.ones(2)

    def spoil(a, t):
        a += 1
        t.mul_(0)
        return 1

    call(spoil, array, tensor)
    call(lambda pairs: spoil(*pairs[0]), [(array, tensor)])
    assert array.tolist() == [1, 1] and tensor.tolist() == [1, 1]


def test_an_answer_that_is_differentiated_gets_the_leaf_itself():
    leaf = torch.ones(2, requires_grad=True)
    assert call(lambda x: x.sum(), leaf, copied=False).requires_grad
    assert not call(lambda x: x.sum(), leaf).requires_grad


@pytest.mark.filterwarnings("error")
def test_warnings_of_numpy_are_off_while_an_answer_runs():
    assert call(lambda x: np.exp(x), np.array(1000.0)) == math.inf


# Hints and solutions


def test_hints_come_one_after_the_other_and_start_again():
    double._shown = 0
    said = [double.hint() for _ in range(3)]
    assert said == ["Hint 1 of 2: one", "Hint 2 of 2: two", "Hint 1 of 2: one"]
    assert repr(said[0]) == said[0]  # a notebook shows the text, not a quoted literal


def test_the_solution_is_the_code_of_the_reference_without_its_decorators():
    assert double.solution() == 'def double(x):\n    """Twice x."""\n    return 2 * x'
    assert divided.solution() == "def divided(n, by):\n    return n // by, n % by"
    assert line.solution().endswith("return a * x + b\n# Why: It is a line.")


def test_the_solution_of_a_long_value_is_the_code_that_makes_it():
    @exercise(
        "Ones.", minutes=1, difficulty=1, hints=("1",), value=[1.0] * 99, code="[1.0] * 99",
        reason="Long reasons " + "go on " * 20,
    )  # fmt: skip
    def ones(answer):
        expect_close(answer, np.ones(99), "it")

    solution = ones.solution()
    assert solution.startswith("[1.0] * 99\n# Why: Long reasons go on")
    assert all(len(text) < 90 for text in solution.splitlines()) and ones.check(eval(solution))


def test_an_unknown_chapter_is_an_attribute_error_that_lists_the_chapters():
    with pytest.raises(AttributeError, match="gradient_descent"):
        _ = cu.exercises.no_such_chapter


def test_tab_completion_offers_chapters_and_progress():
    assert dir(cu.exercises) == sorted([*cu.exercises.CHAPTERS, "progress"])


# The file that remembers


@pytest.fixture
def file(tmp_path, monkeypatch):
    path = tmp_path / "folder" / "progress.json"
    monkeypatch.setenv("COURSE_PROGRESS", str(path))
    return path


def test_what_is_remembered_is_there_after_a_restart(file):
    memory.remember("b", "two")
    memory.remember("a", "one")
    memory.remember("a", "one")
    memory.remember("a", "another")
    assert [path.name for path in file.parent.iterdir()] == ["progress.json"]
    assert json.loads(file.read_text()) == {"a": ["one", "another"], "b": ["two"]}
    assert memory.solved() == {"a": ["another", "one"], "b": ["two"]}
    assert memory.problem() == ""


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[1, 2]", b"\xff\xfe\x00", b"null", b'"text"', b"[" * 100_000],
    ids=["empty", "cut off", "a list", "no text", "null", "a string", "too deep"],
)
def test_a_corrupt_file_counts_as_empty_is_said_so_and_kept_aside(file, content):
    file.parent.mkdir()
    file.write_bytes(content)
    assert memory.solved() == {}
    assert str(file) in memory.problem() and "damaged" in memory.problem()
    assert "damaged" in str(cu.exercises.progress())
    assert double.check(double.reference)
    assert memory.solved() == {"test_base": ["double"]}
    assert memory.problem() == ""
    assert file.with_name("progress.json.corrupt").read_bytes() == content


def test_odd_entries_in_the_file_are_passed_over(file):
    file.parent.mkdir()
    file.write_text('{"a": ["one", 2, null, "one"], "b": "two", "c": {}}')
    assert memory.solved() == {"a": ["one"]}


def test_a_file_that_cannot_be_written_breaks_no_check_and_is_said_so(tmp_path, monkeypatch):
    obstacle = tmp_path / "file"
    obstacle.write_text("in the way")
    monkeypatch.setenv("COURSE_PROGRESS", str(obstacle / "progress.json"))
    assert double.check(double.reference)
    assert memory.solved() == {}
    assert "cannot be written" in memory.problem() and "COURSE_PROGRESS" in memory.problem()
    assert "cannot be written" in cu.exercises.progress()._repr_html_()


def test_a_folder_in_place_of_the_file_is_said_so_and_put_aside(file):
    file.mkdir(parents=True)
    assert "cannot be read" in memory.problem()
    assert double.check(double.reference)
    assert memory.solved() == {"test_base": ["double"]}
    assert file.with_name("progress.json.corrupt").is_dir()


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write into any folder"
)
def test_a_read_only_folder_breaks_no_check_and_is_said_so(file):
    file.parent.mkdir()
    file.parent.chmod(0o500)
    assert double.check(double.reference)
    assert "cannot be written" in memory.problem()
    file.parent.chmod(0o700)


def test_a_read_only_disk_breaks_no_check_and_is_said_so(file, monkeypatch):
    memory.remember("a", "one")
    before = file.read_bytes()

    def refuse(*arguments, **options):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    for function in ("mkstemp", "mkdtemp"):
        monkeypatch.setattr(tempfile, function, refuse)
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK)
    assert double.check(double.reference)
    assert "cannot be written" in memory.problem()
    assert file.read_bytes() == before and memory.solved() == {"a": ["one"]}
    assert "cannot be written" in str(cu.exercises.progress())


def test_without_a_name_in_the_environment_the_file_lies_in_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.delenv("COURSE_PROGRESS")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    assert memory.path() == tmp_path / ".course_gradients" / "progress.json"
    monkeypatch.setenv("COURSE_PROGRESS", "~/mine.json")
    assert memory.path() == tmp_path / "mine.json"


def test_two_threads_that_solve_at_once_leave_a_readable_file(file):
    threads = [threading.Thread(target=memory.remember, args=("a", str(i))) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert memory.problem() == "" and memory.solved()["a"]


# What is shown


def test_progress_shows_every_exercise_solved_or_not():
    chapters = cu.exercises.progress().chapters
    solved, total = chapters["start_here"][0], sum(map(len, chapters.values()))
    memory.remember("start_here", "gone")  # an exercise, and a chapter, of an older course
    memory.remember("gone", "gone")
    assert str(cu.exercises.progress()).count("○") == total
    solved.check(solved.reference)
    now = cu.exercises.progress()
    assert str(now).count("○") == total - 1 and f"✓ {solved.name}" in str(now)
    assert f"✓&nbsp;{solved.name}" in now._repr_html_()
    assert "1 of" in now._repr_html_()
    assert repr(now) == str(now) and str(now).count("✓") == 1


def test_a_problem_is_shown_escaped():
    assert "&lt;x&gt;" in Progress({}, frozenset(), "<x>")._repr_html_()
