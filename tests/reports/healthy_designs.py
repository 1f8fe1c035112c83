"""Designs that people train every day, at initialization: none may get an alarm."""

import copy
import math

import torch
import torch.nn.functional as F
from reports.situation import QUIET, Situation, blobs, line, mlp, seed
from reports.strangers_b import Net, frozen, images, of_tokens, param, times, tokens
from torch import Tensor, nn


def design(name: str, model: nn.Module, batch, loss, optimizer=None, **more) -> Situation:
    """A situation in which nothing is wrong."""
    return Situation(name, model, batch, loss, optimizer, source="a healthy design", **more)


def conv(a: int, b: int, stride: int = 1, act: type[nn.Module] = nn.ReLU) -> nn.Sequential:
    """Convolution, norm, activation."""
    return nn.Sequential(nn.Conv2d(a, b, 3, stride, 1, bias=False), nn.BatchNorm2d(b), act())


class Residual(nn.Module):
    """A block of a ResNet."""

    def __init__(self, a: int, b: int, stride: int = 1):
        super().__init__()
        self.first = conv(a, b, stride)
        self.second = nn.Sequential(nn.Conv2d(b, b, 3, 1, 1, bias=False), nn.BatchNorm2d(b))
        same = stride == 1 and a == b
        self.skip = nn.Identity() if same else nn.Conv2d(a, b, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.second(self.first(x)) + self.skip(x))


def res_net() -> Situation:
    seed(0)
    model = nn.Sequential(
        conv(3, 16),
        *(Residual(16, 16) for _ in range(3)),
        Residual(16, 32, 2),
        *(Residual(32, 32) for _ in range(2)),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(32, 10),
    )
    return design(
        "ResNet",
        model,
        images(32, size=16),
        F.cross_entropy,
        torch.optim.SGD(model.parameters(), 0.1, momentum=0.9, weight_decay=1e-4),
    )


def u_net() -> Situation:
    seed(1)

    def run(m, x):
        a = m.down1(x)
        b = m.down2(F.max_pool2d(a, 2))
        c = m.middle(F.max_pool2d(b, 2))
        b = m.up2(torch.cat([F.interpolate(c, scale_factor=2.0), b], 1))
        a = m.up1(torch.cat([F.interpolate(b, scale_factor=2.0), a], 1))
        return m.exit(a)

    model = Net(
        run,
        down1=conv(1, 8),
        down2=conv(8, 16),
        middle=conv(16, 32),
        up2=conv(48, 16),
        up1=conv(24, 8),
        exit=nn.Conv2d(8, 1, 1),
    )
    batch = (torch.randn(4, 1, 16, 16), (torch.rand(4, 1, 16, 16) > 0.7).float())
    return design("U-Net", model, batch, F.binary_cross_entropy_with_logits)


def vision_transformer() -> Situation:
    seed(2)

    def run(m, x):
        x = m.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([m.token.expand(len(x), -1, -1), x], 1) + m.position
        return m.head(m.norm(m.body(x))[:, 0])

    layer = nn.TransformerEncoderLayer(32, 4, 128, 0.1, F.gelu, batch_first=True, norm_first=True)
    model = Net(
        run,
        patches=nn.Conv2d(3, 32, 4, 4),
        token=nn.Parameter(torch.zeros(1, 1, 32)),
        position=param(1, 17, 32, scale=0.02),
        body=nn.TransformerEncoder(layer, 6, enable_nested_tensor=False),
        norm=nn.LayerNorm(32),
        head=nn.Linear(32, 10),
    )
    return design(
        "ViT",
        model,
        images(16, size=16),
        nn.CrossEntropyLoss(label_smoothing=0.1),
        torch.optim.AdamW(model.parameters(), 1e-3, weight_decay=0.05),
    )


class Causal(nn.Module):
    """A block of a GPT."""

    def __init__(self, width: int):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.feed = mlp(width, 4 * width, width, act=nn.GELU)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(self.norm1(x)).unflatten(-1, (3, 4, -1)).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(mixed.transpose(1, 2).flatten(2))
        return x + self.feed(self.norm2(x))


def language_model() -> Situation:
    seed(3)

    def run(m, x):
        x = m.embed(x) + m.position(torch.arange(x.shape[1]))
        return F.linear(m.norm(m.blocks(x)), m.embed.weight)

    model = Net(
        run,
        embed=nn.Embedding(200, 64),
        position=nn.Embedding(32, 64),
        blocks=nn.Sequential(*(Causal(64) for _ in range(6))),
        norm=nn.LayerNorm(64),
    )
    for module in model.modules():
        if isinstance(module, nn.Linear | nn.Embedding):
            nn.init.normal_(module.weight, 0, 0.02)
        if isinstance(module, nn.Linear):
            nn.init.zeros_(module.bias)
    return design(
        "GPT with a tied embedding",
        model,
        tokens(8, 32, 200),
        of_tokens,
        torch.optim.AdamW(model.parameters(), 3e-4),
    )


def masked_language_model() -> Situation:
    seed(4)
    layer = nn.TransformerEncoderLayer(48, 4, 192, 0.1, F.gelu, batch_first=True)

    def run(m, ids, segment):
        x = m.word(ids) + m.place(torch.arange(ids.shape[1])) + m.segment(segment)
        return m.decode(m.body(m.norm(x)))

    model = Net(
        run,
        word=nn.Embedding(300, 48, padding_idx=0),
        place=nn.Embedding(24, 48),
        segment=nn.Embedding(2, 48),
        norm=nn.LayerNorm(48),
        body=nn.TransformerEncoder(layer, 4),
        decode=nn.Linear(48, 300),
    )
    for module in model.modules():
        if isinstance(module, nn.Linear | nn.Embedding):
            nn.init.normal_(module.weight, 0, 0.02)
    ids = torch.randint(1, 300, (8, 24))
    label = torch.where(torch.rand(8, 24) < 0.15, ids, -100)
    segment = (torch.arange(24) > 11).long().expand(8, -1)
    return design("BERT", model, ((ids, segment), label), of_tokens)


def packed_two_way_lstm() -> Situation:
    seed(5)

    def run(m, x, lengths):
        packed = nn.utils.rnn.pack_padded_sequence(
            m.embed(x), lengths, batch_first=True, enforce_sorted=False
        )
        state = m.lstm(packed)[1][0]
        return m.head(torch.cat([state[-2], state[-1]], 1))

    model = Net(
        run,
        embed=nn.Embedding(100, 24, padding_idx=0),
        lstm=nn.LSTM(24, 32, 2, batch_first=True, bidirectional=True, dropout=0.2),
        head=nn.Linear(64, 3),
    )
    lengths = torch.randint(4, 15, (16,))
    x = torch.randint(1, 100, (16, 15)) * (torch.arange(15) < lengths[:, None])
    return design(
        "BiLSTM on packed text", model, ((x, lengths), torch.arange(16) % 3), F.cross_entropy
    )


def lstm_language_model() -> Situation:
    seed(6)
    model = Net(
        lambda m, x: m.head(m.lstm(m.embed(x))[0]),
        embed=nn.Embedding(60, 32),
        lstm=nn.LSTM(32, 64, 2, batch_first=True),
        head=nn.Linear(64, 60),
    )
    return design(
        "LSTM over characters",
        model,
        tokens(16, 40, 60),
        of_tokens,
        torch.optim.Adam(model.parameters(), 2e-3),
    )


def graph_network() -> Situation:
    seed(7)
    edges = (torch.rand(50, 50) < 0.1).float()
    edges = ((edges + edges.T) > 0).float() + torch.eye(50)
    degree = edges.sum(1).rsqrt()

    def run(m, x):
        x = F.relu(m.adjacency @ m.first(x))
        return m.adjacency @ m.second(x)

    model = Net(
        run,
        adjacency=degree[:, None] * edges * degree,
        first=nn.Linear(20, 32),
        second=nn.Linear(32, 5),
    )
    x, y = blobs(50, 20, 5)
    known = torch.rand(50) < 0.4
    return design(
        "graph convolution, 40 % of the nodes have labels",
        model,
        (x, y),
        lambda out, t: F.cross_entropy(out[known], t[known]),
    )


def variational_autoencoder() -> Situation:
    seed(8)

    def run(m, x):
        mean, log = m.encode(x).chunk(2, 1)
        return m.decode(mean + (log / 2).exp() * torch.randn_like(mean)), mean, log

    def loss(out, x):
        back, mean, log = out
        kl = -0.5 * (1 + log - mean**2 - log.exp()).sum()
        return (F.binary_cross_entropy_with_logits(back, x, reduction="sum") + kl) / len(x)

    x = torch.rand(64, 64)
    model = Net(run, encode=mlp(64, 48, 16), decode=mlp(8, 48, 64))
    return design("VAE", model, (x, x), loss, torch.optim.Adam(model.parameters(), 1e-3))


def generator() -> Situation:
    seed(9)
    critic = nn.Sequential(
        nn.Conv2d(1, 8, 4, 2, 1), nn.LeakyReLU(0.2), nn.Flatten(), nn.Linear(128, 1)
    )
    model = nn.Sequential(
        nn.ConvTranspose2d(16, 32, 4, bias=False),
        nn.BatchNorm2d(32),
        nn.ReLU(),
        nn.ConvTranspose2d(32, 1, 4, 2, 1, bias=False),
        nn.Tanh(),
    )
    for layer in (model[0], model[3]):
        nn.init.normal_(layer.weight, 0, 0.02)

    def loss(out):
        return F.binary_cross_entropy_with_logits(critic(out), torch.ones(len(out), 1))

    return design(
        "generator of a DCGAN",
        model,
        torch.randn(32, 16, 1, 1),
        loss,
        torch.optim.Adam(model.parameters(), 2e-4, betas=(0.5, 0.999)),
    )


def discriminator() -> Situation:
    seed(10)
    model = nn.Sequential(
        nn.Conv2d(3, 16, 4, 2, 1),
        nn.LeakyReLU(0.2),
        nn.Conv2d(16, 32, 4, 2, 1, bias=False),
        nn.BatchNorm2d(32),
        nn.LeakyReLU(0.2),
        nn.Flatten(),
        nn.Linear(128, 1),
        nn.Sigmoid(),
    )
    y = (torch.arange(32) % 2).float()[:, None]
    return design("discriminator", model, (images(32)[0].tanh(), y), F.binary_cross_entropy)


def diffusion() -> Situation:
    seed(11)

    def run(m, x, t):
        time = t[:, None] * torch.logspace(0, 3, 8)
        shift = m.time(torch.cat([time.sin(), time.cos()], 1))[:, :, None, None]
        h = m.entry(x)
        h = h + m.second(F.silu(m.norm2(m.first(F.silu(m.norm1(h))) + shift)))
        return m.exit(F.silu(m.norm3(h)))

    model = Net(
        run,
        entry=nn.Conv2d(1, 16, 3, 1, 1),
        time=mlp(16, 32, 16, act=nn.SiLU),
        norm1=nn.GroupNorm(4, 16),
        first=nn.Conv2d(16, 16, 3, 1, 1),
        norm2=nn.GroupNorm(4, 16),
        second=nn.Conv2d(16, 16, 3, 1, 1),
        norm3=nn.GroupNorm(4, 16),
        exit=nn.Conv2d(16, 1, 3, 1, 1),
    )
    for layer in (model.second, model.exit):
        nn.init.zeros_(layer.weight)
        nn.init.zeros_(layer.bias)
    batch = ((torch.randn(8, 1, 8, 8), torch.rand(8)), torch.randn(8, 1, 8, 8))
    return design(
        "diffusion", model, batch, F.mse_loss, torch.optim.AdamW(model.parameters(), 1e-4)
    )


def siamese() -> Situation:
    seed(12)
    model = Net(lambda m, a, b: (m.tower(a), m.tower(b)), tower=mlp(16, 64, 16))

    def loss(out, same):
        distance = (out[0] - out[1]).norm(dim=1)
        return (same * distance**2 + (1 - same) * F.relu(1 - distance) ** 2).mean()

    batch = ((torch.randn(32, 16), torch.randn(32, 16)), (torch.arange(32) % 2).float())
    return design("Siamese with a contrastive loss", model, batch, loss)


def triplet() -> Situation:
    seed(13)
    model = Net(
        lambda m, a, p, n: tuple(F.normalize(m.tower(x), dim=1) for x in (a, p, n)),
        tower=mlp(16, 64, 32),
    )
    a = torch.randn(48, 16)
    batch = (a, a + 0.3 * torch.randn(48, 16), torch.randn(48, 16))
    return design(
        "triplets",
        model,
        (batch, torch.zeros(48)),
        lambda out, _: F.triplet_margin_loss(*out, margin=0.5),
    )


def two_views() -> Situation:
    seed(14)
    model = Net(
        lambda m, a, b: (m.image(a), m.text(b), m.scale.exp()),
        image=mlp(24, 64, 32),
        text=mlp(16, 64, 32),
        scale=nn.Parameter(torch.tensor(math.log(1 / 0.07))),
    )

    def loss(out, y):
        logits = out[2] * F.normalize(out[0], dim=1) @ F.normalize(out[1], dim=1).T
        return (F.cross_entropy(logits, y) + F.cross_entropy(logits.T, y)) / 2

    batch = ((torch.randn(32, 24), torch.randn(32, 16)), torch.arange(32))
    return design("CLIP", model, batch, loss, torch.optim.AdamW(model.parameters(), 1e-4))


def actor_critic() -> Situation:
    seed(15)
    model = Net(
        lambda m, x: (m.actor(x), m.critic(x), m.log_std),
        actor=mlp(11, 64, 64, 3, act=nn.Tanh),
        critic=mlp(11, 64, 64, 1, act=nn.Tanh),
        log_std=nn.Parameter(torch.zeros(3)),
    )
    for net, gain in ((model.actor, 0.01), (model.critic, 1.0)):
        for layer in net:
            if isinstance(layer, nn.Linear):
                nn.init.orthogonal_(layer.weight, 2**0.5)
                nn.init.zeros_(layer.bias)
        nn.init.orthogonal_(net[-1].weight, gain)

    def loss(out, batch):
        action, old, advantage, value = batch
        policy = torch.distributions.Normal(out[0], out[2].exp())
        ratio = (policy.log_prob(action).sum(1) - old).exp()
        clipped = torch.min(ratio * advantage, ratio.clamp(0.8, 1.2) * advantage)
        critic = F.mse_loss(out[1][:, 0], value)
        return -clipped.mean() + 0.5 * critic - 0.01 * policy.entropy().mean()

    x = torch.randn(128, 11)
    with torch.no_grad():
        policy = torch.distributions.Normal(model.actor(x), 1.0)
        action = policy.sample()
        old = policy.log_prob(action).sum(1)
    batch = (x, (action, old, torch.randn(128), torch.randn(128)))
    return design("PPO", model, batch, loss, torch.optim.Adam(model.parameters(), 3e-4))


def deep_q() -> Situation:
    seed(16)
    model = mlp(4, 64, 64, 2)
    target = copy.deepcopy(model)

    def loss(out, batch):
        action, reward, after = batch
        with torch.no_grad():
            goal = reward + 0.99 * target(after).max(1).values
        return F.smooth_l1_loss(out.gather(1, action[:, None])[:, 0], goal)

    batch = (torch.randint(2, (64,)), torch.ones(64), torch.randn(64, 4))
    return design(
        "DQN", model, (torch.randn(64, 4), batch), loss, torch.optim.Adam(model.parameters(), 1e-3)
    )


def critic_with_penalty() -> Situation:
    seed(17)
    model = mlp(2, 64, 64, 1, act=nn.Softplus)
    x = torch.cat([torch.randn(64, 2), torch.randn(64, 2) + 1])
    between = torch.randn(64, 2).requires_grad_()

    def loss(out):
        slope = torch.autograd.grad(model(between).sum(), between, create_graph=True)[0]
        return out[:64].mean() - out[64:].mean() + 10 * ((slope.norm(dim=1) - 1) ** 2).mean()

    return design(
        "critic of a WGAN-GP",
        model,
        x,
        loss,
        torch.optim.Adam(model.parameters(), 1e-4, betas=(0.0, 0.9)),
    )


def wasserstein_critic() -> Situation:
    seed(18)
    model = mlp(2, 64, 64, 1, act=lambda: nn.LeakyReLU(0.2))
    with torch.no_grad():
        for p in model.parameters():
            p.clamp_(-0.1, 0.1)
    x = torch.cat([torch.randn(64, 2), torch.randn(64, 2) + 1])
    return design(
        "Wasserstein critic with clipped weights",
        model,
        x,
        times(1e6, lambda out: out[:64].mean() - out[64:].mean()),
        torch.optim.RMSprop(model.parameters(), 5e-5),
    )


def mixer() -> Situation:
    seed(19)

    def run(m, x):
        x = m.patches(x).flatten(2).transpose(1, 2)
        for norm1, token, norm2, channel in m.blocks:
            x = x + token(norm1(x).transpose(1, 2)).transpose(1, 2)
            x = x + channel(norm2(x))
        return m.head(m.norm(x).mean(1))

    blocks = nn.ModuleList(
        nn.ModuleList(
            [
                nn.LayerNorm(32),
                mlp(16, 32, 16, act=nn.GELU),
                nn.LayerNorm(32),
                mlp(32, 128, 32, act=nn.GELU),
            ]
        )
        for _ in range(6)
    )
    model = Net(
        run,
        patches=nn.Conv2d(3, 32, 4, 4),
        blocks=blocks,
        norm=nn.LayerNorm(32),
        head=nn.Linear(32, 10),
    )
    return design("MLP-Mixer", model, images(16, size=16), F.cross_entropy)


def autoencoder() -> Situation:
    seed(20)
    model = nn.Sequential(
        nn.Conv2d(1, 8, 3, 2, 1),
        nn.ReLU(),
        nn.Conv2d(8, 16, 3, 2, 1),
        nn.ReLU(),
        nn.ConvTranspose2d(16, 8, 4, 2, 1),
        nn.ReLU(),
        nn.ConvTranspose2d(8, 1, 4, 2, 1),
        nn.Sigmoid(),
    )
    x = torch.rand(16, 1, 16, 16)
    return design("convolutional autoencoder", model, (x, x), F.mse_loss)


class Squeeze(nn.Module):
    """Inverted bottleneck with squeeze-and-excitation."""

    def __init__(self, width: int):
        super().__init__()
        wide = 4 * width
        self.expand = nn.Sequential(
            nn.Conv2d(width, wide, 1, bias=False), nn.BatchNorm2d(wide), nn.SiLU()
        )
        self.depth = nn.Sequential(
            nn.Conv2d(wide, wide, 3, 1, 1, groups=wide, bias=False), nn.BatchNorm2d(wide), nn.SiLU()
        )
        self.gate = mlp(wide, width // 4, wide, act=nn.SiLU, tail=(nn.Sigmoid(),))
        self.project = nn.Sequential(nn.Conv2d(wide, width, 1, bias=False), nn.BatchNorm2d(width))

    def forward(self, x: Tensor) -> Tensor:
        h = self.depth(self.expand(x))
        return x + self.project(h * self.gate(h.mean((2, 3)))[:, :, None, None])


def efficient_net() -> Situation:
    seed(21)
    model = nn.Sequential(
        conv(3, 16, act=nn.SiLU),
        *(Squeeze(16) for _ in range(5)),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Dropout(0.2),
        nn.Linear(16, 10),
    )
    return design("EfficientNet", model, images(32), F.cross_entropy)


def radiance_field() -> Situation:
    seed(22)

    def run(m, x):
        waves = x.unsqueeze(-1) * 2 ** torch.arange(6) * math.pi
        z = torch.cat([x, waves.sin().flatten(1), waves.cos().flatten(1)], 1)
        h = m.first(z)
        h = m.second(torch.cat([h, z], 1))
        return torch.cat([torch.sigmoid(m.color(h)), F.softplus(m.density(h))], 1)

    model = Net(
        run,
        first=mlp(39, 64, 64, 64, 64, tail=(nn.ReLU(),)),
        second=mlp(103, 64, 64, 64, tail=(nn.ReLU(),)),
        color=nn.Linear(64, 3),
        density=nn.Linear(64, 1),
    )
    for layer in model.modules():
        if isinstance(layer, nn.Linear):  # as in the original; torch's own start fades 600 times
            nn.init.xavier_uniform_(layer.weight)
    return design(
        "NeRF",
        model,
        (2 * torch.rand(512, 3) - 1, torch.rand(512, 4)),
        F.mse_loss,
        torch.optim.Adam(model.parameters(), 5e-4),
    )


def coupling_flow() -> Situation:
    seed(23)

    def run(m, x):
        log = torch.zeros(len(x))
        for k, net in enumerate(m.nets):
            a, b = x.chunk(2, 1) if k % 2 == 0 else x.chunk(2, 1)[::-1]
            scale, shift = net(a).chunk(2, 1)
            scale = torch.tanh(scale)
            b = b * scale.exp() + shift
            log = log + scale.sum(1)
            x = torch.cat([a, b] if k % 2 == 0 else [b, a], 1)
        return x, log

    def loss(out):
        return (0.5 * (out[0] ** 2).sum(1) - out[1]).mean()

    model = Net(run, nets=nn.ModuleList(mlp(3, 64, 6) for _ in range(6)))
    for net in model.nets:
        nn.init.zeros_(net[-1].weight)
        nn.init.zeros_(net[-1].bias)
    return design(
        "normalizing flow that starts as the identity", model, 2 * torch.randn(128, 6) + 1, loss
    )


def student_of_a_teacher() -> Situation:
    seed(24)
    model = Net(
        lambda m, x: (m.student(x), m.teacher(x)),
        student=mlp(16, 32, 6),
        teacher=frozen(mlp(16, 128, 128, 6)),
    )

    def loss(out, y):
        soft = F.log_softmax(out[1] / 2, -1)
        kl = F.kl_div(F.log_softmax(out[0] / 2, -1), soft, reduction="batchmean", log_target=True)
        return F.cross_entropy(out[0], y) + 4 * kl

    return design(
        "distillation",
        model,
        blobs(60, 16, 6),
        loss,
        torch.optim.Adam(model.student.parameters(), 1e-3),
    )


def translation() -> Situation:
    seed(25)

    def run(m, source, target):
        mask = nn.Transformer.generate_square_subsequent_mask(target.shape[1])
        out = m.body(m.embed(source), m.embed(target), tgt_mask=mask, tgt_is_causal=True)
        return m.head(out)

    model = Net(
        run,
        embed=nn.Embedding(80, 32),
        body=nn.Transformer(32, 4, 2, 2, 64, 0.1, batch_first=True, norm_first=True),
        head=nn.Linear(32, 80),
    )
    x, (a, b) = torch.randint(80, (8, 12)), tokens(8, 10, 80)
    return design("encoder and decoder", model, ((x, a), b), of_tokens)


def gru_with_attention() -> Situation:
    seed(26)

    def run(m, x):
        h = m.gru(x)[0]
        return m.head((m.score(h).softmax(1) * h).sum(1))

    model = Net(
        run,
        gru=nn.GRU(8, 32, batch_first=True, bidirectional=True),
        score=nn.Linear(64, 1),
        head=nn.Linear(64, 5),
    )
    return design(
        "GRU with attention over time",
        model,
        (torch.randn(20, 30, 8), torch.arange(20) % 5),
        times(1e-6, F.cross_entropy),
    )


def point_net() -> Situation:
    seed(27)
    model = Net(
        lambda m, x: m.head(m.points(x).max(1).values),
        points=mlp(3, 32, 64, 128),
        head=mlp(128, 64, 8),
    )
    return design(
        "PointNet", model, (torch.randn(16, 100, 3), torch.arange(16) % 8), F.cross_entropy
    )


def wide_and_deep() -> Situation:
    seed(28)
    model = Net(
        lambda m, ids, x: (m.wide(x) + m.deep(torch.cat([m.embed(ids).flatten(1), x], 1)))[:, 0],
        embed=nn.Embedding(1000, 8),
        wide=nn.Linear(10, 1),
        deep=mlp(34, 64, 32, 1),
    )
    batch = ((torch.randint(1000, (256, 3)), torch.randn(256, 10)), torch.rand(256).round())
    return design(
        "wide and deep",
        model,
        batch,
        F.binary_cross_entropy_with_logits,
        torch.optim.Adagrad(model.parameters(), 0.01),
    )


def temporal_convolution() -> Situation:
    seed(29)

    def run(m, x):
        x = m.entry(x)
        for k, layer in enumerate(m.layers):
            x = x + F.relu(layer(F.pad(x, (2**k, 0))))
        return m.head(x[:, :, -1])

    model = Net(
        run,
        entry=nn.Conv1d(4, 24, 1),
        layers=nn.ModuleList(nn.Conv1d(24, 24, 2, dilation=2**k) for k in range(5)),
        head=nn.Linear(24, 1),
    )
    return design("TCN", model, (torch.randn(32, 4, 64), torch.randn(32, 1)), F.l1_loss)


def siren() -> Situation:
    seed(30)
    model = Net(
        lambda m, x: m.c(torch.sin(30 * m.b(torch.sin(30 * m.a(x))))),
        a=nn.Linear(2, 64),
        b=nn.Linear(64, 64),
        c=nn.Linear(64, 1),
    )
    nn.init.uniform_(model.a.weight, -1 / 2, 1 / 2)
    for layer in (model.b, model.c):
        nn.init.uniform_(layer.weight, -((6 / 64) ** 0.5) / 30, (6 / 64) ** 0.5 / 30)
    x = 2 * torch.rand(256, 2) - 1
    return design("SIREN", model, (x, torch.sin(3 * x.sum(1, keepdim=True))), F.mse_loss)


def momentum_teacher() -> Situation:
    seed(31)
    student = mlp(16, 64, 32)
    model = Net(
        lambda m, x: (m.predict(m.student(x)), m.teacher(x + 0.1)),
        student=student,
        predict=mlp(32, 64, 32),
        teacher=frozen(copy.deepcopy(student)),
    )

    def loss(out):
        return 2 - 2 * F.cosine_similarity(out[0], out[1].detach(), dim=1).mean()

    return design("BYOL", model, torch.randn(64, 16), loss)


def detector() -> Situation:
    seed(32)
    model = Net(
        lambda m, x: (m.label(m.trunk(x)), m.box(m.trunk(x))),
        trunk=nn.Sequential(conv(3, 16, 2), conv(16, 32, 2)),
        label=nn.Conv2d(32, 4, 1),
        box=nn.Conv2d(32, 4, 1),
    )
    nn.init.constant_(model.label.bias, -math.log(99))

    def loss(out, both):
        label, box = both
        p = out[0].sigmoid()
        bce = F.binary_cross_entropy_with_logits(out[0], label, reduction="none")
        focal = (bce * (p - label).abs() ** 2).sum() / label.sum().clamp_min(1)
        where = label.amax(1, keepdim=True)
        return focal + (where * (out[1] - box).abs()).sum() / where.sum().clamp_min(1)

    label = (torch.rand(4, 4, 4, 4) > 0.95).float()
    return design(
        "detector with a focal loss and its prior of 1 %",
        model,
        (torch.randn(4, 3, 16, 16), (label, torch.rand(4, 4, 4, 4))),
        loss,
    )


def hyper_network() -> Situation:
    seed(33)

    def run(m, x, task):
        w = m.hyper(m.embed(task)).view(-1, 8, 8) / 8**0.5
        return m.head(torch.tanh(torch.einsum("nij,nj->ni", w, x)))

    model = Net(run, embed=nn.Embedding(5, 16), hyper=mlp(16, 64, 64), head=nn.Linear(8, 1))
    batch = ((torch.randn(64, 8), torch.randint(5, (64,))), torch.randn(64, 1))
    return design("hypernetwork", model, batch, F.mse_loss, kinds=QUIET)


def half_precision_weights() -> Situation:
    seed(34)
    x, y = blobs(64, 32, 8)
    return design(
        "bfloat16 weights",
        mlp(32, 128, 128, 8).bfloat16(),
        (x.bfloat16(), y),
        lambda out, t: F.cross_entropy(out.float(), t),
    )


def discrete_codes() -> Situation:
    seed(35)

    def run(m, x):
        z = m.encode(x)
        code = m.book(torch.cdist(z, m.book.weight).argmin(1))
        return m.decode(z + (code - z).detach()), z, code

    def loss(out, x):
        back, z, code = out
        kept = F.mse_loss(code, z.detach()) + 0.25 * F.mse_loss(z, code.detach())
        return F.mse_loss(back, x) + kept

    model = Net(run, encode=mlp(16, 64, 8), book=nn.Embedding(32, 8), decode=mlp(8, 64, 16))
    x = torch.randn(64, 16)
    return design("VQ-VAE", model, (x, x), loss)


def matrix_of_experts() -> Situation:
    seed(36)

    def run(m, x):
        gate = m.gate(x).softmax(-1)
        return torch.einsum("nk,nko->no", gate, torch.stack([e(x) for e in m.experts], 1))

    model = Net(run, gate=nn.Linear(16, 4), experts=nn.ModuleList(mlp(16, 32, 6) for _ in range(4)))
    return design("soft mixture of experts", model, blobs(60, 16, 6), F.cross_entropy)


def self_normalizing() -> Situation:
    seed(37)
    model = mlp(32, *(64,) * 10, 4, act=nn.SELU)
    for layer in model:
        if isinstance(layer, nn.Linear):
            nn.init.normal_(layer.weight, 0, layer.in_features**-0.5)
            nn.init.zeros_(layer.bias)
    return design("SELU, 10 layers", model, blobs(64, 32, 4), F.cross_entropy)


def physics() -> Situation:
    seed(38)
    model = mlp(1, 32, 32, 1, act=nn.Tanh)
    t = torch.linspace(0, 2, 64)[:, None].requires_grad_()

    def loss(out):
        slope = torch.autograd.grad(out.sum(), t, create_graph=True)[0]
        return ((slope + out) ** 2).mean() + (out[0] - 1).pow(2).mean()

    return design("physics-informed net", model, t, loss)


def regression_tree_of_heads() -> Situation:
    seed(39)
    model = Net(
        lambda m, x: {"price": m.price(m.trunk(x)), "kind": m.kind(m.trunk(x))},
        trunk=mlp(10, 64, 64, tail=(nn.ReLU(),)),
        price=nn.Linear(64, 1),
        kind=nn.Linear(64, 4),
    )
    x, y = line(100, 10)

    def loss(out, both):
        return F.mse_loss(out["price"], both[0]) + F.cross_entropy(out["kind"], both[1])

    return design("two tasks", model, (x, (y, torch.arange(100) % 4)), loss)


def plain_digits() -> Situation:
    seed(50)
    model = nn.Sequential(nn.Flatten(), *mlp(192, 128, 64, 10))
    return design(
        "the first net of every tutorial",
        model,
        images(64),
        F.cross_entropy,
        torch.optim.SGD(model.parameters(), 0.01, momentum=0.9),
    )


def le_net() -> Situation:
    seed(51)
    model = nn.Sequential(
        nn.Conv2d(1, 6, 5, padding=2),
        nn.Tanh(),
        nn.AvgPool2d(2),
        nn.Conv2d(6, 16, 5),
        nn.Tanh(),
        nn.AvgPool2d(2),
        nn.Flatten(),
        *mlp(400, 120, 84, 10, act=nn.Tanh),
    )
    return design(
        "LeNet", model, (torch.randn(64, 1, 28, 28), torch.arange(64) % 10), F.cross_entropy
    )


def vgg_with_norm() -> Situation:
    seed(52)
    model = nn.Sequential(
        conv(3, 16),
        conv(16, 16),
        nn.MaxPool2d(2),
        conv(16, 32),
        conv(32, 32),
        nn.MaxPool2d(2),
        conv(32, 64),
        conv(64, 64),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(64, 10),
    )
    return design("VGG with batch norm", model, images(32, size=16), F.cross_entropy)


def dense_net() -> Situation:
    seed(53)

    def run(m, x):
        x = m.stem(x)
        for layer in m.layers:
            x = torch.cat([x, layer(x)], 1)
        return m.head(F.relu(x).mean((2, 3)))

    layers = nn.ModuleList(
        nn.Sequential(
            nn.BatchNorm2d(16 + 8 * k), nn.ReLU(), nn.Conv2d(16 + 8 * k, 8, 3, 1, 1, bias=False)
        )
        for k in range(8)
    )
    model = Net(run, stem=nn.Conv2d(3, 16, 3, 1, 1), layers=layers, head=nn.Linear(80, 10))
    return design("DenseNet", model, images(16), F.cross_entropy)


def conv_next() -> Situation:
    seed(54)

    def run(m, x):
        x = m.stem(x)
        for depth, norm, wide, gamma in zip(m.depths, m.norms, m.wides, m.gammas, strict=True):
            h = wide(norm(depth(x).permute(0, 2, 3, 1)))
            x = x + (gamma * h).permute(0, 3, 1, 2)
        return m.head(m.last(x.mean((2, 3))))

    model = Net(
        run,
        stem=nn.Conv2d(3, 24, 2, 2),
        depths=nn.ModuleList(nn.Conv2d(24, 24, 7, 1, 3, groups=24) for _ in range(6)),
        norms=nn.ModuleList(nn.LayerNorm(24) for _ in range(6)),
        wides=nn.ModuleList(mlp(24, 96, 24, act=nn.GELU) for _ in range(6)),
        gammas=nn.ParameterList(nn.Parameter(torch.full((24,), 1e-6)) for _ in range(6)),
        last=nn.LayerNorm(24),
        head=nn.Linear(24, 10),
    )
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.trunc_normal_(module.weight, std=0.02)
    return design(
        "ConvNeXt",
        model,
        images(16, size=16),
        F.cross_entropy,
        torch.optim.AdamW(model.parameters(), 4e-3, weight_decay=0.05),
    )


class Root(nn.Module):
    """Norm by the root mean square."""

    def __init__(self, width: int):
        super().__init__()
        self.gain = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        return self.gain * x * (x.square().mean(-1, keepdim=True) + 1e-6).rsqrt()


def llama() -> Situation:
    seed(55)

    def run(m, x):
        x = m.embed(x)
        for n1, qkv, out, n2, gate, up, down in m.blocks:
            q, k, v = qkv(n1(x)).unflatten(-1, (3, 4, -1)).permute(2, 0, 3, 1, 4)
            h = F.scaled_dot_product_attention(q, k, v, is_causal=True)
            x = x + out(h.transpose(1, 2).flatten(2))
            z = n2(x)
            x = x + down(F.silu(gate(z)) * up(z))
        return m.head(m.norm(x))

    def linear(a: int, b: int) -> nn.Linear:
        layer = nn.Linear(a, b, bias=False)
        nn.init.normal_(layer.weight, 0, 0.02)
        return layer

    blocks = nn.ModuleList(
        nn.ModuleList(
            [
                Root(64),
                linear(64, 192),
                linear(64, 64),
                Root(64),
                linear(64, 128),
                linear(64, 128),
                linear(128, 64),
            ]
        )
        for _ in range(6)
    )
    model = Net(
        run, embed=nn.Embedding(100, 64), blocks=blocks, norm=Root(64), head=linear(64, 100)
    )
    nn.init.normal_(model.embed.weight, 0, 0.02)
    return design(
        "LLaMA", model, tokens(4, 24, 100), of_tokens, torch.optim.AdamW(model.parameters(), 3e-4)
    )


def selective_state_space() -> Situation:
    seed(56)

    def run(m, x):
        x = m.embed(x)
        z, gate = m.entry(m.norm(x)).chunk(2, -1)
        delta = F.softplus(m.step(z))
        keep = torch.exp(-delta.unsqueeze(-1) * m.rate.exp())
        b, c = m.mix(z).chunk(2, -1)
        state = torch.zeros(len(x), z.shape[-1], 8)
        out = []
        for t in range(z.shape[1]):
            state = keep[:, t] * state + (delta * z)[:, t, :, None] * b[:, t, None]
            out.append((state * c[:, t, None]).sum(-1))
        return m.head(x + m.exit(torch.stack(out, 1) * F.silu(gate)))

    model = Net(
        run,
        embed=nn.Embedding(40, 16),
        norm=nn.LayerNorm(16),
        entry=nn.Linear(16, 64),
        step=nn.Linear(32, 32),
        rate=nn.Parameter(torch.arange(1, 9.0).log().repeat(32, 1)),
        mix=nn.Linear(32, 16),
        exit=nn.Linear(32, 16),
        head=nn.Linear(16, 40),
    )
    nn.init.constant_(model.step.bias, -4.0)
    return design("Mamba by hand", model, tokens(8, 20, 40), of_tokens)


def attention_over_a_graph() -> Situation:
    seed(57)
    edges = (torch.rand(40, 40) < 0.15) | torch.eye(40).bool()

    def run(m, x):
        for project, a, b in m.layers:
            h = project(x)
            score = F.leaky_relu(a(h) + b(h).T, 0.2).masked_fill(~m.edges, -math.inf)
            x = F.elu(score.softmax(1) @ h)
        return m.head(x)

    layers = nn.ModuleList(
        nn.ModuleList([nn.Linear(w, 24), nn.Linear(24, 1), nn.Linear(24, 1)]) for w in (12, 24)
    )
    model = Net(run, edges=edges, layers=layers, head=nn.Linear(24, 4))
    return design("graph attention", model, blobs(40, 12, 4), F.cross_entropy)


def message_passing() -> Situation:
    seed(58)
    source, target = torch.randint(30, (120,)), torch.randint(30, (120,))

    def run(m, x):
        h = m.entry(x)
        for message, update in zip(m.messages, m.updates, strict=True):
            sent = F.relu(message(torch.cat([h[source], h[target]], 1)))
            h = update(torch.zeros_like(h).index_add(0, target, sent), h)
        return m.head(h.mean(0, keepdim=True))

    model = Net(
        run,
        entry=nn.Linear(6, 24),
        messages=nn.ModuleList(nn.Linear(48, 24) for _ in range(3)),
        updates=nn.ModuleList(nn.GRUCell(24, 24) for _ in range(3)),
        head=nn.Linear(24, 1),
    )
    return design("message passing", model, (torch.randn(30, 6), torch.randn(1, 1)), F.mse_loss)


def generator_and_judge_in_one() -> Situation:
    seed(59)
    model = Net(
        lambda m, z, real: (m.judge(m.maker(z)), m.judge(real)),
        maker=mlp(8, 32, 2),
        judge=mlp(2, 32, 1, act=nn.LeakyReLU),
    )

    def loss(out, _):
        return F.softplus(-out[0]).mean() + F.softplus(-out[1]).mean()

    batch = ((torch.randn(64, 8), torch.randn(64, 2)), torch.zeros(1))
    return design("GAN in one module", model, batch, loss)


def soft_actor_critic() -> Situation:
    seed(60)
    model = Net(
        lambda m, s, a: torch.cat([m.q1(torch.cat([s, a], 1)), m.q2(torch.cat([s, a], 1))], 1),
        q1=mlp(14, 256, 256, 1),
        q2=mlp(14, 256, 256, 1),
    )
    batch = ((torch.randn(256, 11), torch.randn(256, 3).tanh()), torch.randn(256, 1).repeat(1, 2))
    return design(
        "twin critics", model, batch, F.mse_loss, torch.optim.Adam(model.parameters(), 3e-4)
    )


def policy_gradient() -> Situation:
    seed(61)
    model = mlp(4, 128, 2)

    def loss(out, both):
        action, back = both
        return -(torch.distributions.Categorical(logits=out).log_prob(action) * back).mean()

    back = torch.linspace(20, 1, 32)
    both = (torch.randint(2, (32,)), (back - back.mean()) / back.std())
    return design(
        "REINFORCE",
        model,
        (torch.randn(32, 4), both),
        loss,
        torch.optim.Adam(model.parameters(), 1e-2),
    )


def operator_net() -> Situation:
    seed(62)
    model = Net(
        lambda m, u, x: m.branch(u) @ m.trunk(x).T,
        branch=mlp(50, 64, 64, 32, act=nn.Tanh),
        trunk=mlp(1, 64, 64, 32, act=nn.Tanh),
    )
    batch = ((torch.randn(32, 50), torch.linspace(-1, 1, 40)[:, None]), torch.randn(32, 40))
    return design("DeepONet", model, batch, F.mse_loss)


def kernel_of_fourier() -> Situation:
    seed(63)

    def run(m, x):
        h = m.entry(x)
        for weight, skip in zip(m.weights, m.skips, strict=True):
            f = torch.fft.rfft(h, dim=1)[:, :8]
            f = torch.einsum("nkc,kcd->nkd", f, torch.view_as_complex(weight))
            h = F.gelu(torch.fft.irfft(f, n=x.shape[1], dim=1) + skip(h))
        return m.exit(h)

    model = Net(
        run,
        entry=nn.Linear(2, 16),
        weights=nn.ParameterList(param(8, 16, 16, 2, scale=1 / 16) for _ in range(3)),
        skips=nn.ModuleList(nn.Linear(16, 16) for _ in range(3)),
        exit=nn.Linear(16, 1),
    )
    return design(
        "Fourier operator", model, (torch.randn(8, 32, 2), torch.randn(8, 32, 1)), F.mse_loss
    )


def sequence_to_sequence() -> Situation:
    seed(64)

    def run(m, source, target):
        state = m.encode(m.words(source))[1]
        return m.head(m.decode(m.words(target), state)[0])

    model = Net(
        run,
        words=nn.Embedding(50, 32),
        encode=nn.GRU(32, 48, batch_first=True),
        decode=nn.GRU(48 - 16, 48, batch_first=True),
        head=nn.Linear(48, 50),
    )
    x, (a, b) = torch.randint(50, (16, 8)), tokens(16, 8, 50)
    return design("GRU to GRU", model, ((x, a), b), of_tokens)


def factorization_machine() -> Situation:
    seed(65)

    def run(m, x):
        e = m.embed(x)
        pairs = 0.5 * (e.sum(1) ** 2 - (e**2).sum(1)).sum(1)
        return m.bias + m.first(x).sum((1, 2)) + pairs

    model = Net(
        run,
        bias=nn.Parameter(torch.zeros(1)),
        first=nn.Embedding(500, 1),
        embed=nn.Embedding(500, 8),
    )
    nn.init.normal_(model.first.weight, 0, 0.01)
    nn.init.normal_(model.embed.weight, 0, 0.01)
    return design(
        "factorization machine",
        model,
        (torch.randint(500, (128, 6)), torch.rand(128).round()),
        F.binary_cross_entropy_with_logits,
    )


def sets_by_attention() -> Situation:
    seed(66)

    def run(m, x):
        h = m.entry(x)
        h = m.norm(h + m.attend(h, h, h, need_weights=False)[0])
        seeds = m.seed.expand(len(x), -1, -1)
        return m.head(m.pool(seeds, h, h, need_weights=False)[0][:, 0])

    model = Net(
        run,
        entry=nn.Linear(3, 32),
        attend=nn.MultiheadAttention(32, 4, batch_first=True),
        norm=nn.LayerNorm(32),
        seed=param(1, 1, 32, scale=0.2),
        pool=nn.MultiheadAttention(32, 4, batch_first=True),
        head=nn.Linear(32, 1),
    )
    return design(
        "set transformer", model, (torch.randn(32, 20, 3), torch.randn(32, 1)), F.mse_loss
    )


def tiny_batch() -> Situation:
    seed(67)
    model = mlp(10, 32, 32, 1, act=nn.ReLU)
    return design("two examples", model, line(2, 10), F.mse_loss)


def logistic() -> Situation:
    seed(68)
    x, y = blobs(256, 30, 2)
    return design(
        "logistic regression",
        nn.Linear(30, 1).double(),
        (x.double(), y.double()[:, None]),
        F.binary_cross_entropy_with_logits,
        kinds={"healthy"},
    )


def complex_valued() -> Situation:
    seed(69)
    model = Net(
        lambda m, x: m.head(torch.view_as_real(x.to(torch.complex64) @ m.w).flatten(1)),
        w=nn.Parameter(torch.randn(8, 16, dtype=torch.complex64) / 4),
        head=nn.Linear(32, 3),
    )
    return design("complex weights", model, blobs(60, 8, 3), F.cross_entropy)


def gated_convolution() -> Situation:
    seed(70)

    def run(m, x):
        x, skip = m.entry(x), 0
        for k, (layer, out) in enumerate(m.layers):
            a, b = layer(F.pad(x, (2**k, 0))).chunk(2, 1)
            h = out(torch.tanh(a) * torch.sigmoid(b))
            skip, x = skip + h, x + h
        return m.head(F.relu(skip))

    layers = nn.ModuleList(
        nn.ModuleList([nn.Conv1d(16, 32, 2, dilation=2**k), nn.Conv1d(16, 16, 1)]) for k in range(6)
    )
    model = Net(run, entry=nn.Conv1d(1, 16, 1), layers=layers, head=nn.Conv1d(16, 32, 1))
    return design(
        "WaveNet",
        model,
        (torch.randn(4, 1, 80), torch.randint(32, (4, 80))),
        F.cross_entropy,
    )


def energy() -> Situation:
    seed(71)
    model = mlp(2, 64, 64, 1, act=nn.SiLU)
    x = torch.cat([torch.randn(64, 2), 2 * torch.randn(64, 2)])

    def loss(out):
        good, bad = out[:64], out[64:]
        return good.mean() - bad.mean() + 0.1 * (good**2 + bad**2).mean()

    return design("energy model", model, x, loss)


def score_matching() -> Situation:
    seed(72)
    noise = torch.randn(128, 2)
    x = torch.randn(128, 2) + 0.5 * noise
    return design("score matching", mlp(2, 64, 64, 2, act=nn.Softplus), (x, -noise), F.mse_loss)


def barlow_twins() -> Situation:
    seed(73)
    model = Net(
        lambda m, a, b: (m.net(a), m.net(b)),
        net=nn.Sequential(nn.Linear(16, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Linear(64, 32)),
    )

    def loss(out, _):
        a, b = ((z - z.mean(0)) / z.std(0) for z in out)
        c = a.T @ b / len(a)
        on = (c.diagonal() - 1).pow(2).sum()
        return on + 5e-3 * (c.pow(2).sum() - c.diagonal().pow(2).sum())

    x = torch.randn(64, 16)
    batch = ((x + 0.1 * torch.randn(64, 16), x + 0.1 * torch.randn(64, 16)), torch.zeros(1))
    return design("Barlow twins", model, batch, loss)
