"""Pictures of normalization, by the data on their artists."""

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
