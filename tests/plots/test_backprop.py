"""Pictures of backpropagation: what is drawn is what was handed in."""

import matplotlib
import numpy as np
import pytest

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.colors import to_hex

from course_utils import plots
from course_utils.plots.style import COLORS

NODES = {"x": (0, 0), "u": (1, 1), "y": (2, 0)}
EDGES = {("x", "u"): "6", ("u", "y"): "15", ("x", "y"): "2"}


@pytest.fixture
def ax():
    figure, axes = plt.subplots()
    yield axes
    plt.close(figure)


def labeled(ax):
    return {line.get_label(): line for line in ax.lines}


def arrows(ax):
    return [text for text in ax.texts if getattr(text, "arrow_patch", None)]


def said(ax):
    return [text.get_text() for text in ax.texts if text.get_text()]


def test_a_graph_has_every_node_at_its_place_and_every_label(ax):
    assert plots.graph_diagram(NODES, EDGES, ax, labels={"u": "u = 9"}) is ax
    np.testing.assert_array_equal(ax.collections[0].get_offsets(), list(NODES.values()))
    assert sorted(said(ax)) == sorted(["6", "15", "2", "x", "u = 9", "y"])
    assert not ax.axison


def test_a_label_of_seven_characters_stays_inside_its_circle(ax):
    plots.graph_diagram(NODES, EDGES, ax, labels={"u": "y = 135"})
    ax.figure.canvas.draw()
    label = next(text for text in ax.texts if text.get_text() == "y = 135").get_window_extent()
    diameter = ax.collections[0].get_sizes()[0] ** 0.5 * ax.figure.dpi / 72
    assert np.hypot(label.width, label.height) < 0.8 * diameter  # clear of the line


def test_an_arrow_leads_from_tail_to_head(ax):
    plots.graph_diagram(NODES, EDGES, ax)
    assert [(tuple(text.xyann), tuple(text.xy)) for text in arrows(ax)] == [
        ((0, 0), (1, 1)),
        ((1, 1), (2, 0)),
        ((0, 0), (2, 0)),
    ]


def test_a_highlighted_edge_is_thicker_and_of_another_color(ax):
    plots.graph_diagram(NODES, EDGES, ax, highlight=[("u", "y")])
    widths = [text.arrow_patch.get_linewidth() for text in arrows(ax)]
    assert widths[1] > widths[0] == widths[2]
    colors = [to_hex(text.arrow_patch.get_edgecolor()) for text in arrows(ax)]
    assert colors[1] != colors[0] == colors[2]


@pytest.mark.parametrize(
    ("edges", "highlight", "word"),
    [({("x", "w"): "1"}, [], "'w'"), (EDGES, [("y", "x")], "highlight")],
)
def test_a_graph_with_an_unknown_end_is_refused(ax, edges, highlight, word):
    with pytest.raises(ValueError, match=word):
        plots.graph_diagram(NODES, edges, ax, highlight=highlight)


def test_a_bar_reaches_from_one_to_its_factor_and_the_dot_is_the_product(ax):
    slope, weight = np.array([0.25, 0.5]), np.array([2.0, 0.8])
    assert plots.layer_factors(slope, weight, ax, title="tanh") is ax
    bars = {box.get_label(): box.patches for box in ax.containers}
    for name, factors in (("weights Wᵀ", weight), ("slopes φ′", slope)):
        np.testing.assert_allclose([p.get_y() for p in bars[name]], 1)
        np.testing.assert_allclose([p.get_y() + p.get_height() for p in bars[name]], factors)
    np.testing.assert_allclose(labeled(ax)["both"].get_ydata(), slope * weight)
    np.testing.assert_array_equal(labeled(ax)["both"].get_xdata(), [1, 2])
    assert ax.get_yscale() == "log" and ax.get_title() == "tanh"


@pytest.mark.parametrize(
    ("slope", "weight", "word"),
    [([0.5], [1.0, 2.0], "shape"), ([0.0], [1.0], "slope_factor"), ([1.0], [np.nan], "weight_f")],
)
def test_factors_that_do_not_fit_a_log_axis_are_refused(ax, slope, weight, word):
    with pytest.raises(ValueError, match=word):
        plots.layer_factors(slope, weight, ax)


def test_step_errors_are_drawn_as_they_are_on_two_log_axes(ax):
    steps, error = np.array([1e-3, 1e-2, 1e-1]), np.array([1e-6, 1e-4, 1e-2])
    assert plots.step_errors(steps, {"central": error}, ax) is ax
    np.testing.assert_array_equal(labeled(ax)["central"].get_xdata(), steps)
    np.testing.assert_array_equal(labeled(ax)["central"].get_ydata(), error)
    assert ax.get_xscale() == ax.get_yscale() == "log"


def test_an_error_of_zero_is_marked_not_dropped(ax):
    plots.step_errors([1e-2, 1e-1], {"complex": [0.0, 1e-3]}, ax)
    assert np.isnan(labeled(ax)["complex"].get_ydata()[0])
    np.testing.assert_array_equal(labeled(ax)["complex: error 0"].get_xdata(), [1e-2])


@pytest.mark.parametrize("slope", [2, 1, -1])
def test_a_guide_has_its_slope_and_passes_through_its_point(ax, slope):
    plots.step_errors([1e-3, 1e-1], {"a": [1.0, 1.0]}, ax, slopes=[(slope, 1e-2, 1e-5)])
    x, y = (np.log10(v) for v in labeled(ax)["_guide"].get_data())
    np.testing.assert_allclose(np.polyfit(x, y, 1), [slope, -5 + 2 * slope])
    assert said(ax) == [f"slope {'−' * (slope < 0)}{abs(slope)}"]


def test_a_best_step_is_a_vertical_line_in_the_color_of_its_curve(ax):
    plots.step_errors([1e-3, 1e-1], {"a": [1, 1], "b": [1, 1]}, ax, best={"b": 2e-2})
    line = ax.lines[-1]
    np.testing.assert_array_equal(line.get_xdata(), [2e-2, 2e-2])
    assert line.get_color() == labeled(ax)["b"].get_color() == COLORS[1]
    assert "best step, b" in [text.get_text() for text in ax.get_legend().get_texts()]


@pytest.mark.parametrize(
    ("errors", "best", "word"), [({"a": [1.0]}, {}, "shape"), ({"a": [1, 1]}, {"b": 1}, "best")]
)
def test_step_errors_that_do_not_fit_are_refused(ax, errors, best, word):
    with pytest.raises(ValueError, match=word):
        plots.step_errors([1e-3, 1e-1], errors, ax, best=best)


def test_loss_slopes_are_drawn_by_size(ax):
    z = np.array([-2.0, 0.0, 2.0])
    assert plots.loss_slopes(z, {"a": [-0.5, -0.1, 0.0]}, ax, mark=-1.5) is ax
    np.testing.assert_array_equal(labeled(ax)["a"].get_ydata(), [0.5, 0.1, np.nan])
    np.testing.assert_array_equal(ax.lines[-1].get_xdata(), [-1.5, -1.5])
    assert ax.get_yscale() == "log"


def test_each_expected_loss_has_a_dot_at_its_minimum(ax):
    p = np.linspace(0, 1, 11)
    curves = {"square": (p - 0.3) ** 2, "linear": p}
    assert plots.expected_losses(p, curves, 0.3, ax) is ax
    np.testing.assert_array_equal(labeled(ax)["square"].get_ydata(), curves["square"])
    dots = [line for line in ax.lines if line.get_label() == "_minimum"]
    assert [float(np.squeeze(dot.get_xdata())) for dot in dots] == [p[3], 0.0]
    np.testing.assert_array_equal(ax.lines[-1].get_xdata(), [0.3, 0.3])


@pytest.mark.parametrize("draw", ["loss_slopes", "expected_losses"])
def test_a_curve_of_another_length_is_refused(ax, draw):
    extra = {"truth": 0.3} if draw == "expected_losses" else {}
    with pytest.raises(ValueError, match="'a'"):
        getattr(plots, draw)([0.1, 0.2], {"a": [1.0]}, ax=ax, **extra)


def test_a_scan_has_a_dot_for_every_run_and_a_cross_for_one_that_diverged(ax):
    after = np.array([[1.0, 2.0], [3.0, np.nan]])
    lines = plots.lr_scan([0.1, 0.2], [10, 20], after, ax, limit=0.15, floor=0.5) and labeled(ax)
    dots = lines["after training"].get_data()
    assert list(zip(*dots, strict=True)) == [(0.1, 1), (0.1, 2), (0.2, 3)]
    np.testing.assert_array_equal(lines["diverged"].get_xdata(), [0.2])
    np.testing.assert_array_equal(lines["before training"].get_ydata(), [15, 15])
    np.testing.assert_array_equal(lines["output 0"].get_ydata(), [0.5, 0.5])
    np.testing.assert_array_equal(lines["predicted limit"].get_xdata(), [0.15, 0.15])


def test_a_scan_of_another_shape_is_refused(ax):
    with pytest.raises(ValueError, match="after"):
        plots.lr_scan([0.1, 0.2], [10, 20], [[1.0, 2.0]], ax)


def test_without_axes_the_current_ones_are_drawn_on(ax):
    plt.sca(ax)
    assert plots.graph_diagram(NODES, EDGES) is ax
    assert plots.layer_factors([0.5], [1.0]) is ax
    assert plots.loss_slopes([0.0], {"a": [1.0]}) is ax
