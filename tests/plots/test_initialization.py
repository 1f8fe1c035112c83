"""Pictures of notebook 05, by the data on their artists."""

import numpy as np
from plot_readings import labelled

from course_utils import plots


# ---------------------------------------------------------------------- histograms
def test_each_layer_has_its_histogram_at_its_height_scaled_to_the_same_peak(ax):
    values = np.array([-0.5, 0.1, 0.1, 0.1, 0.6])
    assert plots.layer_histograms([values, 2 * values], ax=ax, reach=1.0, bins=4, title="t") is ax
    lower, upper = (patch.get_data() for patch in ax.patches)
    np.testing.assert_allclose(lower.values, 0.85 * np.array([0, 1, 3, 1]) / 3)
    np.testing.assert_allclose(lower.edges, [-1, -0.5, 0, 0.5, 1])
    # doubled, 1.2 lies beyond the picture and is counted in the last bin, −1.0 in the first
    np.testing.assert_allclose(upper.values - 1, 0.85 * np.array([1, 0, 3, 1]) / 3)
    assert [tick.get_text() for tick in ax.get_yticklabels()] == ["1", "2"]
    assert ax.get_title() == "t" and ax.get_xlabel() and ax.get_ylabel()


def test_layers_keep_their_names_and_an_explosion_is_a_spike_at_both_borders(ax):
    plots.layer_histograms({"first": [0.0], "last": [-1e9, 1e9]}, ax=ax, bins=5)
    assert [tick.get_text() for tick in ax.get_yticklabels()] == ["first", "last"]
    np.testing.assert_allclose(ax.patches[1].get_data().values - 1, [0.85, 0, 0, 0, 0.85])


# ---------------------------------------------------------------------- phase diagram
def test_phase_diagram_draws_the_edge_the_points_and_names_both_sides(ax):
    edge = np.array([[1.0, 0.0], [1.7, 0.04], [2.5, 0.3]])
    assert plots.phase_diagram({"tanh": edge, "relu": [[2, 0]]}, ax=ax, points={"He": (2, 0)}) is ax
    np.testing.assert_array_equal(labelled(ax, "edge of chaos, tanh")[0].get_xydata(), edge)
    np.testing.assert_array_equal(labelled(ax, "He")[0].get_xydata(), [[2, 0]])
    hatched = ax.collections[0].get_paths()[0].vertices
    assert hatched[:, 0].min() == 0 and hatched[:, 0].max() == 2.5
    words = " ".join(text.get_text() for text in ax.texts)
    assert "ordered" in words and "chaotic" in words
    assert ax.get_xlim() == (0, 4) and ax.get_xlabel() and ax.get_ylabel()
