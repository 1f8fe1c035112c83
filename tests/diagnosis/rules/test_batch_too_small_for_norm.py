"""Batch norms on too few values."""

import pytest
from patients import data, diagnose, net, the

import course_utils as cu


@pytest.mark.parametrize("size", [1, 2, 3])
def test_a_batch_norm_on_a_few_values_is_found_before_anything_else(size):
    x, y = data(size)
    assert diagnose(net(5, norm="batch"), (x, y)).kinds == {"batch_too_small_for_norm"}


def test_a_small_batch_that_explodes_over_many_norms_is_told_apart():
    small = diagnose(net(40, norm="batch"), data(5))
    large = diagnose(net(40, norm="batch"), data(256))
    assert {"batch_too_small_for_norm", "exploding"} <= small.kinds
    assert "exploding" in large.kinds and "batch_too_small_for_norm" not in large.kinds
    ratio = cu.theory.batchnorm_gradient_factor("relu", 5) / cu.theory.batchnorm_gradient_factor(
        "relu"
    )
    assert f"{ratio**39:.3g}" in the(small, "batch_too_small_for_norm").cause
