"""What a picture refuses: one table for the room, an error that names the argument at fault."""

import numpy as np
import pytest
import torch

from course_utils import plots
from course_utils.training import History

Z = np.linspace(-3, 3, 61)
X = np.array([1.0, 2.0, 4.0])
W, B = np.linspace(0, 2, 5), np.linspace(-1, 1, 4)
LOSS = W**2 + B[:, None] ** 2
NODES = {"x": (0, 0), "u": (1, 1)}
EDGE = {("x", "u"): "6"}
RATIO = [[1.0, 3e-7], [0.0, 2.5e4]]
NOTHING = History(*[torch.ones(0)] * 8, steps_per_epoch=2)


def cases(draw, *rows):
    """(draw, arguments, options, what the error says) from (arguments…, options, said)."""
    return [(draw, row[:-2], *row[-2:]) for row in rows]


HISTOGRAM = (
    ({}, {}, "is empty"),
    ({"a": []}, {}, r"\['a'\] is empty or holds NaN"),
    ({"a": [np.nan]}, {}, r"\['a'\] is empty or holds NaN"),
    ({"a": [1.0]}, {"bins": 0}, "bins=0"),
)
WRONG_VALUES = [
    *cases(
        plots.function_and_slope,
        (Z, {}, {}, "curves is empty"),
        (Z[::-1], {"a": (Z, Z)}, {}, "increasing"),
        (np.ones((2, 3)), {"a": (Z, Z)}, {}, "z has the shape"),
        (Z, {"a": (Z[1:], Z)}, {}, r"curves\['a'\]: φ has"),
        (Z, {"a": (Z, Z[1:])}, {}, r"curves\['a'\]: φ′ has"),
    ),
    *cases(plots.slope_histogram, *HISTOGRAM),
    *cases(
        plots.layer_histograms,
        *HISTOGRAM,
        ([[1.0]], {"reach": 0.0}, "reach=0.0 must be"),
        ([[1.0]], {"bins": 2}, "bins=2 must be"),
    ),
    *cases(
        plots.graph_diagram,
        (NODES, {("x", "w"): "1"}, {}, "'w'"),
        (NODES, EDGE, {"highlight": [("u", "x")]}, "highlight"),
    ),
    *cases(
        plots.layer_factors,
        ([0.5], [1.0, 2.0], {}, "shape"),
        ([0.0], [1.0], {}, "slope_factor"),
        ([1.0], [np.nan], {}, "weight_f"),
    ),
    *cases(
        plots.cliff_map,
        (W, B, LOSS.T, {}, "shape"),
        (W, B, LOSS * np.nan, {}, "NaN"),
        (W, B, LOSS + 1, {"paths": {"run": [1.0, 2.0]}}, "run"),
    ),
    *cases(
        plots.clipped_vectors,
        ([[1.0, 2.0]], 0.0, {}, "threshold"),
        ([[1.0, 2.0]], 1.0, {"by": "size"}, "by="),
    ),
    *cases(plots.course_map, (["00", "99"], {}, r"99.*00, 01"), ([7], {}, "7")),
    *cases(
        plots.contour_path,
        ([0, 1], [0, 1, 2], np.zeros((2, 3)), {}, {}, "values"),
        ([0, 1], [0, 1, 2], np.eye(3, 2), {"p": np.zeros(3)}, {}, "paths"),
    ),
    *cases(
        plots.format_histogram,
        ([], 1.0, 2.0, 3.0, {}, "sizes"),
        ([-1.0], 1.0, 2.0, 3.0, {}, "none below 0"),
        ([np.nan], 1.0, 2.0, 3.0, {}, "finite"),
        ([1.0], 0.0, 2.0, 3.0, {}, "smallest=0"),
        ([1.0], 3.0, 2.0, 4.0, {}, "normal=2"),
        ([1.0], 1.0, 2.0, 2.0, {}, "largest=2"),
    ),
    *cases(plots.format_numbers, (5, 2, {}, "exponent=5"), (3, 0, {}, "mantissa=0")),
    *cases(
        plots.matrix_ellipse,
        *((matrix, {}, "matrix=") for matrix in (np.eye(3), np.ones(4), [[1, np.nan], [0, 1]])),
    ),
    *cases(
        plots.remedy_map,
        ([[0.5, 0.5]], RATIO, ["one", "two"], [2, 50], {}, "shapes"),
        (RATIO, [[1.0], [1.0]], ["one", "two"], [2, 50], {}, "shapes"),
    ),
    *cases(
        plots.training_curves,
        *((wrong, {}, "histories=") for wrong in (None, 3, {}, {"a": 3}, torch.ones(3), NOTHING)),
    ),
    *cases(
        plots.curves,
        (X, {}, {}, "lines is empty"),
        (X, {"a": []}, {}, r"lines\['a'\] has the shape \(0,\)"),
        (X, {"a": 3.0}, {}, r"lines\['a'\] has the shape \(\)"),
        (X, {"a": np.ones((1, 2, 3))}, {}, r"\(N,\) or \(seeds, N\) is expected"),
        (X, {"a": [1.0, 2.0]}, {}, r"lines\['a'\] holds 2 values, but x has the shape \(3,\)"),
        (X, {"a": np.ones((3, 2))}, {}, "seeds in rows"),
        (X, {"a": ([1, 2], [1.0])}, {}, r"lines\['a'\] holds 1 values"),
        (X, {"a": X}, {"predicted": {"b": [1.0]}}, r"predicted\['b'\] holds 1 values"),
        (X, {"a": X}, {"predicted": {"a": np.ones((2, 3))}}, r"predicted\['a'\] has 2 rows"),
        (X, {"a": X}, {"spread": "run"}, "spread="),
        (X, {"a": X}, {"log": "z"}, "log="),
        (X, {"a": ([0, 1], [1, 2])}, {"log": "x"}, "x must be above 0"),
    ),
]


@pytest.mark.parametrize(("draw", "arguments", "options", "said"), WRONG_VALUES)
def test_what_does_not_fit_is_an_error_that_names_it(ax, draw, arguments, options, said):
    with pytest.raises(ValueError, match=said):
        draw(*arguments, **options)
    assert draw is not plots.curves or not ax.lines


@pytest.mark.parametrize("draw", [plots.slope_histogram, plots.layer_histograms])
@pytest.mark.parametrize("bins", [2.5, True])
def test_a_number_of_bins_that_is_no_integer_is_refused(ax, draw, bins):
    with pytest.raises(TypeError, match=f"bins={bins}"):
        draw({"a": [1.0]}, ax=ax, bins=bins)
