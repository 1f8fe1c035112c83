"""Inputs, targets and first outputs out of scale, and the first loss beside them."""

import pytest
import torch
import torch.nn.functional as F
from patients import Written, diagnose, heal, the
from torch import nn

torch.manual_seed(0)
CLASSES = torch.arange(48) % 6
CENTERS = torch.randn(6, 8)
X = CENTERS[CLASSES] + 0.3 * torch.randn(48, 8)
NUMBERS = X[:, :1] + 0.1 * torch.randn(48, 1)
SCALES = pytest.mark.parametrize("factor", [1e-6, 1, 1e6])
PIXELS = torch.randint(0, 256, (48, 1, 8, 8)).float()


def net(outputs, *head, seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(*head, nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, outputs))


def large(factor, outputs):
    model = net(outputs)
    with torch.no_grad():
        model[-1].weight.mul_(factor)
    return model


def images():
    torch.manual_seed(0)
    conv = nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Flatten())
    return nn.Sequential(*conv, nn.Linear(8 * 36, 6))


class Tied(nn.Module):
    def __init__(self, std, scale=1.0):
        super().__init__()
        torch.manual_seed(0)
        self.embed, self.norm = nn.Embedding(500, 64), nn.LayerNorm(64)
        self.head, self.scale = nn.Linear(64, 500, bias=False), scale
        nn.init.normal_(self.embed.weight, std=std)
        self.head.weight = self.embed.weight

    def forward(self, i):
        return self.scale * self.head(self.norm(self.embed(i))).transpose(1, 2)


TOKENS = torch.randint(0, 500, (8, 16)), torch.randint(0, 500, (8, 16))
SCALE = torch.tensor([1e5, *[1e-2] * 7])
SICK = {
    "two scales": (net(6), (X * SCALE, CLASSES), F.cross_entropy, "feature 0"),
    "an offset": (net(6), (293 + 5 * X, CLASSES), F.cross_entropy, "offset"),
    "tiny": (net(1), (1e-9 * X, NUMBERS), F.mse_loss, "as good as 0"),
    "pixels": (images(), (PIXELS, CLASSES), F.cross_entropy, "between 0 and 255"),
    "prices": (net(1), (X, 2e5 + 5e4 * NUMBERS), F.mse_loss, "targets lie around"),
    "root": (net(1), (X, 2e4 * NUMBERS), lambda o, y: F.mse_loss(o, y).sqrt(), "targets"),
    "tied": (Tied(1.0), TOKENS, F.cross_entropy, "ln 500, 500 classes alike"),
    "a large head": (large(100, 6), (X, CLASSES), F.cross_entropy, "1.792 (ln 6"),
    "large outputs": (large(1000, 1), (X, NUMBERS), F.mse_loss, "first outputs"),
}


@SCALES
@pytest.mark.parametrize("name", SICK)
def test_what_is_out_of_scale_is_found_at_every_scale_of_the_loss(name, factor):
    model, batch, loss, words = SICK[name]
    diagnosis = diagnose(model, batch, lambda o, y: factor * loss(o, y))
    assert diagnosis.kinds == {"unscaled"}
    cause = the(diagnosis, "unscaled").cause
    assert (words in cause or factor != 1) and "first loss" in cause


def trained(model, batch, loss, steps=300, lr=1e-2):
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    for _ in range(steps):
        optimizer.zero_grad()
        value = loss(model(batch[0]), batch[1])
        value.backward()
        optimizer.step()
    return float(value.detach())


def fits():
    model = net(6)
    assert trained(model, (50 * X, CLASSES), F.cross_entropy) < 0.1
    return model


def scales(*functions):
    before, after = functions
    return Written(lambda self, x: after(self.net(before(x))), net=net(1))


CONV = nn.Sequential(
    nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 6)
)
TWINS = {
    "batch norm first": (net(6, nn.BatchNorm1d(8)), (X * SCALE, CLASSES), F.cross_entropy),
    "no weights": (
        net(6, nn.BatchNorm1d(8, affine=False)),
        (X * SCALE, CLASSES),
        F.cross_entropy,
    ),
    "a norm behind": (CONV, (PIXELS, CLASSES), F.cross_entropy),
    "a fit": (fits(), (50 * X, CLASSES), F.cross_entropy),
    "spread 3": (net(6), (3 * X, CLASSES), F.cross_entropy),
    "divided in forward": (scales(lambda x: x / 1e5, lambda o: o), (1e5 * X, NUMBERS), F.mse_loss),
    "multiplied in forward": (
        scales(lambda x: x, lambda o: 2e5 + 5e4 * o),
        (X, 2e5 + 5e4 * NUMBERS),
        F.mse_loss,
    ),
    "one-hot": (net(6), (F.one_hot(CLASSES, 8).float(), CLASSES), F.cross_entropy),
    "small tied": (Tied(0.02), TOKENS, F.cross_entropy),
    "tied and scaled": (Tied(1.0, 64**-0.5), TOKENS, F.cross_entropy),
    "summed": (net(1), (X, NUMBERS), lambda o, y: F.mse_loss(o, y, reduction="sum")),
    "small targets": (net(1), (X, 0.1 * NUMBERS), F.mse_loss),
}


@SCALES
@pytest.mark.parametrize("name", TWINS)
def test_what_looks_like_it_is_healthy(name, factor):
    model, batch, loss = TWINS[name]
    assert diagnose(model, batch, lambda o, y: factor * loss(o, y)).healthy


@pytest.mark.parametrize("x", [293 + 5 * X, X * SCALE])
def test_a_network_learns_after_the_remedy(x):
    healed = heal(net(6), (x, CLASSES), "unscaled")
    assert diagnose(healed, (x, CLASSES)).healthy
    after, before = (trained(m, (x, CLASSES), F.cross_entropy, 100) for m in (healed, net(6)))
    assert after < 0.3 * before


def test_a_head_is_made_smaller_by_the_remedy():
    for model, batch in ((large(100, 6), (X, CLASSES)), (Tied(1.0), TOKENS)):
        healed = heal(model, batch, "unscaled")
        assert diagnose(healed, batch).healthy


def test_saturation_by_the_inputs_is_said_once():
    model = nn.Sequential(nn.Linear(8, 32), nn.Tanh(), nn.Linear(32, 6))
    assert diagnose(model, (1000 * X, CLASSES)).kinds == {"saturated"}


def test_targets_in_scale_after_the_remedy():
    y = 2e5 + 5e4 * NUMBERS
    remedy = the(diagnose(net(1), (X, y), F.mse_loss), "unscaled").remedy
    scope = {"target": y}
    exec(remedy.splitlines()[-1].lstrip("# "), scope)
    assert diagnose(net(1), (X, scope["target"]), F.mse_loss).healthy
