"""Mean-field predictions against SciPy's quad, mpmath, closed forms and simulation.

The simulations run at widths,
variances and depths the notebook does not use.
"""

import itertools
import math

import mpmath
import numpy as np
import pytest
import scipy.special as sp
import torch
from activation_formulas import ALPHA, SCALE, density
from activation_formulas import FORMULAS as ORACLE
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.optimize import brentq

from course_utils import theory
from course_utils.activations import ACTIVATIONS, Activation
from course_utils.runtime import seeded

log_variances = st.floats(-6, 6)
names = st.sampled_from(sorted(ORACLE))


def expectation(function, variance, kinks=()):
    """E[f(z)²] by SciPy's adaptive quadrature, split where the integrand changes its scale."""
    std = math.sqrt(variance)
    points = [s * p for s in (-1, 1) for p in (1, 4, 12, 40, 120, 400)]
    points += [s * p * std for s in (-1, 1) for p in (0, 0.5, 1, 2, 4, 8, 16)]
    points = sorted({p for p in (*points, *kinks) if abs(p) <= 16 * std})
    return math.fsum(
        quad(
            lambda z: function(z) ** 2 * density(z / std) / std,
            *piece,
            epsabs=1e-300,
            epsrel=1e-11,
            limit=200,
        )[0]
        for piece in itertools.pairwise(points)
    )


def test_the_oracle_knows_every_activation_of_the_course():
    assert set(ORACLE) == set(ACTIVATIONS)


# ---------------------------------------------------------------- quadrature
def agree_with_scipy(name, variance):
    function, slope, kinks = ORACLE[name]
    for found, oracle in (
        (theory.mean_square_output(name, variance), function),
        (theory.mean_square_slope(name, variance), slope),
    ):
        assert found == pytest.approx(expectation(oracle, variance, kinks), rel=1e-8, abs=0)


@pytest.mark.filterwarnings("ignore::scipy.integrate.IntegrationWarning")
@settings(max_examples=150)
@given(name=names, log_variance=log_variances)
def test_mean_squares_agree_with_scipy_at_any_variance(name, log_variance):
    agree_with_scipy(name, 10**log_variance)


@pytest.mark.filterwarnings("ignore::scipy.integrate.IntegrationWarning")
@pytest.mark.parametrize("variance", [1e-6, 1e6])
@pytest.mark.parametrize("name", sorted(ORACLE))
def test_mean_squares_agree_with_scipy_at_both_ends(name, variance):
    agree_with_scipy(name, variance)


@pytest.mark.parametrize("variance", [0.01, 1.0, 30.0])
def test_sigmoid_agrees_with_thirty_digit_quadrature(variance):
    with mpmath.workdps(30):
        weight = lambda z: mpmath.npdf(z, 0, mpmath.sqrt(variance))  # noqa: E731
        points = [-40 * math.sqrt(variance), -5, 0, 5, 40 * math.sqrt(variance)]
        s = lambda z: 1 / (1 + mpmath.exp(-z))  # noqa: E731
        output = mpmath.quad(lambda z: s(z) ** 2 * weight(z), sorted(points))
        slope = mpmath.quad(lambda z: (s(z) * s(-z)) ** 2 * weight(z), sorted(points))
    assert theory.mean_square_output("sigmoid", variance) == pytest.approx(float(output), rel=1e-12)
    assert theory.mean_square_slope("sigmoid", variance) == pytest.approx(float(slope), rel=1e-12)


@given(log_variance=st.floats(-30, 30))
def test_closed_forms_hold_at_any_variance(log_variance):
    q = 10**log_variance
    exact = {"rel": 1e-12, "abs": 0}
    assert theory.mean_square_output("relu", q) == pytest.approx(q / 2, **exact)
    assert theory.mean_square_slope("relu", q) == pytest.approx(0.5, **exact)
    assert theory.mean_square_output("leaky_relu", q) == pytest.approx(q * 1.0001 / 2, **exact)
    assert theory.mean_square_output("linear", q) == pytest.approx(q, **exact)
    # erf: E[erf(z)²] = (2/π) asin(2q/(1 + 2q)), E[erf′²] = (4/π)/√(1 + 4q)
    assert theory.mean_square_output(torch.erf, q) == pytest.approx(
        2 / math.pi * math.asin(2 * q / (1 + 2 * q)), rel=1e-7
    )
    assert theory.mean_square_slope(torch.erf, q) == pytest.approx(
        4 / math.pi / math.sqrt(1 + 4 * q), **exact
    )
    # relu6: z² on [0, 6], an incomplete gamma function, and 36 beyond
    a = 6 / math.sqrt(q)
    clipped = q * sp.gammainc(1.5, a * a / 2) / 2 + 36 * sp.ndtr(-a)
    assert theory.mean_square_output("relu6", q) == pytest.approx(clipped, **exact)
    assert theory.mean_square_slope("relu6", q) == pytest.approx(
        sp.erf(a / math.sqrt(2)) / 2, **exact
    )


@settings(max_examples=60)
@given(log_variance=log_variances, kink=st.floats(-4, 4))
def test_unannounced_kinks_of_a_callable_are_found(log_variance, kink):
    q = 10**log_variance
    a = kink / math.sqrt(q)
    shifted = lambda z: torch.relu(z - kink)  # noqa: E731
    share = sp.ndtr(-a)
    output = q * ((1 + a * a) * share - a * density(a))
    if share > 1e-9:  # E[relu(z − k)²], both by parts
        assert theory.mean_square_slope(shifted, q) == pytest.approx(share, rel=1e-9)
        assert theory.mean_square_output(shifted, q) == pytest.approx(output, rel=1e-6, abs=1e-300)
    window = lambda z: z.clamp(kink, kink + 0.5)  # noqa: E731
    inside = sp.ndtr(a + 0.5 / math.sqrt(q)) - sp.ndtr(a)
    if inside > 1e-9:
        assert theory.mean_square_slope(window, q) == pytest.approx(inside, rel=1e-6)


def test_a_narrow_feature_far_out_is_announced_by_kinks():
    narrow = lambda z: (z - 300).clamp(0, 0.25)  # noqa: E731
    announced = Activation(
        "narrow",
        narrow,
        lambda z: ((z > 300) & (z < 300.25)).double(),
        1.0,
        300.1,
        "this test",
        (300.0, 300.25),
    )
    inside = sp.ndtr(0.30025) - sp.ndtr(0.3)
    assert theory.mean_square_slope(announced, 1e6) == pytest.approx(inside, rel=1e-9)


@pytest.mark.parametrize("variance", [1e-6, 1.0, 1e4])
def test_an_oscillating_callable_is_integrated(variance):
    # E[sin²(3z)] = (1 − e^(−18q))/2, E[(3 cos 3z)²] = 9 (1 + e^(−18q))/2
    wave = lambda z: torch.sin(3 * z)  # noqa: E731
    assert theory.mean_square_output(wave, variance) == pytest.approx(
        -math.expm1(-18 * variance) / 2, rel=1e-9
    )
    assert theory.mean_square_slope(wave, variance) == pytest.approx(
        9 * (1 + math.exp(-18 * variance)) / 2, rel=1e-9
    )


def test_growing_callables_are_integrated_or_infinite():
    assert theory.mean_square_output(torch.exp, 100.0) == pytest.approx(math.exp(200), rel=1e-12)
    assert theory.mean_square_output(torch.exp, 1e6) == math.inf
    assert theory.mean_square_output(lambda z: z**3, 2.0) == pytest.approx(15 * 8, rel=1e-12)
    assert theory.mean_square_slope(lambda z: z**3, 2.0) == pytest.approx(27 * 4, rel=1e-12)


@pytest.mark.parametrize("name", sorted(ORACLE))
def test_variance_zero_is_the_limit_of_small_variance(name):
    for function in (theory.mean_square_output, theory.mean_square_slope):
        assert function(name, 0.0) == pytest.approx(function(name, 1e-14), abs=1e-6)


@pytest.mark.parametrize("name", ["sigmoid", "selu", "mish", "hardswish"])
def test_quadrature_agrees_with_a_million_samples(name):
    z = torch.randn(1_000_000, generator=seeded(5), dtype=torch.float64)
    function, slope, _ = ORACLE[name]
    for predicted, values in (
        (theory.mean_square_output(name), np.vectorize(function)(z[:200_000].numpy()) ** 2),
        (theory.mean_square_slope(name), np.vectorize(slope)(z[:200_000].numpy()) ** 2),
    ):
        assert abs(values.mean() - predicted) < 4 * values.std() / math.sqrt(values.size)


def test_the_result_is_a_float_and_the_default_variance_is_1():
    for function in (theory.mean_square_output, theory.mean_square_slope):
        assert type(function("gelu")) is float
        assert function("gelu") == function("gelu", 1) == function(ACTIVATIONS["gelu"], 1.0)


# ---------------------------------------------------------------- fixed points
@settings(max_examples=80)
@given(name=names, w=st.floats(0.05, 6), b=st.floats(0, 2))
def test_a_finite_fixed_point_is_mapped_onto_itself(name, w, b):
    q = theory.fixed_point(name, w, b)
    assert q >= b - 1e-12
    if 0 < q < math.inf:
        assert w * theory.mean_square_output(name, q) + b == pytest.approx(q, rel=1e-9)


@settings(max_examples=40)
@given(name=names, w=st.floats(0.3, 4), b=st.floats(0.01, 1))
def test_the_fixed_point_is_where_the_recursion_goes_from_variance_1(name, w, b):
    q = 1.0
    for _ in range(400):
        q, before = w * theory.mean_square_output(name, q) + b, q
        if q > 1e12 or abs(q / before - 1) < 1e-13:
            break
    predicted = theory.fixed_point(name, w, b)
    if q > 1e12:
        assert predicted > 1e8
    elif abs(q / before - 1) < 1e-9:  # has settled
        assert predicted == pytest.approx(q, rel=1e-6)
    else:
        assert (predicted - q) * (q - before) >= 0  # still on its way there


@given(w=st.floats(0.01, 1.99), b=st.floats(1e-6, 10))
def test_relu_settles_at_a_geometric_series(w, b):
    assert theory.fixed_point("relu", w, b) == pytest.approx(b / (1 - w / 2), rel=1e-10)
    assert theory.gradient_factor("relu", w, b) == pytest.approx(math.sqrt(w / 2), rel=1e-12)


@pytest.mark.parametrize(
    ("name", "w", "b", "expected"),
    [
        ("tanh", 0.5, 0.0, 0.0),
        ("tanh", 1.0, 0.0, 0.0),  # critical: it dies like 1/(2l)
        ("gelu", 2.0, 0.0, 0.0),
        ("relu", 1.999, 0.0, 0.0),
        ("relu", 2.0, 0.0, 1.0),  # every q is fixed
        ("relu", 2.0, 0.1, math.inf),
        ("relu", 2.001, 0.0, math.inf),
        ("linear", 1.0, 0.0, 1.0),
        ("linear", 1.001, 0.0, math.inf),
        ("linear", 0.999, 0.0, 0.0),
        ("softplus", 2.0, 0.0, math.inf),
        ("selu", 1.0, 0.0, 1.0),  # made for it
        ("leaky_relu", 0.0, 0.0, 0.0),
        ("tanh", 0.0, 0.7, 0.7),
    ],
)
def test_signals_that_die_stay_or_diverge(name, w, b, expected):
    assert theory.fixed_point(name, w, b) == pytest.approx(expected, rel=1e-12, abs=0)


@pytest.mark.parametrize("epsilon", [1e-2, 1e-4, 1e-6, 1e-8])
def test_just_above_criticality_tanh_settles_at_half_the_excess(epsilon):
    # V(q) = (1 + ε)(q − 2q² + …) has the fixed point ε/2
    assert theory.fixed_point("tanh", 1 + epsilon) == pytest.approx(
        epsilon / 2, rel=3 * epsilon + 1e-3
    )


def test_a_fixed_point_far_away_is_found():
    w = 2 - 1e-10
    q = theory.fixed_point("softplus", w)
    assert q > 1e6
    assert w * expectation(ORACLE["softplus"][0], q) == pytest.approx(q, rel=1e-9)


def test_a_decreasing_map_has_its_one_fixed_point():
    # φ = exp(−z²/2): E[φ²] = 1/√(1 + 2q)
    bump = lambda z: torch.exp(-z * z / 2)  # noqa: E731
    expected = brentq(lambda q: 3 / math.sqrt(1 + 2 * q) - q, 1e-3, 10)
    assert theory.fixed_point(bump, 3.0) == pytest.approx(expected, rel=1e-10)


# ---------------------------------------------------------------- gradients
def test_gradient_factor_is_chi_by_scipy_at_scipys_fixed_point():
    for name, w, b in (("tanh", 1.7, 0.3), ("sigmoid", 40.0, 0.2), ("elu", 1.3, 0.4)):
        function, slope, kinks = ORACLE[name]
        step = lambda q: w * expectation(function, q, kinks) + b - q  # noqa: B023, E731
        q = brentq(step, 1e-3, 1e3, xtol=1e-13)
        chi = w * expectation(slope, q, kinks)
        assert theory.fixed_point(name, w, b) == pytest.approx(q, rel=1e-8)
        assert theory.gradient_factor(name, w, b) == pytest.approx(math.sqrt(chi), rel=1e-8)


@pytest.mark.parametrize(
    ("name", "w", "expected"),
    [
        ("linear", 0.81, 0.9),
        ("linear", 1.21, 1.1),
        ("relu", 2.0, 1.0),
        ("relu", 1.0, math.sqrt(0.5)),
        ("relu", 8.0, 2.0),
        ("tanh", 0.25, 0.5),
        ("gelu", 1.0, 0.5),
        ("gelu", 8.0, 2.0),  # diverges: slope 1 on the right, 0 on the left
        ("selu", 0.1, math.sqrt(0.1 * SCALE**2 * (1 + ALPHA**2) / 2)),  # dies at a kink
        ("relu", 0.0, 0.0),
    ],
)
def test_gradient_factors_known_in_closed_form(name, w, expected):
    assert theory.gradient_factor(name, w) == pytest.approx(expected, rel=1e-9, abs=0)


def test_a_slope_that_grows_without_bound_makes_the_factor_infinite():
    assert theory.gradient_factor(lambda z: z * z, 1.0) == math.inf


def test_gradient_factor_is_what_a_wide_random_network_does():
    # 24 nets of width 400, 12 layers, started at q*: mean of g² per layer
    w, b, depth, n, nets = 2.2, 0.15, 12, 400, 24
    draw = lambda *s: torch.randn(*s, generator=seeded(11), dtype=torch.float32)  # noqa: E731
    q = theory.fixed_point("tanh", w, b)
    weights = draw(depth, nets, n, n) * math.sqrt(w / n)
    biases = torch.randn(depth, nets, n, generator=seeded(12)) * math.sqrt(b)
    z = torch.randn(nets, n, generator=seeded(13)) * math.sqrt(q)
    slopes = []
    for W, bias in zip(weights, biases, strict=True):
        slopes.append(1 - torch.tanh(z) ** 2)
        z = torch.einsum("sij,sj->si", W, torch.tanh(z)) + bias
    g = torch.randn(nets, n, generator=seeded(14))
    start = (g**2).sum(1)
    for W, s in zip(weights.flip(0), slopes[::-1], strict=True):
        g = torch.einsum("sij,si->sj", W, g) * s
    rates = ((g**2).sum(1) / start).log() / (2 * depth)
    mean, error = rates.mean().item(), rates.std().item() / math.sqrt(nets)
    predicted = math.log(theory.gradient_factor("tanh", w, b))
    assert abs(mean - predicted) < 4 * error + 2 / n  # the mean of a log is lower by O(1/n)


# ---------------------------------------------------------------- criticality
@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("linear", 1.0),
        ("relu", 2.0),
        ("leaky_relu", 2 / 1.0001),
        ("tanh", 1.0),
        ("elu", 1.0),
        ("selu", 2 / (SCALE**2 * (1 + ALPHA**2))),
        ("softplus", 2.0),
        ("relu6", 2.0),
    ],
)
def test_critical_weight_variances_known_in_closed_form(name, expected):
    assert theory.critical_weight_variance(name) == pytest.approx(expected, rel=1e-11)


@settings(max_examples=25)
@given(
    name=st.sampled_from(["tanh", "sigmoid", "elu", "selu", "relu", "linear"]),
    b=st.floats(1e-4, 1.5),
)
def test_chi_is_1_at_the_critical_weight_variance(name, b):
    w = theory.critical_weight_variance(name, b)
    assert theory.gradient_factor(name, w, b) == pytest.approx(1, abs=1e-9)
    assert theory.gradient_factor(name, 0.99 * w, b) < 1


def test_criticality_of_tanh_solves_both_equations_by_scipy():
    # at criticality σ_w² = 1/E[φ′²] and q = E[φ²]/E[φ′²] + σ_b²
    b, (function, slope, _) = 0.05, ORACLE["tanh"]
    ratio = lambda q: expectation(function, q) / expectation(slope, q)  # noqa: E731
    q = brentq(lambda q: ratio(q) + b - q, 0.05, 5, xtol=1e-13)
    assert theory.critical_weight_variance("tanh", b) == pytest.approx(
        1 / expectation(slope, q), rel=1e-8
    )


@pytest.mark.parametrize("name", ["gelu", "silu", "mish", "hardswish"])
def test_where_chi_jumps_the_place_of_the_jump_is_returned(name):
    w = theory.critical_weight_variance(name)
    below, above = (theory.gradient_factor(name, w * f) for f in (1 - 1e-9, 1 + 1e-9))
    assert below < 0.95 and above > 1
    # the jump lies where V(1) = 1, at which the recursion from 1 changes its direction
    assert w == pytest.approx(1 / theory.mean_square_output(name), rel=1e-9)


def test_an_activation_without_slope_has_no_critical_variance():
    flat = lambda z: 0 * z + 1.0  # noqa: E731
    with pytest.raises(ValueError, match="weight_variance"):
        theory.critical_weight_variance(flat)


@given(w=st.floats(0.01, 0.99))
def test_depth_scale_is_the_e_folding_depth_of_the_squared_gradient(w):
    assert w ** theory.depth_scale("linear", w) == pytest.approx(math.exp(-1), rel=1e-9)
    assert (1 / w) ** theory.depth_scale("linear", 1 / w) == pytest.approx(math.exp(-1), rel=1e-9)


def test_depth_scale_at_its_ends():
    assert theory.depth_scale("relu", 2.0) == math.inf
    assert theory.depth_scale("tanh", 1.0) == math.inf
    b = 0.2
    assert theory.depth_scale("tanh", theory.critical_weight_variance("tanh", b), b) > 1e8
    assert theory.depth_scale("relu", 4.0) == pytest.approx(-1 / math.log(2))
    assert theory.depth_scale("relu", 0.0) == 0.0


# ---------------------------------------------------------------- dead networks
@given(width=st.integers(1, 12), depth=st.integers(0, 60))
def test_dead_network_probability_is_the_complement_of_surviving_every_layer(width, depth):
    expected = 1 - mpmath.power(1 - mpmath.power(2, -width), depth)
    assert theory.dead_network_probability(width, depth) == pytest.approx(float(expected), rel=1e-9)


def test_dead_network_probability_keeps_its_digits_where_it_is_tiny():
    assert theory.dead_network_probability(200, 3) == pytest.approx(3 * 2.0**-200, rel=1e-12)
    assert theory.dead_network_probability(2000, 10) == 0.0
    assert type(theory.dead_network_probability(3, 2)) is float


def test_dead_network_probability_is_the_share_of_random_nets_that_die():
    width, depth, nets = 3, 9, 20_000
    h = torch.randn(nets, width, 1, generator=seeded(1))
    for layer in range(depth):
        W = torch.randn(nets, width, width, generator=seeded(2 + layer))
        h = torch.relu(W @ h)
    share = (h.sum((1, 2)) == 0).float().mean().item()
    predicted = theory.dead_network_probability(width, depth)
    assert abs(share - predicted) < 4 * math.sqrt(predicted * (1 - predicted) / nets)


# ---------------------------------------------------------------- errors
BAD = [-1.0, -1e-300, math.nan, math.inf, True, "1", None, [1.0]]


@pytest.mark.parametrize("bad", BAD)
def test_a_variance_out_of_range_is_a_value_error_that_names_it(bad):
    for function in (theory.mean_square_output, theory.mean_square_slope):
        with pytest.raises(ValueError, match="variance="):
            function("relu", bad)
    for function in (theory.fixed_point, theory.gradient_factor, theory.depth_scale):
        with pytest.raises(ValueError, match="weight_variance="):
            function("relu", bad)
        with pytest.raises(ValueError, match="bias_variance="):
            function("relu", 1.0, bad)
    with pytest.raises(ValueError, match="bias_variance="):
        theory.critical_weight_variance("relu", bad)


FUNCTIONS = (
    theory.mean_square_output,
    theory.mean_square_slope,
    lambda f: theory.fixed_point(f, 1.5),
    lambda f: theory.gradient_factor(f, 1.5),
    theory.critical_weight_variance,
    lambda f: theory.depth_scale(f, 1.5),
)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_bad_activations_are_named(function):
    with pytest.raises(ValueError, match="did you mean 'sigmoid'"):
        function("sigmoidd")
    with pytest.raises(TypeError, match="activation=3"):
        function(3)
    with pytest.raises(ValueError, match="NaN at z=-"):
        function(torch.sqrt)
    with pytest.raises(ValueError, match="elementwise"):
        function(lambda z: z.sum())


def test_what_cannot_be_integrated_or_differentiated_says_so():
    with pytest.raises(ValueError, match="oscillates"):
        theory.mean_square_output(lambda z: torch.sin(1e6 * z), 1.0)
    with pytest.raises(ValueError, match="autograd"):
        theory.mean_square_slope(lambda z: torch.tanh(z.detach()))


def test_single_precision_inside_a_callable_is_good_for_its_own_digits():
    rough = lambda z: torch.tanh(z.float()).double()  # noqa: E731
    assert theory.mean_square_output(rough) == pytest.approx(
        theory.mean_square_output("tanh"), rel=1e-6
    )
