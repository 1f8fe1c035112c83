"""Recurrence by hand (A17): the factor per step, measured and predicted, and a remedy as code."""

import torch
import torch.nn.functional as F
from reports.situation import QUIET, Situation, seed
from torch import nn

VANISHES, EXPLODES = {"vanishing"}, {"exploding"}
STEP = ("per time step|per step|each step|time step", "predict")
TIME = STEP[:1]


class Hand(nn.Module):
    """h ← tanh(W [x, h])."""

    def __init__(self, inputs=4, hidden=32, outputs=3, gain=None, act=torch.tanh):
        super().__init__()
        self.hidden, self.act = hidden, act
        self.i2h, self.out = nn.Linear(inputs + hidden, hidden), nn.Linear(hidden, outputs)
        if gain is not None:
            with torch.no_grad():
                nn.init.orthogonal_(self.i2h.weight[:, inputs:], gain=gain)

    def forward(self, x):
        h = x.new_zeros(len(x), self.hidden)
        for t in range(x.shape[1]):
            h = self.act(self.i2h(torch.cat([x[:, t], h], 1)))
        return self.out(h)


def sequences(steps, size=32):
    return torch.randn(size, steps, 4), torch.randint(0, 3, (size,))


def by_hand_sixty_steps() -> Situation:
    seed(0)
    return Situation(
        "RNN by hand over cat(x, h), 60 steps",
        Hand(),
        sequences(60),
        F.cross_entropy,
        kinds=VANISHES,
        words=STEP,
        remedy=("orthogonal_|eye_",),
        source="outside.md A17",
    )


def by_hand_wide() -> Situation:
    seed(1)
    return Situation(
        "the same, 64 units, 80 steps",
        Hand(hidden=64),
        sequences(80),
        F.cross_entropy,
        kinds=VANISHES,
        words=STEP,
        remedy=("orthogonal_|eye_",),
        source="outside.md A17",
    )


def two_matrices_by_hand() -> Situation:
    seed(2)

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.wx, self.wh, self.out = nn.Linear(4, 32), nn.Linear(32, 32), nn.Linear(32, 3)

        def forward(self, x):
            h = x.new_zeros(len(x), 32)
            for t in range(x.shape[1]):
                h = torch.tanh(self.wx(x[:, t]) + self.wh(h))
            return self.out(h)

    return Situation(
        "Elman net by hand, two matrices, 60 steps",
        Net(),
        sequences(60),
        F.cross_entropy,
        kinds=VANISHES,
        words=STEP,
        remedy=("orthogonal_|eye_",),
        source="outside.md A17 (two matrices)",
    )


def bare_parameters_by_hand() -> Situation:
    seed(3)

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.w, self.u = (
                nn.Parameter(torch.randn(32, 32) * 0.5 / 32**0.5),
                nn.Parameter(torch.randn(4, 32) / 2),
            )
            self.out = nn.Linear(32, 3)

        def forward(self, x):
            h = x.new_zeros(len(x), 32)
            for t in range(x.shape[1]):
                h = torch.tanh(x[:, t] @ self.u + h @ self.w)
            return self.out(h)

    return Situation(
        "bare matrices, h @ W, 40 steps",
        Net(),
        sequences(40),
        F.cross_entropy,
        kinds=VANISHES,
        words=STEP,
        source="outside.md A17 (bare)",
    )


def cell_in_a_loop() -> Situation:
    seed(4)

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.cell, self.out = nn.RNNCell(4, 32), nn.Linear(32, 3)

        def forward(self, x):
            h = x.new_zeros(len(x), 32)
            for t in range(x.shape[1]):
                h = self.cell(x[:, t], h)
            return self.out(h)

    return Situation(
        "nn.RNNCell in a loop, 60 steps",
        Net(),
        sequences(60),
        F.cross_entropy,
        kinds=VANISHES,
        words=STEP,
        source="twin of outside.md A17 (cell)",
    )


def sequence_first_by_hand() -> Situation:
    seed(5)

    class Net(Hand):
        def forward(self, x):
            return super().forward(x.transpose(0, 1))

    x, y = sequences(60)
    return Situation(
        "time first, 60 steps",
        Net(),
        (x.transpose(0, 1), y),
        F.cross_entropy,
        kinds=VANISHES,
        words=STEP,
        source="outside.md A17 (time first)",
    )


def explodes_by_hand() -> Situation:
    seed(6)
    return Situation(
        "linear recurrence of gain 1.3, 40 steps",
        Hand(gain=1.3, act=lambda v: v),
        sequences(40),
        F.cross_entropy,
        kinds=(EXPLODES, {"exploding", "unscaled"}),
        words=TIME,
        source="outside.md A17 (exploding)",
    )


def gru_by_hand() -> Situation:
    seed(7)

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.gates, self.new, self.out = nn.Linear(36, 64), nn.Linear(36, 32), nn.Linear(32, 3)

        def forward(self, x):
            h = x.new_zeros(len(x), 32)
            for t in range(x.shape[1]):
                r, z = torch.sigmoid(self.gates(torch.cat([x[:, t], h], 1))).chunk(2, 1)
                n = torch.tanh(self.new(torch.cat([x[:, t], r * h], 1)))
                h = (1 - z) * n + z * h
            return self.out(h)

    return Situation(
        "GRU by hand, gates at 1/2, 60 steps",
        Net(),
        sequences(60),
        F.cross_entropy,
        kinds=VANISHES,
        words=TIME,
        source="outside.md A17 (gates by hand)",
    )


def first_token_decides() -> Situation:
    seed(8)

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed, self.rnn = nn.Embedding(20, 4), Hand()

        def forward(self, i):
            return self.rnn(self.embed(i))

    return Situation(
        "tokens through an RNN by hand, 100 steps",
        Net(),
        (torch.randint(0, 20, (32, 100)), torch.randint(0, 3, (32,))),
        F.cross_entropy,
        kinds=VANISHES,
        words=STEP,
        source="outside.md A17 (embedded)",
    )


# ---------------------------------------------------------------- healthy


def short_by_hand() -> Situation:
    seed(20)
    return Situation(
        "RNN by hand, 4 steps",
        Hand(),
        sequences(4),
        F.cross_entropy,
        kinds=QUIET,
        source="twin: short sequences",
    )


def orthogonal_by_hand() -> Situation:
    seed(21)
    x, y = sequences(40)
    return Situation(
        "orthogonal recurrence, linear, 40 steps",
        Hand(gain=1.0, act=lambda v: v),
        (0.2 * x, y),
        F.cross_entropy,
        source="twin: orthogonal",
    )


def residual_recurrence() -> Situation:
    seed(22)

    class Net(Hand):
        def forward(self, x):
            h = x.new_zeros(len(x), self.hidden)
            for t in range(x.shape[1]):
                h = h + 0.05 * torch.tanh(self.i2h(torch.cat([x[:, t], h], 1)))
            return self.out(h)

    return Situation(
        "h + 0.05 tanh(W [x, h]), 60 steps",
        Net(),
        sequences(60),
        F.cross_entropy,
        source="twin: Euler steps",
    )


def lstm_that_remembers() -> Situation:
    seed(23)

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.lstm, self.out = nn.LSTM(4, 32, batch_first=True), nn.Linear(32, 3)
            with torch.no_grad():
                self.lstm.bias_hh_l0[32:64] = 5.0

        def forward(self, x):
            return self.out(self.lstm(x)[0][:, -1])

    return Situation(
        "LSTM with forget bias 5, 60 steps",
        Net(),
        sequences(60),
        F.cross_entropy,
        kinds=QUIET,
        source="twin: forget bias",
    )


def carried_state_detached() -> Situation:
    seed(24)

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn, self.out = nn.GRU(4, 16, batch_first=True), nn.Linear(16, 3)

        def forward(self, x, h):
            o, h = self.rnn(x, h.detach())
            return self.out(o), h

    return Situation(
        "truncated: the state of the last batch is detached",
        Net(),
        ((torch.randn(16, 5, 4), 0.1 * torch.randn(1, 16, 16)), torch.randint(0, 3, (16, 5))),
        lambda o, y: F.cross_entropy(o[0].flatten(0, 1), y.flatten()),
        source="twin: truncated backpropagation",
    )


def reservoir() -> Situation:
    seed(25)
    model = Hand(gain=0.9)
    model.i2h.requires_grad_(False)
    return Situation(
        "echo state net: the recurrence is frozen",
        model,
        sequences(30),
        F.cross_entropy,
        kinds=QUIET,
        source="twin: reservoir",
        forbidden=("requires_grad_(True)",),
        why="only the readout trains; no gradient needs to go back in time",
    )


def loss_at_every_step() -> Situation:
    seed(26)

    class Net(Hand):
        def forward(self, x):
            h, outs = x.new_zeros(len(x), self.hidden), []
            for t in range(x.shape[1]):
                h = self.act(self.i2h(torch.cat([x[:, t], h], 1)))
                outs.append(self.out(h))
            return torch.stack(outs, 1)

    x, _ = sequences(40)
    return Situation(
        "a loss at every step, 40 steps by hand",
        Net(),
        (x, torch.randint(0, 3, (32, 40))),
        lambda o, y: F.cross_entropy(o.flatten(0, 1), y.flatten()),
        kinds=(*QUIET, VANISHES),
        source="twin: a loss at every step",
        why="every step has its own gradient; only memory over many steps is missing",
    )


# ---------------------------------------------------------------- more


def state_first() -> Situation:
    seed(40)

    class Net(Hand):
        def forward(self, x):
            h = x.new_zeros(len(x), self.hidden)
            for t in range(x.shape[1]):
                h = self.act(self.i2h(torch.cat([h, x[:, t]], 1)))
            return self.out(h)

    return Situation(
        "cat(h, x): the state first",
        Net(),
        sequences(50),
        F.cross_entropy,
        kinds=VANISHES,
        words=STEP,
        remedy=("[:, 0:32]",),
        source="twin of outside.md A17",
    )


def bare_over_both() -> Situation:
    seed(41)

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.w = nn.Parameter(0.5 * torch.randn(36, 32) / 36**0.5)
            self.b, self.out = nn.Parameter(torch.zeros(32)), nn.Linear(32, 3)

        def forward(self, x):
            h = x.new_zeros(len(x), 32)
            for step in x.unbind(1):
                h = torch.tanh(torch.cat([step, h], 1) @ self.w + self.b)
            return self.out(h)

    return Situation(
        "cat(x, h) @ W with a bare matrix",
        Net(),
        sequences(50),
        F.cross_entropy,
        kinds=VANISHES,
        words=STEP,
        remedy=("orthogonal_|eye_", "[4:36]"),
        source="twin of outside.md A17 (bare)",
    )


def relu_over_both() -> Situation:
    seed(42)
    return Situation(
        "ReLU recurrence by hand, 50 steps",
        Hand(act=torch.relu),
        sequences(50),
        F.cross_entropy,
        kinds=VANISHES,
        words=STEP,
        remedy=("eye_",),
        source="twin of outside.md A17 (ReLU)",
    )


def explodes_with_relu() -> Situation:
    seed(43)
    x, y = sequences(40)
    model = Hand(act=torch.relu)
    with torch.no_grad():
        model.i2h.weight[:, 4:] = 1.3 * torch.eye(32)
    return Situation(
        "ReLU recurrence of 1.3 × identity by hand",
        model,
        (x.abs(), y),
        F.cross_entropy,
        kinds=(EXPLODES, {"exploding", "unscaled"}),
        words=TIME,
        remedy=("clip",),
        source="twin of outside.md A17 (exploding)",
    )


def context_beside_both() -> Situation:
    seed(44)

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.context, self.cell = nn.Linear(4, 8), nn.Linear(4 + 8 + 32, 32)
            self.out = nn.Linear(32, 3)

        def forward(self, x):
            c, h = self.context(x.mean(1)), x.new_zeros(len(x), 32)
            for step in x.unbind(1):
                h = torch.tanh(self.cell(torch.cat([step, c, h], 1)))
            return self.out(h)

    return Situation(
        "decoder over cat(x, context, h)",
        Net(),
        sequences(50),
        F.cross_entropy,
        kinds=VANISHES,
        words=STEP,
        remedy=("[:, 12:44]",),
        source="twin of outside.md A17 (context)",
    )


def by_hand_in_double_precision() -> Situation:
    seed(45)
    x, y = sequences(60)
    return Situation(
        "the same in float64",
        Hand().double(),
        (x.double(), y),
        F.cross_entropy,
        kinds=VANISHES,
        words=STEP,
        source="twin of outside.md A17 (float64)",
    )


def loss_times_a_millionth() -> Situation:
    seed(46)
    return Situation(
        "the same, loss × 1e-6",
        Hand(),
        sequences(60),
        lambda o, y: 1e-6 * F.cross_entropy(o, y),
        kinds=VANISHES,
        words=STEP,
        source="twin of outside.md A17 (scale)",
    )


# ---------------------------------------------------------------- more that are healthy


def teacher_forced_short() -> Situation:
    seed(60)
    return Situation(
        "RNN by hand, 6 steps, wide",
        Hand(hidden=128),
        sequences(6),
        F.cross_entropy,
        kinds=QUIET,
        source="twin: short",
    )


def orthogonal_tanh_small_inputs() -> Situation:
    seed(61)
    x, y = sequences(40)
    return Situation(
        "orthogonal tanh recurrence, small inputs",
        Hand(gain=1.0),
        (0.05 * x, y),
        F.cross_entropy,
        kinds=QUIET,
        source="twin: orthogonal",
    )


def highway_by_hand() -> Situation:
    seed(62)

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.new, self.keep = nn.Linear(36, 32), nn.Linear(36, 32)
            self.out = nn.Linear(32, 3)
            nn.init.constant_(self.keep.bias, 4.0)

        def forward(self, x):
            h = x.new_zeros(len(x), 32)
            for step in x.unbind(1):
                both = torch.cat([step, h], 1)
                k = torch.sigmoid(self.keep(both))
                h = k * h + (1 - k) * torch.tanh(self.new(both))
            return self.out(h)

    return Situation(
        "gate by hand with a bias of 4",
        Net(),
        sequences(50),
        F.cross_entropy,
        kinds=QUIET,
        source="twin: open gate",
    )


def leaky_integrator() -> Situation:
    seed(63)

    class Net(Hand):
        def forward(self, x):
            h = x.new_zeros(len(x), self.hidden)
            for step in x.unbind(1):
                h = 0.97 * h + 0.03 * torch.tanh(self.i2h(torch.cat([step, h], 1)))
            return self.out(h)

    return Situation(
        "leaky integrator, 60 steps",
        Net(),
        sequences(60),
        F.cross_entropy,
        kinds=QUIET,
        source="twin: time constant of 33 steps",
    )


def window_of_five() -> Situation:
    seed(64)

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.f, self.out = nn.Linear(20, 32), nn.Linear(32, 3)

        def forward(self, x):
            windows = [torch.relu(self.f(x[:, t : t + 5].flatten(1))) for t in range(36)]
            return self.out(torch.stack(windows).mean(0))

    return Situation(
        "one layer over 36 windows: no recurrence",
        Net(),
        sequences(40),
        F.cross_entropy,
        kinds=QUIET,
        source="twin: no state",
    )
