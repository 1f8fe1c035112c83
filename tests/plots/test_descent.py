"""Pictures of descent, by the data on their artists."""

import numpy as np

from course_utils import plots


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
