"""Pictures of matrices, by the data on their artists."""

import numpy as np
import pytest
from plot_readings import labelled

from course_utils import plots

W = np.array([[2.0, 3.0], [4.0, 5.0]])


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


def test_the_circle_vectors_v1_and_v2_are_sent_to_the_half_axes_with_their_marker(ax):
    plots.matrix_ellipse(W, ax=ax)
    ends = labelled(ax, "half-axis")
    for i, end in enumerate(ends):
        (v,) = labelled(ax, f"v{'₁₂'[i]}, sent to")
        assert v.get_marker() == end.get_marker()
        assert np.linalg.norm(v.get_xydata()[1]) == pytest.approx(1)
        np.testing.assert_allclose(W @ v.get_xydata()[1], end.get_xydata()[1], atol=1e-12)


# ------------------------------------------------------------- what turns, and an area
def test_every_arrow_is_the_image_of_a_unit_vector_and_eigenvectors_stay_on_their_line(ax):
    assert plots.turned_vectors(W, ax=ax, title="W") is ax
    ends = [line.get_xydata()[1] for line in ax.lines[:32]]
    before, after = np.array(ends[::2]), np.array(ends[1::2])
    np.testing.assert_allclose(np.linalg.norm(before, axis=1), 1)
    np.testing.assert_allclose(after, before @ W.T)
    for line, value in zip(
        labelled(ax, "Wv ="), ((7 + 57**0.5) / 2, (7 - 57**0.5) / 2), strict=True
    ):
        end = line.get_xydata()[1]
        assert np.linalg.norm(end) == pytest.approx(abs(value))
        np.testing.assert_allclose(W @ end, value * end, atol=1e-9)
    assert ax.get_aspect() == 1 and ax.get_title() == "W"


def test_a_rotation_leaves_no_vector_on_its_line(ax):
    plots.turned_vectors([[0.0, -1.0], [1.0, 0.0]], ax=ax)
    assert not labelled(ax, "Wv =") and len(ax.lines) == 32


def test_the_image_of_the_unit_square_has_the_area_that_the_legend_says(ax):
    assert plots.unit_square_image(W, ax=ax) is ax
    square, image = (patch.get_xy()[:4] for patch in ax.patches)
    np.testing.assert_allclose(image, square @ W.T)
    x, y = image.T
    shoelace = abs(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1))) / 2
    assert ax.patches[1].get_label() == f"its image, area {shoelace:.3g}" == "its image, area 2"
    for i in range(2):
        np.testing.assert_array_equal(labelled(ax, f"column {i + 1}")[0].get_xydata()[1], W[:, i])


@pytest.mark.parametrize("name", ["matrix_ellipse", "turned_vectors", "unit_square_image"])
@pytest.mark.parametrize("wrong", [np.eye(3), [[1.0, np.nan], [0.0, 1.0]], [1.0, 2.0]])
def test_only_a_finite_two_by_two_matrix_is_drawn(ax, name, wrong):
    with pytest.raises(ValueError, match="must be a finite matrix"):
        getattr(plots, name)(wrong, ax=ax)


# --------------------------------------------------------------------- growth factors
def test_growth_factors_stand_in_the_row_of_their_network_and_zero_at_the_edge(ax):
    rows = {"first": {"ρ": 0.0, "g": 2.0}, "second": {"ρ": 1.5, "g": 0.5}}
    assert plots.growth_factors(rows, ax=ax, measured="g") is ax
    assert labelled(ax, "ρ")[0].get_xydata().tolist() == [[1.5, 1.0]]
    (zero,) = labelled(ax, "ρ, exactly 0")
    assert zero.get_ydata().tolist() == [0] and zero.get_transform() != ax.transData
    assert labelled(ax, "g")[0].get_xydata().tolist() == [[2.0, 0.0], [0.5, 1.0]]
    assert labelled(ax, "g")[0].get_marker() == "D"
    assert [text.get_text() for text in ax.get_yticklabels()] == ["first", "second"]
    assert ax.get_xscale() == "log" and ax.get_ylim()[0] > ax.get_ylim()[1]


@pytest.mark.parametrize(
    "wrong", [{}, {"a": {"ρ": -1.0}}, {"a": {"ρ": np.inf}}, {"a": {"ρ": 1.0}, "b": {"σ": 1.0}}]
)
def test_growth_factors_that_cannot_be_drawn_are_refused(ax, wrong):
    with pytest.raises(ValueError, match="factors"):
        plots.growth_factors(wrong, ax=ax)
