"""Layers of every kind, random inputs and comparisons, for the tests of networks."""

import torch
from torch import nn

import course_utils as cu

NORMS = (None, "batch", "layer", "group")

LAYERS = {
    "linear": lambda: nn.Linear(96, 64),
    "conv1d": lambda: nn.Conv1d(64, 96, 5),
    "conv2d": lambda: nn.Conv2d(48, 64, 3),
    "conv3d": lambda: nn.Conv3d(16, 24, 3),
    "conv2d, two steps": lambda: nn.Conv2d(48, 64, 3, stride=2),
    "conv1d, kernel below step": lambda: nn.Conv1d(96, 192, 1, stride=2),
    "conv2d, uneven steps": lambda: nn.Conv2d(32, 48, (3, 4), stride=(1, 3)),
    "conv2d, dilated": lambda: nn.Conv2d(48, 32, 3, dilation=2),
    "conv2d, groups": lambda: nn.Conv2d(96, 48, 3, groups=4),
    "conv2d, depthwise": lambda: nn.Conv2d(256, 512, 3, groups=256),
    "conv2d, groups and steps": lambda: nn.Conv2d(96, 192, 4, stride=2, groups=3),
    "transposed1d": lambda: nn.ConvTranspose1d(64, 96, 5),
    "transposed2d": lambda: nn.ConvTranspose2d(64, 32, 3),
    "transposed3d, steps": lambda: nn.ConvTranspose3d(24, 16, 3, stride=2),
    "transposed2d, steps": lambda: nn.ConvTranspose2d(96, 48, 4, stride=2),
    "transposed2d, uneven kernel": lambda: nn.ConvTranspose2d(96, 48, 3, stride=2),
    "transposed1d, kernel below step": lambda: nn.ConvTranspose1d(256, 128, 2, stride=3),
    "transposed2d, groups and steps": lambda: nn.ConvTranspose2d(96, 192, 4, stride=2, groups=3),
    "transposed2d, groups": lambda: nn.ConvTranspose2d(96, 192, 3, groups=4),
}
RECURRENT = {
    "rnn": lambda: nn.RNN(20, 60, 2),
    "rnn, both ways": lambda: nn.RNN(20, 60, bidirectional=True),
    "lstm": lambda: nn.LSTM(20, 60, 2),
    "lstm, projected": lambda: nn.LSTM(20, 60, proj_size=30),
    "gru": lambda: nn.GRU(20, 60),
    "gru, no bias": lambda: nn.GRU(20, 60, bias=False),
    "rnn cell": lambda: nn.RNNCell(20, 60),
    "lstm cell": lambda: nn.LSTMCell(20, 60),
    "gru cell": lambda: nn.GRUCell(20, 60),
}


def gates(layer):
    """(name, matrix) of every gate, by PyTorch's layout: gates are stacked along the rows."""
    per = {"RNN": 1, "LST": 4, "GRU": 3}[type(layer).__name__[:3]]
    for name, value in layer.named_parameters():
        if name.startswith("weight"):
            yield from ((name, m) for m in value.detach().chunk(1 if "hr" in name else per))


def weighted_outputs(net, x):
    """What every layer with weights puts out on x, by name, input side first."""
    found, handles = {}, []
    for name, part in net.named_modules():

        def keep(part, args, out, name=name):
            found[name] = out.double().numpy()

        if isinstance(part, nn.Linear | nn.modules.conv._ConvNd):
            handles.append(part.register_forward_hook(keep))
    with torch.no_grad():
        net(x)
    for handle in handles:
        handle.remove()
    return found


def gaussian(*shape, seed=7, dtype=torch.float32):
    return torch.randn(shape, generator=cu.seeded(seed), dtype=dtype)


def equal_states(first, second):
    assert list(first.state_dict()) == list(second.state_dict())
    for one, other in zip(first.state_dict().values(), second.state_dict().values(), strict=True):
        assert torch.equal(one, other)
