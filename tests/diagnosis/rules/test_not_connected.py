"""Parameters that no gradient reaches."""

from patients import Written, diagnose, net, the
from torch import nn


def test_a_branch_that_is_not_used_is_named():
    model = Written(lambda self, x: self.body(x), body=net(3), spare=nn.Linear(4, 4))
    found = the(diagnose(model), "not_connected")
    assert found.layers == ("spare",) and "did not run" in found.cause


def test_a_frozen_layer_is_no_finding_and_a_frozen_network_is_one():
    model = net(4)
    model.linear1.requires_grad_(False)
    assert diagnose(model).healthy
    model.requires_grad_(False)
    assert "frozen" in the(diagnose(model), "not_connected").cause


def test_a_loss_that_is_cut_off_is_found():
    found = diagnose(net(3), loss=lambda o, y: (o.argmax(1) == y).float().mean())
    assert found.kinds == {"not_connected"}


def test_experts_without_a_token_and_heads_of_other_tasks_are_a_note_that_freezes_nothing():
    for parts in (
        nn.ModuleList(nn.Linear(64, 10) for _ in range(4)),
        nn.ModuleDict({name: nn.Linear(64, 10) for name in "abc"}),
    ):
        used = next(iter(parts.values())) if isinstance(parts, nn.ModuleDict) else parts[0]
        model = Written(lambda self, x, used=used: used(x), parts=parts)
        found = diagnose(model)
        assert found.healthy and any("parts" in note for note in found.notes)
        assert "requires_grad_(False)" not in str(found)
