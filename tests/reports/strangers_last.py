"""What strangers bring, third helping: tried once all that came before was right."""

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
    sick,
    smooth,
    well,
)
from torch import nn

# ---------------------------------------------------------------- A1, A15, A16: non-finite numbers


def harmonic_mean_with_a_zero() -> Situation:
    seed(300)

    def loss(o, y):
        p = torch.relu(o)
        return ((2 / (1 / p + 1 / y)) - 1).pow(2).mean()

    return well(
        "harmonic mean with relu",
        mlp(6, 16, 3),
        (torch.randn(32, 6), torch.rand(32, 3) + 0.1),
        loss,
        why="0 x Inf arises where the backward of relu drops it: no weight gets it",
    )


def root_mean_square_by_group() -> Situation:
    seed(301)
    groups = torch.arange(32) % 4

    def loss(o, y):
        e = torch.zeros(5).index_add(0, groups, (o - y)[:, 0].pow(2))
        return e.sqrt().mean()

    return well(
        "a group without a sample",
        mlp(6, 16, 1),
        line(32, 6),
        loss,
        why="the infinite slope goes to an entry that no sample has",
    )


def root_mean_square_by_full_group() -> Situation:
    seed(301)
    groups = torch.arange(32) % 4

    def loss(o, y):
        return torch.zeros(4).index_add(0, groups, (o - y)[:, 0].pow(2)).sqrt().mean()

    return well("every group has a sample", mlp(6, 16, 1), line(32, 6), loss)


def power_of_a_negative_number() -> Situation:
    seed(302)
    return sick(
        "gamma correction of negatives",
        NON_FINITE,
        mlp(6, 16, 3),
        (torch.randn(32, 6), torch.rand(32, 3)),
        lambda o, y: F.mse_loss(o**0.45, y),
        words=("pow",),
    )


def logit_of_a_sure_answer() -> Situation:
    seed(303)
    model = loud(mlp(6, 16, 1, tail=(nn.Sigmoid(),)), 1000)
    return sick(
        "logit of a sigmoid",
        NON_FINITE,
        model,
        line(32, 6),
        lambda o, y: F.mse_loss(torch.logit(o), y),
        words=("logit|sigmoid",),
    )


def geometric_mean_of_probabilities() -> Situation:
    seed(304)
    x, y = blobs(40, 6, 4)
    return well(
        "log-sum of an ensemble",
        With(
            lambda m, x: torch.stack([n(x) for n in m.nets]),
            nets=nn.ModuleList(mlp(6, 16, 4) for _ in range(5)),
        ),
        (x, y),
        lambda o, y: F.nll_loss(o.log_softmax(-1).mean(0).log_softmax(-1), y),
    )


# ---------------------------------------------------------------- A2: losses that differentiate


def boundary_value_problem_in_bfloat16() -> Situation:
    seed(310)
    x = torch.rand(256, 1).bfloat16().requires_grad_()

    def loss(u):
        return (gradient(u.sum(), x).float() - 1).pow(2).mean() + u.float().pow(2).mean()

    return well("first-order equation, bfloat16", smooth(1, 32, 32, 1).bfloat16(), x, loss)


def eikonal_surface() -> Situation:
    seed(311)
    x = torch.randn(400, 3, requires_grad=True)

    def loss(o):
        return (gradient(o.sum(), x).norm(dim=1) - 1).pow(2).mean() + 0.1 * o.abs().mean()

    return well("signed distance by eikonal loss", smooth(3, 64, 64, 1, act=nn.Softplus), x, loss)


def burgers_with_a_hidden_copy() -> Situation:
    seed(312)

    class Pinn(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = smooth(2, 32, 32, 1)

        def forward(self, t, x):
            t, x = t.clone().requires_grad_(), x.clone().requires_grad_()
            u = self.net(torch.cat([t, x], 1))
            u_t, u_x = gradient(u.sum(), t), gradient(u.sum(), x)
            return u, u_t + u * u_x - 0.01 * gradient(u_x.sum(), x)

    def loss(o, y):
        return F.mse_loss(o[0], y) + o[1].pow(2).mean()

    return well(
        "Burgers", Pinn(), ((torch.rand(128, 1), torch.rand(128, 1)), torch.rand(128, 1)), loss
    )


def dead_potential() -> Situation:
    seed(313)
    x = torch.randn(64, 3, requires_grad=True)
    model = mlp(3, 32, 32, 1)
    nn.init.constant_(model[0].bias, -50.0)
    return sick(
        "forces of a dead potential",
        ({"dead"}, {"dead", "not_connected"}),
        model,
        x,
        lambda e: (gradient(e.sum(), x) - 1).pow(2).mean() + (e - 1).pow(2).mean(),
    )


def adversarial_training() -> Situation:
    seed(314)
    x, y = blobs(60, 6, 3)
    model = mlp(6, 32, 3)

    def loss(o, y):
        z = x.clone().requires_grad_()
        g = torch.autograd.grad(F.cross_entropy(model(z), y), z)[0]
        return 0.5 * F.cross_entropy(o, y) + 0.5 * F.cross_entropy(model(x + 0.1 * g.sign()), y)

    return well("fast gradient sign in the loss", model, (x, y), loss)


# ---------------------------------------------------------------- A3: zero gradient


def dice_of_hard_masks() -> Situation:
    seed(320)

    def loss(o, y):
        p = (o.sigmoid() > 0.5).float()
        return 1 - 2 * (p * y).sum() / (p.sum() + y.sum()) + 0.0 * o.sum()

    return sick(
        "Dice of a threshold",
        NOTHING_ARRIVES,
        nn.Conv2d(1, 1, 3, padding=1),
        (torch.randn(4, 1, 8, 8), (torch.rand(4, 1, 8, 8) < 0.3).float()),
        loss,
    )


def quantized_activations() -> Situation:
    seed(321)
    model = With(
        lambda m, x: m.b(torch.floor(m.a(x).relu() * 4) / 4), a=nn.Linear(6, 32), b=nn.Linear(32, 3)
    )
    return sick(
        "floor between layers", ZERO, model, blobs(30, 6, 3), F.cross_entropy, words=("floor", "a")
    )


def integers_in_between() -> Situation:
    seed(322)
    model = With(
        lambda m, x: m.b(m.a(x).relu().int().float()), a=nn.Linear(6, 32), b=nn.Linear(32, 3)
    )
    return sick(
        "cast to integers", {"not_connected"}, model, blobs(30, 6, 3), F.cross_entropy, words=("a",)
    )


def median_of_errors() -> Situation:
    seed(323)
    return well(
        "median of errors: one sample trains",
        mlp(6, 16, 1),
        line(33, 6),
        lambda o, y: (o - y).abs().median(),
        kinds=QUIET,
    )


def hardest_in_the_batch() -> Situation:
    seed(324)
    x, y = blobs(48, 6, 3)

    def loss(z, y):
        d = torch.cdist(z, z)
        same = y[:, None] == y
        far = d.masked_fill(~same, -1e9).amax(1)
        near = d.masked_fill(same, 1e9).amin(1)
        return F.relu(far - near + 0.3).mean()

    return well("batch-hard triplets", mlp(6, 32, 8), (x, y), loss)


def top_k_of_a_ranking() -> Situation:
    seed(325)
    return well(
        "only the top 3 count",
        mlp(6, 16, 1),
        line(64, 6),
        lambda o, y: -o[:, 0].topk(3).values.mean() + o.pow(2).mean(),
    )


# ---------------------------------------------------------------- A5: not registered


def layers_by_setattr_on_a_plain_helper() -> Situation:
    seed(330)
    helper = Boxed(inner=nn.Linear(6, 16), act=torch.relu)
    model = With(lambda m, x: m.out(m.helper.act(m.helper.inner(x))), out=nn.Linear(16, 3))
    model.helper = helper
    return sick(
        "layer in a helper object",
        UNREGISTERED,
        model,
        blobs(30, 6, 3),
        F.cross_entropy,
        words=("helper",),
        optimizer=torch.optim.Adam(model.parameters(), lr=1e-3),
    )


def blocks_in_a_generator_made_tuple() -> Situation:
    seed(331)
    model = With(None, out=nn.Linear(8, 4))
    model.stages = tuple(nn.Sequential(nn.Conv2d(i, 8, 3, padding=1), nn.ReLU()) for i in (3, 8))

    def forward(m, x):
        for stage in m.stages:
            x = stage(x)
        return m.out(x.mean((2, 3)))

    model.forward_of = forward
    return sick(
        "stages in a tuple",
        UNREGISTERED,
        model,
        (torch.randn(16, 3, 8, 8), torch.randint(0, 4, (16,))),
        F.cross_entropy,
        words=("stages",),
        remedy=("ModuleList",),
    )


def functions_with_a_loss_module_in_a_list() -> Situation:
    seed(332)
    model = mlp(6, 32, 3)
    model.losses = [nn.CrossEntropyLoss(), nn.MSELoss()]
    model.hooks = {"f": torch.relu}
    return well("losses in a list", model, blobs(30, 6, 3), nn.CrossEntropyLoss())


def centers_of_classes_in_the_loss() -> Situation:
    seed(333)
    loss = nn.Module()
    loss.centers = nn.Parameter(torch.randn(3, 8))
    loss.forward = lambda z, y: (z - loss.centers[y]).pow(2).sum(1).mean()
    model = mlp(6, 32, 8)
    return well(
        "center loss with its own optimizer",
        model,
        blobs(60, 6, 3),
        loss,
        optimizer=torch.optim.SGD([*model.parameters(), loss.centers], lr=1e-3),
    )


# ---------------------------------------------------------------- A4: optimizer and its updates


def model_wrapped_after_the_optimizer() -> Situation:
    seed(340)
    model = mlp(6, 32, 3)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    return well(
        "wrapped later",
        nn.DataParallel(model),
        blobs(30, 6, 3),
        F.cross_entropy,
        optimizer=optimizer,
    )


def weights_loaded_by_assignment() -> Situation:
    seed(341)
    model = mlp(6, 32, 3)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    state = {k: v.clone() for k, v in model.state_dict().items()}
    model.load_state_dict(state, assign=True)
    return sick(
        "load_state_dict(assign=True) after the optimizer",
        {"not_optimized"},
        model,
        blobs(30, 6, 3),
        F.cross_entropy,
        optimizer=optimizer,
    )


def weights_loaded() -> Situation:
    seed(341)
    model = mlp(6, 32, 3)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    model.load_state_dict({k: v.clone() for k, v in model.state_dict().items()})
    return well(
        "load_state_dict after the optimizer",
        model,
        blobs(30, 6, 3),
        F.cross_entropy,
        optimizer=optimizer,
    )


def one_sample_and_adam() -> Situation:
    seed(342)
    model = mlp(6, 32, 3)
    return well(
        "batch of one",
        model,
        (torch.randn(1, 6), torch.tensor([1])),
        F.cross_entropy,
        optimizer=torch.optim.AdamW(model.parameters(), lr=1e-3),
        kinds=QUIET,
    )


def weight_decay_of_one_hundred() -> Situation:
    seed(343)
    model = mlp(6, 32, 3)
    return sick(
        "decay 100 at lr 0.1",
        {"update_size"},
        model,
        blobs(30, 6, 3),
        F.cross_entropy,
        optimizer=torch.optim.AdamW(model.parameters(), lr=0.1, weight_decay=100.0),
        words=("weight_decay|decay",),
    )


# ---------------------------------------------------------------- A7: experts


def noisy_router_of_a_switch() -> Situation:
    seed(350)

    def forward(m, x):
        logits = m.router(x) + torch.randn(len(x), 6) * F.softplus(m.noise(x))
        w, i = logits.topk(2)
        w = w.softmax(-1)
        out = 0
        for k in range(2):
            stacked = torch.stack([m.experts[int(e)](x[n]) for n, e in enumerate(i[:, k])])
            out = out + w[:, k, None] * stacked
        return m.out(x + out)

    model = With(
        forward,
        router=nn.Linear(16, 6),
        noise=nn.Linear(16, 6),
        out=nn.Linear(16, 3),
        experts=nn.ModuleList(mlp(16, 32, 16) for _ in range(6)),
    )
    return well("noisy top 2", model, blobs(32, 16, 3), F.cross_entropy)


def experts_by_class_of_input() -> Situation:
    seed(351)

    def forward(m, x, kind):
        out = torch.zeros(len(x), 3)
        for k, head in m.heads.items():
            rows = (kind == int(k)).nonzero()[:, 0]
            if len(rows):
                out = out.index_copy(0, rows, head(m.body(x[rows])))
        return out

    model = With(
        forward,
        body=mlp(6, 32, 16),
        heads=nn.ModuleDict({str(k): nn.Linear(16, 3) for k in range(5)}),
    )
    x, y = blobs(30, 6, 3)
    return well("heads by kind", model, ((x, torch.randint(0, 3, (30,))), y), F.cross_entropy)


def shared_and_routed() -> Situation:
    seed(352)

    def forward(m, x):
        p, i = m.router(x).softmax(-1).max(-1)
        routed = torch.stack([m.experts[int(e)](v) for e, v in zip(i, x, strict=True)])
        return m.out(m.shared(x) + p[:, None] * routed.detach())

    model = With(
        forward,
        router=nn.Linear(16, 4),
        shared=mlp(16, 32, 16),
        out=nn.Linear(16, 3),
        experts=nn.ModuleList(mlp(16, 32, 16) for _ in range(4)),
    )
    return sick(
        "routed part detached",
        {"not_connected"},
        model,
        blobs(32, 16, 3),
        F.cross_entropy,
        words=("experts",),
    )


# ---------------------------------------------------------------- A10: nested outputs and batches


def batch_in_a_data_class() -> Situation:
    from dataclasses import dataclass

    @dataclass
    class Sample:
        image: torch.Tensor
        labels: torch.Tensor
        name: str = "a"

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = mlp(12, 32, 4, tail=(nn.Softmax(-1),))

        def forward(self, image):
            return {"out": [self.net(image)]}

    seed(360)
    x, y = blobs(40, 12, 4)
    return sick(
        "batch is a dataclass",
        {"double_softmax"},
        Net(),
        Sample(x, y),
        lambda o, y: F.cross_entropy(o["out"][0], y),
    )


def graph_that_the_model_takes_whole() -> Situation:
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(6, 32), nn.Linear(32, 3)

        def forward(self, data):
            return self.b(torch.relu(data.adjacency @ self.a(data.x)))

    seed(361)
    x, y = blobs(30, 6, 3)
    adjacency = (torch.rand(30, 30) < 0.1).float() + torch.eye(30)
    adjacency = adjacency / adjacency.sum(1, keepdim=True)
    return well(
        "graph object as one argument", Net(), Boxed(x=x, adjacency=adjacency, y=y), F.cross_entropy
    )


def list_of_layers_outputs() -> Situation:
    seed(362)
    model = With(
        lambda m, x: [x := torch.tanh(layer(x)) for layer in m.layers],
        layers=nn.ModuleList(nn.Linear(16, 16) for _ in range(4)),
    )
    x = torch.randn(64, 16)
    return well(
        "all hidden layers returned, all regressed",
        model,
        (x, torch.tanh(x)),
        lambda o, y: sum(F.mse_loss(h, y) for h in o),
    )


def dead_branch_in_nested_heads() -> Situation:
    seed(363)
    model = With(
        lambda m, x: {"a": {"mask": m.a(x)}, "b": (m.b(x).relu(), None)},
        a=mlp(6, 32, 3),
        b=mlp(6, 32, 2),
    )
    nn.init.constant_(model.b[-1].bias, -30.0)
    x, y = blobs(60, 6, 3)
    return sick(
        "nested head behind a dead ReLU",
        {"dead"},
        model,
        (x, y),
        lambda o, y: F.cross_entropy(o["a"]["mask"], y) + F.mse_loss(o["b"][0], torch.ones(60, 2)),
        words=("b",),
    )


# ---------------------------------------------------------------- A11: activations at the output


def variance_head_by_softplus() -> Situation:
    seed(370)
    model = With(
        lambda m, x: (m.net(x)[:, :1], F.softplus(m.net(x)[:, 1:]) + 1e-4), net=mlp(3, 32, 2)
    )
    return well(
        "Gaussian head", model, line(128, 3), lambda o, y: F.gaussian_nll_loss(o[0], y, o[1])
    )


def small_rates_by_softplus() -> Situation:
    seed(371)
    model = mlp(3, 32, 1, tail=(nn.Softplus(),))
    nn.init.constant_(model[2].bias, -5.0)
    y = torch.poisson(torch.full((256, 1), 0.007))
    return well(
        "rates of 1 %",
        model,
        (torch.randn(256, 3), y),
        lambda o, y: F.poisson_nll_loss(o, y, log_input=False),
    )


def tanh_at_the_output_of_a_policy_with_noise() -> Situation:
    seed(372)

    def loss(o):
        mean, s = o.chunk(2, 1)
        d = torch.distributions.Normal(mean, F.softplus(s) + 0.01)
        u = d.rsample()
        a = torch.tanh(u)
        logp = d.log_prob(u) - 2 * (0.6931 - u - F.softplus(-2 * u))
        return (0.2 * logp + (a - 0.3).pow(2)).mean()

    return well("squashed Gaussian policy", mlp(6, 32, 4), torch.randn(128, 6), loss)


def pixels_by_a_loud_tanh_that_are_right() -> Situation:
    seed(373)
    x = torch.randn(128, 4)
    model = nn.Sequential(nn.Linear(4, 4, bias=False), nn.Tanh())
    with torch.no_grad():
        model[0].weight.copy_(50 * torch.eye(4))
    return well("signs, sure and right", model, (x, x.sign()), F.mse_loss, kinds=QUIET)
