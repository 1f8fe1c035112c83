"""Iterations to a fixed point (A9): contraction is what makes them converge."""

import torch
import torch.nn.functional as F
from reports.situation import QUIET, Situation, blobs, seed
from torch import nn

NO_HARM = ("orthogonal",)


class Equilibrium(nn.Module):
    """z ← act(W z + U x), unrolled."""

    def __init__(self, d=24, steps=30, act=torch.tanh, gain=0.5, inject=True, phantom=False):
        super().__init__()
        self.inject, self.steps, self.act, self.phantom = inject, steps, act, phantom
        self.u, self.w, self.out = nn.Linear(8, d), nn.Linear(d, d, bias=False), nn.Linear(d, 3)
        nn.init.orthogonal_(self.w.weight, gain=gain)

    def forward(self, x):
        u = self.u(x)
        z = torch.zeros_like(u) if self.inject else u
        steps = self.steps
        if self.phantom:
            with torch.no_grad():
                for _ in range(steps):
                    z = self.act(self.w(z) + u)
            steps = 1
        for _ in range(steps):
            z = self.act(self.w(z) + u) if self.inject else self.act(self.w(z))
        return self.out(z)


def situation(name, source="outside.md A9", kinds=QUIET, number=0, **options) -> Situation:
    seed(number)
    return Situation(
        name,
        Equilibrium(**options),
        blobs(64, 8, 3),
        F.cross_entropy,
        kinds=kinds,
        forbidden=NO_HARM,
        source=source,
    )


def equilibrium_tanh() -> Situation:
    return situation("deep equilibrium, tanh, 30 iterations")


def equilibrium_relu() -> Situation:
    # locuslab/deq#10: f(z, x) = relu(W z + x + b)
    return situation("deep equilibrium, relu(W z + x)", "locuslab/deq#10", act=torch.relu, number=1)


def equilibrium_default_weights() -> Situation:
    s = situation("deep equilibrium, default weights", number=2)
    nn.init.kaiming_uniform_(s.model.w.weight, a=5**0.5)
    return s


def equilibrium_one_step_gradient() -> Situation:
    # Gsunshine/Enjoy-Hamburger#12: fixed point under no_grad, then one step with gradient
    return situation(
        "fixed point under no_grad, one step with gradient",
        "Gsunshine/Enjoy-Hamburger#12",
        phantom=True,
        number=3,
    )


def equilibrium_convolution() -> Situation:
    seed(4)

    class Conv(nn.Module):
        def __init__(self):
            super().__init__()
            self.inp, self.f, self.out = (
                nn.Conv2d(1, 6, 3, padding=1),
                nn.Conv2d(6, 6, 3, padding=1),
                nn.Linear(6, 3),
            )
            with torch.no_grad():
                self.f.weight.mul_(0.7)

        def forward(self, x):
            u = self.inp(x)
            z = torch.zeros_like(u)
            for _ in range(20):
                z = torch.tanh(self.f(z) + u)
            return self.out(z.mean((2, 3)))

    return Situation(
        "convolutional fixed point",
        Conv(),
        (torch.randn(16, 1, 8, 8), torch.randint(0, 3, (16,))),
        F.cross_entropy,
        kinds=QUIET,
        forbidden=NO_HARM,
        source="outside.md A9 (convolutional)",
    )


def unrolled_shrinkage() -> Situation:
    seed(5)

    class Lista(nn.Module):
        def __init__(self):
            super().__init__()
            a = torch.randn(8, 20) / 8**0.5
            self.we, self.s = nn.Parameter(a.T / 6), nn.Parameter(torch.eye(20) - a.T @ a / 6)
            self.theta, self.d = nn.Parameter(torch.tensor(0.02)), nn.Parameter(a)

        def forward(self, y):
            b = y @ self.we.T
            z = F.softshrink(b, 0.02)
            for _ in range(16):
                h = b + z @ self.s.T
                z = h.sign() * F.relu(h.abs() - self.theta)
            return z @ self.d.T

    y = torch.randn(64, 8)
    return Situation(
        "LISTA: 16 unrolled shrinkage steps",
        Lista(),
        (y, y),
        F.mse_loss,
        kinds=QUIET,
        forbidden=NO_HARM,
        source="outside.md A9 (unrolled optimization)",
    )


def sinkhorn() -> Situation:
    seed(6)

    class Match(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(6, 12), nn.Linear(6, 12)

        def forward(self, x, y):
            s = self.a(x) @ self.b(y).transpose(1, 2) / 12**0.5
            for _ in range(20):
                s = s - s.logsumexp(2, keepdim=True)
                s = s - s.logsumexp(1, keepdim=True)
            return s

    x = torch.randn(16, 5, 6)
    order = torch.argsort(torch.rand(16, 5), 1)
    y = x.gather(1, order[..., None].expand(-1, -1, 6))
    return Situation(
        "Sinkhorn: 40 normalizations",
        Match(),
        ((x, y), order),
        lambda s, t: -s.gather(1, t[:, None, :]).mean(),
        kinds=QUIET,
        forbidden=NO_HARM,
        source="outside.md A9 (Sinkhorn)",
    )


def message_passing_with_one_weight() -> Situation:
    seed(7)

    class Propagate(nn.Module):
        def __init__(self):
            super().__init__()
            self.inp, self.msg, self.out = nn.Linear(8, 24), nn.Linear(24, 24), nn.Linear(24, 3)

        def forward(self, x, a):
            u = self.inp(x)
            h = torch.zeros_like(u)
            for _ in range(12):
                h = torch.tanh(u + a @ self.msg(h))
            return self.out(h)

    a = (torch.rand(40, 40) < 0.1).float()
    a = a / a.sum(1, keepdim=True).clamp_min(1)
    return Situation(
        "graph net: 12 rounds of one weight, input fed each round",
        Propagate(),
        ((torch.randn(40, 8), a), torch.randint(0, 3, (40,))),
        F.cross_entropy,
        kinds=QUIET,
        forbidden=NO_HARM,
        source="outside.md A9 (message passing)",
    )


def attention_by_em_steps() -> Situation:
    # XiaLiPKU/EMANet#36: does the unrolled EM suffer from a vanishing gradient?
    seed(8)

    class EM(nn.Module):
        def __init__(self):
            super().__init__()
            self.inp, self.mu, self.out = (
                nn.Linear(8, 16),
                nn.Parameter(torch.randn(4, 16)),
                nn.Linear(16, 3),
            )

        def forward(self, x):
            h = self.inp(x)
            mu = self.mu.expand(len(x), -1, -1)
            for _ in range(3):
                z = (h @ mu.transpose(1, 2)).softmax(2)
                mu = F.normalize((z / (z.sum(1, keepdim=True) + 1e-6)).transpose(1, 2) @ h, dim=2)
            return self.out((z @ mu).mean(1) + h.mean(1))

    return Situation(
        "three EM steps in forward",
        EM(),
        (torch.randn(32, 6, 8), torch.randint(0, 3, (32,))),
        F.cross_entropy,
        kinds=QUIET,
        forbidden=NO_HARM,
        source="XiaLiPKU/EMANet#36",
    )


# ---------------------------------------------------------------- sick relatives


def one_weight_thirty_times_no_injection() -> Situation:
    return Situation(
        **{
            **situation(
                "one layer applied 30 times, the input at the start only",
                kinds={"vanishing"},
                inject=False,
                number=9,
                source="sick twin of outside.md A9",
            ).__dict__,
            "forbidden": (),
            "why": "nothing but the chain carries the input: a factor 0.5 thirty times",
        }
    )


def iteration_that_does_not_contract() -> Situation:
    s = situation(
        "relu iteration with ‖W‖ = 3: it diverges",
        kinds=({"exploding"}, {"exploding", "unscaled"}),
        act=torch.relu,
        gain=3.0,
        number=10,
        source="sick twin of outside.md A9",
    )
    s.forbidden = ()
    return s


# ---------------------------------------------------------------- more


def equilibrium_damped() -> Situation:
    seed(20)

    class Damped(Equilibrium):
        def forward(self, x):
            u = self.u(x)
            z = torch.zeros_like(u)
            for _ in range(40):
                z = 0.5 * z + 0.5 * torch.tanh(self.w(z) + u)
            return self.out(z)

    return Situation(
        "damped fixed point",
        Damped(gain=0.3),
        blobs(64, 8, 3),
        F.cross_entropy,
        kinds=QUIET,
        forbidden=NO_HARM,
        source="twin: damping",
    )


def equilibrium_two_layers() -> Situation:
    seed(21)

    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.u, self.out = nn.Linear(8, 24), nn.Linear(24, 3)
            self.a, self.b = nn.Linear(24, 48), nn.Linear(48, 24)

        def forward(self, x):
            u = self.u(x)
            z = torch.zeros_like(u)
            for _ in range(25):
                z = torch.tanh(self.b(torch.relu(self.a(z))) + u)
            return self.out(z)

    return Situation(
        "fixed point of two layers",
        Two(),
        blobs(64, 8, 3),
        F.cross_entropy,
        kinds=QUIET,
        forbidden=NO_HARM,
        source="twin: MDEQ block",
    )


def equilibrium_layer_norm() -> Situation:
    seed(22)

    class Normed(Equilibrium):
        def __init__(self):
            super().__init__(gain=0.4)
            self.norm = nn.LayerNorm(24)

        def forward(self, x):
            u = self.u(x)
            z = torch.zeros_like(u)
            for _ in range(30):
                z = self.norm(torch.relu(self.w(z) + u))
            return self.out(z)

    return Situation(
        "fixed point with layer norm",
        Normed(),
        blobs(64, 8, 3),
        F.cross_entropy,
        kinds=QUIET,
        forbidden=NO_HARM,
        source="twin: normalized equilibrium",
    )


def equilibrium_over_concatenation() -> Situation:
    seed(23)

    class Cat(nn.Module):
        def __init__(self):
            super().__init__()
            self.f, self.out = nn.Linear(8 + 24, 24), nn.Linear(24, 3)

        def forward(self, x):
            z = x.new_zeros(len(x), 24)
            for _ in range(40):
                z = torch.tanh(self.f(torch.cat([x, z], 1)))
            return self.out(z)

    return Situation(
        "fixed point over cat(x, z)",
        Cat(),
        blobs(64, 8, 3),
        F.cross_entropy,
        kinds=QUIET,
        forbidden=NO_HARM,
        source="twin: the same x at every iteration",
    )


def gradient_descent_unrolled() -> Situation:
    seed(24)

    class Unrolled(nn.Module):
        def __init__(self):
            super().__init__()
            self.h = nn.Linear(12, 12, bias=False)
            self.g, self.out = nn.Linear(8, 12), nn.Linear(12, 3)
            q = torch.linalg.qr(torch.randn(12, 12))[0]
            self.h.weight.data.copy_(q @ torch.diag(torch.linspace(0.3, 0.7, 12)) @ q.T)

        def forward(self, x):
            b = self.g(x)
            z = torch.zeros_like(b)
            for _ in range(30):
                z = z - (self.h(z) - b)
            return self.out(z)

    return Situation(
        "30 unrolled steps of gradient descent on a quadratic",
        Unrolled(),
        blobs(64, 8, 3),
        F.cross_entropy,
        kinds=QUIET,
        forbidden=NO_HARM,
        source="twin: unrolled solver",
    )


def sequence_of_noise_vanishes() -> Situation:
    seed(25)

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.u, self.w, self.out = nn.Linear(4, 24), nn.Linear(24, 24), nn.Linear(24, 3)

        def forward(self, x):
            h = x.new_zeros(len(x), 24)
            for step in x.unbind(1):
                h = torch.tanh(self.u(step) + self.w(h))
            return self.out(h)

    return Situation(
        "the same loop over a sequence",
        Net(),
        (torch.randn(64, 30, 4), torch.randint(0, 3, (64,))),
        F.cross_entropy,
        kinds={"vanishing"},
        source="sick twin: every step has other data",
    )


def sequence_padded_with_zeros_vanishes() -> Situation:
    s = sequence_of_noise_vanishes()
    x, y = s.batch
    x = x.clone()
    x[:, 8:] = 0
    s.name, s.batch = "a sequence of 8 padded to 30 with zeros", (x, y)
    s.why = "what it read is forgotten on the padding"
    return s


def bias_only_attractor_vanishes() -> Situation:
    seed(26)

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.f, self.out = nn.Linear(8, 24), nn.Linear(24, 24), nn.Linear(24, 3)

        def forward(self, x):
            z = self.first(x)
            for _ in range(40):
                z = torch.tanh(self.f(z))
            return self.out(z)

    return Situation(
        "one layer 40 times, the input only at the start, with a bias",
        Net(),
        blobs(64, 8, 3),
        F.cross_entropy,
        kinds=({"vanishing"}, {"vanishing", "constant_output"}),
        source="sick twin: it converges to the same point for every input",
    )
