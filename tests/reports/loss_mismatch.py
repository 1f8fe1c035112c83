"""What the loss expects, what it got, and the figure that it costs."""

import torch
import torch.nn.functional as F
from reports.situation import HEALTHY, QUIET, Situation, blobs, line, mlp, seed
from torch import nn

KIND = {"loss_mismatch"}
TWICE = {"double_softmax"}


def softmax_into_nll() -> Situation:
    # AnubhavGupta3377/Text-Classification-Models-Pytorch#9: loss always negative; yanx27/Pointnet_Pointnet2_pytorch#30
    seed(0)
    return Situation(
        "softmax → nll_loss",
        mlp(8, 16, 5, tail=(nn.Softmax(1),)),
        blobs(40, 8, 5),
        F.nll_loss,
        kinds=KIND,
        words=("log",),
        remedy=("log_softmax|LogSoftmax",),
        source="AnubhavGupta3377/Text-Classification-Models-Pytorch#9",
    )


def functional_softmax_into_nll() -> Situation:
    # midas-research/man-sf-emnlp#2: F.softmax before F.nll_loss
    seed(1)

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = mlp(8, 16, 2)

        def forward(self, x):
            return F.softmax(self.net(x), dim=1)

    return Situation(
        "F.softmax in forward → nll_loss",
        Net(),
        blobs(40, 8, 2),
        F.nll_loss,
        kinds=KIND,
        words=("log",),
        source="midas-research/man-sf-emnlp#2",
    )


def exp_into_nll() -> Situation:
    seed(2)

    class Exp(nn.Module):
        def forward(self, x):
            return x.exp()

    return Situation(
        "exp → nll_loss",
        mlp(8, 16, 4, tail=(Exp(),)),
        blobs(40, 8, 4),
        F.nll_loss,
        kinds=KIND,
        words=("log",),
        source="outside.md A13",
    )


def logits_into_nll() -> Situation:
    seed(3)
    return Situation(
        "raw logits → nll_loss",
        mlp(8, 16, 4),
        blobs(40, 8, 4),
        F.nll_loss,
        kinds=KIND,
        words=("log",),
        source="yanx27/Pointnet_Pointnet2_pytorch#30",
        why="the loss has no lower bound",
    )


def sigmoid_into_cross_entropy() -> Situation:
    # eriklindernoren/PyTorch-YOLOv3#108: torch.sigmoid, then CrossEntropyLoss: never zero
    seed(4)
    return Situation(
        "sigmoid → cross_entropy of 10 classes",
        mlp(8, 16, 10, tail=(nn.Sigmoid(),)),
        blobs(40, 8, 10),
        F.cross_entropy,
        kinds=KIND,
        words=("sigmoid", "1.46"),
        forbidden=("0.313",),
        source="eriklindernoren/PyTorch-YOLOv3#108",
        why="-ln(e/(e+9)) = 1.461",
    )


def tanh_into_cross_entropy() -> Situation:
    seed(5)
    return Situation(
        "tanh → cross_entropy of 10 classes",
        mlp(8, 16, 10, tail=(nn.Tanh(),)),
        blobs(40, 8, 10),
        F.cross_entropy,
        kinds=KIND,
        words=("tanh", "0.79"),
        source="outside.md A13 (another bounded output)",
        why="-ln(e/(e+9/e)) = 0.797",
    )


def column_against_row_mse() -> Situation:
    # pytorch/pytorch#16045, #19699: (N, 1) against (N,)
    seed(6)
    x, y = line(64, 6)
    return Situation(
        "(N, 1) against (N,) in mse_loss",
        mlp(6, 16, 1),
        (x, y[:, 0]),
        F.mse_loss,
        kinds=KIND,
        words=("(64, 1)", "(64,)"),
        remedy=("squeeze|unsqueeze|reshape|view|[:, 0]|[:, none]",),
        source="pytorch/pytorch#19699",
    )


def column_against_row_l1() -> Situation:
    # pytorch/pytorch#18565: the same in the L1 losses
    seed(7)
    x, y = line(64, 6)
    return Situation(
        "(N, 1) against (N,) in smooth_l1_loss",
        mlp(6, 16, 1),
        (x, y[:, 0]),
        F.smooth_l1_loss,
        kinds=KIND,
        words=("(64, 1)", "(64,)"),
        source="pytorch/pytorch#18565",
    )


def column_against_row_by_hand() -> Situation:
    seed(8)
    x, y = line(64, 6)
    return Situation(
        "(N, 1) - (N,) in a loss by hand",
        mlp(6, 16, 1),
        (x, y[:, 0]),
        lambda o, y: ((o - y) ** 2).mean(),
        kinds=KIND,
        words=("64",),
        source="pytorch/pytorch#4938 (by hand)",
    )


def row_against_column() -> Situation:
    seed(9)
    x, y = line(64, 6)
    return Situation(
        "(N,) against (N, 1)",
        mlp(6, 16, 1, tail=(nn.Flatten(0),)),
        (x, y),
        F.mse_loss,
        kinds=KIND,
        words=("64",),
        source="pytorch/pytorch#16045",
    )


def critic_against_target_per_action() -> Situation:
    # sunwuzhou03/reinforcement-learning-lab#1: td target (64, 4), critic (64, 1): log_prob was not summed
    seed(10)
    return Situation(
        "critic (64, 1) against a target (64, 4)",
        mlp(6, 16, 1),
        (torch.randn(64, 6), torch.randn(64, 4)),
        F.mse_loss,
        kinds=KIND,
        words=("(64, 1)", "(64, 4)"),
        source="sunwuzhou03/reinforcement-learning-lab#1",
    )


def sequence_against_one_target() -> Situation:
    # andrewgcodes/xlstm#4: prediction (10, 1), target (1, 1)
    seed(11)
    return Situation(
        "prediction (10, 1) against a target (1, 1)",
        mlp(6, 16, 1),
        (torch.randn(10, 6), torch.ones(1, 1)),
        F.mse_loss,
        kinds=KIND,
        words=("(10, 1)", "(1, 1)"),
        source="andrewgcodes/xlstm#4",
    )


def probabilities_into_kl_div() -> Situation:
    # sebastian-hofstaetter/matchmaker#18, pytorch/pytorch#5282: kl_div expects log-probabilities
    seed(12)
    x, _ = blobs(40, 8, 4)
    return Situation(
        "softmax → kl_div",
        mlp(8, 16, 4, tail=(nn.Softmax(1),)),
        (x, torch.randn(40, 4).softmax(1)),
        lambda o, t: F.kl_div(o, t, reduction="batchmean"),
        kinds=KIND,
        words=("log",),
        source="sebastian-hofstaetter/matchmaker#18",
    )


def log_softmax_over_the_batch() -> Situation:
    # MicrosoftDocs/pytorchfundamentals#21, ctallec/world-models#10: log_softmax over the wrong dimension
    seed(13)
    return Situation(
        "log_softmax over the batch → nll_loss",
        mlp(8, 16, 4, tail=(nn.LogSoftmax(0),)),
        blobs(40, 8, 4),
        F.nll_loss,
        kinds=KIND,
        words=("dim",),
        source="MicrosoftDocs/pytorchfundamentals#21",
    )


def softmax_over_the_batch() -> Situation:
    # DeepReinforcementLearning/DeepReinforcementLearningInAction#32: Softmax(dim=0) in a policy
    seed(14)
    x, y = blobs(40, 8, 4)
    return Situation(
        "policy with Softmax(dim=0)",
        mlp(8, 16, 4, tail=(nn.Softmax(0),)),
        (x, (y, torch.rand(40))),
        lambda p, t: -(t[1] * p.gather(1, t[0][:, None])[:, 0].log()).mean(),
        kinds=(KIND, {"undecided"}),
        words=("dim",),
        source="DeepReinforcementLearning/DeepReinforcementLearningInAction#32",
    )


def targets_beyond_the_sigmoid() -> Situation:
    seed(15)
    x, y = line(64, 6)
    return Situation(
        "sigmoid output, targets from 20 to 80",
        mlp(6, 16, 1, tail=(nn.Sigmoid(),)),
        (x, 50 + 10 * y),
        F.mse_loss,
        kinds=(KIND, {"unscaled"}, {"loss_mismatch", "unscaled"}),
        words=("sigmoid",),
        source="outside.md A13 (targets out of reach)",
        why="the output ends at 1, the targets begin at 20",
    )


def pixels_beyond_tanh() -> Situation:
    seed(16)
    x = torch.rand(32, 12) * 255
    return Situation(
        "tanh output, pixels 0…255 as targets",
        mlp(12, 16, 12, tail=(nn.Tanh(),)),
        ((x / 127.5 - 1), x),
        F.mse_loss,
        kinds=(KIND, {"unscaled"}, {"loss_mismatch", "unscaled"}),
        words=("tanh",),
        source="outside.md A13 (targets out of reach)",
    )


def relu_below_negative_targets() -> Situation:
    # jcjohnson/pytorch-examples#30: with ReLU at the output the network cannot predict negative values
    seed(17)
    x, y = line(64, 6)
    return Situation(
        "ReLU output, half of the targets negative",
        mlp(6, 16, 1, tail=(nn.ReLU(),)),
        (x, y),
        F.mse_loss,
        kinds=(KIND, {"undecided"}),
        words=("relu", "negative|below 0"),
        source="jcjohnson/pytorch-examples#30",
    )


def softmax_into_cross_entropy() -> Situation:
    # bkitano/llama-from-scratch#5, jindongwang/Deep-learning-activity-recognition#10
    seed(18)
    return Situation(
        "softmax → cross_entropy",
        mlp(8, 16, 6, tail=(nn.Softmax(1),)),
        blobs(48, 8, 6),
        F.cross_entropy,
        kinds=TWICE,
        words=("softmax",),
        source="bkitano/llama-from-scratch#5",
    )


def softmax_into_cross_entropy_three_classes() -> Situation:
    # ariecattan/SciCo#2: double softmax, the loss stays above 0.74 (4 classes)
    seed(19)
    return Situation(
        "double softmax of 4 classes: floor 0.74",
        mlp(8, 16, 4, tail=(nn.Softmax(1),)),
        blobs(48, 8, 4),
        F.cross_entropy,
        kinds=TWICE,
        words=("0.74",),
        source="ariecattan/SciCo#2",
        why="-ln(e/(e+3)) = 0.744",
    )


def sigmoid_into_bce_with_logits() -> Situation:
    # cvg/glue-factory#89, lopuhin/kaggle-imet-2019#3, yudi-mars/daisyRec#15
    seed(20)
    x, y = blobs(48, 8, 2)
    return Situation(
        "sigmoid → bce_with_logits",
        mlp(8, 16, 1, tail=(nn.Sigmoid(),)),
        (x, y.float()[:, None]),
        F.binary_cross_entropy_with_logits,
        kinds=TWICE,
        words=("sigmoid",),
        source="cvg/glue-factory#89",
    )


def sigmoid_into_a_focal_loss() -> Situation:
    # itakurah/focal-loss-pytorch#5: sigmoid inside a focal loss, then bce_with_logits
    seed(21)
    x, y = blobs(48, 8, 2)

    def focal(o, y):
        p = torch.sigmoid(o)
        bce = F.binary_cross_entropy_with_logits(p, y, reduction="none")
        return ((1 - torch.where(y > 0, p, 1 - p)) ** 2 * bce).mean()

    return Situation(
        "focal loss that applies sigmoid, then bce_with_logits",
        mlp(8, 16, 1),
        (x, y.float()[:, None]),
        focal,
        kinds=(TWICE, KIND),
        words=("sigmoid",),
        source="itakurah/focal-loss-pytorch#5",
    )


# ---------------------------------------------------------------- healthy


def log_softmax_and_nll() -> Situation:
    seed(30)
    return Situation(
        "log_softmax → nll_loss",
        mlp(8, 16, 4, tail=(nn.LogSoftmax(1),)),
        blobs(40, 8, 4),
        F.nll_loss,
        source="clvrai/ACGAN-PyTorch#4 (mended)",
    )


def log_softmax_twice_is_harmless() -> Situation:
    # dev-chauhan/PQG-pytorch#7: logsoftmax(logsoftmax(x)) == logsoftmax(x)
    seed(31)
    return Situation(
        "log_softmax → cross_entropy",
        mlp(8, 16, 4, tail=(nn.LogSoftmax(1),)),
        blobs(40, 8, 4),
        F.cross_entropy,
        source="dev-chauhan/PQG-pytorch#7",
    )


def sigmoid_and_bce() -> Situation:
    seed(32)
    x, y = blobs(40, 8, 2)
    return Situation(
        "sigmoid → binary_cross_entropy",
        mlp(8, 16, 1, tail=(nn.Sigmoid(),)),
        (x, y.float()[:, None]),
        F.binary_cross_entropy,
        source="twin of lopuhin/kaggle-imet-2019#3",
    )


def softmax_log_and_nll() -> Situation:
    seed(33)

    class Log(nn.Module):
        def forward(self, x):
            return torch.log(x)

    return Situation(
        "softmax → log → nll_loss",
        mlp(8, 16, 4, tail=(nn.Softmax(1), Log())),
        blobs(40, 8, 4),
        F.nll_loss,
        source="twin: log of softmax",
    )


def ensemble_of_critics() -> Situation:
    # pytorch/pytorch#18349 (discussion): broadcasting is wanted for several predictions of one target
    seed(34)

    class Critics(nn.Module):
        def __init__(self):
            super().__init__()
            self.nets = nn.ModuleList([mlp(6, 16, 1) for _ in range(2)])

        def forward(self, x):
            return torch.stack([net(x)[:, 0] for net in self.nets])

    x, y = line(64, 6)
    return Situation(
        "two critics (2, N) against one target (N,)",
        Critics(),
        (x, y[:, 0]),
        lambda o, y: ((o - y) ** 2).mean(),
        source="pytorch/pytorch#18349",
    )


def quantile_heads() -> Situation:
    seed(35)
    levels = torch.tensor([0.1, 0.5, 0.9])

    def pinball(o, y):
        e = y - o
        return torch.maximum(levels * e, (levels - 1) * e).mean()

    return Situation(
        "three quantiles (N, 3) against (N, 1)",
        mlp(6, 16, 3),
        line(64, 6),
        pinball,
        source="twin: quantile regression",
    )


def quantile_heads_of_a_dqn() -> Situation:
    seed(36)
    return Situation(
        "QR-DQN: (N, 8, 1) against (N, 1, 8)",
        mlp(6, 16, 8),
        (torch.randn(32, 6), torch.randn(32, 8)),
        lambda o, t: F.smooth_l1_loss(
            o[:, :, None].expand(-1, -1, 8), t[:, None, :].expand(-1, 8, -1)
        ),
        source="twin: pairwise by design",
    )


def contrastive_with_temperature() -> Situation:
    seed(37)

    def info_nce(z):
        z = F.normalize(z, dim=1)
        return F.cross_entropy(z[:16] @ z[16:].T / 0.07, torch.arange(16))

    return Situation(
        "InfoNCE with temperature 0.07",
        mlp(8, 32, 16),
        torch.randn(16, 8).repeat(2, 1) + 0.1 * torch.randn(32, 8),
        info_nce,
        source="twin: contrastive loss",
    )


def label_smoothing() -> Situation:
    seed(38)
    return Situation(
        "label smoothing",
        mlp(8, 16, 4),
        blobs(40, 8, 4),
        lambda o, y: F.cross_entropy(o, y, label_smoothing=0.1),
        source="twin: label smoothing",
    )


def focal_loss() -> Situation:
    seed(39)
    x, y = blobs(40, 8, 2)

    def focal(o, y):
        bce = F.binary_cross_entropy_with_logits(o, y, reduction="none")
        return ((1 - (-bce).exp()) ** 2 * bce).mean()

    return Situation(
        "focal loss of logits",
        mlp(8, 16, 1),
        (x, y.float()[:, None]),
        focal,
        source="itakurah/focal-loss-pytorch#5 (mended)",
    )


def distillation() -> Situation:
    seed(40)
    x, _ = blobs(40, 8, 4)
    return Situation(
        "distillation: log_softmax against softmax",
        mlp(8, 16, 4),
        (x, torch.randn(40, 4)),
        lambda o, t: (
            F.kl_div((o / 4).log_softmax(1), (t / 4).softmax(1), reduction="batchmean") * 16
        ),
        source="twin of sebastian-hofstaetter/matchmaker#18",
    )


def soft_labels() -> Situation:
    seed(41)
    x, y = blobs(40, 8, 4)
    mixed = 0.7 * F.one_hot(y, 4) + 0.3 * F.one_hot(y.flip(0), 4)
    return Situation(
        "mixup: labels as probabilities",
        mlp(8, 16, 4),
        (x, mixed),
        F.cross_entropy,
        source="twin: soft labels",
    )


def gates_inside() -> Situation:
    seed(42)

    class Gated(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.g, self.out = nn.Linear(8, 16), nn.Linear(8, 16), nn.Linear(16, 4)

        def forward(self, x):
            return self.out(torch.tanh(self.a(x)) * torch.sigmoid(self.g(x)))

    return Situation(
        "sigmoid gate inside, logits outside",
        Gated(),
        blobs(40, 8, 4),
        F.cross_entropy,
        source="twin: gates",
    )


def softmax_attention_inside() -> Situation:
    seed(43)

    class Attend(nn.Module):
        def __init__(self):
            super().__init__()
            self.score, self.out = nn.Linear(8, 1), nn.Linear(8, 4)

        def forward(self, x):
            return self.out((self.score(x).softmax(1) * x).sum(1))

    return Situation(
        "softmax pooling, then cross_entropy",
        Attend(),
        (torch.randn(32, 5, 8), torch.randint(0, 4, (32,))),
        F.cross_entropy,
        source="twin: attention",
    )


def pairwise_ranking() -> Situation:
    seed(44)
    return Situation(
        "BPR: -logsigmoid(positive - negative)",
        mlp(8, 16, 1),
        torch.randn(64, 8),
        lambda o: -F.logsigmoid(o[:32] - o[32:]).mean(),
        source="twin: ranking loss",
    )


def more_outputs_than_labels() -> Situation:
    seed(45)
    return Situation(
        "1000 outputs, labels below 10",
        mlp(8, 32, 1000),
        blobs(40, 8, 10),
        F.cross_entropy,
        kinds=(HEALTHY, {"undecided"}),
        source="twin: a big head",
    )


def probabilities_into_mse() -> Situation:
    seed(46)
    x, y = blobs(40, 8, 4)
    return Situation(
        "softmax → mse against one-hot (Brier score)",
        mlp(8, 16, 4, tail=(nn.Softmax(1),)),
        (x, F.one_hot(y, 4).float()),
        F.mse_loss,
        source="twin: Brier score",
    )


def tanh_against_scaled_images() -> Situation:
    seed(47)
    x = torch.rand(32, 12) * 2 - 1
    return Situation(
        "tanh output, images in [-1, 1]",
        mlp(12, 16, 12, tail=(nn.Tanh(),)),
        (x, x),
        F.mse_loss,
        source="twin: targets in reach",
    )


def dice_loss() -> Situation:
    seed(48)
    x = torch.randn(8, 1, 8, 8)
    y = (F.avg_pool2d(x, 3, 1, 1) > 0).float()
    model = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 1, 3, padding=1))

    def dice(o, y):
        p = o.sigmoid()
        return 1 - (2 * (p * y).sum() + 1) / (p.sum() + y.sum() + 1)

    return Situation("soft Dice loss", model, (x, y), dice, source="twin: Dice loss")


def cross_entropy_per_pixel() -> Situation:
    seed(49)
    model = nn.Conv2d(3, 4, 3, padding=1)
    return Situation(
        "segmentation with some pixels ignored",
        nn.Sequential(model, nn.ReLU(), nn.Conv2d(4, 5, 1)),
        (
            torch.randn(4, 3, 8, 8),
            torch.randint(0, 5, (4, 8, 8)).masked_fill(torch.rand(4, 8, 8) < 0.3, 255),
        ),
        lambda o, y: F.cross_entropy(o, y, ignore_index=255),
        kinds=QUIET,
        source="pytorch/pytorch#15508 (ignore_index)",
    )


# ---------------------------------------------------------------- more, sick


def ones_and_minus_ones() -> Situation:
    seed(60)
    x, y = blobs(48, 8, 2)
    return Situation(
        "bce_with_logits with targets of -1 and 1",
        mlp(8, 16, 1),
        (x, 2 * y.float()[:, None] - 1),
        F.binary_cross_entropy_with_logits,
        kinds=KIND,
        words=("-1", "between 0 and 1"),
        why="the loss has no lower bound",
    )


def relu_into_bce_with_logits() -> Situation:
    seed(61)
    x, y = blobs(48, 8, 2)
    return Situation(
        "ReLU → bce_with_logits",
        mlp(8, 16, 1, tail=(nn.ReLU(),)),
        (x, y.float()[:, None]),
        F.binary_cross_entropy_with_logits,
        kinds=KIND,
        words=("relu", "0.347"),
        why="half of the targets are 0 and cost ln 2",
    )


def tanh_into_bce_with_logits() -> Situation:
    seed(62)
    x, y = blobs(48, 8, 2)
    return Situation(
        "tanh → bce_with_logits",
        mlp(8, 16, 1, tail=(nn.Tanh(),)),
        (x, y.float()[:, None]),
        nn.BCEWithLogitsLoss(),
        kinds=KIND,
        words=("tanh", "0.313"),
    )


def log_softmax_into_bce_with_logits() -> Situation:
    seed(63)
    x, y = blobs(48, 8, 4)
    return Situation(
        "log_softmax → bce_with_logits",
        mlp(8, 16, 4, tail=(nn.LogSoftmax(1),)),
        (x, F.one_hot(y, 4).float()),
        F.binary_cross_entropy_with_logits,
        kinds=KIND,
        words=("logsoftmax",),
        why="no output is above 0, so no answer is yes",
    )


class Tagger(nn.Module):
    def __init__(self, tail=None):
        super().__init__()
        self.net, self.tail = mlp(8, 16, 5), tail or nn.Identity()

    def forward(self, x):
        return self.tail(self.net(x))


def a_view_in_place_of_a_transpose() -> Situation:
    seed(64)
    return Situation(
        "(B, T, K) viewed as (B, K, T)",
        Tagger(),
        (torch.randn(6, 12, 8), torch.randint(0, 5, (6, 12))),
        lambda o, y: F.cross_entropy(o.view(6, 5, 12), y),
        kinds=KIND,
        words=("view", "(6, 12, 5)"),
    )


def rows_of_pixels_as_classes() -> Situation:
    seed(65)
    model = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 4, 1))
    return Situation(
        "(B, K, H, W) reshaped to (-1, K)",
        model,
        (torch.randn(4, 3, 8, 8), torch.randint(0, 4, (4, 8, 8))),
        lambda o, y: F.cross_entropy(o.reshape(-1, 4), y.flatten()),
        kinds=KIND,
        words=("view", "(4, 4, 8, 8)"),
    )


def log_softmax_over_time() -> Situation:
    seed(66)
    return Situation(
        "LogSoftmax(dim=1) of (B, T, K)",
        Tagger(nn.LogSoftmax(1)),
        (torch.randn(6, 12, 8), torch.randint(0, 5, (6, 12))),
        lambda o, y: F.nll_loss(o.flatten(0, 1), y.flatten()),
        kinds=KIND,
        words=("dim",),
    )


def soft_margin_of_zeros() -> Situation:
    seed(67)
    x, y = blobs(48, 8, 2)
    return Situation(
        "soft_margin_loss with targets of 0 and 1",
        mlp(8, 16, 1),
        (x, y.float()[:, None]),
        F.soft_margin_loss,
        kinds=KIND,
        words=("-1",),
    )


def minus_one_out_of_a_sigmoid() -> Situation:
    seed(68)
    x, y = blobs(48, 8, 2)
    return Situation(
        "sigmoid against targets of -1 and 1, squared error by hand",
        mlp(8, 16, 1, tail=(nn.Sigmoid(),)),
        (x, 2 * y.float()[:, None] - 1),
        lambda o, y: ((o - y) ** 2).mean(),
        kinds=KIND,
        words=("sigmoid", "0.5"),
    )


def column_against_row_absolute_by_hand() -> Situation:
    seed(69)
    x, y = line(64, 6)
    return Situation(
        "|(N, 1) - (N,)| by hand",
        mlp(6, 16, 1),
        (x, y[:, 0]),
        lambda o, y: (y - o).abs().mean(),
        kinds=KIND,
        words=("(64, 1)", "(64,)"),
    )


def log_probability_times_a_row() -> Situation:
    seed(70)
    return Situation(
        "log-probabilities (N, 1) times advantages (N,)",
        mlp(6, 16, 1, tail=(nn.LogSigmoid(),)),
        (torch.randn(32, 6), torch.randn(32)),
        lambda o, a: -(o * a).mean(),
        kinds=KIND,
        words=("(32, 1)", "(32,)"),
    )


def logits_into_kl_div() -> Situation:
    seed(71)
    x, _ = blobs(40, 8, 4)
    return Situation(
        "logits → kl_div",
        mlp(8, 16, 4),
        (x, torch.randn(40, 4).softmax(1)),
        lambda o, t: F.kl_div(o, t, reduction="batchmean"),
        kinds=KIND,
        words=("log",),
    )


class OwnLoss(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = mlp(8, 16, 5, tail=(nn.Softmax(1),))

    def forward(self, x, labels):
        p = self.net(x)
        return {"loss": F.nll_loss(p, labels), "probabilities": p}


def softmax_into_its_own_nll() -> Situation:
    seed(72)
    x, y = blobs(40, 8, 5)
    return Situation(
        "a model that returns nll_loss of its softmax",
        OwnLoss(),
        {"x": x, "labels": y},
        kinds=KIND,
        words=("log",),
    )


# ---------------------------------------------------------------- more, healthy


def transposed_tags() -> Situation:
    seed(80)
    return Situation(
        "(B, T, K) transposed",
        Tagger(),
        (torch.randn(6, 12, 8), torch.randint(0, 5, (6, 12))),
        lambda o, y: F.cross_entropy(o.transpose(1, 2), y),
    )


def anchors_of_a_detector() -> Situation:
    seed(81)
    model = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 3 * 4, 1))

    def loss(o, y):
        o = o.view(2, 3, 4, 8, 8).permute(0, 3, 4, 1, 2).reshape(-1, 4)
        return F.cross_entropy(o, y.flatten())

    batch = torch.randn(2, 3, 8, 8), torch.randint(0, 4, (2, 8, 8, 3))
    return Situation("anchors × classes, permuted", model, batch, loss)


def pixels_in_one_row() -> Situation:
    seed(82)
    model = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 4, 1))
    batch = torch.randn(4, 3, 8, 8), torch.randint(0, 4, (4, 8, 8))
    loss = lambda o, y: F.cross_entropy(o.view(4, 4, -1), y.flatten(1))
    return Situation("(B, K, H, W) viewed as (B, K, HW)", model, batch, loss)


def focal_nll() -> Situation:
    seed(83)

    def loss(o, y):
        log_p = o.log_softmax(1)
        return F.nll_loss((1 - log_p.exp()) ** 2 * log_p, y)

    return Situation("focal loss by nll_loss", mlp(8, 16, 4), blobs(40, 8, 4), loss)


def policy_gradient_by_nll() -> Situation:
    seed(84)
    advantage = torch.randn(40, 1)
    loss = lambda o, y: F.nll_loss(advantage * o.log_softmax(1), y)
    return Situation("policy gradient by nll_loss", mlp(8, 16, 4), blobs(40, 8, 4), loss)


def clipped_logits() -> Situation:
    seed(85)

    class Clip(nn.Module):
        def forward(self, x):
            return 10 * torch.tanh(x / 10)

    model = mlp(8, 16, 4, tail=(Clip(),))
    return Situation("logits softly clipped at 10", model, blobs(40, 8, 4), F.cross_entropy)


def smoothed_ones() -> Situation:
    seed(86)
    x, y = blobs(48, 8, 2)
    return Situation(
        "sigmoid → bce against 0.05 and 0.95",
        mlp(8, 16, 1, tail=(nn.Sigmoid(),)),
        (x, 0.05 + 0.9 * y.float()[:, None]),
        F.binary_cross_entropy,
    )


def positive_outputs() -> Situation:
    seed(87)
    x, y = line(64, 6)
    return Situation(
        "softplus output, positive targets",
        mlp(6, 16, 1, tail=(nn.Softplus(),)),
        (x, y.exp()),
        F.mse_loss,
    )


def least_squares_critic() -> Situation:
    seed(88)
    return Situation(
        "least-squares discriminator, (D - 1)²",
        mlp(6, 16, 1),
        torch.randn(64, 6),
        lambda o: ((o[:32] - 1) ** 2).mean() + (o[32:] ** 2).mean(),
    )


def wasserstein_critic() -> Situation:
    seed(89)
    loss = lambda o: o[:32].mean() - o[32:].mean()
    return Situation("Wasserstein critic", mlp(6, 16, 1), torch.randn(64, 6), loss)


def counts_by_poisson() -> Situation:
    seed(90)
    x, y = line(64, 6)
    return Situation(
        "Poisson regression of counts",
        mlp(6, 16, 1),
        (x, torch.poisson(y.exp())),
        F.poisson_nll_loss,
    )


def actions_within_reach() -> Situation:
    seed(91)
    x, y = line(64, 6)
    return Situation(
        "tanh policy, actions in [-1, 1]",
        mlp(6, 16, 1, tail=(nn.Tanh(),)),
        (x, (y / 2).clamp(-1, 1)),
        F.mse_loss,
    )


def masked_error() -> Situation:
    seed(92)
    mask = (torch.rand(64, 3) < 0.7).float()
    loss = lambda o, y: (((o - y) * mask) ** 2).sum() / mask.sum()
    batch = torch.randn(64, 6), torch.randn(64, 3)
    return Situation("squared error of what is known", mlp(6, 16, 3), batch, loss)


def log_of_the_true_class() -> Situation:
    seed(93)
    return Situation(
        "-log p of the true class by hand",
        mlp(8, 16, 4, tail=(nn.Softmax(1),)),
        blobs(40, 8, 4),
        lambda p, y: -p.gather(1, y[:, None]).log().mean(),
    )


def one_learned_number() -> Situation:
    seed(94)

    class Mean(nn.Module):
        def __init__(self):
            super().__init__()
            self.mean = nn.Parameter(torch.zeros(1))

        def forward(self, x):
            return self.mean

    batch = torch.randn(64, 6), torch.randn(64)
    kinds = (*QUIET, {"constant_output"})
    return Situation("one learned number for all", Mean(), batch, F.mse_loss, kinds=kinds)


def samples_against_one_truth() -> Situation:
    seed(95)
    batch = torch.randn(64, 6), torch.randn(64, 1)
    loss = lambda o, y: (o - y).abs().mean() - 0.5 * (o[:, :, None] - o[:, None]).abs().mean()
    return Situation("energy score of 8 samples", mlp(6, 16, 8), batch, loss)
