"""Pictures of matrices, by the data on their artists."""

import matplotlib as mpl
import numpy as np
import pytest

mpl.use("Agg")
import matplotlib.pyplot as plt

from course_utils import plots

W = np.array([[2.0, 3.0], [4.0, 5.0]])


@pytest.fixture
def ax():
    figure, axes = plt.subplots()
    yield axes
    plt.close(figure)


def labelled(ax, start):
    return [line for line in ax.lines if str(line.get_label()).startswith(start)]


# ---------------------------------------------------------------------- ellipse
def test_matrix_ellipse_draws_the_image_of_every_point_of_the_unit_circle(ax):
    assert plots.matrix_ellipse(W, ax=ax, title="W") is ax
    circle, image = (
        labelled(ax, name)[0].get_xydata() for name in ("unit circle", "its image under W")
    )
    np.testing.assert_allclose(np.linalg.norm(circle, axis=1), 1)
    np.testing.assert_allclose(image, circle @ W.T)
    assert ax.get_title() == "W" and ax.get_aspect() == 1
    assert ax.get_xlabel() and ax.get_ylabel()


def test_the_half_axes_end_at_the_farthest_and_nearest_point_of_the_ellipse(ax):
    plots.matrix_ellipse(W, ax=ax)
    angle = np.linspace(0, np.pi, 100001)
    distance = np.linalg.norm(W @ [np.cos(angle), np.sin(angle)], axis=0)
    ends = [line.get_xydata()[1] for line in labelled(ax, "half-axis")]
    np.testing.assert_allclose(
        [np.linalg.norm(end) for end in ends], [distance.max(), distance.min()], rtol=1e-6
    )
    inverse = np.linalg.inv(W)  # both ends lie on the ellipse, at right angles
    np.testing.assert_allclose([np.linalg.norm(inverse @ end) for end in ends], 1)
    assert abs(ends[0] @ ends[1]) < 1e-12
    assert all(end[np.abs(end).argmax()] > 0 for end in ends)  # whatever sign the library chose


def test_the_eigenvector_lines_are_mapped_onto_themselves(ax):
    plots.matrix_ellipse(W, ax=ax)
    lines = labelled(ax, "eigenvector")
    assert [line.get_label().split(" = ")[1] for line in lines] == ["7.27", "−0.275"]
    for line in lines:
        start, stop = line.get_xydata()
        image = W @ (stop - start)
        assert abs(image[0] * (stop - start)[1] - image[1] * (stop - start)[0]) < 1e-10
    diamonds = [line.get_xydata()[0] for line in ax.lines if line.get_marker() == "D"]
    np.testing.assert_allclose([np.linalg.norm(np.linalg.inv(W) @ d) for d in diamonds], 1)


def test_a_matrix_with_a_single_eigenvector_gets_a_single_line(ax):
    plots.matrix_ellipse([[0.5, 2.0], [0.0, 0.5]], ax=ax)
    (line,) = labelled(ax, "only eigenvector, λ = 0.5")
    np.testing.assert_allclose(line.get_ydata(), 0, atol=1e-12)
    assert not labelled(ax, "eigenvector")


def test_a_rotation_has_no_eigenvector_line(ax):
    plots.matrix_ellipse([[0.0, -1.0], [1.0, 0.0]], ax=ax)
    assert not labelled(ax, "eigenvector") and labelled(ax, "half-axis")


@pytest.mark.parametrize("matrix", [np.eye(3), np.ones(4), [[1, np.nan], [0, 1]]])
def test_matrix_ellipse_refuses_what_is_no_2x2_matrix(ax, matrix):
    with pytest.raises(ValueError, match="matrix="):
        plots.matrix_ellipse(matrix, ax=ax)


# ---------------------------------------------------------------------- growth
def test_norm_growth_draws_every_norm_and_a_straight_line_per_factor(ax):
    norms = {"v": np.array([2.0, 6.0, 3.0, 1.0]), "w": np.array([1.0, 1.0])}
    assert plots.norm_growth(norms, ax=ax, factors={"ρ": 0.5, "σ₁": 3.0}) is ax
    for name, values in norms.items():
        np.testing.assert_array_equal(labelled(ax, name)[0].get_ydata(), values)
        np.testing.assert_array_equal(labelled(ax, name)[0].get_xdata(), np.arange(values.size))
    np.testing.assert_allclose(labelled(ax, "ρ")[0].get_ydata(), [2, 1, 0.5, 0.25])
    np.testing.assert_allclose(labelled(ax, "σ₁")[0].get_ydata(), [2, 6, 18, 54])
    assert ax.get_yscale() == "log" and ax.get_xlabel() and ax.get_ylabel()


def test_norm_growth_marks_zero_and_inf_at_the_border_instead_of_dropping_them(ax):
    plots.norm_growth({"v": [1.0, 0.0, 0.0, np.inf, np.nan]}, ax=ax, factors={"ρ = 0": 0.0})
    zero, lost = labelled(ax, "exactly 0")[0], labelled(ax, "not finite")[0]
    np.testing.assert_array_equal(zero.get_xdata(), [1, 2])
    np.testing.assert_array_equal(lost.get_xdata(), [3, 4])
    assert np.isnan(labelled(ax, "v")[0].get_ydata()[1:]).all()
    np.testing.assert_array_equal(labelled(ax, "ρ")[0].get_ydata(), [1] + [np.nan] * 4)


def test_curves_of_norm_growth_differ_in_dash_and_marker_not_in_color_alone(ax):
    curves = {name: [1.0, 2.0] for name in "abc"}
    plots.norm_growth(curves, ax=ax, factors={"r": 1.0, "s": 2.0})
    lines = [labelled(ax, name)[0] for name in "abc"]
    assert len({line.get_linestyle() for line in lines}) == 3
    assert len({line.get_marker() for line in lines}) == 3
    dashes = [labelled(ax, name)[0]._unscaled_dash_pattern for name in "rs"]
    assert dashes[0] != dashes[1]


def test_norm_growth_names_what_is_wrong(ax):
    with pytest.raises(ValueError, match="curves is empty"):
        plots.norm_growth({}, ax=ax)
    with pytest.raises(ValueError, match=r"curves\['v'\].*\(2, 2\)"):
        plots.norm_growth({"v": np.ones((2, 2))}, ax=ax)
    with pytest.raises(ValueError, match=r"factors\['ρ'\]"):
        plots.norm_growth({"v": [1.0, 2.0]}, ax=ax, factors={"ρ": -0.5})


# ---------------------------------------------------------------------- seeds
def test_log_norm_paths_draws_one_line_per_seed_and_the_prediction(ax):
    paths = np.arange(15.0).reshape(3, 5)
    assert plots.log_norm_paths(paths, ax=ax, rate=-0.5, variance=0.25) is ax
    for line, row in zip(ax.lines[:3], paths, strict=True):
        np.testing.assert_array_equal(line.get_ydata(), row)
    mean, upper, lower = (line.get_ydata() for line in ax.lines[3:])
    np.testing.assert_allclose(mean, [0, -0.5, -1, -1.5, -2])
    np.testing.assert_allclose(upper - mean, np.sqrt(np.arange(5)))
    np.testing.assert_allclose(mean - lower, np.sqrt(np.arange(5)))
    assert ax.get_xlabel() and ax.get_ylabel()


def test_log_norm_paths_without_prediction_draws_the_seeds_alone(ax):
    plots.log_norm_paths(np.zeros((2, 3)), ax=ax)
    assert len(ax.lines) == 2


def test_log_norm_paths_names_what_is_wrong(ax):
    with pytest.raises(ValueError, match="log_norms"):
        plots.log_norm_paths(np.zeros(3), ax=ax)
    with pytest.raises(ValueError, match="variance="):
        plots.log_norm_paths(np.zeros((2, 3)), ax=ax, variance=1.0)
    with pytest.raises(ValueError, match="variance="):
        plots.log_norm_paths(np.zeros((2, 3)), ax=ax, rate=0.0, variance=-1.0)


# ---------------------------------------------------------------------- eigenvalues
def test_eigenvalue_plane_draws_every_eigenvalue_and_the_circles(ax):
    values = np.array([1 + 2j, 1 - 2j, -0.5])
    assert plots.eigenvalue_plane(values, ax=ax, radius=3.0, title="spectrum") is ax
    unit, outer, dots = (line.get_xydata() for line in ax.lines)
    np.testing.assert_allclose(np.linalg.norm(unit, axis=1), 1)
    np.testing.assert_allclose(np.linalg.norm(outer, axis=1), 3)
    np.testing.assert_array_equal(dots, [[1, 2], [1, -2], [-0.5, 0]])
    assert ax.get_aspect() == 1 and ax.get_title() == "spectrum"
    assert ax.lines[0].get_linestyle() != ax.lines[1].get_linestyle()


def test_eigenvalue_plane_names_what_is_wrong(ax):
    with pytest.raises(ValueError, match="eigenvalues"):
        plots.eigenvalue_plane(np.eye(2), ax=ax)
    with pytest.raises(ValueError, match="radius="):
        plots.eigenvalue_plane([1.0], ax=ax, radius=0.0)
