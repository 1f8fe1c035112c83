"""Pictures of activations, by the data on their artists."""

import itertools

import matplotlib.pyplot as plt
import numpy as np
import pytest
from plot_readings import labelled

from course_utils import plots


@pytest.fixture
def pair(ax):
    return plt.subplots(1, 2)[1]


Z = np.linspace(-3, 3, 61)
STEP = (Z > 0).astype(float)


# ---------------------------------------------------------------------- function and slope
def test_the_function_is_drawn_left_and_its_slope_right(pair):
    curves = {"tanh": (np.tanh(Z), 1 - np.tanh(Z) ** 2), "square": (Z**2, 2 * Z)}
    left, right = plots.function_and_slope(Z, curves, axes=pair)
    assert (left, right) == tuple(pair)
    for name, (values, slopes) in curves.items():
        np.testing.assert_array_equal(labelled(left, name)[0].get_ydata(), values)
        np.testing.assert_array_equal(labelled(right, name)[0].get_ydata(), slopes)
        np.testing.assert_array_equal(labelled(left, name)[0].get_xdata(), Z)
        for line in (labelled(left, name)[0], labelled(right, name)[0]):
            assert line.get_linestyle() == labelled(left, name)[0].get_linestyle()
    assert left.get_legend() and left.get_ylabel() == "φ(z)" and right.get_ylabel() == "φ′(z)"


def test_a_jump_of_the_slope_is_a_gap_and_a_steep_slope_is_not(pair):
    steep = np.tanh(8 * Z)
    curves = {"relu": (Z * STEP, STEP), "steep": (Z, steep)}
    left, right = plots.function_and_slope(Z, curves, axes=pair)
    drawn = labelled(right, "relu")[0].get_ydata()
    assert np.flatnonzero(np.isnan(drawn)).tolist() == [31]  # the first z > 0
    np.testing.assert_array_equal(np.delete(drawn, 31), np.delete(STEP, 31))
    np.testing.assert_array_equal(labelled(right, "steep")[0].get_ydata(), steep)
    assert not np.isnan(labelled(left, "relu")[0].get_ydata()).any()


def test_bounds_inside_the_range_are_marked(pair):
    curves = {"a": (Z, Z), "b": (Z, -Z), "c": (Z, Z)}
    bounds = {"a": (3.0, 3.0), "b": (np.inf, 1.0)}
    _, right = plots.function_and_slope(Z, curves, axes=pair, bounds=bounds)
    dots = [line for line in right.lines if line.get_marker() == "o"]
    assert [(dot.get_xdata()[0], dot.get_ydata()[0]) for dot in dots] == [(3.0, 3.0)]
    assert dots[0].get_color() == labelled(right, "a")[0].get_color()


def test_series_differ_without_color(ax):
    curves = {str(i): (Z, Z + i) for i in range(5)}
    left, right = plots.function_and_slope(Z, curves)  # two new axes
    assert left.figure is right.figure and left is not right
    assert len({str(labelled(left, name)[0]._unscaled_dash_pattern) for name in curves}) == 5


# ---------------------------------------------------------------------- histogram
def test_slope_histogram_draws_shares_that_add_up_to_one_and_the_rms(ax):
    rng = np.random.default_rng(0)
    slopes = {"a": rng.uniform(0, 1, (30, 20)), "b": rng.uniform(-0.5, 0.2, 100)}
    assert plots.slope_histogram(slopes, ax=ax, bins=14) is ax
    edges = np.linspace(min(map(np.min, slopes.values())), max(map(np.max, slopes.values())), 15)
    for steps, values in zip(ax.patches, slopes.values(), strict=True):
        heights, drawn, _ = steps.get_data()
        assert heights.sum() == pytest.approx(1)
        np.testing.assert_allclose(drawn, edges)
        inside = [np.mean((values >= a) & (values < b)) for a, b in itertools.pairwise(edges)]
        np.testing.assert_allclose(heights[:-1], inside[:-1])
    lines = [line.get_xdata()[0] for line in ax.lines]
    np.testing.assert_allclose(lines, [np.sqrt(np.mean(v**2)) for v in slopes.values()])
    assert ax.get_xlabel() and ax.get_ylabel()


def test_a_sample_of_one_value_has_a_histogram(ax):
    plots.slope_histogram({"linear": np.ones(5)}, ax=ax, bins=4)
    assert ax.patches[0].get_data()[0].sum() == 1


def test_the_legend_of_the_slopes_stands_above_the_bars(ax):
    plots.slope_histogram({"relu": [0.0, 0.0, 1.0], "gelu": [-0.1, 0.5, 1.1]}, ax=ax)
    ax.figure.canvas.draw()
    assert ax.get_legend().get_window_extent().y0 >= ax.get_window_extent().y1 - 1


# ------------------------------------------------------------------------------- panels
def test_each_activation_has_a_panel_with_its_function_its_slope_and_its_bound():
    curves = {"tanh": (np.tanh(Z), 1 - np.tanh(Z) ** 2), "step": (Z * STEP, STEP), "x": (Z, Z)}
    panels = plots.activation_panels(Z, curves, bounds={"tanh": (0, 1), "x": (9, 9)}, columns=2)
    assert len(panels) == 3 and len(panels[0].figure.axes) == 3  # the fourth is taken out
    for ax, (values, slopes) in zip(panels, curves.values(), strict=True):
        np.testing.assert_array_equal(labelled(ax, "φ(z)")[0].get_ydata(), values)
        drawn = labelled(ax, "φ′(z)")[0].get_ydata()
        assert np.isnan(drawn).sum() == (ax is panels[1])  # the jump is a gap
        np.testing.assert_array_equal(drawn[~np.isnan(drawn)], slopes[~np.isnan(drawn)])
    dots = [line.get_xydata().tolist() for line in panels[0].lines if line.get_marker() == "o"]
    assert dots == [[[0, 1]]] and panels[0].get_title() == "tanh: ≤ 1"
    assert not [line for line in panels[2].lines if line.get_marker() == "o"]
    assert panels[1].get_title() == "step"
    plt.close(panels[0].figure)


@pytest.mark.parametrize(
    ("z", "curves", "said"),
    [
        (Z[::-1], {"x": (Z, Z)}, "increasing"),
        (Z, {}, "empty"),
        (Z, {"x": (Z, Z[1:])}, "φ′ has the shape"),
    ],
)
def test_panels_that_cannot_be_drawn_are_refused(z, curves, said):
    with pytest.raises(ValueError, match=said):
        plots.activation_panels(z, curves)


# ----------------------------------------------------------------------------- unit map
def test_the_map_has_a_color_per_unit_and_none_where_it_is_zero(ax):
    values = np.array([[1e-6, -1e-3, 0.0], [1.0, 0.5, -0.1]])
    assert plots.unit_map(values, ax=ax, title="t", label="size") is ax
    (image,) = ax.images
    drawn = image.get_array()
    np.testing.assert_array_equal(drawn.filled(0), np.abs(values))
    assert drawn.mask.tolist() == [[False, False, True], [False] * 3]
    assert (image.norm.vmin, image.norm.vmax) == (1e-6, 1.0) and image.origin == "lower"
    assert image.get_extent() == [0.5, 3.5, 0.5, 2.5]
    assert image.colorbar.ax.get_ylabel() == "size"
    plots.unit_map(values, ax=ax, limits=(1e-9, 1e-2))
    assert (ax.images[1].norm.vmin, ax.images[1].norm.vmax) == (1e-9, 1e-2)


@pytest.mark.parametrize("wrong", [np.zeros((2, 3)), np.ones(3), [[np.nan]], np.ones((0, 3))])
def test_a_map_without_sizes_is_refused(ax, wrong):
    with pytest.raises(ValueError, match="values"):
        plots.unit_map(wrong, ax=ax)
