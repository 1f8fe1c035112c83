"""An activation behind the last layer (A11): saturated or dead where the answer is wrong; no alarm where the loss undoes it."""

import torch
import torch.nn.functional as F
from reports.situation import QUIET, Situation, blobs, line, mlp, seed
from torch import nn

FULL, DEAD, ZERO = {"saturated"}, {"dead"}, {"zero_gradient"}
STUCK = (
    FULL,
    ZERO,
    {"saturated", "zero_gradient"},
    {"saturated", "unscaled"},
    {"saturated", "zero_gradient", "unscaled"},
)


def weights_of_100_sigmoid_mse() -> Situation:
    seed(0)
    model = nn.Sequential(nn.Linear(4, 1), nn.Sigmoid())
    nn.init.constant_(model[0].weight, 100.0)
    x = torch.randn(32, 4)
    return Situation(
        "Linear(4, 1) with weights 100, sigmoid, MSE",
        model,
        (x, (torch.rand(32, 1) > 0.5).float()),
        F.mse_loss,
        kinds=STUCK,
        words=("sigmoid",),
        source="outside.md A11",
    )


def functional_sigmoid_mse() -> Situation:
    seed(1)

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = mlp(4, 16, 1)
            with torch.no_grad():
                self.net[-1].weight.mul_(200)

        def forward(self, x):
            return torch.sigmoid(self.net(x))

    return Situation(
        "torch.sigmoid in forward, logits of ±50, MSE",
        Net(),
        (torch.randn(64, 4), (torch.rand(64, 1) > 0.5).float()),
        F.mse_loss,
        kinds=STUCK,
        words=("sigmoid",),
        source="outside.md A11 (functional)",
    )


def tanh_policy() -> Situation:
    seed(2)
    model = mlp(6, 32, 2, tail=(nn.Tanh(),))
    with torch.no_grad():
        model[2].weight.mul_(100)
    return Situation(
        "actor with tanh at ±1, targets within",
        model,
        (torch.randn(64, 6), 0.5 * torch.randn(64, 2).clamp(-1, 1)),
        F.mse_loss,
        kinds=STUCK,
        words=("tanh",),
        source="outside.md A11 (tanh)",
    )


def dead_relu_output() -> Situation:
    # ProteomicsML/ProteomicsML#203: constant 0 from a ReLU at the last layer; keras-team/keras#3687
    seed(3)
    model = mlp(6, 32, 1, tail=(nn.ReLU(),))
    nn.init.constant_(model[2].bias, -8.0)
    x, y = line(64, 6)
    return Situation(
        "regression with a dead ReLU at the output",
        model,
        (x, y.abs()),
        F.mse_loss,
        kinds=(DEAD, {"dead", "constant_output"}, ZERO, {"dead", "zero_gradient"}),
        words=("relu", "output|last"),
        source="ProteomicsML/ProteomicsML#203",
    )


def functional_dead_relu_output() -> Situation:
    # jvargasmu/population_estimation#68: the first solution predicts zeros only and no gradients emerge
    seed(4)

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = mlp(6, 32, 1)
            nn.init.constant_(self.net[2].bias, -8.0)

        def forward(self, x):
            return F.relu(self.net(x))

    x, y = line(64, 6)
    return Situation(
        "F.relu at the output, all zero",
        Net(),
        (x, y.abs()),
        F.mse_loss,
        kinds=(DEAD, {"dead", "constant_output"}, ZERO, {"dead", "zero_gradient"}),
        words=("relu",),
        source="jvargasmu/population_estimation#68",
    )


def one_dead_output_of_four() -> Situation:
    seed(5)
    model = mlp(6, 32, 4, tail=(nn.ReLU(),))
    with torch.no_grad():
        model[2].bias[1] = -8.0
    return Situation(
        "one of four ReLU outputs is dead, its targets are not 0",
        model,
        (torch.randn(64, 6), torch.rand(64, 4) + 0.2),
        F.mse_loss,
        kinds=(DEAD, {"undecided"}, ZERO),
        words=("1",),
        source="keras-team/keras#3687 (one of several)",
    )


class Game(nn.Module):
    """Generator whose fakes a fixed discriminator judges."""

    def __init__(self, logit):
        super().__init__()
        self.generator = mlp(4, 16, 2)
        self.critic = nn.Linear(2, 1).requires_grad_(False)
        with torch.no_grad():
            self.critic.weight.mul_(0.3)
            self.critic.bias.fill_(logit)

    def forward(self, z):
        return torch.sigmoid(self.critic(self.generator(z)))


def saturating_generator_loss() -> Situation:
    # ronny3050/AdvFaces#5 (quotes the paper): log(1 - D(G(z))) saturates while D rejects with confidence
    seed(6)
    return Situation(
        "log(1 - D(G(z))) where D is sure",
        Game(-14.0),
        torch.randn(64, 4),
        lambda d: torch.log(1 - d).mean(),
        kinds=(FULL, {"undecided"}),
        words=("sigmoid",),
        source="depthfirstlearning/depthfirstlearning.com#22",
    )


def least_squares_gan_with_sigmoid() -> Situation:
    # guojunq/lsgan#3, dansuh17/segan-pytorch#6, junyanz/CycleGAN#70: squared loss on a sigmoid
    seed(7)
    return Situation(
        "least-squares GAN with a sigmoid in D",
        Game(-14.0),
        torch.randn(64, 4),
        lambda d: (d - 1).pow(2).mean(),
        kinds=(FULL, {"undecided"}),
        words=("sigmoid",),
        source="guojunq/lsgan#3",
    )


def bce_of_a_sigmoid_that_is_exactly_one() -> Situation:
    # soumith/ganhacks#67: sigmoid + BCELoss exchanged for BCEWithLogitsLoss
    seed(8)
    x, _ = blobs(64, 6, 2)
    model = mlp(6, 16, 1, tail=(nn.Sigmoid(),))
    nn.init.constant_(model[2].bias, 120.0)
    return Situation(
        "sigmoid(120) = 1 exactly, BCE, labels 0",
        model,
        (x, torch.zeros(64, 1)),
        F.binary_cross_entropy,
        kinds=STUCK,
        words=("sigmoid",),
        remedy=("with_logits",),
        source="soumith/ganhacks#67",
        why="rounding has made the slope exactly 0; with logits the gradient is 1",
    )


def softmax_mse_sure_and_wrong() -> Situation:
    # FluxML/Flux.jl#1546 (discussion): softmax with squared error
    seed(9)
    model = mlp(6, 16, 3, tail=(nn.Softmax(1),))
    with torch.no_grad():
        model[2].weight.mul_(300)
    x, y = blobs(66, 6, 3)
    return Situation(
        "softmax with squared error, sure and wrong",
        model,
        (x, F.one_hot((y + 1) % 3, 3).float()),
        F.mse_loss,
        kinds=STUCK,
        words=("softmax",),
        source="FluxML/Flux.jl#1546 (saturated)",
    )


# ---------------------------------------------------------------- healthy


def bce_undoes_the_sigmoid() -> Situation:
    seed(20)
    x, y = blobs(64, 6, 2)
    model = mlp(6, 16, 1, tail=(nn.Sigmoid(),))
    nn.init.constant_(model[2].bias, 6.0)
    return Situation(
        "sigmoid near 1, BCE: the loss undoes it",
        model,
        (x, y.float()[:, None]),
        F.binary_cross_entropy,
        kinds=(*QUIET, {"unscaled"}),
        source="outside.md A11 (undone)",
    )


def right_and_sure_mse() -> Situation:
    seed(21)
    x, y = blobs(64, 6, 2)
    model = nn.Sequential(nn.Linear(6, 1), nn.Sigmoid())
    with torch.no_grad():
        w = x[y == 1].mean(0) - x[y == 0].mean(0)
        model[0].weight.copy_(w[None] * 6)
        model[0].bias.zero_()
    keep = (x @ w > 0).long() == y
    return Situation(
        "sigmoid with MSE: sure, and right",
        model,
        (x[keep], y[keep].float()[:, None]),
        F.mse_loss,
        kinds=QUIET,
        source="outside.md A11 (right and sure)",
    )


def right_and_sure_bce() -> Situation:
    seed(22)
    x, y = blobs(64, 6, 2)
    model = nn.Sequential(nn.Linear(6, 1), nn.Sigmoid())
    with torch.no_grad():
        w = x[y == 1].mean(0) - x[y == 0].mean(0)
        model[0].weight.copy_(w[None] * 6)
        model[0].bias.zero_()
    keep = (x @ w > 0).long() == y
    return Situation(
        "sigmoid with BCE: sure, and right",
        model,
        (x[keep], y[keep].float()[:, None]),
        F.binary_cross_entropy,
        kinds=QUIET,
        source="outside.md A11 (right and sure)",
    )


def fresh_sigmoid_mse() -> Situation:
    seed(23)
    x, y = blobs(64, 6, 2)
    return Situation(
        "sigmoid with MSE at the start",
        mlp(6, 32, 1, tail=(nn.Sigmoid(),)),
        (x, y.float()[:, None]),
        F.mse_loss,
        source="twin of outside.md A11",
    )


def images_through_a_sigmoid() -> Situation:
    seed(24)
    x = torch.rand(32, 36)
    return Situation(
        "autoencoder of images in [0, 1], sigmoid, MSE",
        mlp(36, 16, 36, tail=(nn.Sigmoid(),)),
        (x, x),
        F.mse_loss,
        source="twin: scaled targets",
    )


def non_saturating_generator_loss() -> Situation:
    # depthfirstlearning/depthfirstlearning.com#22: the non-saturating loss
    seed(25)
    return Situation(
        "-log D(G(z)) where D is sure",
        Game(-6.0),
        torch.randn(64, 4),
        lambda d: -torch.log(d).mean(),
        kinds=(*QUIET, {"unscaled"}),
        source="depthfirstlearning/depthfirstlearning.com#22 (non-saturating)",
    )


def critic_of_a_wasserstein_gan() -> Situation:
    seed(26)
    critic = mlp(2, 16, 1)
    return Situation(
        "Wasserstein critic: no activation at the output",
        critic,
        torch.cat([torch.randn(32, 2), torch.randn(32, 2) + 2]),
        lambda o: o[32:].mean() - o[:32].mean(),
        kinds=QUIET,
        source="junyanz/CycleGAN#70 (no sigmoid)",
        why="the last bias gets exactly 0 by cancellation: the loss is a difference of means",
    )


def relu_output_half_active() -> Situation:
    seed(27)
    x, y = line(64, 6)
    return Situation(
        "ReLU at the output, half of the outputs positive",
        mlp(6, 32, 1, tail=(nn.ReLU(),)),
        (x, y.clamp_min(0)),
        F.mse_loss,
        kinds=QUIET,
        source="twin of ProteomicsML/ProteomicsML#203",
    )


def relu_output_zero_where_it_should_be() -> Situation:
    seed(28)
    x = torch.randn(64, 6)
    model = mlp(6, 32, 3, tail=(nn.ReLU(),))
    with torch.no_grad():
        model[2].bias[0] = -8.0
    y = torch.rand(64, 3)
    y[:, 0] = 0
    return Situation(
        "a ReLU output that is 0, and so are its targets",
        model,
        (x, y),
        F.mse_loss,
        kinds=(*QUIET, DEAD),
        words=("0",),
        source="twin: dead and right",
        why="dead is true of the unit; healthy is true of the loss. Both can be acted on if said",
    )


def large_logits_right_answers() -> Situation:
    seed(29)
    x, y = blobs(66, 6, 3)
    model = nn.Linear(6, 3)
    with torch.no_grad():
        centers = torch.stack([x[y == k].mean(0) for k in range(3)])
        model.weight.copy_(30 * centers)
        model.bias.copy_(-15 * centers.pow(2).sum(1))
    keep = model(x).argmax(1) == y
    return Situation(
        "cross_entropy: sure and right",
        model,
        (x[keep], y[keep]),
        F.cross_entropy,
        kinds=(*QUIET, ZERO),
        words=("loss|0",),
        source="twin: sure and right",
        why="the loss is almost 0: it is done",
    )


def gated_output() -> Situation:
    seed(30)
    return Situation(
        "hardsigmoid output in its linear part",
        mlp(6, 32, 1, tail=(nn.Hardsigmoid(),)),
        (torch.randn(64, 6), torch.rand(64, 1)),
        F.mse_loss,
        source="twin: hardsigmoid",
    )


def softplus_rate() -> Situation:
    seed(31)
    x = torch.randn(64, 6)
    return Situation(
        "Poisson rate by softplus",
        mlp(6, 32, 1, tail=(nn.Softplus(),)),
        (x, torch.poisson(torch.full((64, 1), 2.0))),
        lambda o, y: F.poisson_nll_loss(o, y, log_input=False),
        source="twin: softplus",
    )


# ---------------------------------------------------------------- invented: sick


class Behind(nn.Module):
    """A network and a function of its output."""

    def __init__(self, layers, function):
        super().__init__()
        self.layers, self.function = layers, function

    def forward(self, x):
        return self.function(self.layers(x))


def loud(outputs=1, gain=200.0, bias=0.0, inputs=6):
    """A network with a last layer that is too large."""
    model = mlp(inputs, 16, outputs)
    with torch.no_grad():
        model[2].weight.mul_(gain)
        model[2].bias.add_(bias)
    return model


def halves(number=64, outputs=1):
    """Inputs with labels 0 and 1 by chance."""
    return torch.randn(number, 6), (torch.rand(number, outputs) > 0.5).float()


def pixels_up_to_255_and_a_sigmoid() -> Situation:
    seed(50)
    x, y = halves()
    return Situation(
        "inputs of scale 300, sigmoid, MSE",
        mlp(6, 16, 1, tail=(nn.Sigmoid(),)),
        (300 * x, y),
        F.mse_loss,
        kinds=STUCK,
        words=("sigmoid",),
        source="invented: unscaled inputs",
    )


def sigmoid_with_absolute_error() -> Situation:
    seed(51)
    return Situation(
        "sigmoid, L1 loss, logits of ±50",
        Behind(loud(), torch.sigmoid),
        halves(),
        F.l1_loss,
        kinds=STUCK,
        words=("sigmoid",),
        source="invented: L1",
    )


def sigmoid_written_in_the_loss() -> Situation:
    seed(52)
    return Situation(
        "MSE of sigmoid(logits) in the loss function",
        loud(),
        halves(),
        lambda z, y: F.mse_loss(z.sigmoid(), y),
        kinds=STUCK,
        words=("sigmoid", "loss"),
        source="invented: sigmoid in the loss",
    )


def scaled_tanh_of_an_actor() -> Situation:
    seed(53)
    return Situation(
        "2 * tanh(z) with actions within ±1",
        Behind(loud(2), lambda z: 2 * z.tanh()),
        (torch.randn(64, 6), torch.rand(64, 2) * 2 - 1),
        F.mse_loss,
        kinds=STUCK,
        words=("tanh",),
        source="invented: action range",
    )


def all_at_one_where_half_is_right() -> Situation:
    seed(54)
    return Situation(
        "sigmoid at 1 for all, targets around 0.6",
        Behind(loud(gain=1.0, bias=15.0), torch.sigmoid),
        (torch.randn(64, 6), 0.5 + 0.2 * torch.rand(64, 1)),
        F.mse_loss,
        kinds=STUCK,
        words=("sigmoid",),
        source="invented: overshoot",
    )


def segmentation_with_a_loud_head() -> Situation:
    seed(55)
    layers = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 1, 1))
    with torch.no_grad():
        layers[2].weight.mul_(500)
    x = torch.randn(4, 1, 12, 12)
    return Situation(
        "segmentation, sigmoid, MSE, masks by chance",
        Behind(layers, torch.sigmoid),
        (x, (torch.rand(4, 1, 12, 12) > 0.5).float()),
        F.mse_loss,
        kinds=STUCK,
        words=("sigmoid",),
        source="invented: segmentation",
    )


def hard_sigmoid_beyond_its_range() -> Situation:
    seed(56)
    return Situation(
        "Hardsigmoid at the output, beyond ±3",
        Behind(loud(), F.hardsigmoid),
        halves(),
        F.mse_loss,
        kinds=STUCK,
        words=("hardsigmoid",),
        source="invented: hardsigmoid",
    )


def counts_by_a_dead_relu6() -> Situation:
    seed(57)
    return Situation(
        "ReLU6 at the output, all below 0",
        Behind(loud(gain=1.0, bias=-9.0), F.relu6),
        (torch.randn(64, 6), 1 + torch.rand(64, 1)),
        F.mse_loss,
        kinds=(DEAD, {"dead", "constant_output"}, ZERO, {"dead", "zero_gradient"}),
        words=("relu",),
        source="invented: relu6",
    )


def depth_map_by_a_dead_relu() -> Situation:
    seed(58)
    layers = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 1, 1))
    nn.init.constant_(layers[2].bias, -20.0)
    return Situation(
        "depth map, a ReLU over it, all 0",
        Behind(layers, torch.relu),
        (torch.randn(4, 1, 12, 12), torch.rand(4, 1, 12, 12)),
        F.mse_loss,
        kinds=(DEAD, {"dead", "constant_output"}, ZERO, {"dead", "zero_gradient"}),
        words=("relu",),
        source="invented: dense regression",
    )


def squeezed_dead_output() -> Situation:
    seed(59)
    return Situation(
        "relu(z).squeeze(1), all 0",
        Behind(loud(gain=1.0, bias=-9.0), lambda z: torch.relu(z).squeeze(1)),
        (torch.randn(64, 6), torch.rand(64) + 0.5),
        F.mse_loss,
        kinds=(DEAD, {"dead", "constant_output"}, ZERO, {"dead", "zero_gradient"}),
        words=("relu",),
        source="invented: squeeze",
    )


# ---------------------------------------------------------------- invented: healthy


def loud_and_right() -> Situation:
    seed(60)
    model = Behind(loud(), torch.sigmoid)
    x = torch.randn(64, 6)
    return Situation(
        "logits of ±50, and all of them right",
        model,
        (x, model(x).detach().round()),
        F.mse_loss,
        kinds=QUIET,
        source="invented: sure and right",
    )


def loud_and_mostly_right() -> Situation:
    seed(61)
    model = Behind(loud(), torch.sigmoid)
    x = torch.randn(100, 6)
    y = model(x).detach().round()
    y[:4] = 1 - y[:4]
    return Situation(
        "4 of 100 labels are wrong, and the fit is done",
        model,
        (x, y),
        F.mse_loss,
        kinds=QUIET,
        source="invented: noisy labels",
    )


def white_images_by_tanh() -> Situation:
    seed(62)
    model = Behind(nn.Linear(12, 12), torch.tanh)
    with torch.no_grad():
        model.layers.weight.copy_(40 * torch.eye(12))
        model.layers.bias.zero_()
    x = torch.randn(64, 12)
    return Situation(
        "black and white images, tanh, learned",
        model,
        (x, 0.99 * x.sign()),
        F.mse_loss,
        kinds=QUIET,
        source="invented: black and white",
    )


def dice_at_the_start() -> Situation:
    seed(63)
    return Situation(
        "Dice loss on a sigmoid",
        mlp(6, 16, 1, tail=(nn.Sigmoid(),)),
        halves(),
        lambda p, y: 1 - 2 * (p * y).sum() / (p.sum() + y.sum()),
        kinds=QUIET,
        source="invented: Dice",
    )


def focal_on_logits() -> Situation:
    seed(64)

    def focal(z, y):
        loss = F.binary_cross_entropy_with_logits(z, y, reduction="none")
        return ((1 - torch.exp(-loss)) ** 2 * loss).mean()

    return Situation(
        "focal loss, prior of 1 percent in the bias",
        loud(gain=1.0, bias=-4.6),
        (torch.randn(64, 6), (torch.rand(64, 1) > 0.95).float()),
        focal,
        kinds=QUIET,
        source="invented: focal loss",
    )


def cross_entropy_undoes_logits_of_20() -> Situation:
    seed(65)
    return Situation(
        "BCE with logits, all at 20, half wrong",
        loud(gain=1.0, bias=20.0),
        halves(),
        F.binary_cross_entropy_with_logits,
        kinds=(*QUIET, {"unscaled"}),
        source="invented: logits",
    )


def embedding_behind_a_relu() -> Situation:
    seed(66)

    def triplet(z):
        near, far = (z[:20] - z[20:40]).pow(2).sum(1), (z[:20] - z[40:60]).pow(2).sum(1)
        return F.relu(near - far + 0.5).mean()

    return Situation(
        "embeddings behind a ReLU, some features 0",
        mlp(6, 32, 32, tail=(nn.ReLU(),)),
        torch.randn(64, 6),
        triplet,
        kinds=QUIET,
        source="invented: ReLU features",
    )


def logits_behind_a_relu() -> Situation:
    seed(67)
    return Situation(
        "100 logits behind a ReLU",
        mlp(6, 32, 100, tail=(nn.ReLU(),)),
        (torch.randn(64, 6), torch.randint(0, 100, (64,))),
        F.cross_entropy,
        kinds=(*QUIET, {"loss_mismatch"}),
        source="invented: ReLU before cross-entropy",
    )


def sparse_code_that_is_zero_where_it_should() -> Situation:
    seed(68)
    model = Behind(loud(8, gain=1.0), torch.relu)
    with torch.no_grad():
        model.layers[2].bias[:4] = -9
    x = torch.randn(64, 6)
    return Situation(
        "half of the outputs are 0, and right",
        model,
        (x, model(x).detach() + 0.1 * torch.rand(64, 8) * (model(x) > 0)),
        F.mse_loss,
        kinds=(*QUIET, DEAD),
        source="invented: sparse targets",
    )


def one_sample_below_zero() -> Situation:
    seed(69)
    return Situation(
        "a batch of one, ReLU output 0",
        Behind(loud(gain=1.0, bias=-1.0), torch.relu),
        (torch.randn(1, 6), torch.ones(1, 1)),
        F.mse_loss,
        kinds=QUIET,
        source="invented: one sample",
    )
