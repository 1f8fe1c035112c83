"""Inputs of a stranger: zeros on purpose, fixed points, symmetry, losses, scales, recurrences, post-norm, text.

For every kind the sick ones come first, then the designs that look like them and are healthy.
"""

import copy
import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from reports.situation import QUIET, Situation, blobs, line, mlp, seed
from torch import Tensor, nn

STUCK_AT_ZERO = (
    {"zero_gradient"},
    {"symmetric"},
    {"dead"},
    {"symmetric", "zero_gradient"},
    {"dead", "zero_gradient"},
    {"symmetric", "constant_output"},
)
SYMMETRIC = ({"symmetric"}, {"symmetric", "constant_output"})
MISMATCH = ({"loss_mismatch"},)
UNSCALED = ({"unscaled"},)
VANISHING = ({"vanishing"},)
EXPLODING = ({"exploding"}, {"exploding", "unscaled"})


class Net(nn.Module):
    """Modules and parameters by name, with the forward pass as a function of the model."""

    def __init__(self, run: Callable, **parts):
        super().__init__()
        for name, part in parts.items():
            if isinstance(part, Tensor) and not isinstance(part, nn.Parameter):
                self.register_buffer(name, part)
            else:
                setattr(self, name, part)
        self.run = run

    def forward(self, *args):
        return self.run(self, *args)


def times(factor: float, loss: Callable) -> Callable:
    """A loss in other units."""
    return lambda *args: factor * loss(*args)


def zero(*layers: nn.Module) -> None:
    """Zero every parameter of the layers."""
    for layer in layers:
        for p in layer.parameters():
            nn.init.zeros_(p)


def frozen(module: nn.Module) -> nn.Module:
    """The module, its parameters frozen."""
    return module.requires_grad_(False)


def param(*shape: int, scale: float = 0.0) -> nn.Parameter:
    """A parameter of zeros, or random with the given scale."""
    return nn.Parameter(scale * torch.randn(*shape))


def images(number: int, classes: int = 10, size: int = 8) -> tuple[Tensor, Tensor]:
    """Standardized images that can be told apart."""
    y = torch.arange(number) % classes
    return torch.randn(classes, 3, size, size)[y] + 0.5 * torch.randn(number, 3, size, size), y


def tokens(number: int, length: int, vocabulary: int) -> tuple[Tensor, Tensor]:
    """Random tokens and their successors."""
    x = torch.randint(vocabulary, (number, length + 1))
    return x[:, :-1], x[:, 1:]


def of_tokens(out: Tensor, y: Tensor) -> Tensor:
    """Cross-entropy over (batch, time)."""
    return F.cross_entropy(out.flatten(0, 1), y.flatten())


# A6, A8: zeros by mistake


def lora(a: float, b: float, layers: int = 3, width: int = 32) -> Net:
    """Frozen layers with low-rank additions."""
    base = nn.ModuleList(frozen(nn.Linear(width, width)) for _ in range(layers))
    low = nn.ParameterList(param(width, 4, scale=a) for _ in range(layers))
    up = nn.ParameterList(param(4, width, scale=b) for _ in range(layers))

    def run(m, x):
        for layer, p, q in zip(m.base, m.low, m.up, strict=True):
            x = torch.tanh(layer(x) + 2 * x @ p @ q)
        return m.head(x)

    return Net(run, base=base, low=low, up=up, head=frozen(nn.Linear(width, 10)))


def lora_with_both_zero() -> Situation:
    # circle-hit/SAPT#11, Lightning-AI/litgpt#1229: all gradients of the adapters are 0
    seed(10)
    return Situation(
        "LoRA with A = B = 0",
        lora(0, 0),
        blobs(64, 32, 10),
        F.cross_entropy,
        kinds=STUCK_AT_ZERO,
        source="circle-hit/SAPT#11",
    )


def residual_branch_all_zero() -> Situation:
    seed(11)
    blocks = nn.ModuleList(mlp(32, 32, 32) for _ in range(3))
    zero(blocks)

    def run(m, x):
        for block in m.blocks:
            x = x + block(x)
        return m.head(x)

    return Situation(
        "residual branches in which every layer is zero",
        Net(run, blocks=blocks, head=nn.Linear(32, 10)),
        blobs(128, 32, 10),
        times(1e6, F.cross_entropy),
        kinds=STUCK_AT_ZERO,
        why="the last bias of each branch is all that ever moves",
        source="outside.md A6, the wrong way",
    )


def controlnet_between_two_zero_convs() -> Situation:
    seed(12)
    model = Net(
        lambda m, x: m.base(x) + m.exit(m.middle(m.entry(x))),
        base=frozen(nn.Conv2d(3, 8, 3, padding=1)),
        entry=nn.Conv2d(3, 8, 1),
        middle=nn.Sequential(nn.Conv2d(8, 8, 3, padding=1, bias=False), nn.SiLU()),
        exit=nn.Conv2d(8, 8, 1, bias=False),
    )
    zero(model.entry, model.exit)
    return Situation(
        "a branch that begins and ends with a zero convolution",
        model,
        (torch.randn(4, 3, 8, 8), torch.randn(4, 8, 8, 8)),
        F.mse_loss,
        kinds=STUCK_AT_ZERO,
        source="outside.md A6",
    )


def rezero_with_a_frozen_gate() -> Situation:
    seed(13)
    model = Net(
        lambda m, x: m.head(x + m.alpha * m.block(x)),
        block=mlp(16, 32, 16, act=nn.GELU),
        alpha=nn.Parameter(torch.zeros(1), requires_grad=False),
        head=nn.Linear(16, 5),
    )
    return Situation(
        "ReZero, alpha = 0 and frozen",
        model,
        blobs(40, 16, 5),
        F.cross_entropy,
        torch.optim.SGD((p for p in model.parameters() if p.requires_grad), 0.1),
        kinds=STUCK_AT_ZERO,
        source="outside.md A6",
    )


def layer_scale_as_a_buffer_of_zeros() -> Situation:
    seed(14)
    model = Net(
        lambda m, x: m.head(x + m.gamma * m.block(m.norm(x))),
        norm=nn.LayerNorm(16),
        block=mlp(16, 64, 16, act=nn.GELU),
        gamma=torch.zeros(16),
        head=nn.Linear(16, 5),
    )
    return Situation(
        "LayerScale registered as a buffer",
        model,
        blobs(256, 16, 5),
        times(1e-6, F.cross_entropy),
        kinds=(*STUCK_AT_ZERO, {"undecided"}),
        source="outside.md A6",
    )


def conditioning_that_is_always_zero() -> Situation:
    seed(15)
    model = Net(
        lambda m, x: m.head(x + m.modulate(F.silu(torch.zeros(len(x), 8))) * m.block(x)),
        block=mlp(16, 32, 16),
        modulate=nn.Linear(8, 16, bias=False),
        head=nn.Linear(16, 4),
    )
    zero(model.modulate)
    return Situation(
        "adaLN-zero whose condition is zero: the gate cannot open",
        model,
        blobs(32, 16, 4),
        F.cross_entropy,
        kinds=(*STUCK_AT_ZERO, {"undecided"}),
        source="outside.md A6",
    )


def zero_layer_in_front_of_relu() -> Situation:
    seed(16)
    model = mlp(8, 32, 32, 1, tail=(nn.ReLU(),))
    zero(model[4])
    x, y = line(64, 8)
    return Situation(
        "zero output layer with a ReLU behind it",
        model,
        (x, y.abs()),
        F.mse_loss,
        kinds=(*STUCK_AT_ZERO, {"dead", "constant_output"}),
        source="outside.md A6, A11",
    )


def product_of_two_zero_heads() -> Situation:
    seed(17)
    model = Net(
        lambda m, x: m.a(m.trunk(x)) * m.b(m.trunk(x)),
        trunk=mlp(8, 32, 32, act=nn.Tanh),
        a=nn.Linear(32, 1),
        b=nn.Linear(32, 1),
    )
    zero(model.a, model.b)
    return Situation(
        "the product of two heads that are both zero",
        model,
        line(50, 8),
        F.mse_loss,
        kinds=(*STUCK_AT_ZERO, {"constant_output"}, {"zero_gradient", "constant_output"}),
        why="each is the other's factor: no gradient reaches anything",
        source="outside.md A6",
    )


def lora_both_zero_double() -> Situation:
    # nvidia-cosmos/cosmos-predict2.5#15: A is zeroed again after it was made
    seed(18)
    return Situation(
        "LoRA with A = B = 0 in float64, Adam",
        (model := lora(0, 0, layers=6, width=16).double()),
        (torch.randn(1, 16, dtype=torch.float64), torch.tensor([3])),
        F.cross_entropy,
        torch.optim.Adam((p for p in model.parameters() if p.requires_grad), 1e-3),
        kinds=STUCK_AT_ZERO,
        source="nvidia-cosmos/cosmos-predict2.5#15",
    )


# A6, A8: zeros on purpose


def lora_as_in_the_paper() -> Situation:
    seed(20)
    model = lora(0.2, 0, layers=8)
    for layer in model.base:  # as a trained base would be; torch's own start fades 100 times
        nn.init.xavier_normal_(layer.weight, 1.3)
    return Situation(
        "LoRA, 8 layers, B = 0",
        model,
        blobs(64, 32, 10),
        times(1e6, F.cross_entropy),
        torch.optim.AdamW((p for p in model.parameters() if p.requires_grad), 1e-4),
        source="microsoft/LoRA#98",
    )


def lora_the_other_way() -> Situation:
    # microsoft/LoRA#142: A zero, B random is as good
    seed(21)
    return Situation(
        "LoRA, A = 0 and B random",
        lora(0, 0.3),
        blobs(64, 32, 10),
        F.cross_entropy,
        source="microsoft/LoRA#142",
    )


def rezero() -> Situation:
    seed(22)
    blocks = nn.ModuleList(mlp(24, 48, 24) for _ in range(12))

    def run(m, x):
        for alpha, block in zip(m.alpha, m.blocks, strict=True):
            x = x + alpha * block(x)
        return m.head(x)

    model = Net(run, blocks=blocks, alpha=nn.Parameter(torch.zeros(12)), head=nn.Linear(24, 6))
    return Situation(
        "ReZero, 12 blocks",
        model,
        blobs(96, 24, 6),
        F.cross_entropy,
        torch.optim.Adam(model.parameters(), 1e-3),
        source="outside.md A6",
    )


def layer_scale() -> Situation:
    seed(23)
    blocks = nn.ModuleList(mlp(24, 96, 24, act=nn.GELU) for _ in range(8))
    norms = nn.ModuleList(nn.LayerNorm(24) for _ in range(8))

    def run(m, x):
        for gamma, norm, block in zip(m.gamma, m.norms, m.blocks, strict=True):
            x = x + gamma * block(norm(x))
        return m.head(x)

    gamma = nn.ParameterList(nn.Parameter(torch.full((24,), 1e-6)) for _ in range(8))
    return Situation(
        "LayerScale of 1e-6",
        Net(run, blocks=blocks, norms=norms, gamma=gamma, head=nn.Linear(24, 6)),
        blobs(96, 24, 6),
        F.cross_entropy,
        source="outside.md A6",
    )


def diffusion_transformer() -> Situation:
    seed(24)

    def run(m, x, t):
        c = m.time(torch.stack([t.cos(), t.sin()], -1))
        x = m.entry(x)
        for norm, block, modulate in zip(m.norms, m.blocks, m.modulates, strict=True):
            shift, scale, gate = modulate(F.silu(c)).unsqueeze(1).chunk(3, -1)
            x = x + gate * block(norm(x) * (1 + scale) + shift)
        return m.exit(x)

    model = Net(
        run,
        entry=nn.Linear(4, 32),
        time=mlp(2, 32, 32, act=nn.SiLU),
        norms=nn.ModuleList(nn.LayerNorm(32, elementwise_affine=False) for _ in range(4)),
        blocks=nn.ModuleList(mlp(32, 64, 32, act=nn.GELU) for _ in range(4)),
        modulates=nn.ModuleList(nn.Linear(32, 96) for _ in range(4)),
        exit=nn.Linear(32, 4),
    )
    zero(model.modulates, model.exit)
    return Situation(
        "adaLN-zero with a zero final layer",
        model,
        ((torch.randn(16, 9, 4), torch.rand(16)), torch.randn(16, 9, 4)),
        F.mse_loss,
        torch.optim.AdamW(model.parameters(), 1e-4),
        source="outside.md A6",
    )


def controlnet() -> Situation:
    seed(25)
    model = Net(
        lambda m, x, c: m.base(x) + m.exit(m.copy(x + m.entry(c))),
        base=frozen(nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.SiLU())),
        entry=nn.Conv2d(1, 3, 1),
        copy=nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.SiLU()),
        exit=nn.Conv2d(8, 8, 1),
    )
    zero(model.entry, model.exit)
    batch = ((torch.randn(4, 3, 8, 8), torch.randn(4, 1, 8, 8)), torch.randn(4, 8, 8, 8))
    return Situation("ControlNet", model, batch, F.mse_loss, source="outside.md A6")


def bottleneck_adapters() -> Situation:
    seed(26)
    adapters = nn.ModuleList(mlp(32, 4, 32, act=nn.GELU) for _ in range(6))
    zero(*(adapter[2] for adapter in adapters))

    def run(m, x):
        for base, adapter in zip(m.base, m.adapters, strict=True):
            x = base(x)
            x = x + adapter(x)
        return m.head(x)

    base = nn.ModuleList(nn.Sequential(nn.Linear(32, 32), nn.Tanh()) for _ in range(6))
    model = Net(run, base=frozen(base), adapters=adapters, head=nn.Linear(32, 3))
    return Situation(
        "adapters with a zero second layer",
        model,
        blobs(30, 32, 3),
        F.cross_entropy,
        torch.optim.AdamW((p for p in model.parameters() if p.requires_grad), 1e-3),
        source="outside.md A8",
    )


def tanh_gate() -> Situation:
    seed(27)
    model = Net(
        lambda m, x, v: m.head(m.base(x) + m.gate.tanh() * m.cross(v)),
        base=frozen(mlp(16, 32, 32)),
        cross=mlp(12, 32, 32),
        gate=nn.Parameter(torch.zeros(1)),
        head=frozen(nn.Linear(32, 7)),
    )
    x, y = blobs(28, 16, 7)
    batch = ((x, torch.randn(28, 12)), y)
    return Situation("tanh gate at 0", model, batch, F.cross_entropy, source="outside.md A6")


def norm_gain_of_zero() -> Situation:
    seed(28)
    blocks = nn.ModuleList(
        nn.Sequential(
            nn.Conv2d(16, 16, 3, padding=1, bias=False),
            nn.BatchNorm2d(16),
            nn.ReLU(),
            nn.Conv2d(16, 16, 3, padding=1, bias=False),
            nn.BatchNorm2d(16),
        )
        for _ in range(4)
    )
    for block in blocks:
        nn.init.zeros_(block[4].weight)

    def run(m, x):
        x = m.stem(x)
        for block in m.blocks:
            x = F.relu(x + block(x))
        return m.head(x.mean((2, 3)))

    model = Net(run, stem=nn.Conv2d(3, 16, 3, padding=1), blocks=blocks, head=nn.Linear(16, 10))
    return Situation(
        "ResNet with zero gain in the last norm of each block",
        model,
        images(32),
        F.cross_entropy,
        torch.optim.SGD(model.parameters(), 0.1, momentum=0.9),
        source="outside.md A6",
    )


def soft_prompt() -> Situation:
    seed(29)

    def run(m, x):
        prompt = m.prompt.expand(len(x), -1, -1)
        return m.head(m.body(torch.cat([prompt, m.embed(x)], 1)).mean(1))

    model = Net(
        run,
        embed=frozen(nn.Embedding(50, 32)),
        prompt=param(5, 32, scale=0.02),
        body=frozen(
            nn.TransformerEncoder(
                nn.TransformerEncoderLayer(32, 4, 64, 0.0, batch_first=True, norm_first=True), 4
            )
        ),
        head=frozen(nn.Linear(32, 2)),
    )
    return Situation(
        "a soft prompt before a frozen encoder",
        model,
        (torch.randint(50, (16, 12)), torch.arange(16) % 2),
        F.cross_entropy,
        torch.optim.Adam([model.prompt], 1e-3),
        source="outside.md A8",
    )


def policy_head_of_zero() -> Situation:
    seed(30)
    model = Net(
        lambda m, x: (m.policy(m.trunk(x)), m.value(m.trunk(x))),
        trunk=mlp(8, 64, 64, act=nn.Tanh, tail=(nn.Tanh(),)),
        policy=nn.Linear(64, 4),
        value=nn.Linear(64, 1),
    )
    zero(model.policy, model.value)

    def loss(out, batch):
        action, advantage, value = batch
        chosen = F.log_softmax(out[0], -1).gather(1, action[:, None])[:, 0]
        return -(chosen * advantage).mean() + 0.5 * F.mse_loss(out[1][:, 0], value)

    batch = (torch.randint(4, (64,)), torch.randn(64), torch.randn(64))
    return Situation(
        "actor-critic with zero heads",
        model,
        (torch.randn(64, 8), batch),
        loss,
        torch.optim.Adam(model.parameters(), 3e-4),
        source="outside.md A6",
    )


def lora_in_a_base_that_fades() -> Situation:
    seed(31)
    model = lora(0.2, 0.1, layers=20)
    return Situation(
        "LoRA over 20 frozen tanh layers that fade",
        model,
        blobs(64, 32, 10),
        F.cross_entropy,
        kinds=VANISHING,
        remedy=("frozen",),
        forbidden=("kaiming_normal_", "xavier_normal_"),
        why="its frozen layers must stay as they are",
        source="outside.md A8",
    )


# A9: recurrences and iterations that lose what they must carry


def input_only_at_the_start() -> Situation:
    seed(40)

    def run(m, x):
        z = x
        for _ in range(40):
            z = torch.tanh(m.step(z))
        return m.head(z)

    return Situation(
        "one tanh layer 40 times, the input only at the start",
        Net(run, step=nn.Linear(32, 32), head=nn.Linear(32, 4)),
        blobs(64, 32, 4),
        F.cross_entropy,
        kinds=(*VANISHING, {"vanishing", "constant_output"}),
        source="outside.md A9, the vanishing twin",
    )


def rnn_over_sixty_steps() -> Situation:
    seed(41)

    def run(m, x):
        return m.head(m.rnn(x)[0][:, -1])

    return Situation(
        "nn.RNN, 60 steps, last state",
        Net(run, rnn=nn.RNN(6, 32, batch_first=True), head=nn.Linear(32, 4)),
        (torch.randn(32, 60, 6), torch.arange(32) % 4),
        F.cross_entropy,
        kinds=VANISHING,
        source="outside.md A9",
    )


def expanding_iteration() -> Situation:
    seed(42)
    step = nn.Linear(16, 16)
    nn.init.orthogonal_(step.weight, 1.6)

    def run(m, x):
        z = torch.zeros(len(x), 16)
        for _ in range(30):
            z = m.step(z) + m.entry(x)
        return m.head(z)

    return Situation(
        "an iteration that expands 1.6× each time",
        Net(run, step=step, entry=nn.Linear(8, 16), head=nn.Linear(16, 1)),
        line(32, 8),
        F.mse_loss,
        kinds=EXPLODING,
        source="outside.md A9, the exploding twin",
    )


def equilibrium_without_the_last_step() -> Situation:
    # locuslab/torchdeq#8: what the solver returns has no graph
    seed(43)

    def run(m, x):
        with torch.no_grad():
            z = torch.zeros(len(x), 16)
            for _ in range(30):
                z = torch.tanh(m.step(z) + m.entry(x))
        return m.head(z)

    return Situation(
        "fixed point under no_grad, no step with gradient after it",
        Net(run, step=nn.Linear(16, 16), entry=nn.Linear(8, 16), head=nn.Linear(16, 3)),
        blobs(30, 8, 3),
        F.cross_entropy,
        kinds={"not_connected"},
        words=("step", "entry"),
        source="locuslab/torchdeq#8",
    )


def unrolled_descent_that_diverges() -> Situation:
    seed(44)

    def run(m, x):
        z = torch.zeros(len(x), 12)
        for _ in range(25):
            z = z - 3.0 * (z @ m.matrix.T - x) @ m.matrix
        return m.head(z)

    matrix = nn.Parameter(torch.linalg.qr(torch.randn(12, 12))[0])
    return Situation(
        "unrolled gradient descent, step of 3 where 2 is the limit",
        Net(run, matrix=matrix, head=nn.Linear(12, 1)),
        line(64, 12),
        times(1e-6, F.mse_loss),
        kinds=EXPLODING,
        source="outside.md A9",
    )


def sigmoid_iteration_without_injection() -> Situation:
    seed(45)

    def run(m, x):
        for _ in range(12):
            x = torch.sigmoid(m.step(x))
        return m.head(x)

    return Situation(
        "one sigmoid layer 12 times, no injection",
        Net(run, step=nn.Linear(24, 24), head=nn.Linear(24, 3)),
        blobs(512, 24, 3),
        F.cross_entropy,
        kinds=(*VANISHING, {"vanishing", "constant_output"}),
        source="outside.md A9",
    )


def iteration_that_overflows() -> Situation:
    seed(46)

    def run(m, x):
        z = x
        for _ in range(40):
            z = m.step(z) ** 2 + x
        return m.head(z)

    return Situation(
        "squared iteration that overflows",
        Net(run, step=nn.Linear(8, 8), head=nn.Linear(8, 1)),
        line(32, 8),
        F.mse_loss,
        kinds={"non_finite"},
        source="outside.md A9",
    )


def injection_detached() -> Situation:
    seed(47)

    def run(m, x):
        u = m.entry(x).detach()
        z = torch.zeros_like(u)
        for _ in range(20):
            z = torch.tanh(m.step(z) + u)
        return m.head(z)

    return Situation(
        "fixed point whose injection is detached",
        Net(run, step=nn.Linear(16, 16), entry=nn.Linear(8, 16), head=nn.Linear(16, 3)),
        blobs(30, 8, 3),
        F.cross_entropy,
        kinds={"not_connected"},
        words=("entry",),
        source="outside.md A9",
    )


# A9: iterations that are meant to contract


def equilibrium() -> Situation:
    seed(50)
    step = nn.Linear(24, 24)
    nn.init.orthogonal_(step.weight, 0.6)

    def run(m, x):
        u = m.entry(x)
        z = torch.zeros_like(u)
        for _ in range(40):
            z = torch.tanh(m.step(z) + u)
        return m.head(z)

    return Situation(
        "deep equilibrium, 40 iterations",
        Net(run, step=step, entry=nn.Linear(8, 24), head=nn.Linear(24, 3)),
        blobs(64, 8, 3),
        F.cross_entropy,
        kinds=QUIET,
        source="outside.md A9",
    )


def equilibrium_in_a_list() -> Situation:
    seed(51)

    class Cell(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.Sequential(nn.Linear(32, 16), nn.ReLU(), nn.Linear(16, 16))
            with torch.no_grad():
                for p in self.parameters():
                    p.mul_(0.7)

        def forward(self, z, x):
            return self.inner(torch.cat([z, x], -1))

    def run(m, x):
        x = m.entry(x)
        z = x
        for _ in range(25):
            z = m.cell(z, x)
        return m.head(z)

    return Situation(
        "fixed point over cat(z, x), the same x each time",
        Net(run, cell=Cell(), entry=nn.Linear(8, 16), head=nn.Linear(16, 1)),
        line(128, 8),
        times(1e6, F.mse_loss),
        kinds=QUIET,
        why="x comes in anew at every iteration, so the early ones need not be remembered",
        source="outside.md A9",
    )


def phantom_gradient() -> Situation:
    # locuslab/deq#28: one step with gradient behind a solver without
    seed(52)

    def run(m, x):
        u = m.entry(x)
        with torch.no_grad():
            z = torch.zeros_like(u)
            for _ in range(30):
                z = torch.tanh(m.step(z) + u)
        return m.head(torch.tanh(m.step(z) + u))

    return Situation(
        "solver without a graph, one step with it",
        Net(run, step=nn.Linear(16, 16), entry=nn.Linear(8, 16), head=nn.Linear(16, 3)),
        blobs(30, 8, 3),
        F.cross_entropy,
        source="locuslab/deq#28",
    )


def shrinkage() -> Situation:
    seed(53)

    def run(m, x):
        code = torch.zeros(len(x), 32)
        for _ in range(16):
            code = F.softshrink(m.again(code) + m.entry(x), 0.05)
        return m.back(code)

    model = Net(
        run,
        entry=nn.Linear(16, 32, bias=False),
        again=nn.Linear(32, 32, bias=False),
        back=nn.Linear(32, 16, bias=False),
    )
    with torch.no_grad():
        q = torch.linalg.qr(torch.randn(32, 16))[0]
        model.entry.weight.copy_(0.5 * q)
        model.again.weight.copy_(torch.eye(32) - 0.5 * q @ q.T)
        model.back.weight.copy_(q.T)
    x = torch.randn(64, 16)
    return Situation(
        "LISTA, 16 shared steps", model, (x, x), F.mse_loss, kinds=QUIET, source="outside.md A9"
    )


def refinement() -> Situation:
    seed(54)

    def run(m, x):
        feature = torch.tanh(m.entry(x))
        guess = torch.zeros(len(x), 1)
        hidden = torch.zeros(len(x), 24)
        for _ in range(12):
            hidden = m.cell(torch.cat([feature, guess], -1), hidden)
            guess = guess + m.delta(hidden)
        return guess

    return Situation(
        "iterative refinement with a GRU cell, 12 times",
        Net(run, entry=nn.Linear(8, 24), cell=nn.GRUCell(25, 24), delta=nn.Linear(24, 1)),
        line(64, 8),
        F.mse_loss,
        kinds=QUIET,
        source="outside.md A9",
    )


def universal_transformer() -> Situation:
    seed(55)
    block = nn.TransformerEncoderLayer(32, 4, 64, 0.0, batch_first=True, norm_first=True)

    def run(m, x):
        for _ in range(8):
            x = m.block(x)
        return m.head(m.norm(x).mean(1))

    return Situation(
        "one pre-norm block 8 times",
        Net(run, block=block, norm=nn.LayerNorm(32), head=nn.Linear(32, 4)),
        (torch.randn(16, 10, 32), torch.arange(16) % 4),
        F.cross_entropy,
        source="outside.md A9",
    )


def personalized_propagation() -> Situation:
    seed(56)
    adjacency = (torch.rand(40, 40) < 0.15).float() + torch.eye(40)
    adjacency = adjacency / adjacency.sum(1, keepdim=True)

    def run(m, x):
        first = m.net(x)
        z = first
        for _ in range(20):
            z = 0.9 * m.adjacency @ z + 0.1 * first
        return z

    return Situation(
        "20 propagations over a graph with a share of the start",
        Net(run, net=mlp(12, 32, 4), adjacency=adjacency),
        blobs(40, 12, 4),
        F.cross_entropy,
        kinds=QUIET,
        source="outside.md A9",
    )


def sinkhorn() -> Situation:
    seed(57)

    def run(m, x):
        log = m.net(x)
        for _ in range(20):
            log = log - log.logsumexp(-1, keepdim=True)
            log = log - log.logsumexp(-2, keepdim=True)
        return log.exp()

    target = torch.eye(6)[torch.stack([torch.randperm(6) for _ in range(16)])]
    return Situation(
        "20 Sinkhorn steps behind the scores",
        Net(run, net=mlp(5, 32, 6)),
        (torch.randn(16, 6, 5), target),
        F.mse_loss,
        kinds=QUIET,
        source="outside.md A9",
    )


def ode_by_euler() -> Situation:
    seed(58)

    def run(m, x):
        x = m.entry(x)
        for _ in range(20):
            x = x + 0.05 * m.field(x)
        return m.head(x)

    return Situation(
        "neural ODE, 20 Euler steps",
        Net(run, entry=nn.Linear(8, 16), field=mlp(16, 32, 16, act=nn.Tanh), head=nn.Linear(16, 3)),
        blobs(60, 8, 3),
        F.cross_entropy,
        source="outside.md A9",
    )


# A12: units that are one unit


def fill(model: nn.Module, value: float) -> nn.Module:
    """All parameters equal."""
    for p in model.parameters():
        nn.init.constant_(p, value)
    return model


def everything_a_tenth() -> Situation:
    # nndl/nndl-discussion#14: any constant, not just 0
    seed(60)
    return Situation(
        "all parameters 0.1",
        fill(mlp(10, 32, 32, 4), 0.1),
        blobs(64, 10, 4),
        times(1e6, F.cross_entropy),
        kinds=SYMMETRIC,
        source="nndl/nndl-discussion#14",
    )


def ones_in_convolutions() -> Situation:
    seed(61)
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(128, 10),
    )
    for module in (model[0], model[2]):
        nn.init.constant_(module.weight, 1 / module.weight[0].numel())
        nn.init.zeros_(module.bias)
    nn.init.constant_(model[5].weight, 1 / 128)
    return Situation(
        "convolutions that average",
        model,
        images(32),
        F.cross_entropy,
        kinds=SYMMETRIC,
        source="outside.md A12",
    )


def rows_repeated() -> Situation:
    seed(62)
    model = mlp(10, 32, 32, 4, act=nn.Tanh)
    with torch.no_grad():
        for layer in (model[0], model[2]):
            layer.weight.copy_(layer.weight[:1].repeat(32, 1))
            layer.bias.zero_()
        model[4].weight.copy_(model[4].weight[:, :1].repeat(1, 32))
    return Situation(
        "one random row, repeated, with equal weights behind it",
        model,
        blobs(64, 10, 4),
        F.cross_entropy,
        kinds=SYMMETRIC,
        source="outside.md A12",
    )


def everything_zero() -> Situation:
    # wagonhelm/NaNmnist#2
    seed(63)
    return Situation(
        "every parameter 0, tanh",
        fill(mlp(10, 32, 4, act=nn.Tanh), 0),
        blobs(256, 10, 4),
        F.cross_entropy,
        kinds=(*SYMMETRIC, *STUCK_AT_ZERO, {"constant_output"}),
        source="wagonhelm/NaNmnist#2",
    )


def identical_experts() -> Situation:
    seed(64)
    expert = mlp(12, 24, 5)
    experts = nn.ModuleList(copy.deepcopy(expert) for _ in range(4))
    gate = nn.Linear(12, 4)
    zero(gate)

    def run(m, x):
        outs = torch.stack([e(x) for e in m.experts], -1)
        return (outs * m.gate(x).softmax(-1).unsqueeze(1)).sum(-1)

    return Situation(
        "four copies of one expert under an even gate",
        Net(run, experts=experts, gate=gate),
        blobs(80, 12, 5),
        F.cross_entropy,
        kinds=SYMMETRIC,
        source="outside.md A12",
    )


def widened_without_noise() -> Situation:
    # soumith/net2net.torch#3
    seed(65)
    narrow, wide = mlp(10, 16, 4, act=nn.Tanh), mlp(10, 32, 4, act=nn.Tanh)
    with torch.no_grad():
        wide[0].weight.copy_(narrow[0].weight.repeat(2, 1))
        wide[0].bias.copy_(narrow[0].bias.repeat(2))
        wide[2].weight.copy_(narrow[2].weight.repeat(1, 2) / 2)
        wide[2].bias.copy_(narrow[2].bias)
    return Situation(
        "a layer widened by copying its units",
        wide,
        blobs(64, 10, 4),
        F.cross_entropy,
        torch.optim.Adam(wide.parameters(), 1e-3),
        kinds=SYMMETRIC,
        source="soumith/net2net.torch#3",
    )


def constant_lstm() -> Situation:
    seed(66)
    model = Net(
        lambda m, x: m.head(m.lstm(x)[0][:, -1]),
        lstm=nn.LSTM(5, 16, batch_first=True),
        head=nn.Linear(16, 3),
    )
    fill(model, 0.05)
    return Situation(
        "LSTM with all weights 0.05",
        model,
        (torch.randn(32, 8, 5), torch.arange(32) % 3),
        F.cross_entropy,
        kinds=SYMMETRIC,
        source="outside.md A12",
    )


def constant_in_float64() -> Situation:
    seed(67)
    model = mlp(7, 20, 1, act=nn.Sigmoid).double()
    for layer in (model[0], model[2]):
        nn.init.constant_(layer.weight, 1 / layer.in_features)
        nn.init.zeros_(layer.bias)
    x, y = line(1, 7)
    return Situation(
        "one hidden layer of 1/fan_in, float64, one example",
        model,
        (x.double(), y.double()),
        F.mse_loss,
        kinds=SYMMETRIC,
        source="outside.md A12",
    )


def constant_feed_forward_in_a_residual() -> Situation:
    seed(68)
    block = fill(mlp(16, 64, 16, act=nn.GELU), 0.02)
    model = Net(
        lambda m, x: m.head(x + m.block(m.norm(x) * m.tilt)),
        norm=nn.LayerNorm(16),
        tilt=torch.randn(16),
        block=block,
        head=nn.Linear(16, 4),
    )
    return Situation(
        "constant feed-forward layers inside a residual block",
        model,
        blobs(64, 16, 4),
        F.cross_entropy,
        kinds=SYMMETRIC,
        source="outside.md A12",
    )


# A12: what looks symmetric and is not


def tied_weights() -> Situation:
    seed(70)
    model = Net(
        lambda m, x: F.linear(m.norm(m.embed(x)), m.embed.weight),
        embed=nn.Embedding(64, 32),
        norm=nn.LayerNorm(32),
    )
    nn.init.normal_(model.embed.weight, 0, 0.02)
    return Situation(
        "tied embedding", model, tokens(8, 16, 64), of_tokens, source="outside.md A12, twin"
    )


def depthwise_box_filters() -> Situation:
    seed(71)
    model = nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1),
        nn.Conv2d(16, 16, 3, padding=1, groups=16, bias=False),
        nn.ReLU(),
        nn.Conv2d(16, 16, 1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(1024, 10),
    )
    nn.init.constant_(model[1].weight, 1 / 9)
    return Situation(
        "depthwise convolution that starts as a blur",
        model,
        images(16),
        F.cross_entropy,
        why="each filter sees its own channel",
        source="outside.md A12, twin",
    )


def identity_start() -> Situation:
    seed(72)
    model = mlp(16, 16, 16, 16, 4)
    for layer in (model[0], model[2], model[4]):
        nn.init.eye_(layer.weight)
        nn.init.zeros_(layer.bias)
    return Situation(
        "identity matrices", model, blobs(64, 16, 4), F.cross_entropy, source="outside.md A12, twin"
    )


def orthogonal_start() -> Situation:
    seed(73)
    model = mlp(16, 64, 64, 4, act=nn.Tanh)
    for layer in (model[0], model[2], model[4]):
        nn.init.orthogonal_(layer.weight)
        nn.init.zeros_(layer.bias)
    return Situation(
        "orthogonal matrices",
        model,
        blobs(64, 16, 4),
        F.cross_entropy,
        torch.optim.SGD(model.parameters(), 0.1),
        source="outside.md A12, twin",
    )


def weights_of_few_levels() -> Situation:
    seed(74)
    model = mlp(24, 48, 48, 4)
    with torch.no_grad():
        for layer in (model[0], model[2], model[4]):
            layer.weight.copy_((layer.weight * 20).round() / 20)
    return Situation(
        "weights rounded to few levels",
        model,
        blobs(64, 24, 4),
        F.cross_entropy,
        source="outside.md A12, twin",
    )


def random_signs() -> Situation:
    seed(75)
    model = mlp(24, 48, 4, act=nn.Hardtanh)
    with torch.no_grad():
        for layer in (model[0], model[2]):
            layer.weight.copy_(layer.weight.sign() / layer.in_features**0.5)
    return Situation(
        "weights ±1/√n", model, blobs(64, 24, 4), F.cross_entropy, source="outside.md A12, twin"
    )


def logistic_regression_from_zero() -> Situation:
    # jthickstun/pytorch_musicnet#4: nothing to break in a linear model
    seed(76)
    model = nn.Linear(20, 5)
    zero(model)
    return Situation(
        "logistic regression from zero",
        model,
        blobs(50, 20, 5),
        F.cross_entropy,
        source="jthickstun/pytorch_musicnet#4",
    )


def equal_units_with_random_weights_behind() -> Situation:
    seed(77)
    model = mlp(10, 32, 4, act=nn.Tanh)
    nn.init.constant_(model[0].weight, 0.1)
    nn.init.zeros_(model[0].bias)
    return Situation(
        "constant first layer, random second",
        model,
        blobs(64, 10, 4),
        F.cross_entropy,
        kinds=QUIET,
        why="the gradients of the units differ, so the first step parts them",
        source="outside.md A12, twin",
    )


def equal_embeddings() -> Situation:
    seed(78)
    model = nn.Sequential(nn.Embedding(30, 16), nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 30))
    nn.init.constant_(model[0].weight, 0.5)
    return Situation(
        "all embeddings equal at the start",
        model,
        tokens(16, 8, 30),
        of_tokens,
        kinds=(*QUIET, {"constant_output"}),
        why="every token's row gets its own gradient",
        source="outside.md A12, twin",
    )


def equal_heads_of_an_ensemble() -> Situation:
    seed(79)
    heads = nn.ModuleList(nn.Linear(32, 1) for _ in range(3))
    zero(heads)

    def run(m, x):
        h = m.trunk(x)
        return torch.cat([head(h) for head in m.heads], 1)

    return Situation(
        "three zero heads for three targets",
        Net(run, trunk=mlp(8, 32, 32), heads=heads),
        (torch.randn(64, 8), torch.randn(64, 3)),
        F.mse_loss,
        source="outside.md A12, twin",
    )


# A13: losses that expect something else


def softmax_into_nll() -> Situation:
    # midas-research/man-sf-emnlp#2
    seed(80)
    return Situation(
        "softmax into nll_loss",
        mlp(16, 32, 6, tail=(nn.Softmax(-1),)),
        blobs(60, 16, 6),
        F.nll_loss,
        kinds=MISMATCH,
        words=("log",),
        source="midas-research/man-sf-emnlp#2",
    )


def logits_into_nll() -> Situation:
    # yanx27/Pointnet_Pointnet2_pytorch#30: the loss is negative
    seed(81)
    return Situation(
        "logits into nll_loss",
        mlp(16, 32, 6),
        blobs(60, 16, 6),
        times(1e6, nn.NLLLoss()),
        kinds=MISMATCH,
        words=("log",),
        source="yanx27/Pointnet_Pointnet2_pytorch#30",
    )


def sigmoid_into_cross_entropy() -> Situation:
    seed(82)
    return Situation(
        "sigmoid into cross_entropy, 20 classes",
        mlp(16, 64, 20, tail=(nn.Sigmoid(),)),
        blobs(200, 16, 20),
        nn.CrossEntropyLoss(),
        kinds=(*MISMATCH, {"double_softmax"}),
        source="outside.md A13",
    )


def sigmoid_into_bce_with_logits() -> Situation:
    # argusswift/YOLOv4-pytorch#89, Turoad/lanedet#32
    seed(83)
    return Situation(
        "sigmoid into binary_cross_entropy_with_logits",
        mlp(16, 64, 3, tail=(nn.Sigmoid(),)),
        (torch.randn(64, 16), (torch.rand(64, 3) > 0.5).float()),
        F.binary_cross_entropy_with_logits,
        kinds=(*MISMATCH, {"double_softmax"}),
        words=("sigmoid",),
        source="Turoad/lanedet#32",
    )


def softmax_into_kl_div() -> Situation:
    # sebastian-hofstaetter/matchmaker#18
    seed(84)
    return Situation(
        "softmax on both sides of kl_div",
        mlp(16, 32, 6, tail=(nn.Softmax(-1),)),
        (torch.randn(64, 16), torch.randn(64, 6).softmax(-1)),
        lambda out, y: F.kl_div(out, y, reduction="batchmean"),
        kinds=MISMATCH,
        words=("log",),
        source="sebastian-hofstaetter/matchmaker#18",
    )


def column_against_row(loss: Callable, number: int, factor: float) -> Situation:
    """Outputs (N, 1), targets (N,)."""
    seed(number)
    x, y = line(64, 8)
    return Situation(
        "(N, 1) against (N,)",
        mlp(8, 32, 1),
        (x, y[:, 0]),
        times(factor, loss),
        kinds=MISMATCH,
        words=("64, 1",),
        source="deepset-ai/FARM#229",
    )


def column_against_row_l1() -> Situation:
    return column_against_row(F.l1_loss, 85, 1e6)


def column_against_row_huber() -> Situation:
    return column_against_row(F.smooth_l1_loss, 86, 1e-6)


def column_against_row_by_hand() -> Situation:
    return column_against_row(lambda out, y: ((out - y) ** 2).mean(), 87, 1.0)


def row_against_column() -> Situation:
    # deepset-ai/FARM#229: squeezed outputs (32,), labels (32, 1)
    seed(88)
    x, y = line(32, 8)
    return Situation(
        "(N,) against (N, 1)",
        mlp(8, 32, 1, tail=(nn.Flatten(0),)),
        (x, y),
        F.mse_loss,
        kinds=MISMATCH,
        words=("32, 1",),
        source="deepset-ai/FARM#229",
    )


def channel_missing_in_the_target() -> Situation:
    # jiwei0921/CoNet#3: (N, 1, H, W) against (N, H, W) with N = H would broadcast silently
    seed(89)
    model = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 1, 3, padding=1))
    return Situation(
        "(N, 1, H, W) against (N, H, W)",
        model,
        (torch.randn(8, 3, 8, 8), torch.randn(8, 8, 8)),
        F.smooth_l1_loss,
        kinds=MISMATCH,
        words=("8, 1, 8, 8",),
        source="jiwei0921/CoNet#3",
    )


def softmax_over_one_output() -> Situation:
    seed(90)
    return Situation(
        "softmax over a single output, BCE",
        mlp(8, 16, 1, tail=(nn.Softmax(-1),)),
        (torch.randn(32, 8), (torch.rand(32, 1) > 0.5).float()),
        F.binary_cross_entropy,
        kinds=(
            *MISMATCH,
            {"zero_gradient"},
            {"constant_output"},
            {"zero_gradient", "constant_output"},
            {"saturated"},
            {"loss_mismatch", "zero_gradient"},
        ),
        why="softmax of one number is 1",
        source="outside.md A13",
    )


def cross_entropy_of_one_class() -> Situation:
    seed(91)
    return Situation(
        "cross_entropy over one output",
        mlp(8, 16, 1),
        (torch.randn(32, 8), torch.zeros(32, dtype=torch.long)),
        F.cross_entropy,
        kinds=(*MISMATCH, {"zero_gradient"}, {"loss_mismatch", "zero_gradient"}),
        why="the loss is 0 whatever comes out",
        source="outside.md A13",
    )


def labels_of_minus_one_in_bce() -> Situation:
    seed(92)
    return Situation(
        "labels ±1 in binary_cross_entropy_with_logits",
        mlp(8, 32, 1),
        (torch.randn(64, 8), torch.randn(64, 1).sign()),
        F.binary_cross_entropy_with_logits,
        kinds=MISMATCH,
        words=("-1",),
        why="below 0 the loss has no minimum",
        source="outside.md A13",
    )


def softmax_into_cross_entropy() -> Situation:
    seed(93)
    return Situation(
        "softmax into cross_entropy",
        mlp(16, 32, 10, tail=(nn.Softmax(-1),)),
        blobs(100, 16, 10),
        times(1e-6, F.cross_entropy),
        kinds={"double_softmax"},
        source="outside.md A13",
    )


def exponential_into_poisson_of_logs() -> Situation:
    seed(94)
    return Situation(
        "softplus rates into poisson_nll_loss that exponentiates them",
        mlp(8, 32, 1, tail=(nn.Softplus(),)),
        (torch.randn(64, 8), torch.poisson(torch.full((64, 1), 3.0))),
        nn.PoissonNLLLoss(),
        kinds=(*MISMATCH, *QUIET),
        why="exp(softplus) ≥ 1 is a floor on the rate; whether it is meant is open",
        source="outside.md A13",
    )


def logits_into_ctc() -> Situation:
    seed(95)
    model = Net(
        lambda m, x: m.head(m.rnn(x)[0]).transpose(0, 1),
        rnn=nn.GRU(6, 16, batch_first=True),
        head=nn.Linear(16, 8),
    )
    target = torch.randint(1, 8, (4, 5))
    lengths = torch.full((4,), 20), torch.full((4,), 5)
    return Situation(
        "raw scores into ctc_loss",
        model,
        (torch.randn(4, 20, 6), target),
        lambda out, y: F.ctc_loss(out, y, *lengths),
        kinds=MISMATCH,
        words=("log",),
        source="outside.md A13",
    )


# A13: losses that are right


def classes_loss(name: str, number: int, loss: Callable, tail: tuple = (), **more) -> Situation:
    """A healthy classifier under a loss."""
    seed(number)
    model = mlp(16, 32, 6, tail=tail)
    x, y = blobs(60, 16, 6)
    size = more.get("size", 60)
    return Situation(name, model, (x[:size], y[:size]), loss, source="outside.md A13, twin")


def label_smoothing() -> Situation:
    return classes_loss("label smoothing", 100, nn.CrossEntropyLoss(label_smoothing=0.1))


def class_weights() -> Situation:
    return classes_loss("class weights", 101, nn.CrossEntropyLoss(weight=torch.rand(6) * 9 + 0.1))


def focal() -> Situation:
    def loss(out, y):
        log = F.log_softmax(out, -1).gather(1, y[:, None])
        return -((1 - log.exp()) ** 2 * log).mean()

    return classes_loss("focal loss", 102, times(1e-6, loss))


def log_softmax_into_cross_entropy() -> Situation:
    # dev-chauhan/PQG-pytorch#7: log_softmax twice is log_softmax once
    return classes_loss("log_softmax twice", 103, F.cross_entropy, (nn.LogSoftmax(-1),))


def log_softmax_into_nll() -> Situation:
    return classes_loss("log_softmax, nll", 104, times(1e6, F.nll_loss), (nn.LogSoftmax(-1),))


def log_of_softmax_into_nll() -> Situation:
    return classes_loss(
        "log of softmax",
        105,
        lambda out, y: F.nll_loss(torch.log(out + 1e-9), y),
        (nn.Softmax(-1),),
    )


def multi_margin() -> Situation:
    return classes_loss("multi-margin", 106, F.multi_margin_loss)


def brier() -> Situation:
    return classes_loss(
        "Brier score",
        107,
        lambda out, y: F.mse_loss(out, F.one_hot(y, 6).float()),
        (nn.Softmax(-1),),
    )


def temperature() -> Situation:
    return classes_loss("temperature 4", 108, lambda out, y: F.cross_entropy(out / 4, y), size=1)


def distillation() -> Situation:
    seed(109)
    x, y = blobs(60, 16, 6)
    teacher = torch.randn(60, 6) * 3

    def loss(out, both):
        hard, soft = both
        kl = F.kl_div(F.log_softmax(out / 4, -1), soft.div(4).softmax(-1), reduction="batchmean")
        return 0.5 * F.cross_entropy(out, hard) + 8 * kl

    return Situation(
        "hard and soft targets",
        mlp(16, 32, 6),
        (x, (y, teacher)),
        loss,
        source="jinkyu032/FedMLB#3",
    )


def soft_targets() -> Situation:
    seed(110)
    return Situation(
        "cross_entropy with mixed-up labels",
        mlp(16, 32, 6),
        (torch.randn(512, 16), torch.randn(512, 6).softmax(-1)),
        F.cross_entropy,
        source="outside.md A13, twin",
    )


def multi_label() -> Situation:
    seed(111)
    return Situation(
        "30 labels, few of them on",
        mlp(16, 64, 30),
        (torch.randn(64, 16), (torch.rand(64, 30) > 0.9).float()),
        nn.BCEWithLogitsLoss(pos_weight=torch.full((30,), 9.0)),
        source="outside.md A13, twin",
    )


def sigmoid_into_bce() -> Situation:
    seed(112)
    return Situation(
        "sigmoid into binary_cross_entropy",
        mlp(16, 64, 1, tail=(nn.Sigmoid(), nn.Flatten(0))),
        (torch.randn(64, 16), (torch.rand(64) > 0.5).float()),
        F.binary_cross_entropy,
        source="outside.md A13, twin",
    )


def ordinal() -> Situation:
    seed(113)
    level = torch.randint(5, (64,))
    target = (level[:, None] > torch.arange(4)).float()
    return Situation(
        "ordinal levels by cumulative logits",
        mlp(16, 64, 4),
        (torch.randn(64, 16), target),
        F.binary_cross_entropy_with_logits,
        source="outside.md A13, twin",
    )


def quantiles() -> Situation:
    seed(114)
    level = torch.tensor([0.1, 0.5, 0.9])

    def loss(out, y):
        error = y - out
        return torch.maximum(level * error, (level - 1) * error).mean()

    return Situation(
        "three quantiles (N, 3) of one target (N, 1)",
        mlp(8, 32, 3),
        line(64, 8),
        loss,
        why="this broadcast is meant",
        source="outside.md A13, twin",
    )


def heteroscedastic() -> Situation:
    seed(115)
    x, y = line(64, 8)
    return Situation(
        "mean and log-variance",
        mlp(8, 32, 2),
        (x, y),
        lambda out, t: F.gaussian_nll_loss(out[:, :1], t, out[:, 1:].exp()),
        source="outside.md A13, twin",
    )


def poisson() -> Situation:
    seed(116)
    return Situation(
        "counts under a Poisson loss",
        mlp(8, 32, 1),
        (torch.randn(64, 8), torch.poisson(torch.full((64, 1), 2.0))),
        nn.PoissonNLLLoss(),
        source="outside.md A13, twin",
    )


def sequence_with_padding() -> Situation:
    seed(117)
    x, y = tokens(8, 12, 40)
    y = torch.where(torch.arange(12) < 8, y, -100)
    model = nn.Sequential(nn.Embedding(40, 32), nn.Linear(32, 64), nn.ReLU(), nn.Linear(64, 40))
    return Situation(
        "sequence loss with ignored positions",
        model,
        (x, y),
        lambda out, t: F.cross_entropy(out.transpose(1, 2), t),
        source="outside.md A13, twin",
    )


def hinge() -> Situation:
    seed(118)
    return Situation(
        "hinge loss with labels ±1",
        mlp(8, 32, 1),
        (torch.randn(64, 8), torch.randn(64, 1).sign()),
        lambda out, y: F.relu(1 - y * out).mean(),
        source="outside.md A13, twin",
    )


def similarities_over_temperature() -> Situation:
    seed(119)

    def loss(z):
        z = F.normalize(z, dim=-1)
        return F.cross_entropy(z @ z.roll(1, 0).T / 0.07, torch.arange(len(z)))

    x = torch.randn(32, 1, 16).repeat(1, 2, 1).flatten(0, 1) + 0.1 * torch.randn(64, 16)
    return Situation(
        "InfoNCE over normalized outputs",
        mlp(16, 64, 32),
        x,
        loss,
        kinds=QUIET,
        source="outside.md A13, twin",
    )


def dice() -> Situation:
    seed(120)
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 1, 3, padding=1), nn.Sigmoid()
    )

    def loss(out, y):
        return 1 - (2 * (out * y).sum() + 1) / (out.sum() + y.sum() + 1)

    return Situation(
        "dice loss on a mask",
        model,
        (torch.randn(4, 3, 16, 16), (torch.rand(4, 1, 16, 16) > 0.8).float()),
        loss,
        source="outside.md A13, twin",
    )


def pixels_as_targets_of_a_sigmoid() -> Situation:
    seed(121)
    x = torch.rand(32, 64)
    return Situation(
        "autoencoder with BCE on pixels in 0…1",
        mlp(64, 32, 8, 32, 64, tail=(nn.Sigmoid(),)),
        (x, x),
        F.binary_cross_entropy,
        source="outside.md A13, twin",
    )


def per_sample_weights_by_column() -> Situation:
    seed(122)
    x, y = line(64, 8)
    weight = torch.rand(64, 1)
    return Situation(
        "weights (N, 1) on errors (N, 3)",
        mlp(8, 32, 3),
        (x, y.repeat(1, 3)),
        lambda out, t: (weight * (out - t) ** 2).mean(),
        why="one weight per example",
        source="outside.md A13, twin",
    )


# A14: scales


def features_in_their_own_units() -> Situation:
    # ageron/handson-ml3#20
    seed(130)
    x, y = line(128, 8)
    units = torch.tensor([1e5, 1e3, 1, 1e-2, 1, 40, 1e4, 1])
    return Situation(
        "features from 1e-2 to 1e5",
        mlp(8, 64, 64, 1),
        (x * units, y),
        F.mse_loss,
        kinds=UNSCALED,
        words=("input",),
        source="ageron/handson-ml3#20",
    )


def pixels_to_255() -> Situation:
    seed(131)
    x, y = images(32)
    model = nn.Sequential(
        nn.Conv2d(3, 16, 3), nn.ReLU(), nn.Conv2d(16, 16, 3), nn.ReLU(), nn.Flatten()
    )
    model.append(nn.Linear(256, 10))
    return Situation(
        "pixels 0…255",
        model,
        ((60 * x + 128).clamp(0, 255).round(), y),
        times(1e-6, F.cross_entropy),
        torch.optim.Adam(model.parameters(), 1e-3),
        kinds=UNSCALED,
        words=("255",),
        source="outside.md A14",
    )


def house_prices() -> Situation:
    # atomistic-machine-learning/schnetpack#336: first losses of 4e8
    seed(132)
    x, y = line(200, 10)
    return Situation(
        "targets around 250000",
        mlp(10, 64, 1),
        (x, 250_000 + 80_000 * y),
        F.mse_loss,
        kinds=UNSCALED,
        words=("target",),
        source="atomistic-machine-learning/schnetpack#336",
    )


def one_price() -> Situation:
    seed(139)
    x, y = line(64, 10)
    return Situation(
        "one target of 250000",
        mlp(10, 64, 1),
        (x[:1], 250_000 + 80_000 * y[:1]),
        F.mse_loss,
        kinds=UNSCALED,
        words=("target",),
        forbidden=("nan",),
        source="outside.md A14",
    )


def house_prices_l1() -> Situation:
    seed(133)
    x, y = line(512, 10)
    return Situation(
        "targets around 250000, L1",
        mlp(10, 64, 1),
        (x, 250_000 + 80_000 * y),
        times(1e6, F.l1_loss),
        kinds=UNSCALED,
        words=("target",),
        source="atomistic-machine-learning/schnetpack#336",
    )


def tied_embedding_of_one() -> Situation:
    seed(134)
    model = Net(
        lambda m, x: F.linear(m.norm(m.embed(x)), m.embed.weight),
        embed=nn.Embedding(500, 256),
        norm=nn.LayerNorm(256),
    )
    return Situation(
        "tied embedding from N(0, 1)",
        model,
        tokens(8, 32, 500),
        of_tokens,
        kinds=UNSCALED,
        words=("6.2",),
        source="outside.md A14",
    )


def head_of_one() -> Situation:
    seed(135)
    model = mlp(32, 256, 256, 20)
    nn.init.normal_(model[4].weight, 0, 3)
    return Situation(
        "classifier head from N(0, 3)",
        model,
        blobs(100, 32, 20),
        F.cross_entropy,
        kinds=UNSCALED,
        words=("3.0|3.00|2.99|2.996",),
        source="outside.md A14",
    )


def years() -> Situation:
    seed(136)
    x, y = line(64, 3)
    x = torch.cat([torch.randint(1990, 2025, (64, 1)).float(), x], 1)
    return Situation(
        "a year among standardized features",
        mlp(4, 32, 1),
        (x, y),
        F.mse_loss,
        kinds=UNSCALED,
        words=("input",),
        source="outside.md A14",
    )


def raw_audio() -> Situation:
    seed(137)
    model = nn.Sequential(
        nn.Conv1d(1, 8, 9, 4), nn.ReLU(), nn.Conv1d(8, 8, 9, 4), nn.ReLU(), nn.Flatten()
    )
    model.append(nn.Linear(8 * 14, 4))
    x = (torch.randn(16, 1, 256) * 6000).clamp(-32768, 32767).round()
    return Situation(
        "16-bit samples",
        model,
        (x, torch.arange(16) % 4),
        F.cross_entropy,
        kinds=UNSCALED,
        source="outside.md A14",
    )


def unix_time() -> Situation:
    seed(138)
    model = Net(
        lambda m, x: m.head(m.rnn(x)[0][:, -1]),
        rnn=nn.LSTM(2, 16, batch_first=True),
        head=nn.Linear(16, 1),
    )
    time = 1.6e9 + 3600 * torch.arange(20.0).expand(16, 20)
    x = torch.stack([time, torch.randn(16, 20)], -1)
    return Situation(
        "seconds since 1970 into an LSTM",
        model,
        (x, torch.randn(16, 1)),
        F.mse_loss,
        kinds=(
            *UNSCALED,
            {"saturated"},
            {"saturated", "unscaled"},
            {"unscaled", "constant_output"},
        ),
        source="outside.md A14",
    )


# A14: what looks unscaled and is not


def batch_norm_first() -> Situation:
    seed(140)
    x, y = line(128, 6)
    return Situation(
        "BatchNorm in front",
        nn.Sequential(nn.BatchNorm1d(6), *mlp(6, 32, 1)),
        (x * torch.tensor([1e4, 1, 1e-3, 1, 50, 1e5]) + 1000, y),
        F.mse_loss,
        source="outside.md A14, twin",
    )


def layer_norm_first() -> Situation:
    seed(141)
    x, y = blobs(128, 24, 6)
    return Situation(
        "LayerNorm in front",
        nn.Sequential(nn.LayerNorm(24), *mlp(24, 32, 6)),
        (500 + 200 * x, y),
        F.cross_entropy,
        source="outside.md A14, twin",
    )


def divides_by_255() -> Situation:
    seed(142)
    x, y = images(32)
    model = Net(
        lambda m, x: m.head((x - 128) / 64),
        head=nn.Sequential(nn.Conv2d(3, 16, 3), nn.ReLU(), nn.Flatten(), nn.Linear(576, 10)),
    )
    return Situation(
        "pixels 0…255, scaled in forward",
        model,
        ((60 * x + 128).clamp(0, 255).round(), y),
        F.cross_entropy,
        source="outside.md A14, twin",
    )


def pixels_to_one() -> Situation:
    seed(143)
    x, y = images(32)
    model = nn.Sequential(nn.Conv2d(3, 16, 3), nn.ReLU(), nn.Flatten(), nn.Linear(576, 10))
    return Situation(
        "pixels 0…1",
        model,
        (x.sigmoid(), y),
        F.cross_entropy,
        source="outside.md A14, twin",
    )


def one_hot() -> Situation:
    seed(144)
    x = F.one_hot(torch.randint(200, (64,)), 200).float()
    return Situation(
        "one of 200",
        mlp(200, 32, 4),
        (x, torch.arange(64) % 4),
        F.cross_entropy,
        source="outside.md A14, twin",
    )


def small_counts() -> Situation:
    seed(145)
    x = torch.poisson(torch.full((64, 20), 2.0))
    return Situation(
        "counts up to 8",
        mlp(20, 32, 4),
        (x, torch.arange(64) % 4),
        F.cross_entropy,
        source="outside.md A14, twin",
    )


def positions_as_waves() -> Situation:
    seed(146)
    time = torch.rand(256, 1) * 1000
    x = torch.cat([f(time / 10**k) for k in range(4) for f in (torch.sin, torch.cos)], 1)
    return Situation(
        "sines and cosines of a large number",
        mlp(8, 64, 1),
        (x, torch.sin(time / 30)),
        F.mse_loss,
        source="outside.md A14, twin",
    )


def standardized_prices() -> Situation:
    seed(147)
    x, y = line(200, 10)
    model = mlp(10, 64, 1)
    return Situation(
        "standardized targets",
        model,
        (x, (y - y.mean()) / y.std()),
        F.mse_loss,
        torch.optim.Adam(model.parameters(), 1e-3),
        source="outside.md A14, twin",
    )


def rescales_its_output() -> Situation:
    seed(148)
    x, y = line(200, 10)
    model = Net(lambda m, x: 250_000 + 80_000 * m.net(x), net=mlp(10, 64, 1))
    return Situation(
        "targets around 250000, output scaled to them in forward",
        model,
        (x, 250_000 + 80_000 * y),
        times(1e-6, F.mse_loss),
        torch.optim.Adam(model.parameters(), 1e-3),
        source="outside.md A14, twin",
    )


def trained_and_sure() -> Situation:
    seed(149)
    x, y = blobs(120, 10, 4)
    model = mlp(10, 64, 4)
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    for _ in range(150):
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()
    return Situation(
        "trained to sure answers",
        model,
        (x, y),
        F.cross_entropy,
        optimizer,
        source="outside.md A14, twin",
    )


def image_statistics() -> Situation:
    seed(150)
    x, y = images(64)
    x = (x.sigmoid() - torch.tensor([0.485, 0.456, 0.406])[:, None, None]) / 0.225
    model = nn.Sequential(nn.Conv2d(3, 16, 3), nn.ReLU(), nn.Flatten(), nn.Linear(576, 10))
    return Situation(
        "pixels by the usual mean and deviation",
        model.double(),
        (x.double(), y),
        F.cross_entropy,
        source="outside.md A14, twin",
    )


def sparse_words() -> Situation:
    seed(151)
    x = (torch.rand(64, 500) < 0.02).float() * torch.rand(64, 500) * 6
    x = x / x.norm(dim=1, keepdim=True).clamp_min(1e-6)
    return Situation(
        "normalized word weights, 2 % of them not 0",
        mlp(500, 32, 4),
        (x, torch.arange(64) % 4),
        F.cross_entropy,
        source="outside.md A14, twin",
    )


def ids_of_large_numbers() -> Situation:
    seed(152)
    model = Net(
        lambda m, user, item: (m.user(user) * m.item(item)).sum(-1) + m.bias,
        user=nn.Embedding(5000, 16),
        item=nn.Embedding(9000, 16),
        bias=nn.Parameter(torch.zeros(1)),
    )
    for e in (model.user, model.item):
        nn.init.normal_(e.weight, 0, 0.3)
    batch = ((torch.randint(5000, (64,)), torch.randint(9000, (64,))), torch.randn(64))
    return Situation(
        "identifiers in the thousands into embeddings",
        model,
        batch,
        F.mse_loss,
        source="outside.md A14, twin",
    )


# A17: recurrences by hand


def by_hand(step: Callable, length: int, features: int, width: int, batch: int, **parts) -> Net:
    """A hand-made recurrence; the answer is read from the last state."""

    def run(m, x):
        h = torch.zeros(x.shape[0], width, dtype=x.dtype)
        for t in range(length):
            h = step(m, x[:, t], h)
        return m.head(h)

    return Net(run, head=nn.Linear(width, 4), **parts)


def sequences(batch: int, length: int, features: int) -> tuple[Tensor, Tensor]:
    """Sequences with labels."""
    return torch.randn(batch, length, features), torch.arange(batch) % 4


def concatenated() -> Situation:
    seed(160)
    model = by_hand(
        lambda m, x, h: torch.tanh(m.cell(torch.cat([x, h], 1))),
        60,
        6,
        32,
        32,
        cell=nn.Linear(38, 32),
    )
    return Situation(
        "tanh over cat(x, h), 60 steps",
        model,
        sequences(32, 60, 6),
        F.cross_entropy,
        kinds=VANISHING,
        words=("60",),
        source="outside.md A17",
    )


def concatenated_state_first() -> Situation:
    seed(161)
    model = by_hand(
        lambda m, x, h: torch.sigmoid(m.cell(torch.cat([h, x], 1))),
        30,
        6,
        24,
        16,
        cell=nn.Linear(30, 24),
    )
    return Situation(
        "sigmoid over cat(h, x), 30 steps, float64",
        model.double(),
        tuple(t.double() if t.is_floating_point() else t for t in sequences(16, 30, 6)),
        F.cross_entropy,
        torch.optim.SGD(model.parameters(), 0.1),
        kinds=(*VANISHING, {"vanishing", "constant_output"}),
        source="outside.md A17",
    )


def two_linears() -> Situation:
    seed(162)
    model = by_hand(
        lambda m, x, h: torch.tanh(m.entry(x) + m.again(h)),
        80,
        3,
        16,
        8,
        entry=nn.Linear(3, 16),
        again=nn.Linear(16, 16, bias=False),
    )
    return Situation(
        "W x + U h, 80 steps",
        model,
        sequences(8, 80, 3),
        times(1e-6, F.cross_entropy),
        kinds=VANISHING,
        source="outside.md A17",
    )


def raw_parameters() -> Situation:
    seed(163)
    model = by_hand(
        lambda m, x, h: torch.tanh(x @ m.w + h @ m.u + m.b),
        50,
        4,
        20,
        64,
        w=param(4, 20, scale=0.1),
        u=param(20, 20, scale=0.1),
        b=param(20),
    )
    return Situation(
        "x @ w + h @ u with bare parameters of 0.1",
        model,
        sequences(64, 50, 4),
        F.cross_entropy,
        kinds=VANISHING,
        source="outside.md A17",
    )


def rectified_and_too_large() -> Situation:
    seed(164)
    cell = nn.Linear(38, 32)
    nn.init.normal_(cell.weight, 0, 0.5)
    model = by_hand(lambda m, x, h: F.relu(m.cell(torch.cat([x, h], 1))), 25, 6, 32, 32, cell=cell)
    return Situation(
        "ReLU recurrence, weights of 0.5",
        model,
        sequences(32, 25, 6),
        F.cross_entropy,
        kinds=EXPLODING,
        source="outside.md A17",
    )


def decays_by_half() -> Situation:
    seed(165)
    model = by_hand(
        lambda m, x, h: m.decay * h + m.entry(x),
        40,
        4,
        16,
        32,
        decay=nn.Parameter(torch.full((16,), 0.5)),
        entry=nn.Linear(4, 16),
    )
    return Situation(
        "linear recurrence that forgets half each step, 40 steps",
        model,
        sequences(32, 40, 4),
        F.cross_entropy,
        kinds=VANISHING,
        source="outside.md A17",
    )


def gate_that_lets_go() -> Situation:
    seed(166)

    def step(m, x, h):
        both = torch.cat([x, h], 1)
        z = torch.sigmoid(m.gate(both))
        return z * h + (1 - z) * torch.tanh(m.new(both))

    gate = nn.Linear(28, 24)
    nn.init.constant_(gate.bias, -4)
    model = by_hand(step, 50, 4, 24, 32, gate=gate, new=nn.Linear(28, 24))
    return Situation(
        "gated recurrence by hand, its gate closed at the start",
        model,
        sequences(32, 50, 4),
        F.cross_entropy,
        torch.optim.Adam(model.parameters(), 1e-3),
        kinds=VANISHING,
        source="outside.md A17",
    )


def states_in_a_list() -> Situation:
    seed(167)

    def run(m, x):
        states = [torch.zeros(len(x), 16)]
        for t in range(x.shape[1]):
            states.append(torch.tanh(m.entry(x[:, t]) + m.again(states[-1])))
        return m.head(states[-1])

    again = nn.Linear(16, 16)
    nn.init.orthogonal_(again.weight, 0.5)
    return Situation(
        "states in a list, recurrent matrix 0.5 × orthogonal",
        Net(run, entry=nn.Linear(4, 16), again=again, head=nn.Linear(16, 4)),
        sequences(128, 30, 4),
        times(1e6, F.cross_entropy),
        kinds=VANISHING,
        source="outside.md A17",
    )


# A17: recurrences that carry


def identity_recurrence() -> Situation:
    seed(170)
    again = nn.Linear(24, 24)
    nn.init.eye_(again.weight)
    nn.init.zeros_(again.bias)
    entry = nn.Linear(4, 24, bias=False)
    nn.init.normal_(entry.weight, 0, 0.03)
    model = by_hand(
        lambda m, x, h: F.relu(m.entry(x) + m.again(h)), 40, 4, 24, 32, entry=entry, again=again
    )
    return Situation(
        "ReLU with an identity matrix",
        model,
        sequences(32, 40, 4),
        F.cross_entropy,
        kinds=QUIET,
        source="outside.md A17, twin",
    )


def orthogonal_recurrence() -> Situation:
    seed(171)
    u = nn.Parameter(torch.linalg.qr(torch.randn(24, 24))[0])
    model = by_hand(
        lambda m, x, h: torch.tanh(m.entry(x) + h @ m.u), 30, 4, 24, 32, entry=nn.Linear(4, 24), u=u
    )
    with torch.no_grad():
        model.entry.weight.mul_(0.1)
        model.entry.bias.zero_()
    return Situation(
        "tanh with an orthogonal matrix, small inputs",
        model,
        sequences(32, 30, 4),
        F.cross_entropy,
        source="outside.md A17, twin",
    )


def gate_that_holds() -> Situation:
    seed(172)

    def step(m, x, h):
        both = torch.cat([x, h], 1)
        z = torch.sigmoid(m.gate(both))
        return z * h + (1 - z) * torch.tanh(m.new(both))

    gate = nn.Linear(28, 24)
    nn.init.constant_(gate.bias, 4)
    model = by_hand(step, 50, 4, 24, 32, gate=gate, new=nn.Linear(28, 24))
    return Situation(
        "gated recurrence by hand, its gate open at the start",
        model,
        sequences(32, 50, 4),
        F.cross_entropy,
        torch.optim.Adam(model.parameters(), 1e-3),
        source="outside.md A17, twin",
    )


def few_steps() -> Situation:
    seed(173)
    model = by_hand(
        lambda m, x, h: torch.tanh(m.cell(torch.cat([x, h], 1))),
        5,
        6,
        32,
        32,
        cell=nn.Linear(38, 32),
    )
    return Situation(
        "tanh over cat(x, h), 5 steps",
        model,
        sequences(1, 5, 6),
        F.cross_entropy,
        source="outside.md A17, twin",
    )


def residual_recurrence() -> Situation:
    seed(174)
    model = by_hand(
        lambda m, x, h: h + 0.1 * torch.tanh(m.cell(torch.cat([x, h], 1))),
        40,
        6,
        32,
        32,
        cell=nn.Linear(38, 32),
    )
    return Situation(
        "h + 0.1 tanh, 40 steps",
        model,
        sequences(64, 40, 6),
        F.cross_entropy,
        source="outside.md A17, twin",
    )


def slow_decays() -> Situation:
    seed(175)
    model = by_hand(
        lambda m, x, h: torch.sigmoid(m.rate) * h + m.entry(x) / 8,
        100,
        4,
        32,
        16,
        rate=nn.Parameter(torch.linspace(4.5, 7, 32)),
        entry=nn.Linear(4, 32),
    )
    return Situation(
        "linear recurrence with eigenvalues of .99 and more, 100 steps",
        model,
        sequences(16, 100, 4),
        F.cross_entropy,
        source="outside.md A17, twin",
    )


def long_memory_cell() -> Situation:
    seed(176)

    def run(m, x):
        h = c = torch.zeros(len(x), 24)
        for t in range(40):
            i, f, o, g = m.gates(torch.cat([x[:, t], h], 1)).chunk(4, 1)
            c = torch.sigmoid(f + 5) * c + torch.sigmoid(i) * torch.tanh(g)
            h = torch.sigmoid(o) * torch.tanh(c)
        return m.head(h)

    return Situation(
        "LSTM by hand, forget bias 5, 40 steps",
        Net(run, gates=nn.Linear(28, 96), head=nn.Linear(24, 4)),
        sequences(32, 40, 4),
        F.cross_entropy,
        source="outside.md A17, twin",
    )


def mean_over_time_of_a_gru() -> Situation:
    seed(177)

    def run(m, x):
        h, states = torch.zeros(len(x), 24), []
        for t in range(24):
            h = m.cell(x[:, t], h)
            states.append(h)
        return m.head(torch.stack(states).mean(0))

    return Situation(
        "GRU cell by hand, mean over its states",
        Net(run, cell=nn.GRUCell(4, 24), head=nn.Linear(24, 4)),
        sequences(32, 24, 4),
        F.cross_entropy,
        kinds=QUIET,
        source="outside.md A17, twin",
    )


# A18: depth and where the norm stands


class Block(nn.Module):
    """Attention and feed-forward, the norm where it is told."""

    def __init__(self, width: int, norm: str, alpha: float = 1.0, beta: float = 1.0):
        super().__init__()
        self.attend = nn.MultiheadAttention(width, 4, batch_first=True)
        self.feed = mlp(width, 4 * width, width, act=nn.GELU)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(4))
        self.place, self.alpha = norm, alpha
        for layer in (self.feed[0], self.feed[2], self.attend.out_proj):
            nn.init.xavier_normal_(layer.weight, beta)
        nn.init.xavier_normal_(self.attend.in_proj_weight[2 * width :], beta)

    def branch(self, k: int, x: Tensor) -> Tensor:
        return self.attend(x, x, x, need_weights=False)[0] if k == 0 else self.feed(x)

    def forward(self, x: Tensor) -> Tensor:
        for k in range(2):
            if self.place == "post":
                x = self.norms[k](self.alpha * x + self.branch(k, x))
            elif self.place == "pre":
                x = x + self.branch(k, self.norms[k](x))
            elif self.place == "sandwich":
                x = x + self.norms[k + 2](self.branch(k, self.norms[k](x)))
            else:  # the branch's own output
                x = x + self.norms[k](self.branch(k, x))
        return x


def stack(depth: int, norm: str, width: int = 32, **more) -> nn.Sequential:
    """A classifier of sequences."""
    blocks = nn.Sequential(*(Block(width, norm, **more) for _ in range(depth)))
    last = nn.LayerNorm(width) if norm != "post" else nn.Identity()
    return Net(
        lambda m, x: m.head(m.last(m.blocks(m.embed(x))).mean(1)),
        embed=nn.Embedding(100, width),
        blocks=blocks,
        last=last,
        head=nn.Linear(width, 4),
    )


def transformer(name: str, number: int, model: Callable, **more) -> Situation:
    """A transformer on tokens."""
    seed(number)
    batch = more.pop("batch", 8)
    net = model()
    optimizer = torch.optim.Adam(net.parameters(), 1e-3) if more.pop("adam", False) else None
    return Situation(
        name,
        net,
        (torch.randint(100, (batch, 12)), torch.arange(batch) % 4),
        more.pop("loss", F.cross_entropy),
        optimizer,
        source=more.pop("source", "outside.md A18"),
        **more,
    )


NEEDS_WARMUP = (*QUIET, {"vanishing"})


def encoder(depth: int, norm_first: bool, **more) -> nn.Module:
    """The encoder of the library."""
    layer = nn.TransformerEncoderLayer(
        32, 4, 128, 0.0, batch_first=True, norm_first=norm_first, **more
    )
    return Net(
        lambda m, x: m.head(m.body(m.embed(x)).mean(1)),
        embed=nn.Embedding(100, 32),
        body=nn.TransformerEncoder(
            layer, depth, nn.LayerNorm(32) if norm_first else None, enable_nested_tensor=False
        ),
        head=nn.Linear(32, 4),
    )


def independent(depth: int) -> nn.Module:
    """Post-norm layers each with its own random weights."""
    model = encoder(depth, False)
    for p in model.body.parameters():
        if p.dim() > 1:
            nn.init.xavier_uniform_(p)
    return model


def post_norm_24() -> Situation:
    # pytorch/pytorch#55270
    return transformer(
        "24 post-norm layers of the library",
        180,
        lambda: independent(24),
        kinds=NEEDS_WARMUP,
        words=("warm",),
        source="pytorch/pytorch#55270",
    )


def post_norm_24_by_hand() -> Situation:
    return transformer(
        "24 post-norm layers by hand",
        181,
        lambda: stack(24, "post"),
        kinds=NEEDS_WARMUP,
        words=("warm",),
        adam=True,
    )


def post_norm_48_by_hand() -> Situation:
    return transformer(
        "48 post-norm layers by hand",
        182,
        lambda: stack(48, "post", 16),
        kinds=NEEDS_WARMUP,
        words=("warm",),
        loss=times(1e6, F.cross_entropy),
    )


def post_norm_18_one_example() -> Situation:
    return transformer(
        "18 post-norm layers, one example",
        183,
        lambda: independent(18),
        kinds=NEEDS_WARMUP,
        words=("warm",),
        batch=1,
    )


def post_norm_32_small_loss() -> Situation:
    return transformer(
        "32 post-norm layers by hand, loss × 1e-6",
        184,
        lambda: stack(32, "post"),
        kinds=NEEDS_WARMUP,
        words=("warm",),
        loss=times(1e-6, F.cross_entropy),
    )


def post_norm_mlp_of_40() -> Situation:
    seed(185)

    def run(m, x):
        for norm, block in zip(m.norms, m.blocks, strict=True):
            x = norm(x + block(x))
        return m.head(x)

    blocks = nn.ModuleList(mlp(32, 128, 32) for _ in range(40))
    for block in blocks:
        for k in (0, 2):
            nn.init.kaiming_normal_(block[k].weight)
    return Situation(
        "40 residual feed-forward blocks with the norm behind the sum",
        Net(
            run,
            blocks=blocks,
            norms=nn.ModuleList(nn.LayerNorm(32) for _ in range(40)),
            head=nn.Linear(32, 4),
        ),
        blobs(64, 32, 4),
        F.cross_entropy,
        kinds=NEEDS_WARMUP,
        words=("warm",),
        source="outside.md A18",
    )


def stuck_post_norm() -> Situation:
    """Post-norm after steps that were too long: every example gets the same answer."""
    seed(186)
    model = stack(16, "post")
    x, y = torch.randint(100, (16, 12)), torch.arange(16) % 4
    optimizer = torch.optim.Adam(model.parameters(), 2e-2)
    for _ in range(12):
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()
    return Situation(
        "16 post-norm layers after 12 steps of 2e-2",
        model,
        (x, y),
        F.cross_entropy,
        optimizer,
        kinds=(
            *VANISHING,
            {"vanishing", "constant_output"},
            {"constant_output"},
            {"update_size", "vanishing"},
            {"update_size", "constant_output"},
            {"update_size", "vanishing", "constant_output"},
            {"update_size"},
            {"undecided"},
        ),
        source="LiyuanLucasLiu/Transformer-Clinic#16",
    )


def sigmoid_attention_free_24() -> Situation:
    seed(187)
    return Situation(
        "24 sigmoid layers without norm or skip",
        mlp(*(32,) * 25, 4, act=nn.Sigmoid),
        blobs(32, 32, 4),
        F.cross_entropy,
        kinds=(*VANISHING, {"vanishing", "constant_output"}),
        source="outside.md A18",
    )


# A18: deep and healthy


def pre_norm_24() -> Situation:
    return transformer("24 pre-norm layers", 190, lambda: encoder(24, True), adam=True)


def pre_norm_48_by_hand() -> Situation:
    return transformer(
        "48 pre-norm layers by hand",
        191,
        lambda: stack(48, "pre"),
        loss=times(1e6, F.cross_entropy),
    )


def deep_norm_24() -> Situation:
    return transformer(
        "DeepNorm, 24 layers",
        192,
        lambda: stack(24, "post", alpha=48**0.25, beta=192**-0.25),
    )


def post_norm_2() -> Situation:
    return transformer("2 post-norm layers", 193, lambda: independent(2))


def post_norm_6() -> Situation:
    return transformer("6 post-norm layers", 194, lambda: independent(6), adam=True)


def sandwich_24() -> Situation:
    return transformer("a norm on both sides, 24 layers", 195, lambda: stack(24, "sandwich"))


def norm_at_the_end_of_the_branch() -> Situation:
    return transformer("norm of each branch, 16 layers", 196, lambda: stack(16, "end"))


def post_norm_12_small_branches() -> Situation:
    return transformer(
        "12 post-norm layers from N(0, 0.02)", 197, lambda: stack(12, "post", beta=0.2)
    )


def parallel_blocks() -> Situation:
    seed(198)

    def run(m, x):
        x = m.embed(x)
        for norm, attend, feed in zip(m.norms, m.attends, m.feeds, strict=True):
            z = norm(x)
            x = x + attend(z, z, z, need_weights=False)[0] + feed(z)
        return m.head(m.last(x).mean(1))

    model = Net(
        run,
        embed=nn.Embedding(100, 32),
        norms=nn.ModuleList(nn.LayerNorm(32) for _ in range(20)),
        attends=nn.ModuleList(nn.MultiheadAttention(32, 4, batch_first=True) for _ in range(20)),
        feeds=nn.ModuleList(mlp(32, 128, 32, act=nn.SiLU) for _ in range(20)),
        last=nn.LayerNorm(32),
        head=nn.Linear(32, 4),
    )
    return Situation(
        "20 blocks of attention beside feed-forward",
        model,
        (torch.randint(100, (8, 12)), torch.arange(8) % 4),
        F.cross_entropy,
        source="outside.md A18, twin",
    )


# A19: what a report says


def numbered_layers() -> Situation:
    seed(200)
    return Situation(
        "layers called 0, 2, 4, …",
        mlp(*(64,) * 13, 10, act=nn.Sigmoid),
        blobs(64, 64, 10),
        F.cross_entropy,
        kinds=(*VANISHING, {"vanishing", "constant_output"}),
        words=("Linear 64→64",),
        forbidden=("nan",),
        source="outside.md A19",
    )


def many_layers_as_a_range() -> Situation:
    seed(201)
    layers = nn.ModuleList(nn.Linear(32, 32) for _ in range(48))

    def run(m, x):
        for layer in m.layers:
            x = torch.tanh(layer(x))
        return m.head(x)

    return Situation(
        "48 tanh layers",
        Net(run, layers=layers, head=nn.Linear(32, 4)),
        blobs(64, 32, 4),
        F.cross_entropy,
        kinds=(*VANISHING, {"vanishing", "constant_output"}),
        words=("layers.0 … layers.47|layers.0…layers.47|layers.0 … ",),
        forbidden=("layers.20, layers.21",),
        source="outside.md A19",
    )


def forty_layers_not_optimized() -> Situation:
    seed(202)
    body = nn.ModuleList(nn.Linear(16, 16) for _ in range(40))

    def run(m, x):
        for layer in m.body:
            x = x + 0.1 * torch.tanh(layer(x))
        return m.head(x)

    model = Net(run, body=body, head=nn.Linear(16, 4))
    return Situation(
        "an optimizer that holds the head alone",
        model,
        blobs(64, 16, 4),
        F.cross_entropy,
        torch.optim.Adam(model.head.parameters(), 1e-3),
        kinds={"not_optimized"},
        words=("body.0", "…", "80|40"),
        forbidden=("body.20.weight, body.20.bias",),
        source="outside.md A19",
    )


def dead_convolution_named() -> Situation:
    seed(203)
    model = nn.Sequential()
    model.add_module("stem", nn.Conv2d(3, 8, 3, padding=1))
    model.add_module("act", nn.ReLU())
    model.add_module("mid", nn.Conv2d(8, 16, 3, padding=1))
    model.add_module("act2", nn.ReLU())
    model.add_module("flat", nn.Flatten())
    model.add_module("head", nn.Linear(1024, 10))
    nn.init.constant_(model.mid.bias, -50)
    return Situation(
        "a convolution that is dead",
        model,
        images(16),
        F.cross_entropy,
        kinds=({"dead"}, {"dead", "constant_output"}),
        words=("mid (Conv2d 8→16",),
        forbidden=("nan",),
        source="outside.md A19",
    )


def everything_is_nan() -> Situation:
    seed(204)
    model = mlp(8, 16, 4)
    with torch.no_grad():
        model[0].weight[3, 2] = math.nan
    return Situation(
        "one weight is NaN",
        model,
        blobs(32, 8, 4),
        F.cross_entropy,
        kinds={"non_finite"},
        words=("NaN", "weight"),
        forbidden=("nan",),
        source="outside.md A19",
    )


def inf_in_the_inputs() -> Situation:
    seed(205)
    x, y = line(32, 8)
    x[5, 3] = math.inf
    return Situation(
        "one input is Inf",
        mlp(8, 16, 1),
        (x, y),
        F.mse_loss,
        kinds={"non_finite"},
        words=("input|batch",),
        forbidden=("nan",),
        source="outside.md A19",
    )


def two_findings_that_differ() -> Situation:
    seed(206)
    model = Net(
        lambda m, x: m.net(x),
        net=mlp(8, 32, 32, 4),
        unused=nn.Linear(8, 8),
    )
    nn.init.constant_(model.net[2].bias, -30)
    return Situation(
        "a dead layer and one that is never used",
        model,
        blobs(64, 8, 4),
        F.cross_entropy,
        kinds=(
            {"dead", "not_connected"},
            {"dead", "not_connected", "constant_output"},
        ),
        words=("unused (Linear 8→8)", "net.2 (Linear 32→32)"),
        source="outside.md A19",
    )


def saturated_in_float16() -> Situation:
    seed(207)
    model = mlp(8, 32, 32, 4, act=nn.Tanh)
    with torch.no_grad():
        model[0].weight.mul_(200)
    return Situation(
        "saturated tanh in bfloat16",
        model.bfloat16(),
        (blobs(64, 8, 4)[0].bfloat16(), torch.arange(64) % 4),
        F.cross_entropy,
        kinds={"saturated"},
        words=("0 (Linear 8→32)|1 (Tanh",),
        forbidden=("nan",),
        source="outside.md A19",
    )


def healthy_text(name: str, number: int, model: Callable, **more) -> Situation:
    """A healthy report that says nothing that worries."""
    seed(number)
    x, y = blobs(512, 16, 4)
    size = more.pop("size", 64)
    return Situation(
        name,
        model(),
        (x[:size], y[:size]),
        F.cross_entropy,
        forbidden=("nan", "vanishing", "exploding", "not decided", "warning"),
        source="outside.md A19, twin",
        **more,
    )


def plain_text_1() -> Situation:
    return healthy_text("a small healthy net", 210, lambda: mlp(16, 32, 4))


def plain_text_2() -> Situation:
    return healthy_text("one layer", 211, lambda: nn.Linear(16, 4))


def plain_text_3() -> Situation:
    return healthy_text("one example", 212, lambda: mlp(16, 32, 4, act=nn.SiLU), size=1)


def plain_text_4() -> Situation:
    return healthy_text("512 examples", 213, lambda: mlp(16, 64, 4, act=nn.GELU), size=512)


def plain_text_5() -> Situation:
    return healthy_text(
        "frozen first layer",
        214,
        lambda: nn.Sequential(frozen(nn.Linear(16, 32)), nn.ReLU(), nn.Linear(32, 4)),
    )


def plain_text_6() -> Situation:
    return healthy_text(
        "with batch norm",
        215,
        lambda: nn.Sequential(nn.Linear(16, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 4)),
    )


def plain_text_7() -> Situation:
    return healthy_text(
        "with dropout",
        216,
        lambda: nn.Sequential(nn.Linear(16, 64), nn.ReLU(), nn.Dropout(0.5), nn.Linear(64, 4)),
    )


def plain_text_8() -> Situation:
    return healthy_text(
        "leaky, ELU and softplus",
        217,
        lambda: nn.Sequential(
            nn.Linear(16, 64), nn.LeakyReLU(), nn.Linear(64, 64), nn.ELU(), nn.Linear(64, 4)
        ),
    )


# Asked once the first ones were answered: the same kinds, other inputs


def zero_gate_of_a_frozen_layer() -> Situation:
    seed(300)
    model = Net(
        lambda m, x: m.head(x + m.out(m.block(x))),
        block=mlp(16, 32, 16),
        out=nn.Linear(16, 16),
        head=nn.Linear(16, 4),
    )
    zero(model.out)
    frozen(model.out)
    return Situation(
        "a zero output projection that is frozen by mistake",
        model,
        blobs(64, 16, 4),
        F.cross_entropy,
        kinds=STUCK_AT_ZERO,
        words=("out",),
        source="outside.md A6",
    )


def lora_behind_a_frozen_zero_layer() -> Situation:
    seed(301)
    model = Net(
        lambda m, x: m.head(torch.tanh(m.base(x) + m.up(m.low(x)))),
        base=frozen(nn.Linear(16, 16)),
        low=nn.Linear(16, 2, bias=False),
        up=nn.Linear(2, 16, bias=False),
        head=frozen(nn.Linear(16, 4)),
    )
    zero(model.low, model.up)
    return Situation(
        "LoRA of two nn.Linear, both zero",
        model,
        blobs(64, 16, 4),
        times(1e6, F.cross_entropy),
        kinds=STUCK_AT_ZERO,
        source="microsoft/LoRA#98",
    )


def transformer_with_lora() -> Situation:
    seed(302)
    blocks = nn.ModuleList(frozen(Block(32, "pre")) for _ in range(6))
    low = nn.ModuleList(nn.Linear(32, 2, bias=False) for _ in range(6))
    up = nn.ModuleList(nn.Linear(2, 32, bias=False) for _ in range(6))
    zero(up)

    def run(m, x):
        x = m.embed(x)
        for block, a, b in zip(m.blocks, m.low, m.up, strict=True):
            x = block(x) + b(a(x))
        return m.head(x.mean(1))

    model = Net(
        run,
        embed=frozen(nn.Embedding(100, 32)),
        blocks=blocks,
        low=low,
        up=up,
        head=nn.Linear(32, 4),
    )
    return Situation(
        "low-rank additions beside frozen pre-norm blocks",
        model,
        (torch.randint(100, (8, 12)), torch.arange(8) % 4),
        F.cross_entropy,
        torch.optim.AdamW((p for p in model.parameters() if p.requires_grad), 1e-4),
        source="outside.md A8",
    )


def only_biases_are_tuned() -> Situation:
    seed(303)
    model = mlp(16, 64, 64, 4, act=nn.GELU)
    for name, p in model.named_parameters():
        p.requires_grad_(name.endswith("bias"))
    return Situation(
        "biases alone are trained",
        model,
        blobs(64, 16, 4),
        F.cross_entropy,
        torch.optim.Adam((p for p in model.parameters() if p.requires_grad), 1e-3),
        source="outside.md A8",
    )


def scales_of_a_frozen_net() -> Situation:
    seed(304)
    model = Net(
        lambda m, x: m.b(torch.tanh(m.a(x)) * m.scale),
        a=frozen(nn.Linear(16, 64)),
        scale=nn.Parameter(torch.ones(64)),
        b=frozen(nn.Linear(64, 4)),
    )
    return Situation(
        "learned scales inside a frozen net",
        model,
        blobs(64, 16, 4),
        times(1e-6, F.cross_entropy),
        source="outside.md A8",
    )


def progressive_growing() -> Situation:
    seed(305)

    def run(m, x):
        old = m.old(x)
        return (1 - m.fade) * old + m.fade * m.new(F.relu(m.deeper(x)))

    model = Net(
        run,
        old=nn.Linear(8, 4),
        deeper=nn.Linear(8, 16),
        new=nn.Linear(16, 4),
        fade=torch.zeros(()),
    )
    return Situation(
        "a branch that code fades in, its buffer at 0",
        model,
        blobs(64, 8, 4),
        F.cross_entropy,
        kinds=(*QUIET, {"zero_gradient"}),
        source="outside.md A6",
    )


def weight_norm_of_zero() -> Situation:
    seed(306)
    model = Net(
        lambda m, x: m.head(torch.tanh(F.linear(x, m.g * F.normalize(m.v, dim=1)))),
        g=nn.Parameter(torch.zeros(32, 1)),
        v=param(32, 8, scale=1.0),
        head=nn.Linear(32, 4),
    )
    return Situation(
        "direction and length of a weight, the length 0",
        model,
        blobs(64, 8, 4),
        F.cross_entropy,
        kinds=(*QUIET, {"constant_output"}),
        why="the length gets a gradient and moves at the first step",
        source="outside.md A6",
    )


def experts_as_one_tensor() -> Situation:
    seed(310)
    one = torch.randn(1, 8, 16) / 8**0.5
    two = torch.randn(1, 16, 3) / 4
    model = Net(
        lambda m, x: (
            torch.einsum("nei,eio->neo", F.relu(torch.einsum("ni,eio->neo", x, m.w1)), m.w2)
            * m.gate(x).softmax(-1).unsqueeze(-1)
        ).sum(1),
        w1=nn.Parameter(one.repeat(4, 1, 1)),
        w2=nn.Parameter(two.repeat(4, 1, 1)),
        gate=nn.Linear(8, 4),
    )
    zero(model.gate)
    return Situation(
        "experts stacked in one tensor, all equal",
        model,
        blobs(60, 8, 3),
        F.cross_entropy,
        kinds=SYMMETRIC,
        source="outside.md A12",
    )


def twin_critics_copied() -> Situation:
    seed(311)
    q = mlp(6, 32, 1)
    model = Net(lambda m, x: torch.cat([m.q1(x), m.q2(x)], 1), q1=q, q2=copy.deepcopy(q))
    x, y = line(64, 6)
    return Situation(
        "twin critics, the second a copy of the first",
        model,
        (x, y.repeat(1, 2)),
        F.mse_loss,
        kinds=SYMMETRIC,
        source="outside.md A12",
    )


def copies_that_read_other_inputs() -> Situation:
    seed(312)
    tower = mlp(8, 32, 8)
    model = Net(
        lambda m, a, b: m.head(torch.cat([m.left(a), m.right(b)], 1)),
        left=tower,
        right=copy.deepcopy(tower),
        head=nn.Linear(16, 4),
    )
    batch = ((torch.randn(64, 8), torch.randn(64, 8)), torch.arange(64) % 4)
    return Situation(
        "two towers that start as copies and read other inputs",
        model,
        batch,
        F.cross_entropy,
        source="outside.md A12, twin",
    )


def copies_of_a_pretrained_block() -> Situation:
    seed(313)
    block = Block(32, "pre")
    model = Net(
        lambda m, x: m.head(m.blocks(m.embed(x)).mean(1)),
        embed=nn.Embedding(100, 32),
        blocks=nn.Sequential(*(copy.deepcopy(block) for _ in range(4))),
        head=nn.Linear(32, 4),
    )
    return Situation(
        "four copies of one block behind each other",
        model,
        (torch.randint(100, (8, 12)), torch.arange(8) % 4),
        F.cross_entropy,
        why="each gets its own gradient",
        source="outside.md A12, twin",
    )


def library_encoder_of_copies() -> Situation:
    seed(314)
    return Situation(
        "nn.TransformerEncoder as it comes: its layers are copies",
        encoder(6, True),
        (torch.randint(100, (8, 12)), torch.arange(8) % 4),
        F.cross_entropy,
        source="outside.md A12, twin",
    )


def constant_gru_by_hand() -> Situation:
    seed(315)
    cell = fill(nn.GRUCell(5, 16), 0.1)

    def run(m, x):
        h = torch.zeros(len(x), 16)
        for t in range(8):
            h = m.cell(x[:, t], h)
        return m.head(h)

    model = Net(run, cell=cell, head=fill(nn.Linear(16, 3), 0.1))
    return Situation(
        "GRU cell of constants",
        model,
        (torch.randn(30, 8, 5), torch.arange(30) % 3),
        F.cross_entropy,
        kinds=SYMMETRIC,
        source="outside.md A12",
    )


def transposed_convolution_of_constants() -> Situation:
    seed(316)
    model = nn.Sequential(
        nn.Linear(8, 32),
        nn.Unflatten(1, (8, 2, 2)),
        nn.ConvTranspose2d(8, 8, 4, 2, 1),
        nn.ReLU(),
        nn.ConvTranspose2d(8, 1, 4, 2, 1),
    )
    for layer in (model[2], model[4]):
        fill(layer, 0.05)
    return Situation(
        "decoder of constants",
        model,
        (torch.randn(16, 8), torch.rand(16, 1, 8, 8)),
        F.mse_loss,
        kinds=SYMMETRIC,
        source="outside.md A12",
    )


def softmax_and_then_log_twice() -> Situation:
    seed(320)
    return Situation(
        "log_softmax into binary_cross_entropy_with_logits of one-hot labels",
        mlp(16, 32, 5, tail=(nn.LogSoftmax(-1),)),
        (torch.randn(50, 16), F.one_hot(torch.arange(50) % 5, 5).float()),
        F.binary_cross_entropy_with_logits,
        kinds=(*MISMATCH, *QUIET),
        why="log-probabilities never pass 0, so the sure answer of a class is ½",
        source="outside.md A13",
    )


def tanh_against_labels_in_bce_with_logits() -> Situation:
    seed(321)
    return Situation(
        "tanh into binary_cross_entropy_with_logits",
        mlp(16, 32, 1, tail=(nn.Tanh(),)),
        (torch.randn(64, 16), (torch.rand(64, 1) > 0.5).float()),
        F.binary_cross_entropy_with_logits,
        kinds=MISMATCH,
        words=("tanh",),
        source="outside.md A13",
    )


def relu_into_cross_entropy() -> Situation:
    seed(322)
    return Situation(
        "ReLU behind the logits of a classifier",
        mlp(16, 64, 10, tail=(nn.ReLU(),)),
        blobs(100, 16, 10),
        F.cross_entropy,
        kinds=(*MISMATCH, *QUIET, {"dead"}),
        why="it trains, but a class whose logits are all 0 gets no gradient",
        source="outside.md A13",
    )


def sigmoid_against_targets_to_ten() -> Situation:
    seed(323)
    return Situation(
        "sigmoid output, targets 0…10",
        mlp(16, 64, 1, tail=(nn.Sigmoid(),)),
        (torch.randn(64, 16), 10 * torch.rand(64, 1)),
        times(1e6, F.mse_loss),
        kinds=(*MISMATCH, {"unscaled"}, {"loss_mismatch", "unscaled"}),
        source="outside.md A13",
    )


def relu_against_negative_targets() -> Situation:
    seed(324)
    x, y = line(128, 8)
    return Situation(
        "ReLU output, standardized targets",
        mlp(8, 64, 1, tail=(nn.ReLU(),)),
        (x, y),
        F.mse_loss,
        kinds=MISMATCH,
        source="outside.md A13",
    )


def tanh_against_pixels() -> Situation:
    seed(325)
    x = torch.rand(32, 64)
    return Situation(
        "tanh decoder, pixels 0…255",
        mlp(64, 32, 64, tail=(nn.Tanh(),)),
        (x, 255 * x),
        F.mse_loss,
        kinds=(*MISMATCH, {"unscaled"}, {"loss_mismatch", "unscaled"}),
        source="outside.md A13",
    )


def tanh_against_pixels_in_reach() -> Situation:
    seed(326)
    x = torch.rand(32, 64) * 2 - 1
    return Situation(
        "tanh decoder, pixels −1…1",
        mlp(64, 32, 64, tail=(nn.Tanh(),)),
        (x, x),
        F.mse_loss,
        source="outside.md A13, twin",
    )


def kl_of_logs_without_log_target() -> Situation:
    seed(327)
    return Situation(
        "kl_div of log-probabilities on both sides, log_target left out",
        mlp(16, 32, 6, tail=(nn.LogSoftmax(-1),)),
        (torch.randn(64, 16), torch.randn(64, 6).log_softmax(-1)),
        lambda out, y: F.kl_div(out, y, reduction="batchmean"),
        kinds=({"loss_mismatch"}, {"non_finite"}),
        source="pytorch/pytorch#60928",
    )


def kl_of_logits() -> Situation:
    seed(328)
    return Situation(
        "raw logits into kl_div",
        mlp(16, 32, 6),
        (torch.randn(64, 16), torch.randn(64, 6).softmax(-1)),
        nn.KLDivLoss(reduction="batchmean"),
        kinds=MISMATCH,
        words=("log",),
        source="michaal94/torch_DCEC#1",
    )


def binary_labels_into_two_logits() -> Situation:
    seed(329)
    return Situation(
        "two logits, labels 0 and 1",
        mlp(16, 32, 2),
        (torch.randn(64, 16), torch.arange(64) % 2),
        F.cross_entropy,
        source="outside.md A13, twin",
    )


def segmentation() -> Situation:
    seed(330)
    model = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 5, 1))
    return Situation(
        "class of each pixel",
        model,
        (torch.randn(4, 3, 16, 16), torch.randint(5, (4, 16, 16))),
        times(1e-6, F.cross_entropy),
        source="outside.md A13, twin",
    )


def alignment() -> Situation:
    seed(331)
    model = Net(
        lambda m, x: m.head(m.rnn(x)[0]).transpose(0, 1).log_softmax(-1),
        rnn=nn.GRU(6, 16, batch_first=True, bidirectional=True),
        head=nn.Linear(32, 8),
    )
    target = torch.randint(1, 8, (4, 5))
    lengths = torch.full((4,), 20), torch.full((4,), 5)
    return Situation(
        "CTC over log_softmax",
        model,
        (torch.randn(4, 20, 6), target),
        lambda out, y: F.ctc_loss(out, y, *lengths),
        source="outside.md A13, twin",
    )


def mixture_density() -> Situation:
    seed(332)

    def loss(out, y):
        logit, mean, log = out.chunk(3, 1)
        each = -0.5 * ((y - mean) / log.exp()) ** 2 - log
        return -(logit.log_softmax(1) + each).logsumexp(1).mean()

    return Situation(
        "mixture of five normal densities",
        mlp(8, 32, 15),
        line(128, 8),
        loss,
        source="outside.md A13, twin",
    )


def margin_ranking() -> Situation:
    seed(333)
    model = Net(lambda m, a, b: (m.score(a), m.score(b)), score=mlp(8, 32, 1))
    batch = ((torch.randn(64, 8), torch.randn(64, 8)), torch.ones(64, 1))
    return Situation(
        "pairs by their rank",
        model,
        batch,
        lambda out, y: F.margin_ranking_loss(*out, y, margin=0.1),
        source="outside.md A13, twin",
    )


def cosine_targets() -> Situation:
    seed(334)
    model = Net(lambda m, a, b: (m.net(a), m.net(b)), net=mlp(8, 32, 16))
    batch = ((torch.randn(64, 8), torch.randn(64, 8)), torch.randn(64).sign())
    return Situation(
        "cosine embedding loss",
        model,
        batch,
        lambda out, y: F.cosine_embedding_loss(*out, y),
        source="outside.md A13, twin",
    )


def forecast_of_a_window() -> Situation:
    seed(335)
    model = Net(
        lambda m, x: m.head(m.rnn(x)[0][:, -1]),
        rnn=nn.GRU(1, 32, batch_first=True),
        head=nn.Linear(32, 12),
    )
    series = torch.randn(32, 36).cumsum(1) / 6
    return Situation(
        "GRU over 24 steps forecasts 12",
        model,
        (series[:, :24, None], series[:, 24:]),
        F.l1_loss,
        kinds=(*QUIET, {"vanishing"}),
        why="24 steps of a GRU whose gates are at ½: at the limit",
        source="outside.md A13, twin",
    )


def targets_of_millionths() -> Situation:
    seed(340)
    x, y = line(128, 8)
    return Situation(
        "targets of 1e-6",
        mlp(8, 32, 1),
        (x, 1e-6 * y),
        F.mse_loss,
        kinds=UNSCALED,
        words=("target",),
        source="outside.md A14",
    )


def inputs_of_thousandths() -> Situation:
    seed(341)
    x, y = blobs(128, 8, 4)
    return Situation(
        "inputs of 1e-6",
        mlp(8, 32, 4),
        (1e-6 * x, y),
        F.cross_entropy,
        kinds=(*UNSCALED, {"unscaled", "constant_output"}, {"constant_output"}),
        words=("input",),
        source="outside.md A14",
    )


def features_into_a_norm_too_late() -> Situation:
    seed(342)
    x, y = blobs(128, 8, 4)
    model = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.BatchNorm1d(32), nn.Linear(32, 4))
    return Situation(
        "features of 1e4 beside 1, a norm behind the first activation",
        model,
        (x * torch.tensor([1e4, 1, 1, 1, 1e4, 1, 1, 1.0]), y),
        F.cross_entropy,
        kinds=(*UNSCALED, *QUIET),
        source="outside.md A14",
    )


def spectrogram_in_decibels() -> Situation:
    seed(343)
    model = nn.Sequential(
        nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 196, 4)
    )
    return Situation(
        "decibels −80…0 into a convolution with batch norm",
        model,
        (-80 * torch.rand(16, 1, 16, 16), torch.arange(16) % 4),
        F.cross_entropy,
        source="outside.md A14, twin",
    )


def fine_tuned_head() -> Situation:
    seed(344)
    body = nn.Sequential(nn.Conv2d(3, 16, 3), nn.BatchNorm2d(16), nn.ReLU(), nn.Flatten())
    model = nn.Sequential(frozen(body), nn.Linear(576, 10))
    x, y = images(32)
    return Situation(
        "a new head on a frozen body",
        model,
        (x, y),
        F.cross_entropy,
        torch.optim.SGD(model[1].parameters(), 0.01),
        source="outside.md A14, twin",
    )


def peephole_of_gates() -> Situation:
    seed(350)

    def step(m, x, h):
        f = torch.sigmoid(m.forget(torch.cat([h, x], 1)) - 2)
        return f * h + (1 - f) * torch.tanh(m.new(x))

    model = by_hand(step, 64, 4, 24, 16, forget=nn.Linear(28, 24), new=nn.Linear(4, 24))
    return Situation(
        "minimal gated unit that forgets",
        model,
        sequences(16, 64, 4),
        F.cross_entropy,
        kinds=VANISHING,
        source="outside.md A17",
    )


def independent_units() -> Situation:
    seed(351)
    model = by_hand(
        lambda m, x, h: F.relu(m.entry(x) + m.u * h),
        60,
        4,
        24,
        16,
        entry=nn.Linear(4, 24),
        u=nn.Parameter(torch.full((24,), 0.6)),
    )
    return Situation(
        "IndRNN with recurrent weights of 0.6, 60 steps",
        model,
        sequences(16, 60, 4),
        F.cross_entropy,
        kinds=VANISHING,
        source="outside.md A17",
    )


def independent_units_that_hold() -> Situation:
    seed(352)
    model = by_hand(
        lambda m, x, h: F.relu(m.entry(x) + m.u * h),
        60,
        4,
        24,
        16,
        entry=nn.Linear(4, 24),
        u=nn.Parameter(torch.full((24,), 0.99)),
    )
    return Situation(
        "IndRNN with recurrent weights of 0.99",
        model,
        sequences(16, 60, 4),
        F.cross_entropy,
        kinds=QUIET,
        source="outside.md A17, twin",
    )


def independent_units_that_explode() -> Situation:
    seed(353)
    model = by_hand(
        lambda m, x, h: m.entry(x) + m.u * h,
        60,
        4,
        24,
        16,
        entry=nn.Linear(4, 24),
        u=nn.Parameter(torch.full((24,), 1.3)),
    )
    return Situation(
        "diagonal linear recurrence with 1.3",
        model,
        sequences(16, 60, 4),
        F.cross_entropy,
        kinds=EXPLODING,
        source="outside.md A17",
    )


def two_layers_by_hand() -> Situation:
    seed(354)

    def run(m, x):
        a = b = torch.zeros(len(x), 20)
        for t in range(40):
            a = torch.tanh(m.one(torch.cat([x[:, t], a], 1)))
            b = torch.tanh(m.two(torch.cat([a, b], 1)))
        return m.head(b)

    return Situation(
        "two stacked recurrences by hand, 40 steps",
        Net(run, one=nn.Linear(24, 20), two=nn.Linear(40, 20), head=nn.Linear(20, 4)),
        sequences(32, 40, 4),
        F.cross_entropy,
        kinds=VANISHING,
        source="outside.md A17",
    )


def cell_as_a_module() -> Situation:
    seed(355)

    class Cell(nn.Module):
        def __init__(self):
            super().__init__()
            self.w, self.u = nn.Linear(4, 24), nn.Linear(24, 24)

        def forward(self, x, h):
            return torch.tanh(self.w(x) + 0.5 * self.u(h))

    model = by_hand(lambda m, x, h: m.cell(x, h), 40, 4, 24, 32, cell=Cell())
    return Situation(
        "a cell of one's own as a module, 40 steps",
        model,
        sequences(32, 40, 4),
        F.cross_entropy,
        kinds=VANISHING,
        source="outside.md A17",
    )


def mean_of_all_states() -> Situation:
    seed(356)

    def run(m, x):
        h, states = torch.zeros(len(x), 24), []
        for t in range(16):
            h = torch.tanh(m.entry(x[:, t]) + m.again(h))
            states.append(m.head(h))
        return torch.stack(states, 1)

    batch = (torch.randn(32, 16, 4), torch.randint(4, (32, 16)))
    return Situation(
        "an answer at every step",
        Net(run, entry=nn.Linear(4, 24), again=nn.Linear(24, 24), head=nn.Linear(24, 4)),
        batch,
        of_tokens,
        source="outside.md A17, twin",
    )


def decoder_deep_post_norm() -> Situation:
    seed(360)
    layer = nn.TransformerDecoderLayer(32, 4, 64, 0.0, batch_first=True)
    body = nn.TransformerDecoder(layer, 18)
    for p in body.parameters():
        if p.dim() > 1:
            nn.init.xavier_uniform_(p)
    model = Net(
        lambda m, x: m.head(m.body(m.embed(x), m.embed(x.flip(1)))),
        embed=nn.Embedding(60, 32),
        body=body,
        head=nn.Linear(32, 60),
    )
    return Situation(
        "decoder of 18 post-norm layers",
        model,
        tokens(4, 10, 60),
        of_tokens,
        kinds=NEEDS_WARMUP,
        words=("warm",),
        source="pytorch/pytorch#55270",
    )


def pre_norm_without_the_last_norm() -> Situation:
    return transformer(
        "12 pre-norm layers without a last norm",
        361,
        lambda: Net(
            lambda m, x: m.head(m.blocks(m.embed(x)).mean(1)),
            embed=nn.Embedding(100, 32),
            blocks=nn.Sequential(*(Block(32, "pre") for _ in range(12))),
            head=nn.Linear(32, 4),
        ),
    )


def small_start_of_a_deep_pre_norm() -> Situation:
    return transformer(
        "36 pre-norm layers with branches of 0.1", 362, lambda: stack(36, "pre", beta=0.1)
    )
