"""Every run judged rightly, sick or healthy, with its beginning, at loss scales 1e-6 and 1e6.

The zoo is tests/run_zoo.py: sizes, optimizers, schedules, clipping, accumulation and data are drawn
from a seed, so it can be asked about any other seed: `python -m benchmarks run_rules`.
"""

import pytest
import run_zoo as zoo

SEED = 20
RUNS = 60
CASES = [(fate, i) for fate, all_ in zoo.FAMILIES.items() for i in range(len(all_))]


def test_the_zoo_has_every_kind_of_a_run():
    kinds = "non_finite diverged growing_output dying update_lost spike stopped frozen_early"
    sick = set()
    for number in range(len(zoo.SICK)):
        source = zoo.SICK[number].__code__.co_consts
        sick |= {text for text in source if isinstance(text, str)}
    assert set(kinds.split()) <= sick
    assert len(zoo.SICK) + len(zoo.HEALTHY) == len(CASES)


@pytest.mark.parametrize(
    ("fate", "number"), CASES, ids=[zoo.FAMILIES[f][i].__name__ for f, i in CASES]
)
def test_the_verdict_is_right_at_every_loss_scale(fate, number):
    for member in zoo.members(fate, number, RUNS):
        run = zoo.run_of(SEED, fate, number, member)
        found = run.diagnosed()
        assert run.right(found), (run.family, run.has, run.began, run.said, str(found))
        for factor in (1e-6, 1e6):
            scaled = run.diagnosed(factor)
            assert scaled.kinds == found.kinds
            for one, other in zip(found.findings, scaled.findings, strict=True):
                assert (one.step, one.layers) == (other.step, other.layers)
