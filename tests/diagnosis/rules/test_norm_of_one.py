"""A norm over a single entry gives the same number to everything."""

import pytest
import torch
import torch.nn.functional as F
from patients import heal, the
from torch import nn

import course_utils as cu

X, Y = torch.randn(48, 12, generator=cu.seeded(0)), torch.arange(48) % 3


class Between(nn.Module):
    def __init__(self, function, width):
        super().__init__()
        self.first, self.last, self.function = nn.Linear(12, width), nn.Linear(width, 3), function

    def forward(self, x):
        return self.last(self.function(self.first(x)))


class Pooled(nn.Module):
    """A norm behind the mean over an image."""

    def __init__(self, norm):
        super().__init__()
        self.conv, self.norm, self.last = nn.Conv2d(1, 8, 3), norm, nn.Linear(8, 3)

    def forward(self, x):
        h = self.conv(x.view(-1, 1, 3, 4)).mean((2, 3), keepdim=True)
        return self.last(self.norm(h).flatten(1))


def by_hand(h):
    return h * (h.pow(2).mean(-1, keepdim=True) + 1e-6).rsqrt()


SICK = {
    "layer norm": lambda: Between(nn.LayerNorm(1), 1),
    "rms norm": lambda: Between(nn.RMSNorm(1), 1),
    "normalize": lambda: Between(lambda h: F.normalize(h, dim=1), 1),
    "normalize over a new axis": lambda: Between(
        lambda h: F.normalize(h[..., None], dim=2)[..., 0], 8
    ),
    "rms by hand": lambda: Between(by_hand, 1),
    "by its own length": lambda: Between(lambda h: h / h.norm(dim=-1, keepdim=True), 1),
    "group norm without weights": lambda: Between(
        lambda h: F.group_norm(h[..., None], 8)[..., 0], 8
    ),
    "group norm of 1×1 maps": lambda: Pooled(nn.GroupNorm(8, 8)),
    "layer norm of 1×1 maps": lambda: Pooled(nn.LayerNorm((1, 1))),
}
HEALTHY = {
    "layer norm": lambda: Between(nn.LayerNorm(8), 8),
    "rms norm": lambda: Between(nn.RMSNorm(8), 8),
    "normalize": lambda: Between(lambda h: F.normalize(h, dim=1), 8),
    "rms by hand": lambda: Between(by_hand, 8),
    "group norm": lambda: Pooled(nn.GroupNorm(4, 8)),
    "one group": lambda: Pooled(nn.GroupNorm(1, 8)),
    "beside a skip": lambda: Between(lambda h: h + F.normalize(h, dim=1), 1),
    "a square": lambda: Between(lambda h: h * h.mean(-1, keepdim=True), 1),
}


def loss_times(factor):
    return lambda o, y: factor * F.cross_entropy(o, y)


@pytest.mark.parametrize("factor", [1e-6, 1.0, 1e6])
@pytest.mark.parametrize("name", SICK)
def test_a_norm_over_one_entry_cuts_off_what_stands_before(name, factor):
    torch.manual_seed(0)
    model = SICK[name]()
    found = cu.diagnose(model, (X, Y), loss_times(factor))
    assert found.kinds == {"zero_gradient"} and len(found.findings) == 1, found
    assert found.findings[0].layers == (("conv",) if isinstance(model, Pooled) else ("first",))
    assert "norm" in found.findings[0].cause and "single entry" in found.findings[0].cause


@pytest.mark.parametrize("factor", [1e-6, 1.0, 1e6])
@pytest.mark.parametrize("name", HEALTHY)
def test_healthy_twins(name, factor):
    torch.manual_seed(1)
    assert cu.diagnose(HEALTHY[name](), (X, Y), loss_times(factor)).healthy


def loss_after(model, steps=150):
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    target = (X @ torch.randn(12, 3, generator=cu.seeded(2))).argmax(1)
    for _ in range(steps):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(X), target)
        loss.backward()
        optimizer.step()
    return float(loss.detach())


@pytest.mark.parametrize("name", ["layer norm", "group norm of 1×1 maps"])
def test_the_remedy_lets_it_learn(name):
    torch.manual_seed(0)
    sick = loss_after(SICK[name]())
    torch.manual_seed(0)
    healed = heal(SICK[name](), (X, Y), "zero_gradient")
    assert loss_after(healed) < 0.8 * sick
    assert the(cu.diagnose(healed, (X, Y), F.cross_entropy), "healthy")
