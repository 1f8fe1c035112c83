"""The explorer of notebook 02: its graph is PyTorch's, its paths add up to the gradient."""

import itertools

import numpy as np
import pytest
import torch

from course_utils.explorers import chain_rule as module

FUNCTIONS = {
    "tanh": torch.tanh,
    "relu": torch.relu,
    "sigmoid": torch.sigmoid,
    "linear": lambda z: z,
}
WEIGHT, X = np.array([-1.5, 0.25, 2.0]), np.array([-1.0, 0.5])
EDGES = list(module.WEIGHTS)


def forward(phi, weights, x):
    """The graph, written out."""
    a, b = phi(weights["x", "a"] * x), phi(weights["x", "b"] * x)
    c = phi(weights["a", "c"] * a + weights["b", "c"] * b)
    d = phi(weights["a", "d"] * a + weights["b", "d"] * b)
    return {
        "x": x,
        "a": a,
        "b": b,
        "c": c,
        "d": d,
        "ŷ": weights["c", "ŷ"] * c + weights["d", "ŷ"] * d,
    }


def settings(edge):
    """Every setting of the small grid as leaves of autograd, with its index."""
    for (i, w), (j, value), (k, name) in itertools.product(
        enumerate(WEIGHT), enumerate(X), enumerate(module.ACTIVATION_CHOICES)
    ):
        weights = {
            pair: torch.tensor(w if pair == edge else fixed, dtype=torch.float64)
            for pair, fixed in module.WEIGHTS.items()
        }
        weights[edge].requires_grad_()
        x = torch.tensor(value, dtype=torch.float64, requires_grad=True)
        yield (i, j, k), forward(FUNCTIONS[name], weights, x), x, weights[edge]


@pytest.mark.parametrize("edge", EDGES, ids="".join)
def test_values_paths_and_the_weight_gradient_are_those_of_autograd(edge):
    values, local, gradient = module.graph(edge, WEIGHT, X)
    assert values.shape == (3, 2, 4, 6) and local.shape == (3, 2, 4, 8)
    for index, nodes, x, w in settings(edge):
        assert values[index] == pytest.approx([nodes[n].item() for n in module.NODES], abs=1e-14)
        by_x, by_w = torch.autograd.grad(nodes["ŷ"], (x, w))
        assert module.path_products(local)[index].sum() == pytest.approx(by_x.item(), abs=1e-12)
        assert gradient[index] == pytest.approx(by_w.item(), abs=1e-12)


def test_a_local_derivative_holds_the_other_inputs_still():
    edge = ("a", "c")
    _, local, _ = module.graph(edge, WEIGHT, X)
    for (i, j, k), nodes, _, w in settings(edge):
        a, b = (nodes[n].detach().requires_grad_() for n in "ab")
        phi = FUNCTIONS[module.ACTIVATION_CHOICES[k]]
        c = phi(w * a + module.WEIGHTS["b", "c"] * b)
        expected = torch.autograd.grad(c, (a, b))
        order = [EDGES.index(pair) for pair in (("a", "c"), ("b", "c"))]
        assert local[i, j, k, order] == pytest.approx([g.item() for g in expected], abs=1e-14)


def test_the_paths_are_all_paths():
    def onward(node):
        heads = [head for tail, head in module.WEIGHTS if tail == node]
        return [(node, *rest) for head in heads for rest in onward(head)] or [(node,)]

    assert sorted(module.PATHS) == sorted(onward("x"))


def test_each_product_is_that_of_the_edges_on_its_path():
    primes = np.array([2.0, 3, 5, 7, 11, 13, 17, 19])
    factor = dict(zip(module.WEIGHTS, primes, strict=True))
    expected = [factor["x", p[1]] * factor[p[1], p[2]] * factor[p[2], "ŷ"] for p in module.PATHS]
    np.testing.assert_array_equal(module.path_products(primes), expected)


def test_two_sigmoid_slopes_make_every_path_at_least_16_times_shorter():
    choices = list(module.ACTIVATION_CHOICES)
    for edge in EDGES:
        _, local, _ = module.graph(edge, np.linspace(-2, 2, 9), np.linspace(-2, 2, 9))
        size = np.abs(module.path_products(local))
        linear, sigmoid = (size[:, :, choices.index(name)] for name in ("linear", "sigmoid"))
        assert (sigmoid <= linear / 16 + 1e-15).all()


def test_relu_closes_paths():
    choices = list(module.ACTIVATION_CHOICES)
    _, local, _ = module.graph(("x", "a"), np.array([1.5]), np.array([-1.0, 1.0]))
    closed = (module.path_products(local)[0, :, choices.index("relu")] == 0).sum(axis=-1)
    assert (closed >= 2).all()


def test_it_starts_at_the_weight_that_the_graph_has(explorer):
    tail, head = explorer.edge.split(" → ")
    assert explorer.weight == module.WEIGHTS[tail, head]


def test_a_slider_offers_every_edge_and_every_activation(explorer):
    for tail, head in module.WEIGHTS:
        explorer.edge = f"{tail} → {head}"
    for name in module.ACTIVATION_CHOICES:
        explorer.activation = name
    assert explorer.values["edge"] == "d → ŷ" and explorer.values["activation"] == "sigmoid"


def test_the_readouts_are_the_bars_and_the_gradient_at_every_setting(explorer):
    packed = explorer._packed
    grid = [range(len(values)) for values in packed.values.values()]
    rng = np.random.default_rng(0)
    for index in rng.permutation(list(itertools.product(*grid)))[:200]:
        edge = EDGES[index[0]]
        weight, x = packed.values["weight"][index[1]], packed.values["x"][index[2]]
        _, local, gradient = module.graph(edge, np.array([weight]), np.array([x]))
        products = module.path_products(local)[0, 0, index[3]]
        through = [edge in itertools.pairwise(path) for path in module.PATHS]
        expected = [
            local[0, 0, index[3], EDGES.index(edge)],
            products[through].sum(),
            products.sum(),
            gradient[0, 0, index[3]],
        ]
        _, said = packed.shown(tuple(index))
        shown = [float(line.rpartition(": ")[2].replace("−", "-")) for line in said]
        assert shown == pytest.approx(expected, abs=6e-4)


def test_the_diagram_has_each_local_derivative_on_its_edge_and_the_picked_edge_thick(explorer):
    packed = explorer._packed
    _, picked, nodes, numbers, _ = packed.spec["panels"][0]["marks"]
    for i, (tail, head) in enumerate(EDGES):
        index = (i, 3, 2, 1)
        ends = [module.NODES[tail], module.NODES[head]]
        drawn = np.stack([packed.array(picked[axis], index) for axis in "xy"], axis=-1)
        np.testing.assert_allclose(drawn, ends, rtol=1e-6)
        weight, x = packed.values["weight"][3], packed.values["x"][2]
        _, local, _ = module.graph((tail, head), np.array([weight]), np.array([x]))
        shown = packed.array(numbers["numbers"], index)
        np.testing.assert_allclose(shown, local[0, 0, 1], atol=1e-6)
        at = np.array([packed.array(numbers[axis], index)[i] for axis in "xy"])
        along = (at - ends[0]) @ np.subtract(*ends[::-1]) / np.sum(np.subtract(*ends) ** 2)
        assert 0.2 < along < 0.8
        np.testing.assert_allclose(ends[0] + along * np.subtract(*ends[::-1]), at, atol=1e-6)
    spots = np.stack([packed.array(nodes[axis], index) for axis in "xy"], axis=-1)
    np.testing.assert_allclose(spots, list(module.NODES.values()), rtol=1e-6)
