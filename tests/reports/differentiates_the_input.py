"""Losses and models that differentiate by their input (A2): a verdict, the loss called once on the model's own output."""

import torch
import torch.nn.functional as F
from reports.situation import QUIET, Situation, blobs, mlp, seed
from torch import nn


def design_input() -> Situation:
    seed(0)
    xr = torch.randn(8, 4).requires_grad_()
    return Situation(
        "loss with autograd.grad(o.sum(), xr)",
        nn.Linear(4, 4),
        xr,
        lambda o: torch.autograd.grad(o.sum(), xr, create_graph=True)[0].pow(2).mean() + o.mean(),
        source="outside.md A2",
    )


def heat_equation() -> Situation:
    # pnnl/neuromancer#154: "One of the differentiated Tensors appears to not have been used in the graph"
    seed(1)
    xt = torch.rand(64, 2).requires_grad_()

    def loss(u):
        g = torch.autograd.grad(u.sum(), xt, create_graph=True)[0]
        uxx = torch.autograd.grad(g[:, 0].sum(), xt, create_graph=True)[0][:, 0]
        return (g[:, 1] - 0.1 * uxx).pow(2).mean() + u.pow(2).mean()

    return Situation(
        "PINN of the heat equation",
        mlp(2, 32, 32, 1, act=nn.Tanh),
        xt,
        loss,
        source="pnnl/neuromancer#154",
    )


def neumann_boundary() -> Situation:
    # erfanhamdi/pinn-torch#1: derivatives at the boundary points
    seed(2)
    x = torch.tensor([[0.0], [1.0]]).repeat(8, 1).requires_grad_()

    def loss(u):
        du = torch.autograd.grad(u.sum(), x, create_graph=True)[0]
        return (du[::2] - du[1::2]).pow(2).mean() + (u[::2] - u[1::2]).pow(2).mean()

    return Situation(
        "periodic boundary by derivatives",
        mlp(1, 32, 1, act=nn.Tanh),
        x,
        loss,
        kinds=QUIET,
        source="erfanhamdi/pinn-torch#1",
        why="two different inputs only: at most a note",
    )


def r1_penalty() -> Situation:
    seed(3)
    x = torch.randn(32, 4).requires_grad_()

    def loss(d):
        g = torch.autograd.grad(d.sum(), x, create_graph=True)[0]
        return F.softplus(-d).mean() + 5 * g.pow(2).sum(1).mean()

    return Situation(
        "discriminator with R1 penalty",
        mlp(4, 32, 32, 1, act=nn.LeakyReLU),
        x,
        loss,
        source="outside.md A2",
    )


def wgan_gradient_penalty() -> Situation:
    # caogang/wgan-gp#4, igul222/improved_wgan_training#18: the penalty runs the critic again on mixtures
    seed(4)
    critic = mlp(4, 32, 32, 1, act=nn.LeakyReLU)
    real, fake = torch.randn(32, 4), torch.randn(32, 4) + 1

    def loss(o):
        mix = (real + torch.rand(32, 1) * (fake - real)).requires_grad_()
        g = torch.autograd.grad(critic(mix).sum(), mix, create_graph=True)[0]
        return o[32:].mean() - o[:32].mean() + 10 * (g.norm(dim=1) - 1).pow(2).mean()

    return Situation(
        "WGAN-GP: the loss calls the critic again",
        critic,
        torch.cat([real, fake]),
        loss,
        source="caogang/wgan-gp#4",
    )


def smart_regularizer() -> Situation:
    # archinetai/smart-pytorch#5: gradient of the loss with respect to noise on the input
    seed(5)
    model = mlp(4, 32, 3, act=nn.Tanh)
    x, y = blobs(32, 4, 3)

    def loss(o, y):
        noise = (1e-2 * torch.randn_like(x)).requires_grad_()
        off = F.mse_loss(model(x + noise), o.detach())
        step = torch.autograd.grad(off, noise)[0]
        return F.cross_entropy(o, y) + F.mse_loss(model(x + 1e-2 * step.sign()), o)

    return Situation(
        "SMART: adversarial smoothness inside the loss",
        model,
        (x, y),
        loss,
        source="archinetai/smart-pytorch#5",
    )


def contractive_autoencoder() -> Situation:
    seed(6)
    x = torch.randn(32, 6).requires_grad_()

    class AE(nn.Module):
        def __init__(self):
            super().__init__()
            self.enc, self.dec = nn.Linear(6, 3), nn.Linear(3, 6)

        def forward(self, x):
            h = torch.tanh(self.enc(x))
            return self.dec(h), h

    def loss(o):
        g = torch.autograd.grad(o[1].sum(), x, create_graph=True)[0]
        return F.mse_loss(o[0], x) + 0.1 * g.pow(2).sum(1).mean()

    return Situation("contractive autoencoder", AE(), x, loss, source="outside.md A2 (contractive)")


class Potential(nn.Module):
    """Energy of points and its forces."""

    def __init__(self):
        super().__init__()
        self.net = mlp(4, 32, 1, act=nn.SiLU)

    def forward(self, r):
        r = r if r.requires_grad else r.requires_grad_()
        energy = self.net(r)
        force = -torch.autograd.grad(energy.sum(), r, create_graph=True)[0]
        return energy, force


def forces_inside_forward() -> Situation:
    seed(7)
    return Situation(
        "interatomic potential: forces by autograd in forward",
        Potential(),
        (torch.randn(32, 4), (torch.randn(32, 1), torch.randn(32, 4))),
        lambda o, t: F.mse_loss(o[0], t[0]) + F.mse_loss(o[1], t[1]),
        source="outside.md A2 (in forward)",
    )


def double_backward_of_a_score() -> Situation:
    seed(8)
    x = torch.randn(32, 2).requires_grad_()

    def loss(s):
        trace = sum(
            torch.autograd.grad(s[:, i].sum(), x, create_graph=True)[0][:, i] for i in range(2)
        )
        return (0.5 * s.pow(2).sum(1) + trace).mean()

    return Situation(
        "score matching with the trace of the Jacobian",
        mlp(2, 32, 2, act=nn.Softplus),
        x,
        loss,
        source="outside.md A2 (score matching)",
    )


def input_in_a_pair() -> Situation:
    seed(9)
    x, y = blobs(32, 4, 3)
    x = x.requires_grad_()

    def loss(o, y):
        g = torch.autograd.grad(o.logsumexp(1).sum(), x, create_graph=True)[0]
        return F.cross_entropy(o, y) + 0.1 * g.pow(2).mean()

    return Situation(
        "input gradient in a batch (x, y)",
        mlp(4, 32, 3, act=nn.Tanh),
        (x, y),
        loss,
        source="outside.md A2",
    )


def input_in_a_dict() -> Situation:
    seed(10)

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = mlp(4, 32, 3, act=nn.Tanh)

        def forward(self, features):
            return self.net(features)

    x, y = blobs(32, 4, 3)
    x = x.requires_grad_()

    def loss(o, y):
        g = torch.autograd.grad(o.sum(), x, create_graph=True)[0]
        return F.cross_entropy(o, y) + 0.1 * g.pow(2).mean()

    return Situation(
        "input gradient in a dict batch",
        Net(),
        {"features": x, "labels": y},
        loss,
        source="outside.md A2",
    )


def inner_step_of_maml() -> Situation:
    seed(11)
    model = mlp(1, 16, 1, act=nn.Tanh)
    x = torch.rand(16, 1) * 6
    y = torch.sin(x)

    def loss(o, y):
        names, values = zip(*model.named_parameters(), strict=True)
        grads = torch.autograd.grad(F.mse_loss(o, y), values, create_graph=True)
        fast = {n: v - 0.05 * g for n, v, g in zip(names, values, grads, strict=True)}
        return F.mse_loss(torch.func.functional_call(model, fast, (x,)), y)

    return Situation(
        "MAML: an inner step inside the loss",
        model,
        (x, y),
        loss,
        kinds=(*QUIET, {"unscaled"}),
        source="outside.md A2 (inner step)",
        why="x from 0 to 6 is not standardized: a note on it would be fair",
    )


def loss_with_a_state() -> Situation:
    seed(12)
    calls = []

    def loss(o, y):
        calls.append(1)
        if len(calls) > 1:
            raise RuntimeError("the loss was called a second time")
        return F.cross_entropy(o, y)

    return Situation(
        "a loss that may be called once",
        mlp(4, 16, 3),
        blobs(32, 4, 3),
        loss,
        source="outside.md A2 (called once)",
    )


def running_mean_in_the_loss() -> Situation:
    seed(13)
    memory = {"mean": None}

    def loss(o, y):
        base = F.cross_entropy(o, y)
        memory["mean"] = (
            base.detach() if memory["mean"] is None else 0.9 * memory["mean"] + 0.1 * base.detach()
        )
        return base / memory["mean"]

    return Situation(
        "a loss scaled by its running mean",
        mlp(4, 16, 3),
        blobs(32, 4, 3),
        loss,
        source="outside.md A2 (state)",
    )


def style_transfer() -> Situation:
    seed(14)
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3)).requires_grad_(False)
    image = torch.rand(1, 3, 12, 12).requires_grad_()
    with torch.no_grad():
        target = model(torch.rand(1, 3, 12, 12))
    return Situation(
        "style transfer: the net is frozen, the image is trained",
        model,
        (image, target),
        F.mse_loss,
        torch.optim.Adam([image], lr=0.01),
        kinds=QUIET,
        forbidden=("nothing to train", "requires_grad_(True)"),
        source="twin: the input is optimized",
    )


def relu_critic_penalty_without_data_term() -> Situation:
    seed(15)
    x = torch.randn(32, 4).requires_grad_()

    def loss(d):
        g = torch.autograd.grad(d.sum(), x, create_graph=True)[0]
        return (g.norm(dim=1) - 1).pow(2).mean()

    return Situation(
        "penalty alone: the last bias gets no gradient by mathematics",
        mlp(4, 32, 1, act=nn.LeakyReLU),
        x,
        loss,
        kinds=(*QUIET, {"not_connected"}),
        words=("bias|healthy",),
        source="outside.md A2 (penalty alone)",
        why="the derivative of a bias by x is 0; weights train",
    )
