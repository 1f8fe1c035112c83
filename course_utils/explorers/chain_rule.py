"""Explorer of notebook 02: a small graph, its local derivatives, and every path through it."""

from itertools import pairwise

import numpy as np
import torch

from ..activations import ACTIVATIONS
from .grid import GridExplorer
from .spec import Bars, Line, Panel, Points, Readout, Slider, Text

NODES = {
    "x": (0.0, 0.0),
    "a": (1.0, 0.7),
    "b": (1.0, -0.7),
    "c": (2.0, 0.7),
    "d": (2.0, -0.7),
    "ŷ": (3.0, 0.0),
}
"""Each node and where it is drawn, in an order in which every tail stands before its head."""

WEIGHTS = {
    ("x", "a"): 1.5,
    ("x", "b"): -1.0,
    ("a", "c"): 1.0,
    ("a", "d"): -0.5,
    ("b", "c"): 0.5,
    ("b", "d"): 1.0,
    ("c", "ŷ"): 1.0,
    ("d", "ŷ"): 1.5,
}
"""Each edge (tail, head) and the weight it has while another edge is picked."""

PATHS = tuple(("x", first, second, "ŷ") for first in "ab" for second in "cd")
ACTIVATION_CHOICES = ("linear", "tanh", "relu", "sigmoid")


def chain_rule_explorer() -> GridExplorer:
    """Explorer of notebook 02: pick an edge of a small graph and change its weight.

    The graph is a network of scalars, x → (a, b) → (c, d) → ŷ. A hidden node is φ of the weighted
    sum of its tails, and ŷ is the sum itself. The diagram has the value of every node and the
    local derivative φ′(z) w of every edge, with z the preactivation of its head; the picked edge
    is thick. The bars are the products of the local derivatives along the four paths, and their
    sum ∂ŷ/∂x. A dot marks each path that runs through the picked edge. Readouts are the local
    derivative of the picked edge, what all paths through it contribute, their sum over all
    paths, and the gradient ∂ŷ/∂w of the picked weight.

    Returns:
        The explorer, with the traits `edge`, `weight`, `x` and `activation`.
    """
    weight, x = np.linspace(-2, 2, 17), np.linspace(-2, 2, 9)
    settings = [graph(edge, weight, x) for edge in WEIGHTS]  # one array (weight, x, φ, …) each
    values, local, slopes = (np.stack(part) for part in zip(*settings, strict=True))
    products = path_products(local)
    through = np.array([[edge in pairwise(path) for path in PATHS] for edge in WEIGHTS])
    marked = np.where(through[:, None, None, None, :], products, np.nan)
    each = np.arange(len(WEIGHTS))
    own = local[each, ..., each]
    names = ["→".join(path[1:-1]) for path in PATHS]
    ends = np.array([[NODES[tail], NODES[head]] for tail, head in WEIGHTS])
    crossing = [tail in "ab" and tail + head not in ("ac", "bd") for tail, head in WEIGHTS]
    along = np.where(crossing, 0.3, 0.5)[:, None]  # where on its edge a number stands
    place = ends[:, 0] + along * (ends[:, 1] - ends[:, 0])
    broken = np.insert(ends, 2, np.nan, axis=1).reshape(-1, 2)  # NaN lifts the pen between edges
    spots = np.array(list(NODES.values()))
    above = np.select([spots[:, 1] < 0, spots[:, 1] > 0], [-0.27, 0.27], 0.6)  # clear of edges
    pick = ends[:, None, None, None]
    return GridExplorer(
        title="Where does each factor of the gradient come from?",
        sliders=(
            Slider("edge", "picked edge", tuple(f"{tail} → {head}" for tail, head in WEIGHTS)),
            Slider("weight", "its weight w", weight.tolist(), start=14, format=".2f"),
            Slider("x", "input x", x.tolist(), start=5, format=".1f"),
            Slider("activation", "activation φ", ACTIVATION_CHOICES),
        ),
        panels=(
            Panel(
                title="Local derivative on every edge",
                xlabel="",
                ylabel="",
                marks=(
                    Line(broken[:, 0], broken[:, 1], color=6, width=1.2),
                    Line(pick[..., 0], pick[..., 1], "picked edge", color=1, width=5),
                    Points(spots[:, 0], spots[:, 1], color=0, size=18, hollow=True),
                    Text(place[:, 0], place[:, 1], local, format=".2f", color=6),
                    Text(
                        spots[:, 0],
                        spots[:, 1] + above,
                        values,
                        format=".2f",
                        color=0,
                        prefix=tuple(f"{name} = " for name in NODES),
                    ),
                ),
                xlim=(-0.35, 3.35),
                ylim=(-1.05, 1.2),
                axes=False,
            ),
            Panel(
                title="Product along every path",
                xlabel="hidden nodes on the path from x to ŷ",
                ylabel="product of local derivatives",
                marks=(
                    Bars(
                        (*names, "sum"),
                        np.concatenate([products, products.sum(-1, keepdims=True)], axis=-1),
                        "product",
                    ),
                    Points(np.arange(4), marked, "through the picked edge", color=1),
                ),
            ),
        ),
        readouts=(
            Readout("local derivative of the picked edge, φ′(z) w", own, ".3f"),
            Readout("through the picked edge", np.nansum(marked, -1), ".3f"),
            Readout("∂ŷ/∂x, the sum over all paths", products.sum(-1), ".3f"),
            Readout("∂ŷ/∂w of the picked edge", slopes, ".3f"),
        ),
    )


def graph(
    edge: tuple[str, str], weight: np.ndarray, x: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Values, local derivatives and the gradient of the picked weight, at every setting.

    Args:
        edge: The picked edge, a key of `WEIGHTS`.
        weight: Weights the picked edge takes, shape (n,).
        x: Values of the input, shape (m,).

    Returns:
        With A activations: the value of every node (n, m, A, nodes); the local derivative
        φ′(z_head) w of every edge (n, m, A, edges); ∂ŷ/∂w = ∂ŷ/∂z_head · h_tail of the picked
        edge (n, m, A), by equations 4 and 5 of the notebook.
    """
    shape = (len(weight), len(x), len(ACTIVATION_CHOICES))
    w = {pair: np.broadcast_to(fixed, shape) for pair, fixed in WEIGHTS.items()}
    w[edge] = np.broadcast_to(weight[:, None, None], shape)
    value = {"x": np.broadcast_to(x[None, :, None], shape)}
    slope = {"ŷ": np.ones(shape)}
    for node in list(NODES)[1:]:
        z = sum(w[tail, head] * value[tail] for tail, head in WEIGHTS if head == node)
        value[node], slope[node] = (z, slope["ŷ"]) if node == "ŷ" else _activate(z)
    local = {(tail, head): slope[head] * w[tail, head] for tail, head in WEIGHTS}
    delta = {"ŷ": np.ones(shape)}  # ∂ŷ/∂(node), by one backward sweep
    for node in reversed(list(NODES)[:-1]):
        delta[node] = sum(delta[head] * local[tail, head] for tail, head in WEIGHTS if tail == node)
    tail, head = edge
    gradient = delta[head] * slope[head] * value[tail]
    return (
        np.stack([value[node] for node in NODES], axis=-1),
        np.stack([local[pair] for pair in WEIGHTS], axis=-1),
        gradient,
    )


def path_products(local: np.ndarray) -> np.ndarray:
    """Product of the local derivatives along every path of `PATHS`.

    Args:
        local: Local derivatives, shape (…, edges), edges in the order of `WEIGHTS`.

    Returns:
        The products, shape (…, paths).
    """
    order = {edge: i for i, edge in enumerate(WEIGHTS)}
    along = [[order[edge] for edge in pairwise(path)] for path in PATHS]
    return local[..., along].prod(axis=-1)


def _activate(z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """φ(z) and φ′(z), shape (n, m, activations), each activation on its slice of z."""
    slices = torch.from_numpy(np.ascontiguousarray(z)).unbind(-1)
    chosen = [ACTIVATIONS[name] for name in ACTIVATION_CHOICES]
    values = [phi.function(part).numpy() for phi, part in zip(chosen, slices, strict=True)]
    slopes = [phi.slope(part).numpy() for phi, part in zip(chosen, slices, strict=True)]
    return np.stack(values, axis=-1), np.stack(slopes, axis=-1)
