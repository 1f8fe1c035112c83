"""One step of the optimizer: nothing, too long, or lost in rounding."""

import torch
import torch.nn.functional as F
from reports.situation import QUIET, Situation, blobs, line, mlp, seed
from torch import nn

KIND = {"update_size"}


def rate_zero() -> Situation:
    seed(0)
    model = nn.Linear(4, 4)
    return Situation(
        "lr=0",
        model,
        blobs(32, 4, 4),
        F.cross_entropy,
        torch.optim.SGD(model.parameters(), lr=0.0),
        kinds=KIND,
        words=("lr|learning rate", "0"),
        source="outside.md A4",
    )


def rate_zero_adam_deep() -> Situation:
    seed(1)
    model = mlp(8, 32, 32, 3)
    return Situation(
        "Adam with lr=0",
        model,
        blobs(32, 8, 3),
        F.cross_entropy,
        torch.optim.Adam(model.parameters(), lr=0.0),
        kinds=KIND,
        words=("lr|learning rate",),
        source="outside.md A4",
    )


def rate_ten() -> Situation:
    seed(2)
    model = nn.Linear(4, 4)
    x, y = blobs(32, 4, 4)
    return Situation(
        "lr=10",
        model,
        (2 * x, y),
        F.cross_entropy,
        torch.optim.SGD(model.parameters(), lr=10.0),
        kinds=KIND,
        words=("weight",),
        source="outside.md A4",
    )


def adam_at_one() -> Situation:
    seed(3)
    model = mlp(8, 64, 64, 3)
    return Situation(
        "Adam with lr=1",
        model,
        blobs(32, 8, 3),
        F.cross_entropy,
        torch.optim.Adam(model.parameters(), lr=1.0),
        kinds=KIND,
        source="outside.md A4",
    )


def decay_longer_than_the_weights() -> Situation:
    seed(4)
    model = mlp(8, 32, 3)
    return Situation(
        "weight decay 30 at lr 0.1",
        model,
        blobs(32, 8, 3),
        F.cross_entropy,
        torch.optim.SGD(model.parameters(), lr=0.1, weight_decay=30.0),
        kinds=KIND,
        words=("decay",),
        source="outside.md A4 (an update longer than the weights, by decay)",
    )


def bfloat16_swallows_the_update() -> Situation:
    # workofart/ml-by-hand#85: bf16 weights, lr 6e-4: after 100 steps 0 of 768 moved; pytorch/ao#1124
    seed(5)
    model = mlp(8, 32, 3).bfloat16()
    x, y = blobs(32, 8, 3)
    return Situation(
        "bfloat16 weights: the update is lost in rounding",
        model,
        (x.bfloat16(), y),
        lambda o, y: F.cross_entropy(o.float(), y),
        torch.optim.AdamW(model.parameters(), lr=1e-5, weight_decay=0.0),
        kinds=KIND,
        words=("bfloat16", "round"),
        source="workofart/ml-by-hand#85",
    )


def schedule_has_run_out() -> Situation:
    seed(6)
    model = mlp(8, 32, 3)
    x, y = blobs(64, 8, 3)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=5)
    for _ in range(5):
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()
        schedule.step()
    return Situation(
        "cosine schedule has come to 0",
        model,
        (x, y),
        F.cross_entropy,
        optimizer,
        kinds=(KIND, {"undecided"}),
        words=("lr|learning rate",),
        source="update_size by a schedule",
    )


# ---------------------------------------------------------------- healthy


def adam_default() -> Situation:
    seed(20)
    model = mlp(8, 64, 64, 3)
    return Situation(
        "Adam with 1e-3",
        model,
        blobs(64, 8, 3),
        F.cross_entropy,
        torch.optim.Adam(model.parameters(), lr=1e-3),
        source="twin of outside.md A4",
    )


def sgd_with_momentum_and_batch_norm() -> Situation:
    seed(21)
    model = nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(8 * 36, 3),
    )
    return Situation(
        "SGD 0.1 with momentum on a CNN",
        model,
        (torch.randn(32, 1, 6, 6), torch.randint(0, 3, (32,))),
        F.cross_entropy,
        torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4),
        source="twin: the usual recipe",
    )


def zero_layer_has_any_ratio() -> Situation:
    seed(22)
    model = mlp(8, 32, 32, 1)
    nn.init.zeros_(model[-1].weight)
    return Situation(
        "zero output layer: any update is longer than the weights",
        model,
        line(64, 8),
        F.mse_loss,
        torch.optim.Adam(model.parameters(), lr=1e-3),
        kinds=QUIET,
        source="twin: zero at the start",
    )


class LayerScaled(nn.Module):
    def __init__(self, d=16, start=1e-6):
        super().__init__()
        self.norm, self.fc1, self.fc2 = nn.LayerNorm(d), nn.Linear(d, 2 * d), nn.Linear(2 * d, d)
        self.gamma = nn.Parameter(torch.full((d,), start))

    def forward(self, x):
        return x + self.gamma * self.fc2(F.gelu(self.fc1(self.norm(x))))


def layer_scale() -> Situation:
    seed(23)
    model = nn.Sequential(nn.Linear(8, 16), *(LayerScaled() for _ in range(6)), nn.Linear(16, 3))
    return Situation(
        "LayerScale 1e-6 with AdamW 1e-3: gamma moves a thousand times itself",
        model,
        blobs(64, 8, 3),
        F.cross_entropy,
        torch.optim.AdamW(model.parameters(), lr=1e-3),
        kinds=QUIET,
        source="twin: LayerScale",
    )


def warm_up_starts_at_zero() -> Situation:
    # kyegomez/SingLoRA#6 is the bad relative: a ramp that bfloat16 rounds away
    seed(24)
    model = mlp(8, 32, 3)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, step / 100))
    return Situation(
        "warm-up: the rate of step 0 is 0",
        model,
        blobs(64, 8, 3),
        F.cross_entropy,
        optimizer,
        kinds=(*QUIET, KIND),
        words=("warm|schedul",),
        source="twin: warm-up from 0",
        why="lr is 0 and initial_lr is not: a schedule; saying so is right, an alarm without it is not",
    )


def one_group_held_still() -> Situation:
    seed(25)
    model = mlp(8, 32, 3)
    groups = [{"params": model[0].parameters(), "lr": 0.0}, {"params": model[2].parameters()}]
    return Situation(
        "first layer held still by lr=0 in its group",
        model,
        blobs(64, 8, 3),
        F.cross_entropy,
        torch.optim.SGD(groups, lr=0.05),
        kinds=(*QUIET, KIND),
        words=("0",),
        source="twin: a group held still",
        why="a common way to freeze; naming the group is right",
    )


def bfloat16_autocast_keeps_master_weights() -> Situation:
    seed(26)
    model = mlp(8, 32, 3)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)

    class Cast(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = model

        def forward(self, x):
            with torch.autocast("cpu", dtype=torch.bfloat16):
                return self.net(x)

    return Situation(
        "autocast to bfloat16 over float32 weights",
        Cast(),
        blobs(64, 8, 3),
        lambda o, y: F.cross_entropy(o.float(), y),
        optimizer,
        source="twin of pytorch/pytorch#120376",
    )


def sum_over_the_batch_with_a_small_rate() -> Situation:
    seed(27)
    model = mlp(8, 32, 1)
    return Situation(
        "loss summed over the batch, rate 1e-4",
        model,
        line(64, 8),
        lambda o, y: F.mse_loss(o, y, reduction="sum"),
        torch.optim.SGD(model.parameters(), lr=1e-4),
        source="twin: summed loss",
    )
