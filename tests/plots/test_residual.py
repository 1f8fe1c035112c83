"""Pictures of residual networks, by the data on their artists."""

import matplotlib as mpl
import numpy as np
import pytest

mpl.use("Agg")
import matplotlib.pyplot as plt

from course_utils import plots


@pytest.fixture
def ax():
    _, axes = plt.subplots()
    yield axes
    plt.close("all")


def named(ax, label):
    found = [line for line in ax.lines if line.get_label() == label]
    assert len(found) == 1
    return found[0]


def test_path_lengths_are_curves_over_k_and_their_predicted_means_vertical_lines(ax):
    shares = {"a": [0.1, 0.7, 0.2], "b": np.array([0.5, 0.5])}
    assert plots.path_lengths(shares, ax, means={"b": 0.4}) is ax
    for name, values in shares.items():
        np.testing.assert_array_equal(named(ax, name).get_ydata(), values)
        np.testing.assert_array_equal(named(ax, name).get_xdata(), np.arange(len(values)))
    (mean,) = [line for line in ax.lines if len(set(line.get_xdata())) == 1]
    assert mean.get_xdata()[0] == 0.4 and mean.get_color() == named(ax, "b").get_color()
    assert named(ax, "a").get_linestyle() != named(ax, "b").get_linestyle()
    assert ax.get_xlabel() and ax.get_ylabel() and ax.get_ylim()[0] == 0


@pytest.mark.parametrize(
    ("shares", "means", "match"),
    [
        ({}, None, "shares is empty"),
        ({"a": [[0.1]]}, None, r"shares\['a'\]"),
        ({"a": [0.1, np.nan]}, None, r"shares\['a'\]"),
        ({"a": [0.1, -0.1]}, None, "negative"),
        ({"a": [0.1]}, {"b": 1.0}, "means names b"),
    ],
)
def test_path_lengths_refuses_what_does_not_fit(ax, shares, means, match):
    with pytest.raises(ValueError, match=match):
        plots.path_lengths(shares, ax, means)


def test_correlations_are_drawn_on_two_log_axes_in_one_color_per_network(ax):
    predicted = {"plain": ([1, 2, 4], [0.5, 0.25, 0.06]), "residual": ([1, 8], [0.7, 0.3])}
    measured = {"residual": ([1, 8], [[0.6, 0.8], [0.2, 0.3]])}
    assert plots.correlation_by_depth(predicted, measured, ax) is ax
    for name, (depths, values) in predicted.items():
        np.testing.assert_array_equal(named(ax, f"{name}, predicted").get_xdata(), depths)
        np.testing.assert_array_equal(named(ax, f"{name}, predicted").get_ydata(), values)
    (bars,) = ax.containers
    np.testing.assert_allclose(bars.lines[0].get_ydata(), [0.7, 0.25])
    ends = np.array(bars.lines[2][0].get_segments())[:, :, 1]
    np.testing.assert_allclose(ends, [[0.6, 0.8], [0.2, 0.3]])
    assert bars.lines[0].get_color() == named(ax, "residual, predicted").get_color()
    assert ax.get_xscale() == ax.get_yscale() == "log"
    low, high = ax.get_xlim()
    shown = [
        tick.get_text() for tick in ax.get_xticklabels() if low < tick.get_position()[0] < high
    ]
    assert shown == ["1", "2", "4", "8"]


@pytest.mark.parametrize(
    ("predicted", "measured", "match"),
    [
        ({}, None, "predicted is empty"),
        ({"a": ([1, 2], [0.5])}, None, r"predicted\['a'\]"),
        ({"a": ([1, 2], [0.5, 0.0])}, None, "positive"),
        ({"a": ([0, 2], [0.5, 0.1])}, None, "positive"),
        ({"a": ([1], [0.5])}, {"a": ([1], [0.5])}, r"measured\['a'\]"),
        ({"a": ([1], [0.5])}, {"a": ([1, 2], [[0.5]])}, r"measured\['a'\]"),
        ({"a": ([1], [np.inf])}, None, r"predicted\['a'\]"),
    ],
)
def test_correlation_by_depth_refuses_what_does_not_fit(ax, predicted, measured, match):
    with pytest.raises(ValueError, match=match):
        plots.correlation_by_depth(predicted, measured, ax)


def test_slopes_are_drawn_in_units_of_their_root_mean_square():
    x = np.linspace(-1, 1, 4)
    slopes = {"one": [3.0, -3.0, 3.0, -3.0], "two": [0.0, 0.0, 0.0, 4.0]}
    axes = plots.input_gradients(x, slopes)
    assert [a.get_title() for a in axes] == ["one", "two"]
    np.testing.assert_allclose(axes[0].lines[0].get_ydata(), [1, -1, 1, -1])
    np.testing.assert_allclose(axes[1].lines[0].get_ydata(), [0, 0, 0, 2])
    np.testing.assert_array_equal(axes[1].lines[0].get_xdata(), x)
    assert axes[0].get_ylabel() and axes[1].get_xlabel()
    plt.close("all")


def test_slopes_are_drawn_on_the_axes_handed_over(ax):
    assert plots.input_gradients([0, 1], {"a": [1, 2]}, [ax]) == [ax]
    assert plots.input_gradients([0, 1], {"a": [1, 2]}, ax) == [ax]


@pytest.mark.parametrize(
    ("x", "gradients", "match"),
    [
        ([0, 1], {}, "gradients is empty"),
        ([0, 1], {"a": [1, 2, 3]}, r"gradients\['a'\]"),
        ([0, 1], {"a": [0, 0]}, "not all 0"),
        ([0, np.nan], {"a": [1, 1]}, "x has"),
        ([0, 1], {"a": [1, 1], "b": [1, 1]}, "1 Axes for 2"),
    ],
)
def test_input_gradients_refuses_what_does_not_fit(ax, x, gradients, match):
    with pytest.raises(ValueError, match=match):
        plots.input_gradients(x, gradients, [ax])


def test_lesions_are_medians_over_seeds_with_their_range(ax):
    accuracy = {"net": np.array([[0.9, 0.1], [0.7, 0.2], [0.8, 0.6]])}
    assert plots.lesion_accuracy(accuracy, ax, {"net": 0.97}, first=3) is ax
    line = named(ax, "net, one deleted")
    np.testing.assert_allclose(line.get_ydata(), [0.8, 0.2])
    np.testing.assert_array_equal(line.get_xdata(), [3, 4])
    band = ax.collections[0].get_paths()[0].vertices
    assert {0.7, 0.9, 0.1, 0.6} <= set(band[:, 1].round(9))
    level = named(ax, "net, all there")
    assert set(level.get_ydata()) == {0.97} and level.get_color() == line.get_color()


def test_levels_of_two_lesioned_nets_differ_without_color(ax):
    plots.lesion_accuracy({"a": [[0.5]], "b": [[0.1]]}, ax, {"a": 0.9, "b": 0.8})
    first, second = (named(ax, f"{name}, all there") for name in "ab")
    assert first._unscaled_dash_pattern != second._unscaled_dash_pattern


@pytest.mark.parametrize(
    ("accuracy", "intact", "match"),
    [
        ({}, None, "accuracy is empty"),
        ({"a": [0.5]}, None, r"accuracy\['a'\]"),
        ({"a": [[np.nan]]}, None, r"accuracy\['a'\]"),
        ({"a": [[0.5]]}, {"b": 0.5}, "intact names b"),
    ],
)
def test_lesion_accuracy_refuses_what_does_not_fit(ax, accuracy, intact, match):
    with pytest.raises(ValueError, match=match):
        plots.lesion_accuracy(accuracy, ax, intact)


ACCURACY = [[0.94, 0.101], [0.5, 0.62]]
RATIO = [[1.0, 3e-7], [0.0, 2.5e4]]


def test_each_cell_of_the_map_says_its_accuracy_and_its_gradient_ratio(ax):
    assert plots.remedy_map(ACCURACY, RATIO, ["one", "two"], [2, 50], ax) is ax
    (image,) = ax.images
    np.testing.assert_array_equal(image.get_array(), ACCURACY)
    assert (image.norm.vmin, image.norm.vmax) == (0, 1)
    texts = {text.get_position(): text.get_text() for text in ax.texts}
    assert texts == {
        (0, 0): "0.94\n$10^{0.0}$",
        (1, 0): "0.10\n$10^{-6.5}$",
        (0, 1): "0.50\n0",
        (1, 1): "0.62\n$10^{4.4}$",
    }
    assert [tick.get_text() for tick in ax.get_yticklabels()] == ["one", "two"]
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["2", "50"]
    dark = {text.get_position(): text.get_color() for text in ax.texts}
    assert dark[0, 0] == "black" and dark[1, 0] == "white"


@pytest.mark.parametrize(
    ("accuracy", "ratio", "match"),
    [
        ([[0.5, 0.5]], RATIO, "shapes"),
        (ACCURACY, [[1.0], [1.0]], "shapes"),
        ([[1.2, 0.5], [0.5, 0.5]], RATIO, "between 0 and 1"),
        (ACCURACY, [[-1.0, 1], [1, 1]], "must not be < 0"),
        (ACCURACY, [[np.nan, 1], [1, 1]], "gradient_ratio"),
    ],
)
def test_the_map_refuses_what_does_not_fit(ax, accuracy, ratio, match):
    with pytest.raises(ValueError, match=match):
        plots.remedy_map(accuracy, ratio, ["one", "two"], [2, 50], ax)
