"""Layers that start at zero on purpose (A6) and LoRA (A8): healthy, with a note."""

import copy

import torch
import torch.nn.functional as F
from reports.situation import QUIET, Situation, blobs, line, mlp, seed
from torch import nn

NO_HARM = ("kaiming", "constant_output", "stay equal", "nan", "underflow")
NOTE = ("zero|starts at 0|start at 0",)


def zeroed(layer: nn.Module) -> nn.Module:
    """Set all parameters of a layer to zero."""
    for p in layer.parameters():
        nn.init.zeros_(p)
    return layer


def trained(situation: Situation, steps: int, lr: float = 1e-3) -> Situation:
    """The same after some steps."""
    model = situation.model
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=lr)
    parts = situation.batch if isinstance(situation.batch, tuple) else (situation.batch,)
    for _ in range(steps):
        optimizer.zero_grad()
        inputs = parts[0] if isinstance(parts[0], tuple) else (parts[0],)
        situation.loss(model(*inputs), *parts[1:]).backward()
        optimizer.step()
    optimizer.zero_grad()
    situation.name += f", after {steps} steps"
    situation.words = ()
    return situation


class Block(nn.Module):
    def __init__(self, d, zero=True):
        super().__init__()
        self.norm, self.fc1, self.fc2 = nn.LayerNorm(d), nn.Linear(d, 2 * d), nn.Linear(2 * d, d)
        if zero:
            zeroed(self.fc2)

    def forward(self, x):
        return x + self.fc2(F.silu(self.fc1(self.norm(x))))


def residual_blocks() -> Situation:
    # openai/guided-diffusion#21, facebookresearch/flow_matching#87: why zero_module
    seed(0)
    model = nn.Sequential(
        nn.Linear(8, 24), *(Block(24) for _ in range(6)), nn.LayerNorm(24), nn.Linear(24, 3)
    )
    return Situation(
        "residual blocks whose last layer is zero",
        model,
        blobs(64, 8, 3),
        F.cross_entropy,
        words=NOTE,
        forbidden=NO_HARM,
        source="openai/guided-diffusion#21",
    )


def residual_blocks_after_three_steps() -> Situation:
    return trained(residual_blocks(), 3)


class UNet(nn.Module):
    def __init__(self, c=8, zero_out=True):
        super().__init__()
        self.inp = nn.Conv2d(1, c, 3, padding=1)
        self.down, self.mid = (
            nn.Conv2d(c, c, 3, 2, 1),
            nn.Sequential(nn.GroupNorm(2, c), nn.SiLU(), nn.Conv2d(c, c, 3, padding=1)),
        )
        self.up = nn.ConvTranspose2d(c, c, 4, 2, 1)
        self.time = nn.Linear(1, c)
        self.out = nn.Sequential(nn.GroupNorm(2, c), nn.SiLU(), nn.Conv2d(c, 1, 3, padding=1))
        if zero_out:
            zeroed(self.out[2])

    def forward(self, x, t):
        h = self.inp(x)
        m = F.silu(self.down(h)) + self.time(t)[:, :, None, None]
        return self.out(h + self.up(m + self.mid(m)))


def diffusion_unet() -> Situation:
    # Project-MONAI/GenerativeModels#419: all outputs are zero at initialization
    seed(1)
    x, t = torch.randn(16, 1, 8, 8), torch.rand(16, 1)
    return Situation(
        "diffusion U-Net with a zero output convolution",
        UNet(),
        ((x, t), torch.randn(16, 1, 8, 8)),
        F.mse_loss,
        words=NOTE,
        forbidden=NO_HARM,
        source="Project-MONAI/GenerativeModels#419",
    )


def diffusion_unet_after_three_steps() -> Situation:
    return trained(diffusion_unet(), 3, 1e-4)


def zero_output_of_a_regression() -> Situation:
    # crowsonkb/k-diffusion#113: outputs start at the mean of the targets
    seed(2)
    model = nn.Sequential(*mlp(8, 32, 32, 32, act=nn.SiLU), nn.SiLU(), zeroed(nn.Linear(32, 1)))
    return Situation(
        "zero output layer of a regression",
        model,
        line(64, 8),
        F.mse_loss,
        words=NOTE,
        forbidden=NO_HARM,
        source="crowsonkb/k-diffusion#113",
    )


def zero_output_of_a_regression_after_three_steps() -> Situation:
    return trained(zero_output_of_a_regression(), 3)


def zero_norms_of_a_resnet() -> Situation:
    seed(3)

    class Basic(nn.Module):
        def __init__(self, c):
            super().__init__()
            self.conv1, self.bn1 = nn.Conv2d(c, c, 3, padding=1, bias=False), nn.BatchNorm2d(c)
            self.conv2, self.bn2 = nn.Conv2d(c, c, 3, padding=1, bias=False), nn.BatchNorm2d(c)
            nn.init.zeros_(self.bn2.weight)

        def forward(self, x):
            return F.relu(x + self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x))))))

    model = nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1),
        *(Basic(8) for _ in range(3)),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 3),
    )
    return Situation(
        "ResNet, last norm of each block zero",
        model,
        (torch.randn(32, 1, 8, 8), torch.randint(0, 3, (32,))),
        F.cross_entropy,
        words=NOTE,
        forbidden=NO_HARM,
        source="outside.md A6 (zero-init residual)",
    )


def zero_norms_of_a_resnet_after_three_steps() -> Situation:
    return trained(zero_norms_of_a_resnet(), 3)


def rezero() -> Situation:
    seed(4)

    class ReZero(nn.Module):
        def __init__(self, d):
            super().__init__()
            self.fc, self.alpha = nn.Linear(d, d), nn.Parameter(torch.zeros(1))

        def forward(self, x):
            return x + self.alpha * torch.relu(self.fc(x))

    model = nn.Sequential(nn.Linear(8, 24), *(ReZero(24) for _ in range(12)), nn.Linear(24, 3))
    return Situation(
        "ReZero",
        model,
        blobs(64, 8, 3),
        F.cross_entropy,
        words=NOTE,
        forbidden=NO_HARM,
        source="outside.md A6 (ReZero)",
    )


def layer_scale() -> Situation:
    seed(5)

    class Scaled(Block):
        def __init__(self, d):
            super().__init__(d, zero=False)
            self.gamma = nn.Parameter(torch.full((d,), 1e-6))

        def forward(self, x):
            return x + self.gamma * self.fc2(F.silu(self.fc1(self.norm(x))))

    model = nn.Sequential(
        nn.Linear(8, 24), *(Scaled(24) for _ in range(8)), nn.LayerNorm(24), nn.Linear(24, 3)
    )
    return Situation(
        "LayerScale 1e-6",
        model,
        blobs(64, 8, 3),
        F.cross_entropy,
        forbidden=NO_HARM,
        source="twin: LayerScale",
    )


def adaptive_norm_zero() -> Situation:
    # crowsonkb/k-diffusion#113 names DiT among those that start at zero
    seed(6)

    class DiTBlock(nn.Module):
        def __init__(self, d):
            super().__init__()
            self.norm, self.fc1, self.fc2 = (
                nn.LayerNorm(d, elementwise_affine=False),
                nn.Linear(d, 2 * d),
                nn.Linear(2 * d, d),
            )
            self.modulate = zeroed(nn.Linear(d, 3 * d))

        def forward(self, x, c):
            shift, scale, gate = self.modulate(F.silu(c)).chunk(3, -1)
            return x + gate * self.fc2(F.gelu(self.fc1(self.norm(x) * (1 + scale) + shift)))

    class DiT(nn.Module):
        def __init__(self, d=16):
            super().__init__()
            self.inp, self.time = nn.Linear(4, d), nn.Linear(1, d)
            self.blocks = nn.ModuleList([DiTBlock(d) for _ in range(4)])
            self.out = zeroed(nn.Linear(d, 4))

        def forward(self, x, t):
            x, c = self.inp(x), self.time(t)
            for block in self.blocks:
                x = block(x, c)
            return self.out(x)

    x, t = torch.randn(32, 4), torch.rand(32, 1)
    return Situation(
        "DiT: adaLN-zero and a zero output",
        DiT(),
        ((x, t), torch.randn(32, 4)),
        F.mse_loss,
        words=NOTE,
        forbidden=NO_HARM,
        source="crowsonkb/k-diffusion#113 (DiT)",
    )


def adaptive_norm_zero_after_three_steps() -> Situation:
    return trained(adaptive_norm_zero(), 3, 1e-4)


def control_net() -> Situation:
    # ckczzj/PDAE#3: "although the parameters are zero, their gradient still exists … ControlNet"
    seed(7)

    class ControlNet(nn.Module):
        def __init__(self):
            super().__init__()
            self.base = mlp(8, 24, 24, 8).requires_grad_(False)
            self.copy = copy.deepcopy(self.base).requires_grad_(True)
            self.hint_in, self.hint_out = zeroed(nn.Linear(3, 8)), zeroed(nn.Linear(8, 8))

        def forward(self, x, hint):
            return self.base(x) + self.hint_out(self.copy(x + self.hint_in(hint)))

    x, hint = torch.randn(32, 8), torch.randn(32, 3)
    return Situation(
        "ControlNet: zero layers beside a frozen net",
        ControlNet(),
        ((x, hint), torch.randn(32, 8)),
        F.mse_loss,
        words=NOTE,
        forbidden=NO_HARM,
        source="ckczzj/PDAE#3",
        why="hint_in gets gradient 0 until hint_out has moved: the step after next, not never",
    )


def gated_cross_attention() -> Situation:
    seed(8)

    class Gate(nn.Module):
        def __init__(self, d):
            super().__init__()
            self.fc, self.alpha = nn.Linear(d, d), nn.Parameter(torch.zeros(1))

        def forward(self, x):
            return x + torch.tanh(self.alpha) * self.fc(x)

    model = nn.Sequential(
        nn.Linear(8, 16).requires_grad_(False),
        Gate(16),
        nn.Linear(16, 16).requires_grad_(False),
        Gate(16),
        nn.Linear(16, 3).requires_grad_(False),
    )
    return Situation(
        "tanh gates at 0 between frozen layers (Flamingo)",
        model,
        blobs(64, 8, 3),
        F.cross_entropy,
        words=NOTE,
        forbidden=NO_HARM,
        source="outside.md A6 (gates)",
    )


def value_head_at_zero() -> Situation:
    seed(9)

    class ActorCritic(nn.Module):
        def __init__(self):
            super().__init__()
            self.trunk, self.pi, self.v = (
                mlp(6, 32, 32, act=nn.Tanh),
                nn.Linear(32, 4),
                zeroed(nn.Linear(32, 1)),
            )

        def forward(self, x):
            h = torch.tanh(self.trunk(x))
            return self.pi(h), self.v(h)

    return Situation(
        "actor-critic with a zero value head",
        ActorCritic(),
        (torch.randn(64, 6), (torch.randint(0, 4, (64,)), torch.randn(64, 1))),
        lambda o, t: F.cross_entropy(o[0], t[0]) + F.mse_loss(o[1], t[1]),
        forbidden=NO_HARM,
        source="twin: value head",
    )


class Lora(nn.Module):
    def __init__(self, fan_in, fan_out, rank=2, zero="b"):
        super().__init__()
        self.base = nn.Linear(fan_in, fan_out).requires_grad_(False)
        self.lora_a, self.lora_b = (
            nn.Linear(fan_in, rank, bias=False),
            nn.Linear(rank, fan_out, bias=False),
        )
        zeroed(self.lora_b if zero == "b" else self.lora_a)

    def forward(self, x):
        return self.base(x) + self.lora_b(self.lora_a(x))


def lora_in_a_sigmoid_net() -> Situation:
    # Yuanshi9815/OminiControl#54: the B matrix starts at zero
    seed(10)
    model = nn.Sequential(Lora(8, 32), nn.Sigmoid(), Lora(32, 3))
    return Situation(
        "LoRA beside frozen layers, sigmoid net",
        model,
        blobs(64, 8, 3),
        F.cross_entropy,
        words=NOTE,
        forbidden=("nan", "× 1 ", "underflow", "mul_(1.0"),
        source="outside.md A8",
    )


def lora_in_a_deep_sigmoid_net() -> Situation:
    seed(10)
    layers = []
    for i in range(5):
        layers += [Lora(8 if i == 0 else 16, 16), nn.Sigmoid()]
    return Situation(
        "LoRA in a sigmoid net of six layers",
        nn.Sequential(*layers, Lora(16, 3)),
        blobs(64, 8, 3),
        F.cross_entropy,
        kinds=({"vanishing"}, {"undecided"}),
        forbidden=("nan", "× 1 ", "underflow", "mul_(1.0"),
        source="outside.md A8 (deep)",
        why="0.24 × 0.58, five times: the gradient does vanish, LoRA or not",
    )


def lora_in_a_relu_net() -> Situation:
    seed(11)
    model = nn.Sequential(Lora(8, 32), nn.ReLU(), Lora(32, 32), nn.ReLU(), Lora(32, 3))
    return Situation(
        "LoRA beside frozen layers, ReLU net",
        model,
        blobs(64, 8, 3),
        F.cross_entropy,
        forbidden=NO_HARM,
        source="outside.md A8",
    )


def lora_with_a_zero() -> Situation:
    # microsoft/LoRA#98: it does not matter which of the two is zero
    seed(12)
    model = nn.Sequential(
        Lora(8, 32, zero="a"), nn.ReLU(), Lora(32, 32, zero="a"), nn.ReLU(), Lora(32, 3, zero="a")
    )
    return Situation(
        "LoRA with A = 0 and B random",
        model,
        blobs(64, 8, 3),
        F.cross_entropy,
        forbidden=NO_HARM,
        source="microsoft/LoRA#98",
    )


def lora_with_its_optimizer() -> Situation:
    seed(13)
    model = nn.Sequential(Lora(8, 32), nn.ReLU(), Lora(32, 3))
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-3)
    return Situation(
        "LoRA with an optimizer of its own parameters",
        model,
        blobs(64, 8, 3),
        F.cross_entropy,
        optimizer,
        forbidden=NO_HARM,
        source="mosaicml/composer#2355",
    )


def lora_after_three_steps() -> Situation:
    return trained(lora_in_a_relu_net(), 3)


def adapters_in_a_transformer() -> Situation:
    seed(14)

    class Adapter(nn.Module):
        def __init__(self, d=16):
            super().__init__()
            self.layer = nn.TransformerEncoderLayer(
                d, 2, 2 * d, 0.0, batch_first=True, norm_first=True
            ).requires_grad_(False)
            self.down, self.up = nn.Linear(d, 4), zeroed(nn.Linear(4, d))

        def forward(self, x):
            x = self.layer(x)
            return x + self.up(F.gelu(self.down(x)))

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.blocks, self.head = nn.Sequential(Adapter(), Adapter()), nn.Linear(16, 3)

        def forward(self, x):
            return self.head(self.blocks(x).mean(1))

    return Situation(
        "adapters with a zero up-projection",
        Net(),
        (torch.randn(16, 6, 16), torch.randint(0, 3, (16,))),
        F.cross_entropy,
        words=NOTE,
        forbidden=NO_HARM,
        source="twin: adapters",
    )


def scaled_residual_projections() -> Situation:
    seed(15)
    blocks = [Block(24, zero=False) for _ in range(8)]
    for block in blocks:
        nn.init.normal_(block.fc2.weight, std=0.02 / 16**0.5)
    model = nn.Sequential(nn.Linear(8, 24), *blocks, nn.LayerNorm(24), nn.Linear(24, 3))
    return Situation(
        "residual projections scaled by 1/sqrt(2L) (GPT-2)",
        model,
        blobs(64, 8, 3),
        F.cross_entropy,
        forbidden=NO_HARM,
        source="karpathy/build-nanogpt#18",
    )


# ---------------------------------------------------------------- more designs


def spatial_transformer() -> Situation:
    seed(40)

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.where = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 6))
            nn.init.zeros_(self.where[3].weight)
            self.where[3].bias.data.copy_(torch.tensor([1.0, 0, 0, 0, 1, 0]))
            self.conv, self.out = nn.Conv2d(1, 8, 3), nn.Linear(8 * 36, 3)

        def forward(self, x):
            grid = F.affine_grid(self.where(x).view(-1, 2, 3), x.shape, align_corners=False)
            x = F.grid_sample(x, grid, align_corners=False)
            return self.out(F.relu(self.conv(x)).flatten(1))

    return Situation(
        "spatial transformer that starts at the identity",
        Net(),
        (torch.rand(32, 1, 8, 8), torch.randint(0, 3, (32,))),
        F.cross_entropy,
        forbidden=NO_HARM,
        words=NOTE,
        source="the spatial transformer tutorial",
    )


def coupling_flow() -> Situation:
    seed(41)

    class Coupling(nn.Module):
        def __init__(self, flip):
            super().__init__()
            self.flip = flip
            self.net = nn.Sequential(nn.Linear(3, 32), nn.ReLU(), zeroed(nn.Linear(32, 6)))

        def forward(self, x):
            a, b = x.chunk(2, 1)
            a, b = (b, a) if self.flip else (a, b)
            s, t = self.net(a).chunk(2, 1)
            b = b * torch.tanh(s).exp() + t
            return torch.cat([b, a] if self.flip else [a, b], 1), torch.tanh(s).sum(1)

    class Flow(nn.Module):
        def __init__(self):
            super().__init__()
            self.steps = nn.ModuleList(Coupling(i % 2) for i in range(6))

        def forward(self, x):
            total = 0
            for step in self.steps:
                x, s = step(x)
                total = total + s
            return x, total

    return Situation(
        "normalizing flow that starts at the identity",
        Flow(),
        torch.randn(64, 6),
        lambda o: (o[0].pow(2).sum(1) / 2 - o[1]).mean(),
        forbidden=NO_HARM,
        words=NOTE,
        source="RealNVP and Glow start so",
    )


def lora_as_bare_matrices() -> Situation:
    seed(42)

    class Low(nn.Module):
        def __init__(self, n, m, rank=4, alpha=8):
            super().__init__()
            self.weight = nn.Parameter(torch.randn(m, n) / n**0.5, requires_grad=False)
            self.lora_a = nn.Parameter(torch.randn(rank, n) / n**0.5)
            self.lora_b = nn.Parameter(torch.zeros(m, rank))
            self.scaling = alpha / rank

        def forward(self, x):
            return x @ self.weight.T + (x @ self.lora_a.T @ self.lora_b.T) * self.scaling

    return Situation(
        "LoRA of bare matrices, with its scaling",
        nn.Sequential(Low(8, 32), nn.GELU(), Low(32, 32), nn.GELU(), Low(32, 3)),
        blobs(64, 8, 3),
        F.cross_entropy,
        forbidden=NO_HARM,
        source="microsoft/LoRA",
    )


def lora_of_attention_projections() -> Situation:
    seed(43)

    class Attend(nn.Module):
        def __init__(self, d=16):
            super().__init__()
            self.q, self.v = Lora(d, d), Lora(d, d)
            self.k = nn.Linear(d, d).requires_grad_(False)
            self.o = nn.Linear(d, d).requires_grad_(False)
            self.norm = nn.LayerNorm(d).requires_grad_(False)

        def forward(self, x):
            h = self.norm(x)
            return x + self.o(F.scaled_dot_product_attention(self.q(h), self.k(h), self.v(h)))

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.blocks = nn.Sequential(*(Attend() for _ in range(4)))
            self.head = nn.Linear(16, 3)

        def forward(self, x):
            return self.head(self.blocks(x).mean(1))

    return Situation(
        "LoRA on q and v of frozen attention",
        Net(),
        (torch.randn(16, 6, 16), torch.randint(0, 3, (16,))),
        F.cross_entropy,
        kinds=QUIET,
        forbidden=NO_HARM,
        words=NOTE,
        source="the usual targets of LoRA",
    )


def skip_init() -> Situation:
    seed(44)

    class Skip(nn.Module):
        def __init__(self, c):
            super().__init__()
            self.conv1, self.conv2 = nn.Conv2d(c, c, 3, 1, 1), nn.Conv2d(c, c, 3, 1, 1)
            self.alpha = nn.Parameter(torch.zeros(()))

        def forward(self, x):
            return x + self.alpha * self.conv2(F.relu(self.conv1(F.relu(x))))

    model = nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1),
        *(Skip(8) for _ in range(6)),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 3),
    )
    return Situation(
        "SkipInit",
        model,
        (torch.randn(32, 1, 8, 8), torch.randint(0, 3, (32,))),
        F.cross_entropy,
        forbidden=NO_HARM,
        words=NOTE,
        source="twin: SkipInit",
    )


def fixup() -> Situation:
    seed(45)
    blocks = 8

    class Fix(nn.Module):
        def __init__(self, d):
            super().__init__()
            self.b1, self.b2 = nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(1))
            self.fc1, self.fc2 = nn.Linear(d, d, bias=False), nn.Linear(d, d, bias=False)
            self.scale = nn.Parameter(torch.ones(1))
            nn.init.normal_(self.fc1.weight, std=(2 / d) ** 0.5 * blocks**-0.5)
            nn.init.zeros_(self.fc2.weight)

        def forward(self, x):
            return torch.relu(
                x + self.scale * self.fc2(torch.relu(self.fc1(x + self.b1)) + self.b2)
            )

    model = nn.Sequential(
        nn.Linear(8, 32), nn.ReLU(), *(Fix(32) for _ in range(blocks)), zeroed(nn.Linear(32, 3))
    )
    return Situation(
        "Fixup: zero branches and a zero head",
        model,
        blobs(64, 8, 3),
        F.cross_entropy,
        forbidden=NO_HARM,
        words=NOTE,
        source="twin: Fixup",
    )


def fixup_after_three_steps() -> Situation:
    return trained(fixup(), 3)


def fixup_after_sgd() -> Situation:
    situation = fixup()
    optimizer = torch.optim.SGD(situation.model.parameters(), lr=0.05, momentum=0.9)
    x, y = situation.batch
    for _ in range(3):
        optimizer.zero_grad()
        F.cross_entropy(situation.model(x), y).backward()
        optimizer.step()
    optimizer.zero_grad()
    situation.words, situation.optimizer = (), optimizer
    return situation


def film_from_zero() -> Situation:
    seed(46)

    class Film(nn.Module):
        def __init__(self):
            super().__init__()
            self.body, self.head = nn.Linear(8, 32), nn.Linear(32, 3)
            self.gamma, self.beta = zeroed(nn.Linear(4, 32)), zeroed(nn.Linear(4, 32))

        def forward(self, x, c):
            h = self.body(x)
            return self.head(torch.relu((1 + self.gamma(c)) * h + self.beta(c)))

    x, y = blobs(64, 8, 3)
    return Situation(
        "FiLM that starts at the identity",
        Film(),
        ((x, torch.randn(64, 4)), y),
        F.cross_entropy,
        forbidden=NO_HARM,
        source="twin: FiLM",
    )


def deformable_offsets() -> Situation:
    seed(47)

    class Offsets(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(1, 8, 3, padding=1)
            self.offset = zeroed(nn.Conv2d(8, 2, 3, padding=1))
            self.out = nn.Linear(8 * 64, 3)
            steps = torch.linspace(-1, 1, 8)
            self.register_buffer(
                "grid", torch.stack(torch.meshgrid(steps, steps, indexing="xy"), -1)
            )

        def forward(self, x):
            h = F.relu(self.conv(x))
            grid = self.grid + self.offset(h).permute(0, 2, 3, 1)
            return self.out(F.grid_sample(h, grid, align_corners=True).flatten(1))

    return Situation(
        "offsets of a deformable layer start at zero",
        Offsets(),
        (torch.rand(32, 1, 8, 8), torch.randint(0, 3, (32,))),
        F.cross_entropy,
        kinds=QUIET,
        forbidden=NO_HARM,
        source="twin: deformable convolution",
    )


def single_adapter_between_frozen_layers() -> Situation:
    seed(48)

    class Adapter(nn.Module):
        def __init__(self, d):
            super().__init__()
            self.down, self.up = nn.Linear(d, 4), zeroed(nn.Linear(4, d))

        def forward(self, x):
            return x + self.up(F.gelu(self.down(x)))

    model = nn.Sequential(
        nn.Linear(8, 32).requires_grad_(False),
        nn.ReLU(),
        Adapter(32),
        nn.Linear(32, 32).requires_grad_(False),
        nn.ReLU(),
        nn.Linear(32, 3),
    )
    return Situation(
        "one adapter behind a frozen layer",
        model,
        blobs(64, 8, 3),
        F.cross_entropy,
        forbidden=NO_HARM,
        words=NOTE,
        source="twin: adapters",
    )


def positions_and_biases_at_zero() -> Situation:
    seed(49)

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.inp, self.place = nn.Linear(4, 16), nn.Parameter(torch.zeros(1, 6, 16))
            self.cls = nn.Parameter(torch.zeros(1, 1, 16))
            self.body = nn.TransformerEncoderLayer(16, 2, 32, 0.0, batch_first=True)
            self.head = nn.Linear(16, 3)

        def forward(self, x):
            x = torch.cat([self.cls.expand(len(x), 1, 16), self.inp(x) + self.place], 1)
            return self.head(self.body(x)[:, 0])

    return Situation(
        "class token and positions start at zero",
        Net(),
        (torch.randn(16, 6, 4), torch.randint(0, 3, (16,))),
        F.cross_entropy,
        forbidden=(*NO_HARM, "start at zero", "starts at zero"),
        source="twin: ViT",
        why="they are added, not multiplied: nothing waits for them",
    )


# ---------------------------------------------------------------- sick relatives


def two_zero_layers_in_a_row() -> Situation:
    seed(50)
    model = nn.Sequential(
        nn.Linear(8, 32), nn.Tanh(), zeroed(nn.Linear(32, 32)), nn.Tanh(), zeroed(nn.Linear(32, 3))
    )
    return Situation(
        "two zero layers in a row",
        model,
        blobs(64, 8, 3),
        F.cross_entropy,
        kinds=({"constant_output"}, {"zero_gradient"}, {"constant_output", "zero_gradient"}),
        source="each waits for the other",
    )


def lora_with_both_zero() -> Situation:
    seed(51)

    class Both(Lora):
        def __init__(self, n, m):
            super().__init__(n, m)
            zeroed(self.lora_a)

    return Situation(
        "LoRA with both matrices zero",
        nn.Sequential(Both(8, 32), nn.ReLU(), Both(32, 3)),
        blobs(64, 8, 3),
        F.cross_entropy,
        kinds={"zero_gradient"},
        source="it never moves",
    )


def lora_in_a_sigmoid_net_after_adam() -> Situation:
    seed(90)
    model = nn.Sequential(Lora(16, 32, 4), nn.Sigmoid(), Lora(32, 32, 4), nn.Sigmoid())
    situation = Situation(
        "LoRA in three sigmoid layers, some steps on",
        nn.Sequential(*model, Lora(32, 10, 4)),
        blobs(64, 16, 10),
        F.cross_entropy,
        forbidden=("vanishing", "nan"),
        source="two factors beside a layer are no depth",
    )
    optimizer = torch.optim.Adam([p for p in situation.model.parameters() if p.requires_grad])
    x, y = situation.batch
    for _ in range(3):
        optimizer.zero_grad()
        F.cross_entropy(situation.model(x), y).backward()
        optimizer.step()
    situation.model.zero_grad()
    return situation
