"""Sizes of signals, the edge of chaos and singular values: against SciPy, series and samples."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy import integrate, optimize, special

from course_utils import theory


def gaussian_mean(function, variance):
    """E[f(z)], z ~ N(0, variance), by SciPy's adaptive quadrature."""
    density = lambda x: math.exp(-x * x / 2) / math.sqrt(2 * math.pi)  # noqa: E731
    value, _ = integrate.quad(
        lambda x: function(math.sqrt(variance) * x) * density(x), -12, 12, limit=400, points=[0.0]
    )
    return value


# ---------------------------------------------------------------- layer by layer
@pytest.mark.parametrize(
    ("name", "function", "weight_variance", "bias_variance", "start"),
    [
        ("tanh", math.tanh, 1.3, 0.05, 2.0),
        ("sigmoid", lambda z: special.expit(z), 9.0, 0.3, 0.2),
        ("relu", lambda z: max(z, 0.0), 1.7, 0.4, 3.0),
        ("gelu", lambda z: z * special.ndtr(z), 2.1, 0.0, 0.7),
    ],
)
def test_each_variance_follows_from_the_one_before(
    name, function, weight_variance, bias_variance, start
):
    found = theory.preactivation_variances(
        name, weight_variance, bias_variance, depth=5, start=start
    )
    expected = [start]
    for _ in range(4):
        mean = gaussian_mean(lambda z: function(z) ** 2, expected[-1])
        expected.append(weight_variance * mean + bias_variance)
    assert found == pytest.approx(expected, rel=1e-7)


def test_tanh_with_xavier_never_settles_and_fades_like_one_over_twice_the_layer():
    q = theory.preactivation_variances("tanh", 1.0, depth=1000, start=1.0)
    assert all(later < earlier for earlier, later in pairwise(q))
    assert (1 / q[999] - 1 / q[499]) / 2 == pytest.approx(500, rel=0.01)
    # the next terms of tanh² z = z² − 2z⁴/3 + 17z⁶/45 − 62z⁸/315
    x = 1e-3
    step = theory.preactivation_variances("tanh", 1.0, depth=2, start=x)[1]
    assert step == pytest.approx(x - 2 * x**2 + 17 / 3 * x**3 - 62 / 3 * x**4, rel=1e-8)


def test_relu_multiplies_by_half_the_weight_variance_and_a_linear_net_by_all_of_it():
    assert theory.preactivation_variances("relu", 3.0, depth=6, start=0.5) == pytest.approx(
        [0.5 * 1.5**k for k in range(6)]
    )
    found = theory.preactivation_variances("linear", 0.5, 1.0, depth=4, start=8.0)
    assert found == pytest.approx([8, 5, 3.5, 2.75])


def test_the_recursion_ends_in_the_fixed_point():
    q = theory.preactivation_variances("tanh", 2.3, 0.07, depth=200, start=9.0)
    assert q[-1] == pytest.approx(theory.fixed_point("tanh", 2.3, 0.07), rel=1e-9)


def test_a_diverging_signal_ends_in_inf_and_a_dead_layer_in_its_bias():
    assert math.isinf(theory.preactivation_variances("relu", 1e30, depth=30, start=1.0)[-1])
    assert theory.preactivation_variances("relu", 0.0, 0.25, depth=3, start=7.0) == [7, 0.25, 0.25]
    assert theory.preactivation_variances("tanh", 1.0, depth=1, start=0.0) == [0.0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"weight_variance": -1.0}, "weight_variance=-1.0"),
        ({"bias_variance": math.nan}, "bias_variance=nan"),
        ({"start": -0.1}, "start=-0.1"),
        ({"activation": "tahn"}, "did you mean 'tanh'"),
    ],
)
def test_an_argument_out_of_range_is_named(arguments, message):
    given = {"activation": "tanh", "weight_variance": 1.0, "depth": 3, "start": 1.0} | arguments
    with pytest.raises(ValueError, match=message):
        theory.preactivation_variances(**given)


# ---------------------------------------------------------------- edge of chaos
@pytest.mark.parametrize(("name", "q"), [("tanh", 0.8), ("sigmoid", 150.0)])
def test_a_point_on_the_edge_is_where_a_search_finds_it(name, q):
    ((weight_variance, bias_variance),) = theory.edge_of_chaos(name, [q])
    found = theory.critical_weight_variance(name, bias_variance)
    assert found == pytest.approx(weight_variance, rel=1e-6)


@pytest.mark.parametrize("q", [0.03, 0.4, 6.0])
def test_on_the_edge_of_tanh_a_perturbation_neither_grows_nor_shrinks(q):
    ((weight_variance, bias_variance),) = theory.edge_of_chaos("tanh", [q])
    settled = optimize.brentq(
        lambda v: (
            weight_variance * gaussian_mean(lambda z: math.tanh(z) ** 2, v) + bias_variance - v
        ),
        q / 2,
        2 * q,
    )
    assert settled == pytest.approx(q, rel=1e-6)
    slopes = gaussian_mean(lambda z: math.cosh(z) ** -4, q)
    assert weight_variance * slopes == pytest.approx(1, rel=1e-7)


def test_the_edge_of_relu_is_one_point_and_that_of_a_linear_net_too():
    assert theory.edge_of_chaos("relu", [0.1, 10.0]) == [pytest.approx((2, 0))] * 2
    assert theory.edge_of_chaos("linear", [3.0]) == [pytest.approx((1, 0))]


def test_a_fixed_point_that_would_need_a_negative_bias_variance_is_left_out():
    # sigmoid: E[φ²]/E[φ′²] is at least (1/4)/(1/16) = 4, so every q* below 4 is out
    assert theory.edge_of_chaos("sigmoid", [0.5, 3.9]) == []
    assert len(theory.edge_of_chaos("sigmoid", [0.5, 200.0])) == 1


def test_the_edge_of_chaos_names_what_is_wrong():
    with pytest.raises(ValueError, match="variances=-1"):
        theory.edge_of_chaos("tanh", [-1])
    with pytest.raises(ValueError, match="slope 0"):
        theory.edge_of_chaos(lambda z: torch.zeros_like(z) * z, [1.0])


# ---------------------------------------------------------------- singular values
@pytest.mark.parametrize("depth", [1, 2, 3, 7])
def test_the_largest_singular_value_is_the_growth_rate_of_the_fuss_catalan_numbers(depth):
    def log_moment(k):
        return (
            special.gammaln((depth + 1) * k + 1)
            - special.gammaln(k + 1)
            - special.gammaln(depth * k + 2)
        )

    ratio = math.exp(log_moment(100_001) - log_moment(100_000))
    assert theory.largest_singular_value_squared(depth) == pytest.approx(ratio, rel=1e-4)


@pytest.mark.parametrize("depth", [1, 2, 5])
def test_a_wide_product_of_gaussian_matrices_comes_near(depth):
    n, rng = 300, np.random.default_rng(depth)
    largest = []
    for _ in range(6):
        product = np.eye(n)
        for _ in range(depth):
            product = rng.normal(size=(n, n)) / math.sqrt(n) @ product
        largest.append(np.linalg.norm(product, 2) ** 2)
    assert np.mean(largest) == pytest.approx(theory.largest_singular_value_squared(depth), rel=0.12)


def test_it_grows_by_e_per_layer_in_the_end():
    assert theory.largest_singular_value_squared(0) == 1
    large = 10**7
    assert theory.largest_singular_value_squared(large) == pytest.approx(math.e * (large + 0.5))
