"""Pictures of clipping, by the data on their artists."""

import numpy as np
import pytest
from plot_readings import labelled

from course_utils import plots

W, B = np.linspace(0, 2, 5), np.linspace(-1, 1, 4)
LOSS = W**2 + B[:, None] ** 2


# ---------------------------------------------------------------------- cliff
def test_cliff_map_holds_gradient_prediction_and_paths(ax):
    path = np.array([[0.5, 0.5], [7.0, 0.0]])
    assert plots.cliff_map(W, B, LOSS + 1, {"run": path}, ax, cliff=-W / 4) is ax
    np.testing.assert_allclose(ax.collections[0].get_array().reshape(LOSS.shape), LOSS + 1)
    np.testing.assert_array_equal(labelled(ax, "run")[0].get_xydata(), path)
    np.testing.assert_array_equal(labelled(ax, "predicted")[0].get_ydata(), -W / 4)
    assert (ax.get_xlim(), ax.get_ylim()) == ((0, 2), (-1, 1))
    assert ax.get_xlabel() and ax.get_ylabel()


def test_cliff_map_shows_a_gradient_of_zero(ax):
    gradient = LOSS.copy()
    gradient[0, 0] = 0.0
    plots.cliff_map(W, B, gradient, ax=ax)
    shown = ax.collections[0].get_array()
    assert (shown > 0).all() and shown.shape == gradient.shape


# ---------------------------------------------------------------------- vectors
@pytest.mark.parametrize(
    ("by", "expected"),
    [("norm", [[0.6, 0.8], [0.1, -0.2]]), ("value", [[1.0, 1.0], [0.1, -0.2]])],
)
def test_clipped_vectors_ends_where_clipping_ends(ax, by, expected):
    vectors = np.array([[3.0, 4.0], [0.1, -0.2]])
    assert plots.clipped_vectors(vectors, 1.0, ax, by=by) is ax
    before = [line.get_xydata()[1] for line in ax.lines[1::3]]
    after = [line.get_xydata()[1] for line in ax.lines[3::3]]
    moves = [line.get_xydata() for line in ax.lines[2::3]]
    np.testing.assert_array_equal(before, vectors)
    np.testing.assert_allclose(after, expected)
    np.testing.assert_allclose(moves, np.stack([vectors, expected], axis=1))
    border = ax.lines[0].get_xydata()
    size = np.linalg.norm(border, axis=1) if by == "norm" else np.abs(border).max(axis=1)
    np.testing.assert_allclose(size, 1)
    assert ax.get_aspect() == 1
