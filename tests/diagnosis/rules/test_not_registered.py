"""Weights that parameters() does not list."""

import pytest
import torch
from patients import Written, data, diagnose, heal, the
from torch import nn


def through(self, x):
    for layer in self.parts if isinstance(self.parts, list | tuple) else self.parts.values():
        x = torch.relu(layer(x))
    return self.head(x)


def layers():
    return [nn.Linear(64, 64) for _ in range(2)]


@pytest.mark.parametrize(
    ("parts", "code"),
    [
        (list, "ModuleList"),
        (tuple, "ModuleList"),
        (lambda made: {str(i): layer for i, layer in enumerate(made)}, "ModuleDict"),
    ],
)
def test_layers_in_a_container_are_named_and_the_remedy_registers_them(parts, code):
    model = Written(through, head=nn.Linear(64, 10), parts=parts(layers()))
    found = the(diagnose(model), "not_registered")
    assert found.layers == ("parts",) and code in found.remedy
    heal(model, data(), "not_registered")
    assert len(list(model.parameters())) == 6


def test_a_tensor_as_weight_and_a_scaled_parameter_are_named():
    weights = {"raw": torch.randn(64, 64).div(8).requires_grad_()}
    weights["scaled"] = nn.Parameter(torch.randn(64, 64)) * 0.1
    for name, weight in weights.items():
        model = Written(
            lambda self, x: self.head(torch.tanh(x @ self.weight)),
            head=nn.Linear(64, 10),
            weight=weight,
        )
        assert the(diagnose(model), "not_registered").layers == ("weight",), name
        heal(model, data(), "not_registered")
        assert diagnose(model).healthy


def test_a_model_without_parameters_is_not_called_frozen():
    found = diagnose(nn.Tanh(), (torch.randn(8, 4), torch.randn(8, 4)), nn.functional.mse_loss)
    assert found.kinds == {"not_registered"} and "frozen" not in str(found)


def test_a_teacher_in_a_list_and_a_batch_that_takes_a_gradient_are_healthy():
    def forward(self, x):
        with torch.no_grad():
            target = self.teacher[0](x)
        return self.head(x) - target

    model = Written(forward, head=nn.Linear(64, 10), teacher=[nn.Linear(64, 10)])
    x, y = data()
    assert diagnose(model, (x.requires_grad_(), y)).healthy
