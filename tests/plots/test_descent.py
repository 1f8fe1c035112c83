"""Pictures of descent, by the data on their artists."""

import numpy as np
import pytest

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


def test_a_parabola_path_lies_on_the_parabola_and_its_start_is_filled(ax):
    theta = [2.0, -1.0, 0.5]
    assert plots.parabola_path(theta, ax, title="ηλ = 1.5") is ax
    lines = {line.get_label(): line for line in ax.lines}
    np.testing.assert_allclose(lines["path"].get_xydata(), [(t, t**2 / 2) for t in theta])
    np.testing.assert_allclose(lines["start"].get_xydata(), [(2.0, 2.0)])
    x, y = lines["½θ²"].get_data()
    np.testing.assert_allclose(y, x**2 / 2)
    assert ax.get_title() == "ηλ = 1.5"


@pytest.mark.parametrize("theta", [[], [[1.0]], [np.nan]])
def test_a_path_that_is_no_row_of_finite_numbers_is_refused(theta):
    with pytest.raises(ValueError, match="theta"):
        plots.parabola_path(theta)


def test_the_borders_of_the_momentum_plane_are_those_of_the_roots(ax):
    product, beta = np.linspace(0.1, 3.9, 20), np.linspace(0, 0.9, 10)
    roots = [[np.roots([1, -(1 + b - p), b]) for p in product] for b in beta]
    factor = np.abs(roots).max(-1)
    assert plots.momentum_plane(product, beta, factor, ax) is ax
    lines = {line.get_label(): line.get_xydata() for line in ax.lines}
    for p, b in lines["2(1 + β)"]:
        np.testing.assert_allclose(np.abs(np.roots([1, -(1 + b - p), b])).max(), 1, atol=1e-6)
    for name in ("(1 − √β)²", "(1 + √β)²"):
        p, b = lines[name].T
        np.testing.assert_allclose((1 + b - p) ** 2, 4 * b, atol=1e-12)  # a double root
    contours = next(c for c in ax.collections if hasattr(c, "levels"))
    assert contours.levels[-1] == 1


def test_the_regimes_are_said_where_they_are(ax):
    plots.momentum_plane([0.1, 3.9], [0.0, 0.9], np.ones((2, 2)), ax)
    for text in ax.texts:
        p, b = text.get_position()
        roots = np.roots([1, -(1 + b - p), b])
        kinds = {"swings": np.iscomplex(roots).all(), "diverges": abs(roots).max() > 1}
        kinds["creeps"] = np.isreal(roots).all() and (roots.real > 0).all()
        kinds["jumps to and fro"] = np.isreal(roots).all() and (roots.real < 0).all()
        assert kinds[text.get_text()], text.get_text()
