"""All units of a layer are one unit and stay so."""

import torch
import torch.nn.functional as F
from reports.situation import QUIET, Situation, blobs, line, mlp, seed
from torch import nn

KIND = {"symmetric"}


def constant(module: nn.Module, value: float | None = None) -> nn.Module:
    """Set every weight to one number (1/fan_in unless told), biases to 0."""
    for layer in module.modules():
        if isinstance(layer, nn.Linear | nn.Conv1d | nn.Conv2d):
            nn.init.constant_(layer.weight, 1 / layer.weight[0].numel() if value is None else value)
            nn.init.zeros_(layer.bias)
    return module


def all_one_half() -> Situation:
    seed(0)
    model = mlp(8, 16, 3)
    for p in model.parameters():
        nn.init.constant_(p, 0.5)
    return Situation(
        "constant_(p, 0.5)",
        model,
        blobs(32, 8, 3),
        F.cross_entropy,
        kinds=KIND,
        words=("same|equal|one unit|identical",),
        source="outside.md A12",
    )


def all_one_over_fan_in() -> Situation:
    seed(1)
    return Situation(
        "all weights 1/fan_in",
        constant(mlp(8, 32, 32, 3, act=nn.Tanh)),
        blobs(32, 8, 3),
        F.cross_entropy,
        kinds=KIND,
        source="outside.md A12",
    )


def regression_all_constant() -> Situation:
    seed(2)
    return Situation(
        "regression, all weights 0.1",
        constant(mlp(6, 24, 24, 1, act=nn.Tanh), 0.1),
        line(32, 6),
        F.mse_loss,
        kinds=KIND,
        source="outside.md A12",
    )


def one_hidden_layer_in_and_out() -> Situation:
    seed(3)
    model = mlp(8, 16, 16, 16, 3, act=nn.Tanh)
    constant(model[2], 0.1)
    constant(model[4], 0.1)
    return Situation(
        "one hidden layer constant, in and out",
        model,
        blobs(32, 8, 3),
        F.cross_entropy,
        kinds=KIND,
        words=("2",),
        source="outside.md A12",
        why="its units share their weights in and out: no gradient tells them apart",
    )


def repeated_columns() -> Situation:
    # torch.randn(n).repeat: all units have one weight vector
    seed(4)

    class Layer(nn.Module):
        def __init__(self, n):
            super().__init__()
            self.w = nn.Parameter(torch.randn(n).repeat(n, 1).T.contiguous())

        def forward(self, x):
            return x @ self.w

    return Situation(
        "all units of a bare matrix have one weight vector",
        nn.Sequential(Layer(3), nn.Tanh(), constant(nn.Linear(3, 3), 0.3)),
        (torch.rand(8, 3), torch.ones(8, 3)),
        F.mse_loss,
        kinds=KIND,
        source="pages.dogdog.run/machine_learning/weight_initialization",
        why="no weight matrix is constant, its columns are equal",
    )


def convolutions_all_constant() -> Situation:
    seed(5)
    model = constant(
        nn.Sequential(
            nn.Conv2d(1, 8, 3),
            nn.ReLU(),
            nn.Conv2d(8, 8, 3),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(8 * 16, 3),
        )
    )
    return Situation(
        "constant convolutions",
        model,
        (torch.rand(16, 1, 8, 8), torch.randint(0, 3, (16,))),
        F.cross_entropy,
        kinds=KIND,
        source="llSourcell/tensorflow_neural_net_live_demo#2",
    )


def lstm_all_constant() -> Situation:
    seed(6)

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.lstm, self.out = nn.LSTM(4, 8, batch_first=True), nn.Linear(8, 2)
            for p in self.parameters():
                nn.init.constant_(p, 0.1)

        def forward(self, x):
            return self.out(self.lstm(x)[0][:, -1])

    return Situation(
        "LSTM with every weight 0.1",
        Net(),
        (torch.randn(16, 6, 4), torch.randint(0, 2, (16,))),
        F.cross_entropy,
        kinds=(KIND, {"symmetric", "zero_gradient"}),
        source="BitTiger-MP/DS502-AI-Engineer#27 (in an LSTM)",
        why="the gradient of the LSTM is 0 too: equal output weights times errors that sum to 0",
    )


def all_zero() -> Situation:
    # nndl/nndl-discussion#14: w = 0: all units of a layer get the same gradient and the same update
    seed(7)
    return Situation(
        "all weights and biases zero",
        constant(mlp(8, 16, 3), 0.0),
        blobs(32, 8, 3),
        F.cross_entropy,
        kinds=(
            KIND,
            {"constant_output"},
            {"zero_gradient"},
            {"symmetric", "constant_output"},
            {"symmetric", "zero_gradient"},
            {"dead"},
            {"symmetric", "dead"},
        ),
        words=("same|equal|one unit|zero|constant",),
        source="nndl/nndl-discussion#14",
        why="several kinds name it rightly; only the last bias moves",
    )


def constant_with_dropout() -> Situation:
    # d2l-ai/d2l-vi#1030: SGD would not break the symmetry, dropout would
    seed(8)
    model = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Dropout(0.3), nn.Linear(16, 3))
    return Situation(
        "constant weights with dropout",
        constant(model, 0.1),
        blobs(32, 8, 3),
        F.cross_entropy,
        kinds=(KIND, {"undecided"}),
        source="d2l-ai/d2l-vi#1030",
        why="dropout tells the units apart, slowly: say so",
    )


def doubled_without_noise() -> Situation:
    # soumith/net2net.torch#3: units replicated without noise keep the capacity of the small net
    seed(9)
    model = mlp(8, 16, 3, act=nn.Tanh)
    with torch.no_grad():
        model[0].weight[8:] = model[0].weight[:8]
        model[0].bias[8:] = model[0].bias[:8]
        model[2].weight[:, 8:] = model[2].weight[:, :8]
    return Situation(
        "every unit there twice (Net2Net without noise)",
        model,
        blobs(32, 8, 3),
        F.cross_entropy,
        kinds=(KIND, {"undecided"}),
        source="soumith/net2net.torch#3",
        why="8 units, not 16; pairs stay equal",
    )


# ---------------------------------------------------------------- healthy


def biases_zero_norms_one() -> Situation:
    seed(20)
    model = nn.Sequential(nn.Linear(8, 32), nn.LayerNorm(32), nn.ReLU(), nn.Linear(32, 3))
    for layer in (model[0], model[3]):
        nn.init.zeros_(layer.bias)
    return Situation(
        "biases 0, norms 1",
        model,
        blobs(32, 8, 3),
        F.cross_entropy,
        source="twin: constants by design",
    )


def softmax_regression_from_zero() -> Situation:
    seed(21)
    return Situation(
        "softmax regression from zero weights",
        constant(nn.Linear(8, 3), 0.0),
        blobs(32, 8, 3),
        F.cross_entropy,
        kinds=QUIET,
        forbidden=("kaiming",),
        source="twin: convex model",
        why="one layer: the labels tell its units apart at the first step",
    )


def logistic_regression_from_zero() -> Situation:
    seed(22)
    x, y = blobs(32, 8, 2)
    return Situation(
        "logistic regression from zero weights",
        constant(nn.Linear(8, 1), 0.0),
        (x, y.float()[:, None]),
        F.binary_cross_entropy_with_logits,
        kinds=QUIET,
        forbidden=("kaiming",),
        source="twin: convex model",
    )


def only_the_first_layer_constant() -> Situation:
    seed(23)
    model = mlp(8, 16, 3, act=nn.Tanh)
    constant(model[0], 0.1)
    return Situation(
        "only the incoming weights constant",
        model,
        blobs(32, 8, 3),
        F.cross_entropy,
        kinds=QUIET,
        source="twin of outside.md A12",
        why="the outgoing weights differ: it breaks at the first step",
    )


def identity_recurrence() -> Situation:
    seed(24)

    class IRNN(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn, self.out = (
                nn.RNN(4, 16, nonlinearity="relu", batch_first=True),
                nn.Linear(16, 2),
            )
            nn.init.eye_(self.rnn.weight_hh_l0)

        def forward(self, x):
            return self.out(self.rnn(x)[0][:, -1])

    return Situation(
        "recurrent matrix = identity",
        IRNN(),
        (0.3 * torch.randn(32, 10, 4), torch.randint(0, 2, (32,))),
        F.cross_entropy,
        source="twin: IRNN",
    )


def bottleneck_of_one_unit() -> Situation:
    seed(25)
    x = torch.randn(64, 1) @ torch.randn(1, 8) + 0.1 * torch.randn(64, 8)
    return Situation(
        "autoencoder with one hidden unit",
        mlp(8, 1, 8, act=nn.Identity),
        (x, x),
        F.mse_loss,
        source="twin: width 1",
    )


def frozen_averaging_filter() -> Situation:
    seed(26)
    blur = nn.Conv2d(1, 1, 3, padding=1, bias=False)
    nn.init.constant_(blur.weight, 1 / 9)
    blur.weight.requires_grad_(False)
    model = nn.Sequential(blur, nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 3))
    return Situation(
        "frozen blur in front",
        model,
        (torch.rand(32, 1, 8, 8), torch.randint(0, 3, (32,))),
        F.cross_entropy,
        source="twin: fixed filter",
    )


def queries_start_at_zero() -> Situation:
    seed(27)

    class Pool(nn.Module):
        def __init__(self):
            super().__init__()
            self.query, self.key, self.out = (
                nn.Parameter(torch.zeros(1, 16)),
                nn.Linear(8, 16),
                nn.Linear(16, 3),
            )

        def forward(self, x):
            k = self.key(x)
            return self.out(((k @ self.query.T).softmax(1) * k).sum(1))

    return Situation(
        "attention pooling, its query starts at zero",
        Pool(),
        (torch.randn(32, 5, 8), torch.randint(0, 3, (32,))),
        F.cross_entropy,
        kinds=QUIET,
        source="twin: zero query",
    )


def zero_head_over_random_features() -> Situation:
    seed(28)
    model = mlp(8, 32, 3)
    constant(model[2], 0.0)
    return Situation(
        "only the head is zero",
        model,
        blobs(32, 8, 3),
        F.cross_entropy,
        kinds=QUIET,
        forbidden=("kaiming",),
        source="twin: zero head",
    )


# ---------------------------------------------------------------- more that are sick


def seen_as_symmetric(name, model, batch, loss, source, **options) -> Situation:
    return Situation(name, model, batch, loss, kinds=KIND, source=source, **options)


def ones_everywhere_deep() -> Situation:
    seed(40)
    model = mlp(10, 20, 20, 20, 20, 4, act=nn.Tanh)
    for p in model.parameters():
        nn.init.constant_(p, 1.0)
    return seen_as_symmetric(
        "nn.init.ones_ on everything, five layers",
        model,
        blobs(40, 10, 4),
        F.cross_entropy,
        "a tutorial that starts from ones",
    )


def gru_all_constant() -> Situation:
    seed(41)

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.gru, self.out = nn.GRU(3, 12, batch_first=True), nn.Linear(12, 1)
            for p in self.gru.parameters():
                nn.init.constant_(p, 0.2)
            nn.init.constant_(self.out.weight, 0.3)

        def forward(self, x):
            return self.out(self.gru(x)[0][:, -1])

    return seen_as_symmetric(
        "GRU with every weight 0.2, regression",
        Net(),
        (torch.randn(24, 5, 3), torch.randn(24, 1)),
        F.mse_loss,
        "a forecast that stays a line",
    )


def rnn_cell_all_constant() -> Situation:
    seed(42)

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.cell, self.out = nn.RNNCell(3, 10), nn.Linear(10, 1)
            for p in self.parameters():
                nn.init.constant_(p, 0.1)

        def forward(self, x):
            h = x.new_zeros(len(x), 10)
            for step in x.unbind(1):
                h = self.cell(step, h)
            return self.out(h)

    return seen_as_symmetric(
        "RNNCell, every weight 0.1",
        Net(),
        (torch.randn(24, 5, 3), torch.randn(24, 1)),
        F.mse_loss,
        "every neuron shows the same curve",
    )


def normalized_constants() -> Situation:
    seed(43)
    model = nn.Sequential(
        nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 16), nn.BatchNorm1d(16),
        nn.ReLU(), nn.Linear(16, 3),
    )  # fmt: skip
    constant(model[0], 0.2)
    constant(model[3], 0.2)
    constant(model[6], 0.2)
    return seen_as_symmetric(
        "constant weights under batch norm",
        model,
        blobs(32, 8, 3),
        F.cross_entropy,
        "a norm does not tell units apart",
    )


def a_row_broadcast_over_the_units() -> Situation:
    seed(44)
    model = mlp(8, 24, 24, 3, act=nn.GELU)
    with torch.no_grad():
        model[0].weight.copy_(torch.randn(1, 8).expand(24, 8) / 8**0.5)
        model[0].bias.zero_()
        model[2].weight.copy_(torch.randn(24, 1).expand(24, 24) / 24**0.5)
    return seen_as_symmetric(
        "weights made by broadcasting one row",
        model,
        blobs(32, 8, 3),
        F.cross_entropy,
        "randn(1, n) in place of randn(m, n)",
    )


def trained_for_a_while() -> Situation:
    seed(45)
    model = constant(mlp(8, 16, 16, 3, act=nn.Tanh), 0.2)
    x, y = blobs(64, 8, 3)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(100):
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()
    optimizer.zero_grad()
    return seen_as_symmetric(
        "constant start, after 100 steps",
        model,
        (x, y),
        F.cross_entropy,
        "still one unit per layer",
    )


def sigmoid_from_zero() -> Situation:
    seed(46)
    return seen_as_symmetric(
        "all weights zero under sigmoids",
        constant(mlp(8, 16, 3, act=nn.Sigmoid), 0.0),
        blobs(32, 8, 3),
        F.cross_entropy,
        "zero is a constant too, and σ(0) = ½ lets the head move",
    )


def bare_layers_constant() -> Situation:
    seed(47)

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.w1 = nn.Parameter(torch.full((6, 12), 0.3))
            self.w2 = nn.Parameter(torch.full((12, 1), 0.3))

        def forward(self, x):
            return torch.tanh(x @ self.w1) @ self.w2

    return seen_as_symmetric(
        "two bare matrices of one number",
        Net(),
        line(32, 6),
        F.mse_loss,
        "from-scratch network",
    )


def decoder_of_constant_transposed_convolutions() -> Situation:
    seed(48)
    model = nn.Sequential(
        nn.Linear(4, 32), nn.ReLU(), nn.Unflatten(1, (2, 4, 4)),
        nn.ConvTranspose2d(2, 8, 4, 2, 1), nn.ReLU(), nn.Conv2d(8, 1, 3, padding=1),
    )  # fmt: skip
    with torch.no_grad():
        model[3].weight.fill_(0.1)
        model[3].bias.zero_()
        model[5].weight.fill_(0.05)
    return seen_as_symmetric(
        "transposed convolution of one number",
        model,
        (torch.randn(16, 4), torch.rand(16, 1, 8, 8)),
        F.mse_loss,
        "decoder whose channels look alike",
    )


def feed_forward_of_a_transformer() -> Situation:
    seed(49)

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = nn.TransformerEncoderLayer(16, 2, 32, 0.0, batch_first=True)
            self.out = nn.Linear(16, 3)
            for p in (self.body.linear1.weight, self.body.linear2.weight):
                nn.init.constant_(p, 0.05)
            nn.init.zeros_(self.body.linear1.bias)

        def forward(self, x):
            return self.out(self.body(x).mean(1))

    return seen_as_symmetric(
        "feed-forward part of a transformer layer constant",
        Net(),
        (torch.randn(16, 6, 16), torch.randint(0, 3, (16,))),
        F.cross_entropy,
        "custom init that fills the matrices",
        words=("linear1",),
    )


def times_a_millionth() -> Situation:
    s = one_hidden_layer_in_and_out()
    loss = s.loss
    s.loss = lambda o, y: 1e-6 * loss(o, y)
    s.name += ", loss × 1e-6"
    return s


# ---------------------------------------------------------------- more that are healthy


def icnr_upsampling() -> Situation:
    seed(60)
    model = nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 16, 3, padding=1),
        nn.PixelShuffle(2), nn.ReLU(), nn.Conv2d(4, 1, 3, padding=1),
    )  # fmt: skip
    with torch.no_grad():
        model[2].weight.copy_(model[2].weight[::4].repeat_interleave(4, 0))
        model[2].bias.copy_(model[2].bias[::4].repeat_interleave(4, 0))
    return Situation(
        "sub-pixel convolution with ICNR: groups of four equal rows",
        model,
        (torch.rand(8, 1, 8, 8), torch.rand(8, 1, 16, 16)),
        F.mse_loss,
        source="twin: ICNR",
        why="the four rows make four different pixels, with different gradients",
    )


def depthwise_blur_that_trains() -> Situation:
    seed(61)
    model = nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1, groups=8),
        nn.Conv2d(8, 8, 1), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 64, 3),
    )  # fmt: skip
    nn.init.constant_(model[2].weight, 1 / 9)
    nn.init.zeros_(model[2].bias)
    return Situation(
        "depthwise convolution that starts as a blur",
        model,
        (torch.rand(32, 1, 8, 8), torch.randint(0, 3, (32,))),
        F.cross_entropy,
        source="twin: anti-aliased downsampling",
        why="each filter sees its own channel",
    )


def mixture_gate_from_zero() -> Situation:
    seed(62)

    class Mixture(nn.Module):
        def __init__(self):
            super().__init__()
            self.gate = nn.Linear(8, 4)
            self.experts = nn.ModuleList(mlp(8, 16, 3) for _ in range(4))
            nn.init.zeros_(self.gate.weight)
            nn.init.zeros_(self.gate.bias)

        def forward(self, x):
            outs = torch.stack([expert(x) for expert in self.experts], -1)
            return (outs * self.gate(x).softmax(-1)[:, None]).sum(-1)

    return Situation(
        "soft mixture whose gate starts at zero",
        Mixture(),
        blobs(32, 8, 3),
        F.cross_entropy,
        kinds=QUIET,
        source="twin: zero router",
    )


def duelling_heads() -> Situation:
    seed(63)

    class Duel(nn.Module):
        def __init__(self):
            super().__init__()
            self.body, self.v, self.a = mlp(6, 32, 32), nn.Linear(32, 1), nn.Linear(32, 4)

        def forward(self, x):
            h = torch.relu(self.body(x))
            a = self.a(h)
            return self.v(h) + a - a.mean(1, keepdim=True)

    return Situation(
        "duelling heads",
        Duel(),
        (torch.randn(32, 6), torch.randn(32, 4)),
        F.mse_loss,
        source="twin: two heads",
    )


def averaged_ensemble_of_one_linear() -> Situation:
    seed(64)
    return Situation(
        "narrow net, two units",
        mlp(5, 2, 2, 3, act=nn.Tanh),
        blobs(32, 5, 3),
        F.cross_entropy,
        kinds=(*QUIET, {"vanishing"}),
        source="twin: two random units are two units",
    )


def binary_weights() -> Situation:
    seed(65)
    model = mlp(2, 64, 64, 3, act=nn.Tanh)
    with torch.no_grad():
        model[0].weight.sign_()
        model[0].bias.zero_()
    return Situation(
        "weights ±1 over two inputs: only four kinds of rows",
        model,
        blobs(64, 2, 3),
        F.cross_entropy,
        kinds=QUIET,
        source="twin: binary weights",
        why="rows repeat, but the outgoing weights tell them apart at the first step",
    )


def one_input_feature() -> Situation:
    seed(66)
    x = torch.linspace(-2, 2, 64)[:, None]
    return Situation(
        "a curve of one variable",
        mlp(1, 64, 64, 1, act=nn.Tanh),
        (x, x.sin()),
        F.mse_loss,
        kinds=QUIET,
        source="twin: fan_in 1",
    )


def half_precision() -> Situation:
    seed(67)
    model = mlp(8, 64, 64, 3).to(torch.bfloat16)
    x, y = blobs(64, 8, 3)
    return Situation(
        "bfloat16, random weights",
        model,
        (x.bfloat16(), y),
        lambda o, t: F.cross_entropy(o.float(), t),
        kinds=QUIET,
        source="twin: coarse numbers",
    )


def mean_pooled_set() -> Situation:
    seed(68)

    class Sets(nn.Module):
        def __init__(self):
            super().__init__()
            self.phi, self.rho = mlp(4, 32, 32), mlp(32, 32, 3)

        def forward(self, x):
            return self.rho(torch.relu(self.phi(x)).mean(1))

    return Situation(
        "deep sets",
        Sets(),
        (torch.randn(32, 7, 4), torch.randint(0, 3, (32,))),
        F.cross_entropy,
        kinds=QUIET,
        source="twin: one net on every element",
    )


def dropout_and_random_weights() -> Situation:
    seed(69)
    model = nn.Sequential(nn.Linear(8, 64), nn.ReLU(), nn.Dropout(0.5), nn.Linear(64, 3))
    constant(model[0], 0.1)
    return Situation(
        "constant incoming weights, random outgoing ones, dropout",
        model,
        blobs(32, 8, 3),
        F.cross_entropy,
        kinds=QUIET,
        source="twin: broken at the first step",
    )


def all_zero_under_tanh() -> Situation:
    seed(90)
    return Situation(
        "every parameter zero, tanh",
        constant(mlp(8, 16, 16, 3, act=nn.Tanh), 0.0),
        blobs(32, 8, 3),
        F.cross_entropy,
        kinds=(KIND, {"zero_gradient"}, {"symmetric", "zero_gradient"}),
        words=("one unit", "gradient"),
        remedy=("reset_parameters|init",),
        forbidden=("relu", "nan"),
        source="invented: zeros",
    )
