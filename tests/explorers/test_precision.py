"""The grid of notebook 11's explorer: rounding against torch, shares against the normal law."""

import math
from itertools import product

import numpy as np
import pytest
import torch
from explorer_readings import mark, readouts
from scipy import stats

from course_utils.explorers import precision

DTYPES = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
    "float8 e5m2": torch.float8_e5m2,
    "float8 e4m3": torch.float8_e4m3fn,
}
SETTINGS = [("float16", -26, 3.0, 10), ("float8 e4m3", -12, 5.0, 12), ("bfloat16", 8, 0.5, 24)]


@pytest.mark.parametrize("one", precision.FORMATS, ids=lambda one: one.name)
def test_rounding_is_that_of_torch(one):
    rng = np.random.default_rng(0)
    sizes = np.exp2(rng.uniform(math.log2(one.zero) - 2, math.log2(one.over) + 2, 5000))
    sizes = np.append(sizes, [one.largest, one.zero, one.zero * 3, 2.0**one.normal])
    # torch rounds float64 to float8 by way of float32: both see the same numbers
    with np.errstate(over="ignore"):
        sizes = sizes.astype(np.float32).astype(np.float64)
    sizes = sizes[np.isfinite(sizes) & (sizes > 0)]
    found = precision.round_to(sizes, one)
    expected = torch.tensor(sizes).to(DTYPES[one.name]).double().numpy()
    inside = np.isfinite(found)
    np.testing.assert_array_equal(found[inside], expected[inside])
    beyond = expected[~inside]  # 448 or NaN in e4m3, by the version of torch
    assert np.isin(beyond, [np.inf, 448.0]).all() | np.isnan(beyond).all()


@pytest.mark.parametrize("one", precision.FORMATS, ids=lambda one: one.name)
def test_the_ends_of_a_format_are_those_of_torch(one):
    facts = torch.finfo(DTYPES[one.name])
    assert one.largest == facts.max and 2.0**one.normal == facts.tiny
    assert 2.0**-one.mantissa == facts.eps
    assert precision.round_to(np.array([one.zero, one.zero * 1.01]), one).tolist() == [
        0.0,
        2 * one.zero,
    ]
    ends = np.array([one.over * (1 - 1e-12), one.over * (1 + 1e-12)])
    assert precision.round_to(ends, one).tolist() == [one.largest, math.inf]


@pytest.mark.parametrize(("name", "center", "spread", "power"), SETTINGS)
def test_panels_and_readouts_show_what_the_format_makes_of_the_sizes(
    explorer, name, center, spread, power
):
    explorer.format, explorer.center = name, center
    explorer.spread, explorer.log2_scale = spread, power
    z = stats.norm.ppf((np.arange(2000) + 0.5) / 2000)
    sizes = np.exp2(center + spread * z + power)
    one = next(one for one in precision.FORMATS if one.name == name)
    rounded = precision.round_to(sizes, one)
    inside = np.isfinite(rounded)
    flushed, over, error, cosine = readouts(explorer)
    assert (flushed, over) == ((rounded == 0).mean(), (~inside).mean())
    if inside.any():
        x, y = sizes[inside], rounded[inside]
        assert error == pytest.approx(np.linalg.norm(y - x) / np.linalg.norm(x), rel=1e-9)
        assert cosine == pytest.approx(x @ y / np.linalg.norm(x) / np.linalg.norm(y), rel=1e-9)
    for label, values in (("before", sizes), ("after", rounded[inside & (rounded > 0)])):
        middle, share = mark(explorer, 0, label)
        for at, height in zip(middle, share, strict=True):
            count = ((np.log2(values) >= at - 1) & (np.log2(values) < at + 1)).mean()
            count *= len(values) / 2000
            assert height == pytest.approx(count, abs=1e-6) or (np.isnan(height) and count == 0)
    x, y = mark(explorer, 1, "becomes 0, theory")
    np.testing.assert_allclose(
        y, stats.norm.cdf((math.log2(one.zero) - center - x) / spread), atol=1e-6
    )
    x, y = mark(explorer, 1, "overflows, theory")
    np.testing.assert_allclose(
        y, stats.norm.sf((math.log2(one.over) - center - x) / spread), atol=1e-6
    )
    assert mark(explorer, 1, "S now")[0].tolist() == [power, power]


def test_what_is_measured_is_what_theory_says():
    grid = precision.measure()
    low, high = precision.theory_shares(np.array(precision.LOG2_SCALES, dtype=float))
    np.testing.assert_allclose(grid["flushed"], low[..., 0, :], atol=1e-3)
    np.testing.assert_allclose(grid["over"], high[..., 0, :], atol=1e-3)


def test_the_borders_of_a_wide_format_lie_outside_of_the_picture(explorer):
    for name in ("float16", "bfloat16"):
        explorer.format = name
        x, _ = mark(explorer, 0, "becomes 0 below")
        assert (np.isnan(x).all()) == (name == "bfloat16")
        assert name == "bfloat16" or x.tolist() == [-25, -25]


def test_a_loss_scale_does_nothing_for_bfloat16():
    grid = precision.measure()
    assert not grid["flushed"][1].any() and not grid["over"][1].any()
    errors = grid["error"][1]
    for center, spread in product(range(len(precision.CENTERS)), range(len(precision.SPREADS))):
        np.testing.assert_allclose(errors[center, spread], errors[center, spread, 0], rtol=1e-9)
