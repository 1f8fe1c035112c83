"""What a loss expects and what it got."""

import functools
import math

import pytest
import torch
import torch.nn.functional as F
from patients import Written, diagnose, heal, the
from torch import nn

torch.manual_seed(0)
CLASSES = torch.arange(48) % 6
CENTERS = torch.randn(6, 8)
X = CENTERS[CLASSES] + 0.3 * torch.randn(48, 8)
ONES, NUMBERS = (CLASSES % 2).float()[:, None], X[:, :1] + 0.1 * torch.randn(48, 1)
SCALES = pytest.mark.parametrize("factor", [1e-6, 1, 1e6])
by_hand = lambda o, y: ((o - y) ** 2).mean()  # noqa: E731
kl_div = functools.partial(F.kl_div, reduction="batchmean")


def net(outputs, *tail, seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, outputs), *tail)


def found(model, target, loss, factor=1, x=X):
    return diagnose(model, (x, target), lambda o, y: factor * loss(o, y))


SICK = {
    "softmax, nll": (6, [nn.Softmax(1)], CLASSES, F.nll_loss, "log-probabilities"),
    "logits, nll": (6, [], CLASSES, F.nll_loss, "falls without end"),
    "log_softmax over the batch": (6, [nn.LogSoftmax(0)], CLASSES, F.nll_loss, "dim=1"),
    "sigmoid, cross-entropy": (6, [nn.Sigmoid()], CLASSES, F.cross_entropy, "1.044"),
    "tanh, cross-entropy": (6, [nn.Tanh()], CLASSES, F.cross_entropy, "0.517"),
    "ReLU, logits": (1, [nn.ReLU()], ONES, F.binary_cross_entropy_with_logits, "0.347"),
    "targets of ±1": (1, [], 2 * ONES - 1, F.binary_cross_entropy_with_logits, "-1 … 1"),
    "column, row": (1, [], NUMBERS[:, 0], by_hand, "(48, 1) and (48,)"),
    "row, column": (1, [nn.Flatten(0)], NUMBERS, by_hand, "(48,) and (48, 1)"),
    "one of four": (1, [], NUMBERS.expand(-1, 4), by_hand, "(48, 4)"),
    "sigmoid, 20 to 80": (1, [nn.Sigmoid()], 50 + NUMBERS, F.mse_loss, "sigmoid"),
    "ReLU, below 0": (1, [nn.ReLU()], NUMBERS, F.l1_loss, "not below 0"),
    "sigmoid, ±1": (1, [nn.Sigmoid()], 2 * ONES - 1, F.huber_loss, "between -1 and 1"),
    "softmax, kl_div": (6, [nn.Softmax(1)], F.one_hot(CLASSES, 6).float(), kl_div, "log"),
    "soft margin": (1, [], ONES, F.soft_margin_loss, "−1 and 1"),
}


@SCALES
@pytest.mark.parametrize("name", SICK)
def test_a_mismatch_is_found_at_every_scale_of_the_loss(name, factor):
    outputs, tail, target, loss, words = SICK[name]
    diagnosis = found(net(outputs, *tail), target, loss, factor)
    assert diagnosis.kinds == {"loss_mismatch"}
    assert words in the(diagnosis, "loss_mismatch").cause


TWINS = {
    "log_softmax, nll": (6, [nn.LogSoftmax(1)], CLASSES, F.nll_loss),
    "log_softmax twice": (6, [nn.LogSoftmax(1)], CLASSES, F.cross_entropy),
    "focal": (
        6,
        [nn.LogSoftmax(1)],
        CLASSES,
        lambda o, y: F.nll_loss((1 - o.exp()) ** 2 * o, y),
    ),
    "clipped logits": (6, [], CLASSES, lambda o, y: F.cross_entropy(10 * (o / 10).tanh(), y)),
    "sigmoid, bce": (1, [nn.Sigmoid()], 0.05 + 0.9 * ONES, F.binary_cross_entropy),
    "tanh within reach": (1, [nn.Tanh()], NUMBERS.tanh(), F.mse_loss),
    "ReLU above 0": (1, [nn.Softplus()], NUMBERS.abs(), F.mse_loss),
    "quantiles": (3, [], NUMBERS, by_hand),
    "pairs on purpose": (4, [], NUMBERS, lambda o, y: by_hand(o[:, :, None], o[:, None])),
    "one number for all": (1, [], NUMBERS, lambda o, y: ((o - 1) ** 2).mean()),
    "critic": (1, [], NUMBERS, lambda o, y: (o * y).mean()),
    "kl_div": (
        6,
        [nn.LogSoftmax(1)],
        torch.randn(48, 6).softmax(1),
        kl_div,
    ),
}


@SCALES
@pytest.mark.parametrize("name", TWINS)
def test_what_looks_like_it_is_healthy(name, factor):
    outputs, tail, target, loss = TWINS[name]
    assert found(net(outputs, *tail), target, loss, factor).healthy


@pytest.mark.filterwarnings("ignore:Using a target size")
@pytest.mark.parametrize("loss", [F.mse_loss, F.smooth_l1_loss, F.huber_loss, F.l1_loss])
def test_a_broadcast_tells_what_a_constant_gets(loss):
    cause = the(found(net(1), NUMBERS[:, 0], loss), "loss_mismatch").cause
    constant = min(
        float(loss(c.expand(48), NUMBERS[:, 0])) for c in torch.linspace(-3, 3, 6001)[:, None]
    )
    assert f"a constant gets {constant:.3g}" in cause and "48 × 48 pairs" in cause


def test_classes_across_a_view():
    model = Written(lambda self, x: self.net(x), net=net(5))
    x, y = torch.randn(4, 12, 8), torch.randint(0, 5, (4, 12))
    wrong = found(model, y, lambda o, y: F.cross_entropy(o.view(4, 5, 12), y), x=x)
    assert "a view of (4, 12, 5)" in the(wrong, "loss_mismatch").cause
    for right in (
        lambda o, y: F.cross_entropy(o.transpose(1, 2), y),
        lambda o, y: F.cross_entropy(o.view(-1, 5), y.view(-1)),
    ):
        assert found(model, y, right, x=x).healthy


def test_a_softmax_over_the_samples_is_left_open():
    loss = lambda o, y: -o.gather(1, y[:, None]).log().mean()  # noqa: E731
    diagnosis = found(net(6, nn.Softmax(0)), CLASSES, loss)
    assert diagnosis.kinds == {"undecided"} and "dim=0" in str(diagnosis)


def loss_after(model, target, loss, steps=150):
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(steps):
        optimizer.zero_grad()
        value = loss(model(X), target)
        value.backward()
        optimizer.step()
    return model(X).detach()


def test_probabilities_learn_after_the_remedy():
    for tail, loss in ((nn.Sigmoid(), F.cross_entropy), (nn.Softmax(1), F.nll_loss)):
        healed = heal(net(6, tail), (X, CLASSES), "loss_mismatch", loss)
        assert found(healed, CLASSES, loss).healthy
        wrong, right = (
            float(F.cross_entropy(loss_after(m, CLASSES, loss), CLASSES))
            for m in (net(6, tail), healed)
        )
        assert right < 0.05 < 1 < wrong


@pytest.mark.parametrize("target", [NUMBERS[:, 0], NUMBERS])
def test_a_regression_learns_after_the_remedy(target):
    tail = [] if target.dim() == 1 else [nn.Flatten(0)]
    healed = heal(net(1, *tail), (X, target), "loss_mismatch", by_hand)
    assert found(healed, target, by_hand).healthy
    wrong, right = (
        float(F.mse_loss(loss_after(m, target, by_hand).flatten(), NUMBERS[:, 0]))
        for m in (net(1, *tail), healed)
    )
    assert right < 0.1 < 0.6 < wrong / float(NUMBERS.var()) and not math.isnan(wrong)
