"""Small tensors measured together: each number as the single measurement and float64 have it."""

import math

import pytest
import torch
from torch import nn

import course_utils as cu
from course_utils.measuring import OutputNumbers, is_small, outputs_together, rms_of, rms_together

SHAPES = [(8, 16), (1, 3), (7,), (4, 3, 5), (2, 3, 4, 4), ()]


def drawn(shape, kind):
    values = torch.randn(shape, generator=cu.seeded(len(shape)))
    values = {
        "plain": lambda: values,
        "relu": lambda: values.relu(),
        "tiny": lambda: values * 1e-38,
        "huge": lambda: values * 1e37,
        "zero": lambda: values * 0,
        "nan": lambda: values + torch.tensor(math.nan),
        "inf": lambda: values.abs() * torch.tensor(math.inf),
    }[kind]()
    return values


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("saturation", [None, (0.0, 0.9), (0.5, 0.4)])
def test_they_are_the_numbers_of_each_alone(shape, saturation):
    kinds = ["plain", "relu", "tiny", "huge", "zero", "nan", "inf"]
    values = [drawn(shape, kind) for kind in kinds]
    together = outputs_together(values, saturation, True)
    for kind, value, mine in zip(kinds, values, together, strict=True):
        alone = OutputNumbers().on_cpu(value, saturation, True)
        assert mine == pytest.approx(alone, rel=1e-6, abs=1e-7, nan_ok=True), kind
    for value, mine in zip(values, rms_together(values), strict=True):
        assert mine == pytest.approx(rms_of(value), rel=1e-6, nan_ok=True)


def test_which_are_small():
    assert is_small(torch.ones(64, 64)) and not is_small(torch.ones(64, 65))
    assert not is_small(torch.ones(4, 4).t()[:, :2])
    assert not is_small(torch.ones(0)) and not is_small(torch.ones(3).double())


def test_an_output_that_is_overwritten_was_copied_before():
    class Overwrites(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = nn.ModuleList(nn.Linear(4, 4) for _ in range(6))

        def forward(self, x):
            for layer in self.layers:
                x = layer(x).mul_(2).clamp_(min=0)
            return x

    torch.manual_seed(0)
    net, x = Overwrites(), torch.randn(8, 4)
    with cu.record(net) as recorder:
        net(x).sum().backward()
    h, expected = x, []
    for layer in net.layers:
        h = layer(h).detach()
        expected.append(h.double().square().mean().sqrt().item())
        h = (2 * h).clamp(min=0)
    assert recorder.record.output_rms[0].tolist() == pytest.approx(expected, rel=1e-6)
