"""Networks and batches to diagnose, and what the tests of the diagnosis ask about them."""

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

import course_utils as cu
from course_utils.diagnosis.batch import split_batch
from course_utils.diagnosis.measured_pass import measure


def data(size=32, width=64, seed=1, outputs=10):
    g = cu.seeded(seed)
    x = torch.randn(size, width, generator=g)
    return x, torch.randint(0, outputs, (size,), generator=g)


def images(size=16, seed=1):
    x, y = data(size, 64, seed)
    return x.view(size, 1, 8, 8), y


def the(diagnosis, kind):
    (found,) = [finding for finding in diagnosis.findings if finding.kind == kind]
    return found


def diagnose(model, batch=None, loss=F.cross_entropy, **options):
    return cu.diagnose(model, data() if batch is None else batch, loss=loss, **options)


def net(depth, width=64, seed=0, **options):
    return cu.mlp(depth, width, inputs=64, generator=cu.seeded(seed), **options)


def passed(model, batch, loss=F.cross_entropy):
    return measure(model, split_batch(model, batch, loss), loss)


def heal(model, batch, kind, loss=F.cross_entropy, seed=0):
    """The model after the remedy of a finding has been run on it, as it is printed."""
    scope = {"model": model, "nn": nn, "torch": torch, "F": F}
    torch.manual_seed(seed)
    exec(the(diagnose(model, batch, loss), kind).remedy, scope)
    return scope["model"]


def run(remedy, model, optimizer):
    """The optimizer after a remedy has been run as it is printed."""
    scope = {"model": model, "optimizer": optimizer, "torch": torch, "nn": nn}
    exec(remedy, scope)
    return scope["optimizer"]


def falls_by(model, optimizer, steps=60):
    """What share of the loss is gone after some steps."""
    x, y = data()
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return 1 - losses[-1] / losses[0]


def six():
    rnn = cu.recurrent("rnn", 48, inputs=2, activation="relu", outputs=10, generator=cu.seeded(3))
    with torch.no_grad():
        rnn.rnn.weight_hh_l0.copy_(1.3 * torch.eye(48))
    sequence = torch.rand(32, 40, 2, generator=cu.seeded(4)), data()[1]
    double = nn.Sequential(*net(4), nn.Softmax(dim=1))
    return {
        "sigmoid": (net(12, activation="sigmoid", init="xavier"), data(), "vanishing"),
        "default": (net(30, 128, init="torch_default"), data(), "vanishing"),
        "normal": (net(12, init="normal", std=1.0), data(), "exploding"),
        "double": (double, data(), "double_softmax"),
        "batch norm": (net(60, norm="batch"), data(128), "exploding"),
        "rnn": (rnn, sequence, "exploding"),
    }


class Written(nn.Module):
    """A model whose forward pass is a function of its parts and of its inputs."""

    def __init__(self, forward, **parts):
        super().__init__()
        self.function = forward
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, *inputs):
        return self.function(self, *inputs)


def functional(activation, depth):
    """Layers with one activation behind each, called as a function; or one module for all."""

    def forward(self, x):
        for layer in self.layers:
            x = self.activation(layer(x))
        return x

    layers = nn.ModuleList(nn.Linear(64, 64) for _ in range(depth))
    return Written(forward, layers=layers, activation=activation)


def reads(rnn, width=None):
    """A recurrent layer, and a head on its last output."""
    head = nn.Linear(width or rnn.hidden_size, 10)
    return Written(lambda self, x: self.head(self.rnn(x)[0][:, -1]), rnn=rnn, head=head)


def factor_by_autograd(loss, states):
    """Factor per layer of ∂L/∂h, by the slope of the gradients that autograd takes at each h."""
    grads = torch.autograd.grad(loss, states)
    logs = [math.log(float(g.double().square().mean().sqrt())) for g in grads]
    return math.exp(-np.polyfit(range(len(logs)), logs, 1)[0])
