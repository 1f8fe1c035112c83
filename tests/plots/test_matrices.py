"""Pictures of matrices, by the data on their artists."""

import numpy as np
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
