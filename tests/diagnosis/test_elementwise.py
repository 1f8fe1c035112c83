"""Recurrences without a matrix: how much of the state a decay keeps is measured and predicted."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import course_utils as cu


class Decaying(nn.Module):
    """h = f(decay * h + W x), the answer from the last state."""

    def __init__(self, keep: float, steps: int, width: int, act=None):
        super().__init__()
        self.decay = nn.Parameter(torch.full((width,), keep))
        self.entry, self.head = nn.Linear(3, width), nn.Linear(width, 2)
        self.steps, self.act = steps, act or nn.Identity()

    def forward(self, x):
        h = x.new_zeros(len(x), len(self.decay))
        for t in range(self.steps):
            h = self.act(self.decay * h + self.entry(x[:, t]))
        return self.head(h)


@pytest.mark.parametrize("factor", [1e-6, 1.0, 1e6])
@pytest.mark.parametrize(
    ("keep", "steps", "act", "kind"),
    [
        (0.5, 30, None, "vanishing"),
        (0.6, 40, nn.ReLU(), "vanishing"),
        (1.3, 40, None, "exploding"),
        (0.99, 60, None, "healthy"),
        (0.98, 40, nn.ReLU(), "healthy"),
        (0.5, 3, None, "healthy"),
    ],
)
def test_a_decay_vanishes_by_what_it_keeps(keep, steps, act, kind, factor):
    torch.manual_seed(steps)
    model = Decaying(keep, steps, 12, act)
    batch = (0.3 * torch.randn(16, steps, 3), torch.arange(16) % 2)
    found = cu.diagnose(model, batch, loss=lambda o, y: factor * F.cross_entropy(o, y))
    assert kind in found.kinds, found
    if kind == "vanishing":
        assert found.findings[0].layers == ("decay",)
        assert found.findings[0].measured == pytest.approx(keep, rel=0.15)
        assert found.findings[0].predicted == pytest.approx(keep, rel=0.15)


def test_a_shared_layer_scale_is_no_recurrence():
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.gamma = nn.Parameter(torch.full((8,), 0.1))
            self.blocks = nn.ModuleList(nn.Linear(8, 8) for _ in range(6))

        def forward(self, x):
            for block in self.blocks:
                x = x + self.gamma * torch.tanh(block(x))
            return x

    torch.manual_seed(0)
    found = cu.diagnose(Scaled(), (torch.randn(16, 8), torch.randn(16, 8)), loss=F.mse_loss)
    assert found.healthy, found
    assert "loop" not in str(found)
