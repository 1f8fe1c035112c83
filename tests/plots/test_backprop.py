"""Pictures of backpropagation: what is drawn is what was handed in."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.colors import to_hex

from course_utils import plots

NODES = {"x": (0, 0), "u": (1, 1), "y": (2, 0)}
EDGES = {("x", "u"): "6", ("u", "y"): "15", ("x", "y"): "2"}


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


def test_without_axes_the_current_ones_are_drawn_on(ax):
    plt.sca(ax)
    assert plots.graph_diagram(NODES, EDGES) is ax
    assert plots.layer_factors([0.5], [1.0]) is ax


def test_a_label_stands_where_it_is_asked_to(ax):
    plots.graph_diagram(NODES, EDGES, ax, label_at=0.25)
    place = {text.get_text(): text.xy for text in ax.texts if text.get_text() in EDGES.values()}
    assert place == {"6": (0.25, 0.25), "15": (1.25, 0.75), "2": (0.5, 0.0)}


def test_each_bar_of_a_running_product_reaches_from_one_product_to_the_next(ax):
    factors = {"a": 0.5, "b": 4.0, "c": 0.1}
    assert plots.running_product(factors, ax, title="t") is ax
    bars = sorted((p.get_x(), p.get_y(), p.get_height()) for box in ax.containers for p in box)
    np.testing.assert_allclose([y for _, y, _ in bars], [1, 0.5, 2])
    np.testing.assert_allclose([y + height for _, y, height in bars], [0.5, 2, 0.2])
    np.testing.assert_allclose(ax.lines[0].get_ydata(), [1, 0.5, 2, 0.2])
    assert [tick.get_text() for tick in ax.get_xticklabels()] == list(factors)
    hatches = [p.get_hatch() for box in ax.containers for p in box]
    assert hatches.count("//") == 1 and ax.get_yscale() == "log"


@pytest.mark.parametrize("factors", [{}, {"a": 0.0}, {"a": np.inf}, {"a": -1.0}])
def test_a_running_product_of_what_no_log_axis_shows_is_refused(factors):
    with pytest.raises(ValueError, match="factors"):
        plots.running_product(factors)
