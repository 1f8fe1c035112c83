"""Steps of length 0, and steps longer than the weights."""

import pytest
import torch
from patients import diagnose, falls_by, net, run, the


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"lr": 0.0}, "learning rate"),
        ({"lr": 1.0}, "learning rate"),
        ({"lr": 0.1, "weight_decay": 30.0}, "decay"),
    ],
)
def test_a_step_of_nothing_or_too_long_is_found_and_the_remedy_trains(options, said):
    model = net(3)
    optimizer = torch.optim.AdamW(model.parameters(), **({"weight_decay": 0.0} | options))
    found = the(diagnose(model, optimizer=optimizer), "update_size")
    assert said in found.cause
    run(found.remedy, model, optimizer)
    if options["lr"] != 0.1:
        assert diagnose(model, optimizer=optimizer).healthy
        assert falls_by(model, optimizer) > 0.3


def test_an_update_that_bfloat16_rounds_away_is_found():
    model = net(3).bfloat16()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-6, weight_decay=0.0)
    x = torch.randn(32, 64, dtype=torch.bfloat16)
    found = diagnose(model, (x, torch.arange(32) % 10), optimizer=optimizer)
    assert "bfloat16" in the(found, "update_size").cause


def test_a_warm_up_that_starts_at_0_and_a_group_held_still_are_notes():
    model = net(3)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: step / 100)
    found = diagnose(model, optimizer=optimizer)
    assert "update_size" not in found.kinds and any("warm-up" in note for note in found.notes)
    groups = [
        {"params": model.linear1.parameters(), "lr": 0.0},
        {"params": model.linear3.parameters()},
        {"params": model.linear2.parameters()},
    ]
    found = diagnose(model, optimizer=torch.optim.Adam(groups, lr=1e-3))
    assert "update_size" not in found.kinds and found.notes
