"""A model is given back as it was, whatever it is and whatever happens."""

import random

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from patients import Written, data, diagnose, net
from torch import nn
from torch.utils.checkpoint import checkpoint

from course_utils.diagnosis import first_nonfinite, jacobian_singular_values


def restless():
    """Everything that a pass could change: norms, dropout, power iteration, frozen parts."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.utils.parametrizations.spectral_norm(nn.Linear(64, 32)),
        nn.BatchNorm1d(32),
        nn.ReLU(inplace=True),
        nn.Dropout(0.5),
        nn.Linear(32, 32),
        nn.BatchNorm1d(32, momentum=None),
        nn.Tanh(),
        nn.Linear(32, 10),
    )
    model[1].eval()
    return model


def state(model):
    return (
        {name: value.detach().clone() for name, value in model.state_dict().items()},
        [id(value) for value in [*model.parameters(), *model.buffers()]],
        [None if p.grad is None else (id(p.grad), p.grad.clone()) for p in model.parameters()],
        [(m.training, getattr(m, "momentum", None)) for m in model.modules()],
        torch.get_rng_state(),
        random.getstate(),
        np.random.get_state()[1].tolist(),  # noqa: NPY002
        [
            len(value)
            for module in model.modules()
            for name, value in vars(module).items()
            if name.endswith("_hooks")
        ],
    )


def same(first, second):
    if isinstance(first, torch.Tensor):
        return torch.equal(first, second)
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(same(first[k], second[k]) for k in first)
    if isinstance(first, list | tuple):
        return len(first) == len(second) and all(map(same, first, second))
    return first == second


@pytest.mark.parametrize("training", [True, False])
def test_parameters_gradients_buffers_mode_and_random_states_are_left(training):
    model, (x, y) = restless(), data()
    if not training:
        model.eval()
    F.cross_entropy(model(x), y).backward()
    model[4].bias.grad = None
    before = state(model)
    diagnose(model, (x, y))
    first_nonfinite(model, (x, y), F.cross_entropy)
    jacobian_singular_values(model.eval() if not training else model, x[:8], 2)
    assert same(before, state(model))


def test_after_an_error_in_the_loss_everything_is_left_too():
    model, (x, y) = restless(), data()
    before = state(model)

    def broken(output, target):
        random.random()
        np.random.rand()  # noqa: NPY002
        raise KeyError("no such column")

    with pytest.raises(KeyError, match="no such column") as caught:
        diagnose(model, (x, y), loss=broken)
    assert "the loss of" in caught.value.__notes__[0]
    assert same(before, state(model))


def test_training_goes_on_as_if_nobody_had_asked():
    def train(asked):
        torch.manual_seed(3)
        model, (x, y) = restless(), data()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        for _ in range(3):
            optimizer.zero_grad()
            F.cross_entropy(model(x), y).backward()
            if asked:
                diagnose(model, (x, y), optimizer=optimizer)
            optimizer.step()
        return model.state_dict()

    assert same(dict(train(False)), dict(train(True)))


def test_an_optimizer_that_steps_inside_backward_is_not_set_off():
    model = net(4)
    steps = []
    for parameter in model.parameters():
        parameter.register_post_accumulate_grad_hook(lambda p: steps.append(p))
    diagnose(model)
    assert not steps


def test_lazy_layers_stay_lazy():
    model = nn.Sequential(nn.LazyLinear(32), nn.ReLU(), nn.LazyLinear(10))
    assert diagnose(model).healthy
    assert isinstance(model[0].weight, nn.parameter.UninitializedParameter)


def test_the_loss_runs_under_no_grad_too():
    with torch.no_grad():
        assert diagnose(net(12, activation="sigmoid", init="xavier")).kinds == {"vanishing"}


@pytest.mark.parametrize("reentrant", [True, False])
def test_checkpointed_networks_can_be_asked(reentrant):
    torch.manual_seed(0)
    model = Written(
        lambda self, x: checkpoint(self.rest, self.first(x), use_reentrant=reentrant),
        first=nn.Linear(64, 64),
        rest=net(4),
    )
    model(data()[0]).sum().backward()
    grads = [p.grad.clone() for p in model.parameters()]
    assert diagnose(model).healthy
    assert all(torch.equal(p.grad, g) for p, g in zip(model.parameters(), grads, strict=True))
