"""Batches and losses of any kind."""

import pytest
import torch
import torch.nn.functional as F
from patients import data, diagnose, net, the
from torch import nn

import course_utils as cu


def test_every_way_to_hand_over_a_batch_gives_the_same_verdict():
    model, (x, y) = net(12, activation="sigmoid", init="xavier"), data()
    wanted = the(diagnose(model, (x, y)), "vanishing").measured
    batches = [
        [x, y],
        {"input": x, "labels": y},
        {"input": x, "y": y, "index": torch.arange(32)},
        {"image": x, "target": y},
        ((x,), y),
        ({"input": x}, y),
    ]
    for batch in batches:
        assert the(diagnose(model, batch), "vanishing").measured == wanted
    for loss in (nn.CrossEntropyLoss(), lambda o: F.cross_entropy(o, y)):
        assert the(diagnose(model, (x, y), loss), "vanishing").measured == wanted
    found = diagnose(model, x, lambda o: F.cross_entropy(o, y))
    assert the(found, "vanishing").measured == wanted


@pytest.mark.parametrize(
    "returned",
    [
        lambda logits, loss: {"loss": loss, "logits": logits},
        lambda logits, loss: (logits, loss),
        lambda logits, loss: (loss, logits),
    ],
)
@pytest.mark.parametrize("key", ["labels", "targets"])
def test_a_model_that_returns_its_own_loss_needs_none(returned, key):
    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = net(12, activation="sigmoid", init="xavier")

        def forward(self, x, labels=None, targets=None):
            logits = self.body(x)
            return returned(logits, F.cross_entropy(logits, targets if labels is None else labels))

    x, y = data()
    assert cu.diagnose(Own(), {"x": x, key: y}).kinds == {"vanishing"}
