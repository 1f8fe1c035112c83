"""Reductions against plain float64 ones."""

import math

import pytest
import torch

import course_utils as cu
from course_utils.measuring.reductions import CHUNK, OutputNumbers, flat, rms_of, rms_on_device


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.complex64])
@pytest.mark.parametrize("shape", [(1,), (7,), (3, 5), (2, 3, 4, 5), (3, CHUNK), (CHUNK + 1,)])
def test_fast_and_device_reductions_agree_with_a_plain_float64_one(dtype, shape):
    value = torch.randn(shape, generator=cu.seeded(0), dtype=torch.float32)
    value[torch.rand(shape, generator=cu.seeded(1)) < 0.2] = 0.0
    value = value.to(dtype)
    wide = value.to(torch.complex128 if value.is_complex() else torch.float64)
    rms = float((wide.abs() ** 2).mean().sqrt())
    zeros = float((wide == 0).double().mean())
    fast = OutputNumbers().on_cpu(value, None, False)
    device = [float(number) for number in OutputNumbers().on_device(value, None, False)]
    for numbers in (fast, device):
        assert numbers[0] == pytest.approx(rms, rel=1e-5)
        assert numbers[2] == pytest.approx(zeros, abs=1e-6)
        assert numbers[5:] == [0.0, 0.0]
        if not value.is_complex():
            assert numbers[1] == pytest.approx(float(wide.mean()), rel=1e-4, abs=1e-6 * rms)
    assert rms_of(value)[0] == pytest.approx(rms, rel=1e-5)
    assert float(rms_on_device(value)[0]) == pytest.approx(rms, rel=1e-5)


@pytest.mark.parametrize("size", [1e-44, 1e-25, 1e20, 1e37])
def test_the_device_reduction_keeps_tiny_and_huge_values_without_looking(size):
    value = size * torch.randn(1000, generator=cu.seeded(0))
    expected = float((value.double() ** 2).mean().sqrt())
    assert float(rms_on_device(value)[0]) == pytest.approx(expected, rel=1e-6)
    wide = value.double() * 1e-200
    assert float(rms_on_device(wide)[0]) == pytest.approx(expected * 1e-200, rel=1e-6)


@pytest.mark.parametrize("at", [0, 70_000])
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_nan_and_inf_are_counted_and_never_taken_for_zeros(bad, at):
    value = torch.ones(2, 40_000)
    value[0, :3] = 0.0
    value.view(-1)[at + 5] = bad
    for numbers in (
        OutputNumbers().on_cpu(value, None, True),
        [float(n) for n in OutputNumbers().on_device(value, None, True)],
    ):
        assert numbers[5:] == ([1.0, 0.0] if math.isnan(bad) else [0.0, 1.0])
        assert numbers[2] == pytest.approx(3 / 80_000, rel=1e-6)
        assert numbers[4] == 0.0
        assert not math.isfinite(numbers[0])


@pytest.mark.parametrize(
    "view",
    [
        lambda t: t,
        lambda t: t.permute(2, 0, 1),
        lambda t: t[:, ::2],
        lambda t: t[:, :1].expand(-1, 5, -1),
        lambda t: t[0, 0, 0],
    ],
)
def test_flat_holds_every_element_once(view):
    value = view(torch.randn(3, 4, 5, generator=cu.seeded(0)))
    assert torch.equal(flat(value).sort().values, value.reshape(-1).sort().values)
