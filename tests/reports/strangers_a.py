"""What strangers bring, first part: numbers, inner derivatives, registration, outputs."""

import torch
import torch.nn.functional as F
from reports.situation import HEALTHY, QUIET, Situation, blobs, line, mlp, seed
from torch import nn
from torch.func import functional_call, jacrev, vmap
from torch.utils.checkpoint import checkpoint

NON_FINITE = {"non_finite"}
ZERO = {"zero_gradient"}
NOTHING_ARRIVES = ({"zero_gradient"}, {"not_connected"})
UNREGISTERED = {"not_registered"}


def sick(name, kinds, model, batch, loss=None, **more) -> Situation:
    """A situation with something wrong."""
    return Situation(name, model, batch, loss, kinds=kinds, **more)


def well(name, model, batch, loss=None, **more) -> Situation:
    """A healthy twin."""
    return Situation(name, model, batch, loss, **{"kinds": HEALTHY, **more})


class With(nn.Module):
    """Modules by name and a forward written as a function of them."""

    def __init__(self, forward, **modules):
        super().__init__()
        self.forward_of = forward
        for name, module in modules.items():
            setattr(self, name, module)

    def forward(self, *args, **kwargs):
        return self.forward_of(self, *args, **kwargs)


# ---------------------------------------------------------------- A1, A15, A16: non-finite numbers


def graph(nodes: int, isolated: bool) -> torch.Tensor:
    """Adjacency of a ring, where the last node may have no neighbor."""
    a = torch.zeros(nodes, nodes)
    i = torch.arange(nodes - 1)
    a[i, (i + 1) % (nodes - 1)] = a[(i + 1) % (nodes - 1), i] = 1
    if not isolated:
        a += torch.eye(nodes)
    return a


def convolve(m, x, a):
    d = a.sum(1).pow(-0.5)
    a = d[:, None] * a * d
    return m.out(a @ torch.relu(m.inner(a @ x)))


def node_without_a_neighbor() -> Situation:
    seed(0)
    model = With(convolve, inner=nn.Linear(5, 16), out=nn.Linear(16, 3))
    x, y = blobs(20, 5, 3)
    batch = ((x, graph(20, isolated=True)), y)
    return sick("isolated node", NON_FINITE, model, batch, F.cross_entropy, words=("pow|mul",))


def node_with_a_self_loop() -> Situation:
    seed(0)
    model = With(convolve, inner=nn.Linear(5, 16), out=nn.Linear(16, 3))
    x, y = blobs(20, 5, 3)
    return well("self loops", model, ((x, graph(20, isolated=False)), y), F.cross_entropy)


def cosine_of_a_padding_row() -> Situation:
    seed(1)
    model = nn.Embedding(30, 16, padding_idx=0)
    tokens = torch.randint(1, 30, (16, 2))
    tokens[3] = 0

    def loss(o, y):
        a, b = o[:, 0], o[:, 1]
        cosine = (a * b).sum(-1) / (a.norm(dim=-1) * b.norm(dim=-1))
        return (cosine - y).pow(2).mean()

    y = torch.rand(16) * 2 - 1
    return sick("cosine of a zero row", NON_FINITE, model, (tokens, y), loss, words=("div|0 / 0",))


def cosine_of_a_padding_row_by_torch() -> Situation:
    seed(1)
    model = nn.Sequential(nn.Embedding(30, 16, padding_idx=0), nn.Linear(16, 16))
    tokens = torch.randint(1, 30, (16, 2))
    tokens[3] = 0

    def loss(o, y):
        return (F.cosine_similarity(o[:, 0], o[:, 1], dim=-1) - y).pow(2).mean()

    return well("cosine with eps", model, (tokens, torch.rand(16) * 2 - 1), loss)


def focal_loss_of_a_sure_answer() -> Situation:
    seed(2)
    model = mlp(6, 32, 3)
    with torch.no_grad():
        model[-1].weight *= 500
    x, y = blobs(64, 6, 3)

    def loss(o, y):
        p = o.softmax(-1).gather(1, y[:, None]).clamp_min(1e-7)
        return (-((1 - p) ** 0.5) * p.log()).mean()

    return sick("focal loss with gamma 0.5", NON_FINITE, model, (x, y), loss, words=("pow",))


def focal_loss_with_gamma_two() -> Situation:
    seed(2)
    x, y = blobs(64, 6, 3)

    def loss(o, y):
        log_p = o.log_softmax(-1).gather(1, y[:, None])
        return -((1 - log_p.exp()) ** 2 * log_p).sum()

    return well("focal loss, sum", mlp(6, 32, 3), (x, y), loss)


def minibatch_deviation_of_one_image(eps: float) -> tuple:
    def forward(m, x):
        h = torch.relu(m.conv(x))
        deviation = (h.var(0, unbiased=False) + eps).sqrt().mean().expand(len(x), 1)
        return m.out(torch.cat([h.mean((2, 3)), deviation], 1))

    return With(forward, conv=nn.Conv2d(3, 8, 3, padding=1), out=nn.Linear(9, 1))


def deviation_over_a_batch_of_one() -> Situation:
    seed(3)
    model = minibatch_deviation_of_one_image(0.0)
    batch = torch.randn(1, 3, 8, 8)
    return sick(
        "batch deviation, batch 1",
        NON_FINITE,
        model,
        batch,
        lambda o: F.softplus(o).mean(),
        words=("sqrt",),
    )


def deviation_over_a_batch_of_one_with_eps() -> Situation:
    seed(3)
    model = minibatch_deviation_of_one_image(1e-8)
    return well("with eps", model, torch.randn(4, 3, 8, 8), lambda o: F.softplus(o).mean())


def weight_of_the_first_diffusion_step() -> Situation:
    seed(4)
    alpha = torch.linspace(1.0, 0.01, 32)

    def loss(o, noise):
        weight = alpha / (1 - alpha)
        return (weight[:, None] * (o - noise) ** 2).mean()

    batch = (torch.randn(32, 12), torch.randn(32, 12))
    return sick("SNR at step 0", NON_FINITE, mlp(12, 64, 12, act=nn.SiLU), batch, loss)


def weight_of_the_first_diffusion_step_capped() -> Situation:
    seed(4)
    alpha = torch.linspace(1.0, 0.01, 32)

    def loss(o, noise):
        weight = (alpha / (1 - alpha)).clamp(max=5.0)
        return (weight[:, None] * (o - noise) ** 2).mean()

    batch = (torch.randn(32, 12), torch.randn(32, 12))
    return well("SNR with a cap", mlp(12, 64, 12, act=nn.SiLU), batch, loss)


def divergence_from_a_one_hot_target() -> Situation:
    seed(5)
    x, y = blobs(48, 6, 4)

    def loss(o, y):
        return (y * (y.log() - o.log_softmax(-1))).sum(-1).mean()

    batch = (x, F.one_hot(y, 4).float())
    return sick("0 log 0 in the target", NON_FINITE, mlp(6, 32, 4), batch, loss, words=("log|mul",))


def divergence_from_a_one_hot_target_by_torch() -> Situation:
    seed(5)
    x, y = blobs(48, 6, 4)

    def loss(o, y):
        return F.kl_div(o.log_softmax(-1), y, reduction="batchmean")

    return well("kl_div of one-hot", mlp(6, 32, 4), (x, F.one_hot(y, 4).float()), loss)


def ratio_to_a_policy_far_away() -> Situation:
    seed(6)

    def loss(o, action):
        new = torch.distributions.Normal(o, 1.0).log_prob(action).sum(-1)
        ratio = (new - (new.detach() - 120)).exp()
        return -(ratio * torch.ones(len(o))).mean()

    batch = (torch.randn(64, 8), torch.randn(64, 6))
    return sick(
        "importance ratio", NON_FINITE, mlp(8, 32, 6, act=nn.Tanh), batch, loss, words=("exp",)
    )


def heading_of_a_zero_head() -> Situation:
    seed(7)
    model = mlp(6, 32, 2)
    nn.init.zeros_(model[-1].weight)
    nn.init.zeros_(model[-1].bias)

    def loss(o, y):
        return (torch.atan2(o[:, 1], o[:, 0]) - y).pow(2).mean()

    return sick(
        "atan2(0, 0)",
        ZERO,
        model,
        (torch.randn(32, 6), torch.rand(32)),
        loss,
        words=("atan2",),
        why="torch gives atan2 the slope 0 there, so nothing ever moves",
    )


def heading_by_its_sine_and_cosine() -> Situation:
    seed(7)
    model = mlp(6, 32, 2)
    angle = torch.rand(32) * 6
    y = torch.stack([angle.cos(), angle.sin()], 1)
    return well("unit vector", model, (torch.randn(32, 6), y), lambda o, y: 1e6 * F.mse_loss(o, y))


def two_masks_added_in_half_precision() -> Situation:
    seed(8)
    low = torch.finfo(torch.float16).min

    def forward(m, x, pad):
        q, k, v = m.qkv(x).chunk(3, -1)
        causal = torch.full((x.shape[1],) * 2, low, dtype=x.dtype).triu(1)
        scores = q @ k.mT / 4 + causal + pad[:, None] * low
        return m.out(scores.softmax(-1) @ v)

    model = With(forward, qkv=nn.Linear(16, 48), out=nn.Linear(16, 5)).half()
    pad = torch.zeros(4, 6, dtype=torch.float16)
    pad[1] = 1  # a sequence of padding only, seen with the causal mask beside it
    pad[:, :2] = 1
    scores = torch.randn(4, 6, 16).half()

    def loss(o, y):
        return F.cross_entropy(o.float().flatten(0, 1), y.flatten())

    batch = ((scores, pad * 2), torch.randint(0, 5, (4, 6)))
    return sick("masks add up to -Inf", NON_FINITE, model, batch, loss, words=("65504",))


def whitening_of_equal_eigenvalues() -> Situation:
    seed(9)
    model = nn.Linear(4, 4).double()
    nn.init.orthogonal_(model.weight)

    def loss(o):
        values, vectors = torch.linalg.eigh(o.mT @ o)
        return (vectors[0] * values).sum()

    return sick(
        "eigh of equal eigenvalues",
        NON_FINITE,
        With(lambda m, x: x @ m.w.weight * 2, w=model),
        torch.eye(4).double(),
        loss,
        words=("eigh",),
    )


def counts_with_features_of_a_thousand() -> Situation:
    seed(10)
    x = torch.randn(64, 5) * 3000
    y = torch.poisson(torch.full((64, 1), 3.0))
    return sick(
        "Poisson loss overflows",
        ({"non_finite"}, {"non_finite", "unscaled"}),
        nn.Linear(5, 1),
        (x, y),
        F.poisson_nll_loss,
        words=("exp|poisson",),
    )


def counts_with_standardized_features() -> Situation:
    seed(10)
    y = torch.poisson(torch.full((512, 1), 3.0))
    return well("Poisson loss", mlp(5, 32, 1), (torch.randn(512, 5), y), F.poisson_nll_loss)


def speech(o, y):
    n, t = o.shape[:2]
    lengths = torch.full((n,), t), torch.full((n,), y.shape[1])
    return F.ctc_loss(o.log_softmax(-1).transpose(0, 1), y, *lengths)


def speech_recognizer() -> Situation:
    seed(11)
    model = With(
        lambda m, x: m.out(m.rnn(x)[0]),
        rnn=nn.GRU(12, 24, bidirectional=True, batch_first=True),
        out=nn.Linear(48, 10),
    ).double()
    batch = (torch.randn(6, 30, 12).double(), torch.randint(1, 10, (6, 8)))
    return well("CTC in float64", model, batch, speech)


def mixture_density(o, y):
    logits, mean, log_scale = o.chunk(3, -1)
    parts = torch.distributions.Normal(mean, log_scale.exp()).log_prob(y)
    return -(logits.log_softmax(-1) + parts).logsumexp(-1).mean()


def mixture_density_in_the_log_domain() -> Situation:
    seed(12)
    return well("mixture density", mlp(3, 48, 15, act=nn.Tanh), line(256, 3), mixture_density)


def mixture_density_with_a_tiny_scale() -> Situation:
    seed(12)

    def loss(o, y):
        logits, mean, scale = o.chunk(3, -1)
        scale = torch.relu(scale)
        parts = torch.exp(-0.5 * ((y - mean) / scale) ** 2) / scale
        return -(logits.softmax(-1) * parts).sum(-1).log().mean()

    return sick(
        "scale by relu is 0",
        NON_FINITE,
        mlp(3, 48, 15, act=nn.Tanh),
        line(256, 3),
        loss,
        words=("div|/ 0|pow",),
    )


# ---------------------------------------------------------------- A2: losses that differentiate


def gradient(out, x):
    return torch.autograd.grad(out, x, create_graph=True)[0]


def smooth(*widths, act=nn.Tanh):
    model = mlp(*widths, act=act)
    for layer in model:
        if isinstance(layer, nn.Linear):
            nn.init.xavier_normal_(layer.weight)
            nn.init.zeros_(layer.bias)
    return model


def poisson_equation() -> Situation:
    seed(20)
    x = torch.rand(512, 2, dtype=torch.float64).requires_grad_()

    def loss(u):
        first = gradient(u.sum(), x)
        second = sum(gradient(first[:, i].sum(), x)[:, i] for i in range(2))
        return (second + 1).pow(2).mean() + u.pow(2).mean()

    return well("Poisson equation, float64", smooth(2, 32, 32, 32, 1).double(), x, loss)


def discriminator() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, 2, 1),
        nn.LeakyReLU(0.2),
        nn.Conv2d(8, 16, 3, 2, 1),
        nn.LeakyReLU(0.2),
        nn.Flatten(),
        nn.Linear(64, 1),
    )


def zero_centered_penalty_of_a_discriminator() -> Situation:
    seed(21)
    x = torch.randn(16, 1, 8, 8, requires_grad=True)

    def loss(o):
        return F.softplus(-o).sum() + 5 * gradient(o.sum(), x).pow(2).sum()

    return well("R1 with sums", discriminator(), x, loss)


def penalty_at_interpolates() -> Situation:
    # caogang/wgan-gp#4: the interpolates are made by hand, the critic runs on them in the loss
    seed(22)
    model = discriminator()
    real, fake = torch.randn(8, 1, 8, 8), torch.randn(8, 1, 8, 8)

    def loss(o):
        t = torch.rand(8, 1, 1, 1)
        between = (t * real + (1 - t) * fake).requires_grad_()
        norm = gradient(model(between).sum(), between).flatten(1).norm(dim=1)
        return model(fake).mean() - o.mean() + 10 * (norm - 1).pow(2).mean()

    return well("WGAN-GP", model, real, loss, source="caogang/wgan-gp#4")


def penalty_of_a_critic_that_is_flat() -> Situation:
    seed(22)
    model = discriminator()
    nn.init.zeros_(model[-1].weight)
    x = torch.randn(8, 1, 8, 8, requires_grad=True)

    def loss(o):
        norm = gradient(o.sum(), x).pow(2).sum((1, 2, 3)).sqrt()
        return -o.mean() + 10 * (norm - 1).pow(2).mean()

    return sick("norm of a zero gradient", NON_FINITE, model, x, loss, words=("sqrt",))


def inner_loop(detach: bool):
    model = mlp(4, 32, 1, act=nn.Tanh)
    (x, y), (x2, y2) = line(10, 4), line(10, 4)

    def loss(o, y):
        names, values = zip(*model.named_parameters(), strict=True)
        grads = torch.autograd.grad(F.mse_loss(o, y), values, create_graph=True)
        fast = {n: v - 0.1 * g for n, v, g in zip(names, values, grads, strict=True)}
        if detach:
            fast = {n: v.detach() for n, v in fast.items()}
        return F.mse_loss(functional_call(model, fast, (x2,)), y2) + 0 * o.sum()

    return model, (x, y), loss


def learning_to_learn() -> Situation:
    seed(23)
    return well("MAML", *inner_loop(False))


def learning_to_learn_detached() -> Situation:
    seed(23)
    return sick("MAML with detached fast weights", NOTHING_ARRIVES, *inner_loop(True))


def energy(m, position):
    i, j = torch.triu_indices(position.shape[1], position.shape[1], 1)
    distance = (position[:, i] - position[:, j]).pow(2).sum(-1).sqrt()
    return m.net(distance[..., None]).sum((1, 2))


def forces() -> Situation:
    seed(24)
    model = With(energy, net=smooth(1, 32, 32, 1, act=nn.SiLU)).double()
    position = torch.randn(8, 5, 3, dtype=torch.float64, requires_grad=True)
    target = torch.randn(8, 5, 3, dtype=torch.float64)

    def loss(e):
        return 1e-6 * (-gradient(e.sum(), position) - target).pow(2).mean()

    return well(
        "forces, loss x 1e-6",
        model,
        position,
        loss,
        kinds=HEALTHY,
        why="the last bias moves no force: an energy has no zero of its own",
    )


def forces_with_two_atoms_at_one_place() -> Situation:
    seed(24)
    model = With(energy, net=smooth(1, 32, 32, 1, act=nn.SiLU))
    position = torch.randn(8, 5, 3)
    position[2, 1] = position[2, 0]
    position.requires_grad_()

    def loss(e):
        return gradient(e.sum(), position).pow(2).mean()

    return sick("distance 0", NON_FINITE, model, position, loss, words=("sqrt|div",))


def jacobian_of_every_sample() -> Situation:
    seed(25)
    model = smooth(3, 32, 3)
    x, y = torch.randn(16, 3), torch.randn(16, 3)

    def loss(o, y):
        state = dict(model.named_parameters())
        jacobian = vmap(jacrev(lambda v: functional_call(model, state, (v,))))(x)
        return F.mse_loss(o, y) + 0.01 * (jacobian.mT @ jacobian - torch.eye(3)).pow(2).mean()

    return well("jacrev under vmap", model, (x, y), loss)


def hamiltonian(m, x):
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        d = gradient(m.net(x).sum(), x)
    return torch.cat([d[:, 1:], -d[:, :1]], 1)


def hamiltonian_network() -> Situation:
    seed(26)
    model = With(hamiltonian, net=smooth(2, 64, 64, 1))
    return well(
        "Hamiltonian network",
        model,
        (torch.randn(128, 2), torch.randn(128, 2)),
        F.mse_loss,
        why="the last bias has no effect on a derivative, by construction",
    )


def score_matching_by_slices() -> Situation:
    seed(27)
    x = torch.randn(64, 4, requires_grad=True)

    def loss(score):
        v = torch.randn(64, 4)
        slope = gradient((score * v).sum(), x)
        return ((slope * v).sum(1) + 0.5 * score.pow(2).sum(1)).mean()

    return well("sliced score matching", smooth(4, 32, 4, act=nn.Softplus), x, loss)


def virtual_adversary() -> Situation:
    seed(28)
    x, y = blobs(32, 6, 3)
    model = mlp(6, 32, 3)

    def loss(o, y):
        d = 0.1 * torch.randn(32, 6)
        d.requires_grad_()
        p = o.detach().softmax(-1)
        far = F.kl_div(model(x + d).log_softmax(-1), p, reduction="batchmean")
        r = F.normalize(torch.autograd.grad(far, d)[0], dim=1)
        near = F.kl_div(model(x + r).log_softmax(-1), p, reduction="batchmean")
        return F.cross_entropy(o, y) + near

    return well("virtual adversarial training", model, (x, y), loss)


def wave_equation_by_a_sigmoid_tower() -> Situation:
    seed(29)
    x = torch.rand(64, 2, requires_grad=True)

    def loss(u):
        return (gradient(u.sum(), x)[:, 0] - 1).pow(2).mean() + u.pow(2).mean()

    return sick(
        "16 sigmoid layers under a PDE",
        {"vanishing"},
        mlp(2, *[32] * 16, 1, act=nn.Sigmoid),
        x,
        loss,
    )


def inverse_problem_with_its_coefficient_left_out() -> Situation:
    seed(30)
    x = torch.rand(128, 1, requires_grad=True)
    model = With(lambda m, x: m.net(x), net=smooth(1, 32, 32, 1))
    model.viscosity = nn.Parameter(torch.tensor(0.3))

    def loss(u):
        first = gradient(u.sum(), x)
        second = gradient(first.sum(), x)
        return (first - model.viscosity * second - 1).pow(2).mean() + u.pow(2).mean()

    return sick(
        "coefficient not in the optimizer",
        {"not_optimized"},
        model,
        x,
        loss,
        optimizer=torch.optim.Adam(model.net.parameters(), lr=1e-3),
        words=("viscosity",),
    )


def curvature_of_a_piecewise_linear_net() -> Situation:
    seed(31)
    x = torch.randn(32, 3, requires_grad=True)

    def loss(o):
        first = gradient(o.sum(), x)
        second = torch.autograd.grad(first.sum(), x, create_graph=True, materialize_grads=True)[0]
        return (second + 1).pow(2).mean()

    return sick(
        "second derivative of LeakyReLU",
        (*NOTHING_ARRIVES, {"not_connected", "zero_gradient"}),
        mlp(3, 32, 1, act=nn.LeakyReLU),
        x,
        loss,
    )


def all_weights_equal_under_a_pde() -> Situation:
    seed(32)
    x = torch.rand(64, 2, requires_grad=True)
    model = mlp(2, 32, 32, 1, act=nn.Tanh)
    for p in model.parameters():
        nn.init.constant_(p, 0.1)

    def loss(u):
        return (gradient(u.sum(), x).sum(1) - 1).pow(2).mean() + u.pow(2).mean()

    return sick("constant weights under a PDE", {"symmetric"}, model, x, loss)


class Curve(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = smooth(1, 32, 32, 1)

    def forward(self, batch):
        return {"value": self.net(batch["points"])}


def slope_and_value_of_a_curve() -> Situation:
    seed(33)
    x = torch.randn(100, 1, requires_grad=True)

    def loss(o, y):
        slope = gradient(o["value"].sum(), x)
        return 1e6 * (F.mse_loss(o["value"], y) + F.mse_loss(slope, x.detach().cos()))

    return well("Sobolev training, dict", Curve(), ({"points": x}, x.detach().sin()), loss)


# ---------------------------------------------------------------- A3: zero gradient


def hash_codes() -> Situation:
    seed(40)
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(32, 16)
    )
    model = With(lambda m, x: torch.sign(m.net(x)), net=net)
    batch = (torch.randn(32, 3, 8, 8), torch.randn(32, 16).sign())
    return sick("hashing by sign", ZERO, model, batch, F.mse_loss, words=("sign",))


def hash_codes_passed_straight_through() -> Situation:
    seed(40)
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(32, 16)
    )

    def forward(m, x):
        h = m.net(x)
        return h + (h.sign() - h).detach()

    batch = (torch.randn(32, 3, 8, 8), torch.randn(32, 16).sign())
    return well("hashing, straight through", With(forward, net=net), batch, F.mse_loss)


def overlap(o, y, general: bool):
    low, high = torch.maximum(o[:, :2], y[:, :2]), torch.minimum(o[:, 2:], y[:, 2:])
    inner = (high - low).clamp(min=0).prod(1)
    area = (o[:, 2:] - o[:, :2]).prod(1) + (y[:, 2:] - y[:, :2]).prod(1) - inner
    hull = (torch.maximum(o[:, 2:], y[:, 2:]) - torch.minimum(o[:, :2], y[:, :2])).prod(1)
    return (1 - inner / area + general * (hull - area) / hull).mean()


def boxes(m, x):
    corner, size = m.net(x).chunk(2, 1)
    return torch.cat([corner, corner + F.softplus(size)], 1)


def boxes_that_do_not_meet() -> Situation:
    seed(41)
    corner = 50 + torch.rand(32, 2)
    batch = (torch.randn(32, 6), torch.cat([corner, corner + 1], 1))
    return sick(
        "IoU of boxes apart",
        ZERO,
        With(boxes, net=mlp(6, 32, 4)),
        batch,
        lambda o, y: overlap(o, y, False),
        words=("clamp|prod",),
    )


def boxes_that_do_not_meet_with_a_hull() -> Situation:
    seed(41)
    corner = 2 + torch.rand(32, 2)
    batch = (torch.randn(32, 6), torch.cat([corner, corner + 1], 1))
    return well(
        "generalized IoU", With(boxes, net=mlp(6, 32, 4)), batch, lambda o, y: overlap(o, y, True)
    )


def class_by_comparison() -> Situation:
    # google-deepmind/dm-haiku#442: the answer is picked by its maximum inside the loss
    seed(42)
    x, y = blobs(30, 6, 3)

    def loss(o, y):
        hard = (o == o.amax(-1, keepdim=True)).float()
        return (hard - F.one_hot(y, 3)).abs().mean()

    return sick(
        "comparison in the loss",
        NOTHING_ARRIVES,
        mlp(6, 32, 3),
        (x, y),
        loss,
        source="google-deepmind/dm-haiku#442",
    )


def spikes(surrogate: bool):
    def forward(m, x):
        v, total = 0, 0
        for _ in range(5):
            v = 0.8 * v + m.inner(x)
            fired = (v > 0.5).float()
            if surrogate:
                soft = torch.sigmoid(4 * (v - 0.5))
                fired = soft + (fired - soft).detach()
            total = total + fired
            v = v - fired.detach()
        return m.out(total)

    return With(forward, inner=nn.Linear(6, 32), out=nn.Linear(32, 3))


def spikes_by_comparison() -> Situation:
    seed(43)
    return sick(
        "spikes without a surrogate",
        NOTHING_ARRIVES,
        spikes(False),
        blobs(30, 6, 3),
        F.cross_entropy,
        words=("inner",),
    )


def spikes_with_a_surrogate() -> Situation:
    seed(43)
    return well("spikes with a surrogate", spikes(True), blobs(30, 6, 3), F.cross_entropy)


def surrogate_objective(shift: float):
    def loss(o, action):
        new = o.log_softmax(-1).gather(1, action[:, None])[:, 0]
        ratio = (new - new.detach() + shift).exp()
        gain = torch.ones(len(o))
        return -torch.minimum(ratio * gain, ratio.clamp(0.8, 1.2) * gain).mean()

    return loss


def policy_beyond_its_clip() -> Situation:
    seed(44)
    return sick(
        "all ratios clipped",
        ({"zero_gradient"}, {"undecided"}),
        mlp(4, 32, 2),
        (torch.randn(64, 4), torch.randint(0, 2, (64,))),
        surrogate_objective(1.0),
    )


def policy_at_its_first_epoch() -> Situation:
    seed(44)
    return well(
        "ratios are 1",
        mlp(4, 32, 2, act=nn.Tanh),
        (torch.randn(64, 4), torch.randint(0, 2, (64,))),
        surrogate_objective(0.0),
    )


def margin_that_nothing_reaches() -> Situation:
    seed(45)
    y = -torch.ones(32)

    def loss(o, y):
        return F.cosine_embedding_loss(o[:, :8], o[:, 8:], y, margin=1.0)

    return sick("cosine margin 1", ZERO, mlp(6, 32, 16), (torch.randn(32, 6), y), loss)


def margin_that_some_reach() -> Situation:
    seed(45)

    def loss(o, y):
        return F.cosine_embedding_loss(o[:, :8], o[:, 8:], y, margin=0.2, reduction="sum")

    y = torch.randn(32).sign()
    return well("cosine margin 0.2", mlp(6, 32, 16), (torch.randn(32, 6), y), loss)


def detached_on_the_wrong_side() -> Situation:
    seed(46)

    def forward(m, x):
        h = m.encoder(x)
        return m.decoder(h.round() + (h - h.round()).detach() * 0)

    model = With(forward, encoder=mlp(8, 16, 4), decoder=mlp(4, 16, 8))
    x = torch.randn(64, 8)
    return sick(
        "straight through, reversed", ZERO, model, (x, x), F.mse_loss, words=("round", "encoder")
    )


def mean_of_probabilities() -> Situation:
    seed(47)
    x, _ = blobs(64, 6, 5)
    return sick(
        "mean of a softmax",
        ZERO,
        mlp(6, 32, 5),
        x,
        lambda o: o.softmax(-1).mean(),
        why="the probabilities of a row add up to 1 whatever the weights are",
    )


def gate_out_of_its_range() -> Situation:
    seed(48)
    model = With(
        lambda m, x: m.value(x) * F.hardsigmoid(m.gate(x) - 20),
        value=mlp(6, 16, 3),
        gate=nn.Linear(6, 3),
    )
    return sick(
        "hard gate shut",
        ({"zero_gradient"}, {"saturated"}, {"zero_gradient", "saturated"}, {"dead"}),
        model,
        blobs(30, 6, 3),
        F.cross_entropy,
    )


def gate_in_its_range() -> Situation:
    seed(48)
    model = With(
        lambda m, x: m.value(x) * F.hardsigmoid(m.gate(x)),
        value=mlp(6, 16, 3),
        gate=nn.Linear(6, 3),
    )
    return well("hard gate", model, blobs(30, 6, 3), F.cross_entropy)


def ranks_of_scores() -> Situation:
    seed(49)

    def loss(o, y):
        rank = o.flatten().argsort().argsort().float()
        return (rank - y.flatten().argsort().argsort()).pow(2).mean() + 0 * o.mean()

    return sick("ranks", NOTHING_ARRIVES, mlp(5, 16, 1), line(64, 5), loss)


def sorted_scores() -> Situation:
    seed(49)

    def loss(o, y):
        return F.l1_loss(o.flatten().sort().values, y.flatten().sort().values)

    return well("sorted values", mlp(5, 16, 1), line(64, 5), loss)


def codes_of_three_levels_with_a_checkpoint() -> Situation:
    seed(50)

    def forward(m, x):
        h = checkpoint(m.encoder, x, use_reentrant=False)
        return m.decoder(h + (h.tanh().mul(2).round().div(2) - h).detach())

    model = With(forward, encoder=mlp(8, 16, 4), decoder=mlp(4, 16, 8))
    x = torch.randn(64, 8)
    return well("finite scalar quantization, checkpoint", model, (x, x), F.mse_loss)


# ---------------------------------------------------------------- A5: not registered


def activations_with_weights_in_a_list() -> Situation:
    # allenai/allennlp#4101: activations in a list are harmless until one of them has a weight
    seed(60)
    model = With(None, a=nn.Linear(6, 32), b=nn.Linear(32, 3))
    model.acts = [nn.PReLU(32)]
    model.forward_of = lambda m, x: m.b(m.acts[0](m.a(x)))
    return sick(
        "PReLU in a list",
        UNREGISTERED,
        model,
        blobs(30, 6, 3),
        F.cross_entropy,
        words=("acts",),
        remedy=("ModuleList",),
        source="allenai/allennlp#4101",
    )


def activations_without_weights_in_a_list() -> Situation:
    seed(60)
    model = With(None, a=nn.Linear(6, 32), b=nn.Linear(32, 3))
    model.acts = [nn.ReLU(), nn.CrossEntropyLoss()]
    model.forward_of = lambda m, x: m.b(m.acts[0](m.a(x)))
    return well("ReLU in a list", model, blobs(30, 6, 3), F.cross_entropy)


class Encoder(nn.Module):
    def __init__(self, registered: bool):
        super().__init__()
        self.embed = nn.Embedding(20, 16)
        position = 0.02 * torch.randn(1, 8, 16)
        self.position = nn.Parameter(position) if registered else position.requires_grad_()
        self.block = nn.TransformerEncoderLayer(16, 2, 32, dropout=0.0, batch_first=True)
        self.out = nn.Linear(16, 20)

    def forward(self, tokens):
        return self.out(self.block(self.embed(tokens) + self.position))


def next_token(o, y):
    return F.cross_entropy(o.flatten(0, 1), y.flatten())


def positions_as_a_tensor() -> Situation:
    seed(61)
    tokens = torch.randint(0, 20, (8, 8))
    return sick(
        "position table is a tensor",
        UNREGISTERED,
        Encoder(False),
        (tokens, tokens),
        next_token,
        words=("position",),
        remedy=("nn.Parameter",),
    )


def positions_as_a_parameter() -> Situation:
    seed(61)
    tokens = torch.randint(0, 20, (8, 8))
    return well("position table", Encoder(True), (tokens, tokens), next_token)


def first_state_of_an_rnn() -> Situation:
    seed(62)
    model = With(
        lambda m, x: m.out(m.rnn(x, m.h0.expand(1, len(x), 16).contiguous())[0][:, -1]),
        rnn=nn.GRU(4, 16, batch_first=True),
        out=nn.Linear(16, 3),
    )
    model.h0 = torch.zeros(1, 1, 16, requires_grad=True)
    batch = (torch.randn(16, 7, 4), torch.randint(0, 3, (16,)))
    return sick(
        "initial state is a tensor", UNREGISTERED, model, batch, F.cross_entropy, words=("h0",)
    )


def buffer_that_wants_a_gradient() -> Situation:
    seed(63)
    model = With(
        lambda m, x: m.out(torch.relu(m.inner(x)) * m.scale),
        inner=nn.Linear(6, 32),
        out=nn.Linear(32, 3),
    )
    model.register_buffer("scale", torch.ones(32).requires_grad_())
    return sick(
        "buffer with requires_grad",
        UNREGISTERED,
        model,
        blobs(30, 6, 3),
        F.cross_entropy,
        words=("scale",),
    )


def layers_in_a_deque() -> Situation:
    from collections import deque

    seed(64)
    model = With(None, first=nn.Linear(6, 16), last=nn.Linear(16, 3))
    model.middle = deque(nn.Linear(16, 16) for _ in range(3))

    def forward(m, x):
        h = torch.relu(m.first(x))
        for layer in m.middle:
            h = torch.relu(layer(h))
        return m.last(h)

    model.forward_of = forward
    return sick(
        "layers in a deque",
        UNREGISTERED,
        model,
        blobs(30, 6, 3),
        F.cross_entropy,
        words=("middle",),
        optimizer=torch.optim.Adam(model.parameters(), lr=1e-3),
    )


def head_outside_of_the_model() -> Situation:
    seed(65)
    head = nn.Linear(16, 3)
    model = With(lambda m, x: head(torch.relu(m.body(x))), body=nn.Linear(6, 16))
    return sick("head is a global", UNREGISTERED, model, blobs(30, 6, 3), F.cross_entropy)


def towers_in_a_list_of_a_child() -> Situation:
    # pytorch/pytorch#715: a list of lists, here two levels down, in float64
    seed(66)
    child = With(None, mix=nn.Linear(12, 3))
    child.towers = [[nn.Linear(6, 4), nn.Tanh()] for _ in range(3)]
    child.forward_of = lambda m, x: m.mix(torch.cat([t[1](t[0](x)) for t in m.towers], 1))
    for tower in child.towers:
        tower[0].double()
    model = nn.Sequential(nn.Linear(6, 6), child).double()
    x, y = blobs(30, 6, 3)
    return sick(
        "towers in a list of lists",
        UNREGISTERED,
        model,
        (x.double(), y),
        F.cross_entropy,
        words=("towers",),
        source="pytorch/pytorch#715",
    )


def kernel_cast_after_it_was_made() -> Situation:
    seed(67)
    model = With(
        lambda m, x: m.out(F.conv1d(x, m.kernel, padding=1).relu().mean(-1)), out=nn.Linear(8, 3)
    )
    model.kernel = nn.Parameter(torch.randn(8, 4, 3, dtype=torch.float64) * 0.3).float()
    batch = (torch.randn(16, 4, 20), torch.randint(0, 3, (16,)))
    return sick(
        "Parameter cast to float", UNREGISTERED, model, batch, F.cross_entropy, words=("kernel",)
    )


def dictionaries_of_modules() -> Situation:
    seed(68)
    model = With(
        lambda m, x: {k: h(torch.relu(m.body(x))) for k, h in m.heads.items()},
        body=nn.Linear(6, 32),
        heads=nn.ModuleDict({k: nn.Linear(32, 3) for k in "ab"}),
    )
    return well(
        "ModuleDict",
        model,
        blobs(30, 6, 3),
        lambda o, y: F.cross_entropy(o["a"], y) + F.cross_entropy(o["b"], y),
    )


def parameters_in_their_list() -> Situation:
    seed(69)
    weights = nn.ParameterList([nn.Parameter(torch.randn(6, 6) / 6**0.5) for _ in range(3)])

    def forward(m, x):
        for w in m.weights:
            x = torch.tanh(x @ w)
        return m.out(x)

    return well(
        "ParameterList",
        With(forward, weights=weights, out=nn.Linear(6, 3)),
        blobs(30, 6, 3),
        F.cross_entropy,
    )


def teacher_by_moving_average_in_a_tuple() -> Situation:
    import copy

    seed(70)
    student = mlp(6, 32, 8)
    teacher = copy.deepcopy(student).requires_grad_(False)
    model = With(
        lambda m, x: (m.student(x), m.hidden[0](x + 0.1 * torch.randn_like(x))), student=student
    )
    model.hidden = (teacher,)
    return well(
        "EMA teacher in a tuple",
        model,
        torch.randn(30, 6),
        lambda o: F.mse_loss(o[0], o[1].detach() + 0.3),
    )


def spectral_norm_of_a_critic() -> Situation:
    seed(71)
    norm = nn.utils.parametrizations.spectral_norm
    model = nn.Sequential(norm(nn.Linear(6, 32)), nn.LeakyReLU(0.2), norm(nn.Linear(32, 1)))
    return well("spectral norm", model, torch.randn(64, 6), lambda o: F.relu(1 - o).mean())


def a_code_per_shape() -> Situation:
    seed(72)
    codes = torch.randn(32, 4, requires_grad=True)
    model = With(lambda m, c, p: m.net(torch.cat([c, p], 1)), net=mlp(7, 64, 1))
    return well(
        "codes trained beside the weights",
        model,
        ((codes, torch.randn(32, 3)), torch.randn(32, 1)),
        F.mse_loss,
    )


def tied_embedding() -> Situation:
    seed(73)
    model = With(
        lambda m, t: m.out(torch.tanh(m.mix(m.embed(t)))),
        embed=nn.Embedding(30, 32),
        mix=nn.Linear(32, 32),
        out=nn.Linear(32, 30, bias=False),
    )
    nn.init.normal_(model.embed.weight, std=0.1)
    model.out.weight = model.embed.weight
    model.layers = [model.mix, model.out]
    tokens = torch.randint(0, 30, (8, 12))
    return well("tied weights, listed twice", model, (tokens, tokens.roll(-1, 1)), next_token)


def low_rank_parametrization() -> Situation:
    seed(74)

    class LowRank(nn.Module):
        def __init__(self, w):
            super().__init__()
            self.a = nn.Parameter(torch.randn(2, w.shape[1]) / w.shape[1] ** 0.5)
            self.b = nn.Parameter(torch.randn(w.shape[0], 2) * 0.1)

        def forward(self, w):
            return w + self.b @ self.a

    model = mlp(6, 32, 3)
    for layer in (model[0], model[2]):
        nn.utils.parametrize.register_parametrization(layer, "weight", LowRank(layer.weight))
        layer.parametrizations.weight.original.requires_grad_(False)
    return well("LoRA by parametrization", model, blobs(30, 6, 3), F.cross_entropy)


# ---------------------------------------------------------------- A4: optimizer and its updates


def classifier() -> nn.Sequential:
    return mlp(6, 32, 32, 3)


def under(name, kinds, make, loss=F.cross_entropy, model=None, **more) -> Situation:
    """A small classifier under the optimizer that `make` makes of the model."""
    model = model or classifier()
    return sick(name, kinds, model, blobs(60, 6, 3), loss, optimizer=make(model), **more)


def other_player_in_the_optimizer() -> Situation:
    seed(80)
    generator = mlp(4, 32, 6)
    return under(
        "generator's parameters for the critic",
        {"not_optimized"},
        lambda m: torch.optim.Adam(generator.parameters(), lr=2e-4),
    )


def biases_left_out_by_their_name() -> Situation:
    seed(81)
    return under(
        "only names with weight",
        {"not_optimized"},
        lambda m: torch.optim.AdamW([p for n, p in m.named_parameters() if "weight" in n], lr=1e-3),
        words=("bias",),
    )


def vocabulary_extended_after_the_optimizer() -> Situation:
    seed(82)
    model = With(
        lambda m, t: m.out(torch.tanh(m.mix(m.embed(t)))),
        embed=nn.Embedding(30, 16),
        mix=nn.Linear(16, 16),
        out=nn.Linear(16, 32),
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    larger = nn.Embedding(32, 16)
    larger.weight.data[:30] = model.embed.weight.data
    model.embed = larger
    tokens = torch.randint(0, 32, (8, 12))
    return sick(
        "embedding replaced by a larger one",
        {"not_optimized"},
        model,
        (tokens, tokens),
        next_token,
        optimizer=optimizer,
        words=("embed",),
    )


def rate_below_the_last_digit() -> Situation:
    seed(83)
    return under("lr 1e-11", {"update_size"}, lambda m: torch.optim.SGD(m.parameters(), lr=1e-11))


def rate_of_ten_in_a_transformer() -> Situation:
    seed(84)
    model = Encoder(True)
    tokens = torch.randint(0, 20, (8, 8))
    return sick(
        "Adam at lr 10",
        {"update_size"},
        model,
        (tokens, tokens),
        next_token,
        optimizer=torch.optim.Adam(model.parameters(), lr=10),
    )


def loss_of_a_million_under_gradient_descent() -> Situation:
    seed(85)
    return under(
        "loss x 1e6, SGD",
        {"update_size"},
        lambda m: torch.optim.SGD(m.parameters(), lr=0.05),
        lambda o, y: 1e6 * F.cross_entropy(o, y),
    )


def sum_over_a_large_batch_at_a_large_rate() -> Situation:
    seed(86)
    model = mlp(6, 32, 1)
    return sick(
        "sum over 512 samples",
        {"update_size"},
        model,
        line(512, 6),
        lambda o, y: F.mse_loss(o, y, reduction="sum"),
        optimizer=torch.optim.SGD(model.parameters(), lr=0.5),
    )


def every_group_at_rate_zero() -> Situation:
    # huggingface/transformers#34754: a warm-up multiplies the first step by 0; here it never ends
    seed(87)
    return under(
        "two groups, both at 0",
        {"update_size"},
        lambda m: torch.optim.AdamW(
            [{"params": m[0].parameters(), "lr": 0.0}, {"params": m[2:].parameters(), "lr": 0.0}]
        ),
    )


def head_only_without_a_freeze() -> Situation:
    seed(88)
    return under(
        "linear probe, backbone not frozen",
        {"not_optimized"},
        lambda m: torch.optim.SGD(m[-1].parameters(), lr=0.1),
    )


def cast_after_the_optimizer() -> Situation:
    seed(90)
    model = classifier()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    model.double()
    x, y = blobs(60, 6, 3)
    return well(
        "double() after the optimizer", model, (x.double(), y), F.cross_entropy, optimizer=optimizer
    )


def line_search() -> Situation:
    seed(91)
    return under("LBFGS", HEALTHY, lambda m: torch.optim.LBFGS(m.parameters(), lr=0.1))


def sparse_embedding_with_its_own_adam() -> Situation:
    seed(92)
    model = With(
        lambda m, t: m.out(m.embed(t).mean(1)),
        embed=nn.Embedding(50, 16, sparse=True),
        out=nn.Linear(16, 3),
    )
    batch = (torch.randint(0, 50, (32, 5)), torch.randint(0, 3, (32,)))
    return well(
        "SparseAdam",
        model,
        batch,
        F.cross_entropy,
        optimizer=torch.optim.SparseAdam(model.embed.parameters(), lr=1e-3),
        kinds=({"healthy"}, {"not_optimized"}),
        why="one of two optimizers in use: the other holds the head",
    )


class TwoSteps(torch.optim.Optimizer):
    """Sharpness-aware: needs the closure."""

    def __init__(self, params, lr):
        super().__init__(params, {"lr": lr})

    def step(self, closure=None):
        assert closure is not None, "needs a closure"
        with torch.enable_grad():
            closure()
        for group in self.param_groups:
            for p in group["params"]:
                p.data.add_(p.grad, alpha=-group["lr"])


def optimizer_that_needs_a_closure() -> Situation:
    seed(93)
    return under("sharpness-aware", HEALTHY, lambda m: TwoSteps(m.parameters(), 0.05))


def decay_for_the_matrices_only() -> Situation:
    seed(94)
    return under(
        "two groups",
        HEALTHY,
        lambda m: torch.optim.AdamW(
            [
                {"params": [p for p in m.parameters() if p.ndim > 1], "weight_decay": 0.1},
                {"params": [p for p in m.parameters() if p.ndim < 2], "weight_decay": 0.0},
            ],
            lr=3e-4,
        ),
    )


def optimizer_that_has_run() -> Situation:
    seed(95)
    model = classifier()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, amsgrad=True)
    x, y = blobs(60, 6, 3)
    for _ in range(5):
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()
    return well("amsgrad after 5 steps", model, (x, y), F.cross_entropy, optimizer=optimizer)


def temperature_held_beside_the_model() -> Situation:
    seed(96)
    temperature = nn.Parameter(torch.tensor(2.0))
    return under(
        "loss with a weight of its own",
        HEALTHY,
        lambda m: torch.optim.AdamW([*m.parameters(), temperature], lr=1e-3),
        lambda o, y: F.cross_entropy(o * temperature, y),
    )


def factored_moments() -> Situation:
    seed(97)
    return under("Adafactor", HEALTHY, lambda m: torch.optim.Adafactor(m.parameters()))


def rate_as_a_tensor() -> Situation:
    seed(98)
    return under(
        "lr is a tensor",
        HEALTHY,
        lambda m: torch.optim.AdamW(m.parameters(), lr=torch.tensor(1e-3), foreach=False),
    )


def rms_and_others() -> Situation:
    seed(99)
    return under(
        "RMSprop, loss x 1e-6",
        HEALTHY,
        lambda m: torch.optim.RMSprop(m.parameters(), lr=1e-3, eps=1e-16),
        lambda o, y: 1e-6 * F.cross_entropy(o, y),
    )


def resilient_steps() -> Situation:
    seed(100)
    return under("Rprop", HEALTHY, lambda m: torch.optim.Rprop(m.parameters(), lr=1e-3))


# ---------------------------------------------------------------- A7: experts


def routed(m, x, top=1, renormalize=False, straight=True):
    p = m.router(x).softmax(-1)
    weight, index = p.topk(top, -1)
    if renormalize:
        weight = weight / weight.sum(-1, keepdim=True)
    out = torch.zeros(*x.shape[:-1], 16, dtype=x.dtype)
    for e, expert in enumerate(m.experts):
        rows, k = (index == e).nonzero(as_tuple=True)
        if len(rows):
            out = out.index_add(0, rows, weight[rows, k, None] * expert(x[rows]))
    return m.out(x + out) if straight else m.out(out)


def experts(n=8, forward=routed, registered=True, **options) -> With:
    layers = [mlp(16, 32, 16) for _ in range(n)]
    return With(
        lambda m, x: forward(m, x, **options),
        router=nn.Linear(16, n, bias=False),
        experts=nn.ModuleList(layers) if registered else layers,
        out=nn.Linear(16, 3),
    )


def top_one_weight_that_is_always_one() -> Situation:
    seed(110)
    return sick(
        "renormalized top-1",
        NOTHING_ARRIVES,
        experts(4, renormalize=True),
        blobs(64, 16, 3),
        F.cross_entropy,
        words=("router",),
    )


def experts_in_a_plain_list() -> Situation:
    seed(111)
    return sick(
        "experts in a list",
        UNREGISTERED,
        experts(4, registered=False),
        blobs(64, 16, 3),
        F.cross_entropy,
        words=("experts",),
    )


def outputs_written_into_data() -> Situation:
    seed(112)

    def forward(m, x):
        out = torch.zeros_like(x)
        index = m.router(x).argmax(-1)
        for e, expert in enumerate(m.experts):
            out.data[index == e] = expert(x[index == e])
        return m.out(x + out)

    return sick(
        "experts written into .data",
        {"not_connected"},
        experts(3, forward),
        blobs(64, 16, 3),
        F.cross_entropy,
        words=("experts", "router"),
    )


def experts_that_answer_nothing() -> Situation:
    seed(113)
    model = experts(3)
    for expert in model.experts:
        nn.init.constant_(expert[0].bias, -60.0)
    return sick(
        "all hidden units of the experts are dead",
        {"dead"},
        model,
        blobs(96, 16, 3),
        F.cross_entropy,
        words=("experts",),
    )


def expert_added_after_the_optimizer() -> Situation:
    seed(114)
    model = experts(4)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    model.experts.append(mlp(16, 32, 16))
    model.router = nn.Linear(16, 5, bias=False)
    return sick(
        "one expert more",
        {"not_optimized"},
        model,
        blobs(64, 16, 3),
        F.cross_entropy,
        optimizer=optimizer,
        words=("router",),
    )


def experts_chosen_without_a_weight() -> Situation:
    seed(115)

    def forward(m, x):
        index = m.router(x).argmax(-1)
        stacked = torch.stack([e(x) for e in m.experts], 1)
        return m.out(x + stacked[torch.arange(len(x)), index])

    return sick(
        "hard choice, no weight",
        {"not_connected"},
        experts(4, forward),
        blobs(64, 16, 3),
        F.cross_entropy,
        words=("router",),
    )


def tower_under_no_grad() -> Situation:
    seed(116)

    def forward(m, x):
        with torch.no_grad():
            h = m.experts[0](x)
        return m.out(x + h * m.router(x)[:, :1] + m.experts[1](x))

    return sick(
        "an expert under no_grad",
        {"not_connected"},
        experts(2, forward),
        blobs(64, 16, 3),
        F.cross_entropy,
        words=("experts.0",),
    )


def every_expert_alike() -> Situation:
    seed(117)
    model = experts(
        4,
        lambda m, x: m.out(
            (m.router(x).softmax(-1)[:, None] * torch.stack([e(x) for e in m.experts], -1)).sum(-1)
        ),
    )
    for expert in model.experts:
        for p in expert.parameters():
            nn.init.constant_(p, 0.1)
    return sick(
        "units of every expert are equal", {"symmetric"}, model, blobs(64, 16, 3), F.cross_entropy
    )


def soft_mixture() -> Situation:
    seed(120)
    model = experts(
        4,
        lambda m, x: m.out(
            (m.router(x).softmax(-1)[:, None] * torch.stack([e(x) for e in m.experts], -1)).sum(-1)
        ),
    )
    return well("soft mixture", model, blobs(64, 16, 3), F.cross_entropy)


def one_token_and_sixteen_experts() -> Situation:
    seed(121)
    model = experts(16, top=2)
    return well("batch of 2, 16 experts, top 2", model, blobs(2, 16, 2), F.cross_entropy)


def one_token_float64() -> Situation:
    seed(122)
    x, y = torch.randn(1, 16).double(), torch.tensor([2])
    return well("one token, 8 experts", experts(8).double(), (x, y), F.cross_entropy)


def experts_choose_their_tokens() -> Situation:
    seed(123)

    def forward(m, x):
        p = m.router(x).softmax(-1)
        out = torch.zeros_like(x)
        for e, expert in enumerate(m.experts):
            weight, rows = p[:, e].topk(4)
            out = out.index_add(0, rows, weight[:, None] * expert(x[rows]))
        return m.out(x + out)

    return well("expert choice", experts(6, forward), blobs(32, 16, 3), F.cross_entropy)


def adapters_per_language() -> Situation:
    seed(124)

    def forward(m, x, language):
        return m.out(x + m.adapters[language](x))

    model = With(
        forward,
        out=nn.Linear(16, 3),
        adapters=nn.ModuleDict({k: mlp(16, 8, 16) for k in ("de", "en", "fr", "fi")}),
    )
    x, y = blobs(32, 16, 3)
    return well(
        "adapters of other languages",
        model,
        {"x": x, "language": "fr", "y": y},
        F.cross_entropy,
        kinds=QUIET,
    )


def tokens_that_skip_the_block() -> Situation:
    seed(125)

    def forward(m, x):
        weight, rows = m.router(x)[:, 0].sigmoid().topk(8)
        h = x.index_add(0, rows, weight[:, None] * m.experts[0](x[rows]))
        return m.out(h)

    model = experts(1, forward)
    return well("mixture of depths", model, blobs(64, 16, 3), F.cross_entropy)


def experts_as_stacked_weights() -> Situation:
    seed(126)

    def forward(m, x):
        p, index = m.router(x).softmax(-1).max(-1)
        h = torch.einsum("bi,bio->bo", x, m.first[index]).relu()
        return m.out(x + p[:, None] * torch.einsum("bi,bio->bo", h, m.second[index]))

    model = With(forward, router=nn.Linear(16, 8), out=nn.Linear(16, 3))
    model.first = nn.Parameter(torch.randn(8, 16, 32) * (2 / 16) ** 0.5)
    model.second = nn.Parameter(torch.randn(8, 32, 16) * (2 / 32) ** 0.5)
    x, y = blobs(12, 16, 3)
    return well("stacked experts in bfloat16", model.bfloat16(), (x.bfloat16(), y), F.cross_entropy)


def balanced_by_an_extra_loss() -> Situation:
    seed(127)

    def forward(m, x):
        p = m.router(x).softmax(-1)
        share = F.one_hot(p.argmax(-1), p.shape[-1]).float().mean(0)
        return routed(m, x, top=2, renormalize=True), len(share) * (share * p.mean(0)).sum()

    return well(
        "top 2 and a balance loss",
        experts(8, forward),
        blobs(128, 16, 3),
        lambda o, y: F.cross_entropy(o[0], y) + 0.01 * o[1],
    )


def modalities_missing_in_a_batch() -> Situation:
    seed(128)

    def forward(m, text=None, image=None):
        parts = [m.text(text)] if text is not None else []
        parts += [m.image(image)] if image is not None else []
        return m.out(torch.relu(sum(parts)))

    model = With(forward, text=nn.Linear(8, 16), image=nn.Linear(12, 16), out=nn.Linear(16, 3))
    return well(
        "no image in this batch",
        model,
        {"text": torch.randn(32, 8), "image": None, "labels": torch.randint(0, 3, (32,))},
        F.cross_entropy,
        kinds=QUIET,
    )


# ---------------------------------------------------------------- A10: nested outputs and batches


class Boxed:
    """An object with the outputs as attributes, as pipelines have it."""

    def __init__(self, **values):
        self.__dict__.update(values)


def wide(softmax=False, classes=10):
    """A classifier, with its softmax or without."""
    return mlp(12, 64, classes, tail=(nn.Softmax(-1),) if softmax else ())


def probabilities_two_levels_down() -> Situation:
    seed(140)
    model = With(lambda m, x: {"heads": [{"class": m.net(x)}], "step": 3}, net=wide(True))
    return sick(
        "dict in a list in a dict",
        {"double_softmax"},
        model,
        blobs(60, 12, 10),
        lambda o, y: F.cross_entropy(o["heads"][0]["class"], y),
    )


def probabilities_in_a_user_dict() -> Situation:
    from collections import UserDict

    seed(141)
    model = With(lambda m, x: UserDict(logits=m.net(x)), net=wide(True))
    return sick(
        "UserDict",
        {"double_softmax"},
        model,
        blobs(60, 12, 10),
        lambda o, y: F.cross_entropy(o["logits"], y),
    )


def probabilities_of_the_second_head() -> Situation:
    seed(142)
    model = With(lambda m, x: Boxed(a=m.a(x), b=m.b(x)), a=wide(), b=wide(True))
    return sick(
        "second head is a softmax",
        {"double_softmax"},
        model,
        blobs(60, 12, 10),
        lambda o, y: F.cross_entropy(o.a, y) + F.cross_entropy(o.b, y),
        words=("b",),
    )


def loss_alone_from_a_deep_sigmoid_net() -> Situation:
    seed(143)

    def forward(m, pixels, labels):
        return F.cross_entropy(m.net(pixels), labels)

    model = With(forward, net=mlp(12, *[32] * 14, 10, act=nn.Sigmoid))
    x, y = blobs(60, 12, 10)
    return sick(
        "model returns its loss, 14 sigmoid layers",
        {"vanishing"},
        model,
        {"pixels": x, "labels": y},
    )


def autoencoder_whose_encoder_is_dead() -> Situation:
    seed(144)

    def forward(m, x):
        h = m.encoder(x)
        mean, log_variance = m.mean(h), m.log_variance(h)
        z = mean + torch.randn_like(mean) * (0.5 * log_variance).exp()
        return m.decoder(z), mean, log_variance

    def loss(o, x):
        kl = -0.5 * (1 + o[2] - o[1].pow(2) - o[2].exp()).sum(1).mean()
        return F.mse_loss(o[0], x, reduction="sum") / len(x) + kl

    encoder = nn.Sequential(nn.Linear(12, 32), nn.ReLU())
    nn.init.constant_(encoder[0].bias, -40.0)
    model = With(
        forward,
        encoder=encoder,
        mean=nn.Linear(32, 4),
        log_variance=nn.Linear(32, 4),
        decoder=mlp(4, 32, 12),
    )
    x = torch.randn(64, 12)
    return sick("VAE with a dead encoder", {"dead"}, model, (x, x), loss, words=("encoder",))


def variational_autoencoder() -> Situation:
    seed(144)

    def forward(m, x):
        mean, log_variance = m.encoder(x).chunk(2, 1)
        z = mean + torch.randn_like(mean) * (0.5 * log_variance).exp()
        return {"x": m.decoder(z), "posterior": (mean, log_variance)}

    def loss(o, x):
        mean, log_variance = o["posterior"]
        kl = -0.5 * (1 + log_variance - mean.pow(2) - log_variance.exp()).sum(1).mean()
        return F.mse_loss(o["x"], x, reduction="sum") / len(x) + kl

    x = torch.randn(64, 12)
    return well("VAE", With(forward, encoder=mlp(12, 32, 8), decoder=mlp(4, 32, 12)), (x, x), loss)


def distribution(m, x):
    mean, raw = m.net(x).chunk(2, -1)
    return torch.distributions.Normal(mean, m.scale(raw))


def output_is_a_distribution() -> Situation:
    seed(145)
    model = With(distribution, net=mlp(3, 32, 2), scale=nn.Softplus())
    return well("Normal as output", model, line(128, 3), lambda d, y: -d.log_prob(y).mean())


def scale_that_is_zero() -> Situation:
    seed(145)

    def loss(d, y):
        return (0.5 * ((y - d.mean) / d.stddev) ** 2 + d.stddev.log()).mean()

    def forward(m, x):
        mean, raw = m.net(x).chunk(2, -1)
        return Boxed(mean=mean, stddev=torch.relu(raw))

    model = With(forward, net=mlp(3, 32, 2))
    nn.init.constant_(model.net[-1].bias, -0.2)
    return sick(
        "scale 0 of a distribution",
        NON_FINITE,
        model,
        line(128, 3),
        loss,
        words=("div|log|/ 0|pow",),
    )


def loss_in_a_dict_that_overflows() -> Situation:
    seed(146)

    def forward(m, x, labels):
        o = m.net(x)
        p = o.exp() / o.exp().sum(-1, keepdim=True)
        return {"loss": F.nll_loss(p.log(), labels), "logits": o}

    x, y = blobs(60, 12, 10)
    return sick(
        "exp in the model's own loss",
        ({"non_finite"}, {"non_finite", "unscaled"}),
        With(forward, net=wide()),
        {"x": x * 4000, "labels": y},
        words=("exp",),
    )


def answer_without_its_input() -> Situation:
    seed(147)

    def forward(m, x):
        h = m.body(x)
        return {"out": m.head(h - h), "hidden": h}

    model = With(forward, body=mlp(6, 32, 16), head=nn.Linear(16, 1))
    return sick(
        "h - h in a dict",
        (
            {"constant_output"},
            {"not_connected"},
            {"zero_gradient"},
            {"constant_output", "zero_gradient"},
        ),
        model,
        line(64, 6),
        lambda o, y: F.mse_loss(o["out"], y),
    )


def packed_sequences() -> Situation:
    seed(148)
    pack, pad = nn.utils.rnn.pack_padded_sequence, nn.utils.rnn.pad_packed_sequence

    def forward(m, x, lengths):
        return m.rnn(pack(x, lengths, batch_first=True, enforce_sorted=False))[0]

    def loss(o, y):
        return pad(o, batch_first=True)[0].sum((1, 2)).sub(y).pow(2).mean() / 50

    model = With(forward, rnn=nn.LSTM(4, 16, batch_first=True))
    batch = ((torch.randn(8, 9, 4), torch.randint(2, 10, (8,))), torch.randn(8))
    return well("PackedSequence", model, batch, loss)


class Detector(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 16, 3), nn.Linear(16, 4)

    def forward(self, images):
        return [self.head(self.conv(i[None]).relu().mean((2, 3)))[0] for i in images]


def images_of_different_sizes() -> Situation:
    seed(149)

    def loss(o, y):
        return sum(F.cross_entropy(a, b) for a, b in zip(o, y, strict=True)) / len(o)

    images = [torch.randn(3, 8 + i, 9) for i in range(6)]
    return well("list of images", Detector(), (images, torch.arange(6) % 4), loss)


def outputs_with_none_and_text_and_integers() -> Situation:
    seed(150)
    model = With(
        lambda m, x: (None, m.net(x), "tag", m.net(x).argmax(-1), {"k": 3, "n": None}), net=wide()
    )
    return well(
        "None, text, integers", model, blobs(60, 12, 10), lambda o, y: F.cross_entropy(o[1], y)
    )


def spectrum_of_a_signal() -> Situation:
    seed(151)
    model = With(lambda m, x: torch.fft.rfft(m.net(x)), net=mlp(16, 64, 16))
    x = torch.randn(64, 16)
    return well(
        "complex output", model, (x, torch.fft.rfft(x)), lambda o, y: (o - y).abs().pow(2).mean()
    )


def batch_as_an_object() -> Situation:
    seed(152)

    def forward(m, data):
        messages = m.message(data.x)[data.edges[0]]
        h = torch.zeros(len(data.x), 16).index_add(0, data.edges[1], messages).relu()
        return m.out(m.own(data.x) + h)

    data = Boxed(
        x=torch.randn(40, 6), edges=torch.randint(0, 40, (2, 120)), y=torch.randint(0, 3, (40,))
    )
    model = With(forward, message=nn.Linear(6, 16), own=nn.Linear(6, 16), out=nn.Linear(16, 3))
    return well("graph object", model, data, lambda o: F.cross_entropy(o, data.y))


class Trainable(nn.Module):
    """As a LightningModule is written: the loss is in a step, and logs go to a trainer."""

    def __init__(self, net):
        super().__init__()
        self.net, self.trainer = net, None

    def log(self, name, value):
        raise RuntimeError("not attached to a trainer")

    def forward(self, x):
        return self.net(x)

    def training_step(self, batch, index):
        x, y = batch
        loss = F.cross_entropy(self(x), y)
        self.log("loss", loss)
        return loss


def module_with_a_training_step() -> Situation:
    seed(153)
    return well(
        "training_step beside forward", Trainable(wide()), blobs(60, 12, 10), F.cross_entropy
    )


def module_with_a_training_step_and_a_softmax() -> Situation:
    seed(153)
    return sick(
        "training_step and a softmax",
        {"double_softmax"},
        Trainable(wide(True)),
        blobs(60, 12, 10),
        F.cross_entropy,
    )


def losses_per_sample() -> Situation:
    seed(154)

    def forward(m, x, y):
        return {"loss": F.cross_entropy(m.net(x), y, reduction="sum"), "count": len(x)}

    x, y = blobs(256, 12, 10)
    return well("loss is a sum in a dict", With(forward, net=wide()), {"x": x, "y": y})


# ---------------------------------------------------------------- A11: activations at the output


def loud(model, factor=200.0, bias=0.0):
    """The same network with a last linear layer that is far too loud."""
    last = [m for m in model.modules() if isinstance(m, nn.Linear | nn.Conv2d)][-1]
    with torch.no_grad():
        last.weight *= factor
        last.bias += bias
    return model


def masks_by_a_loud_sigmoid() -> Situation:
    seed(160)
    model = nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 1, 1), nn.Sigmoid()
    )
    loud(model, 1.0, bias=60.0)
    y = (torch.rand(4, 1, 8, 8) < 0.1).float()

    def loss(p, y):
        return 1 - (2 * (p * y).sum() + 1) / (p.sum() + y.sum() + 1)

    return sick(
        "Dice of a mask that is all on", {"saturated"}, model, (torch.randn(4, 1, 8, 8), y), loss
    )


def logarithm_with_eps_of_a_sure_sigmoid() -> Situation:
    seed(161)
    model = loud(mlp(6, 32, 1, tail=(nn.Sigmoid(),)), 3000)
    y = torch.randint(0, 2, (64, 1)).float()

    def loss(p, y):
        return -(y * (p + 1e-7).log() + (1 - y) * (1 - p + 1e-7).log()).mean()

    return sick("BCE with eps by hand", {"saturated"}, model, (torch.randn(64, 6), y), loss)


def logarithm_with_eps_of_a_fresh_sigmoid() -> Situation:
    seed(161)
    model = mlp(6, 32, 1, tail=(nn.Sigmoid(),))
    y = torch.randint(0, 2, (64, 1)).float()

    def loss(p, y):
        return -(y * (p + 1e-7).log() + (1 - y) * (1 - p + 1e-7).log()).sum()

    return well("BCE with eps, fresh", model, (torch.randn(64, 6), y), loss)


def targets_beyond_a_loud_tanh() -> Situation:
    seed(162)
    x, y = line(128, 5)
    return sick(
        "tanh output far out, float64",
        {"saturated"},
        loud(mlp(5, 32, 1, tail=(nn.Tanh(),)), 500).double(),
        (x.double(), y.double()),
        F.mse_loss,
    )


def recurrent_regression_with_a_dead_relu() -> Situation:
    # keras-team/keras#3687: an RNN with a ReLU at its output predicts zero for everything
    seed(163)
    model = With(
        lambda m, x: torch.relu(m.out(m.rnn(x)[0])),
        rnn=nn.LSTM(4, 16, batch_first=True),
        out=nn.Linear(16, 1),
    )
    nn.init.constant_(model.out.bias, -3.0)
    return sick(
        "RNN regression behind a ReLU",
        {"dead"},
        model,
        (torch.randn(16, 10, 4), torch.rand(16, 10, 1)),
        F.mse_loss,
        source="keras-team/keras#3687",
    )


def times_behind_a_dead_relu_in_a_dict() -> Situation:
    # ProteomicsML/ProteomicsML#203: an LSTM that returns 0 for all peptides
    seed(164)

    def forward(m, x):
        h = m.body(x)
        return {"time": m.time(h).relu(), "class": m.kind(h)}

    model = With(
        forward,
        body=mlp(6, 32, 16, tail=(nn.ReLU(),)),
        time=nn.Linear(16, 1),
        kind=nn.Linear(16, 3),
    )
    nn.init.constant_(model.time.bias, -20.0)
    x, y = blobs(64, 6, 3)
    return sick(
        "one of two heads behind a dead ReLU",
        {"dead"},
        model,
        (x, y),
        lambda o, y: F.cross_entropy(o["class"], y) + F.l1_loss(o["time"], y[:, None] + 1.0),
        words=("time",),
        source="ProteomicsML/ProteomicsML#203",
    )


def actor_at_its_stops() -> Situation:
    seed(165)
    actor = loud(mlp(6, 32, 2, act=nn.Tanh, tail=(nn.Tanh(),)), 300)
    critic = lambda state, action: -(action - state[:, :2].clamp(-0.5, 0.5)).pow(2).sum(1)
    state = torch.randn(128, 6)
    return sick(
        "actor saturated, best action within",
        {"saturated"},
        actor,
        state,
        lambda a: -critic(state, a).mean(),
    )


def actor_that_is_fresh() -> Situation:
    seed(165)
    actor = mlp(6, 32, 2, act=nn.Tanh, tail=(nn.Tanh(),))
    state = torch.randn(128, 6)
    return well(
        "fresh actor",
        actor,
        state,
        lambda a: (a - state[:, :2].clamp(-0.5, 0.5)).pow(2).sum(1).mean(),
    )


def classes_by_a_loud_softmax() -> Situation:
    seed(166)
    model = loud(mlp(6, 32, 4, tail=(nn.Softmax(-1),)), 2000)
    y = F.one_hot(torch.randint(0, 4, (64,)), 4).float()
    return sick(
        "softmax sure and wrong, Brier score",
        {"saturated"},
        model,
        (torch.randn(64, 6), y),
        lambda p, y: (p - y).pow(2).sum(1).mean(),
    )


def classes_by_a_fresh_softmax() -> Situation:
    seed(166)
    x, y = blobs(64, 6, 4)
    return well(
        "Brier score",
        mlp(6, 32, 4, tail=(nn.Softmax(-1),)),
        (x, F.one_hot(y, 4).float()),
        lambda p, y: (p - y).pow(2).sum(1).mean(),
    )


def discriminator_that_is_sure() -> Situation:
    seed(167)
    generator = mlp(4, 32, 6)
    judge = loud(mlp(6, 32, 1), 1.0, bias=-40.0).requires_grad_(False)

    return sick(
        "log(1 - D) of a sure D",
        ({"saturated"}, {"zero_gradient"}, {"vanishing"}),
        With(lambda m, z: torch.sigmoid(m.judge(m.generator(z))), generator=generator, judge=judge),
        torch.randn(64, 4),
        lambda p: (1 - p).log().mean(),
    )


def discriminator_that_is_sure_other_loss() -> Situation:
    seed(167)
    generator = mlp(4, 32, 6)
    judge = loud(mlp(6, 32, 1), 1.0, bias=-4.0).requires_grad_(False)
    return well(
        "-log D of a sure D",
        With(lambda m, z: m.judge(m.generator(z)), generator=generator, judge=judge),
        torch.randn(64, 4),
        lambda o: F.softplus(-o).mean(),
    )


def counts_by_an_exponential() -> Situation:
    seed(168)
    model = With(lambda m, x: m.net(x).exp(), net=mlp(5, 32, 1))
    y = torch.poisson(torch.full((256, 1), 3.0))
    return well(
        "exp output, Poisson",
        model,
        (torch.randn(256, 5), y),
        lambda r, y: (r - y * r.log()).mean(),
    )


def embeddings_on_the_sphere() -> Situation:
    seed(169)
    model = With(lambda m, x: F.normalize(m.net(x), dim=1), net=mlp(8, 64, 32))
    x = torch.randn(64, 8)
    x[32:] = x[:32] + 0.1 * torch.randn(32, 8)

    def loss(z):
        scores = z[:32] @ z[32:].T / 0.07
        y = torch.arange(32)
        return (F.cross_entropy(scores, y) + F.cross_entropy(scores.T, y)) / 2

    return well("contrastive on the sphere", model, x, loss)


def quantiles_by_increments() -> Situation:
    seed(170)
    model = With(
        lambda m, x: m.net(x)[:, :1] + F.softplus(m.net(x)[:, 1:]).cumsum(1), net=mlp(5, 32, 4)
    )
    q = torch.tensor([0.25, 0.5, 0.75])

    def loss(o, y):
        d = y - o
        return torch.maximum(q * d, (q - 1) * d).mean()

    return well("monotone quantiles", model, line(128, 5), loss)


def preferences() -> Situation:
    seed(171)
    model = mlp(8, 32, 1)

    def loss(o):
        return -F.logsigmoid(0.1 * (o[:16] - o[16:])).mean()

    return well("preference loss by logsigmoid", model, torch.randn(32, 8), loss)


def images_by_a_fresh_tanh_generator() -> Situation:
    seed(172)
    model = nn.Sequential(
        nn.ConvTranspose2d(8, 16, 4),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.ConvTranspose2d(16, 1, 4, 2, 1),
        nn.Tanh(),
    )
    target = (torch.rand(16, 1, 8, 8) * 2 - 1).clamp(-0.9, 0.9)
    return well("tanh generator", model, (torch.randn(16, 8, 1, 1), target), F.l1_loss)


def classes_that_are_known_and_sure() -> Situation:
    seed(173)
    x, y = blobs(90, 6, 3)
    model = nn.Sequential(nn.Linear(6, 3), nn.LogSoftmax(-1))
    centers = torch.stack([x[y == k].mean(0) for k in range(3)])
    with torch.no_grad():
        model[0].weight.copy_(60 * centers)
        model[0].bias.copy_(-30 * centers.pow(2).sum(1))
    return well("sure and right log-softmax", model, (x, y), F.nll_loss)


class Language(nn.Module):
    """As small language models are written: the loss comes with the logits, if targets do."""

    def __init__(self):
        super().__init__()
        self.embed, self.out = nn.Embedding(20, 32), nn.Linear(32, 20)

    def forward(self, tokens, targets=None):
        logits = self.out(torch.tanh(self.embed(tokens)))
        return logits, None if targets is None else next_token(logits, targets)


def targets_as_second_argument_and_no_loss() -> Situation:
    seed(180)
    tokens = torch.randint(0, 20, (8, 12))
    return well(
        "model(tokens, targets) returns (logits, loss)", Language(), (tokens, tokens.roll(-1, 1))
    )


def normalized_features_summed() -> Situation:
    seed(181)
    return sick(
        "sum of a layer norm",
        ZERO,
        mlp(6, 32, 16, tail=(nn.LayerNorm(16, bias=False),)),
        torch.randn(64, 6),
        lambda o: o.sum(),
        why="the features of a sample add up to 0 whatever the weights are",
    )


def length_of_unit_vectors() -> Situation:
    seed(182)
    return sick(
        "squared length of unit vectors",
        ZERO,
        mlp(6, 32, 16),
        torch.randn(64, 6),
        lambda o: F.normalize(o, dim=1).pow(2).sum(1).mean(),
    )


def entropy_of_an_untrained_classifier() -> Situation:
    seed(183)

    def loss(o):
        p = o.softmax(-1)
        return (p * p.log()).sum(-1).mean() - (p.mean(0) * p.mean(0).log()).sum()

    return well("information maximization", mlp(6, 32, 5), torch.randn(64, 6), loss)


def bias_before_a_batch_norm() -> Situation:
    seed(184)
    model = nn.Sequential(
        nn.Conv2d(3, 16, 3), nn.BatchNorm2d(16), nn.ReLU(), nn.Flatten(), nn.Linear(16 * 36, 4)
    )
    return well(
        "bias before a norm",
        model,
        (torch.randn(32, 3, 8, 8), torch.arange(32) % 4),
        F.cross_entropy,
    )


def attention_that_is_nearly_uniform() -> Situation:
    seed(185)

    def forward(m, x):
        q, k, v = m.qkv(x).chunk(3, -1)
        return m.out((q @ k.mT / 1e3).softmax(-1) @ v).mean(1)

    model = With(forward, qkv=nn.Linear(16, 48), out=nn.Linear(16, 3))
    return well(
        "attention at temperature 1000",
        model,
        (torch.randn(16, 8, 16), torch.randint(0, 3, (16,))),
        F.cross_entropy,
        kinds=QUIET,
    )
