"""The report as text (A19). The runner checks every situation for these: no nan, no contradiction, layers typed, short lines."""

import torch
import torch.nn.functional as F
from reports.situation import Situation, blobs, mlp, seed
from torch import nn

UNTYPED = ()


def near_the_limit(number: int, std: float, size: int) -> Situation:
    seed(number)
    layers = []
    for i in range(9):
        layer = nn.Linear(24, 24)
        nn.init.normal_(layer.weight, std=std / 24**0.5 * (1.5 if i % 3 == 0 else 0.85))
        layers += [layer, nn.Tanh()]
    return Situation(
        f"the limit lies within two standard errors (std {std}, batch {size})",
        nn.Sequential(*layers, nn.Linear(24, 3)),
        (torch.randn(size, 24), torch.arange(size) % 3),
        F.cross_entropy,
        kinds=({"undecided"}, {"vanishing"}),
        words=("measure|batch|vanish",),
        source="outside.md A19",
        why="either it is decided, or it says what to measure; never healthy",
    )


def limit_within_the_error() -> Situation:
    return near_the_limit(0, 0.6, 16)


def limit_within_the_error_other_weights() -> Situation:
    return near_the_limit(1, 0.6, 16)


def limit_within_the_error_small_batch() -> Situation:
    return near_the_limit(0, 0.65, 4)


def layers_called_by_numbers() -> Situation:
    seed(1)
    model = mlp(*[64] * 20, 3, act=nn.Sigmoid)
    return Situation(
        "layers called 0, 2, 4 …: their type and shape",
        model,
        blobs(32, 64, 3),
        F.cross_entropy,
        kinds={"vanishing"},
        words=("Linear 64→64|Linear(64, 64)|Linear 64->64|Linear",),
        source="outside.md A19",
    )


class Deep(nn.Module):
    def __init__(self, depth=48, d=32):
        super().__init__()
        self.inp, self.layers, self.out = (
            nn.Linear(8, d),
            nn.ModuleList([nn.Linear(d, d) for _ in range(depth)]),
            nn.Linear(d, 3),
        )

    def forward(self, x):
        x = self.inp(x)
        for layer in self.layers:
            x = torch.sigmoid(layer(x))
        return self.out(x)


def forty_eight_layers() -> Situation:
    seed(2)
    return Situation(
        "48 layers as a range",
        Deep(),
        blobs(32, 8, 3),
        F.cross_entropy,
        kinds={"vanishing"},
        words=("layers.0 … layers.47|layers.0…layers.47|layers.0 ... layers.47|layers.0–47",),
        forbidden=("layers.0, layers.1, layers.2, layers.3",),
        source="outside.md A19",
    )


def forty_eight_idle_layers() -> Situation:
    seed(3)

    class Idle(Deep):
        def forward(self, x):
            return self.out(torch.relu(self.inp(x)))

    return Situation(
        "48 layers that never run: the remedy loops",
        Idle(),
        blobs(32, 8, 3),
        F.cross_entropy,
        kinds={"not_connected"},
        words=("layers.0",),
        forbidden=(
            "'layers.5.weight', 'layers.5.bias', 'layers.6.weight'",
            "layers.5.weight, layers.5.bias, layers.6.weight",
        ),
        source="outside.md A19",
    )


def all_layers_dead() -> Situation:
    seed(4)
    model = mlp(8, 24, 24, 24, 3)
    nn.init.constant_(model[2].bias, -20.0)
    return Situation(
        "one dead layer is one finding",
        model,
        blobs(32, 8, 3),
        F.cross_entropy,
        kinds={"dead"},
        words=("2",),
        source="outside.md A19",
        why="what the dead layer does to those around it is no second finding",
    )


def overflow_is_one_finding() -> Situation:
    seed(5)
    model = mlp(*[32] * 60, 3)
    with torch.no_grad():
        for layer in model:
            if isinstance(layer, nn.Linear):
                layer.weight.normal_(std=10 / 32**0.5)
    return Situation(
        "growth by ten per layer until Inf",
        model,
        blobs(32, 32, 3),
        F.cross_entropy,
        kinds=({"exploding", "non_finite"}, {"exploding"}, {"non_finite"}),
        words=("grow", "per layer"),
        source="outside.md A19",
    )


def root_model_without_a_name() -> Situation:
    seed(6)
    return Situation(
        "a bare nn.Linear has a name that reads",
        nn.Linear(8, 3),
        blobs(32, 8, 3),
        F.cross_entropy,
        forbidden=("HEALTHY: \n",),
        source="outside.md A19",
    )


def odd_names() -> Situation:
    seed(7)
    model = nn.ModuleDict({"10": nn.Linear(8, 24), "2": nn.Linear(24, 24), "one": nn.Linear(24, 3)})

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.parts = model

        def forward(self, x):
            return self.parts["one"](torch.relu(self.parts["2"](torch.relu(self.parts["10"](x)))))

    return Situation(
        "numbered names out of order",
        Net(),
        blobs(32, 8, 3),
        F.cross_entropy,
        source="outside.md A19",
    )


def healthy_says_it_once() -> Situation:
    seed(8)
    return Situation(
        "healthy, nothing open",
        mlp(8, 32, 32, 32, 3),
        blobs(64, 8, 3),
        F.cross_entropy,
        forbidden=("not decided", "undecided"),
        source="outside.md A19",
    )


def evaluation_mode_norms() -> Situation:
    seed(9)

    class Frozen(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU())
            self.head = nn.Linear(8, 3)

        def train(self, mode=True):
            super().train(mode)
            self.body[1].eval()  # running statistics stay as they were
            return self

        def forward(self, x):
            return self.head(self.body(x).mean((2, 3)))

    model = Frozen()
    model.body.requires_grad_(False)
    return Situation(
        "fine-tuning with batch norm in evaluation mode, batch of 2",
        model,
        (torch.randn(2, 1, 8, 8), torch.tensor([0, 1])),
        F.cross_entropy,
        forbidden=("GroupNorm",),
        source="twin: frozen batch norm",
        kinds=({"healthy"}, {"undecided"}),
    )


def small_widths() -> Situation:
    seed(10)
    return Situation(
        "a net of two units",
        mlp(3, 2, 2, 2, act=nn.Tanh),
        blobs(32, 3, 2),
        F.cross_entropy,
        kinds=({"healthy"}, {"undecided"}),
        source="twin: small widths",
    )


# ---------------------------------------------------------------- what every report says first (issue 13, delivery 2)


def first_lines_of_a_classifier() -> Situation:
    seed(11)
    return Situation(
        "the first loss beside ln 7, and the formats",
        mlp(8, 32, 7),
        blobs(70, 8, 7),
        F.cross_entropy,
        words=("1.95|1.946", "float32"),
        source="issue 13, delivery 2",
        why="ln 7 = 1.946",
    )


def first_lines_of_a_regression() -> Situation:
    seed(12)
    x = torch.randn(64, 6)
    y = 0.5 * x[:, :1] + 0.25
    y = 0.4 * (y - y.mean()) / y.std(correction=0) + 0.25
    return Situation(
        "the first loss beside the variance of the targets",
        mlp(6, 32, 1),
        (x, y),
        F.mse_loss,
        words=("0.16", "float32"),
        source="issue 13, delivery 2",
        kinds=({"healthy"}, {"undecided"}),
    )


def first_lines_of_a_binary_classifier() -> Situation:
    seed(13)
    x, y = blobs(64, 6, 2)
    return Situation(
        "the first loss beside ln 2",
        mlp(6, 32, 1),
        (x, y.float()[:, None]),
        F.binary_cross_entropy_with_logits,
        words=("0.693",),
        source="issue 13, delivery 2",
    )


def first_lines_with_a_frozen_part() -> Situation:
    seed(14)
    model = nn.Sequential(nn.Linear(8, 24).requires_grad_(False), nn.ReLU(), nn.Linear(24, 3))
    return Situation(
        "216 of 291 parameters are frozen",
        model,
        blobs(48, 8, 3),
        F.cross_entropy,
        words=("frozen", "216|74 %|74%"),
        source="issue 13, delivery 2",
    )


def first_lines_of_a_bfloat16_net() -> Situation:
    seed(15)
    x, y = blobs(48, 8, 3)
    return Situation(
        "a bfloat16 net",
        mlp(8, 24, 3).bfloat16(),
        (x.bfloat16(), y),
        lambda o, y: F.cross_entropy(o.float(), y),
        words=("bfloat16",),
        source="issue 13, delivery 2",
    )


def first_lines_with_norms_and_skips() -> Situation:
    seed(16)

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm, self.fc1, self.fc2 = nn.LayerNorm(24), nn.Linear(24, 48), nn.Linear(48, 24)

        def forward(self, x):
            return x + self.fc2(torch.relu(self.fc1(self.norm(x))))

    model = nn.Sequential(nn.Linear(8, 24), Block(), Block(), nn.Linear(24, 3))
    return Situation(
        "pre-norm with skips, in a few words",
        model,
        blobs(48, 8, 3),
        F.cross_entropy,
        words=("norm", "skip|residual"),
        source="issue 13, delivery 2",
    )
