"""Pictures of notebook 05, by the data on their artists."""

import matplotlib as mpl
import numpy as np
import pytest

mpl.use("Agg")
import matplotlib.pyplot as plt

from course_utils import plots


@pytest.fixture
def ax():
    figure, axes = plt.subplots()
    yield axes
    plt.close(figure)


def labelled(ax, start):
    return [line for line in ax.lines if str(line.get_label()).startswith(start)]


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


@pytest.mark.parametrize(
    ("layers", "options", "message"),
    [
        ([], {}, "layers is empty"),
        ([[1.0, np.nan]], {}, r"layers\[1\]"),
        ([[]], {}, r"layers\[1\]"),
        ([[1.0]], {"reach": 0.0}, "reach=0.0"),
        ([[1.0]], {"bins": 2}, "bins=2"),
        ([[1.0]], {"bins": True}, "bins=True"),
    ],
)
def test_layer_histograms_names_what_is_wrong(ax, layers, options, message):
    with pytest.raises(ValueError, match=message):
        plots.layer_histograms(layers, ax=ax, **options)


# ---------------------------------------------------------------------- sizes
def test_scale_by_layer_draws_geometric_mean_band_and_theory(ax):
    sizes = np.array([[1.0, 4.0, 1e-9], [1.0, 16.0, 1e-7]])
    theory = [1.0, 8.0, 1e-8]
    assert plots.scale_by_layer({"a": sizes}, ax=ax, predicted={"a": theory}, first=1) is ax
    (line,) = labelled(ax, "a")
    np.testing.assert_allclose(line.get_xdata(), [1, 2, 3])
    np.testing.assert_allclose(line.get_ydata(), [1, 8, 1e-8])
    band = ax.collections[0].get_paths()[0].vertices[:, 1]
    assert band.min() == pytest.approx(1e-9) and band.max() == pytest.approx(16)
    (dashed,) = labelled(ax, "theory")
    np.testing.assert_array_equal(dashed.get_ydata(), theory)
    assert ax.get_yscale() == "log"


def test_theory_has_one_entry_in_the_legend_and_its_own_name_where_it_has_one(ax):
    sizes = np.ones((2, 3))
    plots.scale_by_layer(
        {"a": sizes, "b": sizes}, ax=ax, predicted={"a": [1, 1], "b": [2, 2], "1/(2l)": [1, 0.5]}
    )
    texts = [text.get_text() for text in ax.get_legend().get_texts()]
    assert texts == ["a", "b", "theory", "1/(2l)"]


def test_every_named_theory_has_a_line_style_of_its_own(ax):
    named = {"a": [1, 1], "recursion": [1, 0.3], "1/(2l)": [0.5, 0.25], "another": [2, 1]}
    plots.scale_by_layer({"a": np.ones((2, 2)), "b": np.ones((2, 2))}, ax=ax, predicted=named)
    black = [line for line in ax.lines if line.get_color() == "black"]
    patterns = {str(line._unscaled_dash_pattern) for line in black}
    assert len(black) == len(patterns) == 4


def test_scale_by_layer_names_what_is_wrong(ax):
    with pytest.raises(ValueError, match="measured is empty"):
        plots.scale_by_layer({}, ax=ax)
    with pytest.raises(ValueError, match=r"measured\['a'\].*\(3,\)"):
        plots.scale_by_layer({"a": np.ones(3)}, ax=ax)
    with pytest.raises(ValueError, match=r"measured\['a'\].*above 0"):
        plots.scale_by_layer({"a": np.zeros((2, 2))}, ax=ax)
    with pytest.raises(ValueError, match=r"predicted\['a'\]"):
        plots.scale_by_layer({"a": np.ones((2, 2))}, ax=ax, predicted={"a": np.ones((2, 2))})


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


def test_phase_diagram_names_what_is_wrong(ax):
    with pytest.raises(ValueError, match="edges is empty"):
        plots.phase_diagram({}, ax=ax)
    with pytest.raises(ValueError, match=r"edges\['tanh'\].*\(3,\)"):
        plots.phase_diagram({"tanh": [1, 2, 3]}, ax=ax)


# ---------------------------------------------------------------------- trainable depth
def test_depth_accuracy_draws_mean_and_range_over_seeds(ax):
    accuracies = np.array([[0.8, 1.0], [0.1, 0.4]])
    curves = {"a": ([4, 8], accuracies), "b": ([2], [[0.5]])}
    assert plots.depth_accuracy(curves, ax=ax, threshold=0.5) is ax
    container = ax.containers[0]
    np.testing.assert_allclose(container.lines[0].get_xydata(), [[4, 0.9], [8, 0.25]])
    bars = [segment[:, 1] for segment in container.lines[2][0].get_segments()]
    np.testing.assert_allclose(bars, [[0.8, 1.0], [0.1, 0.4]])
    assert any(np.allclose(line.get_ydata(), 0.5) for line in ax.lines[-1:])
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["a", "b"]


def test_depth_accuracy_names_what_is_wrong(ax):
    with pytest.raises(ValueError, match="curves is empty"):
        plots.depth_accuracy({}, ax=ax)
    with pytest.raises(ValueError, match=r"curves\['a'\]"):
        plots.depth_accuracy({"a": ([1, 2], [[0.5]])}, ax=ax)


# ---------------------------------------------------------------------- singular values
def test_singular_spectrum_sorts_and_says_the_condition_number(ax):
    assert plots.singular_spectrum({"W": [1.0, 100.0, 10.0]}, ax=ax) is ax
    (line,) = labelled(ax, "W")
    np.testing.assert_allclose(line.get_xydata(), [[1 / 6, 100], [0.5, 10], [5 / 6, 1]])
    assert "1.0e+02" in line.get_label()
    assert ax.get_yscale() == "log" and ax.get_xlabel() and ax.get_ylabel()


def test_singular_spectrum_names_what_is_wrong(ax):
    with pytest.raises(ValueError, match="spectra is empty"):
        plots.singular_spectrum({}, ax=ax)
    with pytest.raises(ValueError, match=r"spectra\['W'\].*\(2, 2\)"):
        plots.singular_spectrum({"W": np.ones((2, 2))}, ax=ax)
    with pytest.raises(ValueError, match="above 0"):
        plots.singular_spectrum({"W": [1.0, 0.0]}, ax=ax)


def test_curves_differ_in_dash_and_marker_not_in_color_alone(ax):
    plots.singular_spectrum({name: [1.0, 2.0] for name in "abc"}, ax=ax)
    lines = [labelled(ax, name)[0] for name in "abc"]
    assert len({line.get_linestyle() for line in lines}) == 3
    assert len({line.get_marker() for line in lines}) == 3
