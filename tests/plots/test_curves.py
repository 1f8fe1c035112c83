"""The plot of most figures, judged by the data on its artists."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from plot_readings import legend, line

from course_utils.plots import curves
from course_utils.plots.style import COLORS

X = np.array([1.0, 2.0, 4.0])
LABELS = {"xlabel": "layer l", "ylabel": "g"}


def bars(ax):
    """The ends of each error bar, (values, 2)."""
    (container,) = ax.containers
    return np.array(container.lines[2][0].get_segments())[:, :, 1]


# ---------------------------------------------------------------------- curves
def test_each_curve_is_drawn_under_its_name_and_both_axes_are_labeled(ax):
    lines = {"a": [3.0, 2.0, 1.0], "b": torch.tensor([1.0, 2.0, 3.0])}
    assert curves(X, lines, ax, **LABELS) is ax
    for name, values in lines.items():
        np.testing.assert_array_equal(line(ax, name).get_xdata(), X)
        np.testing.assert_array_equal(line(ax, name).get_ydata(), values)
    assert (ax.get_xlabel(), ax.get_ylabel(), legend(ax)) == ("layer l", "g", ["a", "b"])
    curves(X, lines, ax, xlabel="step")
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("step", "g")


def test_without_x_each_curve_counts_from_zero_to_its_own_length(ax):
    assert curves(None, {"long": [1, 2, 3], "short": [1, 2]}, **LABELS) is ax  # the current axes
    assert line(ax, "long").get_xdata().tolist() == [0, 1, 2]
    assert line(ax, "short").get_xdata().tolist() == [0, 1]


def test_a_curve_may_have_an_x_of_its_own(ax):
    curves(X, {"a": ([5, 6], [[1.0, 2.0], [3.0, 6.0]]), "b": [1, 1, 1]}, ax, **LABELS)
    np.testing.assert_array_equal(line(ax, "a").get_xydata(), [[5, 2], [6, 4]])
    np.testing.assert_array_equal(line(ax, "b").get_xdata(), X)
    _, other = plt.subplots()
    assert curves(X, {"": X}, other, **LABELS).get_legend() is None  # without a name


@pytest.mark.parametrize("count", [5, 100])
@pytest.mark.parametrize("spread", ["range", "runs"])
def test_curves_differ_in_more_than_color(ax, count, spread):
    lines = {str(i): np.full(count, i + 1.0) for i in range(6)}
    curves(None, lines, ax, spread=spread, **LABELS)
    drawn = [line(ax, name) for name in lines]
    assert len({str(one._unscaled_dash_pattern) for one in drawn}) == 6
    if count == 5 or spread == "range":
        assert len({one.get_marker() for one in drawn}) == 6


@pytest.mark.parametrize(
    ("log", "scales"),
    [("y", "linear log"), ("x", "log linear"), ("xy", "log log"), ("", "linear linear")],
)
def test_the_named_axes_are_logarithmic(ax, log, scales):
    curves(X, {"a": X}, ax, log=log, **LABELS)
    assert f"{ax.get_xscale()} {ax.get_yscale()}" == scales


def test_whole_numbers_are_ticked_by_whole_numbers_and_by_powers_of_2_on_a_log_axis(ax):
    curves(range(1, 21), {"a": np.arange(20.0)}, ax, **LABELS)
    assert all(float(tick).is_integer() for tick in ax.get_xticks())
    _, other = plt.subplots()
    curves([1, 2, 8], {"a": X}, other, log="x", **LABELS)
    other.figure.canvas.draw()
    low, high = other.get_xlim()
    ticks = [t.get_text() for t in other.get_xticklabels() if low < t.get_position()[0] < high]
    assert ticks == ["1", "2", "4", "8"]


@pytest.mark.parametrize(("count", "beside"), [(3, False), (9, True)])
def test_a_legend_of_many_entries_stands_beside_the_axes(ax, count, beside):
    curves(X, {str(i): X for i in range(count)}, ax, **LABELS)
    ax.figure.draw_without_rendering()
    assert (ax.get_legend().get_window_extent().x0 >= ax.get_window_extent().x1) == beside


# ---------------------------------------------------------------------- what an axis cannot show
HARD = [1.0, 0.0, -2.0, np.inf, np.nan, 3.0]


def test_what_a_log_axis_cannot_show_is_marked_at_its_edges_and_not_dropped(ax):
    curves(None, {"a": HARD}, ax, **LABELS)
    np.testing.assert_array_equal(line(ax, "a").get_ydata(), [1] + [np.nan] * 4 + [3])
    marks = {"exactly 0": (1, 0), "below 0": (2, 0), "infinite": (3, 1), "NaN": (4, 1)}
    for name, (place, edge) in marks.items():
        assert line(ax, name).get_xdata().tolist() == [place]
        assert abs(line(ax, name).get_ydata()[0] - edge) < 0.1
        assert line(ax, name).get_transform() == ax.get_xaxis_transform()
        assert line(ax, name).get_color() == line(ax, "a").get_color()
    assert len({line(ax, name).get_marker() for name in ("exactly 0", "infinite", "NaN")}) == 3
    assert set(marks) <= set(legend(ax))


def test_a_linear_axis_shows_zero_and_below_and_marks_the_rest(ax):
    curves(None, {"a": HARD}, ax, log="", **LABELS)
    np.testing.assert_array_equal(line(ax, "a").get_ydata(), [1, 0, -2, np.nan, np.nan, 3])
    assert legend(ax) == ["a", "infinite", "NaN"]


def test_each_kind_of_mark_has_one_entry_in_the_legend(ax):
    curves(None, {"a": [1, 0], "b": [0, 1]}, ax, **LABELS)
    assert legend(ax) == ["a", "exactly 0", "b"]
    assert [one.get_xdata().tolist() for one in ax.lines if "exactly 0" in one.get_label()] == [
        [1],
        [0],
    ]


def test_a_stretch_of_a_hundred_equal_marks_is_marked_where_it_begins_and_now_and_then(ax):
    curves(None, {"a": [1.0] * 21 + [np.nan] * 100}, ax, **LABELS)
    places = line(ax, "NaN").get_xdata()
    assert places[0] == 21 and 5 < len(places) < 20


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_seed_that_diverged_is_marked_in_the_mean_and_in_the_runs(ax, bad):
    values = np.array([[1.0, 2.0, bad], [1.0, 2.0, 3.0]])
    curves(X, {"a": values}, ax, **LABELS)
    name = "NaN" if np.isnan(bad) else "infinite"
    assert line(ax, name).get_xdata().tolist() == [4]
    _, other = plt.subplots()
    curves(X, {"a": values}, other, spread="runs", **LABELS)
    assert line(other, name).get_xdata().tolist() == [4]
    np.testing.assert_array_equal(line(other, "_a").get_ydata(), values[1])


# ---------------------------------------------------------------------- seeds
def test_of_several_seeds_the_mean_is_drawn_with_bars_from_lowest_to_highest(ax):
    values = np.array([[4.0, 2.0, 1.0], [8.0, 4.0, 3.0]])
    curves(X, {"a": values}, ax, **LABELS)
    np.testing.assert_array_equal(line(ax, "a").get_ydata(), [6, 3, 2])
    np.testing.assert_allclose(bars(ax), values.T)


def test_the_range_of_a_curve_of_many_values_is_a_band(ax):
    values = np.outer([1.0, 3.0], np.arange(1.0, 51.0))
    curves(None, {"a": values}, ax, **LABELS)
    np.testing.assert_array_equal(line(ax, "a").get_ydata(), values.mean(0))
    band = ax.collections[0].get_paths()[0].vertices
    assert {y for x, y in band if x == 9} == {10, 30} and not ax.containers


def test_runs_are_one_line_per_seed_with_one_entry_in_the_legend(ax):
    values = np.arange(1.0, 13.0).reshape(4, 3)
    curves(X, {"a": values}, ax, spread="runs", **LABELS)
    np.testing.assert_array_equal([one.get_ydata() for one in ax.lines], values)
    assert len({one.get_color() for one in ax.lines}) == 1 and legend(ax) == ["a"]


def test_many_runs_are_pale_and_what_was_predicted_stands_before_them(ax):
    curves(X, {"a": np.ones((60, 3))}, ax, spread="runs", predicted={"mean": X}, **LABELS)
    assert ax.lines[0].get_alpha() < 1
    assert line(ax, "mean").get_zorder() > ax.lines[0].get_zorder()


# ---------------------------------------------------------------------- predictions
def test_a_predicted_curve_is_a_black_line_and_what_was_measured_are_points(ax):
    measured = {"a": np.array([[1.0, 2.0, 4.0], [3.0, 2.0, 6.0]]), "b": [1.0, 1.0, 1.0]}
    predicted = {"a": [2.0, 2.0, 5.0], "b": ([1, 9], [1.0, 2.0])}
    curves(X, measured, ax, predicted=predicted, **LABELS)
    first, second = line(ax, "predicted"), line(ax, "_predicted")
    np.testing.assert_array_equal(first.get_ydata(), [2, 2, 5])
    np.testing.assert_array_equal(second.get_xydata(), [[1, 1], [9, 2]])
    assert first.get_color() == second.get_color() == COLORS[6]
    assert line(ax, "a").get_linestyle() == line(ax, "b").get_linestyle() == "None"
    assert line(ax, "a").get_marker() != line(ax, "b").get_marker()
    np.testing.assert_allclose(bars(ax), measured["a"].T)
    assert legend(ax) == ["a", "b", "predicted"]


def test_every_run_of_a_predicted_curve_is_a_row_of_points(ax):
    values = np.arange(1.0, 7.0).reshape(2, 3)
    curves(X, {"a": values}, ax, spread="runs", predicted={"a": X}, **LABELS)
    points = [one for one in ax.lines if one.get_linestyle() == "None"]
    np.testing.assert_array_equal([one.get_ydata() for one in points], values)


def test_a_level_is_a_dotted_line_across_in_the_color_of_its_curve(ax):
    curves(X, {"a": X, "b": 2 * X}, ax, predicted={"b": torch.tensor(0.5)}, **LABELS)
    level = line(ax, "b, predicted")
    assert list(level.get_ydata()) == [0.5, 0.5]
    assert level.get_color() == line(ax, "b").get_color() != line(ax, "a").get_color()
    assert line(ax, "b").get_linestyle() != "None" and legend(ax) == ["a", "b", "b, predicted"]


def test_a_limit_is_a_vertical_line_in_the_look_of_its_curve(ax):
    curves(X, {"a": X, "b": 2 * X}, ax, limits={"b": 3.0}, **LABELS)
    limit = line(ax, "b, predicted")
    assert list(limit.get_xdata()) == [3, 3]
    assert limit.get_color() == line(ax, "b").get_color()
    assert limit.get_linestyle() == line(ax, "b").get_linestyle()


def test_lines_levels_and_limits_of_other_names_are_black_and_differ_in_dash(ax):
    predicted = {"slope 1": ([1, 4], [2, 8]), "a guess": 2.3, "floor": 0.1}
    curves(X, {"a": X}, ax, predicted=predicted, limits={"border": 3.0}, **LABELS)
    black = [line(ax, name) for name in (*predicted, "border")]
    assert {one.get_color() for one in black} == {COLORS[6]}
    assert len({str(one._unscaled_dash_pattern) for one in black}) == 4
    assert legend(ax) == ["a", "slope 1", "a guess", "floor", "border"]
    assert line(ax, "a").get_linestyle() == "-"
