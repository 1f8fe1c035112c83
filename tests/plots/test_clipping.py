"""Pictures of clipping, by the data on their artists."""

import numpy as np
import pytest
from plot_readings import labelled

from course_utils import plots

W, B = np.linspace(0, 2, 5), np.linspace(-1, 1, 4)
LOSS = W**2 + B[:, None] ** 2


# ---------------------------------------------------------------------- cliff
def test_cliff_surface_draws_the_paths_over_a_surface(ax3):
    points, losses = np.array([[0.5, 0.5], [1.0, 0.0]]), np.array([0.5, 1.0])
    assert plots.cliff_surface(W, B, LOSS, {"run": (points, losses)}, ax3) is ax3
    assert len(ax3.collections) == 1
    assert tuple(ax3.xy_dataLim.intervalx) == (0, 2) and tuple(ax3.xy_dataLim.intervaly) == (-1, 1)
    assert tuple(ax3.zz_dataLim.intervalx) == (LOSS.min(), LOSS.max())
    x, y, z = labelled(ax3, "run")[0].get_data_3d()
    np.testing.assert_array_equal(x, [0.5, 1.0])
    np.testing.assert_array_equal(y, [0.5, 0.0])
    lift = z - losses  # a little above the ground, the same everywhere
    np.testing.assert_allclose(lift, lift[0])
    assert 0 < lift[0] < 0.05 * LOSS.max()
    assert ax3.get_xlabel() and ax3.get_ylabel() and ax3.get_zlabel()


@pytest.mark.parametrize(
    ("path", "end"),
    [
        ([[1, 0], [5, 0]], [2, 0]),
        ([[1, 0], [1, -9]], [1, -1]),
        ([[1, 0], [5, 2]], [2, 0.5]),
        ([[1, 0], [1.5, 0], [-3, 3], [1, 0]], [1.5 - 4.5 / 3, 1.0]),
    ],
)
def test_a_path_ends_on_the_border_where_it_leaves_the_surface(ax3, path, end):
    path = np.array(path, dtype=float)
    plots.cliff_surface(W, B, LOSS, {"run": (path, np.ones(len(path)))}, ax3)
    x, y, _ = labelled(ax3, "run")[0].get_data_3d()
    assert (x[-1], y[-1]) == pytest.approx(end)


def test_a_path_that_starts_outside_is_not_drawn(ax3):
    path = (np.array([[9.0, 0.0], [1.0, 0.0]]), np.ones(2))
    plots.cliff_surface(W, B, LOSS, {"run": path}, ax3)
    assert len(labelled(ax3, "run")[0].get_data_3d()[0]) == 0


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
