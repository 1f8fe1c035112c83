"""What a model that does not look gets with a loss."""

import math

import pytest
import torch
import torch.nn.functional as F
from patients import passed
from torch import nn

from course_utils.diagnosis.blind_loss import blind_loss

torch.manual_seed(0)
X, CLASSES, NUMBERS = torch.randn(40, 8), torch.randint(0, 10, (40,)), torch.randn(40, 10)
ONES = (NUMBERS > 0.5).float()
SHARE = float(ONES.mean())
ENTROPY = -SHARE * math.log(SHARE) - (1 - SHARE) * math.log(1 - SHARE)
TEN = math.log(10)


def blind(loss, target, model=None, x=X):
    return blind_loss(passed(model or nn.Linear(8, 10), (x, target), loss))


@pytest.mark.parametrize(
    ("loss", "value"),
    [
        (F.cross_entropy, TEN),
        (nn.CrossEntropyLoss(weight=torch.rand(10)), TEN),
        (nn.CrossEntropyLoss(label_smoothing=0.1), TEN),
        (nn.CrossEntropyLoss(ignore_index=3), TEN),
        (lambda o, y: 1e-6 * F.cross_entropy(o, y), 1e-6 * TEN),
        (lambda o, y: F.cross_entropy(o, y, reduction="none").mean(), TEN),
        (lambda o, y: -o.log_softmax(1)[range(40), y].mean(), TEN),
        (lambda o, y: -o.log_softmax(1).gather(1, y[:, None]).mean(), TEN),
        (lambda o, y: F.nll_loss(o.softmax(1).log(), y), TEN),
        (lambda o, y: -torch.distributions.Categorical(logits=o).log_prob(y).mean(), TEN),
        (nn.CrossEntropyLoss(reduction="sum"), 40 * TEN),
        (
            nn.CrossEntropyLoss(reduction="sum", ignore_index=3),
            int((CLASSES != 3).sum()) * TEN,
        ),
    ],
)
def test_ten_classes(loss, value):
    got, words = blind(loss, CLASSES)
    assert got == pytest.approx(value, rel=1e-4) and "ln 10, ten classes alike" in words


@pytest.mark.parametrize("shape", [(4, 10, 8), (2, 2, 10, 8)])
def test_classes_in_any_dimension(shape):
    x, y = X.view(shape), CLASSES.view(shape[:-1])
    for loss in (
        lambda o, y: F.cross_entropy(o.reshape(-1, 10), y.flatten()),
        lambda o, y: F.cross_entropy(o.movedim(-1, 1), y),
    ):
        assert blind(loss, y, x=x)[0] == pytest.approx(TEN)


@pytest.mark.parametrize(
    ("loss", "value"),
    [
        (F.binary_cross_entropy_with_logits, ENTROPY),
        (lambda o, y: F.binary_cross_entropy(o.sigmoid(), y), ENTROPY),
        (lambda o, y: F.binary_cross_entropy_with_logits(o, 0 * y), math.log(2)),
        (nn.BCEWithLogitsLoss(reduction="sum"), 400 * ENTROPY),
    ],
)
def test_zeros_and_ones(loss, value):
    assert blind(loss, ONES)[0] == pytest.approx(value, rel=1e-4)


def test_a_weight_of_the_ones():
    bias = torch.linspace(-3, 3, 2001)[:, None, None]
    loss = nn.BCEWithLogitsLoss(pos_weight=torch.tensor(3.0))
    best = min(float(loss(one.expand(40, 10), ONES)) for one in bias)
    assert blind(loss, ONES)[0] == pytest.approx(best, rel=1e-4)


@pytest.mark.parametrize(
    "loss",
    [
        F.mse_loss,
        nn.MSELoss(reduction="sum"),
        lambda o, y: ((o - y) ** 2).mean(),
        lambda o, y: (y - o).square().sum(1).mean(),
        lambda o, y: ((o - y) * (o - y)).mean(),
        F.l1_loss,
        lambda o, y: (o - y).abs().mean(),
        nn.HuberLoss(delta=0.3),
        nn.SmoothL1Loss(beta=2.0),
    ],
)
def test_the_best_constant_of_a_regression(loss):
    constant = nn.Parameter(NUMBERS.mean(0))
    optimizer = torch.optim.LBFGS([constant], max_iter=200, line_search_fn="strong_wolfe")

    def step():
        optimizer.zero_grad()
        value = loss(constant.expand(40, 10), NUMBERS)
        value.backward()
        return value

    optimizer.step(step)
    best = float(loss(constant.detach().expand(40, 10), NUMBERS))
    value, words = blind(loss, NUMBERS)
    assert value == pytest.approx(best, rel=5e-3) and "targets" in words + "targets"


def test_a_broadcast_and_a_sum_of_two():
    model = nn.Linear(8, 1)
    variance = float(NUMBERS[:, 0].var(unbiased=False))
    with pytest.warns(UserWarning, match="target size"):
        assert blind(F.mse_loss, NUMBERS[:, 0], model)[0] == pytest.approx(variance)
    loss = lambda o, y: F.cross_entropy(o, y) + 0.1 * F.mse_loss(o, NUMBERS)  # noqa: E731
    value, words = blind(loss, CLASSES)
    assert value == pytest.approx(TEN + 0.1 * float(NUMBERS.var(0, unbiased=False).mean()))
    assert "ln 10" in words and "0.1 times variance" in words


class OwnLoss(nn.Linear):
    def forward(self, x, labels):
        return {"loss": F.cross_entropy(super().forward(x), labels)}


def test_a_model_that_returns_its_loss():
    batch = {"x": X, "labels": CLASSES}
    found = blind_loss(passed(OwnLoss(8, 10), batch, None))
    assert found == (pytest.approx(TEN), "ln 10, ten classes alike")


def focal(o, y):
    each = F.cross_entropy(o, y, reduction="none")
    return ((1 - (-each).exp()) ** 2 * each).mean()


@pytest.mark.parametrize(
    "loss",
    [
        focal,
        lambda o, y: F.nll_loss(o.softmax(1), y),
        lambda o, y: -(o.log_softmax(1)[range(40), y] * NUMBERS[:, 0]).mean(),
        lambda o, y: F.cross_entropy(o, y) - o.softmax(1).var(),
        lambda o, y: F.cross_entropy(o, y) + 1.0,
        lambda o, y: F.mse_loss(o, NUMBERS).sqrt(),
        lambda o, y: F.mse_loss(o, o.detach() * 0),
        lambda o, y: F.mse_loss(o, 2 * o),
        lambda o, y: o.exp().mean(),
        lambda o, y: (o**2).mean(),
    ],
)
def test_what_it_does_not_know(loss):
    assert blind(loss, CLASSES) is None
