"""The explorer of notebook 04: its figures against simulation, quad and autograd."""

import math

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.special import expit, ndtr

from course_utils.explorers import activations as module
from course_utils.runtime import seeded


def array(explorer, panel, mark, axis, *setting):
    """One array of one mark at one setting, as the browser gets it."""
    ref = explorer._packed.spec["panels"][panel]["marks"][mark][axis]
    return explorer._packed.array(ref, setting)


def readout(explorer, index, *setting):
    ref = explorer._packed.spec["readouts"][index]["values"]
    return explorer._packed.array(ref, setting)[0]


def at(name, std):
    return list(module.CHOICES).index(name), int(np.abs(module.WIDTHS - std).argmin())


def test_every_activation_of_the_course_can_be_picked(explorer):
    for name in (*module.ACTIVATIONS, "prelu"):
        explorer.activation = name
        assert explorer.activation == name
    with pytest.raises(ValueError, match=r"did you mean"):
        explorer.activation = "rellu"


def test_the_rms_slope_of_sigmoid_is_scipys_at_every_width(explorer):
    curve = array(explorer, 3, 0, "y", *at("sigmoid", 1.0))
    for i in (0, 7, 20, 33, 40):
        std = module.WIDTHS[i]
        square = quad(
            lambda z: (expit(z) * expit(-z)) ** 2 * math.exp(-((z / std) ** 2) / 2),  # noqa: B023
            -min(10 * std, 40),
            min(10 * std, 40),
            points=[0],
        )[0] / (std * math.sqrt(2 * math.pi))
        assert curve[i] == pytest.approx(math.sqrt(square), rel=1e-6)
        assert readout(explorer, 0, 1, i) == pytest.approx(math.sqrt(square), rel=1e-6)
        assert readout(explorer, 1, 1, i) == pytest.approx(square**5, rel=1e-5)


@pytest.mark.parametrize("name", list(module.CHOICES))
def test_the_dot_lies_on_the_curve_and_the_dashed_line_on_the_rms(explorer, name):
    for std in (0.05, 1.0, 20.0):
        setting = at(name, std)
        curve = array(explorer, 3, 0, "y", *setting)
        dot = array(explorer, 3, 1, "y", *setting), array(explorer, 3, 1, "x", *setting)
        assert dot[0][0] == curve[setting[1]]
        assert dot[1][0] == pytest.approx(module.WIDTHS[setting[1]])
        np.testing.assert_allclose(array(explorer, 2, 1, "x", *setting), curve[setting[1]])


@pytest.mark.parametrize("name", list(module.CHOICES))
def test_function_and_slope_are_those_of_autograd_away_from_kinks(explorer, name):
    setting = at(name, 1.0)
    z = torch.linspace(-8, 8, 161, dtype=torch.float64, requires_grad=True)
    choice = module.CHOICES[name]
    value = choice.function(z)
    (gradient,) = torch.autograd.grad(value.sum(), z)
    np.testing.assert_allclose(array(explorer, 0, 1, "y", *setting), value.detach(), atol=1e-6)
    shown = array(explorer, 1, 0, "y", *setting)
    kinks = np.isin(np.round(z.detach().numpy(), 6), [-3, 0, 3, 6])
    np.testing.assert_allclose(shown[~kinks], gradient.numpy()[~kinks], atol=1e-6)


@pytest.mark.parametrize(("name", "std"), [("sigmoid", 5.0), ("gelu", 1.0), ("hardswish", 2.0)])
def test_histogram_saturation_and_mean_output_are_what_random_inputs_give(explorer, name, std):
    a, i = at(name, std)
    z = torch.randn(200_000, generator=seeded(3), dtype=torch.float64) * module.WIDTHS[i]
    slopes = module.CHOICES[name].slope(z).numpy()
    expected = np.histogram(slopes, module.EDGES)[0] / z.numel()
    x, y = array(explorer, 2, 0, "x", a, i), array(explorer, 2, 0, "y", a, i)
    assert y[0] == y[-1] == 0 and y.size == x.size == 2 * module.EDGES.size
    np.testing.assert_allclose(y[1:-1:2], expected, atol=0.005)
    np.testing.assert_array_equal(y[1:-1:2], y[2:-1:2])
    np.testing.assert_allclose(x[::2], module.EDGES, rtol=1e-6)
    assert y[1:-1:2].sum() == pytest.approx(1, abs=1e-5)
    assert readout(explorer, 2, a, i) == pytest.approx(np.mean(abs(slopes) < 0.05), abs=0.006)
    mean = module.ACTIVATIONS[name].function(z).mean().item()
    assert readout(explorer, 3, a, i) == pytest.approx(mean, abs=0.02)


def test_every_slope_lies_inside_the_histogram():
    z = torch.linspace(-200, 200, 400_001, dtype=torch.float64)
    for choice in module.CHOICES.values():
        slopes = choice.slope(z)
        assert module.EDGES[0] <= slopes.min() and slopes.max() < module.EDGES[-1]


def test_a_wide_input_saturates_sigmoid_as_the_normal_distribution_says(explorer):
    # |s′| < 0.05 beyond |z| = log of the root of s(1 − s) = 0.05
    edge = math.log((1 + math.sqrt(0.8)) / (1 - math.sqrt(0.8)))
    a, i = at("sigmoid", 20.0)
    assert readout(explorer, 2, a, i) == pytest.approx(2 * ndtr(-edge / 20), abs=1e-3)


def test_the_density_peaks_at_zero_and_has_the_width_of_the_slider(explorer):
    a, i = at("relu", 2.0)
    x, y = array(explorer, 0, 0, "x", a, i), array(explorer, 0, 0, "y", a, i)
    assert y.max() == y[80] == 1
    std = module.WIDTHS[i]
    np.testing.assert_allclose(y, np.exp(-((x / std) ** 2) / 2), atol=1e-6)
