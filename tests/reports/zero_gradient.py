"""The gradient is exactly 0: the operation that takes it has to be named."""

import torch
import torch.nn.functional as F
from reports.situation import QUIET, Situation, blobs, line, mlp, seed
from torch import nn

ZERO = {"zero_gradient"}


def round_in_the_loss() -> Situation:
    # discuss.pytorch.org/t/torch-round-gradient/28628: round has derivative zero almost everywhere
    seed(0)
    return Situation(
        "round in the loss",
        nn.Linear(4, 4),
        torch.randn(8, 4),
        lambda o: o.round().sum(),
        kinds=ZERO,
        words=("round",),
        source="discuss.pytorch.org/t/torch-round-gradient/28628",
    )


def relu_in_the_loss_out_of_reach() -> Situation:
    seed(1)
    return Situation(
        "hinge out of reach",
        nn.Linear(4, 4),
        torch.randn(8, 4),
        lambda o: F.relu(o - 100).mean(),
        kinds=ZERO,
        words=("relu",),
        source="outside.md A3",
    )


def times_zero() -> Situation:
    seed(2)
    return Situation(
        "times zero",
        nn.Linear(4, 4),
        torch.randn(8, 4),
        lambda o: (o * 0.0).mean(),
        kinds=ZERO,
        words=("mul|times 0|product",),
        source="outside.md A3",
    )


class Between(nn.Module):
    """Two layers with a function between."""

    def __init__(self, function, d=12, h=16, k=3):
        super().__init__()
        self.encoder, self.head = nn.Linear(d, h), nn.Linear(h, k)
        self.function = function

    def forward(self, x):
        return self.head(self.function(self.encoder(x)))


def round_in_forward() -> Situation:
    seed(3)
    return Situation(
        "round between two layers",
        Between(torch.round),
        blobs(32, 12, 3),
        F.cross_entropy,
        kinds=ZERO,
        words=("round", "encoder"),
        source="outside.md A3",
    )


def clamp_in_forward() -> Situation:
    seed(4)
    return Situation(
        "clamp between two layers, all outside",
        Between(lambda h: (h + 50).clamp(0, 1)),
        blobs(32, 12, 3),
        F.cross_entropy,
        kinds=ZERO,
        words=("clamp", "encoder"),
        source="outside.md A3",
        why="the head sees a constant as well; the cause is the clamp",
    )


def sign_activation() -> Situation:
    seed(5)
    return Situation(
        "sign as activation",
        Between(torch.sign),
        blobs(32, 12, 3),
        F.cross_entropy,
        kinds=ZERO,
        words=("sign", "encoder"),
        source="outside.md A3 (sign)",
    )


def floor_quantizer_in_an_autoencoder() -> Situation:
    # apache/mxnet#9040: rint, ceil, floor, trunc and fix have gradient zero
    seed(6)
    x = torch.rand(32, 12)
    return Situation(
        "autoencoder, floor at the bottleneck",
        Between(lambda h: torch.floor(h * 4) / 4, k=12),
        (x, x),
        F.mse_loss,
        kinds=ZERO,
        words=("floor", "encoder"),
        source="apache/mxnet#9040",
    )


class Scaled(nn.Module):
    """An embedding of learned length."""

    def __init__(self, start):
        super().__init__()
        self.embedding = nn.Embedding(20, 8)
        self.scale = nn.Parameter(torch.tensor([start]))

    def forward(self, i):
        return F.normalize(self.embedding(i), dim=1) * self.scale.clamp_min(1e-2).clamp_max(
            1 - 1e-3
        )


def learned_scale_starts_below_its_clamp() -> Situation:
    # HazyResearch/HypHC#7: scale starts at 1e-3, its clamp at 1e-2: the gradient of scale is always zero
    seed(7)
    i, y = torch.randint(0, 20, (64,)), torch.randn(64, 8)
    return Situation(
        "scale starts below its own clamp",
        Scaled(1e-3),
        (i, y),
        F.mse_loss,
        kinds=ZERO,
        words=("scale", "clamp"),
        forbidden=("everything connected",),
        source="HazyResearch/HypHC#7",
    )


def learned_scale_inside_its_clamp() -> Situation:
    seed(7)
    i, y = torch.randint(0, 20, (64,)), torch.randn(64, 8)
    return Situation(
        "scale inside its clamp",
        Scaled(0.5),
        (i, y),
        F.mse_loss,
        source="twin of HazyResearch/HypHC#7",
    )


def dropout_of_everything() -> Situation:
    seed(8)
    x, y = blobs(32, 12, 3)
    model = nn.Sequential(nn.Linear(12, 32), nn.ReLU(), nn.Dropout(1.0), nn.Linear(32, 3))
    return Situation(
        "dropout with p = 1 (a keep probability)",
        model,
        (x, y),
        F.cross_entropy,
        kinds=(ZERO, {"zero_gradient", "constant_output"}),
        words=("dropout",),
        source="zero_gradient by dropout",
    )


def softmax_over_one_output() -> Situation:
    # FluxML/Flux.jl#1546: softmax over one output, loss 0.288232 in every epoch
    seed(9)
    x = torch.randn(64, 2)
    y = (x[:, :1] * x[:, 1:] > 0).float()
    model = nn.Sequential(nn.Linear(2, 2), nn.Sigmoid(), nn.Linear(2, 1), nn.Softmax(dim=1))
    return Situation(
        "softmax over a single output",
        model,
        (x, y),
        F.mse_loss,
        kinds=(ZERO, {"constant_output"}, {"zero_gradient", "constant_output"}),
        words=("softmax",),
        forbidden=("kaiming",),
        source="FluxML/Flux.jl#1546",
        why="the output is 1 whatever the weights: no initialization helps",
    )


def cross_entropy_with_one_class() -> Situation:
    # darioizzo/dcgp#86: cross-entropy with one output is 0 always ("a one class classification problem")
    seed(10)
    x, _ = blobs(32, 6, 2)
    return Situation(
        "cross_entropy of one output",
        mlp(6, 16, 1),
        (x, torch.zeros(32, dtype=torch.long)),
        F.cross_entropy,
        kinds=(ZERO, {"loss_mismatch"}, {"zero_gradient", "loss_mismatch"}),
        words=("one class|1 class|single|one output|1 output",),
        source="darioizzo/dcgp#86",
    )


def one_class_cross_entropy_of_a_detector() -> Situation:
    # ultralytics/yolov3#191, experiencor/keras-yolo2#101: class loss is always 0 with one class
    seed(11)

    class Detector(nn.Module):
        def __init__(self):
            super().__init__()
            self.trunk, self.box, self.cls = nn.Linear(6, 16), nn.Linear(16, 4), nn.Linear(16, 1)

        def forward(self, x):
            h = torch.relu(self.trunk(x))
            return self.box(h), self.cls(h)

    y = torch.randn(32, 4)
    zeros = torch.zeros(32, dtype=torch.long)
    return Situation(
        "detector with one class: its class loss is always 0",
        Detector(),
        (torch.randn(32, 6), (y, zeros)),
        lambda o, t: F.mse_loss(o[0], t[0]) + F.cross_entropy(o[1], t[1]),
        kinds=(ZERO, {"undecided"}),
        words=("cls",),
        source="ultralytics/yolov3#191",
        why="harmless there (the maintainer leaves it in); the report must say it of cls alone",
    )


def pinn_with_relu() -> Situation:
    # lululxvi/deepxde#80 (don't use relu, not second order differentiable); ComputationalDomain/PINNs#1
    seed(12)
    x = torch.linspace(0, 1, 32).reshape(-1, 1).requires_grad_()

    def residual(u):
        du = torch.autograd.grad(u.sum(), x, create_graph=True)[0]
        ddu = torch.autograd.grad(du.sum(), x, create_graph=True)[0]
        return (ddu + 1).pow(2).mean()

    return Situation(
        "PINN for u'' = -1 with ReLU",
        mlp(1, 32, 32, 1),
        x,
        residual,
        kinds=(ZERO, {"zero_gradient", "not_connected"}),
        words=("relu|threshold",),
        source="lululxvi/deepxde#80",
    )


def pinn_with_tanh() -> Situation:
    seed(12)
    situation = pinn_with_relu()
    seed(12)
    situation.model = mlp(1, 32, 32, 1, act=nn.Tanh)
    inside = situation.loss
    situation.loss = lambda u: inside(u) + 10 * (u[0] ** 2 + u[-1] ** 2).sum()
    situation.name, situation.kinds, situation.words = (
        "PINN for u'' = -1 with tanh and its boundary",
        {"healthy"},
        (),
    )
    situation.source = "twin of lululxvi/deepxde#80"
    return situation


def triplet_loss_all_easy() -> Situation:
    seed(13)
    x, y = blobs(48, 8, 2)
    x = x + 20 * (y[:, None].float() - 0.5)

    def loss(z, y):
        a, b = z[y == 0], z[y == 1]
        return F.triplet_margin_loss(a[:12], a[12:24], b[:12], margin=0.1)

    return Situation(
        "triplet loss with every triplet satisfied",
        nn.Linear(8, 8),
        (x, y),
        loss,
        kinds=(ZERO, {"undecided"}, {"healthy"}),
        words=("loss|margin|healthy",),
        source="zero by a satisfied margin",
        why="the loss is 0, its least: done, or a margin too small",
    )


def triplet_collapsed_to_a_point() -> Situation:
    # omoindrot/tensorflow-triplet-loss#6, xiaolonw/caffe-video_triplet#8: loss stuck at exactly the margin
    seed(14)
    model = mlp(8, 16, 4)
    with torch.no_grad():
        model[-1].weight.zero_()
    x = torch.randn(48, 8)

    def loss(z):
        z = F.normalize(z, dim=1)
        ap = (z[:16] - z[16:32]).pow(2).sum(1)
        an = (z[:16] - z[32:]).pow(2).sum(1)
        return F.relu(ap - an + 0.5).mean()

    return Situation(
        "triplet loss equal to its margin, all embeddings one point",
        model,
        x,
        loss,
        kinds=({"constant_output"}, ZERO, {"zero_gradient", "constant_output"}),
        words=("same|constant|equal",),
        source="omoindrot/tensorflow-triplet-loss#6",
    )


def accuracy_as_loss() -> Situation:
    # pytorch/pytorch#1339: argmax has no gradient
    seed(15)
    return Situation(
        "accuracy as loss",
        mlp(12, 16, 3),
        blobs(32, 12, 3),
        lambda o, y: (o.argmax(1) != y).float().mean(),
        kinds={"not_connected"},
        words=("argmax",),
        source="pytorch/pytorch#1339",
    )


def step_as_output() -> Situation:
    seed(16)
    x, y = line(32, 4)
    return Situation(
        "threshold comparison at the output",
        mlp(4, 8, 1),
        (x, (y > 0).float()),
        lambda o, y: F.mse_loss((o > 0).float(), y),
        kinds={"not_connected"},
        words=(">|gt|comparison|compar",),
        source="pytorch/pytorch#1339 (its relative)",
    )


def both_lora_matrices_zero() -> Situation:
    # Lightning-AI/litgpt#1229, Guitaricet/relora#18, nvidia-cosmos/cosmos-predict2.5#15: A and B zero, nothing trains
    seed(17)

    class Lora(nn.Module):
        def __init__(self):
            super().__init__()
            self.base = nn.Linear(12, 3).requires_grad_(False)
            self.a, self.b = nn.Linear(12, 2, bias=False), nn.Linear(2, 3, bias=False)
            nn.init.zeros_(self.a.weight)
            nn.init.zeros_(self.b.weight)

        def forward(self, x):
            return self.base(x) + self.b(self.a(x))

    return Situation(
        "LoRA with A = B = 0",
        Lora(),
        blobs(32, 12, 3),
        F.cross_entropy,
        kinds=ZERO,
        words=("a", "b", "zero"),
        source="Lightning-AI/litgpt#1229",
        why="each is the other's gradient: the pair never moves",
    )


def two_zero_layers_in_a_branch() -> Situation:
    seed(18)

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Linear(12, 12), nn.Linear(12, 12)
            for layer in (self.first, self.second):
                nn.init.zeros_(layer.weight)
                nn.init.zeros_(layer.bias)

        def forward(self, x):
            return x + self.second(torch.relu(self.first(x)))

    model = nn.Sequential(nn.Linear(12, 12), Block(), nn.Linear(12, 3))
    return Situation(
        "residual branch with both layers zero",
        model,
        blobs(32, 12, 3),
        F.cross_entropy,
        kinds=(ZERO, {"dead"}, {"zero_gradient", "dead"}),
        words=("first",),
        source="Guitaricet/relora#18 (in a residual branch)",
    )


def mixture_density_below_its_clamp() -> Situation:
    seed(19)
    x = torch.randn(32, 4)
    y = torch.full((32, 1), 60.0)

    def loss(o, y):
        pi, mu = o[:, :3].softmax(1), o[:, 3:]
        return -(pi * torch.exp(-0.5 * (y - mu) ** 2)).sum(1).clamp_min(1e-12).log().mean()

    return Situation(
        "mixture density: log(clamp_min(1e-12)) of a likelihood that underflows",
        mlp(4, 16, 6),
        (x, y),
        loss,
        kinds=(ZERO, {"zero_gradient", "unscaled"}),
        words=("clamp",),
        remedy=("logsumexp",),
        source="outside.md A15",
        why="27.6 = -ln 1e-12 stays 27.6 for ever",
    )


# ---------------------------------------------------------------- healthy


def straight_through() -> Situation:
    seed(30)
    return Situation(
        "straight-through rounding",
        Between(lambda h: h + (h.round() - h).detach()),
        blobs(32, 12, 3),
        F.cross_entropy,
        source="twin: straight-through estimator",
    )


def vector_quantizer() -> Situation:
    seed(31)

    class VQ(nn.Module):
        def __init__(self):
            super().__init__()
            self.encoder, self.decoder = nn.Linear(12, 4), nn.Linear(4, 12)
            self.codes = nn.Embedding(16, 4)

        def forward(self, x):
            z = self.encoder(x)
            code = self.codes(torch.cdist(z, self.codes.weight).argmin(1))
            loss = F.mse_loss(code, z.detach()) + 0.25 * F.mse_loss(z, code.detach())
            return self.decoder(z + (code - z).detach()), loss

    x = torch.randn(64, 12)
    return Situation(
        "VQ-VAE", VQ(), (x, x), lambda o, x: F.mse_loss(o[0], x) + o[1], source="twin: VQ-VAE"
    )


def clamp_that_bites_sometimes() -> Situation:
    seed(32)
    return Situation(
        "clamp(-1, 1) as activation",
        Between(lambda h: h.clamp(-1, 1)),
        blobs(64, 12, 3),
        F.cross_entropy,
        source="twin: hardtanh",
    )


def some_units_dead_by_chance() -> Situation:
    seed(33)
    model = mlp(12, 64, 3)
    with torch.no_grad():
        model[0].bias[:6] = -10
    return Situation(
        "6 of 64 ReLU units silent on this batch",
        model,
        blobs(32, 12, 3),
        F.cross_entropy,
        kinds=QUIET,
        source="twin: dead by chance",
    )


def gumbel_softmax_hard() -> Situation:
    seed(34)
    return Situation(
        "hard Gumbel softmax",
        Between(lambda h: F.gumbel_softmax(h, tau=1.0, hard=True)),
        blobs(64, 12, 3),
        F.cross_entropy,
        source="twin: straight-through sampling",
    )


def hinge_with_violations() -> Situation:
    seed(35)
    x, y = blobs(64, 12, 2)
    return Situation(
        "hinge loss, some margins violated",
        mlp(12, 16, 1),
        (x, y * 2.0 - 1),
        lambda o, y: F.relu(1 - o[:, 0] * y).mean(),
        source="twin: hinge loss",
        why="the gradient of the last bias is exactly 0 because two equal classes cancel: no operation takes it",
    )


def embedding_rows_unused() -> Situation:
    seed(36)
    model = nn.Sequential(nn.Embedding(1000, 8, padding_idx=0), nn.Flatten(), nn.Linear(40, 3))
    return Situation(
        "embedding of 1000 words, 80 of them in the batch",
        model,
        (torch.randint(0, 80, (32, 5)), torch.randint(0, 3, (32,))),
        F.cross_entropy,
        source="twin: sparse rows",
    )


def unused_branch_times_zero_for_ddp() -> Situation:
    # open-mmlab/mmdetection#9185 (review): "we use results.sum() * 0 to include all parameters in the graph"
    seed(37)

    class TwoHeads(nn.Module):
        def __init__(self):
            super().__init__()
            self.trunk, self.box, self.mask = nn.Linear(12, 16), nn.Linear(16, 3), nn.Linear(16, 5)

        def forward(self, x):
            h = torch.relu(self.trunk(x))
            return self.box(h), self.mask(h)

    return Situation(
        "no mask in this batch: mask.sum() * 0 keeps DDP content",
        TwoHeads(),
        blobs(32, 12, 3),
        lambda o, y: F.cross_entropy(o[0], y) + 0.0 * o[1].sum(),
        kinds=QUIET,
        forbidden=("requires_grad_(False)",),
        source="open-mmlab/mmdetection#9185",
    )


def kl_weight_starts_at_zero() -> Situation:
    seed(38)

    class VAE(nn.Module):
        def __init__(self):
            super().__init__()
            self.mu, self.logvar, self.decoder = (
                nn.Linear(12, 4),
                nn.Linear(12, 4),
                nn.Linear(4, 12),
            )

        def forward(self, x):
            mu, logvar = self.mu(x), self.logvar(x)
            return self.decoder(mu + torch.randn_like(mu) * (0.5 * logvar).exp()), mu, logvar

    def loss(o, x, beta=0.0):
        kl = 0.5 * (o[1] ** 2 + o[2].exp() - 1 - o[2]).sum(1).mean()
        return F.mse_loss(o[0], x) + beta * kl

    x = torch.randn(64, 12)
    return Situation(
        "VAE, weight of the KL term 0 at the start",
        VAE(),
        (x, x),
        loss,
        source="twin: KL annealing",
    )


def clipped_policy_objective() -> Situation:
    seed(39)
    model = mlp(6, 16, 4, act=nn.Tanh)
    x, action, advantage = torch.randn(64, 6), torch.randint(0, 4, (64,)), torch.randn(64)
    with torch.no_grad():
        old = model(x).log_softmax(1).gather(1, action[:, None])[:, 0]

    def loss(o, t):
        ratio = (o.log_softmax(1).gather(1, t[0][:, None])[:, 0] - t[1]).exp()
        return -torch.min(ratio * t[2], ratio.clamp(0.8, 1.2) * t[2]).mean()

    return Situation(
        "PPO at ratio 1",
        model,
        (x, (action, old, advantage)),
        loss,
        source="twin: clipped objective",
    )


def fake_quantized() -> Situation:
    seed(40)
    return Situation(
        "quantization-aware training",
        Between(lambda h: torch.fake_quantize_per_tensor_affine(h, 0.05, 0, -128, 127)),
        blobs(64, 12, 3),
        F.cross_entropy,
        source="twin: fake quantization",
    )


def targets_rounded() -> Situation:
    seed(41)
    x, y = line(64, 6)
    return Situation(
        "the target is rounded, not the output",
        mlp(6, 16, 1),
        (x, y),
        lambda o, y: F.mse_loss(o, y.round()),
        source="twin: round on the target",
    )


# ---------------------------------------------------------------- invented: sick


class Parts(nn.Module):
    """Layers, and a function of them and of the input."""

    def __init__(self, run, **layers):
        super().__init__()
        self.run = run
        for name, layer in layers.items():
            setattr(self, name, layer)

    def forward(self, x):
        return self.run(self, x)


def binary_weights_by_sign() -> Situation:
    seed(50)
    model = Parts(
        lambda m, x: m.head(torch.relu(F.linear(x, m.binary.weight.sign()))),
        binary=nn.Linear(12, 16, bias=False),
        head=nn.Linear(16, 3),
    )
    return Situation(
        "binary network: the sign of the weights, no estimator",
        model,
        blobs(64, 12, 3),
        F.cross_entropy,
        kinds=ZERO,
        words=("sign", "binary"),
        source="invented: binary weights",
    )


def probabilities_rounded_before_the_loss() -> Situation:
    seed(51)
    x, y = blobs(64, 12, 2)
    return Situation(
        "round(sigmoid(z)) against 0/1 labels",
        mlp(12, 16, 1, tail=(nn.Sigmoid(),)),
        (x, y.float()[:, None]),
        lambda p, y: F.mse_loss(p.round(), y),
        kinds=ZERO,
        words=("round", "loss"),
        source="invented: accuracy made of torch operations",
    )


def pixels_quantized_by_floor_division() -> Situation:
    seed(52)
    return Situation(
        "features in bins of 0.1",
        Between(lambda h: torch.div(h, 0.1, rounding_mode="floor") * 0.1),
        blobs(32, 12, 3),
        F.cross_entropy,
        kinds=ZERO,
        words=("div", "encoder"),
        source="invented: bins",
    )


def margin_below_every_distance() -> Situation:
    seed(53)
    return Situation(
        "a margin of the wrong sign: no pair ever counts",
        mlp(12, 16, 4),
        torch.randn(64, 12),
        lambda z: F.relu(-5 - (z[:32] - z[32:]).pow(2).sum(1)).mean(),
        kinds=ZERO,
        words=("relu", "loss"),
        source="invented: sign of a margin",
    )


def mask_of_nothing() -> Situation:
    seed(54)
    x, y = line(64, 12)
    return Situation(
        "squared error times a mask that is 0 everywhere",
        mlp(12, 16, 1),
        (x, (y, torch.zeros(64, 1))),
        lambda o, t: ((o - t[0]).pow(2) * t[1]).sum(),
        kinds=ZERO,
        words=("mul|product|factor", "0"),
        source="invented: empty mask",
    )


def output_beyond_its_clamp() -> Situation:
    seed(55)
    x, y = blobs(64, 12, 2)
    return Situation(
        "clamp(0, 1) in place of a sigmoid, all outputs beyond",
        Parts(lambda m, x: (m.last(x) + 20).clamp(0, 1), last=nn.Linear(12, 1)),
        (x, y.float()[:, None]),
        F.mse_loss,
        kinds=(ZERO, {"saturated"}, {"zero_gradient", "loss_mismatch"}),
        words=("clamp",),
        source="invented: clamp at the output",
    )


def spikes_by_sign() -> Situation:
    seed(56)
    return Situation(
        "a spiking layer without a surrogate gradient",
        Between(lambda h: (torch.sign(h - 0.1) + 1) / 2),
        blobs(64, 12, 3),
        F.cross_entropy,
        kinds=ZERO,
        words=("sign", "encoder"),
        source="invented: spikes",
    )


def threshold_that_never_opens() -> Situation:
    seed(57)
    return Situation(
        "where(o > 50, o, 0) as loss",
        mlp(12, 16, 1),
        torch.randn(64, 12),
        lambda o: torch.where(o > 50, o, torch.zeros_like(o)).mean(),
        kinds=ZERO,
        words=("where",),
        source="invented: where",
    )


def layer_norm_over_one_feature() -> Situation:
    seed(58)
    x, y = line(64, 12)
    return Situation(
        "LayerNorm(1) at the output of a regression",
        mlp(12, 16, 1, tail=(nn.LayerNorm(1),)),
        (x, y),
        F.mse_loss,
        kinds=(ZERO, {"constant_output"}, {"zero_gradient", "constant_output"}),
        words=("norm",),
        source="invented: norm of one number",
    )


def adapter_with_both_ends_zero() -> Situation:
    seed(59)
    model = Parts(
        lambda m, x: m.head(x + m.up(torch.tanh(m.down(x)))),
        down=nn.Linear(12, 4, bias=False),
        up=nn.Linear(4, 12, bias=False),
        head=nn.Linear(12, 3),
    )
    nn.init.zeros_(model.down.weight)
    nn.init.zeros_(model.up.weight)
    return Situation(
        "adapter: both ends start at zero",
        model,
        blobs(64, 12, 3),
        F.cross_entropy,
        kinds=ZERO,
        words=("down", "up", "zero"),
        remedy=("down.weight",),
        source="invented: adapter",
    )


# ---------------------------------------------------------------- invented: healthy


def adapter_with_one_end_zero() -> Situation:
    situation = adapter_with_both_ends_zero()
    nn.init.normal_(situation.model.down.weight, std=0.3)
    situation.name, situation.kinds = "adapter: its last layer starts at zero", {"healthy"}
    situation.words, situation.remedy = (), ()
    return situation


class ThroughSign(torch.autograd.Function):
    """The sign, with slope 1 backward."""

    @staticmethod
    def forward(ctx, x):
        return x.sign()

    @staticmethod
    def backward(ctx, gradient):
        return gradient


def straight_through_function() -> Situation:
    seed(60)
    return Situation(
        "sign with a gradient of its own",
        Between(ThroughSign.apply),
        blobs(64, 12, 3),
        F.cross_entropy,
        source="invented: straight-through Function",
    )


def maximum_of_two_branches() -> Situation:
    seed(61)
    return Situation(
        "maxout of two layers",
        Parts(
            lambda m, x: m.head(torch.maximum(m.one(x), m.two(x))),
            one=nn.Linear(12, 16),
            two=nn.Linear(12, 16),
            head=nn.Linear(16, 3),
        ),
        blobs(64, 12, 3),
        F.cross_entropy,
        source="invented: maxout",
    )


def attention_over_a_single_token() -> Situation:
    seed(62)

    def attend(m, x):
        weights = (m.query(x) @ m.key(x).transpose(1, 2) / 12**0.5).softmax(-1)
        return m.head((weights @ m.value(x))[:, 0])

    x, y = blobs(64, 12, 3)
    layers = {name: nn.Linear(12, 12) for name in ("query", "key", "value")}
    return Situation(
        "self-attention on sequences of one token",
        Parts(attend, head=nn.Linear(12, 3), **layers),
        (x[:, None], y),
        F.cross_entropy,
        kinds=QUIET,
        source="invented: sequence length 1",
    )


def recurrent_cell_for_one_step() -> Situation:
    seed(63)
    return Situation(
        "RNNCell called once, state 0",
        Parts(lambda m, x: m.head(m.cell(x)), cell=nn.RNNCell(12, 16), head=nn.Linear(16, 3)),
        blobs(64, 12, 3),
        F.cross_entropy,
        kinds=QUIET,
        source="invented: one step",
    )


def one_task_of_four() -> Situation:
    seed(64)
    return Situation(
        "four heads stacked, the loss of one task",
        Parts(
            lambda m, x: torch.stack([head(x) for head in m.heads]),
            heads=nn.ModuleList(nn.Linear(12, 3) for _ in range(4)),
        ),
        blobs(64, 12, 3),
        lambda o, y: F.cross_entropy(o[1], y),
        kinds=QUIET,
        forbidden=("requires_grad_(False)",),
        source="invented: multi-task",
    )


def free_bits() -> Situation:
    seed(65)
    x = torch.randn(64, 12)
    return Situation(
        "free bits: the KL term is below its floor",
        Parts(
            lambda m, x: (m.decoder(m.mu(x)), m.mu(x), m.prior(torch.ones(1, 1))),
            mu=nn.Linear(12, 4),
            decoder=nn.Linear(4, 12),
            prior=nn.Linear(1, 4),
        ),
        (x, x),
        lambda o, x: F.mse_loss(o[0], x) + (o[1] - o[2]).pow(2).mean().clamp(min=50.0),
        kinds=QUIET,
        source="invented: free bits",
    )


def log_standard_deviation_in_its_clamp() -> Situation:
    seed(66)
    return Situation(
        "actor with clamp(-20, 2) on log σ",
        Parts(
            lambda m, x: (m.mu(x), m.log_std(x).clamp(-20, 2)),
            mu=nn.Linear(12, 2),
            log_std=nn.Linear(12, 2),
        ),
        torch.randn(64, 12),
        lambda o: (0.5 * ((o[0] - 1) / o[1].exp()).pow(2) + o[1]).mean(),
        source="invented: soft actor-critic",
    )


def fitted_exactly() -> Situation:
    seed(67)
    model = mlp(12, 16, 1)
    x = torch.randn(64, 12)
    return Situation(
        "targets that the model made itself",
        model,
        (x, model(x).detach()),
        lambda o, y: (o - y).pow(2).mean(),
        kinds=QUIET,
        words=("0",),
        source="invented: distillation from itself",
    )


def hinge_all_satisfied() -> Situation:
    seed(68)
    x, y = blobs(64, 12, 2)
    side = y * 2.0 - 1
    model = nn.Linear(12, 1)
    with torch.no_grad():
        model.weight.copy_(40 * (side[:, None] * x).mean(0, keepdim=True))
        model.bias.zero_()
    keep = (model(x)[:, 0] * side > 1).nonzero()[:, 0]
    return Situation(
        "support vectors: every margin is kept",
        model,
        (x[keep], side[keep]),
        lambda o, y: F.relu(1 - o[:, 0] * y).mean(),
        kinds=QUIET,
        words=("0",),
        source="invented: hinge at its least",
    )


def domain_weight_still_zero() -> Situation:
    seed(69)
    return Situation(
        "adversarial term with weight 0 in the first epoch",
        Parts(
            lambda m, x: (m.label(torch.relu(m.trunk(x))), m.domain(torch.relu(m.trunk(x)))),
            trunk=nn.Linear(12, 16),
            label=nn.Linear(16, 3),
            domain=nn.Linear(16, 2),
        ),
        blobs(64, 12, 3),
        lambda o, y: F.cross_entropy(o[0], y) + 0.0 * F.cross_entropy(o[1], y % 2),
        kinds=QUIET,
        source="invented: annealed weight",
    )


def group_norm_behind_global_pooling() -> Situation:
    seed(80)
    return Situation(
        "GroupNorm with one channel per group on 1×1 maps",
        nn.Sequential(
            nn.Conv2d(1, 8, 3),
            nn.AdaptiveAvgPool2d(1),
            nn.GroupNorm(8, 8),
            nn.Flatten(),
            nn.Linear(8, 3),
        ),
        (torch.randn(32, 1, 8, 8), torch.arange(32) % 3),
        F.cross_entropy,
        kinds=ZERO,
        words=("group norm", "single entry", "0.weight"),
        remedy=("num_groups = 1",),
        source="invented: norm over one value",
    )


def group_norm_of_all_channels_behind_pooling() -> Situation:
    seed(80)
    situation = group_norm_behind_global_pooling()
    situation.model[2] = nn.GroupNorm(1, 8)
    situation.kinds, situation.words, situation.remedy = QUIET, (), ()
    return situation


def unit_length_of_one_number() -> Situation:
    seed(81)
    return Situation(
        "F.normalize of an embedding with one entry",
        Parts(lambda m, x: m.b(F.normalize(m.a(x), dim=-1)), a=nn.Linear(12, 1), b=nn.Linear(1, 3)),
        blobs(64, 12, 3),
        F.cross_entropy,
        kinds=ZERO,
        words=("normalize", "single entry", "a.weight"),
        source="invented: norm over one value",
    )


def triplets_all_met() -> Situation:
    seed(82)
    a = torch.randn(20, 8)
    return Situation(
        "every triplet keeps its margin",
        nn.Linear(8, 16),
        torch.cat([a, a + 1e-3 * torch.randn(20, 8), -3 * a]),
        lambda o: F.triplet_margin_loss(*o.chunk(3), margin=0.3),
        kinds={"healthy"},
        words=("at its least",),
        source="twin: nothing is left to learn",
    )


def second_derivative_of_relu() -> Situation:
    seed(83)
    x = torch.randn(64, 2).requires_grad_()

    def laplace(u):
        (g,) = torch.autograd.grad(u.sum(), x, create_graph=True)
        second = [
            torch.autograd.grad(g[:, i].sum(), x, create_graph=True)[0][:, i] for i in range(2)
        ]
        return (sum(second) - 1).pow(2).mean()

    return Situation(
        "Poisson equation with ReLU",
        nn.Sequential(nn.Linear(2, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 1)),
        x,
        laplace,
        kinds=({"zero_gradient"}, {"zero_gradient", "not_connected"}),
        words=("0.weight", "2.weight", "second derivative", "relu"),
        source="invented: PINN",
    )


def second_derivative_of_tanh() -> Situation:
    situation = second_derivative_of_relu()
    situation.model[1], situation.model[3] = nn.Tanh(), nn.Tanh()
    situation.kinds, situation.words = QUIET, ()
    return situation


def steep_sigmoid_in_the_loss() -> Situation:
    seed(84)
    x, y = blobs(64, 12, 2)
    return Situation(
        "a steep sigmoid in place of a step, in the loss",
        nn.Linear(12, 1),
        (x, 1.0 - y[:, None]),
        lambda o, y: F.mse_loss(torch.sigmoid(100 * o), y),
        kinds=({"saturated"}, ZERO),
        words=("sigmoid", "in the loss"),
        remedy=("100",),
        source="invented: surrogate of a step",
    )


def mild_sigmoid_in_the_loss() -> Situation:
    situation = steep_sigmoid_in_the_loss()
    situation.loss = lambda o, y: F.mse_loss(torch.sigmoid(o), y)
    situation.kinds, situation.words, situation.remedy = QUIET, (), ()
    return situation
