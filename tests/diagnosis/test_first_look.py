"""What every diagnosis starts with, and how it names layers."""

import json
import math

import pytest
import torch
import torch.nn.functional as F
from patients import data, diagnose, net
from torch import nn

import course_utils as cu
from course_utils.diagnosis.names import describe, in_words


def test_the_loss_stands_beside_that_of_a_model_that_does_not_look():
    model, (x, y) = net(4), data()
    look = diagnose(model, (x, y)).first_look
    assert look.loss == pytest.approx(float(F.cross_entropy(model(x), y).detach()), rel=1e-6)
    assert look.blind_loss == pytest.approx(math.log(10))
    as_json = json.loads(json.dumps(diagnose(model, (x, y)).to_dict(), allow_nan=False))
    assert as_json["loss"] == look.loss and as_json["blind_loss"] == look.blind_loss
    for text in (str(diagnose(model)), diagnose(model)._repr_html_()):
        assert f"{look.loss:.4g}" in text and "ln 10" in text and "float32" in text


def test_a_loss_that_is_not_known_has_no_blind_one():
    look = diagnose(net(4), loss=lambda o, y: o.square().mean().sin()).first_look
    assert math.isnan(look.blind_loss) and "ignores" not in look.rows()["loss"]


def test_parameters_are_counted_as_trained_frozen_and_not_in_the_optimizer():
    model = nn.Sequential(nn.Linear(64, 5), nn.Linear(5, 10), nn.Linear(10, 10).bfloat16().float())
    model[0].requires_grad_(False)
    found = diagnose(model, optimizer=torch.optim.SGD(model[1].parameters(), lr=0.1))
    assert found.first_look.parameters == {
        "trained": 170,
        "frozen": 325,
        "not in the optimizer": 110,
    }
    assert "66% frozen" in str(found) and found.to_dict()["parameters"]["frozen"] == 325
    assert diagnose(model.half(), (data()[0].half(), data()[1])).to_dict()["formats"] == {
        "float16": 495
    }


def test_mixed_formats_are_told_apart():
    model = nn.Sequential(nn.Linear(64, 10), nn.LayerNorm(10))

    def autocast(o, y):
        return F.cross_entropy(o.float(), y)

    class Cast(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = model

        def forward(self, x):
            with torch.autocast("cpu", torch.bfloat16):
                return self.body[0](x)

    rows = cu.diagnose(Cast(), data(), loss=autocast).first_look.rows()
    assert rows["numbers"] == "float32, outputs in bfloat16"
    model[0].to(torch.float64)
    formats = diagnose(model[:1], (data()[0].double(), data()[1])).first_look.formats
    assert formats == {"float64": 650}


def test_norms_and_skips_are_told_in_a_few_words():
    plain = diagnose(net(6)).first_look.layout
    assert plain == "6 layers with weights, no norm, no skip connection"
    normed = diagnose(net(6, norm="batch")).first_look.layout
    assert "batch norm before 5 of them" in normed
    residual = net(6, skip="plain")
    assert "a skip connection before" in diagnose(residual).first_look.layout


@pytest.mark.parametrize(
    ("module", "said"),
    [
        (nn.Linear(3, 5), "Linear 3→5"),
        (nn.utils.parametrizations.weight_norm(nn.Linear(3, 5)), "Linear 3→5"),
        (nn.Conv2d(3, 8, (3, 1)), "Conv2d 3→8, 3×1"),
        (nn.ConvTranspose1d(3, 8, 2), "ConvTranspose1d 3×8×2"),
        (nn.GRU(3, 8), "GRU 3→8"),
        (nn.LayerNorm(7), "LayerNorm 7"),
        (nn.Embedding(100, 7), "Embedding 100×7"),
        (nn.LazyLinear(7), "LazyLinear"),
        (nn.ReLU(), "ReLU"),
    ],
)
def test_a_layer_is_described_by_type_and_shape(module, said):
    assert describe(module) == said


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["a"], "a (L)"),
        (["0", "2"], "0, 2 (L)"),
        ([f"h.{i}.fc" for i in range(48)], "h.0.fc … h.47.fc (48 × L)"),
        (["0", "2", "4", "6"], "0 … 6 (4 × L, in steps of 2)"),
        (["0", "1", "5"], "0 … 5 (3 × L, not all between)"),
        (["h.0.a", "h.0.b", "h.1.a", "h.1.b", "h.2.a", "h.2.b"], None),
        (["cell", "cell#2", "cell#3", "cell#4"], "cell (L), cell#2 … cell#4 (3 × L)"),
    ],
)
def test_many_layers_of_a_kind_are_a_range(names, said):
    text = in_words(names, lambda name: "L")
    assert text == (said or "h.0.a … h.2.a (3 × L), h.0.b … h.2.b (3 × L)")


def test_layers_of_other_shapes_stay_apart():
    shapes = {"0": "Linear 9→9", "1": "Linear 9→9", "2": "Linear 9→9", "3": "Linear 9→2"}
    assert in_words(shapes, shapes.__getitem__) == "0 … 2 (3 × Linear 9→9), 3 (Linear 9→2)"
