"""Losses of what a norm holds fixed."""

import pytest
import torch
import torch.nn.functional as F
from patients import diagnose, the
from torch import nn

SCALES = [1e-6, 1, 1e6]


def ends_in(norm):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 32), norm)


X = torch.randn(32, 8, generator=torch.Generator().manual_seed(1))
SICK = {
    "sum": (nn.LayerNorm(32), lambda o: (0.99 * o).sum()),
    "mean square": (nn.LayerNorm(32), lambda o: o.pow(2).mean()),
    "mean": (nn.BatchNorm1d(32), lambda o: o.mean()),
    "weighted channels": (nn.BatchNorm1d(32), lambda o: (o @ torch.arange(32.0)).mean()),
    "sum of probabilities": (nn.Softmax(1), lambda o: o.sum()),
    "one number for all": (nn.LayerNorm(32), lambda o: F.mse_loss(o, torch.full_like(o, 5.0))),
}
WELL = {
    "targets": (
        nn.LayerNorm(32),
        lambda o: F.mse_loss(o, torch.linspace(-1, 1, 32).expand(32, 32)),
    ),
    "some features": (nn.LayerNorm(32), lambda o: o[:, :9].mean()),
    "some samples": (nn.BatchNorm1d(32), lambda o: o[:16].mean() - o[16:].mean()),
    "two terms": (nn.LayerNorm(32), lambda o: o.mean() + F.cross_entropy(o, torch.arange(32))),
    "weighted features": (nn.LayerNorm(32), lambda o: (o @ torch.arange(32.0)).mean()),
    "one output": (nn.BatchNorm1d(32), lambda o: o[:, 0].abs().mean()),
    "cross-entropy": (nn.LayerNorm(32), lambda o: F.cross_entropy(o, torch.arange(32))),
    "entropy": (nn.Softmax(1), lambda o: (o * o.log()).sum(1).mean()),
}


@pytest.mark.parametrize("factor", SCALES)
@pytest.mark.parametrize("name", SICK)
def test_what_the_norm_holds_fixed_has_no_gradient(name, factor):
    norm, loss = SICK[name]
    diagnosis = diagnose(ends_in(norm), X, lambda o: factor * loss(o))
    assert "holds fixed" in the(diagnosis, "zero_gradient").cause
    assert the(diagnosis, "zero_gradient").layers == ("2",)


@pytest.mark.parametrize("factor", SCALES)
@pytest.mark.parametrize("name", WELL)
def test_what_it_leaves_free_has_one(name, factor):
    norm, loss = WELL[name]
    diagnosis = diagnose(ends_in(norm), X, lambda o: factor * loss(o))
    assert "zero_gradient" not in diagnosis.kinds


def test_a_layer_between_mends_it():
    norm, loss = SICK["sum"]
    model = nn.Sequential(*ends_in(norm), nn.Linear(32, 1))
    assert "zero_gradient" not in diagnose(model, X, loss).kinds
