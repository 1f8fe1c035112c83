"""Spectral radius, operator norm and growth rates against NumPy, SciPy, quadrature and simulation.

The simulations run at widths the notebook does not use.
"""

import math

import numpy as np
import pytest
import scipy.special
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.integrate import quad

from course_utils import theory
from course_utils.runtime import seeded

entries = st.floats(-10, 10)
squares = st.integers(1, 6).flatmap(lambda n: arrays(float, (n, n), elements=entries))
rectangles = st.tuples(st.integers(1, 6), st.integers(1, 6)).flatmap(
    lambda shape: arrays(float, shape, elements=entries)
)


# ---------------------------------------------------------------------- spectral radius
@settings(deadline=None)
@given(a=entries, b=entries, c=entries, d=entries)
def test_spectral_radius_of_a_2x2_matrix_solves_its_characteristic_equation(a, b, c, d):
    trace, determinant = a + d, a * d - b * c
    root = np.sqrt(complex(trace**2 - 4 * determinant))
    expected = max(abs(trace + root), abs(trace - root)) / 2
    found = theory.spectral_radius(torch.tensor([[a, b], [c, d]], dtype=torch.float64))
    # a double eigenvalue is known to √ε only
    assert found == pytest.approx(expected, rel=1e-6, abs=3e-6)


@settings(deadline=None)
@given(matrix=squares)
def test_spectral_radius_agrees_with_numpy(matrix):
    expected = np.abs(np.linalg.eigvals(matrix)).max()
    found = theory.spectral_radius(torch.from_numpy(matrix))
    assert found == pytest.approx(expected, rel=1e-3, abs=1e-2)  # sixfold roots: ε^(1/6)


@settings(deadline=None)
@given(matrix=arrays(float, (4, 4), elements=entries))
def test_spectral_radius_of_a_symmetric_matrix_is_its_operator_norm(matrix):
    symmetric = torch.from_numpy(matrix + matrix.T)
    assert theory.spectral_radius(symmetric) == pytest.approx(
        theory.operator_norm(symmetric), rel=1e-12, abs=1e-12
    )


@settings(deadline=None)
@given(angle=st.floats(0, 2 * math.pi), scale=st.floats(0.01, 100))
def test_a_scaled_rotation_has_its_scale_as_spectral_radius_and_operator_norm(angle, scale):
    c, s = scale * math.cos(angle), scale * math.sin(angle)
    matrix = torch.tensor([[c, -s], [s, c]], dtype=torch.float64)
    assert theory.spectral_radius(matrix) == pytest.approx(scale, rel=1e-12)
    assert theory.operator_norm(matrix) == pytest.approx(scale, rel=1e-12)


@settings(deadline=None)
@given(matrix=squares)
def test_the_spectral_radius_never_exceeds_the_operator_norm(matrix):
    matrix = torch.from_numpy(matrix)
    assert theory.spectral_radius(matrix) <= theory.operator_norm(matrix) * (1 + 1e-9) + 1e-9


def test_the_kth_root_of_the_norm_of_the_kth_power_tends_to_the_spectral_radius():
    matrix = np.array([[0.7, 4.0, 0.0], [0.0, 0.6, -3.0], [0.2, 0.0, 0.5]])
    k = 4000
    log_norm, power = 0.0, np.eye(3)
    for _ in range(k):
        power = matrix @ power
        size = np.linalg.norm(power)
        log_norm, power = log_norm + math.log(size), power / size
    assert theory.spectral_radius(torch.from_numpy(matrix)) == pytest.approx(
        math.exp(log_norm / k), rel=1e-3
    )


def test_complex_eigenvalues_and_complex_matrices_count_by_their_absolute_value():
    assert theory.spectral_radius(torch.tensor([[0.0, -2.0], [2.0, 0.0]])) == pytest.approx(2)
    assert theory.spectral_radius(torch.diag(torch.tensor([3j, 1 + 0j]))) == pytest.approx(3)
    assert theory.operator_norm(torch.diag(torch.tensor([3j, -4 + 0j]))) == pytest.approx(4)


@pytest.mark.parametrize(("large", "small"), [(1.0, 1e-178), (1e-160, 1e-260), (1e300, 1e120)])
def test_entries_too_small_to_square_do_not_stop_the_eigenvalues(large, small):
    matrix = torch.full((4, 4), small, dtype=torch.float64)
    matrix[0, 1] = matrix[1, 0] = large
    assert theory.spectral_radius(matrix) == pytest.approx(large, rel=1e-12, abs=0)
    assert theory.spectral_radius(torch.zeros(3, 3)) == 0.0


# ---------------------------------------------------------------------- operator norm
@settings(deadline=None)
@given(matrix=rectangles)
def test_operator_norm_agrees_with_numpy(matrix):
    expected = np.linalg.norm(matrix, 2)
    assert theory.operator_norm(torch.from_numpy(matrix)) == pytest.approx(
        expected, rel=1e-12, abs=1e-12
    )


@settings(deadline=None)
@given(matrix=arrays(float, (2, 2), elements=entries))
def test_operator_norm_is_the_longest_image_of_the_unit_circle(matrix):
    angles = np.linspace(0, math.pi, 20001)
    images = matrix @ np.stack([np.cos(angles), np.sin(angles)])
    longest = np.linalg.norm(images, axis=0).max()
    found = theory.operator_norm(torch.from_numpy(matrix))
    assert longest <= found * (1 + 1e-12) + 1e-300
    assert found == pytest.approx(longest, rel=1e-6, abs=1e-12)


@pytest.mark.parametrize("name", ["spectral_radius", "operator_norm"])
def test_matrix_functions_return_python_floats_in_float64_and_leave_the_matrix_alone(name):
    function = getattr(theory, name)
    matrix = torch.eye(3, dtype=torch.float16, requires_grad=True)
    assert type(function(matrix)) is float
    assert function(torch.eye(2) * (1 + 2.0**-20)) == pytest.approx(1 + 2.0**-20, rel=1e-15)
    assert function(torch.tensor([[3]])) == 3.0
    assert function(np.eye(2)) == function([[1.0, 0.0], [0.0, 1.0]]) == 1.0
    assert matrix.dtype is torch.float16 and matrix.grad is None


@pytest.mark.parametrize("name", ["spectral_radius", "operator_norm"])
@pytest.mark.parametrize(
    "matrix",
    [
        torch.ones(3),
        torch.ones(2, 2, 2),
        torch.ones(0, 0),
        torch.tensor([[1.0, math.nan]] * 2),
        torch.tensor([[math.inf, 0.0], [0.0, 1.0]]),
        "eye",
        None,
        [[1.0], [1.0, 2.0]],
    ],
)
def test_what_is_no_finite_matrix_is_a_value_error_that_names_the_argument(name, matrix):
    with pytest.raises(ValueError, match="matrix"):
        getattr(theory, name)(matrix)


def test_a_rectangular_matrix_has_no_spectral_radius_and_the_error_says_what_to_do():
    with pytest.raises(ValueError, match=r"\(2, 3\).*operator_norm"):
        theory.spectral_radius(torch.ones(2, 3))


# ---------------------------------------------------------------------- Lyapunov exponent
@settings(deadline=None)
@given(width=st.integers(1, 10**6), std=st.floats(1e-3, 1e3))
def test_lyapunov_exponent_is_the_mean_log_of_a_chi_variable(width, std):
    mean_log_chi_square = math.log(2) + scipy.special.digamma(width / 2)
    expected = mean_log_chi_square / 2 - math.log(width) / 2 + math.log(std)
    assert theory.lyapunov_exponent(width, std) == pytest.approx(expected, rel=1e-10, abs=1e-13)


@pytest.mark.parametrize("width", [1, 2, 3, 7, 30])
def test_lyapunov_exponent_is_the_integral_of_the_log_norm(width):
    density = scipy.stats.chi(width).pdf
    expected, _ = quad(lambda r: math.log(r / math.sqrt(width)) * density(r), 0, np.inf, limit=200)
    assert theory.lyapunov_exponent(width) == pytest.approx(expected, abs=1e-7)


def test_lyapunov_exponent_of_width_one_is_the_mean_log_of_a_normal_variable():
    # E log|z| = −(γ + log 2)/2
    assert theory.lyapunov_exponent(1) == pytest.approx(-(np.euler_gamma + math.log(2)) / 2)


def test_lyapunov_exponent_of_a_wide_layer_is_minus_one_over_two_widths():
    for width in (999, 1000, 1001, 10**6, 10**9):
        leading = -1 / (2 * width) - 1 / (6 * width**2)
        assert theory.lyapunov_exponent(width) == pytest.approx(leading, rel=1e-6, abs=0)


@pytest.mark.parametrize(("width", "std"), [(3, 1.3), (24, 0.8)])
def test_simulated_gaussian_products_grow_at_the_lyapunov_exponent(width, std):
    seeds, depth, generator = 400, 40, seeded(20)
    v = torch.ones(seeds, width, 1, dtype=torch.float64) / math.sqrt(width)
    growth = torch.zeros(seeds, dtype=torch.float64)
    for _ in range(depth):
        weights = torch.randn(seeds, width, width, generator=generator, dtype=torch.float64)
        v = torch.bmm(std / math.sqrt(width) * weights, v)
        norm = v.norm(dim=1, keepdim=True)
        growth, v = growth + norm.flatten().log() / depth, v / norm
    error = growth.std().item() / math.sqrt(seeds)
    assert error < 0.01
    assert abs(growth.mean().item() - theory.lyapunov_exponent(width, std)) < 4 * error


def test_weights_of_size_zero_shrink_at_once():
    assert theory.lyapunov_exponent(5, 0.0) == -math.inf


@pytest.mark.parametrize("std", [-1.0, math.nan, math.inf, "1", None, True])
def test_a_weight_std_that_is_no_standard_deviation_is_a_value_error(std):
    with pytest.raises(ValueError, match="weight_std="):
        theory.lyapunov_exponent(10, std)


# ---------------------------------------------------------------------- spread over seeds
def exact_log_norm_variance(width):
    """Variance per ReLU layer at any width: a chi-square with a binomial number of degrees."""
    k = np.arange(1, width + 1)
    weight = scipy.stats.binom.pmf(k, width, 0.5)
    weight /= weight.sum()
    mean = scipy.special.digamma(k / 2)
    inner = scipy.special.polygamma(1, k / 2)
    return (weight * inner).sum() + (weight * (mean - (weight * mean).sum()) ** 2).sum()


@pytest.mark.parametrize(("width", "percent"), [(50, 9), (100, 4), (1000, 0.4), (10000, 0.04)])
def test_relu_variance_tends_to_the_exact_one_as_the_width_grows(width, percent):
    exact = exact_log_norm_variance(width)
    assert theory.log_norm_variance(width, 1) == pytest.approx(exact, rel=percent / 100)
    assert theory.log_norm_variance(width, 1) < exact  # as the docstring says


@settings(deadline=None)
@given(width=st.integers(50, 10**5), depth=st.integers(0, 500))
def test_linear_variance_is_that_of_log_chi_square_variables(width, depth):
    exact = depth * scipy.special.polygamma(1, width / 2)
    found = theory.log_norm_variance(width, depth, "linear")
    assert found == pytest.approx(exact, rel=1.1 / width)


@settings(max_examples=10, deadline=None)
@given(slope=st.floats(-2, 2))
def test_variance_of_a_leaky_relu_is_that_of_its_moments_by_quadrature(slope):
    def leaky(z):
        return torch.where(z > 0, z, slope * z)

    def moment(power):
        def integrand(z):
            return float(leaky(torch.tensor(z).double())) ** power * scipy.stats.norm.pdf(z)

        return quad(integrand, -12, 0)[0] + quad(integrand, 0, 12)[0]

    expected = (moment(4) / moment(2) ** 2 - 1) * 7 / 90
    assert theory.log_norm_variance(90, 7, leaky) == pytest.approx(expected, rel=1e-7)


def test_simulated_relu_nets_scatter_by_the_predicted_variance():
    seeds, width, depth, generator = 1500, 60, 12, seeded(33)
    h = torch.ones(seeds, width, 1)
    for _ in range(depth):
        weights = torch.randn(seeds, width, width, generator=generator)
        h = torch.bmm(math.sqrt(2 / width) * weights, h).relu()
    measured = (h.double().square().sum(dim=(1, 2))).log().var().item()
    # 4 % of sampling error (one s.e.), 6.7 % of finite width, which the exact sum removes
    exact = depth * exact_log_norm_variance(width)
    assert measured == pytest.approx(exact, rel=4 * math.sqrt(2 / seeds))
    assert measured == pytest.approx(theory.log_norm_variance(width, depth), rel=0.25)


def test_names_and_callables_agree():
    assert theory.log_norm_variance(80, 5, "relu") == theory.log_norm_variance(80, 5, torch.relu)
    assert theory.log_norm_variance(80, 5) == 5 * 5 / 80
    assert theory.log_norm_variance(80, 5, "linear") == 2 * 5 / 80
    assert theory.log_norm_variance(80, 5, torch.abs) == 2 * 5 / 80
    assert type(theory.log_norm_variance(80, 0)) is float


@pytest.mark.parametrize(
    "activation",
    [
        "tanh",
        "gelu",
        "relu6",
        "rellu",
        torch.tanh,
        torch.exp,
        lambda z: 0 * z,
        lambda z: z.sum(),
    ],
)
def test_an_activation_without_a_closed_form_is_a_value_error(activation):
    with pytest.raises(ValueError, match="activation"):
        theory.log_norm_variance(100, 3, activation)


def test_what_is_no_activation_is_a_type_error():
    for wrong in (None, 3):
        with pytest.raises(TypeError, match=f"activation={wrong}"):
            theory.log_norm_variance(100, 3, wrong)
