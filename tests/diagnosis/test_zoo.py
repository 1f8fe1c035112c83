"""Every verdict right on networks drawn at random: family by family, at loss scales 1e-6 and 1e6.

The zoo is tests/network_zoo.py: widths, depths, batch sizes (1 to 512) and losses are drawn
from a seed, so it can be asked about any other seed: `python -m benchmarks diagnosis_rules`.
"""

import network_zoo as zoo
import pytest

SEED = 20
MEMBERS = 2
CASES = [(condition, family) for condition, all_ in zoo.FAMILIES.items() for family in all_]


def test_the_zoo_holds_at_least_sixty_networks_of_every_condition():
    assert MEMBERS * len(CASES) >= 60
    conditions = "vanishing exploding dead saturated non_finite shattered healthy"
    assert set(zoo.FAMILIES) >= set(conditions.split())


@pytest.mark.parametrize(("condition", "family"), CASES, ids=[f.__name__ for _, f in CASES])
def test_the_verdict_is_right_at_every_loss_scale(condition, family):
    number = CASES.index((condition, family))
    for member in range(MEMBERS):
        patient = family(zoo.Draw(1000 * SEED + 10 * number + member))
        found = [patient.diagnosed(factor) for factor in (1e-6, 1e6)]
        assert all(patient.right(d.kinds) for d in found), (patient.family, found)
        assert found[0].kinds == found[1].kinds
        for small, large in zip(found[0].findings, found[1].findings, strict=True):
            assert small.measured == pytest.approx(large.measured, rel=1e-4, nan_ok=True)
