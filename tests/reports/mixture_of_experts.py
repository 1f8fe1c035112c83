"""Parts that get nothing on this batch and may train on the next (A7)."""

import torch
import torch.nn.functional as F
from reports.situation import QUIET, Situation, blobs, mlp, seed
from torch import nn

NO_HARM = ("requires_grad_(False)",)
CUT = {"not_connected"}


class MoE(nn.Module):
    """Top-1 routing, experts in a loop."""

    def __init__(self, d=16, experts=8, gated=True, skip_empty=True):
        super().__init__()
        self.router = nn.Linear(d, experts)
        self.experts = nn.ModuleList([mlp(d, 2 * d, d) for _ in range(experts)])
        self.gated, self.skip_empty = gated, skip_empty

    def forward(self, x):
        gate, chosen = self.router(x).softmax(-1).max(-1)
        out = torch.zeros_like(x)
        for i, expert in enumerate(self.experts):
            mine = chosen == i
            if mine.any() or not self.skip_empty:
                y = expert(x[mine])
                out = out.index_put(
                    (mine.nonzero()[:, 0],), y * gate[mine, None] if self.gated else y
                )
        return x + out


def few_tokens(model_seed, batch=4, **options) -> Situation:
    seed(model_seed)
    model = nn.Sequential(nn.Linear(8, 16), MoE(**options), nn.Linear(16, 3))
    return Situation(
        "8 experts, 4 tokens",
        model,
        (torch.randn(batch, 8), torch.randint(0, 3, (batch,))),
        F.cross_entropy,
        kinds=QUIET,
        words=("expert",),
        forbidden=NO_HARM,
        source="outside.md A7",
    )


def experts_without_a_token() -> Situation:
    return few_tokens(0)


def experts_run_on_no_token() -> Situation:
    situation = few_tokens(1, skip_empty=False)
    situation.name = "8 experts, 4 tokens; the idle ones run on an empty batch"
    situation.words = ()
    return situation


def experts_all_busy() -> Situation:
    situation = few_tokens(2, batch=256, experts=4)
    situation.name, situation.kinds, situation.words = "4 experts, 256 tokens", {"healthy"}, ()
    situation.source = "twin of outside.md A7"
    return situation


def one_expert_takes_all() -> Situation:
    seed(3)
    moe = MoE(experts=4)
    with torch.no_grad():
        moe.router.bias[2] = 10
    model = nn.Sequential(nn.Linear(8, 16), moe, nn.Linear(16, 3))
    return Situation(
        "the router sends 128 tokens to one of 4 experts",
        model,
        (torch.randn(128, 8), torch.randint(0, 3, (128,))),
        F.cross_entropy,
        kinds=(*QUIET, CUT),
        words=("expert",),
        forbidden=NO_HARM,
        source="outside.md A7 (collapsed router)",
        why="one batch cannot tell a collapsed router from a batch of one kind: say how many experts ran",
    )


def router_without_a_gradient() -> Situation:
    # lucidrains/mixture-of-experts#7: top-1 is not differentiable; without the gate as factor the router never learns
    seed(4)
    model = nn.Sequential(nn.Linear(8, 16), MoE(experts=4, gated=False), nn.Linear(16, 3))
    return Situation(
        "top-1 routing without the gate as factor",
        model,
        (torch.randn(256, 8), torch.randint(0, 3, (256,))),
        F.cross_entropy,
        kinds=CUT,
        words=("router",),
        forbidden=NO_HARM,
        source="lucidrains/mixture-of-experts#7",
    )


class Dense(nn.Module):
    """Experts computed for all and masked: idle ones get a gradient of exactly 0."""

    def __init__(self, d=16, experts=8):
        super().__init__()
        self.router = nn.Linear(d, experts)
        self.w1, self.w2 = (
            nn.Parameter(torch.randn(experts, d, 2 * d) / d**0.5),
            nn.Parameter(torch.randn(experts, 2 * d, d) / (2 * d) ** 0.5),
        )

    def forward(self, x):
        p = self.router(x).softmax(-1)
        mask = F.one_hot(p.argmax(-1), p.shape[-1]) * p
        h = torch.relu(torch.einsum("bd,edh->beh", x, self.w1))
        return x + torch.einsum("be,beh,ehd->bd", mask, h, self.w2)


def experts_in_one_tensor() -> Situation:
    seed(5)
    model = nn.Sequential(nn.Linear(8, 16), Dense(), nn.Linear(16, 3))
    return Situation(
        "experts in one tensor, idle slices get 0",
        model,
        (torch.randn(6, 8), torch.randint(0, 3, (6,))),
        F.cross_entropy,
        kinds=QUIET,
        forbidden=NO_HARM,
        source="outside.md A7 (einsum)",
    )


def experts_as_separate_tensors_masked() -> Situation:
    seed(6)

    class Masked(MoE):
        def forward(self, x):
            gate, chosen = self.router(x).softmax(-1).max(-1)
            return x + sum(
                ((chosen == i) * gate)[:, None] * e(x) for i, e in enumerate(self.experts)
            )

    model = nn.Sequential(nn.Linear(8, 16), Masked(), nn.Linear(16, 3))
    return Situation(
        "all experts run, idle ones times a mask of 0",
        model,
        (torch.randn(4, 8), torch.randint(0, 3, (4,))),
        F.cross_entropy,
        kinds=QUIET,
        words=("expert",),
        forbidden=NO_HARM,
        source="outside.md A7 (masked)",
    )


def layer_drop() -> Situation:
    seed(7)

    class Stack(nn.Module):
        def __init__(self):
            super().__init__()
            self.inp, self.out = nn.Linear(8, 24), nn.Linear(24, 3)
            self.blocks = nn.ModuleList([mlp(24, 24, 24) for _ in range(8)])

        def forward(self, x):
            x = self.inp(x)
            for i, block in enumerate(self.blocks):
                if self.training and i in (2, 5):  # the draw of this pass
                    continue
                x = x + 0.3 * block(x)
            return self.out(x)

    return Situation(
        "stochastic depth: two of eight blocks skipped in this pass",
        Stack(),
        blobs(32, 8, 3),
        F.cross_entropy,
        kinds=QUIET,
        words=("blocks",),
        forbidden=NO_HARM,
        source="twin: LayerDrop",
    )


def heads_of_other_tasks() -> Situation:
    seed(8)

    class MultiTask(nn.Module):
        def __init__(self):
            super().__init__()
            self.trunk = mlp(8, 24, 24)
            self.heads = nn.ModuleDict({name: nn.Linear(24, 3) for name in ("ner", "pos", "chunk")})

        def forward(self, x):
            return self.heads["pos"](torch.relu(self.trunk(x)))

    return Situation(
        "batch of one task; the heads of the others wait",
        MultiTask(),
        blobs(32, 8, 3),
        F.cross_entropy,
        kinds=(*QUIET,),
        words=("heads",),
        forbidden=NO_HARM,
        source="open-mmlab/mmpretrain#1426 (heads without a sample)",
    )


def auxiliary_output_unused() -> Situation:
    seed(9)

    class Aux(nn.Module):
        def __init__(self):
            super().__init__()
            self.trunk, self.head, self.aux = nn.Linear(8, 24), nn.Linear(24, 3), nn.Linear(24, 3)

        def forward(self, x):
            h = torch.relu(self.trunk(x))
            return self.head(h), self.aux(h)

    return Situation(
        "an auxiliary output that the loss leaves out",
        Aux(),
        blobs(32, 8, 3),
        lambda o, y: F.cross_entropy(o[0], y),
        kinds=(*QUIET, CUT),
        words=("aux",),
        forbidden=NO_HARM,
        source="twin: auxiliary output",
        why="true either way if it names aux and freezes nothing",
    )


def a_head_that_is_never_called() -> Situation:
    # vita-epfl/UniTraj#59: token_predict_head is used in pretraining only; DDP complains of unused parameters
    seed(10)

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.map_encoder, self.decoder = nn.Linear(8, 24), nn.Linear(24, 3)
            self.token_predict_head = mlp(24, 24, 24)

        def forward(self, x):
            return self.decoder(torch.relu(self.map_encoder(x)))

    return Situation(
        "a head of the pretraining that never runs",
        Net(),
        blobs(32, 8, 3),
        F.cross_entropy,
        kinds=CUT,
        words=("token_predict_head",),
        source="vita-epfl/UniTraj#59",
    )


def forgotten_layer() -> Situation:
    seed(11)

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc1, self.fc2, self.fc3 = nn.Linear(8, 24), nn.Linear(24, 24), nn.Linear(24, 3)

        def forward(self, x):
            return self.fc3(torch.relu(self.fc1(x)))

    return Situation(
        "fc2 forgotten in forward",
        Net(),
        blobs(32, 8, 3),
        F.cross_entropy,
        kinds=CUT,
        words=("fc2",),
        source="outside.md A7 (really forgotten)",
    )


def detached_features() -> Situation:
    seed(12)

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.backbone, self.head = mlp(8, 24, 24), nn.Linear(24, 3)

        def forward(self, x):
            return self.head(self.backbone(x).detach())

    return Situation(
        "detach() between backbone and head",
        Net(),
        blobs(32, 8, 3),
        F.cross_entropy,
        kinds=CUT,
        words=("backbone",),
        source="pytorch/pytorch#92586 (detach)",
    )


def detached_target() -> Situation:
    seed(13)

    class SimSiam(nn.Module):
        def __init__(self):
            super().__init__()
            self.enc, self.pred = mlp(8, 24, 16), mlp(16, 8, 16)

        def forward(self, a, b):
            za, zb = self.enc(a), self.enc(b)
            pa, pb = self.pred(za), self.pred(zb)
            return (
                -(
                    F.cosine_similarity(pa, zb.detach()).mean()
                    + F.cosine_similarity(pb, za.detach()).mean()
                )
                / 2
            )

    x = torch.randn(32, 8)
    return Situation(
        "SimSiam: the target is detached on purpose",
        SimSiam(),
        ((x + 0.1 * torch.randn_like(x), x + 0.1 * torch.randn_like(x)),),
        None,
        kinds=QUIET,
        source="twin: stop-gradient",
    )


def target_network_of_a_dqn() -> Situation:
    seed(14)

    class DQN(nn.Module):
        def __init__(self):
            super().__init__()
            self.online, self.target = mlp(6, 32, 4), mlp(6, 32, 4)
            self.target.requires_grad_(False)

        def forward(self, s, t):
            return self.online(s), self.target(t).amax(1)

    def loss(o, y):
        q = o[0].gather(1, y[0][:, None])[:, 0]
        return F.smooth_l1_loss(q, y[1] + 0.99 * o[1])

    return Situation(
        "DQN with a frozen target net",
        DQN(),
        ((torch.randn(32, 6), torch.randn(32, 6)), (torch.randint(0, 4, (32,)), torch.randn(32))),
        loss,
        source="twin: target network",
    )
