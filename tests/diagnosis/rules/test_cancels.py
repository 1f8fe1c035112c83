"""Gradients of which nothing but rounding is left."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import course_utils as cu

SCALES = (1e-6, 1.0, 1e6)


def net(out=8, seed=0, width=32):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(6, width), nn.Tanh(), nn.Linear(width, out))


SICK = {
    "mean of a softmax": lambda o: o.softmax(-1).mean(),
    "sum of a layer norm": lambda o: F.layer_norm(o, o.shape[1:]).sum(),
    "length of unit vectors": lambda o: F.normalize(o, dim=1).pow(2).sum(1).mean(),
    "mean of what is centered": lambda o: (o - o.mean(0)).mean(),
    "divided by itself": lambda o: (o.exp() / o.exp().sum(1, keepdim=True)).sum(1).mean(),
}
HEALTHY = {
    "largest of a softmax": lambda o: -o.softmax(-1).amax(1).mean(),
    "first of a layer norm": lambda o: F.layer_norm(o, o.shape[1:])[:, 0].sum(),
    "unit vectors apart": lambda o: (F.normalize(o, dim=1) @ F.normalize(o, dim=1).T).mean(),
    "spread of what is centered": lambda o: (1 - (o - o.mean(0)).pow(2).mean()) ** 2,
    "log of a softmax": lambda o: -(o.softmax(-1) + 1e-8).log()[:, 0].mean(),
}


@pytest.mark.parametrize("factor", SCALES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", SICK)
def test_terms_that_cancel_in_the_loss(name, dtype, factor):
    for seed, width in ((0, 32), (1, 7)):
        found = cu.diagnose(
            net(seed=seed, width=width).to(dtype),
            torch.randn(64, 6, dtype=dtype),
            lambda o: factor * SICK[name](o),
        )
        assert found.kinds == {"zero_gradient"}, found
        assert "in the loss" in found.findings[0].cause


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", [*list(SICK)[:2], *list(HEALTHY)[:3]])
def test_sixteen_bits_tell_what_cancels_exactly(name, dtype):
    torch.manual_seed(0)
    loss = (SICK | HEALTHY)[name]
    found = cu.diagnose(net().to(dtype), torch.randn(64, 6, dtype=dtype), loss)
    assert found.kinds == ({"zero_gradient"} if name in SICK else {"healthy"}), found


@pytest.mark.parametrize("factor", SCALES)
@pytest.mark.parametrize("name", HEALTHY)
def test_healthy_twins(name, factor):
    torch.manual_seed(2)
    found = cu.diagnose(net(), torch.randn(64, 6), lambda o: factor * HEALTHY[name](o))
    assert found.healthy, found


class Routed(nn.Module):
    """One of four experts per sample, times its probability."""

    def __init__(self, normalized):
        super().__init__()
        self.router, self.normalized = nn.Linear(6, 4), normalized
        self.experts = nn.ModuleList(net(3, seed) for seed in range(4))

    def forward(self, x):
        weight, index = self.router(x).softmax(-1).topk(1)
        weight = weight / weight.sum(-1, keepdim=True) if self.normalized else weight
        answers = torch.stack([expert(x) for expert in self.experts], 1)
        return weight * answers[torch.arange(len(x)), index[:, 0]]


@pytest.mark.parametrize("normalized", [True, False])
def test_a_router_whose_weight_is_always_one_learns_nothing(normalized):
    torch.manual_seed(0)
    model, x, y = Routed(normalized), torch.randn(256, 6), torch.randint(0, 3, (256,))
    before = model.router.weight.detach().clone()
    found = cu.diagnose(model, (x, y), F.cross_entropy)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(20):
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()
    moved = float((model.router.weight.detach() - before).abs().max())
    if normalized:
        assert found.kinds == {"zero_gradient"}, found
        assert found.findings[0].layers == ("router",)
        assert moved < 1e-5
    else:
        assert found.healthy, found
        assert moved > 1e-4


def test_it_leaves_no_hook_and_no_gradient():
    model, x = net(), torch.randn(64, 6)
    cu.diagnose(model, x, SICK["mean of a softmax"])
    assert all(p.grad is None and not p._backward_hooks for p in model.parameters())
