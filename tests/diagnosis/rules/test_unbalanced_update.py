"""Updates that fit no one learning rate."""

import pytest
import torch
import torch.nn.functional as F
from patients import data, diagnose, net, the


def uneven():
    model = net(6)
    with torch.no_grad():
        model.linear2.weight.mul_(40)
        model.linear3.weight.div_(40)
    return model


def test_layers_of_one_shape_with_unlike_weights_get_unlike_updates():
    model = uneven()
    found = the(diagnose(model), "unbalanced_update")
    assert set(found.layers) == {"linear2.weight", "linear3.weight"}
    assert 40**4 / 10 < found.measured < 40**4 * 10


def test_with_an_optimizer_its_own_updates_are_compared_and_nothing_moves():
    model = uneven()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.0)
    before = [p.detach().clone() for p in model.parameters()]
    found = the(diagnose(model, optimizer=optimizer), "unbalanced_update")
    assert all(torch.equal(p, q) for p, q in zip(model.parameters(), before, strict=True))
    assert not optimizer.state
    F.cross_entropy(model(data()[0]), data()[1]).backward()
    optimizer.step()
    ratio = {
        name: float((p.detach() - q).norm() / q.norm())
        for (name, p), q in zip(model.named_parameters(), before, strict=True)
        if p.dim() == 2
    }
    low, high = found.layers
    assert found.measured == pytest.approx(ratio[high] / ratio[low], rel=1e-3)
