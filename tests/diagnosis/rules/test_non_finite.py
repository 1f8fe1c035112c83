"""NaN and Inf: the operation, why in figures, and the remedy."""

import copy
import math
import re

import pytest
import torch
import torch.nn.functional as F
from patients import Written, data, diagnose, net, the
from torch import nn

import course_utils as cu

INF = math.inf
LABELS = torch.arange(32) % 10


def found_in(loss, model=None, batch=None):
    """The one finding, the same at every scale of the loss."""
    torch.manual_seed(0)
    model = nn.Linear(64, 10) if model is None else model
    findings = []
    for factor in (1e-6, 1, 1e6):
        answer = diagnose(model, batch, lambda *a, k=factor: k * loss(*a))
        assert answer.kinds == {"non_finite"}, answer
        assert not re.search(r"\bnan\b", str(answer))
        findings.append(the(answer, "non_finite"))
    assert len({finding.cause for finding in findings if "arrives is as" not in finding.cause}) < 2
    return findings[1]


def kept(o):
    """What is positive, else exactly 0."""
    return o * (o.detach() > 0)


def test_an_overflow_is_traced_to_the_growth_before_it():
    model = cu.mlp(60, 120, inputs=64, init="normal", std=1.0, generator=cu.seeded(0))
    found = diagnose(model)
    assert found.kinds == {"non_finite", "exploding"}
    growth = math.sqrt(120 / 2)  # E h² per layer is n/2 for N(0,1) weights and ReLU
    assert the(found, "exploding").measured == pytest.approx(growth, rel=0.05)


def test_one_large_bias_is_no_growth_with_depth():
    model = net(5)
    nn.init.constant_(model.linear5.bias, 300.0)
    found = found_in(lambda o, y: o.half().square().float().mean(), model)
    assert " > 65504" in found.cause and "growth" not in found.cause


@pytest.mark.parametrize(
    ("loss", "words"),
    [
        (lambda o, y: (o * 0).sqrt().sum(), ("sqrt", "infinite at 0", "320 of 320")),
        (lambda o, y: torch.acos(1 - (o - o.detach()).pow(2).sum(1)).mean(), ("acos", "at 1")),
        (lambda o, y: ((o - o.detach()).abs() ** 0.5).sum(), ("pow", "infinite at 0")),
        (lambda o, y: (o - o).pow(2).sum(1).sqrt().mean(), ("sqrt", "32 of 32")),
        (lambda o, y: torch.where(o < 9e9, o, (o * 0 + 99).exp()).sum(), ("exp", "a where")),
        (lambda o, y: torch.where(o > 0, o.sqrt(), o).sum(), ("sqrt", "NaN among", "a where")),
        (lambda o, y: torch.where(kept(o) > 0, 1 / kept(o), o).sum(), ("reciprocal", "a where")),
        (lambda o, y: torch.where(o.abs() < 1e-3, o.acos(), o).sum(), ("acos", "no finite slope")),
        (lambda o, y: (1 / (1 + (-1e4 * o).exp())).sum(), ("exp", "reciprocal")),
        (lambda o, y: torch.hypot(o * 0, o * 0).sum(), ("hypot", "are 0")),
    ],
)
def test_a_slope_of_the_loss_that_is_infinite_is_no_cut_graph(loss, words):
    found = found_in(loss)
    assert found.layers == ("(loss)",)
    assert all(word in found.cause for word in ("backward pass", "(loss)", *words)), found.cause


@pytest.mark.parametrize(
    ("of", "part"), [(torch.linalg.svd, 0), (torch.linalg.eigh, 1)], ids=["svd", "eigh"]
)
def test_equal_singular_values_or_eigenvalues_are_named(of, part):
    model = Written(
        lambda self, x: x @ of(self.a)[part], a=nn.Parameter(torch.eye(64) + 1e-3 * torch.eye(64))
    )
    found = found_in(lambda o, y: o.square().mean(), model)
    assert found.layers == ("(model)",) and "equal (1 and 1)" in found.cause


def test_a_graph_that_is_cut_is_still_a_cut_graph():
    assert diagnose(net(3), loss=lambda o, y: o.detach().mean()).kinds == {"not_connected"}


@pytest.mark.filterwarnings("ignore:std")
@pytest.mark.parametrize(
    ("loss", "words", "remedy"),
    [
        (lambda o, y: (o.abs() * 0 - 0.3).log().mean(), ("it was negative: −0.3",), "softplus"),
        (lambda o, y: (o.abs() * 0 - 2).log1p().mean(), ("below −1", "−2"), "softplus"),
        (lambda o, y: (o.abs() * 0 - 2).sqrt().mean(), ("it was negative: −2",), "z.var("),
        (lambda o, y: (o * 0 + 1 + 2e-7).acos().mean(), ("1 + 2.4e-7",), "1 - eps"),
        (lambda o, y: -(-((o - 99) ** 2)).exp().sum(1).log().mean(), ("log of 0",), "logsumexp"),
        (lambda o, y: (1 - (1e3 * o).sigmoid()).log().mean(), ("log of 0",), "logsigmoid(-z)"),
        (lambda o, y: -(1e4 * o).softmax(1).log().mean(), ("log of 0",), "log_softmax"),
        (lambda o, y: (1 - (99 * o.abs() + 99).tanh() ** 2).log().mean(), ("log",), "softplus(-2"),
        (lambda o, y: (1e4 * o).exp().add(1).log().mean(), ("exp", "88.7"), "F.softplus"),
        (lambda o, y: (1e4 * o).exp().sum(1).log().mean(), ("exp", "88.7"), "torch.logsumexp"),
        (lambda o, y: (1e4 * o).exp().mean(), ("reached", "88.7 in float32"), "clamp(-20, 20)"),
        (lambda o, y: (o * 0 + 12).half().exp().mean(), ("reached 12", "11.1 in"), "(-10, 10)"),
        (lambda o, y: (o / (o * 0).norm(dim=1, keepdim=True)).mean(), ("norm",), "F.normalize"),
        (lambda o, y: (o / (o * 0).std(0)).mean(), ("spread", "10 of 10"), "finfo(s.dtype).eps"),
        (lambda o, y: (o.half() / (o * 0).half()).float().mean(), ("6e-8",), "finfo(y.dtype).eps"),
        (lambda o, y: o.sum() / (y < 0).sum(), ("0 (1 of 1", "count"), "clamp_min(1)"),
        (lambda o, y: o[y < 0].mean(), ("0 numbers", "(0, 10)"), "z.numel()"),
        (lambda o, y: o[:1, 0].std(), ("over 1 number",), "correction=0"),
        (lambda o, y: (o * 0 + 3e5).half().float().mean(), ("3e5 > 65504",), "bfloat16"),
        (lambda o, y: F.mse_loss(o.half(), o.half() * 0 - 999).float(), ("65504",), "z.float()"),
        (lambda o, y: o.square().mean() + 1e38 * 99 * o[0, 0].exp(), ("float32",), "smaller"),
        (lambda o, y: torch.slogdet(o[:10] * 0)[1], ("singular",), "Cholesky"),
    ],
)
def test_the_cause_has_its_figure_and_the_remedy_fits_it(loss, words, remedy):
    found = found_in(loss)
    assert all(word in found.cause for word in ("forward pass, by", "(loss)", *words)), found.cause
    assert remedy in found.remedy
    negative = "negative" in found.cause or "below −1" in found.cause
    assert not (negative and "clamp" in found.remedy)
    assert "1e-12" not in found.remedy and "detect_anomaly" not in found.remedy


def attention(mask):
    def forward(self, x):
        q = self.q(x).view(-1, 4, 16)
        scores = mask(q @ q.transpose(1, 2))
        return self.out((scores.softmax(-1) @ q).flatten(1))

    return Written(forward, q=nn.Linear(64, 64), out=nn.Linear(64, 10))


LOWER = torch.ones(4, 4).tril().bool()
SAMPLE = (torch.arange(32) == 3)[:, None, None]
ADDED = torch.zeros(32, 1, 4).masked_fill(SAMPLE, -INF)


def in_place(scores):
    scores = scores.clone()
    scores[3] = -INF
    return scores


@pytest.mark.parametrize(
    ("mask", "row"),
    [
        (lambda s: s.masked_fill(SAMPLE, -INF), "[3, 0]"),
        (lambda s: s + ADDED, "[3, 0]"),
        (lambda s: torch.where(SAMPLE, -INF, s), "[3, 0]"),
        (in_place, "[3, 0]"),
        (lambda s: s + (~SAMPLE).float().log(), "[3, 0]"),
        (lambda s: s.masked_fill(LOWER, -INF), "[0, 3]"),
    ],
)
def test_a_row_that_is_masked_throughout_is_named_whoever_masked_it(mask, row):
    found = found_in(F.cross_entropy, attention(mask))
    assert f"softmax. row {row}" in found.cause and "(32×4×4) is all −Inf" in found.cause
    assert ("wrong way round" in found.cause) == (row == "[0, 3]")
    filled = attention(lambda s: s.masked_fill(SAMPLE, torch.finfo(s.dtype).min))
    assert "finfo" in found.remedy and diagnose(filled).healthy


@pytest.mark.parametrize(
    ("loss", "words"),
    [
        (lambda o, y: F.cross_entropy(o, y * 0 - 100), ("0 of 32 labels", "−100")),
        (
            lambda o, y: F.cross_entropy(o, y * 0 + 7, ignore_index=7),
            ("0 of 32 labels", "all are 7"),
        ),
        (
            lambda o, y: F.cross_entropy(o.view(4, 8, 10).transpose(1, 2), y.view(4, 8) * 0 - 100),
            ("0 of 32 labels",),
        ),
        (
            lambda o, y: F.cross_entropy(o, y * 0, weight=torch.arange(10.0)),
            ("class weight of each of the 32",),
        ),
        (
            lambda o, y: F.cross_entropy(o.masked_fill(torch.arange(10) == 3, -INF), y * 0 + 3),
            ("masked_fill", "32 of 32 labels"),
        ),
    ],
)
def test_labels_of_which_none_counts_are_counted(loss, words):
    found = found_in(loss)
    assert all(word in found.cause for word in words), found.cause


@pytest.mark.parametrize(
    ("lengths", "words"),
    [((3, 12, 4, 5), "target 12 > input 9 (sample 1; 1 of 4)"), ((3, 6, 4, 9), "and 5 blanks")],
)
def test_a_target_that_ctc_cannot_align_is_named_by_its_length(lengths, words):
    targets = torch.arange(48).view(4, 12) % 5 + 1
    targets[1, :6] = 2

    def loss(o, zero=False):
        steps = o.view(4, 9, 10).transpose(0, 1).log_softmax(-1)
        long = torch.full((4,), 9)
        return F.ctc_loss(steps, targets, long, torch.tensor(lengths), zero_infinity=zero)

    model, x = nn.Linear(64, 90), torch.randn(4, 64)
    assert words in found_in(loss, model, x).cause
    assert "non_finite" not in diagnose(model, x, lambda o: loss(o, zero=True)).kinds


def test_what_was_not_finite_before_the_step_is_said_first():
    x, y = data()
    column, cell, target = x.clone(), x.clone(), torch.randn(32, 10)
    column[[1, 4, 9], 7], cell[3, 5], target[2] = math.nan, INF, math.nan
    found = found_in(F.cross_entropy, net(3), (column, y))
    assert "The input holds 3 NaN among 2048 numbers, in column 7" in found.cause
    assert found.remedy.startswith("#") and "x[:, 7]" in found.remedy
    assert "1 Inf among 2048" in found_in(F.cross_entropy, net(3), (cell, y)).cause
    found = found_in(F.mse_loss, net(3), (x, target))
    assert "The target holds 10 NaN among 320 numbers, all in sample 2" in found.cause
    found = found_in(
        lambda o, t: torch.where(t.isnan(), 0.0, (o - t) ** 2).mean(), net(3), (x, target)
    )
    assert "backward" in found.cause and "The target holds 10 NaN" in found.cause
    broken = net(3)
    with torch.no_grad():
        broken.linear2.weight[4, 1] = math.nan
    found = found_in(F.cross_entropy, broken)
    assert "linear2.weight holds 1 NaN among 4096 numbers" in found.cause
    weights = torch.ones(10)
    weights[2] = math.nan
    found = found_in(lambda o, y: F.cross_entropy(o, y, weight=weights))
    assert "constant" in found.cause and "shape (10,)" in found.cause


def test_zero_times_a_mask_of_inf_is_the_products_fault_not_the_masks():
    mask = torch.arange(10) < 3

    def entropy(o, y, fill=False):
        log_p = o.masked_fill(mask, -INF).log_softmax(1)
        return (log_p.exp() * (log_p.masked_fill(mask, 0) if fill else log_p)).sum(1).mean()

    found = found_in(entropy)
    assert "by mul" in found.cause and "0 × Inf" in found.cause and "96 of 320" in found.cause
    assert diagnose(nn.Linear(64, 10), loss=lambda o, y: entropy(o, y, fill=True)).healthy
    found = found_in(lambda o, y: F.cross_entropy(o + mask.float() * -INF, y))
    assert "0 × Inf" in found.cause and "masked_fill" in found.remedy


@pytest.mark.parametrize(
    "loss",
    [
        lambda o, y: F.cross_entropy(o, y.masked_fill(y % 2 == 0, -100)),
        lambda o, y: torch.where(o > 0, torch.where(o > 0, o, 1.0).sqrt(), o).mean(),
        lambda o, y: (F.mse_loss(o, o * 0 + 1) + 1e-8).sqrt(),
        lambda o, y: F.cross_entropy(o.masked_fill(torch.arange(10) == (y[:, None] + 1), -INF), y),
        lambda o, y: (o - 1).norm(dim=1).mean(),
        lambda o, y: F.logsigmoid(1e3 * o).mean(),
        lambda o, y: (1e3 * o).logsumexp(1).mean(),
        lambda o, y: F.softplus(1e3 * o).mean(),
        lambda o, y: torch.exp(o.clamp(-20, 20)).mean(),
        lambda o, y: (o / (o.norm(dim=1, keepdim=True) + 1e-6) - 1).square().mean(),
        lambda o, y: F.binary_cross_entropy((9 * o).sigmoid(), F.one_hot(y, 10).float()),
        lambda o, y: F.cosine_similarity(o, o.roll(1, 0)).mean(),
        lambda o, y: torch.cat([o[y < 0], o]).square().mean(),
    ],
)
def test_losses_that_guard_their_singular_points_are_healthy(loss):
    torch.manual_seed(0)
    model = nn.Linear(64, 10)
    for factor in (1e-6, 1, 1e6):
        assert diagnose(model, loss=lambda o, y, k=factor: k * loss(o, y)).healthy


def test_a_gradient_that_only_its_own_scale_carries_beyond_the_format_is_healthy():
    mask = torch.arange(10) < 3

    def entropy(o, y):  # its slope at a masked action is the lowest number of float32
        masked = o.masked_fill(mask, -INF)
        return -torch.distributions.Categorical(logits=masked).entropy().mean()

    torch.manual_seed(0)
    model = nn.Linear(64, 10)
    entropy(model(data()[0]), None).backward()
    assert all(bool(p.grad.isfinite().all()) for p in model.parameters())
    assert diagnose(model, loss=entropy).healthy


def test_complex_sparse_and_nested_tensors_are_followed():
    pair = lambda o: torch.view_as_complex(torch.stack([o, o], -1))  # noqa: E731
    assert "by log" in found_in(lambda o, y: pair(o * 0).log().abs().mean()).cause
    sparse = nn.Sequential(nn.Embedding(40, 8, sparse=True), nn.Linear(8, 10))
    batch = torch.arange(32), LABELS
    found = found_in(lambda o, y: (o - o.detach()).abs().sqrt().sum(), sparse, batch)
    assert "sqrt" in found.cause and diagnose(sparse, batch).healthy
    offsets = torch.tensor([0, 12, 32])
    nested = Written(
        lambda self, x: (torch.nested.nested_tensor_from_jagged(self.a(x), offsets) / 0).values(),
        a=nn.Linear(64, 10),
    )
    assert "by div" in found_in(F.cross_entropy, nested).cause


@pytest.mark.parametrize(
    ("loss", "remedy"),
    [
        (lambda o, y: (o - o.detach() + 5e-5).prod(1).log().sum(), "z.log().sum(dim)"),
        (lambda o, y: -(o - o.detach() - 100).exp().sum(1).log().sum(), "logsumexp"),
    ],
)
def test_a_number_too_small_for_the_slope_of_its_logarithm_stays_in_the_log_domain(loss, remedy):
    torch.manual_seed(0)
    found = the(diagnose(nn.Linear(64, 10), loss=loss), "non_finite")
    assert "backward pass, by log" in found.cause and remedy in found.remedy


def density(o, y, how):
    """−log of a mixture of three bells."""
    exponent = -0.5 * (y - o[:, 3:]) ** 2
    if how == "logsumexp":
        return -torch.logsumexp(F.log_softmax(o[:, :3], 1) + exponent, 1).mean()
    p = (o[:, :3].softmax(1) * exponent.exp()).sum(1)
    return -(p.clamp_min(1e-12) if how == "clamp" else p).log().mean()


def test_the_log_domain_trains_where_a_clamp_stands_still():
    torch.manual_seed(0)
    start, x, y = nn.Linear(4, 6), torch.randn(64, 4), torch.full((64, 1), 30.0)
    sick = the(diagnose(start, (x, y), lambda o, y: density(o, y, "")), "non_finite")
    assert "logsumexp" in sick.remedy and "clamp" not in sick.remedy
    last = {}
    for how in ("clamp", "logsumexp"):
        model = copy.deepcopy(start)
        optimizer = torch.optim.Adam(model.parameters(), lr=1.0)
        for _ in range(150):
            optimizer.zero_grad()
            loss = density(model(x), y, how)
            loss.backward()
            optimizer.step()
        last[how] = loss.item()
    assert last["clamp"] == pytest.approx(-math.log(1e-12)) and last["logsumexp"] < 1


@pytest.mark.parametrize(
    ("sick", "mended"),
    [
        (
            lambda z: (z - z).square().sum(1).sqrt(),
            lambda z: torch.linalg.vector_norm(z - z, dim=1),
        ),
        (
            lambda z: (z - z).abs().sqrt(),
            lambda z: ((z - z).abs() + torch.finfo(z.dtype).eps).sqrt(),
        ),
        (lambda z: (1 - (30 * z).sigmoid()).log(), lambda z: F.logsigmoid(-30 * z)),
        (lambda z: (300 * z).softmax(1).log(), lambda z: F.log_softmax(300 * z, 1)),
        (
            lambda z: (1 - (30 * z).tanh() ** 2).log(),
            lambda z: 2 * (math.log(2) - 30 * z - F.softplus(-60 * z)),
        ),
        (lambda z: (1 + (300 * z).exp()).log(), lambda z: F.softplus(300 * z)),
        (lambda z: 1 / (1 + (-300 * z).exp()), lambda z: (300 * z).sigmoid()),
        (lambda z: (300 * z).cosh().log(), lambda z: 300 * z + F.softplus(-600 * z) - math.log(2)),
        (
            lambda z: (1 - (-z.abs() * 1e-9).exp()).log(),
            lambda z: (-(-z.abs() * 1e-9).expm1()).log(),
        ),
    ],
)
def test_what_the_remedies_write_has_the_value_in_float64_and_a_finite_slope(sick, mended):
    z = torch.randn(64, 4, generator=cu.seeded(0)).requires_grad_()
    assert not bool(torch.autograd.grad(sick(z).sum(), z)[0].isfinite().all())
    assert bool(torch.autograd.grad(mended(z).sum(), z)[0].isfinite().all())
    exact = sick(0.1 * z.detach().double())
    close = {"atol": 1e-3, "rtol": 1e-6}
    good = exact.isfinite()
    torch.testing.assert_close(mended(0.1 * z.detach().double())[good], exact[good], **close)


@pytest.mark.parametrize(
    "function",
    [
        lambda z: torch.log(z.relu()),
        lambda z: (z * 0).sqrt(),
        lambda z: z / (z * 0),
        lambda z: (200 * z.abs() + 200).exp(),
        lambda z: torch.asin(z.abs() + 2),
    ],
)
def test_a_remedy_that_must_be_done_by_hand_is_a_comment_and_does_not_run(function):
    model = Written(lambda self, x: function(self.linear(x)), linear=nn.Linear(64, 10))
    found = the(diagnose(model), "non_finite")
    assert found.remedy.startswith("#") and not found.remedy_runs
    exec(found.remedy, {})  # a comment, and no more


def test_the_remedy_of_a_batch_that_holds_nan_is_a_comment_too():
    x, y = data()
    x[3, 5] = math.nan
    found = the(diagnose(nn.Linear(64, 10), (x, y)), "non_finite")
    assert not found.remedy_runs and exec(found.remedy, {}) is None
