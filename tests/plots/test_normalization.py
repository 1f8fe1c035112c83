"""Pictures of normalization, by the data on their artists."""

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


# ---------------------------------------------------------------------- shared statistics
def looks(patch):
    return patch.get_facecolor(), patch.get_hatch()


def test_squares_look_alike_exactly_where_they_share_their_statistics(ax):
    groups = np.array([[4, 4, 9], [9, 4, 7]])
    assert plots.shared_statistics(groups, ax=ax, title="some norm") is ax
    assert len(ax.patches) == groups.size and ax.get_title() == "some norm"
    at = {(int(p.get_y()), int(p.get_x())): p for p in ax.patches}
    assert set(at) == {(row, column) for row in range(2) for column in range(3)}
    for one in at:
        for two in at:
            assert (looks(at[one]) == looks(at[two])) == (groups[one] == groups[two])


def test_groups_differ_without_color_and_the_first_sample_stands_on_top(ax):
    plots.shared_statistics(np.arange(7)[None], ax=ax)
    assert len({patch.get_hatch() for patch in ax.patches}) == 7
    assert ax.get_ylim() == (1, 0) and ax.get_xlim() == (0, 7)
    assert ax.get_xlabel() == "unit" and ax.get_ylabel() == "sample"


@pytest.mark.parametrize("groups", [[1, 2], [[0.5, 1.0]], [], [["a", "b"]]])
def test_what_is_no_table_of_integers_is_refused(ax, groups):
    with pytest.raises(ValueError, match="groups has"):
        plots.shared_statistics(groups, ax=ax)


# ---------------------------------------------------------------------- factor by batch
SIZES = np.array([2, 4, 16])
PREDICTED = {"relu": [np.inf, 3.0, 1.6], "tanh": [0.0, 2.1, 1.2]}
MEASURED = {"tanh": ([4, 16], np.array([[2.0, 2.4], [1.1, 1.3]]))}


def named(ax, label):
    found = [line for line in ax.lines if line.get_label() == label]
    assert len(found) == 1
    return found[0]


def test_predictions_are_lines_and_infinity_is_a_gap(ax):
    assert plots.factor_by_batch(SIZES, PREDICTED, ax=ax) is ax
    np.testing.assert_array_equal(named(ax, "relu, predicted").get_ydata(), [np.nan, 3.0, 1.6])
    np.testing.assert_array_equal(named(ax, "tanh, predicted").get_ydata(), [0.0, 2.1, 1.2])
    np.testing.assert_array_equal(named(ax, "relu, predicted").get_xdata(), SIZES)
    assert named(ax, "relu, predicted").get_linestyle() != (
        named(ax, "tanh, predicted").get_linestyle()
    )
    ax.figure.canvas.draw()
    assert {"4", "16"} <= {tick.get_text() for tick in ax.get_xticklabels()}
    assert ax.get_xscale() == "log" and ax.get_xlabel() and "g²" in ax.get_ylabel()


def test_measurements_are_means_with_their_spread_in_the_color_of_their_prediction(ax):
    plots.factor_by_batch(SIZES, PREDICTED, MEASURED, ax=ax)
    (bars,) = ax.containers
    np.testing.assert_array_equal(bars.lines[0].get_xdata(), [4, 16])
    np.testing.assert_allclose(bars.lines[0].get_ydata(), [2.2, 1.2])
    ends = np.array(bars.lines[2][0].get_segments())[:, :, 1]
    np.testing.assert_allclose(ends, [[2.0, 2.4], [1.1, 1.3]])
    assert bars.lines[0].get_color() == named(ax, "tanh, predicted").get_color()
    assert bars.get_label() == "tanh, measured"


def test_limits_are_level_lines(ax):
    plots.factor_by_batch(SIZES, PREDICTED, limits={"relu": 1.467}, ax=ax)
    level = [line for line in ax.lines if np.allclose(line.get_ydata(), 1.467)]
    assert len(level) == 1
    assert level[0].get_color() == named(ax, "relu, predicted").get_color()


@pytest.mark.parametrize(
    ("sizes", "predicted", "measured", "match"),
    [
        ([], {"a": []}, None, "batch_sizes"),
        ([0, 2], {"a": [1, 1]}, None, "batch_sizes"),
        ([[1, 2]], {"a": [1, 2]}, None, "batch_sizes"),
        ([1, 2], {}, None, "predicted not empty"),
        ([1, 2], {"a": [1.0]}, None, r"predicted\['a'\]"),
        ([1, 2], {"a": [1, 1]}, {"b": ([1], [1.0])}, r"measured\['b'\]"),
        ([1, 2], {"a": [1, 1]}, {"b": ([1, 2], [[1.0, 2.0]])}, r"measured\['b'\]"),
    ],
)
def test_factor_by_batch_refuses_what_does_not_fit(ax, sizes, predicted, measured, match):
    with pytest.raises(ValueError, match=match):
        plots.factor_by_batch(sizes, predicted, measured, ax=ax)
