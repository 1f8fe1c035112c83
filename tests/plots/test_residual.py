"""Pictures of residual networks, by the data on their artists."""

import numpy as np

from course_utils import plots

ACCURACY = [[0.94, 0.101], [0.5, 0.62]]
RATIO = [[1.0, 3e-7], [0.0, 2.5e4]]


def test_each_cell_of_the_map_says_its_accuracy_and_its_gradient_ratio(ax):
    assert plots.remedy_map(ACCURACY, RATIO, ["one", "two"], [2, 50], ax) is ax
    (image,) = ax.images
    np.testing.assert_array_equal(image.get_array(), ACCURACY)
    assert (image.norm.vmin, image.norm.vmax) == (0, 1)
    texts = {text.get_position(): text.get_text() for text in ax.texts}
    assert texts == {
        (0, 0): "0.94\n$10^{0.0}$",
        (1, 0): "0.10\n$10^{-6.5}$",
        (0, 1): "0.50\n0",
        (1, 1): "0.62\n$10^{4.4}$",
    }
    assert [tick.get_text() for tick in ax.get_yticklabels()] == ["one", "two"]
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["2", "50"]
    dark = {text.get_position(): text.get_color() for text in ax.texts}
    assert dark[0, 0] == "black" and dark[1, 0] == "white"


def test_a_block_has_a_box_for_each_part_in_its_order_and_the_sum_above_the_branch(ax):
    look = {"title": "post", "scale": "α", "behind": ["ReLU"]}
    assert plots.residual_block(["matrix", "norm"], ax, **look) is ax
    texts = {text.get_text(): text.get_position() for text in ax.texts if text.get_text()}
    assert set(texts) == {"matrix", "norm", "+", "α", "ReLU", "$x_{l-1}$", "$x_l$"}
    assert len(ax.patches) == 3 and ax.get_title() == "post"
    heights = [texts[name][1] for name in ("$x_{l-1}$", "matrix", "norm", "+", "ReLU", "$x_l$")]
    assert heights == sorted(heights) and texts["α"][1] == texts["+"][1]
    assert texts["+"][0] == texts["ReLU"][0] < texts["α"][0]
    assert texts["matrix"][0] == texts["norm"][0] == texts["α"][0]


def test_a_block_without_a_scale_shows_none(ax):
    plots.residual_block(["norm", "ReLU", "matrix"], ax)
    assert {t.get_text() for t in ax.texts} >= {"+", "norm"} and len(ax.patches) == 3
    assert "α" not in {t.get_text() for t in ax.texts}
