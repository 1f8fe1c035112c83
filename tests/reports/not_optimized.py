"""Trainable parameters that the optimizer does not hold."""

import copy

import torch
import torch.nn.functional as F
from reports.situation import QUIET, Situation, blobs, line, mlp, seed
from torch import nn

KIND = {"not_optimized"}


def sgd(parameters, lr=0.05, **options):
    return torch.optim.SGD(parameters, lr=lr, **options)


def optimizer_of_another_model() -> Situation:
    # spro/practical-pytorch#9: the model is made twice, the optimizer holds the first
    seed(0)
    first, model = mlp(6, 16, 3), mlp(6, 16, 3)
    return Situation(
        "optimizer of another instance",
        model,
        blobs(32, 6, 3),
        F.cross_entropy,
        sgd(first.parameters()),
        kinds=KIND,
        words=("none|no parameter|0 of 4|all 4|4 of 4",),
        source="spro/practical-pytorch#9",
    )


class Finetuned(nn.Module):
    def __init__(self):
        super().__init__()
        self.backbone, self.fc = mlp(6, 16, 16), nn.Linear(16, 10)

    def forward(self, x):
        return self.fc(torch.relu(self.backbone(x)))


def head_replaced_after_the_optimizer() -> Situation:
    seed(1)
    model = Finetuned()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    model.fc = nn.Linear(16, 3)
    return Situation(
        "head replaced after the optimizer was made",
        model,
        blobs(32, 6, 3),
        F.cross_entropy,
        optimizer,
        kinds=KIND,
        words=("fc.weight|fc",),
        remedy=("add_param_group|Adam(model.parameters|model.parameters()",),
        source="outside.md A4",
    )


def crf_and_fc_forgotten() -> Situation:
    # zjunlp/HVPNeT#5: after a rebuilt dict of crf and fc parameters, parameters.append was missing
    seed(2)

    class Tagger(nn.Module):
        def __init__(self):
            super().__init__()
            self.bert, self.fc = nn.Linear(6, 16), nn.Linear(16, 5)
            self.crf = nn.Parameter(0.1 * torch.randn(5, 5))

        def forward(self, x):
            o = self.fc(torch.tanh(self.bert(x)))
            return o + o @ self.crf

    model = Tagger()
    optimizer = torch.optim.AdamW([{"params": model.bert.parameters(), "lr": 1e-3}])
    return Situation(
        "crf and fc are in no parameter group",
        model,
        (torch.randn(16, 7, 6), torch.randint(0, 5, (16, 7))),
        lambda o, y: F.cross_entropy(o.flatten(0, 1), y.flatten()),
        optimizer,
        kinds=KIND,
        words=("crf", "fc"),
        source="zjunlp/HVPNeT#5",
    )


def detector_split_without_its_head() -> Situation:
    # fastai/course-v3#598: the split lists only the body; Adam never gets the head; loss 48.9, 48.9, 48.7
    seed(3)

    class SSD(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = mlp(6, 16, 16)
            self.sconv0, self.out0 = nn.Linear(16, 16), nn.Linear(16, 3)

        def forward(self, x):
            return self.out0(torch.relu(self.sconv0(self.body(x))))

    model = SSD()
    return Situation(
        "split of the model leaves the head out",
        model,
        blobs(32, 6, 3),
        F.cross_entropy,
        torch.optim.Adam([{"params": m.parameters()} for m in model.body], lr=1e-3),
        kinds=KIND,
        words=("sconv0", "out0"),
        source="fastai/course-v3#598",
    )


def copied_after_the_optimizer() -> Situation:
    seed(4)
    model = mlp(6, 16, 3)
    optimizer = sgd(model.parameters())
    return Situation(
        "model deep-copied after the optimizer was made",
        copy.deepcopy(model),
        blobs(32, 6, 3),
        F.cross_entropy,
        optimizer,
        kinds=KIND,
        source="spro/practical-pytorch#9 (by a copy)",
    )


def backbone_unfrozen_later() -> Situation:
    # pytorch/pytorch#1266: the advice to filter by requires_grad; unfreezing later does not reach the optimizer
    seed(5)
    model = Finetuned()
    model.backbone.requires_grad_(False)
    optimizer = torch.optim.Adam(filter(lambda p: p.requires_grad, model.parameters()), lr=1e-3)
    model.backbone.requires_grad_(True)
    x, _ = blobs(32, 6, 3)
    return Situation(
        "backbone unfrozen, optimizer still holds the head alone",
        model,
        (x, torch.randint(0, 10, (32,))),
        F.cross_entropy,
        optimizer,
        kinds=KIND,
        words=("backbone",),
        source="pytorch/pytorch#1266",
    )


def weight_norm_after_the_optimizer() -> Situation:
    seed(6)
    model = mlp(6, 16, 3)
    optimizer = sgd(model.parameters())
    torch.nn.utils.parametrizations.weight_norm(model[0])
    return Situation(
        "weight norm put on after the optimizer was made",
        model,
        blobs(32, 6, 3),
        F.cross_entropy,
        optimizer,
        kinds=KIND,
        words=("original",),
        source="not_optimized by parametrization",
    )


def lora_added_after_the_optimizer() -> Situation:
    seed(7)

    class Adapted(nn.Module):
        def __init__(self, base):
            super().__init__()
            self.base = base.requires_grad_(False)
            self.lora_a, self.lora_b = nn.Linear(6, 2, bias=False), nn.Linear(2, 3, bias=False)
            nn.init.zeros_(self.lora_b.weight)

        def forward(self, x):
            return self.base(x) + self.lora_b(self.lora_a(x))

    base = mlp(6, 16, 3)
    optimizer = torch.optim.AdamW(base.parameters(), lr=1e-3)
    return Situation(
        "adapters added after the optimizer was made",
        Adapted(base),
        blobs(32, 6, 3),
        F.cross_entropy,
        optimizer,
        kinds=KIND,
        words=("lora_a", "lora_b"),
        source="outside.md A4 (adapters)",
    )


def weight_of_the_loss_forgotten() -> Situation:
    # open-mmlab/mmdetection#4967: a learnable weight in the loss, the optimizer was made before
    seed(8)

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.trunk, self.a, self.b = nn.Linear(6, 16), nn.Linear(16, 1), nn.Linear(16, 3)

        def forward(self, x):
            h = torch.relu(self.trunk(x))
            return self.a(h), self.b(h)

    model = Net()
    optimizer = sgd(model.parameters())
    model.log_vars = nn.Parameter(torch.zeros(2))
    x, y = blobs(32, 6, 3)

    def loss(o, t):
        parts = torch.stack([F.mse_loss(o[0], t[0]), F.cross_entropy(o[1], t[1])])
        return (parts * (-model.log_vars).exp() + model.log_vars).sum()

    return Situation(
        "learned weights of the losses are not in the optimizer",
        model,
        (x, (x[:, :1], y)),
        loss,
        optimizer,
        kinds=KIND,
        words=("log_vars",),
        source="open-mmlab/mmdetection#4967",
    )


def position_embedding_in_no_group() -> Situation:
    seed(9)

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.pos_emb = nn.Parameter(0.02 * torch.randn(5, 8))
            self.norm, self.fc, self.head = nn.LayerNorm(8), nn.Linear(8, 16), nn.Linear(16, 3)

        def forward(self, x):
            return self.head(F.gelu(self.fc(self.norm(x + self.pos_emb))).mean(1))

    model = Net()
    decay = [m.weight for m in model.modules() if isinstance(m, nn.Linear)]
    plain = [p for n, p in model.named_parameters() if n.endswith("bias") or "norm" in n]
    optimizer = torch.optim.AdamW(
        [{"params": decay}, {"params": plain, "weight_decay": 0.0}], lr=1e-3
    )
    return Situation(
        "groups by decay forget the position embedding",
        model,
        (torch.randn(16, 5, 8), torch.randint(0, 3, (16,))),
        F.cross_entropy,
        optimizer,
        kinds=KIND,
        words=("pos_emb",),
        source="outside.md A4 (a parameter of its own)",
    )


# ---------------------------------------------------------------- healthy


def frozen_backbone() -> Situation:
    seed(20)
    model = Finetuned()
    model.backbone.requires_grad_(False)
    x, _ = blobs(32, 6, 3)
    return Situation(
        "frozen backbone, the optimizer holds the head",
        model,
        (x, torch.randint(0, 10, (32,))),
        F.cross_entropy,
        torch.optim.Adam(model.fc.parameters(), lr=1e-3),
        source="twin: frozen on purpose",
    )


def frozen_backbone_in_the_optimizer_too() -> Situation:
    # pytorch/pytorch#7419: the optimizer does not complain about frozen parameters
    seed(21)
    model = Finetuned()
    model.backbone.requires_grad_(False)
    x, _ = blobs(32, 6, 3)
    return Situation(
        "frozen backbone, the optimizer holds everything",
        model,
        (x, torch.randint(0, 10, (32,))),
        F.cross_entropy,
        torch.optim.Adam(model.parameters(), lr=1e-3),
        source="pytorch/pytorch#7419",
    )


def linear_probe_under_no_grad() -> Situation:
    seed(22)

    class Probe(Finetuned):
        def forward(self, x):
            with torch.no_grad():
                h = torch.relu(self.backbone(x))
            return self.fc(h)

    model = Probe()
    x, _ = blobs(32, 6, 3)
    return Situation(
        "linear probe: backbone under no_grad, optimizer of the head",
        model,
        (x, torch.randint(0, 10, (32,))),
        F.cross_entropy,
        sgd(model.fc.parameters()),
        kinds=QUIET,
        forbidden=("requires_grad_(False)",),
        source="twin: head trained alone",
        why="no gradient and not in the optimizer: both say that only the head is meant to train",
    )


def groups_with_their_own_rates() -> Situation:
    seed(23)
    model = Finetuned()
    groups = [
        {"params": model.backbone.parameters(), "lr": 1e-4},
        {"params": model.fc.parameters(), "lr": 1e-2},
    ]
    x, _ = blobs(32, 6, 3)
    return Situation(
        "one rate for the backbone, one for the head",
        model,
        (x, torch.randint(0, 10, (32,))),
        F.cross_entropy,
        torch.optim.AdamW(groups),
        source="twin: parameter groups",
    )


def generator_step_of_a_gan() -> Situation:
    seed(24)
    generator, critic = mlp(4, 16, 2), mlp(2, 16, 1)
    return Situation(
        "generator step; the critic has its own optimizer",
        generator,
        torch.randn(32, 4),
        lambda fake: F.softplus(-critic(fake)).mean(),
        torch.optim.Adam(generator.parameters(), lr=1e-3),
        source="twin: two optimizers",
    )


def ema_copy_inside() -> Situation:
    seed(25)

    class Momentum(nn.Module):
        def __init__(self):
            super().__init__()
            self.online = mlp(6, 16, 8)
            self.target = copy.deepcopy(self.online).requires_grad_(False)
            self.predictor = mlp(8, 16, 8)

        def forward(self, x):
            p = F.normalize(self.predictor(self.online(x)), dim=1)
            with torch.no_grad():
                t = F.normalize(self.target(x + 0.1 * torch.randn_like(x)), dim=1)
            return 2 - 2 * (p * t).sum(1).mean()

    model = Momentum()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-3)
    return Situation(
        "momentum encoder (BYOL)",
        model,
        torch.randn(32, 6),
        None,
        optimizer,
        source="twin: EMA copy",
    )


def tied_weights() -> Situation:
    seed(26)

    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed, self.fc, self.head = (
                nn.Embedding(30, 16),
                nn.Linear(16, 16),
                nn.Linear(16, 30, bias=False),
            )
            nn.init.normal_(self.embed.weight, std=0.02)
            self.head.weight = self.embed.weight

        def forward(self, i):
            return self.head(F.layer_norm(self.fc(self.embed(i)), (16,)))

    model = Tied()
    i = torch.randint(0, 30, (16, 8))
    return Situation(
        "tied embedding and head",
        model,
        (i, i.roll(-1, 1)),
        lambda o, y: F.cross_entropy(o.flatten(0, 1), y.flatten()),
        torch.optim.Adam(model.parameters(), lr=1e-3),
        source="twin: weight tying",
    )


def lbfgs() -> Situation:
    seed(27)
    model = mlp(6, 16, 1, act=nn.Tanh)
    return Situation(
        "L-BFGS, which needs a closure",
        model,
        line(32, 6),
        F.mse_loss,
        torch.optim.LBFGS(model.parameters()),
        source="ComputationalDomain/PINNs#1 (its optimizer)",
    )


def sparse_adam() -> Situation:
    seed(28)
    model = nn.Sequential(
        nn.Embedding(50, 8, sparse=True), nn.Flatten(), nn.Linear(24, 3).requires_grad_(False)
    )
    return Situation(
        "sparse gradients with SparseAdam",
        model,
        (torch.randint(0, 50, (16, 3)), torch.randint(0, 3, (16,))),
        F.cross_entropy,
        torch.optim.SparseAdam(model[0].parameters(), lr=1e-3),
        source="twin: sparse gradients",
    )


def optimizer_in_mid_training() -> Situation:
    seed(29)
    model = mlp(6, 16, 3)
    x, y = blobs(64, 6, 3)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    for _ in range(5):
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()
    return Situation(
        "Adam after five steps",
        model,
        (x, y),
        F.cross_entropy,
        optimizer,
        source="twin: optimizer with state",
    )
