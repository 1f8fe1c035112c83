"""Inputs, targets or first outputs of a scale at which training starts badly."""

import math

import torch
import torch.nn.functional as F
from reports.situation import QUIET, Situation, blobs, line, mlp, seed
from torch import nn

KIND = {"unscaled"}
OR_FULL = (KIND, {"unscaled", "saturated"})


def features_of_two_scales() -> Situation:
    seed(0)
    x, y = line(64, 2)
    return Situation(
        "features of scale 1e5 beside 1e-2",
        mlp(2, 32, 1),
        (x * torch.tensor([1e5, 1e-2]), y),
        F.mse_loss,
        kinds=KIND,
        words=("input",),
        source="outside.md A14",
    )


def salary_beside_flags() -> Situation:
    seed(1)
    x, y = blobs(64, 6, 2)
    x = (x > 0).float()
    x[:, 0] = 3e4 + 2e4 * torch.rand(64)
    return Situation(
        "a salary beside five flags",
        mlp(6, 32, 2),
        (x, y),
        F.cross_entropy,
        kinds=KIND,
        words=("input",),
        source="outside.md A14",
    )


def pixels() -> Situation:
    # www0wwwjs1/Matrix-Capsules-EM-Tensorflow#51: without / 255 the reconstruction loss becomes very large
    seed(2)
    model = nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 10))
    return Situation(
        "pixels 0…255",
        model,
        (torch.randint(0, 256, (32, 1, 8, 8)).float(), torch.randint(0, 10, (32,))),
        F.cross_entropy,
        kinds=KIND,
        words=("input", "255"),
        source="www0wwwjs1/Matrix-Capsules-EM-Tensorflow#51",
    )


def pixels_into_sigmoids() -> Situation:
    seed(3)
    return Situation(
        "pixels 0…255 into sigmoid units",
        mlp(64, 32, 10, act=nn.Sigmoid),
        (torch.randint(0, 256, (32, 64)).float(), torch.randint(0, 10, (32,))),
        F.cross_entropy,
        kinds=(*OR_FULL, {"saturated"}),
        words=("input|255",),
        source="outside.md A14",
    )


class Language(nn.Module):
    def __init__(self, std, vocabulary=500, d=64, scale=1.0):
        super().__init__()
        self.embed, self.fc = nn.Embedding(vocabulary, d), nn.Linear(d, d)
        self.norm, self.head = nn.LayerNorm(d), nn.Linear(d, vocabulary, bias=False)
        nn.init.normal_(self.embed.weight, std=std)
        self.head.weight = self.embed.weight
        self.scale = scale

    def forward(self, i):
        h = self.embed(i)
        return self.head(self.norm(h + self.fc(h))) * self.scale


def tokens(vocabulary=500):
    i = torch.randint(0, vocabulary, (8, 16))
    return i, torch.randint(0, vocabulary, (8, 16))


def token_loss(o, y):
    return F.cross_entropy(o.flatten(0, 1), y.flatten())


def tied_embedding_from_a_unit_normal() -> Situation:
    seed(4)
    return Situation(
        "tied embedding from N(0, 1)",
        Language(1.0),
        tokens(),
        token_loss,
        kinds=KIND,
        words=("6.2",),
        source="outside.md A14",
        why="ln 500 = 6.21",
    )


def head_with_unit_variance() -> Situation:
    # huggingface/transformers#26441: lm_head of variance 1, first cross-entropy about 110 where ln V is 10
    seed(5)
    model = nn.Sequential(nn.Embedding(500, 64), nn.LayerNorm(64), nn.Linear(64, 500, bias=False))
    nn.init.normal_(model[2].weight, std=1.0)
    return Situation(
        "head of variance 1 (T5)",
        model,
        tokens(),
        token_loss,
        kinds=KIND,
        words=("6.2",),
        source="huggingface/transformers#26441",
    )


def house_prices() -> Situation:
    seed(6)
    x, y = line(64, 6)
    return Situation(
        "targets of 200,000 ± 50,000",
        mlp(6, 32, 1),
        (x, 2e5 + 5e4 * y),
        F.mse_loss,
        kinds=KIND,
        words=("target",),
        source="outside.md A14 (targets)",
    )


def time_stamps() -> Situation:
    seed(7)
    x, y = line(64, 4)
    x[:, 0] = 1.7e9 + 86400 * torch.arange(64.0)
    return Situation(
        "a time stamp among the features",
        mlp(4, 32, 1),
        (x, y),
        F.mse_loss,
        kinds=(KIND, {"unscaled", "constant_output"}),
        words=("input",),
        source="outside.md A14",
        why="1.7e9 drowns the rest; the output is nearly constant for it",
    )


def kelvin() -> Situation:
    seed(8)
    x, y = line(64, 4)
    return Situation(
        "temperatures 293 ± 5",
        mlp(4, 32, 1),
        (293 + 5 * x, y),
        F.mse_loss,
        kinds=KIND,
        words=("input",),
        source="outside.md A14 (offset)",
        why="the offset is 60 spreads: the first layer sees almost a constant",
    )


def meters_of_a_nanometer() -> Situation:
    seed(9)
    x, y = line(64, 4)
    return Situation(
        "lengths of 1e-9",
        mlp(4, 32, 1),
        (1e-9 * x, y),
        F.mse_loss,
        kinds=(KIND, {"unscaled", "constant_output"}),
        words=("input",),
        source="outside.md A14 (small)",
    )


def first_outputs_of_a_policy() -> Situation:
    seed(10)
    model = mlp(8, 64, 64, 6, act=nn.Tanh)
    with torch.no_grad():
        model[-1].weight.mul_(100)
    return Situation(
        "first logits of ±60: the first loss is ten times ln 6",
        model,
        blobs(60, 8, 6),
        F.cross_entropy,
        kinds=(KIND, {"unscaled", "saturated"}),
        words=("1.79",),
        source="outside.md A14",
        why="ln 6 = 1.79",
    )


# ---------------------------------------------------------------- healthy


def batch_norm_first() -> Situation:
    seed(20)
    x, y = line(64, 2)
    model = nn.Sequential(nn.BatchNorm1d(2), nn.Linear(2, 32), nn.ReLU(), nn.Linear(32, 1))
    return Situation(
        "raw features into a batch norm",
        model,
        (x * torch.tensor([1e5, 1e-1]), y),
        F.mse_loss,
        source="twin: norm first",
    )


def scaled_in_forward() -> Situation:
    # ultralytics/yolov5#364: 0…255 in the data set, divided in the training code
    seed(21)

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = mlp(64, 32, 10)

        def forward(self, x):
            return self.net((x.flatten(1).float() - 127.5) / 74)

    return Situation(
        "pixels 0…255 that forward scales",
        Net(),
        (torch.randint(0, 256, (32, 1, 8, 8), dtype=torch.uint8), torch.randint(0, 10, (32,))),
        F.cross_entropy,
        source="ultralytics/yolov5#364",
    )


def images_between_zero_and_one() -> Situation:
    seed(22)
    model = nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 10))
    return Situation(
        "images in [0, 1], not centered",
        model,
        (torch.rand(32, 1, 8, 8), torch.randint(0, 10, (32,))),
        F.cross_entropy,
        source="twin: not centered",
    )


def one_hot_inputs() -> Situation:
    seed(23)
    i = torch.randint(0, 50, (64,))
    return Situation(
        "one-hot inputs, 98 % zeros",
        mlp(50, 32, 3),
        (F.one_hot(i, 50).float(), i % 3),
        F.cross_entropy,
        source="twin: sparse inputs",
    )


def token_numbers() -> Situation:
    seed(24)
    model = nn.Sequential(nn.Embedding(30000, 8), nn.Flatten(), nn.Linear(40, 3))
    return Situation(
        "token numbers up to 30000",
        model,
        (torch.randint(0, 30000, (32, 5)), torch.randint(0, 3, (32,))),
        F.cross_entropy,
        source="twin: indices are no features",
    )


def summed_squares() -> Situation:
    seed(25)
    return Situation(
        "squared error summed over the batch",
        mlp(6, 32, 1),
        line(64, 6),
        lambda o, y: F.mse_loss(o, y, reduction="sum"),
        source="twin: a sum is 64 means",
    )


def summed_cross_entropy_of_a_vae() -> Situation:
    seed(26)
    x = torch.rand(32, 64)

    class VAE(nn.Module):
        def __init__(self):
            super().__init__()
            self.enc, self.dec = nn.Linear(64, 8), nn.Linear(4, 64)

        def forward(self, x):
            mu, logvar = self.enc(x).chunk(2, 1)
            return self.dec(mu + torch.randn_like(mu) * (0.5 * logvar).exp()), mu, logvar

    def loss(o, x):
        kl = -0.5 * (1 + o[2] - o[1] ** 2 - o[2].exp()).sum()
        return F.binary_cross_entropy_with_logits(o[0], x, reduction="sum") + kl

    return Situation("VAE, losses summed", VAE(), (x, x), loss, source="twin: summed losses")


def small_targets() -> Situation:
    seed(27)
    x, y = line(64, 6)
    return Situation(
        "targets of spread 0.1",
        mlp(6, 32, 1),
        (x, 0.1 * y),
        F.mse_loss,
        kinds=QUIET,
        source="twin: a factor of a few",
    )


def inputs_of_spread_three() -> Situation:
    seed(28)
    x, y = blobs(64, 8, 3)
    return Situation(
        "inputs of spread 3",
        mlp(8, 32, 3),
        (3 * x, y),
        F.cross_entropy,
        source="twin: a factor of a few",
    )


def gpt_initialization() -> Situation:
    # karpathy/build-nanogpt#18: embeddings from N(0, 0.02)
    seed(29)
    return Situation(
        "tied embedding from N(0, 0.02)",
        Language(0.02),
        tokens(),
        token_loss,
        source="karpathy/build-nanogpt#18",
    )


def tied_with_scaled_logits() -> Situation:
    # google-research/t5x#1477: tied embedding of variance 1, logits scaled by d^-1/2
    seed(30)
    return Situation(
        "tied embedding from N(0, 1), logits times d^-1/2",
        Language(1.0, scale=64**-0.5),
        tokens(),
        token_loss,
        kinds=QUIET,
        source="google-research/t5x#1477",
        why="first loss about ln V + 1/2",
    )


def fourier_features() -> Situation:
    seed(31)

    class Field(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = mlp(32, 32, 1)
            self.register_buffer("b", torch.randn(2, 16) * 10)

        def forward(self, x):
            a = 2 * math.pi * x @ self.b
            return self.net(torch.cat([a.sin(), a.cos()], 1))

    x = torch.rand(128, 2)
    return Situation(
        "coordinates through Fourier features",
        Field(),
        (x, torch.sin(9 * x[:, :1])),
        F.mse_loss,
        source="twin: features in forward",
    )


def almost_trained() -> Situation:
    seed(32)
    model = mlp(8, 64, 3)
    x, y = blobs(64, 8, 3)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(60):
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()
    return Situation(
        "almost trained: the loss is far below ln 3",
        model,
        (x, y),
        F.cross_entropy,
        source="twin: a trained net",
    )


def rare_classes() -> Situation:
    seed(33)
    x, _ = blobs(64, 8, 2)
    y = (torch.arange(64) % 32 == 0).float()[:, None]
    return Situation(
        "3 % positives, pos_weight 30",
        mlp(8, 32, 1),
        (x, y),
        lambda o, y: F.binary_cross_entropy_with_logits(o, y, pos_weight=torch.tensor([30.0])),
        source="twin: weighted loss",
    )


def ones_and_a_mean() -> Situation:
    seed(34)
    x, y = line(64, 6)
    return Situation(
        "targets of mean 3 and spread 1",
        mlp(6, 32, 1),
        (x, 3 + y),
        F.mse_loss,
        kinds=(*QUIET, KIND),
        source="twin: an offset of a few spreads",
        why="ten times the blind loss; the output bias learns it: at most a note",
    )


def layer_norm_on_word_vectors() -> Situation:
    seed(35)
    model = nn.Sequential(nn.LayerNorm(16), nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 3))
    x, y = blobs(64, 16, 3)
    return Situation(
        "features times 40 into a layer norm",
        model,
        (40 * x, y),
        F.cross_entropy,
        source="twin: norm first",
    )


# ---------------------------------------------------------------- more, sick


def ages_and_incomes() -> Situation:
    seed(40)
    x, y = blobs(64, 3, 2)
    x = torch.tensor([45.0, 4e4, 2.0]) + torch.tensor([15.0, 1.5e4, 1.0]) * x
    return Situation(
        "age, income and children, as they are",
        mlp(3, 32, 1),
        (x, y.float()[:, None]),
        F.binary_cross_entropy_with_logits,
        kinds=KIND,
        words=("input",),
        source="a table read from a file",
    )


def sixteen_bit_images() -> Situation:
    seed(41)
    model = nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 1))
    x = torch.randint(0, 65536, (32, 1, 8, 8)).float()
    return Situation(
        "16-bit images",
        model,
        (x, x.mean((1, 2, 3))[:, None] / 65535),
        F.mse_loss,
        kinds=KIND,
        words=("input",),
        source="medical images without scaling",
    )


class ReadsPrices(nn.Module):
    def __init__(self, kind=nn.GRU):
        super().__init__()
        self.rnn, self.head = kind(1, 32, batch_first=True), nn.Linear(32, 1)

    def forward(self, x):
        return self.head(self.rnn(x)[0][:, -1])


def a_series_of_prices() -> Situation:
    seed(42)
    x = 4e4 + 1e3 * torch.randn(32, 20, 1).cumsum(1)
    return Situation(
        "a GRU that reads prices of 40,000 and predicts the next",
        ReadsPrices(),
        (x[:, :-1], x[:, -1]),
        F.mse_loss,
        kinds=(KIND, {"unscaled", "vanishing"}),
        words=("input",),
        source="a forecast of raw prices",
    )


def sixteen_bit_audio() -> Situation:
    seed(43)
    model = nn.Sequential(nn.Conv1d(1, 8, 9), nn.ReLU(), nn.AdaptiveAvgPool1d(1), nn.Flatten())
    x = torch.randint(-32768, 32768, (16, 1, 100)).float()
    return Situation(
        "16-bit audio",
        nn.Sequential(*model, nn.Linear(8, 4)),
        (x, torch.arange(16) % 4),
        F.cross_entropy,
        kinds=KIND,
        words=("input",),
        source="samples that were not divided by 32768",
    )


def returns_of_a_thousand() -> Situation:
    seed(44)
    x, y = line(64, 6)
    return Situation(
        "a critic with returns of about 1000",
        mlp(6, 64, 1, act=nn.Tanh),
        (x, 1000 + 300 * y),
        F.smooth_l1_loss,
        kinds=KIND,
        words=("target",),
        source="returns without scaling",
    )


def counts_of_people() -> Situation:
    seed(45)
    x, y = line(64, 6)
    return Situation(
        "millions of people as targets, absolute error by hand",
        mlp(6, 64, 1),
        (x, 3e6 + 1e6 * y),
        lambda o, y: (o - y).abs().mean(),
        kinds=KIND,
        words=("target",),
        source="targets without scaling",
    )


def root_of_the_squared_error() -> Situation:
    seed(46)
    x, y = line(64, 6)
    return Situation(
        "targets of 20,000, root mean squared error",
        mlp(6, 64, 1),
        (x, 2e4 + 5e3 * y),
        lambda o, y: F.mse_loss(o, y).sqrt(),
        kinds=KIND,
        words=("target",),
        source="targets without scaling",
    )


def many_labels_from_a_unit_normal() -> Situation:
    seed(47)
    model = mlp(16, 256, 20)
    nn.init.normal_(model[-1].weight, std=2.0)
    x, _ = blobs(64, 16, 2)
    return Situation(
        "multi-label head from N(0, 4)",
        model,
        (x, (torch.rand(64, 20) < 0.5).float()),
        F.binary_cross_entropy_with_logits,
        kinds=KIND,
        words=("logits",),
        source="a head of large weights",
    )


class LanguageWithLoss(nn.Module):
    def __init__(self, std):
        super().__init__()
        self.model = Language(std)

    def forward(self, input_ids, labels):
        logits = self.model(input_ids)
        return {"loss": token_loss(logits, labels), "logits": logits}


def tied_and_its_own_loss() -> Situation:
    seed(48)
    i, y = tokens()
    return Situation(
        "tied embedding from N(0, 1), the model returns its loss",
        LanguageWithLoss(1.0),
        {"input_ids": i, "labels": y},
        kinds=KIND,
        words=("6.2",),
        source="outside.md A14",
    )


def last_layer_of_a_thousand() -> Situation:
    seed(49)
    model = mlp(6, 64, 1)
    with torch.no_grad():
        model[-1].weight.mul_(1000)
    return Situation(
        "first outputs in the hundreds, targets of 1",
        model,
        line(64, 6),
        F.mse_loss,
        kinds=KIND,
        words=("output",),
        source="a head of large weights",
    )


# ---------------------------------------------------------------- more, healthy


def raw_pixels_into_conv_and_norm() -> Situation:
    seed(60)
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten()
    )
    return Situation(
        "pixels 0…255, convolution and batch norm",
        nn.Sequential(*model, nn.Linear(8 * 36, 10)),
        (torch.randint(0, 256, (32, 3, 8, 8)).float(), torch.arange(32) % 10),
        F.cross_entropy,
        source="twin: a norm takes the scale away",
    )


def norm_without_weights_first() -> Situation:
    seed(61)
    x, y = line(64, 4)
    model = nn.Sequential(nn.BatchNorm1d(4, affine=False), *mlp(4, 32, 1))
    return Situation("features of 1e4 into a norm without weights", model, (1e4 * x, y), F.mse_loss)


def counts_of_words() -> Situation:
    seed(62)
    x = torch.poisson(torch.full((64, 200), 0.05))
    x[:, 0] = torch.poisson(torch.full((64,), 8.0))
    return Situation("bags of words", mlp(200, 32, 3), (x, torch.arange(64) % 3), F.cross_entropy)


def quiet_audio() -> Situation:
    seed(63)
    model = nn.Sequential(nn.Conv1d(1, 8, 9), nn.ReLU(), nn.AdaptiveAvgPool1d(1), nn.Flatten())
    return Situation(
        "audio of amplitude 0.02",
        nn.Sequential(*model, nn.Linear(8, 4)),
        (0.02 * torch.randn(16, 1, 100), torch.arange(16) % 4),
        F.cross_entropy,
    )


def outputs_scaled_in_forward() -> Situation:
    seed(64)

    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = mlp(6, 32, 1)

        def forward(self, x):
            return 5e4 * self.net(x) + 2e5

    x, y = line(64, 6)
    return Situation("house prices, scaled in forward", Scaled(), (x, 2e5 + 5e4 * y), F.mse_loss)


def trained_on_raw_features() -> Situation:
    seed(65)
    x, y = blobs(64, 4, 2)
    x = 50 + 10 * x
    model = mlp(4, 32, 2)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(300):
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()
    return Situation("trained on features of 50", model, (x, y), F.cross_entropy)


def steps_of_a_diffusion() -> Situation:
    seed(66)

    class Denoiser(nn.Module):
        def __init__(self):
            super().__init__()
            self.time, self.net = nn.Linear(16, 16), mlp(24, 64, 8)

        def forward(self, x, t):
            angle = t[:, None] * torch.logspace(0, -4, 8)
            h = self.time(torch.cat([angle.sin(), angle.cos()], 1))
            return self.net(torch.cat([x, h], 1))

    x = torch.randn(64, 8)
    return Situation(
        "a step number up to 1000 into sines",
        Denoiser(),
        (x, torch.randint(0, 1000, (64,)).float(), torch.randn(64, 8)),
        F.mse_loss,
    )


def margin_of_cosines() -> Situation:
    seed(67)

    class Cosine(nn.Module):
        def __init__(self):
            super().__init__()
            self.net, self.weight = mlp(8, 64, 32), nn.Parameter(torch.randn(100, 32))

        def forward(self, x):
            return 64 * F.normalize(self.net(x)) @ F.normalize(self.weight).T

    def loss(o, y):
        return F.cross_entropy(o - 64 * 0.35 * F.one_hot(y, 100), y)

    x, y = blobs(64, 8, 10)
    return Situation("cosine softmax with margin, scale 64", Cosine(), (x, y), loss)


def coordinates_up_to_ten() -> Situation:
    seed(68)
    x = 10 * torch.rand(128, 2)
    return Situation(
        "coordinates between 0 and 10",
        mlp(2, 64, 64, 1),
        (x, torch.sin(x[:, :1])),
        F.mse_loss,
        kinds=QUIET,
    )


def targets_with_rare_spikes() -> Situation:
    seed(69)
    x, y = line(64, 6)
    return Situation(
        "targets of scale 1 beside rare spikes of 20",
        mlp(6, 32, 1),
        (x, y + 20 * (torch.rand(64, 1) < 0.03)),
        F.mse_loss,
        kinds=QUIET,
    )


def one_sample_of_a_he_net() -> Situation:
    seed(70)
    model = mlp(16, 64, 64, 10)
    for layer in model:
        if isinstance(layer, nn.Linear):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    return Situation(
        "a batch of one, He's initialization everywhere",
        model,
        (torch.randn(1, 16), torch.tensor([3])),
        F.cross_entropy,
        kinds=QUIET,
    )
