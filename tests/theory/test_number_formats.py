"""The end of a number format against torch's own numbers: all of a format, sums, steps, scalers."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

from course_utils import theory
from course_utils.runtime import seeded

TORCH = {
    name: getattr(torch, name)
    for name in ("float64", "float32", "float16", "bfloat16", "float8_e5m2")
}
SMALL = {"float16": torch.float16, "bfloat16": torch.bfloat16}


def every_number(name):
    """All positive finite numbers of a format of 16 or 8 bits, in float64."""
    if name == "float8_e5m2":
        codes = torch.arange(2**7, dtype=torch.uint8).view(torch.float8_e5m2)
    else:
        codes = torch.arange(2**15, dtype=torch.int16).view(TORCH[name])
    values = codes.double()
    return values[values.isfinite() & (values > 0)].sort().values


@pytest.mark.parametrize("name", ["float16", "bfloat16", "float8_e5m2"])
def test_the_facts_of_a_format_are_those_of_its_numbers(name):
    exponent, mantissa = theory.FORMATS[name]
    values = every_number(name)
    gaps = values.diff()
    normal = values[:-1][gaps > gaps[0]].min() / 2  # the first octave with a gap of its own, halved
    assert theory.largest_number(exponent, mantissa) == values[-1]
    assert theory.smallest_subnormal(exponent, mantissa) == values[0]
    assert theory.smallest_normal(exponent) == normal
    assert theory.machine_epsilon(mantissa) == gaps[values[:-1] == 1]


@pytest.mark.parametrize("name", TORCH)
def test_and_those_that_torch_gives(name):
    exponent, mantissa = theory.FORMATS[name]
    facts = torch.finfo(TORCH[name])
    assert theory.largest_number(exponent, mantissa) == facts.max
    assert theory.smallest_normal(exponent) == facts.tiny
    assert theory.smallest_subnormal(exponent, mantissa) == facts.smallest_normal * facts.eps
    assert theory.machine_epsilon(mantissa) == facts.eps


@pytest.mark.parametrize("name", SMALL)
def test_rounding_errors_are_those_of_torch(name):
    mantissa = theory.FORMATS[name][1]
    x = torch.exp2(4 * torch.rand(200_000, generator=seeded(0), dtype=torch.float64) - 2)
    relative = (x.to(SMALL[name]).double() / x - 1).square().mean().sqrt()
    assert relative == pytest.approx(theory.rounding_error(mantissa), rel=0.01)
    for std in (1.0, 0.7, 3e-3):
        x = std * torch.randn(400_000, generator=seeded(1), dtype=torch.float64)
        error = (x.to(SMALL[name]).double() - x).square().mean().sqrt() / std
        assert error == pytest.approx(theory.gaussian_rounding_error(mantissa, std), rel=0.01)


@pytest.mark.parametrize(("mean", "std", "scale"), [(-26, 3, 1), (-26, 3, 1024), (-20, 1, 0.1)])
@pytest.mark.parametrize("name", SMALL)
def test_the_flushed_share_is_counted(mean, std, scale, name):
    g = torch.exp2(mean + std * torch.randn(100_000, generator=seeded(2), dtype=torch.float64))
    share = ((scale * g).to(SMALL[name]) == 0).double().mean()
    predicted = theory.flushed_share(mean, std, scale, name)
    assert share == pytest.approx(predicted, abs=0.005)


def edge(weight_std, dtype, gone):
    """First layer of a ReLU network of 256 units that is `gone` when stored in a format."""
    g = seeded(4)
    h = torch.randn(16, 256, generator=g, dtype=torch.float64)
    for layer in range(1, 80):
        W = torch.randn(256, 256, generator=g, dtype=torch.float64) * weight_std
        z = (h @ W.T).to(dtype).double()
        if gone(z):
            return layer
        h = z.relu()
    return math.inf


@pytest.mark.parametrize("name", ["float16", "bfloat16", "float32"])
def test_the_last_layers_are_where_a_stored_network_overflows_or_is_gone(name):
    first = edge(1.0, TORCH[name], lambda z: bool(z.isinf().any()))
    assert first - 1 == pytest.approx(theory.last_finite_layer(1.0, 256, name), abs=1.5)
    first = edge(0.01, TORCH[name], lambda z: not z.any())
    assert first - 1 == pytest.approx(theory.last_nonzero_layer(0.01, 256, name), abs=1.5)
    assert theory.last_finite_layer(0.01, 256, name) == math.inf
    assert theory.last_nonzero_layer(1.0, 256, name) == math.inf


@pytest.mark.parametrize(
    ("name", "wider"), [("float64", False), ("float32", False), ("bfloat16", True)]
)
def test_saturation_starts_where_torch_rounds_to_1(name, wider):
    mantissa, dtype = theory.FORMATS[name][1], TORCH[name]
    for border, function in (
        (theory.tanh_saturation(mantissa), torch.tanh),
        (theory.sigmoid_saturation(mantissa, wider), torch.sigmoid),
    ):
        below, above = (torch.tensor(border * f, dtype=dtype) for f in (0.975, 1.05))
        assert function(below) < 1 and function(above) == 1


@pytest.mark.parametrize(("n", "mantissa"), [(1, 23), (1024, 23), (300, 10)])
def test_the_error_of_a_loop_is_that_of_sums_of_uniforms(n, mantissa):
    dtype = {23: torch.float32, 10: torch.float16}[mantissa]
    x = torch.rand(400, n, generator=seeded(5), dtype=torch.float64)
    total = torch.zeros(400, dtype=dtype)
    x = x.to(dtype)
    for column in x.T:
        total = total + column
    error = (total.double() - x.double().sum(1)).square().mean().sqrt() / (n / 2)
    if n == 1:
        assert error == 0 and theory.loop_sum_error(1, mantissa) < 2**-23
    else:
        assert error == pytest.approx(theory.loop_sum_error(n, mantissa), rel=0.12)


@pytest.mark.parametrize(("name", "depth"), [("float16", 10), ("bfloat16", 10), ("bfloat16", 0)])
def test_the_error_of_a_stored_network_grows_with_the_root_of_its_depth(name, depth):
    dtype, errors = SMALL[name], []
    for seed in range(6):
        g = seeded(seed)
        exact = torch.randn(64, 400, generator=g, dtype=torch.float64)
        stored = exact.to(dtype).double()
        for _ in range(depth):
            W = torch.randn(400, 400, generator=g, dtype=torch.float64) * (2 / 400) ** 0.5
            exact = (exact @ W.T).relu()
            stored = (stored @ W.to(dtype).double().T).relu().to(dtype).double()
        errors.append(float((stored - exact).norm() / exact.norm()))
    predicted = theory.stored_depth_error(depth, theory.FORMATS[name][1])
    assert np.mean(errors) == pytest.approx(predicted, rel=0.2)


@pytest.mark.parametrize("weight_variance", [3.0, 6.0])
def test_a_chaotic_network_forgets_where_predicted(weight_variance):
    layers = []
    for seed in range(4):
        g = seeded(seed)
        exact = torch.randn(32, 300, generator=g, dtype=torch.float64)
        single = exact.float()
        for layer in range(1, 400):
            W = torch.randn(300, 300, generator=g, dtype=torch.float64)
            W *= (weight_variance / 300) ** 0.5
            exact, single = (exact @ W.T).tanh(), (single @ W.float().T).tanh()
            if (single - exact).norm() > 0.1 * exact.norm():
                layers.append(layer)
                break
    assert np.mean(layers) == pytest.approx(theory.reproducible_depth(weight_variance), rel=0.15)


@pytest.mark.parametrize("lr", [1e-3, 1e-4, 3e-5, 1e-5])
def test_the_share_of_lost_updates_is_counted(lr):
    w = (0.02 * torch.randn(100_000, generator=seeded(6))).bfloat16()
    still = (w - torch.tensor(lr).bfloat16() == w).double().mean()
    assert still == pytest.approx(theory.lost_update_share(lr, 0.02, 7), abs=0.01)


@pytest.mark.parametrize("lr", [0.03, 0.007])
def test_descent_stops_where_its_step_is_lost(lr):
    theta = torch.tensor(0.5, dtype=torch.bfloat16)
    for _ in range(3000):
        theta = (theta.double() + lr * (1 - theta.double())).bfloat16()
    assert 1 - theta.item() == pytest.approx(theory.stall_distance(lr, 7), abs=2**-8)


@pytest.mark.parametrize("beta2", [0.999, 0.99])
def test_adam_in_float16_divides_by_0_below_the_underflow(beta2):
    border = theory.adam_underflow(beta2)
    for factor, fine in ((0.97, False), (1.03, True)):
        p = torch.nn.Parameter(torch.zeros(1, dtype=torch.float16))
        p.grad = torch.full_like(p, border * factor)
        torch.optim.Adam([p], lr=1e-3, betas=(0.9, beta2), foreach=False).step()
        assert bool(p.isfinite()) == fine


@pytest.mark.parametrize(
    ("name", "beta2"), [("bfloat16", 0.999), ("bfloat16", 0.9985), ("float16", 0.9999)]
)
def test_adams_v_stalls_where_predicted(name, beta2):
    v = torch.zeros(1, dtype=SMALL[name])
    for _ in range(20_000):
        v.mul_(beta2).addcmul_(torch.ones_like(v), torch.ones_like(v), value=1 - beta2)
    assert v.item() == pytest.approx(theory.adam_stall(beta2, theory.FORMATS[name][1]), rel=0.02)


@pytest.mark.parametrize("gradient", [1.0, 1.5, 0.3, 5.0])
@pytest.mark.parametrize("name", SMALL)
def test_accumulation_stops_where_predicted(name, gradient):
    total, g = torch.zeros(1, dtype=SMALL[name]), torch.tensor([gradient], dtype=SMALL[name])
    for _ in range(8192):
        total += g
    limit = theory.accumulation_limit(float(g), theory.FORMATS[name][1])
    assert total.item() == pytest.approx(limit, rel=0.01)


@pytest.mark.parametrize("std", [0.0, 0.25, 1.0, 3.0])
def test_a_simulated_scaler_settles_where_predicted(std):
    rng = np.random.default_rng(7)
    interval, chains, steps = 20, 400, 2500
    level, run = np.full(chains, 14.0), np.zeros(chains, dtype=int)
    skipped, levels = [], []
    for _ in range(steps):
        levels.append(level.mean())
        over = level + std * rng.standard_normal(chains) >= math.log2(65520)
        skipped.append(over.mean())
        run = np.where(over, 0, run + 1)
        level = level - over + (run == interval)
        run[run == interval] = 0
    share, mean = theory.scaler_equilibrium(interval, std)
    assert np.mean(skipped[1000:]) == pytest.approx(share, rel=0.03)
    assert np.mean(levels[1000:]) == pytest.approx(mean, abs=0.1)


@pytest.mark.parametrize("std", [0.0, 1e-3, 0.05, 8.0])
def test_a_scaler_skips_between_its_two_limits(std):
    share, level = theory.scaler_equilibrium(100, std)
    assert 1 - 2 ** (-1 / 100) <= share * 1.01 and share <= 1 / 101 + 1e-12
    assert math.isfinite(level)


def test_shares_are_gaussian():
    border = math.log2(2**-25)
    assert theory.flushed_share(-20, 2) == pytest.approx(stats.norm.cdf((border + 20) / 2))


@pytest.mark.parametrize(
    ("name", "arguments", "error", "said"),
    [
        ("machine_epsilon", (53,), ValueError, "mantissa=53"),
        ("machine_epsilon", (7.5,), TypeError, "mantissa=7.5"),
        ("largest_number", (1, 7), ValueError, "exponent=1"),
        ("smallest_normal", (12,), ValueError, "exponent=12"),
        ("gaussian_rounding_error", (7, 0), ValueError, "std=0"),
        ("flushed_share", (0, 0), ValueError, "std_log2=0"),
        ("flushed_share", (0, 1, 1, "float17"), ValueError, "format='float17'"),
        ("last_finite_layer", (0, 256, "float16"), ValueError, "weight_std=0"),
        ("last_nonzero_layer", (1, 2, "float16"), ValueError, "width=2"),
        ("loop_sum_error", (0,), ValueError, "n=0"),
        ("stored_depth_error", (-1, 7), ValueError, "depth=-1"),
        ("reproducible_depth", (1.0,), ValueError, "weight_variance=1.0"),
        ("lost_update_share", (0, 1, 7), ValueError, "lr=0"),
        ("stall_distance", (-1, 7), ValueError, "lr=-1"),
        ("adam_underflow", (1.0,), ValueError, "beta2=1.0"),
        ("adam_stall", (0.99, 7), ValueError, "there is no ratchet"),
        ("accumulation_limit", (0, 7), ValueError, "gradient=0"),
        ("scaler_equilibrium", (0, 1), ValueError, "interval=0"),
        ("scaler_equilibrium", (5, -1), ValueError, "std_log2=-1"),
    ],
)
def test_values_out_of_range_are_refused_by_name(name, arguments, error, said):
    with pytest.raises(error, match=said):
        getattr(theory, name)(*arguments)
