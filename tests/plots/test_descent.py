"""Pictures of descent, by the data on their artists."""

import matplotlib as mpl
import numpy as np
import pytest

mpl.use("Agg")
import matplotlib.pyplot as plt

from course_utils import plots


@pytest.fixture
def ax():
    figure, axes = plt.subplots()
    yield axes
    plt.close(figure)


def test_contour_path_draws_every_point_of_every_path_and_eleven_contours(ax):
    x, y = np.linspace(-2, 2, 9), np.linspace(-1, 1, 7)
    paths = {"a": np.arange(8.0).reshape(4, 2), "b": np.ones((3, 2))}
    got = plots.contour_path(x, y, x**2 + y[:, None] ** 2, paths, ax=ax)
    assert got is ax
    np.testing.assert_array_equal(ax.lines[0].get_xydata(), paths["a"])
    np.testing.assert_array_equal(ax.lines[1].get_xydata(), paths["b"])
    (contours,) = (c for c in ax.collections)
    np.testing.assert_allclose(np.diff(np.sqrt(contours.levels)), np.sqrt(5) / 11)
    assert (ax.get_xlim(), ax.get_ylim()) == ((-2, 2), (-1, 1))
    assert ax.get_xlabel() and ax.get_ylabel()


def test_paths_differ_in_marker_and_dash_not_in_color_alone(ax):
    paths = {name: np.zeros((2, 2)) for name in "abc"}
    plots.contour_path([0, 1], [0, 1], [[0, 1], [1, 2]], paths, ax=ax)
    assert len({line.get_marker() for line in ax.lines}) == 3
    assert len({line.get_linestyle() for line in ax.lines}) == 3


def test_loss_curves_draws_the_mean_over_seeds_and_their_range_as_a_band(ax):
    losses = np.array([[4.0, 2.0, 1.0], [8.0, 4.0, 3.0]])
    plots.loss_curves({"run": losses}, ax=ax, every=5)
    np.testing.assert_array_equal(ax.lines[0].get_xdata(), [0, 5, 10])
    np.testing.assert_array_equal(ax.lines[0].get_ydata(), [6, 3, 2])
    corners = ax.collections[0].get_paths()[0].vertices
    assert corners[:, 1].min() == 1 and corners[:, 1].max() == 8
    assert ax.get_yscale() == "log"


def test_loss_curves_marks_zero_and_nan_at_the_border_instead_of_dropping_them(ax):
    plots.loss_curves({"to zero": [1.0, 0.5, 0.0, 0.0], "up": [1.0, 9.0, np.inf, np.nan]}, ax=ax)
    marks = {line.get_label(): line for line in ax.lines if "from here" in line.get_label()}
    assert {label.split(" from")[0] for label in marks} == {"zero", "not finite"}
    assert all(line.get_xdata()[0] == 2 for line in marks.values())


def test_loss_curves_draws_the_floor_of_a_curve_in_its_color(ax):
    plots.loss_curves({"a": [2.0, 1.0], "b": [3.0, 2.0]}, ax=ax, floors={"b": 0.5})
    floor = ax.lines[-1]
    assert list(floor.get_ydata()) == [0.5, 0.5]
    assert floor.get_color() == ax.lines[1].get_color() != ax.lines[0].get_color()


def test_rate_curve_holds_prediction_measurement_and_limit(ax):
    plots.lr_curve([1, 2, 3], [0.5, 0.2, 0.9], [0.5, 0.3, 0.8], ax=ax, limit=4)
    np.testing.assert_array_equal(ax.lines[0].get_ydata(), [0.5, 0.2, 0.9])
    np.testing.assert_array_equal(ax.lines[1].get_ydata(), [0.5, 0.3, 0.8])
    assert list(ax.lines[3].get_xdata()) == [4, 4]


def test_training_time_is_drawn_on_a_log_axis(ax):
    plots.training_time([2, 3], [10, 20], [11, 19], ax=ax)
    assert ax.get_yscale() == "log"
    np.testing.assert_array_equal(ax.lines[0].get_ydata(), [10, 20])
    np.testing.assert_array_equal(ax.lines[1].get_ydata(), [11, 19])


def test_sharpness_curves_draws_one_line_per_seed_and_two_over_lr(ax):
    sharpness = np.arange(24.0).reshape(4, 2, 3)
    plots.sharpness_curves([0, 10, 20, 30], sharpness, [0.5, 1.0], ax=ax)
    curves = [line for line in ax.lines if len(line.get_xdata()) == 4]
    assert len(curves) == 6
    np.testing.assert_array_equal(curves[4].get_ydata(), sharpness[:, 1, 1])
    levels = {line.get_ydata()[0] for line in ax.lines if len(line.get_xdata()) == 2}
    assert levels == {4.0, 2.0}


@pytest.mark.parametrize(
    ("draw", "name"),
    [
        (lambda: plots.contour_path([0, 1], [0, 1, 2], np.zeros((2, 3)), {}), "loss"),
        (lambda: plots.contour_path([0, 1], [0, 1], np.eye(2), {"p": np.zeros(3)}), "paths"),
        (lambda: plots.loss_curves({"a": np.zeros((1, 2, 3))}), "curves"),
        (lambda: plots.loss_curves({"a": []}), "curves"),
        (lambda: plots.loss_curves({"a": [1.0]}, floors={"b": 1.0}), "floors"),
        (lambda: plots.lr_curve([1, 2], [1], [1, 2]), "predicted"),
        (lambda: plots.training_time([1, 2], [1, 2], [1]), "measured"),
        (lambda: plots.sharpness_curves([0, 1], np.zeros((2, 1)), [1.0]), "sharpness"),
    ],
)
def test_a_shape_that_does_not_fit_is_an_error_that_names_the_argument(ax, draw, name):
    with pytest.raises(ValueError, match=name):
        draw()
