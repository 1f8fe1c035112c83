"""What one layer multiplies a gradient by, against the layer itself."""

import math

import pytest
import torch
import torch.nn.functional as F
from patients import data, passed
from torch import nn

import course_utils as cu
from course_utils.diagnosis.factors import factorize, typical
from course_utils.diagnosis.graph import follow, transmitted
from course_utils.diagnosis.layer_calls import CallRecorder


@pytest.mark.parametrize(
    ("options", "between", "weights"),
    [
        ({"activation": "sigmoid", "init": "xavier"}, 0.236, 1.0),
        ({"activation": "relu", "init": "torch_default"}, 0.5**0.5, 3**-0.5),
        ({"activation": "tanh", "init": "normal", "std": 0.01}, 1.0, 0.01 * 256**0.5),
        ({"activation": "tanh", "init": "he", "gain": 3.0}, 0.455, 3.0),
    ],
)
def test_the_factor_is_slope_times_weights_within_two_and_a_half_percent(options, between, weights):
    model = cu.mlp(12, 256, inputs=256, generator=cu.seeded(2), **options)
    found = passed(model, data(64, 256))
    edges = [(call, path) for call, path in found.paths.items() if path.chain]
    factors = factorize(edges, found)
    pairs = [(path.parents[0], call) for call, path in edges]
    measured_between = typical(before.grad_out / call.grad_in for before, call in pairs)
    measured_weights = typical(before.grad_in / before.grad_out for before, _ in pairs)
    assert measured_between == pytest.approx(factors.between, rel=0.025)
    assert measured_weights == pytest.approx(factors.weights, rel=0.025)
    assert factors.between == pytest.approx(between, rel=0.025)
    assert factors.weights == pytest.approx(weights, rel=0.025)


@pytest.mark.parametrize(
    "layer",
    [
        nn.Linear(40, 30),
        nn.Conv1d(6, 9, 3, padding=1),
        nn.Conv2d(6, 8, 3, padding=1),
        nn.Conv2d(8, 4, 5, stride=2, padding=2, dilation=1),
        nn.Conv2d(4, 8, 3, padding="same", groups=2),
        nn.Conv2d(3, 5, 3, padding="valid", dilation=2),
        nn.Conv3d(2, 3, 3, stride=2),
    ],
)
def test_the_weight_factor_is_what_random_gradients_are_multiplied_by(layer):
    sizes = {nn.Linear: (64, 40), nn.Conv1d: (64, 6, 20)}
    spatial = {nn.Conv2d: (11, 9), nn.Conv3d: (7, 6, 5)}
    kind = type(layer)
    shape = sizes.get(kind) or (64, layer.in_channels, *spatial[kind])
    torch.manual_seed(0)
    for parameter in layer.parameters():
        nn.init.normal_(parameter)
    x = torch.randn(shape, requires_grad=True)
    output = layer(x)
    v = torch.randn_like(output)
    (back,) = torch.autograd.grad(output, x, v)
    probe = CallRecorder(wrapper := nn.Sequential(layer))
    wrapper(x.detach())
    (call,) = probe.calls
    probe.close()
    measured = float(back.double().square().mean().sqrt() / v.double().square().mean().sqrt())
    assert call.weight_factor() == pytest.approx(measured, rel=0.04)


def test_what_a_batch_norm_and_relu_let_through_is_the_norm_of_their_jacobian():
    norm = nn.BatchNorm1d(5)
    with torch.no_grad():
        norm.weight.copy_(torch.tensor([0.3, 1.0, 2.0, -1.5, 0.7]))
    z = torch.randn(6, 5, generator=cu.seeded(8))
    jacobian = torch.autograd.functional.jacobian(lambda v: F.relu(norm(v)), z).reshape(30, 30)
    expected = float(jacobian.double().square().sum() / 30) ** 0.5
    leaf = (z.requires_grad_() * 1.0).relu_().mul(1.0)  # something before, to be walked into
    start = nn.Linear(5, 5)(leaf)
    h = F.relu(norm(z * 1.0))
    path = follow(h.grad_fn, {start.grad_fn: None})
    path.nodes = path.nodes[:2]
    values = [transmitted(path, cu.seeded(seed)) ** 2 for seed in range(400)]
    assert math.sqrt(sum(values) / 400) == pytest.approx(expected, rel=0.05)
