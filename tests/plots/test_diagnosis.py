"""Pictures of notebook 12, by the data on their artists."""

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pytest

from course_utils import plots


@pytest.fixture
def ax():
    figure, axes = plt.subplots()
    yield axes
    plt.close(figure)


def test_every_curve_is_divided_by_its_last_layer_and_seeds_are_a_geometric_mean(ax):
    one, two = np.array([8.0, 4.0, 2.0]), np.array([[1.0, 4.0], [100.0, 4.0]])
    plots.relative_by_layer({"one": one, "two": two}, ax, first=3)
    first, second = ax.lines
    np.testing.assert_allclose(first.get_ydata(), [4, 2, 1])
    np.testing.assert_array_equal(first.get_xdata(), [3, 4, 5])
    np.testing.assert_allclose(second.get_ydata(), [2.5, 1])  # √(¼ · 25)
    (band,) = ax.collections
    heights = band.get_paths()[0].vertices[:, 1]
    assert heights.min() == pytest.approx(0.25) and heights.max() == pytest.approx(25)
    assert ax.get_yscale() == "log" and first.get_marker() != second.get_marker()
    assert [text.get_text() for text in ax.get_legend().texts] == ["one", "two"]


@pytest.mark.parametrize("curve", [[], [1.0, 0.0], [1.0, np.nan], [1.0, -2.0]])
def test_a_size_that_is_not_positive_is_refused_by_name(ax, curve):
    with pytest.raises(ValueError, match="'bad'"):
        plots.relative_by_layer({"bad": curve}, ax)


def test_a_run_that_ends_at_nan_gets_a_cross_and_stays_below_ten_guesses(ax):
    sick = np.array([[3.0, 1e9, np.nan, np.nan], [2.0, 2.0, 2.0, 2.0]])
    mended = np.array([[2.0, 1.0, 0.5, 0.25]])
    plots.before_and_after(sick, mended, ax, guess=2.3, title="patient")
    lines = {line.get_label(): line for line in ax.lines}
    np.testing.assert_array_equal(lines["sick"].get_ydata(), sick[0])
    np.testing.assert_array_equal(lines["_sick"].get_ydata(), sick[1])
    np.testing.assert_array_equal(lines["mended"].get_ydata(), mended[0])
    np.testing.assert_array_equal(lines["sick: NaN"].get_xdata(), [3])  # third step
    assert lines["sick"].get_linestyle() != lines["mended"].get_linestyle()
    assert ax.get_ylim()[1] == pytest.approx(23) and ax.get_title() == "patient"
    np.testing.assert_array_equal(lines["a guess"].get_ydata(), [2.3, 2.3])


def test_runs_without_nan_have_no_cross_and_no_guess_unless_given(ax):
    plots.before_and_after([1.0, 0.5], [0.5, 0.1], ax)
    assert len(ax.lines) == 2


def test_images_stand_in_rows_with_their_names():
    rows = {"image": np.arange(8.0).reshape(2, 2, 2), "map": np.ones((2, 3, 3))}
    figure, axes = plt.subplots(2, 2, squeeze=False)
    plots.image_strip(rows, axes, titles="01")
    np.testing.assert_array_equal(axes[0, 1].images[0].get_array(), rows["image"][1])
    np.testing.assert_array_equal(axes[1, 0].images[0].get_array(), rows["map"][0])
    assert [ax.get_title() for ax in axes[0]] == ["0", "1"]
    assert [ax.get_ylabel() for ax in axes[:, 0]] == ["image", "map"]
    with pytest.raises(ValueError, match="3 images for 2"):
        plots.image_strip({"image": np.ones((3, 2, 2)), "map": np.ones((2, 2, 2))}, axes)
    plt.close(figure)
