"""Who made the first NaN or Inf."""

import math

import pytest
import torch
import torch.nn.functional as F
from patients import Written, data, diagnose, net
from torch import nn

from course_utils.diagnosis import NonFiniteSource, first_nonfinite


@pytest.mark.parametrize(
    ("function", "operation"),
    [
        (lambda x: (-x.abs()).log(), "log"),
        (lambda x: (1e4 * x.abs() + 1e3).exp(), "exp"),
        (lambda x: x / (x - x), "div"),
        (lambda x: (-x.abs() - 1).sqrt(), "sqrt"),
    ],
)
def test_the_producer_of_a_forward_nan_is_named_with_its_operation(function, operation):
    made = Written(lambda _, x: function(x))
    model = nn.Sequential(nn.Linear(64, 8), nn.Tanh(), made, nn.Linear(8, 10), nn.ReLU())
    found = first_nonfinite(model, data(), F.cross_entropy)
    assert found[:3] == ("2", "forward", operation)
    assert diagnose(model).kinds == {"non_finite"}


@pytest.mark.parametrize(
    ("function", "operation"),
    [
        (lambda x: (0 * x).abs().sqrt() + x, "sqrt"),
        (lambda x: (0 * x).norm(dim=1, keepdim=True).pow(0.5) + x, "pow"),
    ],
)
def test_the_producer_of_a_backward_nan_is_named(function, operation):
    made = Written(lambda _, x: function(x))
    model = nn.Sequential(nn.Linear(64, 8), nn.Tanh(), made, nn.Linear(8, 10))
    found = first_nonfinite(model, data(), F.cross_entropy)
    assert found[:3] == ("2", "backward", operation)
    F.cross_entropy(model(data()[0]), data()[1]).backward()
    assert not all(bool(p.grad.isfinite().all()) for p in model.parameters())


def test_the_producer_is_not_the_layer_that_passes_it_on():
    model = net(6)
    with torch.no_grad():
        model.linear3.weight[0, 0] = math.nan
    found = first_nonfinite(model, data(), F.cross_entropy)
    assert found == NonFiniteSource("linear3", "forward", "parameter linear3.weight", "NaN")


def test_inputs_targets_and_the_loss_are_named_for_what_they_are():
    x, y = data()
    model = net(3)
    bad = x.clone()
    bad[3, 4] = math.inf
    assert first_nonfinite(model, (bad, y), F.cross_entropy).layer == "(input)"
    target = torch.full((32, 10), math.nan)
    assert first_nonfinite(model, (x, target), F.mse_loss).layer == "(target)"
    found = first_nonfinite(model, (x, y), lambda o, t: (o * 0).log().mean())
    assert found.layer == "(loss)" and found.operation == "log"
    found = first_nonfinite(model, (x, y), lambda o, t: (o * 0).abs().sqrt().sum())
    assert found[:3] == ("(loss)", "backward", "sqrt")


def test_code_between_the_layers_is_named_by_the_module_it_stands_in():
    custom = Written(
        lambda self, x: self.b(torch.log(F.relu(self.a(x)) * 0)),
        a=nn.Linear(64, 8),
        b=nn.Linear(8, 10),
    )
    found = first_nonfinite(nn.Sequential(custom), data(), F.cross_entropy)
    assert found[:3] == ("0", "forward", "log")


def test_the_mask_of_an_attention_is_no_producer():
    model = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
    mask = nn.Transformer.generate_square_subsequent_mask(6)
    batch = {"src": torch.randn(3, 6, 16), "src_mask": mask, "target": torch.randn(3, 6, 16)}
    for masked in (mask, mask == -math.inf):
        batch["src_mask"] = masked
        assert first_nonfinite(model, batch, F.mse_loss) is None
        assert diagnose(model, batch, F.mse_loss).healthy
    batch["src_mask"] = torch.full((6, 6), -math.inf)
    found = first_nonfinite(model, batch, F.mse_loss)
    assert found is None or "softmax" in found.operation or "attention" in found.operation
    batch["src"][0, 0, 0] = math.nan
    batch["src_mask"] = mask
    assert first_nonfinite(model, batch, F.mse_loss).layer == "(input)"


def test_a_row_that_is_masked_everywhere_is_the_fault_of_the_softmax():
    masked = Written(lambda _, x: (x * 0 - math.inf).softmax(1))
    found = first_nonfinite(nn.Sequential(nn.Linear(64, 10), masked), data(), F.cross_entropy)
    assert found[:3] == ("1", "forward", "softmax") and found.value == "NaN"


def test_nothing_is_found_where_everything_is_finite():
    assert first_nonfinite(net(5), data(), F.cross_entropy) is None
