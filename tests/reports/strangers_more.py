"""What strangers bring, second helping: the same kinds once more."""

import copy

import torch
import torch.nn.functional as F
from reports.situation import QUIET, Situation, blobs, line, mlp, seed
from reports.strangers_a import (
    NON_FINITE,
    NOTHING_ARRIVES,
    UNREGISTERED,
    ZERO,
    Boxed,
    With,
    gradient,
    loud,
    next_token,
    sick,
    smooth,
    well,
)
from torch import nn
from torch.func import functional_call, grad, hessian, jvp, vmap

# ---------------------------------------------------------------- A1, A15, A16: non-finite numbers


def hyperbolic_distance_to_oneself() -> Situation:
    seed(200)

    def loss(z):
        a, b = z[:, None], z[None]
        gap = (a - b).pow(2).sum(-1)
        x = 1 + 2 * gap / ((1 - a.pow(2).sum(-1)) * (1 - b.pow(2).sum(-1)))
        return torch.acosh(x).mean()

    model = With(lambda m, x: 0.3 * torch.tanh(m.net(x)), net=mlp(6, 16, 2))
    return sick("acosh at 1", NON_FINITE, model, torch.randn(16, 6), loss, words=("acosh",))


def determinant_of_a_flat_covariance() -> Situation:
    seed(201)

    def loss(z):
        z = torch.cat([z, z], 1)
        z = z - z.mean(0)
        c = torch.diag((z.mT @ z).diagonal() * 0) + (z.mT @ z) * 0
        return -torch.logdet(c)

    return sick(
        "logdet of a zero matrix",
        NON_FINITE,
        mlp(6, 16, 3).double(),
        torch.randn(32, 6).double(),
        loss,
    )


def temperature_of_zero() -> Situation:
    seed(202)
    model = With(lambda m, x: m.net(x) / m.temperature, net=mlp(6, 16, 3))
    model.temperature = nn.Parameter(torch.zeros(()))
    return sick(
        "temperature starts at 0",
        NON_FINITE,
        model,
        blobs(30, 6, 3),
        F.cross_entropy,
        words=("div|/ 0",),
    )


def temperature_in_logarithms() -> Situation:
    seed(202)
    model = With(lambda m, x: m.net(x) * m.log_temperature.exp(), net=mlp(6, 16, 3))
    model.log_temperature = nn.Parameter(torch.zeros(()))
    return well("temperature by its logarithm", model, blobs(30, 6, 3), F.cross_entropy)


def gumbel_noise_of_zero() -> Situation:
    seed(203)
    u = torch.rand(64, 4)
    u[5, 2] = 0

    def loss(o):
        y = (o - (-u.log()).log()).softmax(-1)
        return (y * torch.arange(4.0)).sum(-1).mean()

    return well(
        "log log of a uniform 0 is -Inf, which a softmax bears",
        mlp(6, 16, 4),
        torch.randn(64, 6),
        loss,
    )


def student_that_divides_by_its_norm() -> Situation:
    seed(204)
    model = With(
        lambda m, x: m.net(x) / m.net(x).norm(dim=1, keepdim=True),
        net=nn.Sequential(nn.Linear(6, 16), nn.ReLU()),
    )
    nn.init.constant_(model.net[0].bias, -30.0)
    return sick(
        "a zero vector is normalized",
        ({"non_finite"}, {"non_finite", "dead"}),
        model,
        torch.randn(16, 6),
        lambda z: z[:, 0].mean(),
        words=("div|0 / 0",),
    )


def log_variance_of_a_bfloat16_net() -> Situation:
    seed(205)
    model = mlp(6, 32, 2).bfloat16()
    x, y = line(64, 6)

    def loss(o, y):
        mean, s = o.float().chunk(2, 1)
        return (0.5 * s + 0.5 * (y.float() - mean) ** 2 * (-s).exp()).mean()

    return well("Gaussian likelihood, bfloat16", model, (x.bfloat16(), y.bfloat16()), loss)


def loss_that_overflows_in_float16() -> Situation:
    seed(206)
    model = mlp(6, 32, 1).half()
    x, y = line(128, 6)
    return sick(
        "sum of squares of 300",
        NON_FINITE,
        model,
        (x.half(), (y * 300).half()),
        lambda o, y: ((o - y) ** 2).sum(),
        words=("65504",),
    )


# ---------------------------------------------------------------- A2: losses that differentiate


def forward_mode_derivative() -> Situation:
    seed(210)
    model = smooth(2, 32, 1)
    x, v = torch.randn(32, 2), torch.randn(32, 2)

    def loss(o):
        state = dict(model.named_parameters())
        _, d = jvp(lambda z: functional_call(model, state, (z,)), (x,), (v,))
        return d.pow(2).mean() + (o - 1).pow(2).mean()

    return well("jvp", model, x, loss)


def hessian_of_every_sample() -> Situation:
    seed(211)
    model = smooth(2, 16, 1)
    x = torch.rand(20, 2)

    def loss(o):
        state = dict(model.named_parameters())
        h = vmap(hessian(lambda z: functional_call(model, state, (z,))[0]))(x)
        return (h.diagonal(dim1=1, dim2=2).sum(1) + 1).pow(2).mean() + o.pow(2).mean()

    return well("Laplacian by hessian under vmap", model, x, loss)


def gradients_per_sample() -> Situation:
    seed(212)
    model = mlp(4, 16, 3)
    x, y = blobs(20, 4, 3)

    def loss(o, y):
        state = dict(model.named_parameters())
        one = lambda s, a, b: F.cross_entropy(functional_call(model, s, (a[None],)), b[None])
        each = vmap(grad(one), (None, 0, 0))(state, x, y)
        spread = sum(g.var(0).sum() for g in each.values())
        return F.cross_entropy(o, y) + 0.01 * spread

    return well("variance of gradients per sample", model, (x, y), loss)


def sharpness_by_a_second_backward() -> Situation:
    seed(213)
    model = mlp(6, 32, 3)

    def loss(o, y):
        value = F.cross_entropy(o, y)
        grads = torch.autograd.grad(value, list(model.parameters()), create_graph=True)
        return value + 0.1 * sum(g.pow(2).sum() for g in grads)

    return well("gradient norm as a penalty", model, blobs(60, 6, 3), loss)


def equilibrium_model_with_a_vector_product() -> Situation:
    seed(214)
    model = smooth(4, 32, 1)

    def loss(energy):
        x = torch.randn(16, 4, requires_grad=True)
        for _ in range(3):
            x = x - 0.1 * gradient(model(x).sum(), x)
        return energy.mean() - model(x).mean() + 0.1 * energy.pow(2).mean()

    return well("Langevin chain through the model", model, torch.randn(16, 4), loss, kinds=QUIET)


def meta_step_with_an_optimizer() -> Situation:
    seed(215)
    model = mlp(4, 16, 1)

    def loss(o, y):
        names = [n for n, _ in model.named_parameters()]
        inner = torch.autograd.grad(F.mse_loss(o, y), list(model.parameters()), create_graph=True)
        fast = {n: p - 0.05 * g for (n, p), g in zip(model.named_parameters(), inner, strict=True)}
        assert len(names) == len(fast)
        return F.mse_loss(functional_call(model, fast, (torch.ones(3, 4),)), torch.ones(3, 1))

    return well(
        "MAML, the outer loss alone",
        model,
        line(16, 4),
        loss,
        kinds=QUIET,
        optimizer=torch.optim.Adam(model.parameters(), lr=1e-3),
    )


def penalty_without_a_graph() -> Situation:
    seed(216)
    x = torch.randn(32, 4, requires_grad=True)

    def loss(o):
        g = torch.autograd.grad(o.sum(), x, retain_graph=True)[0]
        return (g.norm(dim=1) - 1).pow(2).mean()

    return sick("create_graph forgotten", {"not_connected"}, mlp(4, 16, 1), x, loss)


# ---------------------------------------------------------------- A3: zero gradient


def similarity_of_the_same_thing() -> Situation:
    seed(220)

    def loss(z):
        return 1 - F.cosine_similarity(z, z, dim=-1).mean()

    return sick(
        "cosine with oneself",
        ({"zero_gradient"}, {"undecided"}),
        mlp(6, 16, 8),
        torch.randn(32, 6),
        loss,
    )


def probabilities_normalized_twice() -> Situation:
    seed(221)
    x, y = blobs(60, 6, 3)
    return well(
        "softmax by hand, normalized again",
        mlp(6, 16, 3),
        (x, y),
        lambda o, y: F.nll_loss((o.softmax(-1) / o.softmax(-1).sum(-1, keepdim=True)).log(), y),
    )


def centered_outputs() -> Situation:
    seed(222)
    return sick(
        "mean of centered outputs",
        ZERO,
        mlp(6, 16, 8),
        torch.randn(32, 6),
        lambda o: (o - o.mean(0)).mean() * 1e6,
    )


def centered_and_used() -> Situation:
    seed(223)

    def loss(z):
        z = z - z.mean(0)
        c = z.mT @ z / len(z)
        return F.relu(1 - z.std(0)).mean() + (c - torch.diag(c.diagonal())).pow(2).sum() / 8

    return well("variance and covariance loss", mlp(6, 32, 8), torch.randn(128, 6), loss)


def contrast(batch, scale):
    seed(224)
    x = torch.randn(batch, 8)
    x = torch.cat([x, x + 0.3 * torch.randn(batch, 8)])

    def loss(z):
        z = F.normalize(z, dim=1)
        s = z @ z.T / 0.5 - 1e9 * torch.eye(2 * batch)
        return scale * F.cross_entropy(s, torch.arange(2 * batch).roll(batch))

    model = nn.Sequential(nn.Linear(8, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Linear(64, 16))
    return well("NT-Xent", model, x, loss)


def contrastive_loss() -> Situation:
    return contrast(128, 1.0)


def contrastive_loss_of_a_pair() -> Situation:
    return contrast(4, 1e-6)


def graph_attention() -> Situation:
    seed(225)
    a = (torch.rand(30, 30) < 0.2) | torch.eye(30).bool()

    def forward(m, x):
        h = m.value(x)
        s = F.leaky_relu(m.left(h) + m.right(h).T, 0.2).masked_fill(~a, -1e9)
        return m.out(F.elu(s.softmax(-1) @ h))

    model = With(
        forward,
        value=nn.Linear(6, 16),
        left=nn.Linear(16, 1),
        right=nn.Linear(16, 1),
        out=nn.Linear(16, 3),
    )
    return well("graph attention", model, blobs(30, 6, 3), F.cross_entropy)


class Block(nn.Module):
    def __init__(self, width=32):
        super().__init__()
        self.norm, self.attention = (
            nn.LayerNorm(width),
            nn.MultiheadAttention(width, 4, 0.0, batch_first=True),
        )
        self.norm2, self.mlp = nn.LayerNorm(width), mlp(width, 2 * width, width, act=nn.GELU)

    def forward(self, x):
        h = self.norm(x)
        x = x + self.attention(h, h, h, need_weights=False)[0]
        return x + self.mlp(self.norm2(x))


def pre_norm_transformer() -> Situation:
    seed(226)
    model = nn.Sequential(
        nn.Embedding(30, 32), *[Block() for _ in range(8)], nn.LayerNorm(32), nn.Linear(32, 30)
    )
    tokens = torch.randint(0, 30, (4, 16))
    return well(
        "pre-norm transformer, 8 blocks",
        model,
        (tokens, tokens.roll(-1, 1)),
        lambda o, y: F.cross_entropy(o.flatten(0, 1), y.flatten(), reduction="sum"),
    )


def pre_norm_transformer_on_one_symbol() -> Situation:
    seed(227)
    model = nn.Sequential(
        nn.Embedding(30, 32), *[Block() for _ in range(2)], nn.LayerNorm(32), nn.Linear(32, 30)
    )
    tokens = torch.full((4, 16), 7)
    return well(
        "all tokens alike: the attention cannot tell them apart",
        model,
        (tokens, tokens),
        lambda o, y: F.cross_entropy(o.flatten(0, 1), y.flatten()),
        kinds=({"healthy"}, {"undecided"}, {"zero_gradient"}, {"constant_output"}),
    )


class Residual(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(c, c, 3, 1, 1),
            nn.BatchNorm2d(c),
            nn.ReLU(),
            nn.Conv2d(c, c, 3, 1, 1),
            nn.BatchNorm2d(c),
        )

    def forward(self, x):
        return F.relu(x + self.body(x))


def residual_network() -> Situation:
    seed(228)
    model = nn.Sequential(
        nn.Conv2d(3, 16, 3),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        *[Residual(16) for _ in range(5)],
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(16, 5),
    )
    return well(
        "residual net",
        model,
        (torch.randn(32, 3, 10, 10), torch.arange(32) % 5),
        lambda o, y: 1e-6 * F.cross_entropy(o, y),
    )


def advantage_actor_critic() -> Situation:
    seed(229)
    action, reward = torch.randint(0, 3, (64,)), torch.randn(64)

    def loss(o):
        logits, value = o
        d = torch.distributions.Categorical(logits=logits)
        advantage = reward - value[:, 0]
        policy = -(d.log_prob(action) * advantage.detach()).mean()
        return policy + 0.5 * advantage.pow(2).mean() - 0.01 * d.entropy().mean()

    model = With(
        lambda m, x: (m.policy(h := m.body(x)), m.value(h)),
        body=mlp(6, 32, 32, tail=(nn.Tanh(),)),
        policy=nn.Linear(32, 3),
        value=nn.Linear(32, 1),
    )
    return well("actor-critic", model, torch.randn(64, 6), loss)


def policy_gradient_without_an_advantage() -> Situation:
    seed(230)
    action, reward = torch.randint(0, 3, (64,)), torch.ones(64)

    def loss(o):
        log_p = torch.distributions.Categorical(logits=o).log_prob(action)
        return -(log_p * (reward - reward.mean())).mean()

    return sick(
        "all rewards alike",
        ({"zero_gradient"}, {"undecided"}),
        mlp(6, 32, 3),
        torch.randn(64, 6),
        loss,
    )


def dueling_network() -> Situation:
    seed(231)

    def forward(m, x):
        h = m.body(x)
        a = m.advantage(h)
        return m.value(h) + a - a.mean(1, keepdim=True)

    model = With(
        forward,
        body=mlp(6, 32, 32, tail=(nn.ReLU(),)),
        value=nn.Linear(32, 1),
        advantage=nn.Linear(32, 4),
    )
    y = (torch.randint(0, 4, (64, 1)), torch.randn(64, 1))
    return well(
        "dueling Q-network",
        model,
        (torch.randn(64, 6), y),
        lambda q, y: F.smooth_l1_loss(q.gather(1, y[0]), y[1]),
    )


def sinkhorn_assignments() -> Situation:
    seed(232)

    def loss(o):
        with torch.no_grad():
            q = (o / 0.05).softmax(0)
            for _ in range(3):
                q = q / q.sum(0)
                q = q / q.sum(1, keepdim=True)
        return -(q * (o / 0.1).log_softmax(1)).sum(1).mean()

    model = With(
        lambda m, x: F.normalize(m.net(x), dim=1) @ F.normalize(m.prototypes.weight).T,
        net=mlp(8, 64, 16),
        prototypes=nn.Linear(16, 10, bias=False),
    )
    return well("clusters by Sinkhorn", model, torch.randn(64, 8), loss)


# ---------------------------------------------------------------- A5: not registered


def matrices_in_an_array_of_objects() -> Situation:
    import numpy as np

    seed(240)
    model = With(None, out=nn.Linear(16, 3))
    model.grid = np.empty(2, dtype=object)
    for i in range(2):
        model.grid[i] = nn.Linear(6 if i == 0 else 16, 16)
    model.forward_of = lambda m, x: m.out(torch.relu(m.grid[1](torch.relu(m.grid[0](x)))))
    return sick("layers in a NumPy array", UNREGISTERED, model, blobs(30, 6, 3), F.cross_entropy)


def layers_behind_a_closure() -> Situation:
    seed(241)
    hidden = nn.Linear(6, 16)
    model = With(None, out=nn.Linear(16, 3))
    model.step = lambda x: torch.relu(hidden(x))
    model.forward_of = lambda m, x: m.out(m.step(x))
    return sick("layer in a lambda", UNREGISTERED, model, blobs(30, 6, 3), F.cross_entropy)


def default_dict_of_layers() -> Situation:
    from collections import defaultdict

    seed(242)
    model = With(None, out=nn.Linear(16, 3))
    model.by_task = defaultdict(lambda: nn.Linear(6, 16))
    model.forward_of = lambda m, x: m.out(torch.relu(m.by_task["a"](x)))
    return sick("defaultdict makes layers", UNREGISTERED, model, blobs(30, 6, 3), F.cross_entropy)


def scale_as_a_class_attribute() -> Situation:
    seed(243)

    class Scaled(nn.Module):
        gain = torch.ones(16, requires_grad=True)

        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(6, 16), nn.Linear(16, 3)

        def forward(self, x):
            return self.b(torch.relu(self.a(x)) * self.gain)

    return sick("tensor of the class", UNREGISTERED, Scaled(), blobs(30, 6, 3), F.cross_entropy)


def buffer_of_positions() -> Situation:
    seed(244)
    model = With(
        lambda m, x: m.out(torch.relu(m.a(x) + m.p)), a=nn.Linear(6, 16), out=nn.Linear(16, 3)
    )
    model.register_buffer("p", torch.randn(16) * 0.1)
    return well("fixed buffer", model, blobs(30, 6, 3), F.cross_entropy)


def cached_keys_of_the_last_batch() -> Situation:
    seed(245)
    model = With(None, a=nn.Linear(6, 16), out=nn.Linear(16, 3))
    model.queue = [torch.randn(8, 3) for _ in range(3)]

    def forward(m, x):
        o = m.out(torch.relu(m.a(x)))
        m.queue = [*m.queue[1:], o.detach()[:8]]
        return o

    model.forward_of = forward
    return well(
        "queue of detached keys",
        model,
        blobs(30, 6, 3),
        lambda o, y: F.cross_entropy(o, y) + 0.1 * (o @ model.queue[0].T).logsumexp(1).mean(),
    )


def prompt_trained_in_a_frozen_model() -> Situation:
    seed(246)
    body = mlp(16, 32, 3).requires_grad_(False)
    model = With(lambda m, x: m.body(torch.cat([x, m.prompt.expand(len(x), 10)], 1)), body=body)
    model.prompt = nn.Parameter(0.1 * torch.randn(10))
    return well(
        "soft prompt",
        model,
        blobs(30, 6, 3),
        F.cross_entropy,
        optimizer=torch.optim.Adam([model.prompt], lr=1e-2),
    )


# ---------------------------------------------------------------- A4: optimizer and its updates


def deep_copy_for_an_average_in_the_optimizer() -> Situation:
    seed(250)
    model = mlp(6, 32, 3)
    average = copy.deepcopy(model)
    return sick(
        "optimizer of the EMA copy",
        {"not_optimized"},
        model,
        blobs(30, 6, 3),
        F.cross_entropy,
        optimizer=torch.optim.Adam(average.parameters(), lr=1e-3),
    )


def layer_norm_forgotten() -> Situation:
    seed(251)
    model = nn.Sequential(nn.Linear(6, 32), nn.LayerNorm(32), nn.ReLU(), nn.Linear(32, 3))
    matrices = [m.weight for m in model if isinstance(m, nn.Linear)]
    return sick(
        "norm and biases in no group",
        {"not_optimized"},
        model,
        blobs(30, 6, 3),
        F.cross_entropy,
        optimizer=torch.optim.AdamW(matrices, lr=1e-3),
        words=("1",),
    )


def momentum_with_a_loud_rate() -> Situation:
    seed(252)
    model = nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(288, 10))
    return sick(
        "SGD at 500",
        {"update_size"},
        model,
        (torch.randn(64, 1, 8, 8), torch.randint(0, 10, (64,))),
        F.cross_entropy,
        optimizer=torch.optim.SGD(model.parameters(), lr=500.0, momentum=0.9),
    )


def signs_at_a_loud_rate() -> Situation:
    seed(253)
    model = mlp(6, 32, 3)
    return sick(
        "RMSprop at 5",
        {"update_size"},
        model,
        blobs(30, 6, 3),
        F.cross_entropy,
        optimizer=torch.optim.RMSprop(model.parameters(), lr=5.0),
    )


def optimizers_all() -> list:
    return [
        torch.optim.NAdam,
        torch.optim.RAdam,
        torch.optim.Adamax,
        torch.optim.Adagrad,
        torch.optim.ASGD,
        torch.optim.Adadelta,
    ]


def healthy_under(index: int) -> Situation:
    seed(254 + index)
    model, make = mlp(6, 32, 3), optimizers_all()[index]
    return well(
        make.__name__, model, blobs(60, 6, 3), F.cross_entropy, optimizer=make(model.parameters())
    )


def nadam() -> Situation:
    return healthy_under(0)


def radam() -> Situation:
    return healthy_under(1)


def adamax() -> Situation:
    return healthy_under(2)


def adagrad() -> Situation:
    return healthy_under(3)


def averaged_descent() -> Situation:
    return healthy_under(4)


def adadelta() -> Situation:
    return healthy_under(5)


def cosine_schedule_at_its_end() -> Situation:
    seed(261)
    model = mlp(6, 32, 3)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 10, eta_min=1e-9)
    for _ in range(10):
        optimizer.step()
        schedule.step()
    return well(
        "end of a cosine schedule",
        model,
        blobs(60, 6, 3),
        F.cross_entropy,
        optimizer=optimizer,
        kinds=QUIET,
    )


# ---------------------------------------------------------------- A7: experts


def experts_of_tokens_in_a_sequence() -> Situation:
    seed(270)

    def forward(m, x):
        flat = x.flatten(0, 1)
        p = m.router(flat).softmax(-1)
        w, i = p.topk(2)
        w = w / w.sum(-1, keepdim=True)
        out = torch.zeros_like(flat)
        for e, expert in enumerate(m.experts):
            rows, slot = (i == e).nonzero(as_tuple=True)
            out[rows] += w[rows, slot, None] * expert(flat[rows])
        return m.out((x + out.view_as(x)).mean(1))

    model = With(
        forward,
        router=nn.Linear(16, 32, bias=False),
        out=nn.Linear(16, 3),
        experts=nn.ModuleList(
            nn.Sequential(nn.Linear(16, 32), nn.GELU(), nn.Linear(32, 16)) for _ in range(32)
        ),
    )
    return well(
        "32 experts, 24 tokens, in-place",
        model,
        (torch.randn(4, 6, 16), torch.randint(0, 3, (4,))),
        F.cross_entropy,
    )


def switch_with_convolutions() -> Situation:
    seed(271)

    def forward(m, x):
        p, i = m.gate(x.mean((2, 3))).softmax(-1).max(-1)
        h = torch.cat(
            [p[k].view(1, 1, 1, 1) * m.experts[int(i[k])](x[k : k + 1]) for k in range(len(x))]
        )
        return m.out(h.relu().mean((2, 3)))

    model = With(
        forward,
        gate=nn.Linear(3, 6),
        out=nn.Linear(8, 4),
        experts=nn.ModuleList(nn.Conv2d(3, 8, 3) for _ in range(6)),
    )
    return well(
        "experts that are convolutions",
        model,
        (torch.randn(5, 3, 8, 8), torch.randint(0, 4, (5,))),
        F.cross_entropy,
    )


def weights_of_experts_by_a_straight_through_choice() -> Situation:
    seed(272)

    def forward(m, x):
        p = m.router(x).softmax(-1)
        hard = F.one_hot(p.argmax(-1), 4).float()
        w = hard + p - p.detach()
        return m.out(sum(w[:, e, None] * m.experts[e](x) for e in range(4)))

    model = With(
        forward,
        router=nn.Linear(16, 4),
        out=nn.Linear(16, 3),
        experts=nn.ModuleList(mlp(16, 32, 16) for _ in range(4)),
    )
    return well("hard choice, straight through", model, blobs(64, 16, 3), F.cross_entropy)


def router_normalized_by_its_own_sum() -> Situation:
    seed(273)

    def forward(m, x):
        score, i = m.router(x).sigmoid().max(-1, keepdim=True)
        w = score / score.sum(-1, keepdim=True)
        stacked = torch.stack([e(x) for e in m.experts], 1)
        return m.out(x + w * stacked[torch.arange(len(x)), i[:, 0]])

    model = With(
        forward,
        router=nn.Linear(16, 4),
        out=nn.Linear(16, 3),
        experts=nn.ModuleList(mlp(16, 32, 16) for _ in range(4)),
    )
    return sick(
        "sigmoid router over its own sum",
        NOTHING_ARRIVES,
        model,
        blobs(64, 16, 3),
        F.cross_entropy,
        words=("router",),
    )


def early_exit() -> Situation:
    seed(274)

    def forward(m, x):
        for block, head in zip(m.blocks, m.heads, strict=True):
            x = torch.relu(block(x))
            if x.abs().mean() < 1e3:
                return head(x)
        return head(x)

    model = With(
        forward,
        blocks=nn.ModuleList(nn.Linear(16, 16) for _ in range(3)),
        heads=nn.ModuleList(nn.Linear(16, 3) for _ in range(3)),
    )
    return well("early exit", model, blobs(64, 16, 3), F.cross_entropy, kinds=QUIET)


# ---------------------------------------------------------------- A10: nested outputs and batches


def class_of_tokens_in_a_named_tuple() -> Situation:
    from typing import NamedTuple

    class Out(NamedTuple):
        hidden: torch.Tensor
        scores: torch.Tensor

    seed(280)
    model = With(
        lambda m, x: Out(h := m.body(x), m.head(h).softmax(-1)),
        body=nn.GRU(6, 16, batch_first=True),
        head=nn.Linear(16, 5),
    )
    model.forward_of = lambda m, x: Out(h := m.body(x)[0], m.head(h).softmax(-1))
    batch = (torch.randn(8, 7, 6), torch.randint(0, 5, (8, 7)))
    return sick(
        "softmax of a tagger",
        {"double_softmax"},
        model,
        batch,
        lambda o, y: F.cross_entropy(o.scores.flatten(0, 1), y.flatten()),
    )


def own_loss_with_two_softmaxes() -> Situation:
    seed(281)

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = mlp(6, 32, 3)

        def forward(self, x, labels):
            p = self.net(x).softmax(-1)
            return Boxed(loss=F.cross_entropy(p, labels), probabilities=p)

    x, y = blobs(60, 6, 3)
    return sick("own loss of a softmax", {"double_softmax"}, Net(), {"x": x, "labels": y})


def own_loss_by_position() -> Situation:
    seed(282)

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = mlp(6, 32, 3)

        def forward(self, x, y):
            return F.cross_entropy(self.net(x), y)

    return well("model(x, y) is the loss", Net(), blobs(60, 6, 3))


def deep_sigmoid_net_with_its_loss_by_position() -> Situation:
    seed(283)

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = mlp(6, *[32] * 12, 3, act=nn.Sigmoid)

        def forward(self, x, y):
            o = self.net(x)
            return o, F.cross_entropy(o, y)

    return sick("own loss, 12 sigmoid layers", {"vanishing"}, Net(), blobs(60, 6, 3))


def sequence_to_sequence() -> Situation:
    seed(284)

    def forward(m, source, target):
        _, h = m.encoder(m.embed(source))
        return m.out(m.decoder(m.embed(target), h)[0])

    model = With(
        forward,
        embed=nn.Embedding(20, 16),
        encoder=nn.GRU(16, 32, batch_first=True),
        decoder=nn.GRU(16, 32, batch_first=True),
        out=nn.Linear(32, 20),
    )
    s, t = torch.randint(0, 20, (8, 9)), torch.randint(0, 20, (8, 7))
    return well("encoder and decoder", model, ((s, t), t.roll(-1, 1)), next_token)


def pyramid_of_features() -> Situation:
    seed(285)

    def forward(m, x):
        a = m.a(x).relu()
        b = m.b(F.max_pool2d(a, 2)).relu()
        return {"p3": m.head(a), "p4": m.head(b), "meta": {"stride": [8, 16]}}

    def loss(o, y):
        return sum(
            F.binary_cross_entropy_with_logits(o[k], F.adaptive_max_pool2d(y, o[k].shape[-2:]))
            for k in ("p3", "p4")
        )

    model = With(
        forward,
        a=nn.Conv2d(3, 16, 3, padding=1),
        b=nn.Conv2d(16, 16, 3, padding=1),
        head=nn.Conv2d(16, 1, 1),
    )
    batch = (torch.randn(4, 3, 16, 16), (torch.rand(4, 1, 16, 16) < 0.05).float())
    return well("two scales, one head", model, batch, loss)


def dead_features_of_a_pyramid() -> Situation:
    s = pyramid_of_features()
    nn.init.constant_(s.model.a.bias, -30.0)
    return sick("the first convolution is dead", {"dead"}, s.model, s.batch, s.loss, words=("a",))


# ---------------------------------------------------------------- A11: activations at the output


def angles_by_a_loud_tanh() -> Situation:
    seed(290)
    model = With(lambda m, x: 3.14159 * torch.tanh(m.net(x)), net=loud(mlp(6, 32, 2), 400))
    return sick(
        "pi times a loud tanh",
        {"saturated"},
        model,
        (torch.randn(64, 6), torch.rand(64, 2) * 2 - 1),
        F.smooth_l1_loss,
    )


def ages_behind_a_dead_relu() -> Situation:
    seed(291)
    net = nn.Sequential(
        nn.Conv2d(1, 8, 3),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 1),
        nn.ReLU(),
    )
    nn.init.constant_(net[4].bias, -5.0)
    return sick(
        "ages by a dead ReLU",
        {"dead"},
        net,
        (torch.randn(32, 1, 8, 8), torch.rand(32, 1) * 60),
        F.l1_loss,
        optimizer=None,
    )


def shares_by_a_loud_sigmoid_in_half() -> Situation:
    seed(292)
    model = loud(mlp(6, 32, 1, tail=(nn.Sigmoid(),)), 2000).bfloat16()
    return sick(
        "shares in bfloat16",
        {"saturated"},
        model,
        (torch.randn(64, 6).bfloat16(), torch.rand(64, 1).bfloat16()),
        lambda o, y: F.mse_loss(o.float(), y.float()),
    )


def sparse_rates() -> Situation:
    seed(293)
    model = nn.Sequential(
        nn.Linear(6, 32), nn.ReLU(), nn.Linear(32, 16), nn.ReLU(), nn.Linear(16, 6)
    )
    x = torch.randn(64, 6)
    return well("sparse autoencoder", model, (x, x), F.mse_loss)


def gates_of_squeeze_and_excitation() -> Situation:
    seed(294)

    def forward(m, x):
        h = m.conv(x).relu()
        return m.out((h * m.gate(h.mean((2, 3))).sigmoid()[..., None, None]).mean((2, 3)))

    model = With(forward, conv=nn.Conv2d(3, 16, 3), gate=mlp(16, 4, 16), out=nn.Linear(16, 4))
    return well(
        "squeeze and excitation",
        model,
        (torch.randn(16, 3, 8, 8), torch.randint(0, 4, (16,))),
        F.cross_entropy,
    )


def rare_events() -> Situation:
    seed(295)
    model = mlp(6, 32, 1, tail=(nn.Sigmoid(),))
    nn.init.constant_(model[2].bias, -4.6)
    y = (torch.rand(512, 1) < 0.01).float()
    return well("bias at the prior of 1 %", model, (torch.randn(512, 6), y), F.binary_cross_entropy)


def focal_detector() -> Situation:
    seed(296)
    model = mlp(6, 32, 8)
    nn.init.constant_(model[2].bias, -4.6)
    y = (torch.rand(256, 8) < 0.01).float()

    def loss(o, y):
        p = o.sigmoid()
        ce = F.binary_cross_entropy_with_logits(o, y, reduction="none")
        return (ce * ((1 - p) * y + p * (1 - y)) ** 2).sum()

    return well("focal loss with a prior", model, (torch.randn(256, 6), y), loss)


def temperatures_by_softplus_far_below_zero() -> Situation:
    seed(297)
    model = mlp(6, 32, 1, tail=(nn.Softplus(),))
    nn.init.constant_(model[2].bias, -60.0)
    return sick(
        "softplus far below 0",
        ({"saturated"}, {"dead"}, {"zero_gradient"}, {"vanishing"}, {"undecided"}),
        model,
        (torch.randn(64, 6), torch.rand(64, 1) + 1),
        F.mse_loss,
    )
