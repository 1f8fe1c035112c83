"""Blocks whose norm stands behind the addition."""

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from patients import diagnose, passed, the
from torch import nn


class Block(nn.Module):
    def __init__(self, how, width=32, blocks=24):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)
        self.norm, self.how = nn.LayerNorm(width), how
        self.alpha = (2 * blocks) ** 0.25 if how == "deep" else 1.0
        if how == "deep":
            for layer in (self.fc1, self.fc2):
                nn.init.xavier_normal_(layer.weight, gain=(8 * blocks) ** -0.25)

    def branch(self, x):
        return self.fc2(F.gelu(self.fc1(x)))

    def forward(self, x):
        if self.how == "pre":
            return x + self.branch(self.norm(x))
        if self.how == "end":
            return x + 0.1 * self.norm(self.branch(x))
        return self.norm(self.alpha * x + self.branch(x))


def stack(how, blocks):
    body = [Block(how, blocks=blocks) for _ in range(blocks)]
    return nn.Sequential(nn.Linear(64, 32), *body, nn.LayerNorm(32), nn.Linear(32, 10))


@pytest.mark.parametrize(("how", "blocks"), [("post", 23), ("pre", 0), ("end", 0), ("deep", 23)])
def test_only_the_norm_behind_the_addition_counts(how, blocks):
    torch.manual_seed(0)
    measured_pass = passed(stack(how, 24), (torch.randn(32, 64), torch.arange(32) % 10))
    found = measured_pass.post_norm
    assert len(found.factors) == blocks
    if how == "deep":
        assert found.through == pytest.approx(1, abs=0.05)
    if how == "post":
        assert found.through == pytest.approx((1 + found.branch**2) ** (-blocks / 2), rel=0.5)


@pytest.mark.parametrize("factor", [1e-6, 1, 1e6])
def test_a_deep_post_norm_stack_gets_a_note_and_the_others_none(factor):
    torch.manual_seed(1)
    loss = lambda o, y: factor * F.cross_entropy(o, y)  # noqa: E731
    for how, blocks, said in (("post", 24, 1), ("post", 4, 0), ("pre", 24, 0), ("deep", 24, 0)):
        diagnosis = diagnose(stack(how, blocks), loss=loss)
        assert diagnosis.healthy
        assert sum("warm-up" in note for note in diagnosis.notes) == said, (how, blocks)


class Encoder(nn.Module):
    def __init__(self, layers=24, width=16):
        super().__init__()
        layer = nn.TransformerEncoderLayer(width, 2, 2 * width, 0.0, batch_first=True)
        self.embed = nn.Embedding(12, width)
        self.place = nn.Parameter(0.5 * torch.randn(6, width))
        self.encoder = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        self.head = nn.Linear(width, 4)
        for parameter in self.encoder.parameters():
            if parameter.dim() > 1:
                nn.init.xavier_uniform_(parameter)

    def forward(self, i):
        return self.head(self.encoder(self.embed(i) + self.place).mean(1))


def words(size=64):
    i = torch.randint(0, 12, (size, 6))
    return i, i[:, 0] % 4


def train(model, steps, rate):
    optimizer = torch.optim.Adam(model.parameters(), lr=rate)
    losses = []
    for _ in range(steps):
        i, y = words()
        optimizer.zero_grad()
        loss = F.cross_entropy(model(i), y)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return sum(losses[-10:]) / 10


def test_a_stuck_encoder_vanishes_by_its_norms_and_learns_with_the_norm_in_front():
    torch.manual_seed(0)
    model = Encoder()
    train(model, 12, 3e-3)
    found = the(diagnose(model, words()), "vanishing")
    assert "post-norm" in found.cause and found.predicted < found.measured < 1
    mended = copy.deepcopy(model)
    exec(found.remedy, {"model": mended, "nn": nn, "torch": torch})
    assert train(model, 60, 1e-3) > 0.9 * math.log(4)
    assert train(mended, 120, 1e-3) < 0.8 * math.log(4)
