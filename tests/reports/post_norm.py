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
    # pytorch/pytorch#55270: nn.Transformer is post-norm; 12 layers do not train without care
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


# ---------------------------------------------------------------- more


class PostBlock(nn.Module):
    """norm(x + f(x)) by hand."""

    def __init__(self, d, norm=nn.LayerNorm, gain=1.0, drop=0.0):
        super().__init__()
        self.fc1, self.fc2, self.norm = nn.Linear(d, 2 * d), nn.Linear(2 * d, d), norm(d)
        self.drop = nn.Dropout(drop)
        with torch.no_grad():
            self.fc2.weight.mul_(gain)

    def forward(self, x):
        return self.norm(x + self.drop(self.fc2(F.gelu(self.fc1(x)))))


def by_hand(name, blocks, source, words=(), kinds=(*QUIET, {"vanishing"}), **options) -> Situation:
    model = nn.Sequential(
        nn.Linear(8, 24), *(PostBlock(24, **options) for _ in range(blocks)), nn.Linear(24, 3)
    )
    batch = torch.randn(64, 8), torch.randint(0, 3, (64,))
    return Situation(name, model, batch, F.cross_entropy, kinds=kinds, words=words, source=source)


def with_dropout() -> Situation:
    seed(40)
    return by_hand("with dropout on the branch", 30, "twin of A18", ("warm", "norm"), drop=0.1)


def large_branches() -> Situation:
    seed(41)
    return by_hand("branches four times as large", 24, "twin of A18", ("norm",), gain=4.0)


def dead_branches() -> Situation:
    seed(42)
    model = nn.Sequential(nn.Linear(8, 24), *(PostBlock(24) for _ in range(24)), nn.Linear(24, 3))
    with torch.no_grad():
        for block in model[1:-1]:
            block.fc1.bias.fill_(-30.0)
            block.fc2.bias.normal_(0, 1.5)
    return Situation(
        "branches that give a large constant and no gradient",
        model,
        (torch.randn(64, 8), torch.randint(0, 3, (64,))),
        F.cross_entropy,
        kinds=({"vanishing"}, {"vanishing", "saturated"}, {"vanishing", "dead"}),
        words=("post-norm", "addition"),
        source="what too long first steps leave behind",
    )


def decoder_stack() -> Situation:
    seed(43)

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            layer = nn.TransformerDecoderLayer(16, 2, 32, 0.0, batch_first=True)
            self.body, self.head = nn.TransformerDecoder(layer, 12), nn.Linear(16, 3)

        def forward(self, x, memory):
            return self.head(self.body(x, memory).mean(1))

    batch = (torch.randn(16, 6, 16), torch.randn(16, 5, 16)), torch.randint(0, 3, (16,))
    return Situation(
        "12 post-norm decoder layers",
        Net(),
        batch,
        F.cross_entropy,
        kinds=(*QUIET, {"vanishing"}),
        words=("warm", "norm"),
        source="twin of A18 (decoder)",
    )


def sandwich_norm() -> Situation:
    seed(50)

    class Sandwich(nn.Module):
        def __init__(self, d=24):
            super().__init__()
            self.fc1, self.fc2 = nn.Linear(d, 2 * d), nn.Linear(2 * d, d)
            self.before, self.behind = nn.LayerNorm(d), nn.LayerNorm(d)
            nn.init.constant_(self.behind.weight, 0.2)

        def forward(self, x):
            return x + self.behind(self.fc2(F.gelu(self.fc1(self.before(x)))))

    model = nn.Sequential(
        nn.Linear(8, 24), *(Sandwich() for _ in range(20)), nn.LayerNorm(24), nn.Linear(24, 3)
    )
    return Situation(
        "sandwich norm, 20 blocks",
        model,
        (torch.randn(64, 8), torch.randint(0, 3, (64,))),
        F.cross_entropy,
        kinds=QUIET,
        forbidden=("warm",),
        source="twin: CogView",
    )


def three_post_norm_blocks() -> Situation:
    seed(51)
    s = by_hand("three post-norm blocks", 3, "twin: shallow", kinds=QUIET)
    s.forbidden = ("warm",)
    return s


def parallel_attention_blocks() -> Situation:
    seed(52)

    class Parallel(nn.Module):
        def __init__(self, d=16):
            super().__init__()
            self.norm = nn.LayerNorm(d)
            self.attend = nn.MultiheadAttention(d, 2, batch_first=True)
            self.fc1, self.fc2 = nn.Linear(d, 2 * d), nn.Linear(2 * d, d)

        def forward(self, x):
            h = self.norm(x)
            a = self.attend(h, h, h, need_weights=False)[0]
            return x + a + self.fc2(F.gelu(self.fc1(h)))

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = nn.Sequential(*(Parallel() for _ in range(12)))
            self.norm, self.head = nn.LayerNorm(16), nn.Linear(16, 3)

        def forward(self, x):
            return self.head(self.norm(self.body(x)).mean(1))

    return Situation(
        "parallel attention and feed-forward, 12 blocks",
        Net(),
        (torch.randn(16, 6, 16), torch.randint(0, 3, (16,))),
        F.cross_entropy,
        kinds=QUIET,
        forbidden=("warm",),
        source="twin: GPT-J",
    )


def mixer_of_group_norms() -> Situation:
    seed(53)
    model = nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1),
        *(
            nn.Sequential(nn.GroupNorm(2, 8), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1))
            for _ in range(4)
        ),
        nn.Flatten(),
        nn.Linear(8 * 64, 3),
    )
    return Situation(
        "group norms without a skip, 4 layers",
        model,
        (torch.randn(32, 1, 8, 8), torch.randint(0, 3, (32,))),
        F.cross_entropy,
        kinds=QUIET,
        forbidden=("warm",),
        source="twin: no addition",
    )
