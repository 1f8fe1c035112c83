"""NaN and Inf: the finding and its remedy."""

import math

import pytest
import torch
from patients import Written, data, diagnose, the
from torch import nn

import course_utils as cu


def test_an_overflow_is_traced_to_the_growth_before_it():
    model = cu.mlp(60, 120, inputs=64, init="normal", std=1.0, generator=cu.seeded(0))
    found = diagnose(model)
    assert found.kinds == {"non_finite", "exploding"}
    growth = math.sqrt(120 / 2)  # E h² per layer is n/2 for N(0,1) weights and ReLU
    assert the(found, "exploding").measured == pytest.approx(growth, rel=0.05)


@pytest.mark.parametrize(
    "function",
    [
        lambda z: torch.log(z.relu()),
        lambda z: (z * 0).sqrt(),
        lambda z: z / (z * 0),
        lambda z: (200 * z.abs() + 200).exp(),
        lambda z: torch.asin(z.abs() + 2),
    ],
)
def test_a_remedy_that_must_be_done_by_hand_is_a_comment_and_does_not_run(function):
    model = Written(lambda self, x: function(self.linear(x)), linear=nn.Linear(64, 10))
    found = the(diagnose(model), "non_finite")
    assert found.remedy.startswith("#") and not found.remedy_runs
    exec(found.remedy, {})  # a comment, and no more


def test_the_remedy_of_a_batch_that_holds_nan_is_a_comment_too():
    x, y = data()
    x[3, 5] = math.nan
    found = the(diagnose(nn.Linear(64, 10), (x, y)), "non_finite")
    assert not found.remedy_runs and exec(found.remedy, {}) is None
