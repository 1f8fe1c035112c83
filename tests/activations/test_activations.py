"""Each activation against torch.nn.functional, its slope against autograd, its bound by search."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from activation_formulas import FORMULAS
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, optimize
from torch import nn

import course_utils as cu
from course_utils.activations import LEAK, SELU_ALPHA, SELU_SCALE, Activation, lookup

NAMES = list(cu.ACTIVATIONS)
each = pytest.mark.parametrize("name", NAMES)

# The oracles: PyTorch's own functions, and NumPy and SciPy where no torch is needed.
TORCH = {
    "linear": lambda z: z,
    "sigmoid": F.sigmoid,
    "tanh": F.tanh,
    "relu": F.relu,
    "leaky_relu": F.leaky_relu,
    "elu": F.elu,
    "selu": F.selu,
    "gelu": F.gelu,
    "silu": F.silu,
    "mish": F.mish,
    "softplus": F.softplus,
    "relu6": F.relu6,
    "hardswish": F.hardswish,
}
NUMPY = {name: function for name, (function, _, _) in FORMULAS.items()}
BOUNDS = {
    "linear": (1.0, 0.0),
    "sigmoid": (0.25, 0.0),
    "tanh": (1.0, 0.0),
    "relu": (1.0, None),
    "leaky_relu": (1.0, None),
    "elu": (1.0, None),
    "selu": (1.7581, 0.0),
    "gelu": (1.1289, 1.4142),
    "silu": (1.0998, 2.3994),
    "mish": (1.0885, 1.4906),
    "softplus": (1.0, math.inf),
    "relu6": (1.0, None),
    "hardswish": (1.5, 3.0),
}
KINKS = {
    "relu": (0.0,),
    "leaky_relu": (0.0,),
    "selu": (0.0,),
    "relu6": (0.0, 6.0),
    "hardswish": (-3.0, 3.0),
}
# (slope on the left, at the kink, on the right); at the kink it is what autograd of PyTorch says.
CONVENTION = {
    ("relu", 0.0): (0.0, 0.0, 1.0),
    ("leaky_relu", 0.0): (0.01, 0.01, 1.0),
    ("selu", 0.0): (1.7580993408473766, 1.7580993408473766, 1.0507009873554805),
    ("relu6", 0.0): (0.0, 0.0, 1.0),
    ("relu6", 6.0): (1.0, 0.0, 0.0),
    ("hardswish", -3.0): (0.0, 0.0, -0.5),
    ("hardswish", 3.0): (1.5, 1.0, 1.0),
}
inputs = st.lists(st.floats(-80, 80), min_size=1, max_size=8)


def double(values):
    return torch.tensor(values, dtype=torch.float64)


def autograd(function, z):
    leaf = z.detach().clone().requires_grad_()
    (gradient,) = torch.autograd.grad(function(leaf).sum(), leaf)
    return gradient


def test_the_oracles_know_every_activation_and_no_other():
    assert NAMES == list(TORCH) == list(FORMULAS) == list(BOUNDS)
    assert all(cu.ACTIVATIONS[name].name == name for name in NAMES)


# ---------------------------------------------------------------- function


@each
@settings(max_examples=30)
@given(z=inputs)
def test_the_function_is_that_of_pytorch(name, z):
    z = double(z)
    value = cu.ACTIVATIONS[name].function(z)
    torch.testing.assert_close(value, TORCH[name](z), rtol=3e-9, atol=3e-9)  # softplus above 20
    assert value is not z


@each
@settings(max_examples=30)
@given(z=st.floats(-80, 80))
def test_the_function_is_the_formula_of_its_paper(name, z):
    value = cu.ACTIVATIONS[name].function(double([z])).item()
    assert value == pytest.approx(float(NUMPY[name](z)), rel=1e-12, abs=1e-14)


@given(z=st.floats(10, 500))
def test_softplus_keeps_the_digits_that_pytorchs_default_drops(z):
    exact = max(z, 0) + math.log1p(math.exp(-abs(z)))
    assert cu.ACTIVATIONS["softplus"].function(double([z])).item() == pytest.approx(
        exact, rel=1e-15
    )


def test_selu_keeps_mean_zero_and_variance_one_to_float64():
    """The two equations that α and λ of Klambauer et al. solve."""

    def moment(power):
        def integrand(z):
            value = SELU_SCALE * (z if z > 0 else SELU_ALPHA * math.expm1(z))
            return value**power * math.exp(-z * z / 2) / math.sqrt(2 * math.pi)

        return integrate.quad(integrand, -12, 0)[0] + integrate.quad(integrand, 0, 12)[0]

    assert moment(1) == pytest.approx(0, abs=1e-12)
    assert moment(2) == pytest.approx(1, abs=1e-12)


# ---------------------------------------------------------------- slope


@each
@settings(max_examples=30)
@given(z=inputs)
def test_the_slope_is_autograds_wherever_there_is_no_kink(name, z):
    z = double([value for value in z if value not in KINKS.get(name, ())] or [0.5])
    expected = autograd(TORCH[name], z)
    torch.testing.assert_close(cu.activation_slope(name, z), expected, rtol=1e-9, atol=3e-9)


@each
@settings(max_examples=30)
@given(z=st.floats(-30, 30))
def test_the_slope_is_the_central_difference_of_the_formula(name, z):
    step = 1e-5
    near = [kink for kink in KINKS.get(name, ()) if abs(z - kink) <= 2 * step]
    if name == "elu" and abs(z) <= 2 * step:  # no kink, but its slope has one
        near = [0.0]
    if near:
        z += 1.0
    difference = (NUMPY[name](z + step) - NUMPY[name](z - step)) / (2 * step)
    assert cu.activation_slope(name, double([z])).item() == pytest.approx(
        float(difference), abs=2e-8
    )


@pytest.mark.parametrize(("name", "kink"), list(CONVENTION))
def test_at_a_kink_the_slope_is_that_of_autograd_and_jumps_there(name, kink):
    left, at, right = CONVENTION[name, kink]
    z = double([np.nextafter(kink, -np.inf), kink, np.nextafter(kink, np.inf)])
    found = cu.activation_slope(name, z)
    torch.testing.assert_close(found, double([left, at, right]), rtol=1e-12, atol=1e-12)
    assert left != right
    if name == "hardswish" and not torch.equal(autograd(TORCH[name], z[1:2]), found[1:2]):
        assert torch.__version__ < (2, 13)  # older ones take the slope inside
        return
    assert torch.equal(autograd(TORCH[name], z[1:2]), found[1:2])
    single = torch.tensor([kink])
    assert torch.equal(autograd(TORCH[name], single), cu.activation_slope(name, single))


@pytest.mark.parametrize("name", ["elu", "selu"])
@given(st.floats(1e-300, 1e-3))
def test_near_0_the_digits_are_those_of_expm1(name, distance):
    scale = {"elu": 1, "selu": SELU_SCALE * SELU_ALPHA}[name]
    value = cu.ACTIVATIONS[name].function(double([-distance])).item()
    assert value == pytest.approx(scale * math.expm1(-distance), rel=1e-14, abs=0)


@each
def test_kinks_are_where_the_slopes_on_both_sides_differ_and_nowhere_else(name):
    assert cu.ACTIVATIONS[name].kinks == KINKS.get(name, ())
    z = np.arange(-800, 801) / 100  # the kinks are among them
    gap = 1e-9
    jump = (
        (cu.activation_slope(name, double(z + gap)) - cu.activation_slope(name, double(z - gap)))
        .abs()
        .numpy()
    )
    assert tuple(z[jump > 1e-3]) == KINKS.get(name, ())


@each
def test_the_slope_has_the_digits_of_a_tail(name):
    """Far out, where 1 − s(z) or 1 − tanh² z would be rounded to 0 or to noise."""
    z = double([-700.0, -300.0, -60.0, 60.0, 300.0, 700.0])
    found = cu.activation_slope(name, z)
    assert found.isfinite().all()
    if name in ("sigmoid", "tanh"):
        rate = 1 if name == "sigmoid" else 2
        factor = 1 if name == "sigmoid" else 4
        few = z[z.abs() * rate < 700]
        expected = factor * torch.exp(-rate * few.abs())
        torch.testing.assert_close(cu.activation_slope(name, few), expected, rtol=1e-12, atol=0)


@each
@pytest.mark.parametrize("z", [math.nan, math.inf, -math.inf])
def test_nan_stays_nan_and_the_slope_of_saturated_units_is_a_number(name, z):
    found = cu.activation_slope(name, double([z]))
    if math.isnan(z):
        assert found.isnan().all() == (name != "linear")  # whose slope does not depend on z
    elif name in ("linear", "sigmoid", "tanh", "relu", "leaky_relu", "elu", "selu", "relu6"):
        limit = {"linear": 1, "leaky_relu": 1 if z > 0 else 0.01}.get(name)
        if limit is None:
            limit = {"relu": 1, "elu": 1, "selu": SELU_SCALE}.get(name, 0) if z > 0 else 0
        assert found.item() == pytest.approx(limit)


# ---------------------------------------------------------------- bound and saturation


@each
def test_the_bound_is_the_largest_slope_and_is_reached_where_it_says(name):
    entry = cu.ACTIVATIONS[name]
    digits, place = BOUNDS[name]
    assert entry.bound == pytest.approx(digits, abs=5e-5)
    z = torch.linspace(-60, 60, 1_200_001, dtype=torch.float64)
    largest = cu.activation_slope(name, z).abs().max().item()
    assert largest <= entry.bound * (1 + 1e-12)
    assert largest == pytest.approx(entry.bound, rel=1e-7)
    if place is not None:
        assert entry.bound_at == pytest.approx(place, abs=5e-5)
    if math.isinf(entry.bound_at):
        assert cu.activation_slope(name, double([30.0])).item() < entry.bound
        return
    sides = double([np.nextafter(entry.bound_at, side) for side in (-np.inf, np.inf)])
    assert cu.activation_slope(name, sides).abs().max().item() == pytest.approx(
        entry.bound, rel=1e-12
    )


@pytest.mark.parametrize(
    ("name", "bracket"), [("gelu", (1, 2)), ("silu", (2, 3)), ("mish", (1, 2))]
)
def test_the_bound_of_a_smooth_activation_is_its_maximum_to_twelve_digits(name, bracket):
    """By SciPy's minimizer on the slopes, written without the package."""
    result = optimize.minimize_scalar(
        lambda z: -FORMULAS[name][1](z), bounds=bracket, method="bounded", options={"xatol": 1e-12}
    )
    entry = cu.ACTIVATIONS[name]
    assert entry.bound == pytest.approx(-result.fun, rel=1e-12)
    assert entry.bound_at == pytest.approx(result.x, abs=1e-6)
    assert cu.activation_slope(name, double([entry.bound_at])).item() == pytest.approx(
        entry.bound, rel=1e-14
    )


@each
def test_an_activation_saturates_when_its_slope_dies_on_one_side(name):
    ends = cu.activation_slope(name, double([-1e3, 1e3])).abs()
    assert cu.ACTIVATIONS[name].saturates == bool((ends < 1e-12).any())
    both = name in ("sigmoid", "tanh", "relu6")
    assert bool((ends < 1e-12).all()) == both


@each
@settings(max_examples=30)
@given(z=inputs)
def test_no_slope_exceeds_the_bound(name, z):
    assert (
        cu.activation_slope(name, double(z)).abs() <= cu.ACTIVATIONS[name].bound * (1 + 1e-12)
    ).all()


@each
def test_an_entry_says_where_it_comes_from_and_cannot_be_changed(name):
    entry = cu.ACTIVATIONS[name]
    assert name == "linear" or any(character.isdigit() for character in entry.source)
    with pytest.raises(AttributeError):
        entry.bound = 3.0


# ---------------------------------------------------------------- dtype, device, shape, graph


@each
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("shape", [(), (0,), (3, 2, 4)])
def test_dtype_and_shape_are_kept_and_no_graph_is_left(name, dtype, shape):
    z = torch.randn(shape, generator=cu.seeded(0)).to(dtype).requires_grad_()
    entry = cu.ACTIVATIONS[name]
    for value in (cu.activation_slope(name, z), entry.function(z)):
        assert value.dtype == dtype and value.shape == shape and value.device == z.device
    found = cu.activation_slope(name, z)
    assert not found.requires_grad
    precise = cu.activation_slope(name, z.detach().double())
    torch.testing.assert_close(found.double(), precise, rtol=0, atol=4 * torch.finfo(dtype).eps)


@each
def test_the_device_is_kept(name):
    z = torch.empty(3, 2, device="meta")
    assert cu.activation_slope(name, z).device.type == "meta"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@each
def test_a_gpu_says_the_same(name):
    z = torch.linspace(-9, 9, 181, dtype=torch.float64)
    there = cu.activation_slope(name, z.cuda())
    assert there.device.type == "cuda"
    torch.testing.assert_close(there.cpu(), cu.activation_slope(name, z), rtol=1e-12, atol=1e-14)


@each
def test_z_is_left_as_it_was(name):
    z = torch.linspace(-5, 5, 11)
    before = z.clone()
    cu.activation_slope(name, z)
    cu.ACTIVATIONS[name].function(z)
    assert torch.equal(z, before)


# ---------------------------------------------------------------- activations of the reader's own


def halves(z):
    return 0.5 * z**2


@given(z=inputs)
def test_the_slope_of_a_function_is_autograds(z):
    z = double(z)
    torch.testing.assert_close(cu.activation_slope(halves, z), z)
    torch.testing.assert_close(cu.activation_slope(torch.sin, z), torch.cos(z))
    torch.testing.assert_close(cu.activation_slope(nn.Tanh(), z), 1 - torch.tanh(z) ** 2)


@each
@settings(max_examples=30)
@given(z=inputs)
def test_the_closed_form_is_what_autograd_makes_of_the_same_function(name, z):
    z = double([value for value in z if value not in KINKS.get(name, ())] or [0.5])
    closed = cu.activation_slope(name, z)
    torch.testing.assert_close(cu.activation_slope(TORCH[name], z), closed, rtol=1e-9, atol=3e-9)
    assert torch.equal(cu.activation_slope(cu.ACTIVATIONS[name], z), closed)


def test_a_function_is_differentiated_under_no_grad_too_and_may_work_in_place():
    z = torch.linspace(-2, 2, 5)
    with torch.no_grad():
        found = cu.activation_slope(torch.sin, z)
        in_place = cu.activation_slope(nn.ReLU(inplace=True), z)
    torch.testing.assert_close(found, torch.cos(z))
    assert torch.equal(in_place, (z > 0).float()) and z[0] == -2
    assert not found.requires_grad


def test_the_entry_of_a_function_knows_no_bound():
    entry = lookup(halves)
    assert isinstance(entry, Activation) and entry.name == "halves"
    assert math.isnan(entry.bound) and math.isnan(entry.bound_at) and entry.kinks == ()
    assert lookup(lambda z: z).name == "lambda"
    assert lookup(nn.Softsign()).name == "Softsign"
    assert lookup(entry) is entry and lookup("gelu") is cu.ACTIVATIONS["gelu"]


def test_a_plain_number_is_taken_as_float64():
    assert cu.activation_slope("sigmoid", 0.0).item() == 0.25
    assert cu.activation_slope("tanh", [0.0, 1.0]).dtype == torch.float64


def test_the_slope_of_leaky_relu_on_the_left_is_pytorchs_default():
    assert F.leaky_relu(double([-1.0])).item() == -LEAK


@pytest.mark.parametrize(
    ("activation", "z", "error", "message"),
    [
        ("rellu", 0.0, ValueError, "activation='rellu' is unknown: did you mean 'relu'"),
        ("LeakyReLU", 0.0, ValueError, "did you mean 'leaky_relu'"),
        ("hard-swish", 0.0, ValueError, "did you mean 'hardswish'"),
        ("zzz", 0.0, ValueError, "Known: linear, sigmoid"),
        (3, 0.0, TypeError, "activation=3 must be a name such as 'relu'"),
        (None, 0.0, TypeError, "activation=None"),
        ("relu", "much", TypeError, "z='much' must be a tensor"),
        ("relu", torch.arange(3), TypeError, r"dtype torch.int64.*z\.float\(\)"),
        ("relu", torch.ones(2, dtype=torch.complex64), TypeError, "complex64"),
        (torch.sum, torch.ones(3), ValueError, r"sum returned \(\) for z of shape \(3,\)"),
        (lambda z: z.detach(), torch.ones(3), ValueError, "lambda.*cut off"),
        (lambda z: 3.0, torch.ones(3), ValueError, "returned float"),
    ],
)
def test_bad_input_is_named_with_the_way_out(activation, z, error, message):
    with pytest.raises(error, match=message):
        cu.activation_slope(activation, z)
