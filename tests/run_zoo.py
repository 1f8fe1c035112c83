"""A zoo of training runs with a known fate, drawn from a seed: families, not a list.

A healthy run is a small network that trains on small data with everything drawn at random: sizes,
activation, norm, skip, dropout, optimizer, schedule, clipping, accumulation, batch size and noise
in the labels. A family fixes one of these. A sick run is the same with one thing done to it, at a
step that is known.
"""

import copy
import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import course_utils as cu

try:
    from network_zoo import Draw
except ImportError:  # a benchmark, from the root of the repository
    from tests.network_zoo import Draw

DIGITS = cu.load_digits()
OF_THE_LOSS = ("losses", "grad_rms", "parameter_grad_rms", "total_grad_norm")


@dataclass
class Trained:
    """A record of a run and what is known about it.

    Attributes:
        family: Name of the family.
        record: What was recorded.
        has: Kinds that must be found.
        may: Kinds that may be found too.
        either: Kinds of which one at least must be found; empty where `has` says all.
        began: First and last step at which the first of these may have begun; None if any.
        said: What was drawn, for messages.
    """

    family: str
    record: cu.GradientRecord
    has: frozenset[str]
    may: frozenset[str] = frozenset()
    either: frozenset[str] = frozenset()
    began: tuple[int, int] | None = None
    said: str = ""

    def diagnosed(self, factor: float = 1.0) -> cu.Diagnosis:
        """Its diagnosis, with the loss and its gradients times a factor."""
        scaled = {name: getattr(self.record, name) * factor for name in OF_THE_LOSS}
        return cu.diagnose_run(replace(self.record, **scaled))

    def right(self, found: cu.Diagnosis) -> bool:
        """Whether a diagnosis is right, the step included."""
        if not self.has <= found.kinds <= self.has | self.may | self.either:
            return False
        if self.either and not self.either & found.kinds:
            return False
        low, high = self.began or (0, math.inf)
        steps = [one.step for one in found.findings if one.kind in self.has | self.either]
        if "healthy" in self.has or None in steps:
            return "healthy" in self.has
        return low <= min(steps) <= high


@dataclass
class Plan:
    """How a run is trained. What is None is drawn."""

    task: str | None = None
    activation: str | None = None
    norm: str | None = None
    dropout: float | None = None
    skip: bool | None = None
    depth: int | None = None
    width: int | None = None
    optimizer: str | None = None
    lr: float = 1.0
    decay: float | None = None
    schedule: str | None = None
    clip: bool | None = None
    accumulate: int | None = None
    batch: int | None = None
    noise: float | None = None
    steps: int | None = None
    every: int = 1
    loss_given: bool = True
    optimizer_given: bool = True
    dtype: torch.dtype = torch.float32
    change: Callable[[nn.Module], None] | None = None
    event: Callable[[int, nn.Module, torch.optim.Optimizer], None] | None = None
    spoil: Callable[[int, Tensor, Tensor], tuple[Tensor, Tensor]] | None = None
    loss: Callable[[int, nn.Module, Tensor, Tensor], Tensor] | None = None
    rate: Callable[[int], float] | None = None
    drawn: dict = field(default_factory=dict)


class Block(nn.Module):
    """Linear, norm, activation, dropout; with a skip if asked."""

    def __init__(self, inputs: int, width: int, plan: Plan) -> None:
        super().__init__()
        self.linear = nn.Linear(inputs, width)
        norms = {"batch": nn.BatchNorm1d, "layer": nn.LayerNorm}
        self.norm = norms[plan.norm](width) if plan.norm in norms else None
        self.activation = ACTIVATIONS[plan.activation]()
        self.dropout = nn.Dropout(plan.dropout) if plan.dropout else None
        self.skip = plan.skip and inputs == width

    def forward(self, x: Tensor) -> Tensor:
        h = self.linear(x)
        h = self.activation(h if self.norm is None else self.norm(h))
        h = h if self.dropout is None else self.dropout(h)
        return x + h if self.skip else h


ACTIVATIONS = {
    "relu": nn.ReLU,
    "leaky_relu": lambda: nn.LeakyReLU(0.1),
    "tanh": nn.Tanh,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "sigmoid": nn.Sigmoid,
}


class Net(nn.Module):
    """Blocks and a head. `cut` detaches what comes out of the first `cut` blocks."""

    def __init__(self, inputs: int, outputs: int, plan: Plan) -> None:
        super().__init__()
        sizes = [inputs] + [plan.width] * plan.depth
        self.blocks = nn.ModuleList(Block(a, b, plan) for a, b in itertools.pairwise(sizes))
        self.head = nn.Linear(plan.width, outputs)
        self.cut = 0

    def forward(self, x: Tensor) -> Tensor:
        for i, block in enumerate(self.blocks):
            x = block(x)
            x = x.detach() if i + 1 == self.cut else x
        return self.head(x)


def data(draw: Draw, plan: Plan) -> tuple[Tensor, Tensor]:
    """Inputs and targets; a share `noise` of the labels is drawn anew, or as much noise added."""
    if plan.task == "digits":
        x, y = DIGITS.train_x.float(), DIGITS.train_y
        x = x.flatten(1)
    elif plan.task == "spirals":
        x, y = cu.spirals(200, generator=draw.generator)
        x = x.float()
    elif plan.task == "blobs":
        count, size = draw.whole(2, 6), draw.whole(3, 16)
        centers = draw.normal(count, size) * draw.real(0.7, 2)
        y = torch.randint(0, count, (600,), generator=draw.generator)
        x = centers[y] + draw.normal(600, size)
    else:
        size = draw.whole(2, 8)
        x = draw.normal(600, size)
        y = torch.sin(x @ draw.normal(size, 2) / math.sqrt(size) * 2)
        return x, y + plan.noise * draw.normal(*y.shape)
    other = torch.randint(0, int(y.max()) + 1, y.shape, generator=draw.generator)
    return x, torch.where(torch.rand(y.shape, generator=draw.generator) < plan.noise, other, y)


def decide(draw: Draw, plan: Plan) -> Plan:
    """Draw what is None."""
    drawn = {
        "task": draw.one("digits", "blobs", "blobs", "sines", "sines", "spirals"),
        "activation": draw.one("relu", "relu", "leaky_relu", "tanh", "gelu", "silu"),
        "norm": draw.one("none", "none", "batch", "layer"),
        "dropout": draw.one(0.0, 0.0, 0.1, 0.3),
        "skip": draw.one(False, False, True),
        "depth": draw.whole(2, 5),
        "width": draw.whole(8, 32),
        "optimizer": draw.one("sgd", "momentum", "adam", "adamw"),
        "decay": draw.one(0.0, 0.0, 1e-4, 1e-2),
        "schedule": draw.one("constant", "cosine", "linear", "stairs"),
        "clip": draw.one(False, False, True),
        "accumulate": draw.one(1, 1, 1, 1, 2),
        "batch": round(math.exp(draw.real(math.log(4), math.log(64)))),
        "noise": draw.one(0.0, 0.0, 0.1, 0.3),
        "steps": draw.whole(50, 90),
    }
    given = {name: getattr(plan, name) for name in drawn if getattr(plan, name) is not None}
    chosen = drawn | given
    if chosen["skip"] and plan.norm is None:
        chosen["norm"] = "layer"
    if chosen["norm"] == "batch" and plan.batch is None:
        chosen["batch"] = max(8, chosen["batch"])
    return replace(plan, **chosen, drawn=chosen)


def rate(plan: Plan, i: int) -> float:
    """The schedule's factor of the learning rate in step i."""
    part, warm = i / plan.steps, max(1, plan.steps // 10)
    if plan.schedule == "constant":
        return 1.0
    if plan.schedule == "stairs":
        return 0.1 ** (int(part > 0.6) + int(part > 0.85))
    if i < warm:
        return (i + 1) / warm
    left = (plan.steps - i) / (plan.steps - warm)
    return left if plan.schedule == "linear" else 0.5 * (1 - math.cos(math.pi * left))


def make_optimizer(draw: Draw, plan: Plan, net: nn.Module) -> torch.optim.Optimizer:
    """Two groups, the first layer and the rest, with a rate that suits the optimizer."""
    first = list(net.blocks[0].linear.parameters())
    rest = [p for p in net.parameters() if all(p is not other for other in first)]
    groups = [{"params": first}, {"params": rest}]
    small = min(1.0, plan.batch * plan.accumulate / 16)
    scale = plan.lr * math.exp(draw.real(-0.7, 0.7))
    if plan.skip and "adam" not in plan.optimizer:
        small *= 2 / (plan.depth + 2)  # the stream of a plain skip grows with the depth
    if plan.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=0.05 * scale * small, weight_decay=plan.decay)
    if plan.optimizer == "momentum":
        rate = 0.01 * scale * small
        return torch.optim.SGD(groups, lr=rate, momentum=0.9, weight_decay=plan.decay)
    kind = torch.optim.Adam if plan.optimizer == "adam" else torch.optim.AdamW
    decay = 0.0 if plan.optimizer == "adam" else plan.decay
    return kind(groups, lr=0.003 * scale * small**0.5, weight_decay=decay)


def train(draw: Draw, plan: Plan) -> cu.GradientRecord:
    """Train a network as planned, and return its record."""
    x, y = data(draw, plan)
    classes = not y.is_floating_point()
    torch_state = torch.random.get_rng_state()
    torch.manual_seed(draw.whole(0, 10**6))
    try:
        net = Net(x.shape[1], int(y.max()) + 1 if classes else y.shape[1], plan)
        for module in net.modules():
            if isinstance(module, nn.Linear) and module is not net.head:
                nn.init.kaiming_normal_(module.weight, generator=draw.generator)
                nn.init.zeros_(module.bias)
        if plan.change:
            plan.change(net)
        net.to(plan.dtype)
        x = x.to(plan.dtype)
        y = y if classes else y.to(plan.dtype)
        optimizer = make_optimizer(draw, plan, net)
        rates = [group["lr"] for group in optimizer.param_groups]
        given = optimizer if plan.optimizer_given else None
        with cu.record(net, every=plan.every, optimizer=given) as recorder:
            for i in range(plan.steps):
                factor = plan.rate(i) if plan.rate else rate(plan, i)
                for group, base in zip(optimizer.param_groups, rates, strict=True):
                    group["lr"] = base * factor
                if plan.event:
                    plan.event(i, net, optimizer)
                optimizer.zero_grad()
                total = 0.0
                for _ in range(plan.accumulate):
                    rows = torch.randint(0, len(x), (plan.batch,), generator=draw.generator)
                    inputs, targets = x[rows], y[rows]
                    if plan.spoil:
                        inputs, targets = plan.spoil(i, inputs, targets)
                    if plan.loss:
                        loss = plan.loss(i, net, inputs, targets)
                    else:
                        loss = usual_loss(net(inputs), targets)
                    (loss / plan.accumulate).backward()
                    total += loss.item() / plan.accumulate
                if plan.clip:
                    nn.utils.clip_grad_norm_(net.parameters(), 1.0)
                optimizer.step()
                if plan.loss_given:
                    recorder.step(loss=total)
                elif not plan.optimizer_given:
                    recorder.step()
    finally:
        torch.random.set_rng_state(torch_state)
    return recorder.record


def usual_loss(output: Tensor, target: Tensor) -> Tensor:
    """Squared error for numbers, cross-entropy for classes."""
    if target.is_floating_point():
        return F.mse_loss(output, target)
    return F.cross_entropy(output.float(), target)


def trained(
    name: str,
    draw: Draw,
    plan: Plan,
    has: set[str],
    may: set[str] = frozenset(),
    began: tuple[int, int] | None = None,
    either: set[str] = frozenset(),
) -> Trained:
    """Train, and say what is known."""
    plan = decide(draw, plan)
    record = train(draw, plan)
    return Trained(
        name, record, frozenset(has), frozenset(may), frozenset(either), began, str(plan.drawn)
    )


# ---------------------------------------------------------------------------------------- healthy


def _healthy(name: str, **fixed: object) -> Callable[[Draw], Trained]:
    def family(draw: Draw) -> Trained:
        return trained(name, draw, Plan(**copy.copy(fixed)), {"healthy"})

    family.__name__ = name
    return family


def zero_head(draw: Draw) -> Trained:
    """The head starts at 0, as in many designs."""

    def change(net: nn.Module) -> None:
        nn.init.zeros_(net.head.weight)
        nn.init.zeros_(net.head.bias)

    return trained("zero_head", draw, Plan(change=change), {"healthy"})


def unfrozen_later(draw: Draw) -> Trained:
    """The head trains first, the rest later."""
    steps, at = 100, draw.whole(10, 60)

    def event(i: int, net: nn.Module, _: object) -> None:
        net.blocks.requires_grad_(i >= at)

    return trained("unfrozen_later", draw, Plan(event=event, steps=steps), {"healthy"})


def to_the_end(draw: Draw) -> Trained:
    """Blobs far apart, trained until the loss is next to 0."""

    def spoil(i: int, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        return x + 3 * F.one_hot(y, x.shape[1])[:, : x.shape[1]], y

    plan = Plan(task="digits", spoil=spoil, steps=250, batch=32, noise=0.0, dropout=0.0)
    return trained("to_the_end", draw, plan, {"healthy"})


def no_signal(draw: Draw) -> Trained:
    """Labels without any signal: nothing to learn, and nothing wrong."""
    return trained("no_signal", draw, Plan(task="blobs", noise=1.0), {"healthy"})


# ------------------------------------------------------------------------------------------- sick


def overflow(draw: Draw) -> Trained:
    """Squared error and a rate that is far too large."""
    plan = Plan(
        task="sines",
        activation=draw.one("leaky_relu", "silu"),
        norm="none",
        optimizer=draw.one("sgd", "momentum"),
        lr=300,
        clip=False,
        schedule=draw.one("constant", "stairs"),
        batch=32,
        accumulate=1,
        dropout=0.0,
    )
    may = {"diverged", "spike", "growing_output", "stopped"}
    return trained("overflow", draw, plan, {"non_finite"}, may, (0, 30))


def bad_sample(draw: Draw) -> Trained:
    """A NaN or Inf in one batch."""
    at, value = draw.whole(5, 50), draw.one(math.nan, math.inf)

    def spoil(i: int, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        x = x.clone()
        if i == at:
            x[0, 0] = value
        return x, y

    return trained("bad_sample", draw, Plan(spoil=spoil), {"non_finite"}, set(), (at, at))


def root_of_zero(draw: Draw) -> Trained:
    """A penalty whose root has no slope at 0, reached at a known step."""
    at = draw.whole(5, 50)

    def loss(i: int, net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        out = net(x)
        extra = (out * (0.0 if i == at else 1.0)).pow(2).sum().sqrt()
        return usual_loss(out, y) + 1e-3 * extra

    return trained("root_of_zero", draw, Plan(loss=loss), {"non_finite"}, set(), (at, at))


AFTER_DIVERGENCE = {"spike", "dying", "stopped", "growing_output", "update_lost"}


def rate_too_large(draw: Draw) -> Trained:
    """A rate far too large from the start, where the output cannot overflow."""
    plan = Plan(
        task=draw.one("blobs", "digits", "spirals"),
        activation=draw.one("tanh", "relu", "leaky_relu"),
        norm="none",
        skip=False,
        optimizer=draw.one("sgd", "momentum"),
        lr=200,
        clip=False,
        schedule="constant",
        batch=32,
        accumulate=1,
        noise=0.1,
    )
    either = {"diverged", "non_finite", "dying", "growing_output"}
    return trained("rate_too_large", draw, plan, set(), AFTER_DIVERGENCE, (0, 40), either)


def adam_too_large(draw: Draw) -> Trained:
    """Adam with a rate of about 1."""
    plan = Plan(
        task=draw.one("sines", "blobs", "digits"),
        optimizer=draw.one("adam", "adamw"),
        norm="none",
        lr=600,
        skip=False,
        schedule="constant",
        batch=32,
        accumulate=1,
        decay=0.0,
        noise=0.1,
    )
    either = {"diverged", "dying"}
    return trained("adam_too_large", draw, plan, set(), AFTER_DIVERGENCE, (0, 40), either)


def rate_jumps(draw: Draw) -> Trained:
    """A schedule that jumps to a far larger rate in the middle."""
    steps = draw.whole(80, 100)
    at = draw.whole(40, 60)
    plan = Plan(
        task=draw.one("blobs", "digits"),
        optimizer=draw.one("adam", "momentum"),
        norm="none",
        skip=False,
        dropout=0.0,
        batch=32,
        accumulate=1,
        clip=False,
        steps=steps,
        rate=lambda i: 1.0 if i < at else 1000.0,
        noise=0.1,
    )
    either = {"diverged", "dying", "non_finite"}
    may = AFTER_DIVERGENCE - either
    return trained("rate_jumps", draw, plan, set(), may, (at - 3, at + 15), either)


def wrong_sign(draw: Draw) -> Trained:
    """From a known step on the loss is maximized, a little at a time."""
    at = draw.whole(20, 50)

    def event(i: int, net: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        for group in optimizer.param_groups:
            group["maximize"] = i >= at

    plan = Plan(
        task=draw.one("sines", "blobs", "digits"),
        event=event,
        steps=draw.whole(100, 130),
        optimizer=draw.one("sgd", "adam"),
        schedule="constant",
        batch=32,
        clip=False,
        dropout=0.0,
        lr=1,
        skip=False,
        noise=0.0,
    )
    either = {"diverged", "non_finite"}  # where it overflows the two are one finding
    may = AFTER_DIVERGENCE - either
    return trained("wrong_sign", draw, plan, set(), may, (at - 15, 130), either)


def negative_decay(draw: Draw) -> Trained:
    """Weights that are multiplied by a little more than 1 in each step, behind norms."""
    by = draw.real(1.1, 1.15)

    @torch.no_grad()
    def event(i: int, net: nn.Module, _: object) -> None:
        for block in net.blocks:
            block.linear.weight.mul_(by)
            block.linear.bias.mul_(by)

    plan = Plan(event=event, norm=draw.one("batch", "layer"), steps=draw.whole(80, 100), skip=False)
    may = {"frozen_early", "stopped", "update_lost"}
    return trained("negative_decay", draw, plan, {"growing_output"}, may)


def drifting_logits(draw: Draw) -> Trained:
    """All logits drift together, which the softmax does not see."""
    by = draw.real(1.1, 1.15)

    @torch.no_grad()
    def event(i: int, net: nn.Module, _: object) -> None:
        net.head.bias.add_(by**i * (by - 1))

    plan = Plan(event=event, task=draw.one("blobs", "digits"), steps=draw.whole(80, 100))
    return trained("drifting_logits", draw, plan, {"growing_output"}, {"update_lost"})


def growing_unseen(draw: Draw) -> Trained:
    """Growing outputs in a record without the loss."""
    by = draw.real(1.1, 1.15)

    @torch.no_grad()
    def event(i: int, net: nn.Module, _: object) -> None:
        net.blocks[-1].linear.weight.mul_(by)

    plan = Plan(event=event, norm="layer", steps=draw.whole(80, 100), skip=False, loss_given=False)
    may = {"frozen_early", "stopped", "update_lost"}
    return trained("growing_unseen", draw, plan, {"growing_output"}, may)


def pushed_below_zero(draw: Draw) -> Trained:
    """One long step pushes the biases of a ReLU layer far down."""
    at = draw.whole(15, 45)
    which = draw.whole(0, 1)

    @torch.no_grad()
    def event(i: int, net: nn.Module, _: object) -> None:
        if i == at:
            net.blocks[which].linear.bias.sub_(30.0)

    plan = Plan(
        event=event, activation="relu", norm="none", skip=False, batch=32, steps=draw.whole(75, 100)
    )
    may = {"diverged", "stopped", "spike"}
    return trained("pushed_below_zero", draw, plan, {"dying"}, may, (at - 3, at + 6))


def costly_activations(draw: Draw) -> Trained:
    """A penalty on activations that is too strong switches the units off one by one."""

    def loss(i: int, net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        total = 0.0
        for block in net.blocks:
            x = block(x)
            total = total + x.mean()
        return usual_loss(net.head(x), y) + 30.0 * total

    plan = Plan(
        loss=loss,
        activation="relu",
        norm="none",
        skip=False,
        optimizer=draw.one("adam", "adamw"),
        schedule="constant",
        lr=8,
        dropout=0.0,
        batch=32,
        clip=False,
        steps=draw.whole(100, 130),
        noise=0.0,
    )
    return trained("costly_activations", draw, plan, {"dying"}, {"stopped", "spike"})


def sixteen_bits(draw: Draw) -> Trained:
    """Weights in bfloat16 and small steps."""
    plan = Plan(
        dtype=torch.bfloat16,
        optimizer=draw.one("sgd", "adam"),
        lr=draw.one(0.003, 0.001),
        norm=draw.one("none", "layer"),
        schedule="constant",
        clip=False,
        decay=0.0,
    )
    may = {"stopped", "frozen_early"}
    return trained("sixteen_bits", draw, plan, {"update_lost"}, may)


def sixteen_bits_decayed(draw: Draw) -> Trained:
    """Weights in bfloat16, and a rate that falls until nothing moves."""
    steps = draw.whole(80, 100)
    plan = Plan(
        dtype=torch.bfloat16,
        optimizer=draw.one("sgd", "momentum"),
        norm="none",
        skip=False,
        clip=False,
        decay=0.0,
        steps=steps,
        rate=lambda i: 10 ** (-6 * i / steps),
    )
    return trained("sixteen_bits_decayed", draw, plan, {"update_lost"}, {"frozen_early", "stopped"})


def decayed_below_rounding(draw: Draw) -> Trained:
    """A rate that falls by a factor in each step until float32 does not see it."""
    steps = draw.whole(80, 100)
    plan = Plan(
        optimizer=draw.one("sgd", "adam"),
        norm="none",
        clip=False,
        decay=0.0,
        steps=steps,
        rate=lambda i: 10 ** (-14 * i / steps),
    )
    return trained("decayed_below_rounding", draw, plan, {"update_lost"}, {"frozen_early"})


def outlier(draw: Draw) -> Trained:
    """One batch that is a thousand times too large."""
    at = draw.whole(20, 50)

    def spoil(i: int, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        return (x * 1000, y.roll(1, 0)) if i == at else (x, y)

    plan = Plan(
        spoil=spoil,
        activation=draw.one("relu", "leaky_relu", "gelu"),
        norm="none",
        optimizer=draw.one("adam", "adamw", "sgd"),
        clip=True,
        steps=draw.whole(75, 100),
        dropout=0.0,
    )
    may = {"diverged", "dying", "stopped"}
    return trained("outlier", draw, plan, {"spike"}, may, (at, at))


def one_long_step(draw: Draw) -> Trained:
    """The rate is 300 times as large for one step, which some networks do not survive."""
    at = draw.whole(30, 60)
    plan = Plan(
        rate=lambda i: 300.0 if i == at else 1.0,
        task=draw.one("blobs", "digits"),
        activation=draw.one("tanh", "leaky_relu", "gelu"),
        norm="none",
        optimizer=draw.one("adam", "momentum"),
        clip=False,
        lr=2,
        steps=draw.whole(80, 100),
        batch=32,
        noise=0.0,
        dropout=0.0,
    )
    may = {"diverged", "dying", "stopped"}
    run = trained("one_long_step", draw, plan, {"spike"}, may, (at, at + 3))
    if run.record.losses[-1].isfinite():
        return run
    # momentum carried it on until it overflowed
    gone, may = frozenset({"non_finite"}), frozenset(may | {"spike"})
    return replace(run, has=gone, may=may, began=(at, at + 15))


def weighted_wrongly(draw: Draw) -> Trained:
    """One batch whose loss counts a thousand times, behind clipping."""
    at = draw.whole(20, 50)

    def loss(i: int, net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        return usual_loss(net(x), y) * (1000.0 if i == at else 1.0)

    plan = Plan(loss=loss, clip=True, steps=draw.whole(75, 100), batch=32, noise=0.1)
    may = {"diverged"}
    return trained("weighted_wrongly", draw, plan, {"spike"}, may, (at, at))


def schedule_over(draw: Draw) -> Trained:
    """The schedule ends at 0 before the run does."""
    steps = draw.whole(75, 100)
    at = draw.whole(30, 60)
    plan = Plan(steps=steps, rate=lambda i: max(0.0, 1 - i / at))
    return trained("schedule_over", draw, plan, {"stopped"}, set(), (at, at))


def layer_frozen(draw: Draw) -> Trained:
    """A layer is frozen in the middle: its gradient is not taken any more, or its rate is 0."""
    at, rate_only = draw.whole(20, 50), draw.whole(0, 1)

    def event(i: int, net: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        if i >= at and rate_only:
            for group in optimizer.param_groups[:1]:
                group["lr"] = 0.0
        elif i >= at:
            net.blocks[0].linear.requires_grad_(False)

    plan = Plan(event=event, steps=draw.whole(75, 100))
    return trained("layer_frozen", draw, plan, {"stopped"}, set(), (at, at))


def cut_off(draw: Draw) -> Trained:
    """From a known step on the first blocks are detached."""
    at = draw.whole(20, 50)

    def event(i: int, net: nn.Module, _: object) -> None:
        net.cut = 1 if i >= at else 0

    plan = Plan(event=event, steps=draw.whole(75, 100))
    return trained("cut_off", draw, plan, {"stopped"}, set(), (at, at))


def saturating(draw: Draw) -> Trained:
    """A tanh or sigmoid layer is driven into saturation in one step.

    Momentum of 0.9 moves the layers in front of it on, 100× less after 44 steps: the run goes on
    for longer than that.
    """
    at = draw.whole(20, 50)

    @torch.no_grad()
    def event(i: int, net: nn.Module, _: object) -> None:
        if i == at:
            net.blocks[-1].linear.weight.mul_(1e-3)
            net.blocks[-1].linear.bias.fill_(12.0)

    plan = Plan(
        event=event,
        activation=draw.one("tanh", "sigmoid"),
        norm="none",
        skip=False,
        depth=draw.whole(2, 3),
        optimizer=draw.one("sgd", "momentum"),
        decay=0.0,
        steps=draw.whole(125, 140),
        schedule="constant",
        clip=False,
    )
    may = {"diverged", "spike", "frozen_early"}
    return trained("saturating", draw, plan, {"stopped"}, may, (at - 5, at + 60))


def fifty_norms(draw: Draw) -> Trained:
    """Batch norm and ReLU, very deep, without skips: the first step freezes the early layers."""
    plan = Plan(
        task="digits",
        activation="relu",
        norm="batch",
        skip=False,
        depth=draw.whole(45, 50),
        width=draw.whole(24, 32),
        optimizer="sgd",
        lr=draw.real(5, 10),
        clip=False,
        schedule="constant",
        accumulate=1,
        batch=64,
        steps=45,
        dropout=0.0,
        decay=0.0,
    )
    may = {"spike", "stopped"}
    return trained("fifty_norms", draw, plan, {"frozen_early"}, may)


def large_behind_norms(draw: Draw) -> Trained:
    """The early layers start far too large, and a norm hides it."""
    depth = draw.whole(4, 8)

    def change(net: nn.Module) -> None:
        with torch.no_grad():
            for block in net.blocks[: depth // 2]:
                block.linear.weight.mul_(100)

    plan = Plan(change=change, norm=draw.one("batch", "layer"), depth=depth, skip=False, decay=0.0)
    return trained("large_behind_norms", draw, plan, {"frozen_early"}, {"update_lost"})


def faded(draw: Draw) -> Trained:
    """A plain sigmoid network, in which the gradient fades on its way back."""
    plan = Plan(
        activation="sigmoid",
        norm="none",
        skip=False,
        depth=draw.whole(8, 10),
        optimizer=draw.one("sgd", "momentum"),
        dropout=0.0,
        decay=0.0,
    )
    return trained("faded", draw, plan, {"frozen_early"}, {"update_lost"})


HEALTHY = (
    _healthy("plain_sgd", optimizer="sgd"),
    _healthy("momentum", optimizer="momentum"),
    _healthy("adam", optimizer="adam"),
    _healthy("adamw", optimizer="adamw", decay=0.1),
    _healthy("warm_up_and_cosine", schedule="cosine"),
    _healthy("warm_up_and_linear", schedule="linear"),
    _healthy("stairs", schedule="stairs"),
    _healthy("clipped", clip=True),
    _healthy("accumulated", accumulate=3),
    _healthy("dropout", dropout=0.5),
    _healthy("batch_norm", norm="batch"),
    _healthy("layer_norm", norm="layer"),
    _healthy("skips", skip=True, norm="layer", depth=8),
    _healthy("small_batches", batch=4, norm="none"),
    _healthy("noisy_labels", noise=0.4),
    _healthy("every_third", every=3, steps=150),
    _healthy("without_loss", loss_given=False),
    _healthy("without_optimizer", optimizer_given=False),
    zero_head,
    unfrozen_later,
    to_the_end,
    no_signal,
)
SICK = (
    overflow,
    bad_sample,
    root_of_zero,
    rate_too_large,
    adam_too_large,
    rate_jumps,
    wrong_sign,
    negative_decay,
    drifting_logits,
    growing_unseen,
    pushed_below_zero,
    costly_activations,
    sixteen_bits,
    sixteen_bits_decayed,
    decayed_below_rounding,
    outlier,
    one_long_step,
    weighted_wrongly,
    schedule_over,
    layer_frozen,
    cut_off,
    saturating,
    fifty_norms,
    large_behind_norms,
    faded,
)
FAMILIES = {"sick": SICK, "healthy": HEALTHY}
"""By fate; every function makes one run from a draw."""


def run_of(seed: int, fate: str, number: int, member: int) -> Trained:
    """One run: the same for the same seed."""
    shift = 5000 if fate == "sick" else 0
    return FAMILIES[fate][number](Draw(100_000 * seed + shift + 10 * number + member))


def members(fate: str, number: int, runs: int) -> range:
    """Which members of a family make `runs` runs of one fate."""
    count = len(FAMILIES[fate])
    return range(runs // count + (number < runs % count))
