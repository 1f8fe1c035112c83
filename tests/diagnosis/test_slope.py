"""One slope over the depth, against regressions."""

import math

import numpy as np
import pytest
import torch
from patients import data, diagnose
from torch import nn

from course_utils.diagnosis import fit_slope


def test_the_slope_is_that_of_a_regression_with_a_level_for_each_shape():
    g = np.random.default_rng(0)
    groups = ["a"] * 5 + ["b"] * 4 + ["a"] * 3
    places = list(range(12))
    level = {"a": 0.0, "b": 7.0}
    logs = [level[s] - 0.3 * i + 0.1 * g.standard_normal() for i, s in enumerate(groups)]
    design = np.array([[i, s == "a", s == "b"] for i, s in enumerate(groups)], dtype=float)
    solution, residual, *_ = np.linalg.lstsq(design, np.array(logs), rcond=None)
    slope = fit_slope([math.exp(v) for v in logs], places, groups, 11)
    assert math.log(slope.factor) == pytest.approx(-solution[0])
    variance = residual[0] / 9 * np.linalg.inv(design.T @ design)[0, 0]
    assert slope.error == pytest.approx(math.sqrt(variance))
    assert slope.log_total == pytest.approx(-11 * solution[0])


def test_a_gradient_that_underflows_is_fitted_where_it_has_digits():
    slope = fit_slope([0.0, 0.0, 1e-9, 1e-6, 1e-3, 1.0], range(6), [0] * 6, 5)
    assert slope.factor == pytest.approx(1e-3)
    assert slope.underflow and slope.verdict == "vanishing"


def test_a_slope_near_the_limit_says_so():
    logs = [0, 0.6, 1.2, 2.6, 3.1, 4.4]
    slope = fit_slope([math.exp(v) for v in logs], range(6), [0] * 6, 5)
    assert slope.close and slope.verdict is None


def test_a_line_through_two_points_is_not_drawn_further():
    slope = fit_slope([0.08, 1.0], [1, 2], ["a", "b"], 7)
    assert slope.factor == pytest.approx(0.08) and slope.span == 1
    layers = [nn.Conv1d(4, 16, 5, padding=2), nn.ReLU(), nn.MaxPool1d(2)]
    layers += [nn.Conv1d(16, 32, 5, padding=2), nn.ReLU(), nn.AdaptiveAvgPool1d(1), nn.Flatten()]
    torch.manual_seed(0)
    model = nn.Sequential(*layers, nn.Linear(32, 10))
    for size in (1, 8, 64):
        batch = torch.randn(size, 4, 40), data(size)[1]
        assert diagnose(model, batch).healthy
