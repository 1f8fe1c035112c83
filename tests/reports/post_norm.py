"""Post-norm encoders (A18): stuck ones, and those that only need a warm-up."""

import torch
import torch.nn.functional as F
from reports.situation import QUIET, Situation, seed
from torch import nn


class Encoder(nn.Module):
    """nn.TransformerEncoder over embedded tokens, mean pooled."""

    def __init__(self, layers, norm_first=False, d=16, heads=2, xavier=True, first_token=False):
        super().__init__()
        layer = nn.TransformerEncoderLayer(
            d, heads, 2 * d, 0.0, batch_first=True, norm_first=norm_first
        )
        self.embed = nn.Embedding(12, d)
        self.position = nn.Parameter(0.5 * torch.randn(6, d))
        self.encoder = nn.TransformerEncoder(
            layer, layers, norm=nn.LayerNorm(d) if norm_first else None, enable_nested_tensor=False
        )
        self.head = nn.Linear(d, 4)
        if xavier:
            for p in self.encoder.parameters():
                if p.dim() > 1:
                    nn.init.xavier_uniform_(p)

    def forward(self, i):
        return self.head(self.encoder(self.embed(i) + self.position).mean(1))


def task(size=32):
    i = torch.randint(0, 12, (size, 6))
    return i, (i[:, 0] + i[:, 1]) % 4


def stuck(layers, steps, lr) -> Situation:
    model = Encoder(layers)
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    for _ in range(steps):
        i, y = task()
        optimizer.zero_grad()
        F.cross_entropy(model(i), y).backward()
        optimizer.step()
    optimizer.zero_grad()
    return Situation(
        f"{layers} post-norm layers, {steps} steps of Adam {lr} without warm-up",
        model,
        task(),
        F.cross_entropy,
        optimizer,
    )


def stuck_encoder_of_24_layers() -> Situation:
    # pytorch/pytorch#55270: nn.Transformer is post-norm; 12 and more layers do not train without care
    seed(0)
    situation = stuck(24, 12, 3e-3)
    situation.optimizer = None
    situation.kinds = ({"vanishing"}, {"constant_output"}, {"vanishing", "constant_output"})
    situation.words, situation.source = (
        ("norm", "post|behind|after the|warm"),
        "pytorch/pytorch#55270",
    )
    situation.forbidden = ("cause unknown", "not known")
    return situation


def encoder_of_24_layers_at_the_start() -> Situation:
    seed(1)
    return Situation(
        "24 post-norm layers, fresh",
        Encoder(24),
        task(),
        F.cross_entropy,
        kinds=(*QUIET, {"vanishing"}),
        words=("warm", "norm"),
        source="outside.md A18",
        why="nothing is wrong yet; it will not start without a warm-up",
    )


def encoder_of_12_layers_at_the_start() -> Situation:
    seed(2)
    return Situation(
        "12 post-norm layers, fresh",
        Encoder(12),
        task(),
        F.cross_entropy,
        kinds=(*QUIET, {"vanishing"}),
        words=("warm", "norm"),
        source="pytorch/pytorch#55270",
    )


def hand_written_post_norm() -> Situation:
    # LiyuanLucasLiu/Transformer-Clinic#16: post-LN without warm-up does not converge
    seed(3)

    class Block(nn.Module):
        def __init__(self, d):
            super().__init__()
            self.fc1, self.fc2, self.norm = (
                nn.Linear(d, 2 * d),
                nn.Linear(2 * d, d),
                nn.LayerNorm(d),
            )

        def forward(self, x):
            return self.norm(x + self.fc2(F.relu(self.fc1(x))))

    model = nn.Sequential(nn.Linear(8, 24), *(Block(24) for _ in range(24)), nn.Linear(24, 3))
    return Situation(
        "24 post-norm blocks by hand, fresh",
        model,
        (torch.randn(64, 8), torch.randint(0, 3, (64,))),
        F.cross_entropy,
        kinds=(*QUIET, {"vanishing"}),
        words=("warm", "norm"),
        source="LiyuanLucasLiu/Transformer-Clinic#16",
    )


# ---------------------------------------------------------------- healthy


def pre_norm_24() -> Situation:
    # openai/CLIP#91: layer norm before the residual branch
    seed(10)
    return Situation(
        "24 pre-norm layers",
        Encoder(24, norm_first=True),
        task(),
        F.cross_entropy,
        forbidden=("warm",),
        source="openai/CLIP#91",
    )


def pre_norm_6() -> Situation:
    seed(11)
    return Situation(
        "6 pre-norm layers",
        Encoder(6, norm_first=True),
        task(),
        F.cross_entropy,
        forbidden=("warm",),
        source="twin of outside.md A18",
    )


def post_norm_2() -> Situation:
    seed(12)
    return Situation(
        "2 post-norm layers",
        Encoder(2),
        task(),
        F.cross_entropy,
        forbidden=("will not start",),
        source="twin: shallow post-norm",
    )


def post_norm_4() -> Situation:
    seed(13)
    return Situation(
        "4 post-norm layers",
        Encoder(4),
        task(),
        F.cross_entropy,
        kinds=QUIET,
        source="twin: shallow post-norm",
    )


def deep_norm() -> Situation:
    # dhkim0225/1day_1paper#106: alpha on the skip, beta on the branch
    seed(14)

    class Block(nn.Module):
        def __init__(self, d, layers):
            super().__init__()
            self.fc1, self.fc2, self.norm = (
                nn.Linear(d, 2 * d),
                nn.Linear(2 * d, d),
                nn.LayerNorm(d),
            )
            self.alpha = (2 * layers) ** 0.25
            for fc in (self.fc1, self.fc2):
                nn.init.xavier_normal_(fc.weight, gain=(8 * layers) ** -0.25)

        def forward(self, x):
            return self.norm(self.alpha * x + self.fc2(F.relu(self.fc1(x))))

    model = nn.Sequential(nn.Linear(8, 24), *(Block(24, 24) for _ in range(24)), nn.Linear(24, 3))
    return Situation(
        "24 DeepNorm blocks",
        model,
        (torch.randn(64, 8), torch.randint(0, 3, (64,))),
        F.cross_entropy,
        kinds=QUIET,
        source="dhkim0225/1day_1paper#106",
    )


def norm_in_the_branch_end() -> Situation:
    seed(15)

    class Block(nn.Module):
        def __init__(self, d):
            super().__init__()
            self.fc1, self.fc2, self.norm = (
                nn.Linear(d, 2 * d),
                nn.Linear(2 * d, d),
                nn.LayerNorm(d),
            )
            nn.init.constant_(self.norm.weight, 0.1)

        def forward(self, x):
            return x + self.norm(self.fc2(F.relu(self.fc1(x))))

    model = nn.Sequential(
        nn.Linear(8, 24), *(Block(24) for _ in range(24)), nn.LayerNorm(24), nn.Linear(24, 3)
    )
    return Situation(
        "norm at the end of the branch (Swin v2), not behind the sum",
        model,
        (torch.randn(64, 8), torch.randint(0, 3, (64,))),
        F.cross_entropy,
        kinds=QUIET,
        forbidden=("warm",),
        source="twin: res-post-norm",
    )


def warmed_up_encoder() -> Situation:
    seed(16)
    model = Encoder(6)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    for step in range(30):
        for group in optimizer.param_groups:
            group["lr"] = 1e-3 * min(1, step / 20)
        i, y = task()
        optimizer.zero_grad()
        F.cross_entropy(model(i), y).backward()
        optimizer.step()
    optimizer.zero_grad()
    return Situation(
        "6 post-norm layers after a warm-up of 20 steps",
        model,
        task(),
        F.cross_entropy,
        optimizer,
        kinds=QUIET,
        source="twin: warmed up",
    )
