"""Pictures of normalization, by the data on their artists."""

import math

import numpy as np

from course_utils import plots


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


def test_what_is_left_of_a_gradient_is_at_a_right_angle_to_z_and_the_rest_along_it(ax):
    assert plots.tangent_part(25, [-0.7, 1.1], ax) is ax
    ends = {line.get_label(): np.diff(line.get_xydata(), axis=0)[0] for line in ax.lines[1:]}
    z_hat, delta = ends["ẑ"], ends["δ̂, what arrives"]
    left, removed = ends["P δ̂, what is left"], ends["removed: along ẑ"]
    assert math.isclose(z_hat @ z_hat, 3)
    assert math.isclose(z_hat[1] / z_hat[0], math.tan(math.radians(25)))
    np.testing.assert_allclose(delta, [-0.7, 1.1])
    np.testing.assert_allclose(left + removed, delta)
    assert abs(left @ z_hat) < 1e-12 and abs(np.cross([*removed, 0], [*z_hat, 0])[2]) < 1e-12
    (circle,) = ax.patches
    assert math.isclose(circle.get_radius(), math.sqrt(3))
