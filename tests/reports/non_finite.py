"""NaN and Inf: the operation, why in figures, and the remedy that fits (A1, A15, A16)."""

import torch
import torch.nn.functional as F
from reports.situation import QUIET, Situation, blobs, line, mlp, seed
from torch import nn

KIND = {"non_finite"}
AT_ONCE = (KIND, {"non_finite", "exploding"})


def plain(name, loss, source="outside.md A1", forbidden=("cut", "nan_to_num"), **more) -> Situation:
    seed(0)
    return Situation(
        name,
        nn.Linear(4, 4),
        torch.randn(8, 4),
        loss,
        kinds=KIND,
        forbidden=forbidden,
        source=source,
        **more,
    )


def kept(o):
    """What is positive, else 0, by a mask."""
    return o * (o.detach() > 0)


# ---------------------------------------------------------------- A1: in the backward pass of the
# loss


def sqrt_at_zero() -> Situation:
    return plain(
        "sqrt(0) in the loss", lambda o: (o * 0).sqrt().sum(), words=("sqrt", "backward", "(loss)")
    )


def arc_cosine_at_one() -> Situation:
    return plain(
        "acos at 1: the angle between an output and itself",
        lambda o: torch.acos(1 - (o - o.detach()).pow(2).sum(1)).mean(),
        words=("acos", "backward", "(loss)"),
    )


def root_of_an_absolute_value() -> Situation:
    return plain(
        "abs() ** 0.5 at 0",
        lambda o: ((o - o.detach()).abs() ** 0.5).sum(),
        words=("pow", "backward", "(loss)"),
    )


def norm_by_hand_at_zero() -> Situation:
    # pytorch/pytorch#2421: pow(2).sum().sqrt() at 0 (norm() itself has had a subgradient since
    # #2775)
    return plain(
        "pow(2).sum().sqrt() at 0",
        lambda o: (o - o).pow(2).sum(1).sqrt().mean(),
        words=("sqrt", "backward"),
        source="pytorch/pytorch#2421",
    )


def norm_at_zero_is_finite() -> Situation:
    # pytorch/pytorch#2775: the gradient of norm() at 0 is 0
    seed(0)
    return Situation(
        "norm() at 0: gradient 0, not NaN",
        nn.Linear(4, 4),
        torch.randn(8, 4),
        lambda o: (o - o.detach()).norm(dim=1).mean(),
        kinds=({"zero_gradient"}, {"undecided"}),
        words=("norm",),
        source="pytorch/pytorch#2775",
    )


def norm_of_order_one_half() -> Situation:
    # pytorch/pytorch#44452: norm with p < 1 gave NaN where an entry is 0; torch has mended it since
    seed(0)
    return Situation(
        "norm(p=0.5) with a zero entry: finite",
        nn.Linear(4, 4),
        torch.randn(8, 4),
        lambda o: kept(o).norm(p=0.5, dim=1).mean(),
        kinds=QUIET,
        source="pytorch/pytorch#44452 (mended in torch)",
    )


def power_sum_of_order_one_half() -> Situation:
    # pytorch/pytorch#44452: the same written as powers
    return plain(
        "(|x|^0.5).sum()^2 with a zero entry",
        lambda o: (kept(o).abs() ** 0.5).sum(1).pow(2).mean(),
        words=("pow", "backward"),
        source="pytorch/pytorch#44452",
    )


def where_with_exp_not_taken() -> Situation:
    # pytorch/pytorch#68425: where(a <= 0, exp(a), 1 + a) at a = 100
    return plain(
        "where: exp in the branch not taken",
        lambda o: torch.where(o * 0 + 1 > 0, o, (o * 0 + 100).exp()).sum(),
        words=("exp", "backward"),
        source="pytorch/pytorch#68425",
    )


def where_with_sqrt_not_taken() -> Situation:
    # pytorch/pytorch#187297: where(x > 0, sqrt(x), x) at negative x
    return plain(
        "where: sqrt of negative numbers not taken",
        lambda o: torch.where(o > 0, o.sqrt(), o).sum(),
        words=("sqrt", "backward"),
        source="pytorch/pytorch#187297",
    )


def where_with_log_not_taken() -> Situation:
    # pytorch/pytorch#108618: where(x > 2, log2(x), 2 * x) at 0
    return plain(
        "where: log2(0) not taken",
        lambda o: torch.where(kept(o) > 2, kept(o).log2(), 2 * kept(o)).sum(),
        words=("log2", "backward"),
        source="pytorch/pytorch#108618",
    )


def where_with_division_not_taken() -> Situation:
    # pytorch/pytorch#52248: where(False, a / 0, 1)
    return plain(
        "where: a / 0 not taken",
        lambda o: torch.where(kept(o) > 0, 1 / kept(o), o).sum(),
        words=("div|reciprocal", "backward"),
        source="pytorch/pytorch#52248",
    )


def gaussian_distance() -> Situation:
    # open-mmlab/mmrotate#205: sqrt of a distance that is 0 when the box fits
    seed(0)
    x, _ = line(16, 4)
    model = nn.Linear(4, 4)
    with torch.no_grad():
        target = model(x)
    return Situation(
        "root of a squared distance; prediction equals target",
        model,
        (x, target),
        lambda o, t: ((o - t) ** 2).sum(1).sqrt().mean(),
        kinds=KIND,
        words=("sqrt", "backward"),
        forbidden=("cut",),
        source="open-mmlab/mmrotate#205",
    )


def svd_of_equal_singular_values() -> Situation:
    # pytorch/pytorch#49886: the backward pass of svd divides by the differences of squared singular
    # values
    seed(0)

    class Rotation(nn.Module):
        def __init__(self):
            super().__init__()
            self.a = nn.Parameter(torch.eye(3))

        def forward(self, x):
            u, _, v = torch.linalg.svd(self.a)
            return x @ (u + v)

    return Situation(
        "svd of the identity",
        Rotation(),
        (torch.randn(8, 3), torch.randn(8, 3)),
        F.mse_loss,
        kinds=KIND,
        words=("svd", "backward"),
        source="pytorch/pytorch#49886",
    )


# ---------------------------------------------------------------- A15: remedies that do harm


def division_in_float16() -> Situation:
    # lightonai/pylate#239: the guard 1e-8 is 0 in float16
    def loss(o):
        z = o.half()
        spread = (z * 0).amax(1, keepdim=True)
        return (z / (spread + 1e-8)).float().sum()

    return plain(
        "float16: z / (y + 1e-8) with y = 0",
        loss,
        words=("div",),
        remedy=("finfo|6e-05|6e-5|6.1e-05|1e-4|1e-3|tiny|float()",),
        forbidden=("1e-12", "cut"),
        source="lightonai/pylate#239",
        why="float16 ends at 6e-8: an eps of 1e-8 or 1e-12 is 0",
    )


def plain_division_in_float16() -> Situation:
    def loss(o):
        z = o.half()
        return (z / (z - z)).float().sum()

    return plain(
        "float16: z / y with y = 0",
        loss,
        words=("div",),
        remedy=("finfo|6e-05|6e-5|6.1e-05|1e-4|1e-3|tiny|float()",),
        forbidden=("1e-12", "cut"),
        source="outside.md A15",
    )


def plain_division_in_float32() -> Situation:
    return plain(
        "float32: z / y with y = 0",
        lambda o: (o / (o - o)).sum(),
        words=("div",),
        source="outside.md A15",
    )


def quaternion_in_float16() -> Situation:
    # kornia/kornia#3966: clamp(min=1e-8) is no clamp in float16
    def loss(o):
        q = (o * 0).half()
        return (q / q.pow(2).sum(1, keepdim=True).clamp_min(1e-8).sqrt()).float().sum()

    return plain(
        "float16: clamp_min(1e-8) before a division",
        loss,
        words=("float16|half",),
        source="kornia/kornia#3966",
    )


def mixture_density_underflows() -> Situation:
    # keras-team/keras#2586, #1061: mixture density networks whose likelihood underflows; log of 0
    seed(0)
    y = torch.full((32, 1), 60.0)

    def loss(o, y):
        pi, mu = o[:, :3].softmax(1), o[:, 3:]
        return -(pi * torch.exp(-0.5 * (y - mu) ** 2)).sum(1).log().mean()

    return Situation(
        "mixture density: log of a sum of exps that is 0",
        mlp(4, 16, 6),
        (torch.randn(32, 4), y),
        loss,
        kinds=KIND,
        words=("log",),
        remedy=("logsumexp",),
        forbidden=("clamp_min",),
        source="keras-team/keras#2586",
        why="a clamp leaves gradient 0 below it: 27.6 for ever",
    )


def log_of_a_negative_number() -> Situation:
    seed(0)
    model = nn.Linear(4, 1)
    nn.init.zeros_(model.weight)
    nn.init.constant_(model.bias, -0.3)
    return Situation(
        "log of -0.3",
        model,
        torch.randn(8, 4),
        lambda o: o.log().mean(),
        kinds=KIND,
        words=("-0.3|−0.3",),
        forbidden=("clamp",),
        source="outside.md A15",
    )


# ---------------------------------------------------------------- A16: causes in words


class Attention(nn.Module):
    def __init__(self, d=8):
        super().__init__()
        self.q, self.k, self.v, self.out = (nn.Linear(d, d) for _ in range(4))

    def forward(self, x, mask):
        scores = self.q(x) @ self.k(x).transpose(1, 2) / x.shape[-1] ** 0.5
        scores = scores.masked_fill(mask[:, None, :], float("-inf"))
        return self.out((scores.softmax(-1) @ self.v(x)).mean(1))


def a_sample_that_is_all_padding() -> Situation:
    seed(0)
    mask = torch.zeros(8, 5, dtype=torch.bool)
    mask[3] = True
    return Situation(
        "hand-written attention, sample 3 all masked",
        Attention(),
        ((torch.randn(8, 5, 8), mask), torch.randn(8, 8)),
        F.mse_loss,
        kinds=KIND,
        words=("softmax", "row|mask", "3"),
        forbidden=("detect_anomaly",),
        source="outside.md A16",
    )


def multihead_attention_all_padding() -> Situation:
    # pytorch/pytorch#24816, #41508: key padding mask that is all True
    seed(0)

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.attention, self.out = (
                nn.MultiheadAttention(8, 2, batch_first=True),
                nn.Linear(8, 2),
            )

        def forward(self, x, pad):
            h, _ = self.attention(x, x, x, key_padding_mask=pad)
            return self.out(h[:, 0])

    pad = torch.zeros(8, 5, dtype=torch.bool)
    pad[5] = True
    return Situation(
        "nn.MultiheadAttention, one sample all padding",
        Net(),
        ((torch.randn(8, 5, 8), pad), torch.randint(0, 2, (8,))),
        F.cross_entropy,
        kinds=KIND,
        words=("attention", "mask|-inf|−inf"),
        forbidden=("detect_anomaly",),
        source="pytorch/pytorch#24816",
    )


def causal_mask_of_the_wrong_side() -> Situation:
    seed(0)

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.qkv, self.out = nn.Linear(8, 24), nn.Linear(8, 8)

        def forward(self, x):
            q, k, v = self.qkv(x).chunk(3, -1)
            mask = torch.ones(6, 6).tril().bool()  # masks the past and the token itself
            s = (q @ k.transpose(1, 2) / 8**0.5).masked_fill(mask, float("-inf"))
            return self.out(s.softmax(-1) @ v)

    return Situation(
        "causal mask the wrong way round",
        Net(),
        (torch.randn(4, 6, 8), torch.randn(4, 6, 8)),
        F.mse_loss,
        kinds=KIND,
        words=("softmax", "row|mask"),
        forbidden=("detect_anomaly",),
        source="pytorch/pytorch#27968 (mask reversed)",
    )


def ctc(zero_infinity: bool, lengths) -> Situation:
    seed(0)
    targets = torch.randint(1, 6, (4, 12))

    def loss(o, t):
        return F.ctc_loss(
            o.log_softmax(-1).transpose(0, 1),
            t,
            torch.full((4,), 9),
            torch.tensor(lengths),
            zero_infinity=zero_infinity,
        )

    return Situation("ctc_loss", nn.Linear(8, 6), (torch.randn(4, 9, 8), targets), loss)


def ctc_target_longer_than_input() -> Situation:
    # ypwhs/captcha_break#29, meijieru/crnn.pytorch#235, discuss.pytorch.org/t/best-practices-to-
    # solve-nan-ctc-loss/151913: the input is too short for the target
    situation = ctc(False, [3, 12, 4, 5])
    situation.name, situation.kinds, situation.words = (
        "ctc_loss: target 12 > input 9",
        KIND,
        ("ctc", "12", "9"),
    )
    situation.forbidden, situation.source = ("detect_anomaly",), "ypwhs/captcha_break#29"
    situation.remedy = ("zero_infinity|longer|shorter|fewer",)
    return situation


def ctc_with_zero_infinity() -> Situation:
    situation = ctc(True, [3, 12, 4, 5])
    situation.name, situation.kinds, situation.source = (
        "ctc_loss with zero_infinity",
        QUIET,
        "wenet-e2e/wenet#2299",
    )
    return situation


def every_label_ignored() -> Situation:
    # pytorch/pytorch#70348, #116349: the mean over no label
    seed(0)
    x, _ = blobs(32, 8, 4)
    return Situation(
        "every label is -100",
        mlp(8, 16, 4),
        (x, torch.full((32,), -100)),
        F.cross_entropy,
        kinds=KIND,
        words=("ignore|-100|−100", "0 of 32|none of the 32|no label|all 32"),
        forbidden=("detect_anomaly",),
        source="pytorch/pytorch#70348",
    )


def every_label_ignored_by_another_index() -> Situation:
    # pytorch/pytorch#75181: ignore_index=-1
    seed(0)
    x, _ = blobs(32, 8, 4)
    return Situation(
        "every label is the ignore_index 255",
        mlp(8, 16, 4),
        (x, torch.full((32,), 255)),
        lambda o, y: F.cross_entropy(o, y, ignore_index=255),
        kinds=KIND,
        words=("ignore|255", "32"),
        forbidden=("detect_anomaly",),
        source="pytorch/pytorch#75181",
    )


def overflow_of_float16() -> Situation:
    seed(0)
    model = nn.Linear(4, 4)
    with torch.no_grad():
        model.weight.mul_(1e3)
    return Situation(
        "float16: a square beyond 65504",
        model,
        torch.randn(8, 4),
        lambda o: (o.half() ** 2).mean().float(),
        kinds=KIND,
        words=("65504|6.55e+04|65,504", "float16"),
        source="outside.md A16",
    )


class VAE(nn.Module):
    def __init__(self, clamp=None):
        super().__init__()
        self.mu, self.logvar = nn.Linear(8, 2), nn.Linear(8, 2)
        nn.init.zeros_(self.logvar.weight)
        nn.init.constant_(self.logvar.bias, 97.0)
        self.clamp = clamp

    def forward(self, x):
        logvar = self.logvar(x)
        logvar = logvar if self.clamp is None else self.clamp(logvar)
        return self.mu(x), logvar


def log_variance_of_97() -> Situation:
    # vanderschaarlab/synthcity#331: an unbounded log-variance, exponentiated
    seed(0)
    return Situation(
        "log-variance 97 in the KL term",
        VAE(),
        torch.randn(16, 8),
        lambda o: 0.5 * (o[1].exp() + o[0] ** 2 - 1 - o[1]).mean(),
        kinds=KIND,
        words=("exp", "97"),
        remedy=("clamp|softplus",),
        forbidden=("logsumexp",),
        source="vanderschaarlab/synthcity#331",
    )


def softmax_by_hand() -> Situation:
    seed(0)
    x, y = blobs(32, 8, 4)

    def loss(o, y):
        p = (100 * o).exp() / (100 * o).exp().sum(1, keepdim=True)
        return F.nll_loss(p.log(), y)

    return Situation(
        "softmax by hand of logits above 88",
        mlp(8, 16, 4),
        (5 * x, y),
        loss,
        kinds=KIND,
        words=("exp",),
        remedy=("softmax|logsumexp",),
        source="outside.md A16 (exp inside a softmax)",
    )


def cross_entropy_by_hand_of_a_sure_sigmoid() -> Situation:
    # hwalsuklee/tensorflow-mnist-VAE#4: log got 0; use the loss with logits
    seed(0)
    x, y = blobs(32, 8, 2)
    model = mlp(8, 16, 1)
    with torch.no_grad():
        model[-1].weight.mul_(1e3)

    def loss(o, y):
        p = o.sigmoid()
        return -(y * p.log() + (1 - y) * (1 - p).log()).mean()

    return Situation(
        "cross-entropy by hand: log(1 - 1)",
        model,
        (x, y.float()[:, None]),
        loss,
        kinds=KIND,
        words=("log",),
        remedy=("logsigmoid|with_logits",),
        source="hwalsuklee/tensorflow-mnist-VAE#4",
    )


def entropy_of_masked_actions() -> Situation:
    # huggingface/trl#7263, tensorflow/probability#241: p log p with p = 0
    seed(0)
    mask = torch.zeros(16, 4, dtype=torch.bool)
    mask[:, 3] = True

    def loss(o):
        logp = o.masked_fill(mask, float("-inf")).log_softmax(1)
        return (logp.exp() * logp).sum(1).mean()

    return Situation(
        "entropy bonus: 0 times -Inf",
        mlp(6, 16, 4),
        torch.randn(16, 6),
        loss,
        kinds=KIND,
        words=("mul", "inf"),
        remedy=("xlogy|special.entr|where|masked_fill",),
        forbidden=("detect_anomaly",),
        source="huggingface/trl#7263",
    )


def mean_over_nothing() -> Situation:
    # Deci-AI/super-gradients#912, xuxw98/ESAM#17, tryolabs/luminoth#68: no positive in the batch
    seed(0)
    x, _ = line(32, 6)
    return Situation(
        "loss over the positives; there is none",
        mlp(6, 16, 1),
        (x, torch.zeros(32, 1)),
        lambda o, y: ((o - 1) ** 2)[y > 0].mean(),
        kinds=KIND,
        words=("mean", "empty|no element|0 element|nothing|0 number"),
        forbidden=("detect_anomaly",),
        source="Deci-AI/super-gradients#912",
    )


def advantages_of_one_sample() -> Situation:
    # jolibrain/wheatley#93: the last minibatch has one sample, std() is NaN
    seed(0)
    model = mlp(6, 16, 4, act=nn.Tanh)

    def loss(o, t):
        advantage = (t[1] - t[1].mean()) / (t[1].std() + 1e-8)
        return -(o.log_softmax(1).gather(1, t[0][:, None])[:, 0] * advantage).mean()

    return Situation(
        "advantages normalized over one sample",
        model,
        (torch.randn(1, 6), (torch.tensor([2]), torch.tensor([0.7]))),
        loss,
        kinds=KIND,
        words=("std", "one|1 "),
        forbidden=("detect_anomaly",),
        source="jolibrain/wheatley#93",
    )


def division_by_a_count_of_zero() -> Situation:
    seed(0)
    mask = torch.ones(8, 5)
    mask[2] = 0

    class Pool(nn.Module):
        def __init__(self):
            super().__init__()
            self.inp, self.out = nn.Linear(8, 8), nn.Linear(8, 2)

        def forward(self, x, mask):
            h = self.inp(x) * mask[..., None]
            return self.out(h.sum(1) / mask.sum(1, keepdim=True))

    return Situation(
        "mean pooling over an empty sequence",
        Pool(),
        ((torch.randn(8, 5, 8), mask), torch.randint(0, 2, (8,))),
        F.cross_entropy,
        kinds=KIND,
        words=("div",),
        source="non_finite by 0 / 0",
    )


def one_bad_number_in_the_data() -> Situation:
    # deepmedic/deepmedic#66: two images held a few NaNs
    seed(0)
    x, y = blobs(32, 8, 3)
    x[7, 2] = float("nan")
    return Situation(
        "one NaN in the batch",
        mlp(8, 16, 3),
        (x, y),
        F.cross_entropy,
        kinds=KIND,
        words=("input|batch",),
        source="deepmedic/deepmedic#66",
    )


def one_bad_target() -> Situation:
    seed(0)
    x, y = line(32, 6)
    y[3] = float("nan")
    return Situation(
        "one NaN among the targets",
        mlp(6, 16, 1),
        (x, y),
        F.mse_loss,
        kinds=KIND,
        words=("target",),
        source="deepmedic/deepmedic#66 (target)",
    )


def missing_targets_by_where() -> Situation:
    # pytorch/pytorch#52248: the branch not taken still multiplies its NaN by 0
    seed(0)
    x, y = line(32, 6)
    y[::4] = float("nan")
    return Situation(
        "missing targets, put to 0 by where after the square",
        mlp(6, 16, 1),
        (x, y),
        lambda o, y: torch.where(y.isnan(), torch.zeros_like(o), (o - y) ** 2).mean(),
        kinds=KIND,
        words=("backward",),
        source="pytorch/pytorch#52248 (missing targets)",
        why="mask before the square: 0 × NaN is NaN",
    )


def broken_weights() -> Situation:
    seed(0)
    model = mlp(8, 16, 3)
    with torch.no_grad():
        model[2].weight[1, 1] = float("nan")
    return Situation(
        "a weight is NaN since an earlier step",
        model,
        blobs(32, 8, 3),
        F.cross_entropy,
        kinds=KIND,
        words=("2.weight|weight",),
        source="outside.md A16 (weights)",
    )


# ---------------------------------------------------------------- invented, in a stranger's words


def squashed_policy_that_is_sure() -> Situation:
    # a soft actor-critic: log(1 - tanh(u)^2) where tanh(u) rounds to 1
    seed(20)
    model = mlp(6, 16, 2)
    nn.init.constant_(model[-1].bias, 12.0)
    return Situation(
        "log(1 - tanh(u)^2) of a squashed action",
        model,
        torch.randn(16, 6),
        lambda u: (-0.5 * u**2 - (1 - u.tanh() ** 2).log()).sum(1).mean(),
        kinds=KIND,
        words=("log of 0",),
        remedy=("softplus",),
        forbidden=("1e-12", "detect_anomaly"),
        source="invented: squashed Gaussian policy",
    )


def contrast_where_the_positive_is_masked() -> Situation:
    # the diagonal is masked, and the labels still point to it
    seed(21)
    return Situation(
        "contrastive loss, the labels point to the masked diagonal",
        mlp(8, 16, 8),
        torch.randn(12, 8),
        lambda z: F.cross_entropy(
            (z @ z.T).masked_fill(torch.eye(12).bool(), float("-inf")), torch.arange(12)
        ),
        kinds=KIND,
        words=("mask", "12 of 12"),
        forbidden=("detect_anomaly",),
        source="invented: contrastive learning",
    )


def a_window_without_a_token() -> Situation:
    # an additive mask of zeros and -Inf that is part of the batch
    seed(22)

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.qk, self.out = nn.Linear(8, 16), nn.Linear(8, 3)

        def forward(self, x, bias):
            q, k = self.qk(x).chunk(2, -1)
            return self.out(((q @ k.transpose(1, 2) + bias).softmax(-1) @ x).mean(1))

    bias = torch.zeros(6, 1, 7)
    bias[4] = float("-inf")
    return Situation(
        "an additive mask of -Inf in the batch, sample 4 has none left",
        Net(),
        ((torch.randn(6, 7, 8), bias), torch.arange(6) % 3),
        F.cross_entropy,
        kinds=KIND,
        words=("row [4", "softmax"),
        source="invented: additive mask",
    )


def mask_times_minus_infinity() -> Situation:
    seed(23)
    keep = torch.tensor([1.0, 1.0, 0.0])
    return Situation(
        "(1 - keep) * -inf added to the logits",
        mlp(8, 16, 3),
        (torch.randn(16, 8), torch.arange(16) % 2),
        lambda o, y: F.cross_entropy(o + (1 - keep) * float("-inf"), y),
        kinds=KIND,
        words=("mul", "0 × Inf"),
        remedy=("masked_fill",),
        source="invented: mask by multiplication",
    )


def correlation_with_a_constant() -> Situation:
    seed(24)

    def loss(o, t):
        a, b = o - o.mean(0), t - t.mean(0)
        return 1 - ((a * b).sum(0) / (a.norm(dim=0) * b.norm(dim=0))).mean()

    return Situation(
        "Pearson correlation, one target is constant",
        mlp(6, 16, 3),
        (torch.randn(32, 6), torch.cat([torch.randn(32, 2), torch.full((32, 1), 2.0)], 1)),
        loss,
        kinds=KIND,
        words=("div", "1 of 3"),
        remedy=("eps",),
        source="invented: correlation as a loss",
    )


def overlap_of_empty_masks() -> Situation:
    seed(25)

    def dice(o, t):
        p = (o > 0).float() * o.sigmoid()
        return 1 - (2 * (p * t).sum((1, 2, 3)) / (p + t).sum((1, 2, 3))).mean()

    model = nn.Conv2d(1, 1, 3, padding=1)
    nn.init.constant_(model.bias, -9.0)
    return Situation(
        "Dice of an empty mask and an empty prediction",
        model,
        (torch.randn(4, 1, 8, 8), torch.zeros(4, 1, 8, 8)),
        dice,
        kinds=KIND,
        words=("div", "0 by 0", "4 of 4"),
        remedy=("eps",),
        source="invented: segmentation",
    )


def a_feature_that_never_changes() -> Situation:
    seed(26)

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = mlp(5, 16, 2)

        def forward(self, x):
            return self.net((x - x.mean(0)) / x.std(0))

    x = torch.randn(24, 5)
    x[:, 2] = 1.0
    return Situation(
        "standardized inside forward, one feature is constant",
        Net(),
        (x, torch.arange(24) % 2),
        F.cross_entropy,
        kinds=KIND,
        words=("div", "1 of 5"),
        remedy=("eps",),
        source="invented: standardization in the model",
    )


def distances_to_oneself() -> Situation:
    seed(27)
    return Situation(
        "pairwise distances by hand, the diagonal is 0",
        mlp(6, 16, 4),
        torch.randn(10, 6),
        lambda z: (z[:, None] - z[None]).pow(2).sum(-1).sqrt().mean(),
        kinds=KIND,
        words=("sqrt", "backward", "10 of 100"),
        remedy=("vector_norm|cdist",),
        forbidden=("cut",),
        source="invented: metric learning",
    )


def a_penalty_on_weights_that_start_at_zero() -> Situation:
    seed(28)
    model = mlp(8, 16, 3)
    nn.init.zeros_(model[0].bias)
    x, y = blobs(32, 8, 3)

    def loss(o, y):
        sparse = sum(p.abs().sqrt().sum() for p in model.parameters())
        return F.cross_entropy(o, y) + 1e-4 * sparse

    return Situation(
        "a penalty of the roots of the weights; a bias is 0",
        model,
        (x, y),
        loss,
        kinds=KIND,
        words=("sqrt", "backward", "(loss)", "16 of 16"),
        source="invented: sparsity",
    )


def perplexity_of_an_untrained_model() -> Situation:
    seed(29)
    model = nn.Sequential(nn.Embedding(50, 32), nn.Linear(32, 50))
    with torch.no_grad():
        model[1].weight.mul_(900)
    tokens = torch.randint(0, 50, (8, 12))
    return Situation(
        "exp of the loss: perplexity",
        model,
        (tokens, tokens.roll(-1, 1)),
        lambda o, y: F.cross_entropy(o.transpose(1, 2), y).exp(),
        kinds=KIND,
        words=("exp", "88.7"),
        source="invented: perplexity as a loss",
    )


def a_sum_of_squares_in_half_precision() -> Situation:
    seed(30)
    model = nn.Sequential(nn.Linear(64, 256), nn.Linear(256, 256)).half()
    with torch.no_grad():
        model[0].weight.mul_(300)
    return Situation(
        "a model in float16, activations of a few hundred, squared",
        model,
        (torch.randn(8, 64).half(), torch.zeros(8, 256).half()),
        lambda o, t: ((o - t) ** 2).sum().float(),
        kinds=AT_ONCE,
        words=("65504", "float16"),
        source="invented: half precision",
    )


def softplus_by_hand() -> Situation:
    seed(31)
    x, y = blobs(32, 8, 2)
    model = mlp(8, 16, 1)
    with torch.no_grad():
        model[-1].weight.mul_(1e4)
    return Situation(
        "log(1 + exp(-z)) by hand",
        model,
        (x, 2.0 * y[:, None] - 1),
        lambda o, y: (1 + (-y * o).exp()).log().mean(),
        kinds=KIND,
        words=("exp", "88.7"),
        remedy=("softplus",),
        source="invented: logistic loss",
    )


def two_missing_columns_of_the_second_input() -> Situation:
    seed(32)

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = mlp(8, 16, 2)

        def forward(self, numbers, extra):
            return self.net(torch.cat([numbers, extra], 1))

    extra = torch.randn(20, 3)
    extra[[2, 5, 11], 1] = float("nan")
    return Situation(
        "3 NaN in column 1 of the second input",
        Net(),
        ((torch.randn(20, 5), extra), torch.arange(20) % 2),
        F.cross_entropy,
        kinds=KIND,
        words=("input 2", "3 NaN", "column 1"),
        source="invented: tabular data",
    )


# ---------------------------------------------------------------- healthy


def rows_partly_masked() -> Situation:
    seed(0)
    mask = torch.zeros(8, 5, dtype=torch.bool)
    mask[:, 3:] = True
    return Situation(
        "hand-written attention, padding at the end",
        Attention(),
        ((torch.randn(8, 5, 8), mask), torch.randn(8, 8)),
        F.mse_loss,
        source="twin of outside.md A16",
    )


def some_labels_ignored() -> Situation:
    seed(0)
    x, y = blobs(32, 8, 4)
    y[::2] = -100
    return Situation(
        "half of the labels are -100",
        mlp(8, 16, 4),
        (x, y),
        F.cross_entropy,
        source="twin of pytorch/pytorch#70348",
    )


def where_done_twice() -> Situation:
    # jax-ml/jax#347: where inside and outside
    seed(0)

    def loss(o):
        safe = torch.where(o > 0, o, torch.ones_like(o))
        return torch.where(o > 0, safe.sqrt(), o).sum()

    return Situation(
        "where inside and outside the sqrt",
        nn.Linear(4, 4),
        torch.randn(8, 4),
        loss,
        source="jax-ml/jax#347",
    )


def missing_targets_selected() -> Situation:
    seed(0)
    x, y = line(32, 6)
    y[::4] = float("nan")
    return Situation(
        "missing targets selected away",
        mlp(6, 16, 1),
        (x, y),
        lambda o, y: ((o - y.nan_to_num()) ** 2)[~y.isnan()].mean(),
        source="twin: NaN marks what is missing",
    )


def missing_features_filled() -> Situation:
    seed(0)
    x, y = blobs(32, 8, 3)
    x[::3, 1] = float("nan")

    class Fill(nn.Module):
        def __init__(self):
            super().__init__()
            self.fill, self.net = nn.Parameter(torch.zeros(8)), mlp(16, 16, 3)

        def forward(self, x):
            gone = x.isnan()
            return self.net(
                torch.cat([torch.where(gone, self.fill, x.nan_to_num()), gone.float()], 1)
            )

    return Situation(
        "missing features filled by a learned value",
        Fill(),
        (x, y),
        F.cross_entropy,
        kinds=QUIET,
        source="twin: NaN marks what is missing",
    )


def large_logits_in_cross_entropy() -> Situation:
    seed(0)
    _, y = blobs(32, 8, 4)
    return Situation(
        "logits of 300 through cross_entropy, right answers",
        nn.Sequential(Times(), nn.Linear(4, 4)),
        (300 * F.one_hot(y, 4).float(), y),
        F.cross_entropy,
        kinds=(*QUIET, {"unscaled"}),
        source="twin: logsumexp does not overflow",
    )


class Times(nn.Module):
    def forward(self, x):
        return x / 300


def log_variance_clamped() -> Situation:
    # vanderschaarlab/synthcity#331: clamp to [-30, 20]
    seed(0)
    model = VAE(lambda v: v.clamp(-30, 20))
    with torch.no_grad():
        model.logvar.bias.zero_()
        model.logvar.weight.normal_(std=0.3)
    return Situation(
        "log-variance within its clamp",
        model,
        torch.randn(16, 8),
        lambda o: 0.5 * (o[1].exp() + o[0] ** 2 - 1 - o[1]).mean(),
        kinds=QUIET,
        source="vanderschaarlab/synthcity#331 (mended)",
    )


def softplus_scale() -> Situation:
    seed(0)
    x, y = line(64, 6)

    def nll(o, y):
        scale = F.softplus(o[:, 1:]) + 1e-3
        return (0.5 * ((y - o[:, :1]) / scale) ** 2 + scale.log()).mean()

    return Situation(
        "Gaussian likelihood, scale by softplus",
        mlp(6, 32, 2),
        (x, y),
        nll,
        source="twin: softplus",
    )


def causal_mask_in_the_batch() -> Situation:
    seed(0)

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.TransformerEncoderLayer(
                16, 2, 32, 0.0, batch_first=True, norm_first=True
            )

        def forward(self, x, mask):
            return self.layer(x, src_mask=mask)

    mask = nn.Transformer.generate_square_subsequent_mask(6)
    return Situation(
        "a causal mask of -Inf as input",
        Net(),
        ((torch.randn(8, 6, 16), mask), torch.randn(8, 6, 16)),
        F.mse_loss,
        source="twin: -Inf on purpose",
    )


def batch_of_one() -> Situation:
    seed(0)
    return Situation(
        "a batch of one, no norm",
        mlp(6, 16, 3),
        (torch.randn(1, 6), torch.tensor([1])),
        F.cross_entropy,
        kinds=QUIET,
        source="twin: batch size 1",
    )


def sqrt_with_eps() -> Situation:
    seed(0)
    x, y = line(32, 6)
    return Situation(
        "root of a mean square plus eps",
        mlp(6, 16, 1),
        (x, y),
        lambda o, y: (F.mse_loss(o, y) + 1e-8).sqrt(),
        source="twin: RMSE",
    )


def squashed_policy_in_the_log_domain() -> Situation:
    seed(40)

    def loss(u):
        log_slope = 2 * (0.6931472 - u - F.softplus(-2 * u))
        return (-0.5 * u**2 - log_slope).sum(1).mean()

    return Situation(
        "log(1 - tanh(u)^2) by softplus",
        mlp(6, 16, 2),
        torch.randn(16, 6),
        loss,
        kinds=QUIET,
        source="twin: squashed Gaussian policy",
    )


def contrast_with_the_diagonal_masked() -> Situation:
    seed(41)
    partner = (torch.arange(12) + 6) % 12
    return Situation(
        "contrastive loss, the diagonal masked, the labels elsewhere",
        mlp(8, 16, 8),
        torch.randn(12, 8),
        lambda z: F.cross_entropy(
            (z @ z.T).masked_fill(torch.eye(12).bool(), float("-inf")), partner
        ),
        kinds=QUIET,
        source="twin: contrastive learning",
    )


def mask_by_where() -> Situation:
    seed(42)
    keep = torch.tensor([True, True, False])
    return Situation(
        "classes masked by where",
        mlp(8, 16, 3),
        (torch.randn(16, 8), torch.arange(16) % 2),
        lambda o, y: F.cross_entropy(torch.where(keep, o, float("-inf")), y),
        kinds=QUIET,
        source="twin: mask by multiplication",
    )


def distances_by_cdist() -> Situation:
    seed(43)
    return Situation(
        "pairwise distances by cdist",
        mlp(6, 16, 4),
        torch.randn(10, 6),
        lambda z: torch.cdist(z, z).sub(1).square().mean(),
        kinds=QUIET,
        source="twin: metric learning",
    )


def dice_with_a_smoothing_term() -> Situation:
    seed(44)

    def dice(o, t):
        p = o.sigmoid()
        return 1 - ((2 * (p * t).sum((1, 2, 3)) + 1) / ((p + t).sum((1, 2, 3)) + 1)).mean()

    return Situation(
        "Dice with a smoothing term, one mask is empty",
        nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 1, 3, padding=1)),
        (
            torch.randn(4, 1, 8, 8),
            (torch.arange(4) > 0).float()[:, None, None, None].expand(4, 1, 8, 8),
        ),
        dice,
        kinds=QUIET,
        source="twin: segmentation",
    )


def robust_z_scores() -> Situation:
    seed(45)

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = mlp(5, 16, 2)

        def forward(self, x):
            return self.net((x - x.mean(0)) / (x.std(0) + 1e-6))

    x = torch.randn(24, 5)
    x[:, 2] = 1.0
    return Situation(
        "standardized with eps, one feature is constant",
        Net(),
        (x, torch.arange(24) % 2),
        F.cross_entropy,
        kinds=QUIET,
        source="twin: standardization in the model",
    )


def half_precision_within_range() -> Situation:
    seed(46)
    return Situation(
        "bfloat16 model",
        mlp(64, 64, 10).bfloat16(),
        (torch.randn(32, 64).bfloat16(), torch.arange(32) % 10),
        lambda o, y: F.cross_entropy(o.float(), y),
        kinds=QUIET,
        source="twin: half precision",
    )


def missing_values_by_a_mask_input() -> Situation:
    seed(47)

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = mlp(5, 16, 2)

        def forward(self, x):
            return self.net(torch.where(x.isnan(), torch.zeros_like(x), x))

    x = torch.randn(24, 5)
    x[::3, 1] = float("nan")
    return Situation(
        "NaN in the batch that forward replaces",
        Net(),
        (x, torch.arange(24) % 2),
        F.cross_entropy,
        kinds=QUIET,
        source="twin: tabular data",
    )


def infinity_as_no_limit() -> Situation:
    # a buffer of +Inf: no upper bound
    seed(48)

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = mlp(5, 16, 2)
            self.register_buffer("high", torch.full((2,), float("inf")))

        def forward(self, x):
            return torch.minimum(self.net(x), self.high)

    x, y = blobs(24, 5, 2)
    return Situation(
        "a bound of +Inf in a buffer",
        Net(),
        (x, y),
        F.cross_entropy,
        kinds=QUIET,
        source="twin: Inf on purpose",
    )


def best_so_far_starts_at_infinity() -> Situation:
    # log-sum-exp over time written out, the first state is -Inf
    seed(49)

    def forward_algorithm(o):
        state = torch.full((o.shape[0],), float("-inf"))
        for t in range(o.shape[1]):
            state = torch.logaddexp(state, o[:, t])
        return -state.mean()

    return Situation(
        "logaddexp that starts from -Inf",
        mlp(8, 16, 6),
        torch.randn(16, 8),
        forward_algorithm,
        kinds=QUIET,
        source="twin: -Inf is the zero of the log domain",
    )


def entropy_of_a_categorical_with_masked_actions() -> Situation:
    # Categorical(logits).entropy() bounds -Inf from below, and its gradient stays finite
    seed(50)
    mask = torch.zeros(16, 4, dtype=torch.bool)
    mask[:, 3] = True
    return Situation(
        "entropy of Categorical, one action is masked",
        mlp(6, 16, 4),
        torch.randn(16, 6),
        lambda o: (
            -torch.distributions.Categorical(logits=o.masked_fill(mask, float("-inf")))
            .entropy()
            .mean()
        ),
        kinds=QUIET,
        source="twin of huggingface/trl#7263",
    )


def ordinary_mixture_density() -> Situation:
    seed(51)
    x, y = line(64, 6)

    def loss(o, y):
        log_pi, mu, log_s = o[:, :3].log_softmax(1), o[:, 3:6], o[:, 6:].clamp(-7, 7)
        return -(log_pi - log_s - 0.5 * ((y - mu) / log_s.exp()) ** 2).logsumexp(1).mean()

    return Situation(
        "mixture density in the log domain",
        mlp(6, 32, 9),
        (x, y),
        loss,
        kinds=QUIET,
        source="twin of keras-team/keras#2586",
    )
