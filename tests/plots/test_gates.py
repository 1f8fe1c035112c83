"""Pictures of gates, by the data on their artists."""

import numpy as np
import pytest

from course_utils import plots


def test_eigenvalues_inside_and_outside_the_circle_are_told_apart(ax):
    values = [0.5 + 0.1j, 1.2, -0.3j, -1.05]
    assert plots.step_eigenvalues(values, 0.5, 0.25, ax) is ax
    inside, outside = ax.lines
    assert inside.get_xydata().tolist() == [[0.5, 0.1], [0.0, -0.3]]
    assert outside.get_xydata().tolist() == [[1.2, 0.0], [-1.05, 0.0]]
    assert inside.get_marker() != outside.get_marker()


def test_the_disc_lies_where_it_was_predicted_beside_the_unit_circle(ax):
    plots.step_eigenvalues([0.5], 0.95, 0.4, ax)
    circle, disc = ax.patches
    assert (circle.center, circle.radius) == ((0, 0), 1)
    assert (disc.center, disc.radius) == ((0.95, 0), 0.4)
    assert ax.get_aspect() == 1 and ax.get_xlim()[1] > 1.35


@pytest.mark.parametrize("values", [[], [np.nan], [1j * np.inf]])
def test_what_is_no_eigenvalue_is_refused(ax, values):
    with pytest.raises(ValueError, match="eigenvalues"):
        plots.step_eigenvalues(values, 0.5, 0.1, ax)


def test_a_disc_of_negative_radius_is_refused(ax):
    with pytest.raises(ValueError, match="radius=-1"):
        plots.step_eigenvalues([1.0], 0.5, -1, ax)


def test_the_prediction_is_thick_the_product_of_the_gates_thin_and_the_mean_geometric(ax):
    measured = np.array([[1.0, 0.1, 0.01], [1.0, 0.4, 0.04]])
    thick, thin = [1.0, 0.3, 0.03], [1.0, 0.2, 0.002]
    assert plots.gate_memory(measured, thick, thin, ax) is ax
    predicted, gates, dots = ax.lines[:3]
    assert predicted.get_ydata().tolist() == thick and gates.get_ydata().tolist() == thin
    assert predicted.get_linewidth() > 2 * gates.get_linewidth()
    np.testing.assert_allclose(dots.get_ydata(), [1.0, 0.2, 0.02])
    assert dots.get_linestyle() == "None" and ax.get_yscale() == "log"
    (bars,) = ax.containers
    ends = [segment[:, 1].tolist() for segment in bars.lines[2][0].get_segments()]
    np.testing.assert_allclose(ends, [[1.0, 1.0], [0.1, 0.4], [0.01, 0.04]])


def test_many_lags_get_few_dots_and_whole_lines(ax):
    g = 0.9 ** np.arange(101)
    plots.gate_memory(g, g, g, ax)
    predicted, _, dots = ax.lines[:3]
    assert predicted.get_xdata().tolist() == list(range(101))
    assert 10 <= len(dots.get_xdata()) <= 15 and dots.get_xdata()[1] == 8


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (([1.0, 0.5], [1.0], [1.0, 0.5]), "predicted has shape"),
        (([1.0, 0.5], [1.0, 0.5], [[1.0, 0.5]]), "gates has shape"),
        (([1.0, 0.0], [1.0, 0.5], [1.0, 0.5]), "measured must be positive"),
        (([1.0, 0.5], [1.0, np.inf], [1.0, 0.5]), "predicted must be positive"),
    ],
)
def test_what_does_not_fit_or_has_no_logarithm_is_refused(ax, arguments, said):
    with pytest.raises(ValueError, match=said):
        plots.gate_memory(*arguments, ax)
