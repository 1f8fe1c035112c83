"""Every exercise of every chapter: what is right passes, what is wrong is told why."""

import math
from importlib import import_module

import numpy as np
import pytest
import torch

import course_utils as cu

CHAPTERS = cu.exercises.CHAPTERS
ANSWERS = {chapter: import_module(f"exercises.answers.{chapter}") for chapter in CHAPTERS}
EXERCISES = [one for chapter in cu.exercises.progress().chapters.values() for one in chapter]
# The wrong answers that raise on an input of the check:
RAISING = {"fails at κ = 1", "one step too long", "input side first"}

each_exercise = pytest.mark.parametrize(
    "exercise", EXERCISES, ids=lambda one: f"{one.chapter}.{one.name}"
)


@pytest.fixture(autouse=True)
def _same_draws():
    """Some answers draw weights."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def raises(*inputs):
    return 1 / 0


def nan_of(result):
    several = isinstance(result, tuple | list)
    return [nan_of(part) for part in result] if several else result * math.nan


def left_open(exercise):
    """The answer of a cell that is not, or not wholly, filled in."""

    def stub(*inputs): ...

    reference = exercise.reference
    if callable(reference):
        return [stub, lambda *inputs: ..., lambda *inputs: None]
    if isinstance(reference, dict):
        return [reference | {name: ...} for name in reference]
    filled = [(*reference[:i], ..., *reference[i + 1 :]) for i in range(len(reference))]
    return [*filled, (...,) * len(reference)]


@each_exercise
def test_the_reference_and_other_right_answers_pass(exercise):
    others = ANSWERS[exercise.chapter].RIGHT.get(exercise.name, [])
    for answer in [exercise.reference, *others]:
        verdict = exercise.check(answer)
        assert verdict and verdict.status == "right", str(verdict)


@each_exercise
def test_a_plausible_wrong_answer_is_rejected_and_told_why(exercise):
    offenders = {}
    for mistake, answer in ANSWERS[exercise.chapter].WRONG[exercise.name].items():
        verdict = exercise.check(answer)
        raised = "your code raised" in str(verdict)
        if verdict.status != "wrong" or len(str(verdict)) < 60 or raised != (mistake in RAISING):
            offenders[mistake] = str(verdict)
    assert not offenders


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_the_usual_slips_are_told_apart(chapter):
    for name, mistake, *said in getattr(ANSWERS[chapter], "SAID", []):
        answer = ANSWERS[chapter].WRONG[name][mistake]
        verdict = str(getattr(getattr(cu.exercises, chapter), name).check(answer))
        assert [text for text in said if text not in verdict] == [], verdict


@each_exercise
def test_what_is_not_filled_in_counts_as_not_attempted(exercise):
    for answer in (..., None, *left_open(exercise)):
        assert exercise.check(answer).status == "not attempted"
    assert exercise.check().status == "not attempted"


@each_exercise
def test_a_check_never_raises(exercise):
    for answer in (3.0, "text", [], object(), lambda: 1.0, lambda *inputs: {}, raises):
        assert exercise.check(answer).status == "wrong"


@each_exercise
def test_a_right_result_in_a_wrong_form_is_wrong(exercise):
    right = exercise.reference
    for spoil in (repr, type, raises, nan_of, lambda result: [result]) if callable(right) else ():
        verdict = exercise.check(lambda *inputs, spoil=spoil: spoil(right(*inputs)))
        assert verdict.status == "wrong", spoil
        assert ("ZeroDivisionError" in verdict.message) == (spoil is raises)


@each_exercise
def test_an_exercise_has_a_statement_hints_a_time_and_a_solution_to_paste(exercise):
    first = exercise.chapter == "start_here"
    assert len(exercise.statement) > 20
    assert len({exercise.hint() for _ in exercise.hints}) == len(exercise.hints)
    assert len(exercise.hints) == (2 if first else 3)
    assert (2 if first else 5) <= exercise.minutes <= 20 and exercise.difficulty in (1, 2, 3)
    assert exercise.name in repr(exercise) and "★" in repr(exercise)
    solution = exercise.solution()
    if callable(exercise.reference):
        assert solution.startswith(f"def {exercise.name}(")
        names = dict(exercise.reference.__globals__)
        exec(solution, names)
        assert exercise.check(names[exercise.name])
    else:
        assert exercise.check(eval(solution))


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_tab_completion_offers_the_exercises_of_a_chapter_and_nothing_else(chapter):
    module = getattr(cu.exercises, chapter)
    offered = {name: getattr(module, name) for name in dir(module)}
    assert {one.name: one for one in EXERCISES if one.chapter == chapter} == offered != {}


def test_every_exercise_has_five_wrong_answers_besides_its_spoiled_reference():
    counts = {
        (chapter, name): len(wrong)
        for chapter in CHAPTERS
        for name, wrong in ANSWERS[chapter].WRONG.items()
    }
    assert set(counts) == {(one.chapter, one.name) for one in EXERCISES}
    assert len(counts) == len(EXERCISES) and min(counts.values()) >= 5


def single(value):
    """The same in float32, also inside of lists."""
    if isinstance(value, list | tuple):
        return type(value)(map(single, value))
    if isinstance(value, np.ndarray | np.generic) and value.dtype == np.float64:
        return value.astype(np.float32)
    if isinstance(value, torch.Tensor) and value.dtype == torch.float64:
        return value.float()
    return np.float32(value) if isinstance(value, float) else value


@each_exercise
def test_the_reference_in_float32_is_right_or_told_that_float64_is_asked_for(exercise):
    right = exercise.reference
    if not callable(right) or exercise.name == "central_difference":  # is about float64
        return

    def answer(*inputs):  # a model keeps its numbers, and what goes into it
        model = any(isinstance(value, torch.nn.Module) for value in inputs)
        return single(right(*(inputs if model else map(single, inputs))))

    verdict = exercise.check(answer)
    assert verdict or "float32" in str(verdict) or "float64" in str(verdict), str(verdict)
