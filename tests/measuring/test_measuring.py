"""Slopes, numbers in JSON, tensors of a nest, layers, and the private names of torch."""

import json
import math
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from torch import nn

from course_utils.measuring import (
    from_json,
    has_weight,
    is_layer,
    line_slope,
    tensors_in,
    to_json,
    torch_internals,
)


@given(
    x=st.lists(st.integers(-99, 99), min_size=3, max_size=9, unique=True),
    y=st.lists(st.integers(-999, 999), min_size=9, max_size=9),
)
def test_a_slope_and_its_error_are_those_of_scipy(x, y):
    x, y = np.array(x, dtype=float), np.array(y[: len(x)], dtype=float)
    slope, error = line_slope(x, y)
    found = stats.linregress(x, y)
    assert slope == pytest.approx(found.slope, rel=1e-6, abs=1e-6)
    flat = np.ptp(y) == 0  # for which SciPy has no error
    assert error == pytest.approx(0.0 if flat else found.stderr, rel=1e-4, abs=1e-4)


def test_a_slope_that_nothing_decides_is_nan():
    assert all(map(math.isnan, line_slope(np.ones(4), np.arange(4.0))))
    slope, error = line_slope(np.array([0.0, 1.0]), np.array([0.0, 2.0]))
    assert slope == 2 and math.isnan(error)


@given(st.floats())
def test_a_number_survives_strict_json(number):
    text = json.dumps(to_json(number), allow_nan=False)
    back = from_json(json.loads(text))
    assert back == number or (math.isnan(back) and math.isnan(number))


@pytest.mark.parametrize("item", [True, "1", [], {}, "NaN"], ids=repr)
def test_what_is_no_number_in_json_is_refused(item):
    with pytest.raises(TypeError, match="is not a number"):
        from_json(item)


def test_every_floating_tensor_of_a_nest_is_found_with_its_path():
    @dataclass
    class Output:
        logits: object
        loss: object = None

    a, b, c, d = (torch.full((2,), float(i)) for i in range(4))
    packed = nn.utils.rnn.pack_sequence([d])
    nest = {"x": [a, (b, 3, None)], "y": Output(c), "z": torch.arange(2), "p": packed}
    found = dict(tensors_in(nest))
    assert list(found) == ["[x][0]", "[x][1][0]", "[y][logits]", "[p][data]"]
    assert [float(t[0]) for t in found.values()] == [0, 1, 2, 3]


def test_layers_are_leaves_and_what_is_computed_in_one_piece():
    model = nn.Sequential(nn.Linear(2, 2), nn.LSTM(2, 2), nn.MultiheadAttention(2, 1), nn.MSELoss())
    nn.utils.parametrizations.weight_norm(model[0])
    names = [name for name, module in model.named_modules() if name and is_layer(name, module)]
    assert {"1", "2"} <= set(names) and "3" not in names and all("param" not in n for n in names)
    assert [has_weight(module) for module in model] == [True, True, True, False]


def test_what_modules_and_parameters_hold_is_found():
    model = nn.Sequential(nn.Linear(2, 3), nn.ReLU())
    assert list(torch_internals.child_modules(model).values()) == list(model)
    assert set(torch_internals.own_parameters(model[0])) == {"weight", "bias"}
    assert torch_internals.after_accumulation(model[0].weight) is None
    handle = model[0].weight.register_post_accumulate_grad_hook(print)
    assert list(torch_internals.after_accumulation(model[0].weight)) == [handle.id]
    handle.remove()
    assert torch_internals.after_accumulation(model[0].weight) is None


def test_private_names_of_torch_do_what_they_are_called_after():
    seen = []
    leaf = torch.ones(2, requires_grad=True)
    middle = leaf * 2

    def note(grad):
        seen.append((torch_internals.current_backward(), float(grad[0])))
        torch_internals.queue_callback(lambda: seen.append("over"))

    hooks = [torch_internals.hang(tensor, note) for tensor in (middle, leaf)]
    assert torch_internals.current_backward() == -1
    before = torch_internals.sequence_number()
    assert torch_internals.moment_of((middle * 1).grad_fn) == before
    middle.sum().backward(retain_graph=True)
    assert [value for _, value in seen[:2]] == [1.0, 2.0] and seen[2:] == ["over", "over"]
    assert seen[0][0] == seen[1][0] >= 0
    for held, key in hooks:
        held.pop(key)
    middle.sum().backward()
    assert len(seen) == 4
    torch_internals.set_grad_enabled(False)
    try:
        assert not torch.is_grad_enabled()
    finally:
        torch_internals.set_grad_enabled(True)
    leaky = nn.functional.leaky_relu(leaf, 0.3).grad_fn
    assert torch_internals.saved(leaky, "negative_slope", 0) == pytest.approx(0.3)
