"""Each check against small changes of its own reference, and each solution in its notebook.

A mutant counts if it differs from the reference, by more than the tolerance of the check, on one of
200 inputs of the exercise's own generator. Of those that count, 95 % must be refused.
"""

import ast
import functools
import re
from pathlib import Path

import nbformat
import numpy as np
import pytest
from exercises import mutants
from exercises.test_all import ANSWERS, EXERCISES

ROOT = Path(__file__).resolve().parents[2]
MOST = 30  # mutants of an exercise
INPUTS = 200
# Mutants and inputs where a call takes long: a sum over millions of points, a search in the check.
FEWER = {"mean_square_slope": (10, 10), "critical_weight_variance": (10, INPUTS)}
WITH_INPUTS = [one for one in EXERCISES if callable(one.reference) and one.has_inputs]
# Have many right answers, which do not agree number by number:
MANY = {"bits.stochastic_round", "clinic.treat_network", "gates.open_forget_gate"}
WITHOUT = [f"{one.chapter}.{one.name}" for one in EXERCISES if callable(one.reference)]
HAVE = MANY | {f"{one.chapter}.{one.name}" for one in WITH_INPUTS}
WITHOUT = [name for name in WITHOUT if name not in HAVE]


def ids(one):
    return f"{one.chapter}.{one.name}"


@functools.cache
def expected(exercise):
    with np.errstate(all="ignore"):
        return [
            exercise.reference(*exercise.draw(number))
            for number in range(FEWER.get(exercise.name, (MOST, INPUTS))[1])
        ]


def differs(exercise, mutant):
    """Whether a mutant is another function than the reference, as far as the inputs show."""
    for number, right in enumerate(expected(exercise)):
        try:
            with np.errstate(all="ignore"):
                result = mutant(*exercise.draw(number))
            exercise.compare(result, right, "it")
        except (Exception, mutants.Endless):  # a mutant may raise anything
            return True
    return False


def accepts(exercise, mutant):
    try:
        return bool(exercise.check(mutant))
    except mutants.Endless:
        return False


@functools.cache
def tried(exercise):
    """How many mutants differ, and those of them that the check accepts."""
    different = [
        (said, mutant)
        for said, mutant in mutants.mutants(
            exercise.reference, FEWER.get(exercise.name, (MOST, INPUTS))[0]
        )
        if differs(exercise, mutant)
    ]
    return len(different), [said for said, mutant in different if accepts(exercise, mutant)]


@pytest.mark.filterwarnings("ignore")  # of NumPy and torch, about what mutants do
@pytest.mark.parametrize("exercise", WITH_INPUTS, ids=ids)
def test_a_check_refuses_most_changes_of_its_reference(exercise):
    different, survivors = tried(exercise)
    assert different and len(survivors) <= max(1, 0.2 * different), survivors


@pytest.mark.filterwarnings("ignore")
def test_95_percent_of_all_changes_are_refused():
    total = sum(tried(exercise)[0] for exercise in WITH_INPUTS)
    survivors = [
        f"{ids(exercise)}, {said}" for exercise in WITH_INPUTS for said in tried(exercise)[1]
    ]
    print(f"{total} changes, {len(survivors)} accepted:", *survivors, sep="\n  ")
    assert len(survivors) <= 0.05 * total


def test_every_exercise_that_asks_for_a_function_has_random_inputs():
    assert WITHOUT == []


def test_every_exercise_has_ten_wrong_answers():
    few = [
        f"{chapter}.{name} ({len(wrong)})"
        for chapter, answers in ANSWERS.items()
        for name, wrong in answers.WRONG.items()
        if len(wrong) < 10
    ]
    assert few == []


def test_every_exercise_gives_its_reason():
    silent = [ids(one) for one in EXERCISES if len(one.reason) < 20]
    assert silent == []


# Solutions, where they are pasted


@functools.cache
def notebooks():
    """Each notebook with its code cells."""
    paths = sorted((ROOT / "notebooks").glob("[0-9]*.ipynb"))
    return {
        path.name: [c.source for c in nbformat.read(path, 4).cells if c.cell_type == "code"]
        for path in paths
    }


def first_cell(exercise):
    """Name of the notebook that asks for it, and what its first code cell imports and defines."""
    check = re.compile(rf"exercises\.{exercise.chapter}\.{exercise.name}\.check\(")
    name, cells = next(item for item in notebooks().items() if check.search("\n".join(item[1])))
    kept = (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.ClassDef)
    body = [node for node in ast.parse(cells[0]).body if isinstance(node, kept)]
    return name, ast.Module(body=body, type_ignores=[])


@pytest.mark.parametrize("exercise", EXERCISES, ids=ids)
def test_a_solution_pasted_into_its_notebook_runs_and_is_right(exercise):
    notebook, cell = first_cell(exercise)
    names = {}
    exec(compile(cell, notebook, "exec"), names)
    solution = str(exercise.solution())
    if callable(exercise.reference):
        exec(solution, names)
        verdict = exercise.check(names[exercise.name])
    else:
        verdict = exercise.check(eval(solution, names))
    assert verdict, str(verdict)


# The mutants themselves


def slope(x, y, axis=1):
    """Two times x, 3 times."""
    total = 0
    while total < 2:
        total += 1
    return min(x, y), x[1:] - y.T


def test_each_place_is_changed_and_docstring_and_arguments_are_not():
    said = sorted(text.partition(": ")[2] for text, _ in mutants.mutants(slope, 100))
    assert said == sorted(
        [
            "0 → 1", "0 → -1", "2 → 3", "2 → 1", "2 → 4", "1 → 2", "1 → 0", "1 → 2", "1 → 0",
            "total < 2 → total <= 2", "total < 2 → total > 2",
            "total += 1 → total -= 1", "total += 1 → pass",
            "min(x, y) → max(x, y)", "min(x, y) → min(y, x)", "1: → :",
            "x[1:] - y.T → x[1:] + y.T", "x[1:] - y.T → y.T - x[1:]", "x[1:] - y.T → x[1:]",
            "y.T → y", "(min(x, y), x[1:] - y.T) → (x[1:] - y.T, min(x, y))",
        ]
    )  # fmt: skip


def test_mutants_are_the_same_in_every_run_and_at_most_as_many_as_asked_for():
    first, again = (mutants.mutants(slope, 5) for _ in range(2))
    assert [said for said, _ in first] == [said for said, _ in again] and len(first) == 5


def test_a_mutant_that_does_not_end_is_cut_off():
    endless = dict(mutants.mutants(slope, 100))["line 5: total += 1 → pass"]
    for _ in range(2):
        with pytest.raises(mutants.Endless):
            endless(1, 2)


def test_a_mutant_does_what_it_says():
    changed = dict(mutants.mutants(slope, 100))["line 6: min(x, y) → max(x, y)"]
    x, y = np.array(1.0), np.array(2.0)
    with pytest.raises(IndexError):
        changed(x, y)
