"""Public reports of other kinds that a gradient diagnosis should answer, and some twins."""

import torch
import torch.nn.functional as F
from reports.situation import QUIET, Situation, blobs, line, mlp, seed
from torch import nn

ZERO, CUT = {"zero_gradient"}, {"not_connected"}


def sum_of_a_layer_norm() -> Situation:
    # pytorch/pytorch#63541: LayerNorm, then .sum(): all gradients are zero (the sum of a normalized
    # row is constant)
    seed(0)
    model = nn.Sequential(nn.Linear(8, 32), nn.LayerNorm(32))
    return Situation(
        "sum() of a LayerNorm's output",
        model,
        torch.rand(10, 8),
        lambda o: o.sum(),
        kinds=(ZERO, {"vanishing"}, {"undecided"}),
        words=("norm",),
        source="pytorch/pytorch#63541",
        why="mathematically 0; what is left is rounding, so nobody should call it healthy",
    )


def scaled_sum_of_a_layer_norm() -> Situation:
    # pytorch/pytorch#63541: times 0.99 the gradients "flow": they are rounding
    seed(0)
    model = nn.Sequential(nn.Linear(8, 32), nn.LayerNorm(32))
    return Situation(
        "0.99 times that sum",
        model,
        torch.rand(10, 8),
        lambda o: (0.99 * o).sum(),
        kinds=(ZERO, {"vanishing"}, {"undecided"}),
        words=("norm",),
        source="pytorch/pytorch#63541",
    )


def mean_of_a_batch_norm() -> Situation:
    # HomericIntelligence/Odyssey#3666: sum(output) of a batch norm has gradient zero
    seed(1)
    model = nn.Sequential(nn.Linear(8, 32), nn.BatchNorm1d(32))
    return Situation(
        "mean() of a batch norm's output",
        model,
        torch.rand(32, 8),
        lambda o: o.mean(),
        kinds=(ZERO, {"vanishing"}, {"undecided"}),
        words=("norm",),
        source="HomericIntelligence/Odyssey#3666",
    )


def squares_of_a_layer_norm_in_a_fit() -> Situation:
    seed(2)
    model = nn.Sequential(nn.Linear(8, 32), nn.LayerNorm(32))
    return Situation(
        "LayerNorm at the end, fitted to targets",
        model,
        (torch.rand(32, 8), torch.randn(32, 32)),
        F.mse_loss,
        source="twin of pytorch/pytorch#63541",
    )


def norm_over_one_number() -> Situation:
    # pytorch/pytorch#12968, #108956: LayerNorm over a dimension of one outputs zeros and gives a
    # zero gradient
    seed(3)
    model = nn.Sequential(nn.Linear(8, 24), nn.ReLU(), nn.Linear(24, 1), nn.LayerNorm(1))
    return Situation(
        "LayerNorm(1) at the output",
        model,
        line(32, 8),
        F.mse_loss,
        kinds=(ZERO, {"constant_output"}, {"zero_gradient", "constant_output"}),
        words=("norm",),
        forbidden=("kaiming",),
        source="pytorch/pytorch#12968",
    )


def batch_norm_with_one_sample() -> Situation:
    # pytorch/pytorch#7716, #1381: BatchNorm1d cannot work with a batch of one
    seed(4)
    model = nn.Sequential(nn.Linear(8, 24), nn.BatchNorm1d(24), nn.ReLU(), nn.Linear(24, 3))
    return Situation(
        "batch norm, batch of one",
        model,
        (torch.randn(1, 8), torch.tensor([1])),
        F.cross_entropy,
        kinds={"batch_too_small_for_norm"},
        source="pytorch/pytorch#7716",
    )


def batch_norm_with_two_samples() -> Situation:
    seed(5)
    model = nn.Sequential(nn.Linear(8, 24), nn.BatchNorm1d(24), nn.ReLU(), nn.Linear(24, 3))
    return Situation(
        "batch norm, batch of two: every value is ±1",
        model,
        (torch.randn(2, 8), torch.tensor([1, 2])),
        F.cross_entropy,
        kinds={"batch_too_small_for_norm"},
        words=("2",),
        source="pytorch/pytorch#7716 (two)",
    )


def loss_requires_grad_by_force() -> Situation:
    # ronghuaiyang/arcface-pytorch#56: loss.requires_grad = True silences the error; the loss does
    # not fall
    seed(6)
    return Situation(
        "loss.requires_grad_() over a detached output",
        mlp(8, 24, 3),
        blobs(32, 8, 3),
        lambda o, y: F.cross_entropy(o.detach(), y).requires_grad_(),
        kinds=CUT,
        words=("detach|cut|depend",),
        source="ronghuaiyang/arcface-pytorch#56",
    )


def output_rebuilt_from_numbers() -> Situation:
    # pytorch/pytorch#92586: a detached copy with requires_grad succeeds in backward and reaches
    # nothing
    seed(7)

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = mlp(8, 24, 3)

        def forward(self, x):
            return torch.tensor(self.net(x).tolist(), requires_grad=True)

    return Situation(
        "torch.tensor(output.tolist(), requires_grad=True)",
        Net(),
        blobs(32, 8, 3),
        F.cross_entropy,
        kinds=CUT,
        words=("tensor|detach|cut|depend",),
        source="pytorch/pytorch#92586",
    )


def coordinates_by_argmax() -> Situation:
    # LZGMatrix/BOP19_CDPN_2019ICCV#4: argmax of three heads, stacked and scaled, then a loss: does
    # not require grad
    seed(8)

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.heads = nn.ModuleList([nn.Linear(8, 16) for _ in range(3)])

        def forward(self, x):
            return torch.stack([h(x).argmax(1).float() for h in self.heads], 1) / 15 * 2 - 1

    return Situation(
        "coordinates by argmax",
        Net(),
        (torch.randn(32, 8), torch.rand(32, 3)),
        F.l1_loss,
        kinds=CUT,
        words=("argmax",),
        source="LZGMatrix/BOP19_CDPN_2019ICCV#4",
    )


def one_term_is_a_constant() -> Situation:
    # Ugenteraan/Deep_Hierarchical_Classification#6: the dependency loss goes through argmax: beta
    # changes nothing
    seed(9)

    def loss(o, y):
        wrong = (o.argmax(1) != y).float().mean()
        return F.cross_entropy(o, y) + 0.8 * wrong.exp()

    return Situation(
        "a second term through argmax adds a constant",
        mlp(8, 24, 3),
        blobs(32, 8, 3),
        loss,
        kinds=(*QUIET, ZERO, {"loss_mismatch"}),
        words=("argmax|constant|term|healthy|no gradient",),
        source="Ugenteraan/Deep_Hierarchical_Classification#6",
        why="the net trains by the first term; a note on the second would be a gift",
    )


def prices_with_a_rate_of_a_tenth() -> Situation:
    # rstudio-conf-2020/dl-keras-tf#9: sales prices up to 755000, squared error, SGD 0.1: NaN in the
    # first epoch
    seed(10)
    model = mlp(8, 64, 1)
    x, y = line(16, 8)
    return Situation(
        "sale prices, squared error, SGD 0.1",
        model,
        (x, 1.8e5 + 8e4 * y),
        F.mse_loss,
        torch.optim.SGD(model.parameters(), lr=0.1),
        kinds=({"unscaled"}, {"unscaled", "update_size"}, {"update_size"}),
        words=("target|update",),
        source="rstudio-conf-2020/dl-keras-tf#9",
    )


def labels_of_many_ranges() -> Situation:
    # Xi-L/ParetoMTL#2: four regression tasks whose labels range from 1e-2 to 1e2
    seed(11)
    x, y = line(64, 8)
    return Situation(
        "four targets of scale 0.01, 0.1, 10 and 100 in one loss",
        mlp(8, 32, 4),
        (x, y * torch.tensor([1e-2, 1e-1, 1e1, 1e2])),
        F.mse_loss,
        kinds=({"unscaled"}, {"undecided"}),
        words=("target",),
        source="Xi-L/ParetoMTL#2",
        why="the smallest target is 1e-8 of the loss",
    )


def relu_lstm_and_a_relu_output() -> Situation:
    # keras-team/keras#3687: stacked recurrent nets with relu and a relu output predict zeros only
    seed(12)

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn, self.out = (
                nn.RNN(4, 32, nonlinearity="relu", batch_first=True),
                nn.Linear(32, 1),
            )
            nn.init.constant_(self.out.bias, -5.0)

        def forward(self, x):
            return F.relu(self.out(self.rnn(x)[0]))

    return Situation(
        "relu RNN, relu output, predictions all zero",
        Net(),
        (torch.randn(32, 10, 4), torch.rand(32, 10, 1)),
        F.mse_loss,
        kinds=({"dead"}, ZERO, {"dead", "constant_output"}, {"dead", "zero_gradient"}),
        words=("relu",),
        source="keras-team/keras#3687",
    )


def features_detached_before_a_confidence_head() -> Situation:
    # cvg/glue-factory#89 (its code): the confidence head reads detached features on purpose
    seed(13)

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.trunk, self.head, self.confidence = (
                nn.Linear(8, 24),
                nn.Linear(24, 3),
                nn.Linear(24, 1),
            )

        def forward(self, x):
            h = torch.relu(self.trunk(x))
            return self.head(h), self.confidence(h.detach())

    def loss(o, y):
        right = (o[0].argmax(1) == y).float()[:, None]
        return F.cross_entropy(o[0], y) + F.binary_cross_entropy_with_logits(o[1], right)

    return Situation(
        "a confidence head on detached features",
        Net(),
        blobs(32, 8, 3),
        loss,
        source="cvg/glue-factory#89 (its design)",
    )


def policy_gradient_with_a_baseline() -> Situation:
    seed(14)

    class ActorCritic(nn.Module):
        def __init__(self):
            super().__init__()
            self.pi, self.v = mlp(6, 32, 4, act=nn.Tanh), mlp(6, 32, 1, act=nn.Tanh)

        def forward(self, x):
            return self.pi(x), self.v(x)[:, 0]

    def loss(o, t):
        logp = o[0].log_softmax(1)
        advantage = t[1] - o[1].detach()
        entropy = -(logp.exp() * logp).sum(1).mean()
        return (
            -(logp.gather(1, t[0][:, None])[:, 0] * advantage).mean()
            + 0.5 * F.mse_loss(o[1], t[1])
            - 0.01 * entropy
        )

    return Situation(
        "actor-critic with a detached baseline and an entropy bonus",
        ActorCritic(),
        (torch.randn(64, 6), (torch.randint(0, 4, (64,)), torch.randn(64))),
        loss,
        source="twin: policy gradient",
    )


def batch_norm_net_of_some_depth() -> Situation:
    seed(15)
    layers = [nn.Conv2d(1, 16, 3, padding=1)]
    for _ in range(6):
        layers += [nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 16, 3, padding=1)]
    model = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 3))
    return Situation(
        "seven convolutions with batch norm",
        model,
        (torch.randn(32, 1, 8, 8), torch.randint(0, 3, (32,))),
        F.cross_entropy,
        source="twin: a usual CNN",
    )


def vision_transformer() -> Situation:
    seed(16)

    class ViT(nn.Module):
        def __init__(self, d=32):
            super().__init__()
            self.patch, self.token = nn.Conv2d(1, d, 2, 2), nn.Parameter(torch.zeros(1, 1, d))
            self.position = nn.Parameter(0.02 * torch.randn(1, 17, d))
            self.body = nn.TransformerEncoder(
                nn.TransformerEncoderLayer(d, 4, 2 * d, 0.1, batch_first=True, norm_first=True),
                4,
                nn.LayerNorm(d),
                enable_nested_tensor=False,
            )
            self.head = nn.Linear(d, 3)

        def forward(self, x):
            x = self.patch(x).flatten(2).transpose(1, 2)
            x = torch.cat([self.token.expand(len(x), -1, -1), x], 1) + self.position
            return self.head(self.body(x)[:, 0])

    return Situation(
        "a small vision transformer, class token from zero",
        ViT(),
        (torch.randn(16, 1, 8, 8), torch.randint(0, 3, (16,))),
        F.cross_entropy,
        kinds=QUIET,
        source="twin: ViT",
    )


def autocast_forward() -> Situation:
    seed(17)

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = mlp(8, 32, 32, 3)

        def forward(self, x):
            with torch.autocast("cpu", torch.bfloat16):
                return self.net(x)

    return Situation(
        "forward under autocast, loss in bfloat16",
        Net(),
        blobs(48, 8, 3),
        F.cross_entropy,
        source="twin: mixed precision",
    )
